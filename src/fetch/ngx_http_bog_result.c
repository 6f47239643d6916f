
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_fetch.h"


/*
 * What an answer means: a token, or a failure and its reason.  A fetch calls
 * this at its end, and the source then has the result logged.  The token and
 * the body must not be copied to memory that a core dump has.
 */


static void ngx_http_bog_result_token(ngx_http_bog_fetch_t *fetch);
static void ngx_http_bog_result_error(ngx_http_bog_fetch_t *fetch);


/* by bog_answer_status_e */

static char  *ngx_http_bog_result_faults[] = {
    "",
    "the answer is not a JSON object",
    "the answer has no \"access_token\"",
    "the answer's \"access_token\" is not a Bearer token",
    "the token is too large",
    "the answer's \"token_type\" is not \"Bearer\"",
    "the answer's token has expired already",
    "no memory to read the answer"
};


void
ngx_http_bog_result_read(ngx_http_bog_fetch_t *fetch)
{
    if (fetch->failure.error) {
        return;
    }

    if (!fetch->answer.complete) {
        ngx_http_bog_fetch_fail(fetch, BOG_ERROR_MALFORMED,
                                "the answer is not complete");
        return;
    }

    if (fetch->answer.status.code == NGX_HTTP_OK
        || fetch->answer.status.code == NGX_HTTP_CREATED)
    {
        ngx_http_bog_result_token(fetch);

    } else {
        ngx_http_bog_result_error(fetch);
    }
}


static void
ngx_http_bog_result_token(ngx_http_bog_fetch_t *fetch)
{
    ngx_uint_t               level;
    bog_time_t               now;
    bog_answer_t             answer;
    bog_answer_rules_t       rules;
    bog_answer_status_e      status;
    ngx_http_bog_account_t  *account;

    account = fetch->account;

    ngx_http_bog_now(&now);

    rules.now = now.wall;
    rules.date = (fetch->answer.date == -1) ? -1
                                       : (int64_t) fetch->answer.date * 1000;
    rules.max_lifetime = (int64_t) account->max_lifetime;
    rules.default_lifetime = (int64_t) account->default_lifetime;

    status = bog_oauth_answer(&answer, (char *) fetch->body,
                              fetch->answer.body_len, &rules, &fetch->pool);

    if (status == BOG_ANSWER_OK
        && bog_oauth_token_id((char *) fetch->token.id,
                              (u_char *) answer.token, answer.token_len)
           != 0)
    {
        status = BOG_ANSWER_NO_MEMORY;
    }

    if (status == BOG_ANSWER_NO_TOKEN) {

        /* some servers send errors with status 200 */

        ngx_http_bog_result_error(fetch);
        fetch->failure.retry_after = -1;

        if (fetch->failed.code_len) {
            return;
        }

        fetch->failure.status = 0;
    }

    if (status != BOG_ANSWER_OK) {
        ngx_http_bog_fetch_fail(fetch, (status == BOG_ANSWER_TOO_LARGE)
                                       ? BOG_ERROR_TOO_LARGE
                                       : BOG_ERROR_MALFORMED,
                                ngx_http_bog_result_faults[status]);
        return;
    }

    if (answer.type_missing) {
        level = fetch->record.policy.token.expires ? NGX_LOG_INFO
                                                   : NGX_LOG_WARN;

        ngx_log_error(level, &fetch->log, 0,
                      "the answer has no \"token_type\"");
    }

    fetch->token.data = (u_char *) answer.token;
    fetch->token.len = answer.token_len;
    fetch->token.lifetime = answer.lifetime;
    fetch->token.stated = answer.stated;
}


/*
 * Status 401 rejects the credentials, and so do two error codes with any
 * status (RFC 6749, 5.2).  Another status may come from a firewall, say.
 */

static void
ngx_http_bog_result_error(ngx_http_bog_fetch_t *fetch)
{
    time_t                  now;
    ngx_str_t              *code;
    ngx_uint_t              rejected;
    ngx_http_bog_answer_t  *answer;
    ngx_http_bog_failed_t  *failed;

    static ngx_str_t  codes[] = {
        ngx_string("invalid_client"),
        ngx_string("unauthorized_client"),
        ngx_null_string
    };

    answer = &fetch->answer;
    failed = &fetch->failed;

    fetch->failure.status = (uint32_t) answer->status.code;

    if (answer->retry_delay != -1) {
        fetch->failure.retry_after = (int64_t) answer->retry_delay * 1000;

    } else if (answer->retry_date != -1) {
        now = (answer->date == -1) ? ngx_time() : answer->date;

        fetch->failure.retry_after = ngx_max(answer->retry_date - now, 0)
                                     * (int64_t) 1000;
    }

    failed->code_len = bog_oauth_error((char *) failed->code,
                                       (char *) fetch->body, answer->body_len,
                                       &fetch->pool);

    rejected = (answer->status.code == NGX_HTTP_UNAUTHORIZED);

    for (code = codes; code->len; code++) {
        if (failed->code_len == code->len
            && ngx_memcmp(failed->code, code->data, code->len) == 0)
        {
            rejected = 1;
        }
    }

    if (failed->code_len) {
        ngx_http_bog_fetch_fail(fetch, rejected ? BOG_ERROR_REJECTED
                                                : BOG_ERROR_HTTP,
                                "%s status %ui, error \"%*s\"",
                                rejected ? "the credentials were rejected,"
                                         : "refused with",
                                answer->status.code, failed->code_len,
                                failed->code);

    } else if (rejected) {
        ngx_http_bog_fetch_fail(fetch, BOG_ERROR_REJECTED,
                                "the credentials were rejected, status 401");

    } else {
        ngx_http_bog_fetch_fail(fetch, BOG_ERROR_HTTP,
                                "unexpected status %ui", answer->status.code);
    }
}


void
ngx_http_bog_fetch_log_result(ngx_http_bog_fetch_t *fetch, int64_t wait)
{
    ngx_uint_t     level;
    bog_policy_t  *before;

    before = &fetch->record.policy;

    if (fetch->failure.error == BOG_ERROR_NONE) {

        level = (before->failures || before->token.expires == 0)
                ? NGX_LOG_NOTICE : NGX_LOG_INFO;

        ngx_log_error(level, &fetch->log, 0,
                      "token obtained%s, lifetime: %Ls, next refresh in %Ls",
                      before->failures ? " again" : "",
                      fetch->token.lifetime / 1000, wait / 1000);
        return;
    }

    level = (before->error == fetch->failure.error
             && before->status == fetch->failure.status) ? NGX_LOG_INFO
                                                         : NGX_LOG_ERR;

    ngx_log_error(level, &fetch->log, 0,
                  "token request failed: %*s, next try in %L.%03Ls",
                  fetch->failed.reason_len, fetch->failed.reason,
                  wait / 1000, wait % 1000);
}

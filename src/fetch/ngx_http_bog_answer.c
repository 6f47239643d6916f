
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_answer.h"


static void ngx_http_bog_answer_success(ngx_http_bog_fetch_t *fetch);
static void ngx_http_bog_answer_refusal(ngx_http_bog_fetch_t *fetch);
static int64_t ngx_http_bog_answer_retry(ngx_http_bog_fetch_t *fetch);
static u_char *ngx_http_bog_answer_reason(ngx_http_bog_fetch_t *fetch,
    u_char *buf, u_char *last);


/* by bog_answer_status_e */

static char  *ngx_http_bog_answer_faults[] = {
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
ngx_http_bog_answer_init(ngx_http_bog_fetch_t *fetch)
{
    ngx_memzero(&fetch->answer, sizeof(ngx_http_bog_answer_t));

    fetch->answer.length = -1;
    fetch->answer.date = -1;
    fetch->answer.retry_after = -1;
    fetch->answer.retry_delay = -1;
    fetch->answer.body = fetch->memory + NGX_HTTP_BOG_HEADER_SIZE;

    fetch->failure.error = BOG_ERROR_NONE;
    fetch->failure.retry_after = -1;
    fetch->fault = NULL;
}


void
ngx_http_bog_answer_read(ngx_http_bog_fetch_t *fetch)
{
    if (fetch->failure.error) {
        return;
    }

    if (!fetch->answer.complete) {
        fetch->failure.error = BOG_ERROR_MALFORMED;
        return;
    }

    if (fetch->answer.status.code == NGX_HTTP_OK
        || fetch->answer.status.code == NGX_HTTP_CREATED)
    {
        ngx_http_bog_answer_success(fetch);

    } else {
        ngx_http_bog_answer_refusal(fetch);
    }
}


void
ngx_http_bog_answer_forget(ngx_http_bog_fetch_t *fetch)
{
    bog_pool_destroy(&fetch->pool);
    fetch->token.len = 0;
}


static void
ngx_http_bog_answer_success(ngx_http_bog_fetch_t *fetch)
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

    status = bog_oauth_answer(&answer, (char *) fetch->answer.body,
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

        ngx_http_bog_answer_refusal(fetch);
        fetch->failure.retry_after = -1;

        if (fetch->code_len) {
            return;
        }

        fetch->failure.status = 0;
    }

    if (status != BOG_ANSWER_OK) {
        fetch->failure.error = (status == BOG_ANSWER_TOO_LARGE)
                               ? BOG_ERROR_TOO_LARGE : BOG_ERROR_MALFORMED;
        fetch->fault = ngx_http_bog_answer_faults[status];
        return;
    }

    if (answer.type_missing) {
        level = fetch->before.token.expires ? NGX_LOG_INFO : NGX_LOG_WARN;

        ngx_log_error(level, &fetch->log, 0,
                      "the answer has no \"token_type\"");
    }

    fetch->token.data = (u_char *) answer.token;
    fetch->token.len = answer.token_len;
    fetch->token.lifetime = answer.lifetime;
    fetch->token.stated = answer.stated;
    fetch->token.start = fetch->sent;
}


/*
 * A status of 401 is about the credentials, and so are two error codes with any
 * status (RFC 6749, 5.2).  Another refusal may be that of a firewall, say.
 */

static void
ngx_http_bog_answer_refusal(ngx_http_bog_fetch_t *fetch)
{
    ngx_str_t  *code;

    static ngx_str_t  codes[] = {
        ngx_string("invalid_client"),
        ngx_string("unauthorized_client"),
        ngx_null_string
    };

    fetch->failure.error = BOG_ERROR_HTTP;
    fetch->failure.status = (uint32_t) fetch->answer.status.code;
    fetch->failure.retry_after = ngx_http_bog_answer_retry(fetch);

    fetch->code_len = bog_oauth_error(fetch->code,
                              (char *) fetch->answer.body,
                              fetch->answer.body_len, &fetch->pool);

    if (fetch->failure.status == NGX_HTTP_UNAUTHORIZED) {
        fetch->failure.error = BOG_ERROR_REJECTED;
    }

    for (code = codes; code->len; code++) {
        if (fetch->code_len == code->len
            && ngx_memcmp(fetch->code, code->data, code->len) == 0)
        {
            fetch->failure.error = BOG_ERROR_REJECTED;
        }
    }
}


/* milliseconds to wait, or -1 (RFC 9110, 10.2.3) */

static int64_t
ngx_http_bog_answer_retry(ngx_http_bog_fetch_t *fetch)
{
    time_t  now, after;

    if (fetch->answer.retry_delay != -1) {
        return (int64_t) fetch->answer.retry_delay * 1000;
    }

    after = fetch->answer.retry_after;

    if (after == -1) {
        return -1;
    }

    now = (fetch->answer.date == -1) ? ngx_time() : fetch->answer.date;

    return (after > now) ? (int64_t) (after - now) * 1000 : 0;
}


void
ngx_http_bog_answer_log(ngx_http_bog_fetch_t *fetch, int64_t wait)
{
    u_char        *p;
    u_char         reason[256];
    ngx_uint_t     level;
    bog_policy_t  *before;

    before = &fetch->before;

    if (fetch->failure.error) {

        level = (before->error == fetch->failure.error
                 && before->status == fetch->failure.status) ? NGX_LOG_INFO
                                                             : NGX_LOG_ERR;

        p = ngx_http_bog_answer_reason(fetch, reason,
                                       reason + sizeof(reason));

        ngx_log_error(level, &fetch->log, 0,
                      "token request failed: %*s, next try in %L.%03Ls",
                      (size_t) (p - reason), reason, wait / 1000, wait % 1000);

        return;
    }

    level = (before->failures || before->token.expires == 0) ? NGX_LOG_NOTICE
                                                       : NGX_LOG_INFO;

    ngx_log_error(level, &fetch->log, 0,
                  "token obtained%s, lifetime: %Ls, next refresh in %Ls",
                  before->failures ? " again" : "",
                  fetch->token.lifetime / 1000, wait / 1000);
}


static u_char *
ngx_http_bog_answer_reason(ngx_http_bog_fetch_t *fetch, u_char *buf,
    u_char *last)
{
    u_char  *p;

    p = ngx_slprintf(buf, last, "%s",
                     fetch->fault ? fetch->fault
                          : ngx_http_bog_error_reason(fetch->failure.error));

    if (fetch->failure.status) {
        p = ngx_slprintf(p, last, ", status: %uD", fetch->failure.status);
    }

    if (fetch->code_len) {
        p = ngx_slprintf(p, last, ", error: \"%*s\"", fetch->code_len,
                         fetch->code);
    }

    return p;
}

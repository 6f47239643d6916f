
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_status.h"


static u_char *ngx_http_bog_json_write(ngx_http_bog_writer_t *w, u_char *p);
static u_char *ngx_http_bog_json_head(u_char *p);
static u_char *ngx_http_bog_json_source(ngx_http_bog_writer_t *w, u_char *p);
static u_char *ngx_http_bog_json_token(ngx_http_bog_report_t *rp, u_char *p);
static u_char *ngx_http_bog_json_fetch(ngx_http_bog_report_t *rp, u_char *p);
static u_char *ngx_http_bog_json_failure(ngx_http_bog_report_t *rp,
    u_char *p);
static u_char *ngx_http_bog_json_counters(ngx_http_bog_report_t *rp,
    u_char *p);
static u_char *ngx_http_bog_json_group(u_char *p, char *name, ngx_str_t *names,
    ngx_atomic_t *counters, ngx_uint_t n);
static u_char *ngx_http_bog_json_string(u_char *p, u_char *data, size_t len);
static u_char *ngx_http_bog_json_time(u_char *p, char *name, int64_t ms);
static u_char *ngx_http_bog_json_span(u_char *p, char *name, int64_t ms);


ngx_http_bog_format_t  ngx_http_bog_json = {
    ngx_string("json"),
    ngx_string("application/json"),
    ngx_http_bog_json_write
};


static u_char *
ngx_http_bog_json_write(ngx_http_bog_writer_t *w, u_char *p)
{
    if (w->part++ == 0) {
        return ngx_http_bog_json_head(p);
    }

    if (w->i < w->n) {
        return ngx_http_bog_json_source(w, p);
    }

    w->done = 1;

    return ngx_sprintf(p, "\n  ]\n}\n");
}


static u_char *
ngx_http_bog_json_head(u_char *p)
{
    bog_time_t           now;
    ngx_http_bog_run_t  *run;

    run = ngx_http_bog_report_run();

    ngx_http_bog_now(&now);

    p = ngx_sprintf(p, "{\n  \"version\": \"" NGX_HTTP_BOG_VERSION "\",\n"
                    "  \"nginx\": \"" NGINX_VERSION "\",\n  ");
    p = ngx_http_bog_json_time(p, "time", now.wall);
    p = ngx_sprintf(p, ",\n  ");
    p = ngx_http_bog_json_time(p, "since", (int64_t) run->since * 1000);

    return ngx_sprintf(p, ",\n  \"reloads\": %ui,\n  \"sources\": [",
                       run->reloads);
}


static u_char *
ngx_http_bog_json_source(ngx_http_bog_writer_t *w, u_char *p)
{
    ngx_http_bog_report_t   *rp;
    ngx_http_bog_account_t  *account;

    rp = &w->report;

    account = w->accounts[w->i];

    ngx_http_bog_report_take(rp, account);

    p = ngx_sprintf(p, "%s\n    {\n      \"source\": ", w->i ? "," : "");
    p = ngx_http_bog_json_string(p, account->name.data, account->name.len);
    p = ngx_sprintf(p, ",\n      \"client_id\": ");
    p = ngx_http_bog_json_string(p, account->client_id.data,
                                 account->client_id.len);
    p = ngx_sprintf(p, ",\n      \"endpoint\": \"%V\",\n"
                    "      \"scope\": \"%V\",\n"
                    "      \"state\": \"%s\",\n      \"token\": ",
                    &account->endpoint->url, &account->scope,
                    ngx_http_bog_states[rp->state]);

    p = ngx_http_bog_json_token(rp, p);
    p = ngx_http_bog_json_fetch(rp, p);
    p = ngx_http_bog_json_failure(rp, p);
    p = ngx_http_bog_json_counters(rp, p);

    w->i++;

    return ngx_sprintf(p, "\n    }");
}


static u_char *
ngx_http_bog_json_token(ngx_http_bog_report_t *rp, u_char *p)
{
    if (rp->state == NGX_HTTP_BOG_MISSING) {
        return ngx_sprintf(p, "null,\n      ");
    }

    p = ngx_sprintf(p, "{\n        \"id\": \"%*s\",\n        ",
                    sizeof(rp->record.id), rp->record.id);
    p = ngx_http_bog_json_time(p, "obtained", rp->record.obtained);
    p = ngx_sprintf(p, ",\n        ");
    p = ngx_http_bog_json_time(p, "expires", rp->expires);
    p = ngx_sprintf(p, ",\n        ");
    p = ngx_http_bog_json_span(p, "age", rp->now.wall - rp->record.obtained);
    p = ngx_sprintf(p, ",\n        ");
    p = ngx_http_bog_json_span(p, "expires_in", rp->expires - rp->now.wall);

    return ngx_sprintf(p, "\n      },\n      ");
}


static u_char *
ngx_http_bog_json_fetch(ngx_http_bog_report_t *rp, u_char *p)
{
    p = ngx_sprintf(p, "\"fetching\": %s,\n      ",
                    rp->fetching ? "true" : "false");
    p = ngx_http_bog_json_time(p, "next_fetch", rp->next);
    p = ngx_sprintf(p, ",\n      ");
    p = ngx_http_bog_json_span(p, "next_fetch_in", rp->next - rp->now.wall);
    p = ngx_sprintf(p, ",\n      ");
    p = ngx_http_bog_json_time(p, "last_success", rp->record.obtained);

    return ngx_sprintf(p, ",\n      \"consecutive_failures\": %uD,\n      ",
                       rp->record.policy.failures);
}


static u_char *
ngx_http_bog_json_failure(ngx_http_bog_report_t *rp, u_char *p)
{
    ngx_http_bog_failed_t  *failed;

    failed = &rp->record.failed;

    p = ngx_sprintf(p, "\"last_failure\": ");

    if (failed->wall == 0) {
        return ngx_sprintf(p, "null,\n      ");
    }

    p = ngx_sprintf(p, "{\n        \"class\": \"");
    p = ngx_http_bog_error_class(p, failed->error, failed->status);
    p = ngx_sprintf(p, "\",\n        \"status\": ");

    if (failed->status) {
        p = ngx_sprintf(p, "%uD,\n        \"error\": ", failed->status);

    } else {
        p = ngx_sprintf(p, "null,\n        \"error\": ");
    }

    if (failed->len) {
        p = ngx_http_bog_json_string(p, failed->code, failed->len);

    } else {
        p = ngx_sprintf(p, "null");
    }

    p = ngx_sprintf(p, ",\n        ");
    p = ngx_http_bog_json_time(p, "time", failed->wall);
    p = ngx_sprintf(p, ",\n        ");
    p = ngx_http_bog_json_span(p, "age", rp->now.wall - failed->wall);

    return ngx_sprintf(p, "\n      },\n      ");
}


static u_char *
ngx_http_bog_json_counters(ngx_http_bog_report_t *rp, u_char *p)
{
    ngx_http_bog_metrics_t  *m;

    m = rp->metrics;

    p = ngx_http_bog_json_group(p, "fetches", ngx_http_bog_fetch_results,
                                m->fetches, NGX_HTTP_BOG_FETCH_RESULTS);
    p = ngx_http_bog_json_group(p, "failures", ngx_http_bog_failure_classes,
                                m->failures, NGX_HTTP_BOG_CLASSES);
    p = ngx_http_bog_json_span(p, "fetch_seconds", m->fetch_time.sum);
    p = ngx_sprintf(p, ",\n      \"held\": %ui,\n      ", rp->held);
    p = ngx_http_bog_json_group(p, "holds", ngx_http_bog_hold_results,
                                m->holds, NGX_HTTP_BOG_HOLD_RESULTS);
    p = ngx_http_bog_json_span(p, "hold_seconds", m->hold_time.sum);
    p = ngx_sprintf(p, ",\n      ");
    p = ngx_http_bog_json_group(p, "without_token", ngx_http_bog_modes,
                                m->without, NGX_HTTP_BOG_OFF);

    return ngx_sprintf(p, "\"unauthorized_answers\": %uA,\n"
                       "      \"rejected_tokens\": %uA",
                       m->unauthorized, m->rejected);
}


static u_char *
ngx_http_bog_json_group(u_char *p, char *name, ngx_str_t *names,
    ngx_atomic_t *counters, ngx_uint_t n)
{
    ngx_uint_t  i;

    p = ngx_sprintf(p, "\"%s\": {", name);

    for (i = 0; i < n; i++) {
        p = ngx_sprintf(p, "%s\"%V\": %uA", i ? ", " : "", &names[i],
                        counters[i]);
    }

    return ngx_sprintf(p, "},\n      ");
}


static u_char *
ngx_http_bog_json_string(u_char *p, u_char *data, size_t len)
{
    *p++ = '"';
    p = ngx_http_bog_quote(p, data, len);
    *p++ = '"';

    return p;
}


/* null where that has not happened yet */

static u_char *
ngx_http_bog_json_time(u_char *p, char *name, int64_t ms)
{
    p = ngx_sprintf(p, "\"%s\": ", name);

    if (ms == 0) {
        return ngx_sprintf(p, "null");
    }

    *p++ = '"';
    p = ngx_http_bog_status_time(p, ms);
    *p++ = '"';

    return p;
}


/* seconds; a clock that was set back may say less than none */

static u_char *
ngx_http_bog_json_span(u_char *p, char *name, int64_t ms)
{
    p = ngx_sprintf(p, "\"%s\": ", name);

    return ngx_http_bog_status_seconds(p, ngx_max(ms, 0));
}


/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_status.h"


static ngx_int_t ngx_http_bog_json_write(ngx_http_bog_writer_t *w);
static u_char *ngx_http_bog_json_source(ngx_http_bog_report_t *rp, u_char *p);
static u_char *ngx_http_bog_json_failure(ngx_http_bog_report_t *rp,
    u_char *p);
static u_char *ngx_http_bog_json_counters(ngx_http_bog_report_t *rp,
    u_char *p);
static u_char *ngx_http_bog_json_group(u_char *p, char *key, ngx_str_t *names,
    ngx_atomic_t *counters, ngx_uint_t n);
static u_char *ngx_http_bog_json_string(u_char *p, char *key, u_char *data,
    size_t len);
static u_char *ngx_http_bog_json_time(u_char *p, char *key, int64_t ms);
static u_char *ngx_http_bog_json_span(u_char *p, char *key, int64_t ms);


ngx_http_bog_format_t  ngx_http_bog_json = {
    ngx_string("json"),
    ngx_string("application/json"), sizeof("application/json") - 1,
    ngx_http_bog_json_write
};


/* keys are written as they stand here, with all that is around them */

static ngx_int_t
ngx_http_bog_json_write(ngx_http_bog_writer_t *w)
{
    u_char      *p;
    bog_time_t   now;
    ngx_uint_t   i;

    ngx_http_bog_now(&now);

    p = ngx_http_bog_status_room(w);
    if (p == NULL) {
        return NGX_ERROR;
    }

    p = ngx_sprintf(p, "{\n  \"version\": \"" NGX_HTTP_BOG_VERSION "\",\n"
                    "  \"nginx\": \"" NGINX_VERSION "\",\n");
    p = ngx_http_bog_json_time(p, "  \"time\": ", now.wall);
    p = ngx_http_bog_json_time(p, ",\n  \"since\": ",
                               (int64_t) ngx_http_bog_run.since * 1000);
    w->buf->last = ngx_sprintf(p, ",\n  \"reloads\": %ui,\n  \"sources\": [",
                               ngx_http_bog_run.reloads);

    for (i = 0; i < w->n; i++) {

        p = ngx_http_bog_status_room(w);
        if (p == NULL) {
            return NGX_ERROR;
        }

        p = ngx_sprintf(p, i ? ",\n    {\n" : "\n    {\n");
        p = ngx_http_bog_json_source(&w->reports[i], p);
        w->buf->last = ngx_sprintf(p, "\n    }");
    }

    p = ngx_http_bog_status_room(w);
    if (p == NULL) {
        return NGX_ERROR;
    }

    w->buf->last = ngx_sprintf(p, "\n  ]\n}\n");

    return NGX_OK;
}


static u_char *
ngx_http_bog_json_source(ngx_http_bog_report_t *rp, u_char *p)
{
    int64_t                  now;
    ngx_http_bog_record_t   *record;
    ngx_http_bog_account_t  *account;

    now = rp->now.wall;
    record = &rp->record;
    account = rp->account;

    p = ngx_http_bog_json_string(p, "      \"source\": ", account->name.data,
                                 account->name.len);
    p = ngx_http_bog_json_string(p, ",\n      \"client_id\": ",
                                 account->client_id.data,
                                 account->client_id.len);
    p = ngx_sprintf(p, ",\n      \"endpoint\": \"%V\",\n"
                    "      \"scope\": \"%V\",\n      \"state\": \"%s\"",
                    &account->endpoint->url, &account->scope,
                    ngx_http_bog_states[rp->state]);

    if (rp->valid) {
        p = ngx_sprintf(p, ",\n      \"token\": {\n        \"id\": \"%*s\"",
                        sizeof(record->id), record->id);
        p = ngx_http_bog_json_time(p, ",\n        \"obtained\": ",
                                   record->obtained);
        p = ngx_http_bog_json_time(p, ",\n        \"expires\": ",
                                   rp->expires);
        p = ngx_http_bog_json_span(p, ",\n        \"age\": ",
                                   now - record->obtained);
        p = ngx_http_bog_json_span(p, ",\n        \"expires_in\": ",
                                   rp->expires - now);
        p = ngx_sprintf(p, "\n      }");

    } else {
        p = ngx_sprintf(p, ",\n      \"token\": null");
    }

    p = ngx_sprintf(p, ",\n      \"fetching\": %s",
                    rp->fetching ? "true" : "false");
    p = ngx_http_bog_json_time(p, ",\n      \"next_fetch\": ", rp->next);
    p = ngx_http_bog_json_span(p, ",\n      \"next_fetch_in\": ",
                               rp->next - now);
    p = ngx_http_bog_json_time(p, ",\n      \"last_success\": ",
                               record->obtained);
    p = ngx_sprintf(p, ",\n      \"consecutive_failures\": %ui",
                    rp->failures);
    p = ngx_http_bog_json_failure(rp, p);

    return ngx_http_bog_json_counters(rp, p);
}


static u_char *
ngx_http_bog_json_failure(ngx_http_bog_report_t *rp, u_char *p)
{
    ngx_http_bog_failed_t  *failed;

    failed = &rp->record.failed;

    if (failed->wall == 0) {
        return ngx_sprintf(p, ",\n      \"last_failure\": null");
    }

    p = ngx_sprintf(p, ",\n      \"last_failure\": {\n        \"class\": \"");
    p = ngx_http_bog_error_class(p, failed->error, failed->status);
    p = ngx_sprintf(p, "\",\n        \"reason\": \"%s\"",
                    ngx_http_bog_error_reason(failed->error));

    if (failed->status) {
        p = ngx_sprintf(p, ",\n        \"status\": %uD", failed->status);

    } else {
        p = ngx_sprintf(p, ",\n        \"status\": null");
    }

    if (failed->len) {
        p = ngx_http_bog_json_string(p, ",\n        \"error\": ",
                                     failed->code, failed->len);

    } else {
        p = ngx_sprintf(p, ",\n        \"error\": null");
    }

    p = ngx_http_bog_json_time(p, ",\n        \"time\": ", failed->wall);
    p = ngx_http_bog_json_span(p, ",\n        \"age\": ",
                               rp->now.wall - failed->wall);

    return ngx_sprintf(p, "\n      }");
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
    p = ngx_http_bog_json_span(p, ",\n      \"fetch_seconds\": ",
                               m->fetch_time.sum);
    p = ngx_sprintf(p, ",\n      \"held\": %ui", rp->held);
    p = ngx_http_bog_json_group(p, "holds", ngx_http_bog_hold_results,
                                m->holds, NGX_HTTP_BOG_HOLD_RESULTS);
    p = ngx_http_bog_json_span(p, ",\n      \"hold_seconds\": ",
                               m->hold_time.sum);
    p = ngx_http_bog_json_group(p, "without_token", ngx_http_bog_modes,
                                m->without, NGX_HTTP_BOG_OFF);

    return ngx_sprintf(p, ",\n      \"unauthorized_answers\": %uA,\n"
                       "      \"rejected_tokens\": %uA",
                       m->unauthorized, m->rejected);
}


static u_char *
ngx_http_bog_json_group(u_char *p, char *key, ngx_str_t *names,
    ngx_atomic_t *counters, ngx_uint_t n)
{
    ngx_uint_t  i;

    p = ngx_sprintf(p, ",\n      \"%s\": {", key);

    for (i = 0; i < n; i++) {
        p = ngx_sprintf(p, "%s\"%V\": %uA", i ? ", " : "", &names[i],
                        counters[i]);
    }

    *p++ = '}';

    return p;
}


static u_char *
ngx_http_bog_json_string(u_char *p, char *key, u_char *data, size_t len)
{
    p = ngx_sprintf(p, "%s\"", key);
    p = ngx_http_bog_quote(p, data, len);
    *p++ = '"';

    return p;
}


/* writes a time in UTC (RFC 3339), or null if that has not happened yet */

static u_char *
ngx_http_bog_json_time(u_char *p, char *key, int64_t ms)
{
    ngx_tm_t  tm;

    if (ms == 0) {
        return ngx_sprintf(p, "%snull", key);
    }

    ngx_gmtime((time_t) (ms / 1000), &tm);

    return ngx_sprintf(p, "%s\"%4d-%02d-%02dT%02d:%02d:%02dZ\"", key,
                       tm.ngx_tm_year, tm.ngx_tm_mon, tm.ngx_tm_mday,
                       tm.ngx_tm_hour, tm.ngx_tm_min, tm.ngx_tm_sec);
}


/* a clock that was set back may show an event in the future */

static u_char *
ngx_http_bog_json_span(u_char *p, char *key, int64_t ms)
{
    ms = ngx_max(ms, 0);

    return ngx_sprintf(p, "%s%L.%03L", key, ms / 1000, ms % 1000);
}

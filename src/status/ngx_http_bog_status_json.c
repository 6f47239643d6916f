
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_status.h"


/*
 * Writes the answer of "bog_status json", from the reports that are ready.  The
 * status handler calls it.  Each format string below looks like the JSON that
 * it makes.  jansson is not used: it knows neither a number with three decimals
 * nor a short object on one line.
 */


/* the length of a time with its quotes and a final zero */

#define NGX_HTTP_BOG_JSON_TIME  sizeof("\"1970-09-28T12:00:00Z\"")


static void ngx_http_bog_json_write(ngx_http_bog_writer_t *w);
static void ngx_http_bog_json_source(ngx_http_bog_writer_t *w,
    ngx_http_bog_report_t *report);
static void ngx_http_bog_json_failure(ngx_http_bog_writer_t *w,
    ngx_http_bog_failed_t *failed);
static void ngx_http_bog_json_metrics(ngx_http_bog_writer_t *w,
    ngx_http_bog_report_t *report);
static void ngx_http_bog_json_counters(ngx_http_bog_writer_t *w, char *key,
    ngx_str_t *names, ngx_atomic_t *counters, ngx_uint_t n);
static u_char *ngx_http_bog_json_time(u_char *buf, int64_t ms);


/* by ngx_http_bog_level_e */

static char  *ngx_http_bog_json_levels[] = { "ok", "warning", "critical" };


ngx_http_bog_format_t  ngx_http_bog_json = {
    ngx_string("json"),
    ngx_string("application/json"), sizeof("application/json") - 1,
    ngx_http_bog_json_write
};


static void
ngx_http_bog_json_write(ngx_http_bog_writer_t *w)
{
    u_char      now[NGX_HTTP_BOG_JSON_TIME], since[NGX_HTTP_BOG_JSON_TIME];
    ngx_uint_t  i;

    ngx_http_bog_status_print(w,
        "{\n"
        "  \"version\": \"" NGX_HTTP_BOG_VERSION "\",\n"
        "  \"nginx\": \"" NGINX_VERSION "\",\n"
        "  \"host\": \"%V\",\n"
        "  \"time\": %s,\n"
        "  \"since\": %s,\n"
        "  \"reloads\": %ui,\n"
        "  \"sources\": [",
        &ngx_cycle->hostname, ngx_http_bog_json_time(now, w->now.wall),
        ngx_http_bog_json_time(since, (int64_t) ngx_http_bog_since * 1000),
        ngx_http_bog_reloads);

    for (i = 0; i < w->n; i++) {
        ngx_http_bog_status_print(w, i ? ",\n    {\n" : "\n    {\n");
        ngx_http_bog_json_source(w, &w->reports[i]);
        ngx_http_bog_json_failure(w, &w->reports[i].record.failed);
        ngx_http_bog_json_metrics(w, &w->reports[i]);
        ngx_http_bog_status_print(w, "    }");
    }

    ngx_http_bog_status_print(w, "\n  ]\n}\n");
}


static void
ngx_http_bog_json_source(ngx_http_bog_writer_t *w,
    ngx_http_bog_report_t *report)
{
    u_char                 *obtained, buf[NGX_HTTP_BOG_JSON_TIME];
    u_char                  expires[NGX_HTTP_BOG_JSON_TIME];
    u_char                  next[NGX_HTTP_BOG_JSON_TIME];
    u_char                  failing[NGX_HTTP_BOG_JSON_TIME];
    int64_t                 now;
    ngx_http_bog_record_t  *record;

    now = w->now.wall;
    record = &report->record;

    obtained = ngx_http_bog_json_time(buf, record->obtained);

    ngx_http_bog_status_print(w,
        "      \"source\": \"%V\",\n"
        "      \"client_id\": \"%V\",\n"
        "      \"server\": \"%V\",\n"
        "      \"endpoint\": \"%V\",\n"
        "      \"scope\": \"%V\",\n"
        "      \"required\": %s,\n"
        "      \"level\": \"%s\",\n"
        "      \"state\": \"%s\",\n",
        &report->name, &report->client_id,
        &report->account->endpoint->authority, &report->account->endpoint->url,
        &report->account->scope, report->account->required ? "true" : "false",
        ngx_http_bog_json_levels[report->level], report->state);

    if (report->valid) {
        ngx_http_bog_status_print(w,
            "      \"token\": {\n"
            "        \"id\": \"%*s\",\n"
            "        \"size\": %uz,\n"
            "        \"obtained_at\": %s,\n"
            "        \"expires_at\": %s,\n"
            "        \"age\": %.3f,\n"
            "        \"expires_in\": %.3f\n"
            "      },\n",
            sizeof(record->id), record->id, record->len, obtained,
            ngx_http_bog_json_time(expires, report->expires),
            ngx_http_bog_seconds(now - record->obtained),
            ngx_http_bog_seconds(report->expires - now));

    } else {
        ngx_http_bog_status_print(w, "      \"token\": null,\n");
    }

    ngx_http_bog_status_print(w,
        "      \"fetching\": %s,\n"
        "      \"next_fetch_at\": %s,\n"
        "      \"next_fetch_in\": %.3f,\n"
        "      \"last_success_at\": %s,\n"
        "      \"consecutive_failures\": %ui,\n"
        "      \"consecutive_rejections\": %ui,\n"
        "      \"failing_since\": %s,\n",
        report->fetching ? "true" : "false",
        ngx_http_bog_json_time(next, report->next),
        ngx_http_bog_seconds(report->next - now), obtained, report->failures,
        report->rejections, ngx_http_bog_json_time(failing, report->failing));
}


static void
ngx_http_bog_json_failure(ngx_http_bog_writer_t *w,
    ngx_http_bog_failed_t *failed)
{
    u_char  *p, class[NGX_HTTP_BOG_CLASS_LEN];
    u_char   error[2 * BOG_OAUTH_ERROR_MAX], when[NGX_HTTP_BOG_JSON_TIME];
    u_char  *end, reason[2 * NGX_HTTP_BOG_REASON_MAX];

    if (failed->wall == 0) {
        ngx_http_bog_status_print(w, "      \"last_failure\": null,\n");
        return;
    }

    p = ngx_http_bog_error_class(class, failed->error, failed->status);
    end = ngx_http_bog_quote(reason, failed->reason, failed->reason_len);

    ngx_http_bog_status_print(w,
        "      \"last_failure\": {\n"
        "        \"class\": \"%*s\",\n"
        "        \"reason\": \"%*s\",\n",
        (size_t) (p - class), class, (size_t) (end - reason), reason);

    if (failed->status) {
        ngx_http_bog_status_print(w, "        \"status\": %uD,\n",
                                  failed->status);
    } else {
        ngx_http_bog_status_print(w, "        \"status\": null,\n");
    }

    if (failed->code_len) {
        p = ngx_http_bog_quote(error, failed->code, failed->code_len);

        ngx_http_bog_status_print(w, "        \"error\": \"%*s\",\n",
                                  (size_t) (p - error), error);
    } else {
        ngx_http_bog_status_print(w, "        \"error\": null,\n");
    }

    ngx_http_bog_status_print(w,
        "        \"failed_at\": %s,\n"
        "        \"age\": %.3f\n"
        "      },\n",
        ngx_http_bog_json_time(when, failed->wall),
        ngx_http_bog_seconds(w->now.wall - failed->wall));
}


static void
ngx_http_bog_json_metrics(ngx_http_bog_writer_t *w,
    ngx_http_bog_report_t *report)
{
    ngx_http_bog_metrics_t  *m;

    m = report->metrics;

    ngx_http_bog_json_counters(w, "fetches", ngx_http_bog_fetch_results,
                               m->fetches, NGX_HTTP_BOG_FETCH_RESULTS);
    ngx_http_bog_json_counters(w, "failures", ngx_http_bog_failure_classes,
                               m->failures, NGX_HTTP_BOG_CLASSES);

    ngx_http_bog_status_print(w,
        "      \"fetch_seconds\": %.3f,\n"
        "      \"held\": %ui,\n",
        ngx_http_bog_seconds(m->fetch_time.sum), report->held);

    ngx_http_bog_json_counters(w, "holds", ngx_http_bog_hold_results,
                               m->holds, NGX_HTTP_BOG_HOLD_RESULTS);

    ngx_http_bog_status_print(w, "      \"hold_seconds\": %.3f,\n",
                              ngx_http_bog_seconds(m->hold_time.sum));

    ngx_http_bog_json_counters(w, "without_token", ngx_http_bog_modes,
                               m->without, NGX_HTTP_BOG_OFF);

    ngx_http_bog_status_print(w,
        "      \"refused_last_minute\": %ui,\n"
        "      \"unauthorized_answers\": %uA,\n"
        "      \"rejected_tokens\": %uA\n",
        report->refused, m->unauthorized, m->rejected);
}


static void
ngx_http_bog_json_counters(ngx_http_bog_writer_t *w, char *key,
    ngx_str_t *names, ngx_atomic_t *counters, ngx_uint_t n)
{
    ngx_uint_t  i;

    ngx_http_bog_status_print(w, "      \"%s\": {", key);

    for (i = 0; i < n; i++) {
        ngx_http_bog_status_print(w, "%s\"%V\": %uA", i ? ", " : "", &names[i],
                                  counters[i]);
    }

    ngx_http_bog_status_print(w, "},\n");
}


/*
 * Returns a time in UTC (RFC 3339), for which buf has NGX_HTTP_BOG_JSON_TIME
 * bytes, or null if it is 0: it has not happened.
 */

static u_char *
ngx_http_bog_json_time(u_char *buf, int64_t ms)
{
    ngx_tm_t  tm;

    if (ms == 0) {
        return (u_char *) "null";
    }

    ngx_gmtime((time_t) (ms / 1000), &tm);

    (void) ngx_snprintf(buf, NGX_HTTP_BOG_JSON_TIME,
                        "\"%4d-%02d-%02dT%02d:%02d:%02dZ\"%Z",
                        tm.ngx_tm_year, tm.ngx_tm_mon, tm.ngx_tm_mday,
                        tm.ngx_tm_hour, tm.ngx_tm_min, tm.ngx_tm_sec);

    return buf;
}

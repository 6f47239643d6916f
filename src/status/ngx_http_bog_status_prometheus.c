
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_status.h"


/*
 * Prometheus' text format, 0.0.4: all samples of a metric stand together, so
 * the writer goes through all sources for each metric.
 * https://prometheus.io/docs/instrumenting/exposition_formats/
 */


/* what the samples of a source are */

typedef enum {
    NGX_HTTP_BOG_INFO = 0,          /* what the configuration says */
    NGX_HTTP_BOG_NUMBER,            /* ngx_uint_t of ngx_http_bog_report_t */
    NGX_HTTP_BOG_MOMENT,            /* int64_t of it, milliseconds */
    NGX_HTTP_BOG_COUNTERS,          /* ngx_atomic_t's of ngx_http_bog_metrics_t,
                                       by a label if there are several */
    NGX_HTTP_BOG_HISTOGRAM
} ngx_http_bog_kind_e;


typedef struct {
    ngx_str_t             name;
    char                 *type;
    char                 *help;

    ngx_http_bog_kind_e   kind;
    size_t                offset;
    char                 *label;
    ngx_str_t            *values;
    ngx_uint_t            n;
} ngx_http_bog_metric_t;


static ngx_int_t ngx_http_bog_prometheus_write(ngx_http_bog_writer_t *w);
static u_char *ngx_http_bog_prometheus_globals(ngx_http_bog_writer_t *w,
    u_char *p);
static u_char *ngx_http_bog_prometheus_head(u_char *p, char *name, char *type,
    char *help);
static u_char *ngx_http_bog_prometheus_samples(ngx_http_bog_metric_t *metric,
    ngx_http_bog_report_t *rp, u_char *p);
static u_char *ngx_http_bog_prometheus_histogram(
    ngx_http_bog_metric_t *metric, ngx_http_bog_report_t *rp, u_char *p);
static u_char *ngx_http_bog_prometheus_source(u_char *p, ngx_str_t *name,
    char *suffix, ngx_http_bog_report_t *rp);
static u_char *ngx_http_bog_prometheus_label(u_char *p, char *name,
    ngx_str_t *value);
static u_char *ngx_http_bog_prometheus_value(u_char *p,
    ngx_atomic_uint_t value);
static u_char *ngx_http_bog_prometheus_seconds(u_char *p, int64_t ms);


ngx_http_bog_format_t  ngx_http_bog_prometheus = {
    ngx_string("prometheus"),
    ngx_string("text/plain; version=0.0.4; charset=utf-8"),
    sizeof("text/plain") - 1,
    ngx_http_bog_prometheus_write
};


static ngx_http_bog_metric_t  ngx_http_bog_metrics[] = {

    { ngx_string("bog_source_info"), "gauge",
      "What the configuration says of a source.",
      NGX_HTTP_BOG_INFO, 0, NULL, NULL, 0 },

    { ngx_string("bog_token_valid"), "gauge",
      "Whether there is a token that requests are given.",
      NGX_HTTP_BOG_NUMBER,
      offsetof(ngx_http_bog_report_t, valid), NULL, NULL, 0 },

    { ngx_string("bog_token_expiry_timestamp_seconds"), "gauge",
      "When the token expires.",
      NGX_HTTP_BOG_MOMENT,
      offsetof(ngx_http_bog_report_t, expires), NULL, NULL, 0 },

    { ngx_string("bog_next_fetch_timestamp_seconds"), "gauge",
      "When the next token request is due.",
      NGX_HTTP_BOG_MOMENT,
      offsetof(ngx_http_bog_report_t, next), NULL, NULL, 0 },

    { ngx_string("bog_fetching"), "gauge",
      "Whether a token request is under way.",
      NGX_HTTP_BOG_NUMBER,
      offsetof(ngx_http_bog_report_t, fetching), NULL, NULL, 0 },

    { ngx_string("bog_consecutive_failures"), "gauge",
      "Token requests that have failed since the last one that did not.",
      NGX_HTTP_BOG_NUMBER,
      offsetof(ngx_http_bog_report_t, failures), NULL, NULL, 0 },

    { ngx_string("bog_last_success_timestamp_seconds"), "gauge",
      "When a token was obtained last.",
      NGX_HTTP_BOG_MOMENT,
      offsetof(ngx_http_bog_report_t, record.obtained), NULL, NULL, 0 },

    { ngx_string("bog_last_failure_timestamp_seconds"), "gauge",
      "When a token request failed last.",
      NGX_HTTP_BOG_MOMENT,
      offsetof(ngx_http_bog_report_t, record.failed.wall), NULL, NULL, 0 },

    { ngx_string("bog_fetches_total"), "counter",
      "Token requests, by how they ended.",
      NGX_HTTP_BOG_COUNTERS,
      offsetof(ngx_http_bog_metrics_t, fetches), "result",
      ngx_http_bog_fetch_results, NGX_HTTP_BOG_FETCH_RESULTS },

    { ngx_string("bog_failures_total"), "counter",
      "Token requests that failed, by the class of the failure.",
      NGX_HTTP_BOG_COUNTERS,
      offsetof(ngx_http_bog_metrics_t, failures), "class",
      ngx_http_bog_failure_classes, NGX_HTTP_BOG_CLASSES },

    { ngx_string("bog_fetch_duration_seconds"), "histogram",
      "How long token requests took.",
      NGX_HTTP_BOG_HISTOGRAM,
      offsetof(ngx_http_bog_metrics_t, fetch_time), NULL, NULL, 0 },

    { ngx_string("bog_held_requests"), "gauge",
      "Requests that wait for a token now.",
      NGX_HTTP_BOG_NUMBER,
      offsetof(ngx_http_bog_report_t, held), NULL, NULL, 0 },

    { ngx_string("bog_holds_total"), "counter",
      "Requests that waited for a token, by how that ended.",
      NGX_HTTP_BOG_COUNTERS,
      offsetof(ngx_http_bog_metrics_t, holds), "result",
      ngx_http_bog_hold_results, NGX_HTTP_BOG_HOLD_RESULTS },

    { ngx_string("bog_hold_seconds"), "histogram",
      "How long requests waited for a token.",
      NGX_HTTP_BOG_HISTOGRAM,
      offsetof(ngx_http_bog_metrics_t, hold_time), NULL, NULL, 0 },

    { ngx_string("bog_requests_without_token_total"), "counter",
      "Requests for which there was no token, by the location's bog_token.",
      NGX_HTTP_BOG_COUNTERS,
      offsetof(ngx_http_bog_metrics_t, without), "mode",
      ngx_http_bog_modes, NGX_HTTP_BOG_OFF },

    { ngx_string("bog_unauthorized_answers_total"), "counter",
      "Answers 401 to requests that were sent with the token.",
      NGX_HTTP_BOG_COUNTERS,
      offsetof(ngx_http_bog_metrics_t, unauthorized), NULL, NULL, 1 },

    { ngx_string("bog_rejected_tokens_total"), "counter",
      "Tokens dropped for an answer 401.",
      NGX_HTTP_BOG_COUNTERS,
      offsetof(ngx_http_bog_metrics_t, rejected), NULL, NULL, 1 },

    { ngx_null_string, NULL, NULL, 0, 0, NULL, NULL, 0 }
};


static ngx_int_t
ngx_http_bog_prometheus_write(ngx_http_bog_writer_t *w)
{
    u_char                 *p;
    ngx_uint_t              i;
    ngx_http_bog_metric_t  *metric;

    for (metric = ngx_http_bog_metrics; metric->name.len; metric++) {

        for (i = 0; i < w->n; i++) {

            p = ngx_http_bog_status_room(w);
            if (p == NULL) {
                return NGX_ERROR;
            }

            if (i == 0) {
                p = ngx_http_bog_prometheus_head(p,
                                                 (char *) metric->name.data,
                                                 metric->type, metric->help);
            }

            w->buf->last = ngx_http_bog_prometheus_samples(metric,
                                                           &w->reports[i], p);
        }
    }

    p = ngx_http_bog_status_room(w);
    if (p == NULL) {
        return NGX_ERROR;
    }

    w->buf->last = ngx_http_bog_prometheus_globals(w, p);

    return NGX_OK;
}


static u_char *
ngx_http_bog_prometheus_globals(ngx_http_bog_writer_t *w, u_char *p)
{
    p = ngx_http_bog_prometheus_head(p, "bog_build_info", "gauge",
                                     "Versions of the module and of nginx.");
    p = ngx_sprintf(p, "bog_build_info{version=\"" NGX_HTTP_BOG_VERSION "\","
                    "nginx=\"" NGINX_VERSION "\"} 1\n");

    p = ngx_http_bog_prometheus_head(p, "bog_start_time_seconds", "gauge",
                                     "When counting began.");
    p = ngx_sprintf(p, "bog_start_time_seconds %T\n",
                    ngx_http_bog_run.since);

    p = ngx_http_bog_prometheus_head(p, "bog_reloads_total", "counter",
                                     "Configurations loaded since then.");
    p = ngx_sprintf(p, "bog_reloads_total %ui\n",
                    ngx_http_bog_run.reloads);

    p = ngx_http_bog_prometheus_head(p, "bog_sources", "gauge",
                                     "Sources in the configuration.");

    return ngx_sprintf(p, "bog_sources %ui\n", w->n);
}


static u_char *
ngx_http_bog_prometheus_head(u_char *p, char *name, char *type, char *help)
{
    return ngx_sprintf(p, "# HELP %s %s\n# TYPE %s %s\n", name, help, name,
                       type);
}


static u_char *
ngx_http_bog_prometheus_samples(ngx_http_bog_metric_t *metric,
    ngx_http_bog_report_t *rp, u_char *p)
{
    u_char                  *number;
    int64_t                  ms;
    ngx_uint_t               i;
    ngx_atomic_t            *counter;
    ngx_http_bog_account_t  *account;

    number = (u_char *) rp + metric->offset;
    counter = (ngx_atomic_t *) ((u_char *) rp->metrics + metric->offset);

    switch (metric->kind) {

    case NGX_HTTP_BOG_INFO:
        account = rp->account;

        p = ngx_http_bog_prometheus_source(p, &metric->name, "", rp);
        p = ngx_sprintf(p, ",client_id=\"");
        p = ngx_http_bog_quote(p, account->client_id.data,
                               account->client_id.len);

        return ngx_sprintf(p, "\",endpoint=\"%V\",scope=\"%V\"} 1\n",
                           &account->endpoint->url, &account->scope);

    case NGX_HTTP_BOG_NUMBER:
        p = ngx_http_bog_prometheus_source(p, &metric->name, "", rp);
        return ngx_http_bog_prometheus_value(p, *(ngx_uint_t *) number);

    case NGX_HTTP_BOG_MOMENT:
        ms = *(int64_t *) number;

        /* what has not happened yet has no sample */

        if (ms == 0) {
            return p;
        }

        p = ngx_http_bog_prometheus_source(p, &metric->name, "", rp);
        return ngx_http_bog_prometheus_seconds(p, ms);

    case NGX_HTTP_BOG_COUNTERS:

        for (i = 0; i < metric->n; i++) {
            p = ngx_http_bog_prometheus_source(p, &metric->name, "", rp);

            if (metric->label) {
                p = ngx_http_bog_prometheus_label(p, metric->label,
                                                  &metric->values[i]);
            }

            p = ngx_http_bog_prometheus_value(p, counter[i]);
        }

        return p;

    default: /* NGX_HTTP_BOG_HISTOGRAM */
        return ngx_http_bog_prometheus_histogram(metric, rp, p);
    }
}


static u_char *
ngx_http_bog_prometheus_histogram(ngx_http_bog_metric_t *metric,
    ngx_http_bog_report_t *rp, u_char *p)
{
    ngx_str_t                 *name;
    ngx_uint_t                 i;
    ngx_atomic_uint_t          count;
    ngx_http_bog_histogram_t  *h;

    h = (ngx_http_bog_histogram_t *) ((u_char *) rp->metrics
                                      + metric->offset);
    name = &metric->name;
    count = 0;

    for (i = 0; i < NGX_HTTP_BOG_BUCKETS; i++) {
        count += h->buckets[i];

        p = ngx_http_bog_prometheus_source(p, name, "_bucket", rp);
        p = ngx_http_bog_prometheus_label(p, "le",
                                          &ngx_http_bog_bound_names[i]);
        p = ngx_http_bog_prometheus_value(p, count);
    }

    p = ngx_http_bog_prometheus_source(p, name, "_sum", rp);
    p = ngx_http_bog_prometheus_seconds(p, (int64_t) h->sum);
    p = ngx_http_bog_prometheus_source(p, name, "_count", rp);

    return ngx_http_bog_prometheus_value(p, count);
}


/*
 * Writes the metric and the source, and leaves the list of labels open.  There
 * are some sixty samples a source, so what follows copies and formats nothing.
 */

static u_char *
ngx_http_bog_prometheus_source(u_char *p, ngx_str_t *name, char *suffix,
    ngx_http_bog_report_t *rp)
{
    p = ngx_cpymem(p, name->data, name->len);
    p = ngx_cpymem(p, suffix, ngx_strlen(suffix));

    *p++ = '{';

    return ngx_cpymem(p, rp->account->label.data, rp->account->label.len);
}


static u_char *
ngx_http_bog_prometheus_label(u_char *p, char *name, ngx_str_t *value)
{
    *p++ = ',';
    p = ngx_cpymem(p, name, ngx_strlen(name));
    *p++ = '=';
    *p++ = '"';
    p = ngx_cpymem(p, value->data, value->len);
    *p++ = '"';

    return p;
}


static u_char *
ngx_http_bog_prometheus_value(u_char *p, ngx_atomic_uint_t value)
{
    *p++ = '}';
    *p++ = ' ';

    /* most are small */

    if (value < 10) {
        *p++ = (u_char) ('0' + value);
        *p++ = '\n';
        return p;
    }

    return ngx_sprintf(p, "%uA\n", value);
}


static u_char *
ngx_http_bog_prometheus_seconds(u_char *p, int64_t ms)
{
    return ngx_sprintf(p, "} %L.%03L\n", ms / 1000, ms % 1000);
}

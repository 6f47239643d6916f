
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_status.h"


/*
 * Prometheus' text format, 0.0.4: all samples of a metric stand together, so
 * each metric is a part, and goes through all sources.  There are some sixty
 * samples a source, so they are copied rather than formatted.
 * https://prometheus.io/docs/instrumenting/exposition_formats/
 */


typedef struct ngx_http_bog_metric_s  ngx_http_bog_metric_t;

struct ngx_http_bog_metric_s {
    ngx_str_t    name;
    char        *type;
    char        *help;

    /* writes the samples of a source */
    u_char    *(*write)(ngx_http_bog_metric_t *metric,
                        ngx_http_bog_report_t *rp, u_char *p);

    /* of ngx_http_bog_metrics_t: what they are, and by what label */
    size_t       offset;
    char        *label;
    ngx_str_t   *values;
    ngx_uint_t   n;
};


static u_char *ngx_http_bog_prometheus_write(ngx_http_bog_writer_t *w,
    u_char *p);
static u_char *ngx_http_bog_prometheus_globals(ngx_http_bog_writer_t *w,
    u_char *p);
static u_char *ngx_http_bog_prometheus_head(u_char *p, char *name, char *type,
    char *help);
static u_char *ngx_http_bog_prometheus_source(u_char *p, ngx_str_t *name,
    char *suffix, size_t len, ngx_http_bog_report_t *rp);
static u_char *ngx_http_bog_prometheus_label(u_char *p, char *name,
    ngx_str_t *value);
static u_char *ngx_http_bog_prometheus_value(u_char *p,
    ngx_atomic_uint_t value);
static u_char *ngx_http_bog_prometheus_number(ngx_http_bog_metric_t *metric,
    ngx_http_bog_report_t *rp, u_char *p, ngx_atomic_uint_t value);
static u_char *ngx_http_bog_prometheus_moment(ngx_http_bog_metric_t *metric,
    ngx_http_bog_report_t *rp, u_char *p, int64_t ms);
static u_char *ngx_http_bog_prometheus_info(ngx_http_bog_metric_t *metric,
    ngx_http_bog_report_t *rp, u_char *p);
static u_char *ngx_http_bog_prometheus_valid(ngx_http_bog_metric_t *metric,
    ngx_http_bog_report_t *rp, u_char *p);
static u_char *ngx_http_bog_prometheus_expiry(ngx_http_bog_metric_t *metric,
    ngx_http_bog_report_t *rp, u_char *p);
static u_char *ngx_http_bog_prometheus_next(ngx_http_bog_metric_t *metric,
    ngx_http_bog_report_t *rp, u_char *p);
static u_char *ngx_http_bog_prometheus_fetching(
    ngx_http_bog_metric_t *metric, ngx_http_bog_report_t *rp, u_char *p);
static u_char *ngx_http_bog_prometheus_consecutive(
    ngx_http_bog_metric_t *metric, ngx_http_bog_report_t *rp, u_char *p);
static u_char *ngx_http_bog_prometheus_succeeded(
    ngx_http_bog_metric_t *metric, ngx_http_bog_report_t *rp, u_char *p);
static u_char *ngx_http_bog_prometheus_failed(ngx_http_bog_metric_t *metric,
    ngx_http_bog_report_t *rp, u_char *p);
static u_char *ngx_http_bog_prometheus_held(ngx_http_bog_metric_t *metric,
    ngx_http_bog_report_t *rp, u_char *p);
static u_char *ngx_http_bog_prometheus_counter(ngx_http_bog_metric_t *metric,
    ngx_http_bog_report_t *rp, u_char *p);
static u_char *ngx_http_bog_prometheus_counters(
    ngx_http_bog_metric_t *metric, ngx_http_bog_report_t *rp, u_char *p);
static u_char *ngx_http_bog_prometheus_histogram(
    ngx_http_bog_metric_t *metric, ngx_http_bog_report_t *rp, u_char *p);


ngx_http_bog_format_t  ngx_http_bog_prometheus = {
    ngx_string("prometheus"),
    ngx_string("text/plain; version=0.0.4; charset=utf-8"),
    ngx_http_bog_prometheus_write
};


static ngx_http_bog_metric_t  ngx_http_bog_metrics[] = {

    { ngx_string("bog_source_info"), "gauge",
      "What the configuration says of a source.",
      ngx_http_bog_prometheus_info,
      NGX_CONF_UNSET_SIZE, NULL, NULL, 0 },

    { ngx_string("bog_token_valid"), "gauge",
      "Whether there is a token that requests are given.",
      ngx_http_bog_prometheus_valid,
      NGX_CONF_UNSET_SIZE, NULL, NULL, 0 },

    { ngx_string("bog_token_expiry_timestamp_seconds"), "gauge",
      "When the token expires.",
      ngx_http_bog_prometheus_expiry,
      NGX_CONF_UNSET_SIZE, NULL, NULL, 0 },

    { ngx_string("bog_next_fetch_timestamp_seconds"), "gauge",
      "When the next token request is due.",
      ngx_http_bog_prometheus_next,
      NGX_CONF_UNSET_SIZE, NULL, NULL, 0 },

    { ngx_string("bog_fetching"), "gauge",
      "Whether a token request is under way.",
      ngx_http_bog_prometheus_fetching,
      NGX_CONF_UNSET_SIZE, NULL, NULL, 0 },

    { ngx_string("bog_consecutive_failures"), "gauge",
      "Token requests that have failed since the last one that did not.",
      ngx_http_bog_prometheus_consecutive,
      NGX_CONF_UNSET_SIZE, NULL, NULL, 0 },

    { ngx_string("bog_last_success_timestamp_seconds"), "gauge",
      "When a token was obtained last.",
      ngx_http_bog_prometheus_succeeded,
      NGX_CONF_UNSET_SIZE, NULL, NULL, 0 },

    { ngx_string("bog_last_failure_timestamp_seconds"), "gauge",
      "When a token request failed last.",
      ngx_http_bog_prometheus_failed,
      NGX_CONF_UNSET_SIZE, NULL, NULL, 0 },

    { ngx_string("bog_fetches_total"), "counter",
      "Token requests, by how they ended.",
      ngx_http_bog_prometheus_counters,
      offsetof(ngx_http_bog_metrics_t, fetches), "result",
      ngx_http_bog_fetch_results, NGX_HTTP_BOG_FETCH_RESULTS },

    { ngx_string("bog_failures_total"), "counter",
      "Token requests that failed, by the class of the failure.",
      ngx_http_bog_prometheus_counters,
      offsetof(ngx_http_bog_metrics_t, failures), "class",
      ngx_http_bog_failure_classes, NGX_HTTP_BOG_CLASSES },

    { ngx_string("bog_fetch_duration_seconds"), "histogram",
      "How long token requests took.",
      ngx_http_bog_prometheus_histogram,
      offsetof(ngx_http_bog_metrics_t, fetch_time), NULL, NULL, 0 },

    { ngx_string("bog_held_requests"), "gauge",
      "Requests that wait for a token now.",
      ngx_http_bog_prometheus_held,
      offsetof(ngx_http_bog_metrics_t, holders), NULL, NULL, 0 },

    { ngx_string("bog_holds_total"), "counter",
      "Requests that waited for a token, by how that ended.",
      ngx_http_bog_prometheus_counters,
      offsetof(ngx_http_bog_metrics_t, holds), "result",
      ngx_http_bog_hold_results, NGX_HTTP_BOG_HOLD_RESULTS },

    { ngx_string("bog_hold_seconds"), "histogram",
      "How long requests waited for a token.",
      ngx_http_bog_prometheus_histogram,
      offsetof(ngx_http_bog_metrics_t, hold_time), NULL, NULL, 0 },

    { ngx_string("bog_requests_without_token_total"), "counter",
      "Requests for which there was no token, by the location's bog_token.",
      ngx_http_bog_prometheus_counters,
      offsetof(ngx_http_bog_metrics_t, without), "mode",
      ngx_http_bog_modes, NGX_HTTP_BOG_OFF },

    { ngx_string("bog_unauthorized_answers_total"), "counter",
      "Answers 401 to requests that were sent with the token.",
      ngx_http_bog_prometheus_counter,
      offsetof(ngx_http_bog_metrics_t, unauthorized), NULL, NULL, 0 },

    { ngx_string("bog_rejected_tokens_total"), "counter",
      "Tokens dropped for an answer 401.",
      ngx_http_bog_prometheus_counter,
      offsetof(ngx_http_bog_metrics_t, rejected), NULL, NULL, 0 },

    { ngx_null_string, NULL, NULL, NULL, 0, NULL, NULL, 0 }
};


static u_char *
ngx_http_bog_prometheus_write(ngx_http_bog_writer_t *w, u_char *p)
{
    ngx_http_bog_metric_t  *metric;

    metric = &ngx_http_bog_metrics[w->part];

    if (metric->name.len == 0) {
        w->done = 1;
        return ngx_http_bog_prometheus_globals(w, p);
    }

    if (w->i == w->n) {
        w->part++;
        w->i = 0;
        return p;
    }

    if (w->i == 0) {
        p = ngx_http_bog_prometheus_head(p, (char *) metric->name.data,
                                         metric->type, metric->help);
    }

    /* what is only counted needs no look at the rest */

    if (metric->offset != NGX_CONF_UNSET_SIZE) {
        ngx_http_bog_report_count(&w->report, w->accounts[w->i++]);

    } else {
        ngx_http_bog_report_take(&w->report, w->accounts[w->i++]);
    }

    return metric->write(metric, &w->report, p);
}


static u_char *
ngx_http_bog_prometheus_globals(ngx_http_bog_writer_t *w, u_char *p)
{
    ngx_http_bog_run_t  *run;

    run = ngx_http_bog_report_run();

    p = ngx_http_bog_prometheus_head(p, "bog_build_info", "gauge",
                                     "Versions of the module and of nginx.");
    p = ngx_sprintf(p, "bog_build_info{version=\"" NGX_HTTP_BOG_VERSION "\","
                    "nginx=\"" NGINX_VERSION "\"} 1\n");

    p = ngx_http_bog_prometheus_head(p, "bog_start_time_seconds", "gauge",
                                     "When counting began.");
    p = ngx_sprintf(p, "bog_start_time_seconds %T\n", run->since);

    p = ngx_http_bog_prometheus_head(p, "bog_reloads_total", "counter",
                                     "Configurations loaded since then.");
    p = ngx_sprintf(p, "bog_reloads_total %ui\n", run->reloads);

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


/* the metric and the source, its labels left open */

static u_char *
ngx_http_bog_prometheus_source(u_char *p, ngx_str_t *name, char *suffix,
    size_t len, ngx_http_bog_report_t *rp)
{
    ngx_str_t  *label;

    label = &rp->account->label;

    p = ngx_cpymem(p, name->data, name->len);
    p = ngx_cpymem(p, suffix, len);

    *p++ = '{';

    return ngx_cpymem(p, label->data, label->len);
}


static u_char *
ngx_http_bog_prometheus_label(u_char *p, char *name, ngx_str_t *value)
{
    *p++ = ',';

    while (*name) {
        *p++ = *name++;
    }

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
ngx_http_bog_prometheus_number(ngx_http_bog_metric_t *metric,
    ngx_http_bog_report_t *rp, u_char *p, ngx_atomic_uint_t value)
{
    p = ngx_http_bog_prometheus_source(p, &metric->name, "", 0, rp);

    return ngx_http_bog_prometheus_value(p, value);
}


/* what has not happened yet has no sample */

static u_char *
ngx_http_bog_prometheus_moment(ngx_http_bog_metric_t *metric,
    ngx_http_bog_report_t *rp, u_char *p, int64_t ms)
{
    if (ms == 0) {
        return p;
    }

    p = ngx_http_bog_prometheus_source(p, &metric->name, "", 0, rp);

    *p++ = '}';
    *p++ = ' ';
    p = ngx_http_bog_status_seconds(p, ms);
    *p++ = '\n';

    return p;
}


static u_char *
ngx_http_bog_prometheus_info(ngx_http_bog_metric_t *metric,
    ngx_http_bog_report_t *rp, u_char *p)
{
    ngx_http_bog_account_t  *account;

    account = rp->account;

    p = ngx_http_bog_prometheus_source(p, &metric->name, "", 0, rp);
    p = ngx_sprintf(p, ",client_id=\"");
    p = ngx_http_bog_quote(p, account->client_id.data,
                           account->client_id.len);

    return ngx_sprintf(p, "\",endpoint=\"%V\",scope=\"%V\"} 1\n",
                       &account->endpoint->url, &account->scope);
}


static u_char *
ngx_http_bog_prometheus_valid(ngx_http_bog_metric_t *metric,
    ngx_http_bog_report_t *rp, u_char *p)
{
    return ngx_http_bog_prometheus_number(metric, rp, p,
                                          rp->state != NGX_HTTP_BOG_MISSING);
}


static u_char *
ngx_http_bog_prometheus_expiry(ngx_http_bog_metric_t *metric,
    ngx_http_bog_report_t *rp, u_char *p)
{
    return ngx_http_bog_prometheus_moment(metric, rp, p,
                       rp->state == NGX_HTTP_BOG_MISSING ? 0 : rp->expires);
}


static u_char *
ngx_http_bog_prometheus_next(ngx_http_bog_metric_t *metric,
    ngx_http_bog_report_t *rp, u_char *p)
{
    return ngx_http_bog_prometheus_moment(metric, rp, p, rp->next);
}


static u_char *
ngx_http_bog_prometheus_fetching(ngx_http_bog_metric_t *metric,
    ngx_http_bog_report_t *rp, u_char *p)
{
    return ngx_http_bog_prometheus_number(metric, rp, p, rp->fetching);
}


static u_char *
ngx_http_bog_prometheus_consecutive(ngx_http_bog_metric_t *metric,
    ngx_http_bog_report_t *rp, u_char *p)
{
    return ngx_http_bog_prometheus_number(metric, rp, p,
                                          rp->record.policy.failures);
}


static u_char *
ngx_http_bog_prometheus_succeeded(ngx_http_bog_metric_t *metric,
    ngx_http_bog_report_t *rp, u_char *p)
{
    return ngx_http_bog_prometheus_moment(metric, rp, p,
                                          rp->record.obtained);
}


static u_char *
ngx_http_bog_prometheus_failed(ngx_http_bog_metric_t *metric,
    ngx_http_bog_report_t *rp, u_char *p)
{
    return ngx_http_bog_prometheus_moment(metric, rp, p,
                                          rp->record.failed.wall);
}


static u_char *
ngx_http_bog_prometheus_held(ngx_http_bog_metric_t *metric,
    ngx_http_bog_report_t *rp, u_char *p)
{
    return ngx_http_bog_prometheus_number(metric, rp, p,
                                  ngx_http_bog_metrics_holding(rp->metrics));
}


static u_char *
ngx_http_bog_prometheus_counter(ngx_http_bog_metric_t *metric,
    ngx_http_bog_report_t *rp, u_char *p)
{
    ngx_atomic_t  *counter;

    counter = (ngx_atomic_t *) ((u_char *) rp->metrics + metric->offset);

    return ngx_http_bog_prometheus_number(metric, rp, p, *counter);
}


static u_char *
ngx_http_bog_prometheus_counters(ngx_http_bog_metric_t *metric,
    ngx_http_bog_report_t *rp, u_char *p)
{
    ngx_uint_t     i;
    ngx_atomic_t  *counters;

    counters = (ngx_atomic_t *) ((u_char *) rp->metrics + metric->offset);

    for (i = 0; i < metric->n; i++) {
        p = ngx_http_bog_prometheus_source(p, &metric->name, "", 0, rp);
        p = ngx_http_bog_prometheus_label(p, metric->label,
                                          &metric->values[i]);
        p = ngx_http_bog_prometheus_value(p, counters[i]);
    }

    return p;
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

        p = ngx_http_bog_prometheus_source(p, name, "_bucket", 7, rp);
        p = ngx_http_bog_prometheus_label(p, "le",
                                          &ngx_http_bog_bound_names[i]);
        p = ngx_http_bog_prometheus_value(p, count);
    }

    p = ngx_http_bog_prometheus_source(p, name, "_sum", 4, rp);

    *p++ = '}';
    *p++ = ' ';
    p = ngx_http_bog_status_seconds(p, (int64_t) h->sum);
    *p++ = '\n';

    p = ngx_http_bog_prometheus_source(p, name, "_count", 6, rp);

    return ngx_http_bog_prometheus_value(p, count);
}

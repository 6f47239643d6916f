
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_status.h"


/*
 * Writes the answer of "bog_status prometheus", from the reports that are
 * ready.  The status handler calls it.  Prometheus' text format, 0.0.4, wants
 * all samples of a metric together, so the writer goes through all sources for
 * each metric: https://prometheus.io/docs/instrumenting/exposition_formats/
 */


/* what the samples of a source are */

typedef enum {
    NGX_HTTP_BOG_INFO = 0,          /* what the configuration says */
    NGX_HTTP_BOG_NUMBER,            /* ngx_uint_t of ngx_http_bog_report_t */
    NGX_HTTP_BOG_TIME,              /* int64_t of it, milliseconds; no sample
                                       if it is 0: it has not happened */
    NGX_HTTP_BOG_COUNTER,           /* ngx_atomic_t of ngx_http_bog_metrics_t */
    NGX_HTTP_BOG_COUNTERS,          /* an array of them, by a label */
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


static void ngx_http_bog_prometheus_write(ngx_http_bog_writer_t *w);
static void ngx_http_bog_prometheus_head(ngx_http_bog_writer_t *w, char *name,
    char *type, char *help);
static void ngx_http_bog_prometheus_samples(ngx_http_bog_writer_t *w,
    ngx_http_bog_metric_t *metric, ngx_http_bog_report_t *report);
static void ngx_http_bog_prometheus_histogram(ngx_http_bog_writer_t *w,
    ngx_str_t *metric, ngx_str_t *source, ngx_http_bog_histogram_t *h);


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
      "Whether there is a token for requests: 1 or 0.",
      NGX_HTTP_BOG_NUMBER,
      offsetof(ngx_http_bog_report_t, valid), NULL, NULL, 0 },

    { ngx_string("bog_token_expiry_timestamp_seconds"), "gauge",
      "When the token expires.",
      NGX_HTTP_BOG_TIME,
      offsetof(ngx_http_bog_report_t, expires), NULL, NULL, 0 },

    { ngx_string("bog_next_fetch_timestamp_seconds"), "gauge",
      "When the next fetch of a token is due.",
      NGX_HTTP_BOG_TIME,
      offsetof(ngx_http_bog_report_t, next), NULL, NULL, 0 },

    { ngx_string("bog_fetching"), "gauge",
      "Whether a fetch is under way: 1 or 0.",
      NGX_HTTP_BOG_NUMBER,
      offsetof(ngx_http_bog_report_t, fetching), NULL, NULL, 0 },

    { ngx_string("bog_consecutive_failures"), "gauge",
      "Fetches that have failed since the last success.",
      NGX_HTTP_BOG_NUMBER,
      offsetof(ngx_http_bog_report_t, failures), NULL, NULL, 0 },

    { ngx_string("bog_last_success_timestamp_seconds"), "gauge",
      "When a token was last obtained.",
      NGX_HTTP_BOG_TIME,
      offsetof(ngx_http_bog_report_t, record.obtained), NULL, NULL, 0 },

    { ngx_string("bog_last_failure_timestamp_seconds"), "gauge",
      "When a fetch last failed.",
      NGX_HTTP_BOG_TIME,
      offsetof(ngx_http_bog_report_t, record.failed.wall), NULL, NULL, 0 },

    { ngx_string("bog_fetches_total"), "counter",
      "Fetches of a token, by how they ended.",
      NGX_HTTP_BOG_COUNTERS,
      offsetof(ngx_http_bog_metrics_t, fetches), "result",
      ngx_http_bog_fetch_results, NGX_HTTP_BOG_FETCH_RESULTS },

    { ngx_string("bog_failures_total"), "counter",
      "Fetches that failed, by the class of the failure.",
      NGX_HTTP_BOG_COUNTERS,
      offsetof(ngx_http_bog_metrics_t, failures), "class",
      ngx_http_bog_failure_classes, NGX_HTTP_BOG_CLASSES },

    { ngx_string("bog_fetch_duration_seconds"), "histogram",
      "How long fetches took that succeeded or failed.",
      NGX_HTTP_BOG_HISTOGRAM,
      offsetof(ngx_http_bog_metrics_t, fetch_time), NULL, NULL, 0 },

    { ngx_string("bog_held_requests"), "gauge",
      "Requests that wait for a token now.",
      NGX_HTTP_BOG_NUMBER,
      offsetof(ngx_http_bog_report_t, held), NULL, NULL, 0 },

    { ngx_string("bog_holds_total"), "counter",
      "Requests that waited for a token, by how the wait ended.",
      NGX_HTTP_BOG_COUNTERS,
      offsetof(ngx_http_bog_metrics_t, holds), "result",
      ngx_http_bog_hold_results, NGX_HTTP_BOG_HOLD_RESULTS },

    { ngx_string("bog_hold_seconds"), "histogram",
      "How long requests waited for a token.",
      NGX_HTTP_BOG_HISTOGRAM,
      offsetof(ngx_http_bog_metrics_t, hold_time), NULL, NULL, 0 },

    { ngx_string("bog_requests_without_token_total"), "counter",
      "Requests that found no token, by bog_token of the location.",
      NGX_HTTP_BOG_COUNTERS,
      offsetof(ngx_http_bog_metrics_t, without), "mode",
      ngx_http_bog_modes, NGX_HTTP_BOG_OFF },

    { ngx_string("bog_unauthorized_answers_total"), "counter",
      "Answers of the API that reject the token, such as 401.",
      NGX_HTTP_BOG_COUNTER,
      offsetof(ngx_http_bog_metrics_t, unauthorized), NULL, NULL, 0 },

    { ngx_string("bog_rejected_tokens_total"), "counter",
      "Tokens replaced because the API rejected them.",
      NGX_HTTP_BOG_COUNTER,
      offsetof(ngx_http_bog_metrics_t, rejected), NULL, NULL, 0 },

    { ngx_null_string, NULL, NULL, 0, 0, NULL, NULL, 0 }
};


static void
ngx_http_bog_prometheus_write(ngx_http_bog_writer_t *w)
{
    ngx_uint_t              i;
    ngx_http_bog_metric_t  *metric;

    for (metric = ngx_http_bog_metrics; metric->name.len; metric++) {

        if (w->n) {
            ngx_http_bog_prometheus_head(w, (char *) metric->name.data,
                                         metric->type, metric->help);
        }

        for (i = 0; i < w->n; i++) {
            ngx_http_bog_prometheus_samples(w, metric, &w->reports[i]);
        }
    }

    ngx_http_bog_prometheus_head(w, "bog_build_info", "gauge",
                                 "Versions of the module and of nginx.");
    ngx_http_bog_status_print(w,
        "bog_build_info{version=\"" NGX_HTTP_BOG_VERSION "\","
        "nginx=\"" NGINX_VERSION "\"} 1\n");

    ngx_http_bog_prometheus_head(w, "bog_start_time_seconds", "gauge",
                                 "When counting began: at the start, or at an "
                                 "upgrade of the binary.");
    ngx_http_bog_status_print(w, "bog_start_time_seconds %T\n",
                              ngx_http_bog_since);

    ngx_http_bog_prometheus_head(w, "bog_reloads_total", "counter",
                                 "Reloads since counting began.");
    ngx_http_bog_status_print(w, "bog_reloads_total %ui\n",
                              ngx_http_bog_reloads);

    ngx_http_bog_prometheus_head(w, "bog_sources", "gauge",
                                 "Sources in the configuration.");
    ngx_http_bog_status_print(w, "bog_sources %ui\n", w->n);
}


static void
ngx_http_bog_prometheus_head(ngx_http_bog_writer_t *w, char *name, char *type,
    char *help)
{
    ngx_http_bog_status_print(w, "# HELP %s %s\n# TYPE %s %s\n", name, help,
                              name, type);
}


static void
ngx_http_bog_prometheus_samples(ngx_http_bog_writer_t *w,
    ngx_http_bog_metric_t *metric, ngx_http_bog_report_t *report)
{
    u_char        *number, *counter;
    int64_t        ms;
    ngx_str_t     *name, *source;
    ngx_uint_t     i;
    ngx_atomic_t  *counters;

    name = &metric->name;
    source = &report->name;

    /* one of these is what the offset is meant for */

    number = (u_char *) report + metric->offset;
    counter = (u_char *) report->metrics + metric->offset;

    switch (metric->kind) {

    case NGX_HTTP_BOG_INFO:
        ngx_http_bog_status_print(w,
            "%V{source=\"%V\",client_id=\"%V\",server=\"%V\",endpoint=\"%V\","
            "scope=\"%V\",required=\"%s\"} 1\n",
            name, source, &report->client_id,
            &report->account->endpoint->authority,
            &report->account->endpoint->url, &report->account->scope,
            report->account->required ? "true" : "false");
        break;

    case NGX_HTTP_BOG_NUMBER:
        ngx_http_bog_status_print(w, "%V{source=\"%V\"} %ui\n", name, source,
                                  *(ngx_uint_t *) number);
        break;

    case NGX_HTTP_BOG_TIME:
        ms = *(int64_t *) number;

        if (ms) {
            ngx_http_bog_status_print(w, "%V{source=\"%V\"} %.3f\n", name,
                                      source, ngx_http_bog_seconds(ms));
        }

        break;

    case NGX_HTTP_BOG_COUNTER:
        ngx_http_bog_status_print(w, "%V{source=\"%V\"} %uA\n", name, source,
                                  *(ngx_atomic_t *) counter);
        break;

    case NGX_HTTP_BOG_COUNTERS:
        counters = (ngx_atomic_t *) counter;

        for (i = 0; i < metric->n; i++) {
            ngx_http_bog_status_print(w, "%V{source=\"%V\",%s=\"%V\"} %uA\n",
                                      name, source, metric->label,
                                      &metric->values[i], counters[i]);
        }

        break;

    case NGX_HTTP_BOG_HISTOGRAM:
        ngx_http_bog_prometheus_histogram(w, name, source,
                                          (ngx_http_bog_histogram_t *) counter);
        break;
    }
}


static void
ngx_http_bog_prometheus_histogram(ngx_http_bog_writer_t *w, ngx_str_t *metric,
    ngx_str_t *source, ngx_http_bog_histogram_t *h)
{
    ngx_uint_t         i;
    ngx_atomic_uint_t  count;

    count = 0;

    for (i = 0; i < NGX_HTTP_BOG_BUCKETS; i++) {
        count += h->buckets[i];

        ngx_http_bog_status_print(w, "%V_bucket{source=\"%V\",le=\"%V\"} %uA\n",
                                  metric, source, &ngx_http_bog_bound_names[i],
                                  count);
    }

    ngx_http_bog_status_print(w,
        "%V_sum{source=\"%V\"} %.3f\n"
        "%V_count{source=\"%V\"} %uA\n",
        metric, source, ngx_http_bog_seconds(h->sum), metric, source, count);
}


/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_status.h"


/*
 * Writes the answer of "bog_status text", from the reports that are ready.  The
 * status handler calls it.  It is for people, grep, and monitoring that wants a
 * summary in the first line, as Nagios does.  No string here has a line end:
 * the configuration has no control characters, and a reason is made of
 * printable ones.
 */


static void ngx_http_bog_text_write(ngx_http_bog_writer_t *w);
static void ngx_http_bog_text_summary(ngx_http_bog_writer_t *w);
static void ngx_http_bog_text_source(ngx_http_bog_writer_t *w,
    ngx_http_bog_report_t *report);


ngx_http_bog_format_t  ngx_http_bog_text = {
    ngx_string("text"),
    ngx_string("text/plain; charset=utf-8"), sizeof("text/plain") - 1,
    ngx_http_bog_text_write
};


/* by ngx_http_bog_level_e */

static char  *ngx_http_bog_text_levels[] = { "OK", "WARNING", "CRITICAL" };


static void
ngx_http_bog_text_write(ngx_http_bog_writer_t *w)
{
    ngx_int_t   level;
    ngx_uint_t  i;

    ngx_http_bog_text_summary(w);

    for (level = NGX_HTTP_BOG_LEVELS - 1; level >= 0; level--) {
        for (i = 0; i < w->n; i++) {
            if ((ngx_int_t) w->reports[i].level == level) {
                ngx_http_bog_text_source(w, &w->reports[i]);
            }
        }
    }
}


static void
ngx_http_bog_text_summary(ngx_http_bog_writer_t *w)
{
    ngx_uint_t              i, missing, failing, rejected;
    ngx_http_bog_level_e    level;
    ngx_http_bog_report_t  *report;

    missing = 0;
    failing = 0;
    rejected = 0;
    level = w->n ? NGX_HTTP_BOG_OK : NGX_HTTP_BOG_WARNING;

    for (i = 0; i < w->n; i++) {
        report = &w->reports[i];

        level = ngx_max(level, report->level);
        missing += !report->valid;
        failing += (report->valid && report->failures);
        rejected += (report->valid && report->rejections > 1);
    }

    ngx_http_bog_status_print(w, "%s - %ui source%s",
                              ngx_http_bog_text_levels[level], w->n,
                              w->n == 1 ? "" : "s");

    if (missing) {
        ngx_http_bog_status_print(w, ", %ui without a token", missing);
    }

    if (failing) {
        ngx_http_bog_status_print(w, ", %ui whose refreshes fail", failing);
    }

    if (rejected) {
        ngx_http_bog_status_print(w, ", %ui whose tokens the API rejects",
                                  rejected);
    }

    ngx_http_bog_status_print(w, "\n");
}


static void
ngx_http_bog_text_source(ngx_http_bog_writer_t *w,
    ngx_http_bog_report_t *report)
{
    int64_t                 now;
    ngx_http_bog_record_t  *record;

    now = w->now.wall;
    record = &report->record;

    ngx_http_bog_status_print(w, "%s %V: ",
                              ngx_http_bog_text_levels[report->level],
                              &report->account->name);

    if (report->valid) {
        ngx_http_bog_status_print(w, "token valid for %.0f s",
                                  ngx_http_bog_seconds(report->expires - now));
    } else {
        ngx_http_bog_status_print(w, report->starting ? "no token yet"
                                                      : "no token");
    }

    if (report->failures) {
        ngx_http_bog_status_print(w, ", failing for %.0f s: %*s",
                                  ngx_http_bog_seconds(now - report->failing),
                                  record->failed.reason_len,
                                  record->failed.reason);
    }

    if (report->rejections > 1) {
        ngx_http_bog_status_print(w, ", the API rejected %ui tokens in a row",
                                  report->rejections);
    }

    if (report->fetching) {
        ngx_http_bog_status_print(w, ", a fetch is under way");

    } else {
        ngx_http_bog_status_print(w, ", next %s in %.0f s",
                                  report->failures ? "try" : "fetch",
                                  ngx_http_bog_seconds(report->next - now));
    }

    if (report->refused) {
        ngx_http_bog_status_print(w, ", %ui request%s refused in the last "
                                  "minute", report->refused,
                                  report->refused == 1 ? "" : "s");
    }

    ngx_http_bog_status_print(w, "\n");
}

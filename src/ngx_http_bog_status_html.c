
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_status.h"


/*
 * One page that needs nothing else, and tells at a glance whether payments have
 * a token.  Sources with trouble come first.
 */


/* parts: those between count and end are of a kind of sources each */

#define NGX_HTTP_BOG_HTML_COUNT  0
#define NGX_HTTP_BOG_HTML_HEAD   1
#define NGX_HTTP_BOG_HTML_FIRST  2


static u_char *ngx_http_bog_html_write(ngx_http_bog_writer_t *w, u_char *p);
static void ngx_http_bog_html_count(ngx_http_bog_writer_t *w);
static ngx_http_bog_trouble_e ngx_http_bog_html_trouble(
    ngx_http_bog_report_t *rp);
static u_char *ngx_http_bog_html_head(ngx_http_bog_writer_t *w, u_char *p);
static u_char *ngx_http_bog_html_summary(ngx_http_bog_writer_t *w,
    u_char *p);
static u_char *ngx_http_bog_html_sources(ngx_http_bog_writer_t *w,
    u_char *p);
static u_char *ngx_http_bog_html_source(ngx_http_bog_report_t *rp,
    u_char *p);
static u_char *ngx_http_bog_html_state(ngx_http_bog_report_t *rp, u_char *p,
    ngx_http_bog_trouble_e trouble);
static u_char *ngx_http_bog_html_token(ngx_http_bog_report_t *rp, u_char *p);
static u_char *ngx_http_bog_html_failure(ngx_http_bog_report_t *rp,
    u_char *p);
static u_char *ngx_http_bog_html_reason(ngx_http_bog_failed_t *failed,
    u_char *p);
static u_char *ngx_http_bog_html_counters(ngx_http_bog_metrics_t *m,
    u_char *p);
static u_char *ngx_http_bog_html_counts(u_char *p, char *title,
    ngx_str_t *names, ngx_atomic_t *counters, ngx_uint_t n);
static u_char *ngx_http_bog_html_moment(ngx_http_bog_report_t *rp, u_char *p,
    char *title, int64_t ms);
static u_char *ngx_http_bog_html_span(u_char *p, int64_t ms);
static u_char *ngx_http_bog_html_text(u_char *p, ngx_str_t *text);


ngx_http_bog_format_t  ngx_http_bog_html = {
    ngx_string("html"),
    ngx_string("text/html; charset=utf-8"),
    ngx_http_bog_html_write
};


/* by ngx_http_bog_trouble_e: a class, and a mark, as not all see colours */

static char  *ngx_http_bog_html_classes[] = { "bad", "warn", "good" };
static char  *ngx_http_bog_html_marks[] = {
    "\xe2\x9c\x95", "!", "\xe2\x9c\x93"
};


static char  ngx_http_bog_html_start[] =
    "<!DOCTYPE html>\n"
    "<html lang=\"en\">\n"
    "<head>\n"
    "<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, "
        "initial-scale=1\">\n"
    "<meta name=\"color-scheme\" content=\"light dark\">\n"
    "<meta http-equiv=\"refresh\" content=\"5\">\n"
    "<link rel=\"icon\" href=\"data:,\">\n"
    "<style>\n"
    ":root { --page: #f4f5f7; --card: #fff; --text: #16181d; --dim: #555b66;\n"
    "  --line: #d9dce2; --good: #116329; --warn: #8a5300; --bad: #b3141d; }\n"
    "@media (prefers-color-scheme: dark) { :root { --page: #14161a;\n"
    "  --card: #1f2228; --text: #eceef2; --dim: #a3a9b5; --line: #363b45;\n"
    "  --good: #5fd787; --warn: #f0b35a; --bad: #ff8a80; } }\n"
    "* { box-sizing: border-box; }\n"
    "body { margin: 0 auto; max-width: 70rem; padding: 1rem;\n"
    "  background: var(--page); color: var(--text);\n"
    "  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }\n"
    "h1 { margin: 0; font-size: 1.5rem; line-height: 1.3; }\n"
    "h2 { margin: 0; font-size: 1.1rem; }\n"
    "header p, footer p, .where { margin: .25rem 0 0; color: var(--dim);\n"
    "  font-size: .875rem; }\n"
    "section { margin: 1rem 0 0; padding: 1rem; background: var(--card);\n"
    "  border: 1px solid var(--line); border-left: .5rem solid;\n"
    "  border-radius: .4rem; }\n"
    ".good { border-left-color: var(--good); }\n"
    ".warn { border-left-color: var(--warn); }\n"
    ".bad { border-left-color: var(--bad); }\n"
    ".state { margin: .5rem 0; font-size: 1.1rem; font-weight: 600; }\n"
    ".good .state, h1.good { color: var(--good); }\n"
    ".warn .state, h1.warn { color: var(--warn); }\n"
    ".bad .state, h1.bad { color: var(--bad); }\n"
    "dl { display: grid; margin: 0; gap: .5rem 1.5rem;\n"
    "  grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), "
        "1fr)); }\n"
    "dt { color: var(--dim); font-size: .8rem; }\n"
    "dd { margin: 0; font-variant-numeric: tabular-nums; }\n"
    "</style>\n"
    "<title>";


static u_char *
ngx_http_bog_html_write(ngx_http_bog_writer_t *w, u_char *p)
{
    if (w->part == NGX_HTTP_BOG_HTML_COUNT) {

        if (w->i < w->n) {
            ngx_http_bog_html_count(w);

        } else {
            w->part++;
            w->i = 0;
        }

        return p;
    }

    if (w->part == NGX_HTTP_BOG_HTML_HEAD) {
        w->part++;
        return ngx_http_bog_html_head(w, p);
    }

    if (w->part - NGX_HTTP_BOG_HTML_FIRST < NGX_HTTP_BOG_TROUBLES) {
        return ngx_http_bog_html_sources(w, p);
    }

    w->done = 1;

    return ngx_sprintf(p, "<footer><p>nginx-bog " NGX_HTTP_BOG_VERSION
                       ", nginx " NGINX_VERSION
                       ". Refreshed every 5 seconds.</p></footer>\n"
                       "</body>\n</html>\n");
}


static void
ngx_http_bog_html_count(ngx_http_bog_writer_t *w)
{
    ngx_http_bog_trouble_e  trouble;

    ngx_http_bog_report_take(&w->report, w->accounts[w->i]);

    trouble = ngx_http_bog_html_trouble(&w->report);

    w->troubles[w->i++] = trouble;
    w->counts[trouble]++;
}


static ngx_http_bog_trouble_e
ngx_http_bog_html_trouble(ngx_http_bog_report_t *rp)
{
    if (rp->state == NGX_HTTP_BOG_MISSING) {
        return NGX_HTTP_BOG_NO_TOKEN;
    }

    return rp->record.policy.failures ? NGX_HTTP_BOG_FAILING
                                      : NGX_HTTP_BOG_WELL;
}


static u_char *
ngx_http_bog_html_head(ngx_http_bog_writer_t *w, u_char *p)
{
    bog_time_t               now;
    ngx_http_bog_run_t      *run;
    ngx_http_bog_trouble_e   trouble;

    trouble = NGX_HTTP_BOG_NO_TOKEN;

    while (trouble < NGX_HTTP_BOG_WELL && w->counts[trouble] == 0) {
        trouble++;
    }

    p = ngx_cpymem(p, ngx_http_bog_html_start,
                   sizeof(ngx_http_bog_html_start) - 1);
    p = ngx_sprintf(p, "%s ", ngx_http_bog_html_marks[trouble]);
    p = ngx_http_bog_html_summary(w, p);
    p = ngx_sprintf(p, "</title>\n</head>\n<body>\n<header>\n"
                    "<h1 class=\"%s\"><span aria-hidden=\"true\">%s</span> ",
                    ngx_http_bog_html_classes[trouble],
                    ngx_http_bog_html_marks[trouble]);
    p = ngx_http_bog_html_summary(w, p);

    run = ngx_http_bog_report_run();

    ngx_http_bog_now(&now);

    p = ngx_sprintf(p, "</h1>\n<p>As of ");
    p = ngx_http_bog_status_time(p, now.wall);
    p = ngx_sprintf(p, ". Counted since ");
    p = ngx_http_bog_status_time(p, (int64_t) run->since * 1000);

    return ngx_sprintf(p, ", reloads: %ui.</p>\n</header>\n", run->reloads);
}


static u_char *
ngx_http_bog_html_summary(ngx_http_bog_writer_t *w, u_char *p)
{
    if (w->n == 0) {
        return ngx_sprintf(p, "No source is configured");
    }

    if (w->counts[NGX_HTTP_BOG_NO_TOKEN]) {
        return ngx_sprintf(p, "%ui of %ui without a token",
                           w->counts[NGX_HTTP_BOG_NO_TOKEN], w->n);
    }

    if (w->counts[NGX_HTTP_BOG_FAILING]) {
        return ngx_sprintf(p, "%ui of %ui cannot be refreshed",
                           w->counts[NGX_HTTP_BOG_FAILING], w->n);
    }

    return ngx_sprintf(p, "%ui of %ui with a token", w->n, w->n);
}


static u_char *
ngx_http_bog_html_sources(ngx_http_bog_writer_t *w, u_char *p)
{
    if (w->i == w->n) {
        w->part++;
        w->i = 0;
        return p;
    }

    if (w->troubles[w->i] == w->part - NGX_HTTP_BOG_HTML_FIRST) {
        ngx_http_bog_report_take(&w->report, w->accounts[w->i]);
        p = ngx_http_bog_html_source(&w->report, p);
    }

    w->i++;

    return p;
}


static u_char *
ngx_http_bog_html_source(ngx_http_bog_report_t *rp, u_char *p)
{
    ngx_http_bog_account_t  *account;
    ngx_http_bog_trouble_e   trouble;

    account = rp->account;
    trouble = ngx_http_bog_html_trouble(rp);

    p = ngx_sprintf(p, "<section class=\"%s\">\n<h2>",
                    ngx_http_bog_html_classes[trouble]);
    p = ngx_http_bog_html_text(p, &account->name);
    p = ngx_sprintf(p, "</h2>\n<p class=\"where\">client id ");
    p = ngx_http_bog_html_text(p, &account->client_id);
    p = ngx_sprintf(p, " at ");
    p = ngx_http_bog_html_text(p, &account->endpoint->url);

    if (account->scope.len) {
        p = ngx_sprintf(p, ", scope ");
        p = ngx_http_bog_html_text(p, &account->scope);
    }

    p = ngx_sprintf(p, "</p>\n<p class=\"state\"><span aria-hidden=\"true\">%s"
                    "</span> ", ngx_http_bog_html_marks[trouble]);
    p = ngx_http_bog_html_state(rp, p, trouble);
    p = ngx_sprintf(p, "</p>\n<dl>\n");
    p = ngx_http_bog_html_token(rp, p);
    p = ngx_http_bog_html_failure(rp, p);
    p = ngx_http_bog_html_counters(rp->metrics, p);

    return ngx_sprintf(p, "</dl>\n</section>\n");
}


static u_char *
ngx_http_bog_html_state(ngx_http_bog_report_t *rp, u_char *p,
    ngx_http_bog_trouble_e trouble)
{
    if (trouble == NGX_HTTP_BOG_NO_TOKEN) {
        p = ngx_sprintf(p, "No token");

    } else {
        p = ngx_sprintf(p, "Valid for ");
        p = ngx_http_bog_html_span(p, rp->expires - rp->now.wall);
    }

    if (rp->record.policy.failures) {
        p = ngx_sprintf(p, rp->state == NGX_HTTP_BOG_MISSING
                           ? ": " : ", refreshes fail: ");
        p = ngx_http_bog_html_reason(&rp->record.failed, p);
    }

    if (rp->fetching) {
        return ngx_sprintf(p, "; a token request is under way");
    }

    p = ngx_sprintf(p, "; next token request in ");

    return ngx_http_bog_html_span(p, rp->next - rp->now.wall);
}


static u_char *
ngx_http_bog_html_token(ngx_http_bog_report_t *rp, u_char *p)
{
    if (rp->state != NGX_HTTP_BOG_MISSING) {
        p = ngx_sprintf(p, "<div><dt>Token id</dt><dd>%*s</dd></div>\n",
                        sizeof(rp->record.id), rp->record.id);
        p = ngx_http_bog_html_moment(rp, p, "Expires", rp->expires);
    }

    p = ngx_http_bog_html_moment(rp, p, "Last success", rp->record.obtained);

    return ngx_http_bog_html_moment(rp, p, "Next token request", rp->next);
}


static u_char *
ngx_http_bog_html_failure(ngx_http_bog_report_t *rp, u_char *p)
{
    ngx_http_bog_failed_t  *failed;

    failed = &rp->record.failed;

    if (failed->wall == 0) {
        return p;
    }

    p = ngx_http_bog_html_moment(rp, p, "Last failure", failed->wall);
    p = ngx_sprintf(p, "<div><dt>Its reason</dt><dd>");
    p = ngx_http_bog_html_reason(failed, p);

    return ngx_sprintf(p, "</dd></div>\n<div><dt>Failures in a row</dt>"
                       "<dd>%uD</dd></div>\n", rp->record.policy.failures);
}


static u_char *
ngx_http_bog_html_reason(ngx_http_bog_failed_t *failed, u_char *p)
{
    ngx_str_t  code;

    p = ngx_sprintf(p, "%s", ngx_http_bog_error_reason(failed->error));

    if (failed->error == BOG_ERROR_HTTP) {
        p = ngx_sprintf(p, " %uD", failed->status);

    } else if (failed->status) {
        p = ngx_sprintf(p, ", status %uD", failed->status);
    }

    if (failed->len) {
        code.data = failed->code;
        code.len = failed->len;

        p = ngx_sprintf(p, ", error ");
        p = ngx_http_bog_html_text(p, &code);
    }

    return p;
}


static u_char *
ngx_http_bog_html_counters(ngx_http_bog_metrics_t *m, u_char *p)
{
    p = ngx_http_bog_html_counts(p, "Token requests",
                                 ngx_http_bog_fetch_results, m->fetches,
                                 NGX_HTTP_BOG_FETCH_RESULTS);
    p = ngx_http_bog_html_counts(p, "Their failures",
                                 ngx_http_bog_failure_classes, m->failures,
                                 NGX_HTTP_BOG_CLASSES);
    p = ngx_sprintf(p, "<div><dt>Requests that wait now</dt><dd>%ui</dd>"
                    "</div>\n", ngx_http_bog_metrics_holding(m));
    p = ngx_http_bog_html_counts(p, "Requests that waited",
                                 ngx_http_bog_hold_results, m->holds,
                                 NGX_HTTP_BOG_HOLD_RESULTS);
    p = ngx_http_bog_html_counts(p, "Requests without a token",
                                 ngx_http_bog_modes, m->without,
                                 NGX_HTTP_BOG_OFF);

    return ngx_sprintf(p, "<div><dt>The API&#39;s answers 401</dt>"
                       "<dd>%uA</dd></div>\n"
                       "<div><dt>Tokens dropped for them</dt>"
                       "<dd>%uA</dd></div>\n", m->unauthorized, m->rejected);
}


/* those that are not zero */

static u_char *
ngx_http_bog_html_counts(u_char *p, char *title,
    ngx_str_t *names, ngx_atomic_t *counters, ngx_uint_t n)
{
    ngx_uint_t         i, some;
    ngx_atomic_uint_t  count;

    p = ngx_sprintf(p, "<div><dt>%s</dt><dd>", title);

    some = 0;

    for (i = 0; i < n; i++) {
        count = counters[i];

        if (count) {
            p = ngx_sprintf(p, "%s%V %uA", some ? ", " : "", &names[i], count);
            some = 1;
        }
    }

    if (!some) {
        p = ngx_sprintf(p, "none");
    }

    return ngx_sprintf(p, "</dd></div>\n");
}


static u_char *
ngx_http_bog_html_moment(ngx_http_bog_report_t *rp, u_char *p, char *title,
    int64_t ms)
{
    int64_t  left;

    if (ms == 0) {
        return p;
    }

    left = ms - rp->now.wall;

    p = ngx_sprintf(p, "<div><dt>%s</dt><dd>", title);
    p = ngx_http_bog_status_time(p, ms);
    p = ngx_sprintf(p, left < 0 ? "<br>" : "<br>in ");
    p = ngx_http_bog_html_span(p, left < 0 ? -left : left);

    return ngx_sprintf(p, "%s</dd></div>\n", left < 0 ? " ago" : "");
}


/* two units are enough for people */

static u_char *
ngx_http_bog_html_span(u_char *p, int64_t ms)
{
    int64_t  s;

    s = ngx_max(ms, 0) / 1000;

    if (s < 60) {
        return ngx_sprintf(p, "%L s", s);
    }

    if (s < 3600) {
        return ngx_sprintf(p, "%L min %L s", s / 60, s % 60);
    }

    if (s < 86400) {
        return ngx_sprintf(p, "%L h %L min", s / 3600, s % 3600 / 60);
    }

    return ngx_sprintf(p, "%L d %L h", s / 86400, s % 86400 / 3600);
}


static u_char *
ngx_http_bog_html_text(u_char *p, ngx_str_t *text)
{
    return (u_char *) ngx_escape_html(p, text->data, text->len);
}

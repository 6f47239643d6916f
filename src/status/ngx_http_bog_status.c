
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_status.h"
#include "ngx_http_bog_page.h"


/*
 * The content handler of "bog_status", which nginx calls for a client request.
 * It reads the shared memory of all sources and answers in one of four
 * formats.  It changes nothing, never waits, and shows no token and no secret.
 */


/*
 * The page runs its own script and has its own style, both known by their
 * digests, and loads nothing but the JSON.  After a change of page.html,
 * t/page.t tells the new digests.
 */

#define NGX_HTTP_BOG_CSP                                                      \
    "default-src 'none'; connect-src 'self'; "                                \
    "script-src 'sha256-QRV0MlvLey0x4vGM9gLcWTI4hLdgwu3orTtT8Y/GF4U='; "      \
    "style-src 'sha256-3/RW8QSL3UmK4NQBXTAqYHku3Y+nCAaumu61HGwaU54='; "       \
    "img-src data:; frame-ancestors 'none'"

#define NGX_HTTP_BOG_STATUS_BUFFER  65536


static ngx_http_bog_format_t *ngx_http_bog_status_find_format(ngx_str_t *name);
static ngx_int_t ngx_http_bog_status_handler(ngx_http_request_t *r);
static ngx_uint_t ngx_http_bog_status_asks_check(ngx_http_request_t *r);
static ngx_int_t ngx_http_bog_status_read_sources(ngx_http_request_t *r,
    ngx_http_bog_writer_t *w);
static ngx_int_t ngx_http_bog_status_read_source(ngx_http_bog_writer_t *w,
    ngx_http_bog_report_t *report, ngx_http_bog_account_t *account);
static ngx_http_bog_level_e ngx_http_bog_status_level(
    ngx_http_bog_report_t *report, ngx_http_bog_account_t *account);
static ngx_int_t ngx_http_bog_status_quote(ngx_pool_t *pool, ngx_str_t *dst,
    ngx_str_t *src);
static ngx_int_t ngx_http_bog_status_send(ngx_http_request_t *r,
    ngx_http_bog_format_t *format, ngx_http_bog_writer_t *w);
static void ngx_http_bog_page_write(ngx_http_bog_writer_t *w);


static ngx_http_bog_format_t  ngx_http_bog_html = {
    ngx_string("html"),
    ngx_string("text/html; charset=utf-8"), sizeof("text/html") - 1,
    ngx_http_bog_page_write
};


static ngx_http_bog_format_t  *ngx_http_bog_formats[] = {
    &ngx_http_bog_json,
    &ngx_http_bog_prometheus,
    &ngx_http_bog_text,
    &ngx_http_bog_html,
    NULL
};


static ngx_keyval_t  ngx_http_bog_status_headers[] = {
    { ngx_string("Cache-Control"), ngx_string("no-store") },
    { ngx_string("X-Content-Type-Options"), ngx_string("nosniff") },
    { ngx_string("Content-Security-Policy"), ngx_string(NGX_HTTP_BOG_CSP) },
    { ngx_null_string, ngx_null_string }
};


time_t      ngx_http_bog_since;
ngx_uint_t  ngx_http_bog_reloads;


void
ngx_http_bog_status_init_module(void)
{
    if (ngx_http_bog_since == 0) {
        ngx_http_bog_since = ngx_time();
        return;
    }

    ngx_http_bog_reloads++;
}


char *
ngx_http_bog_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_bog_loc_conf_t  *blcf = conf;

    ngx_str_t                 *value;
    ngx_http_core_loc_conf_t  *clcf;

    if (blcf->status) {
        return "is duplicate";
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->handler) {
        return "needs a location without another content handler";
    }

    clcf->handler = ngx_http_bog_status_handler;
    blcf->status_handler = ngx_http_bog_status_handler;

    blcf->status = &ngx_http_bog_json;

    if (cf->args->nelts == 2) {
        value = cf->args->elts;

        blcf->status = ngx_http_bog_status_find_format(&value[1]);

        if (blcf->status == NULL) {
            return "must be \"json\", \"prometheus\", \"text\" or \"html\"";
        }
    }

    return NGX_CONF_OK;
}


static ngx_http_bog_format_t *
ngx_http_bog_status_find_format(ngx_str_t *name)
{
    ngx_http_bog_format_t  **format;

    for (format = ngx_http_bog_formats; *format; format++) {

        if ((*format)->name.len == name->len
            && ngx_strncmp((*format)->name.data, name->data, name->len) == 0)
        {
            return *format;
        }
    }

    return NULL;
}


static ngx_int_t
ngx_http_bog_status_handler(ngx_http_request_t *r)
{
    ngx_int_t                 rc;
    ngx_str_t                 name;
    ngx_http_bog_format_t    *format;
    ngx_http_bog_writer_t     w;
    ngx_http_bog_loc_conf_t  *blcf;

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return NGX_HTTP_NOT_ALLOWED;
    }

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    blcf = ngx_http_get_module_loc_conf(r, ngx_http_bog_module);
    format = blcf->status;

    if (ngx_http_arg(r, (u_char *) "format", 6, &name) == NGX_OK) {
        format = ngx_http_bog_status_find_format(&name);

        if (format == NULL) {
            return NGX_HTTP_BAD_REQUEST;
        }
    }

    ngx_memzero(&w, sizeof(ngx_http_bog_writer_t));

    w.pool = r->pool;
    w.last = &w.out;

    if (ngx_http_bog_status_read_sources(r, &w) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    format->write(&w);

    if (w.failed) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->headers_out.status = NGX_HTTP_OK;

    if (w.refusing && ngx_http_bog_status_asks_check(r)) {
        r->headers_out.status = NGX_HTTP_SERVICE_UNAVAILABLE;
    }

    return ngx_http_bog_status_send(r, format, &w);
}


/* looks for "check", with or without a value: ngx_http_arg() wants one */

static ngx_uint_t
ngx_http_bog_status_asks_check(ngx_http_request_t *r)
{
    u_char  *p, *end, *last;

    last = r->args.data + r->args.len;

    for (p = r->args.data; p < last; p = end + 1) {

        end = ngx_strlchr(p, last, '&');

        if (end == NULL) {
            end = last;
        }

        if (end - p >= 5 && ngx_strncmp(p, "check", 5) == 0
            && (end - p == 5 || p[5] == '='))
        {
            return 1;
        }
    }

    return 0;
}


/*
 * Reads all sources now: a format may go through them several times, and what
 * it shows of a source must be of one moment.  Only the counters go on.
 */

static ngx_int_t
ngx_http_bog_status_read_sources(ngx_http_request_t *r,
    ngx_http_bog_writer_t *w)
{
    ngx_uint_t                  i;
    ngx_http_bog_account_t    **accounts;
    ngx_http_bog_main_conf_t   *bmcf;

    bmcf = ngx_http_get_module_main_conf(r, ngx_http_bog_module);
    accounts = bmcf->accounts.elts;

    ngx_http_bog_now(&w->now);

    w->n = bmcf->accounts.nelts;

    w->reports = ngx_palloc(w->pool,
                            ngx_max(w->n, 1) * sizeof(ngx_http_bog_report_t));
    if (w->reports == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < w->n; i++) {
        if (ngx_http_bog_status_read_source(w, &w->reports[i], accounts[i])
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_status_read_source(ngx_http_bog_writer_t *w,
    ngx_http_bog_report_t *report, ngx_http_bog_account_t *account)
{
    int64_t        left;
    bog_time_t    *now;
    bog_policy_t  *policy;

    now = &w->now;
    policy = &report->record.policy;

    (void) ngx_http_bog_store_read(account, &report->record, NULL, 0);

    report->account = account;
    report->metrics = &ngx_http_bog_store_slot(account)->metrics;
    report->held = ngx_http_bog_metrics_holding(report->metrics);
    report->failures = policy->failures;
    report->rejections = policy->rejections;
    report->fetching = ngx_http_bog_store_leased(&report->record, now);
    report->valid = bog_times_valid(&policy->token, now);
    report->starting = report->record.obtained == 0
                       && report->record.failed.wall == 0
                       && report->metrics->fetches[NGX_HTTP_BOG_FETCH_ABORTED]
                          == 0;
    report->level = ngx_http_bog_status_level(report, account);
    report->refused = ngx_http_bog_metrics_refused(report->metrics, now->mono);
    report->failing = report->failures ? report->record.failing : 0;
    report->state = "missing";
    report->expires = 0;

    if (account->required && !report->valid) {
        w->refusing = 1;
    }

    if (report->valid) {
        report->state = (report->fetching
                         || bog_times_refreshing(&policy->token, now))
                        ? "refreshing" : "valid";
        report->expires = now->wall + bog_times_left(&policy->token, now);
    }

    left = report->fetching ? 0 : bog_policy_next(policy, now) - now->mono;

    report->next = now->wall + ngx_max(left, 0);

    if (ngx_http_bog_status_quote(w->pool, &report->name, &account->name)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_bog_status_quote(w->pool, &report->client_id,
                                     &account->client_id);
}


/*
 * A source that has only just been started is not in trouble yet, and neither
 * is one whose token the bank has ended: the API rejects the next one, too, if
 * something is wrong.
 */

static ngx_http_bog_level_e
ngx_http_bog_status_level(ngx_http_bog_report_t *report,
    ngx_http_bog_account_t *account)
{
    if (report->valid) {
        return (report->failures || report->rejections > 1)
               ? NGX_HTTP_BOG_WARNING : NGX_HTTP_BOG_OK;
    }

    return (account->required && !report->starting) ? NGX_HTTP_BOG_CRITICAL
                                                    : NGX_HTTP_BOG_WARNING;
}


static ngx_int_t
ngx_http_bog_status_quote(ngx_pool_t *pool, ngx_str_t *dst, ngx_str_t *src)
{
    dst->data = ngx_pnalloc(pool, 2 * src->len);
    if (dst->data == NULL) {
        return NGX_ERROR;
    }

    dst->len = ngx_http_bog_quote(dst->data, src->data, src->len) - dst->data;

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_status_send(ngx_http_request_t *r, ngx_http_bog_format_t *format,
    ngx_http_bog_writer_t *w)
{
    ngx_int_t         rc;
    ngx_chain_t      *cl;
    ngx_keyval_t     *header;
    ngx_table_elt_t  *h;

    w->buf->last_buf = (r == r->main);
    w->buf->last_in_chain = 1;

    r->headers_out.content_length_n = 0;

    for (cl = w->out; cl; cl = cl->next) {
        r->headers_out.content_length_n += ngx_buf_size(cl->buf);
    }

    /* every answer is a new one: "If-Match" has nothing to compare with */

    r->disable_not_modified = 1;

    r->headers_out.content_type = format->type;
    r->headers_out.content_type_len = format->type_len;

    for (header = ngx_http_bog_status_headers; header->key.len; header++) {

        h = ngx_list_push(&r->headers_out.headers);
        if (h == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        ngx_memzero(h, sizeof(ngx_table_elt_t));

        h->hash = 1;
        h->key = header->key;
        h->value = header->value;
    }

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    return ngx_http_output_filter(r, w->out);
}


void
ngx_http_bog_status_print(ngx_http_bog_writer_t *w, const char *fmt, ...)
{
    u_char       *p;
    va_list       args;
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    while (!w->failed) {
        b = w->buf;

        if (b) {
            va_start(args, fmt);
            p = ngx_vslprintf(b->last, b->end, fmt, args);
            va_end(args);

            if (p < b->end) {
                b->last = p;
                return;
            }

            if (b->last == b->start) {
                break;
            }
        }

        /* the text may have been cut: all of it goes to a new buffer */

        cl = ngx_alloc_chain_link(w->pool);
        if (cl == NULL) {
            break;
        }

        w->buf = ngx_create_temp_buf(w->pool, NGX_HTTP_BOG_STATUS_BUFFER);
        if (w->buf == NULL) {
            break;
        }

        cl->buf = w->buf;
        cl->next = NULL;

        *w->last = cl;
        w->last = &cl->next;
    }

    w->failed = 1;
}


/* writes page.html, whose script asks for the JSON */

static void
ngx_http_bog_page_write(ngx_http_bog_writer_t *w)
{
    ngx_http_bog_status_print(w, "%s", ngx_http_bog_page);
}

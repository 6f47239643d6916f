
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_status.h"


/* what is written before others have their turn: bytes, and pieces */

#define NGX_HTTP_BOG_SLICE   16384
#define NGX_HTTP_BOG_PIECES  256


typedef struct {
    ngx_http_request_t      *request;
    ngx_http_bog_format_t   *format;
    ngx_http_bog_writer_t    writer;

    ngx_event_t              event;         /* the next turn */
    size_t                   room;          /* of a piece */
    ngx_chain_t             *free;
    ngx_chain_t             *busy;
} ngx_http_bog_status_t;


static ngx_int_t ngx_http_bog_status_choose(ngx_http_request_t *r,
    ngx_http_bog_format_t **format);
static ngx_http_bog_format_t *ngx_http_bog_status_find(ngx_str_t *name);
static ngx_http_bog_format_t *ngx_http_bog_status_accept(
    ngx_http_request_t *r);
static ngx_http_bog_status_t *ngx_http_bog_status_create(
    ngx_http_request_t *r, ngx_http_bog_format_t *format);
static ngx_int_t ngx_http_bog_status_headers(ngx_http_request_t *r,
    ngx_http_bog_format_t *format);
static ngx_int_t ngx_http_bog_status_header(ngx_http_request_t *r, char *key,
    char *value);
static ngx_chain_t *ngx_http_bog_status_fill(ngx_http_bog_status_t *st);
static ngx_chain_t *ngx_http_bog_status_buffer(ngx_http_bog_status_t *st);
static void ngx_http_bog_status_send(ngx_http_bog_status_t *st,
    ngx_chain_t *out);
static void ngx_http_bog_status_await(ngx_http_bog_status_t *st);
static void ngx_http_bog_status_next(ngx_http_bog_status_t *st);
static void ngx_http_bog_status_turn(ngx_event_t *ev);
static void ngx_http_bog_status_writer(ngx_http_request_t *r);
static void ngx_http_bog_status_cleanup(void *data);


static ngx_http_bog_format_t  *ngx_http_bog_formats[] = {
    &ngx_http_bog_json,
    &ngx_http_bog_prometheus,
    &ngx_http_bog_html,
    NULL
};


/* what is written is said by the request */

static ngx_http_bog_format_t  ngx_http_bog_any = {
    ngx_null_string, ngx_null_string, NULL
};


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

    blcf->status = &ngx_http_bog_any;

    if (cf->args->nelts == 2) {
        value = cf->args->elts;

        blcf->status = ngx_http_bog_status_find(&value[1]);

        if (blcf->status == NULL) {
            return "must be \"json\", \"prometheus\" or \"html\"";
        }
    }

    return NGX_CONF_OK;
}


ngx_int_t
ngx_http_bog_status_handler(ngx_http_request_t *r)
{
    ngx_int_t               rc;
    ngx_chain_t            *out;
    ngx_http_bog_format_t  *format;
    ngx_http_bog_status_t  *st;

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return NGX_HTTP_NOT_ALLOWED;
    }

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    rc = ngx_http_bog_status_choose(r, &format);

    if (rc != NGX_OK) {
        return rc;
    }

    st = ngx_http_bog_status_create(r, format);
    if (st == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    out = ngx_http_bog_status_fill(st);

    if (out == NULL || ngx_http_bog_status_headers(r, format) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (st->writer.done) {
        r->headers_out.content_length_n = ngx_buf_size(out->buf);
    }

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    r->main->count++;

    /* a client that leaves is seen, as by nginx itself where it writes */

    r->read_event_handler = r->discard_body
                                ? ngx_http_discarded_request_body_handler
                                : ngx_http_test_reading;
    r->write_event_handler = ngx_http_bog_status_writer;

    ngx_http_bog_status_send(st, out);

    return NGX_DONE;
}


static ngx_int_t
ngx_http_bog_status_choose(ngx_http_request_t *r,
    ngx_http_bog_format_t **format)
{
    ngx_str_t                 name;
    ngx_http_bog_loc_conf_t  *blcf;

    if (ngx_http_arg(r, (u_char *) "format", 6, &name) == NGX_OK) {
        *format = ngx_http_bog_status_find(&name);

        return *format ? NGX_OK : NGX_HTTP_BAD_REQUEST;
    }

    blcf = ngx_http_get_module_loc_conf(r, ngx_http_bog_module);

    if (blcf->status != &ngx_http_bog_any) {
        *format = blcf->status;
        return NGX_OK;
    }

    *format = ngx_http_bog_status_accept(r);

    return ngx_http_bog_status_header(r, "Vary", "Accept");
}


static ngx_http_bog_format_t *
ngx_http_bog_status_find(ngx_str_t *name)
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


/*
 * Nobody accepts these types but browsers and Prometheus, and they do so
 * before all others: no more is asked of the header (RFC 9110, 12.5.1).
 */

static ngx_http_bog_format_t *
ngx_http_bog_status_accept(ngx_http_request_t *r)
{
    u_char           *p, *last;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    part = &r->headers_in.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                return &ngx_http_bog_json;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (h[i].key.len != 6
            || ngx_strncasecmp(h[i].key.data, (u_char *) "Accept", 6) != 0)
        {
            continue;
        }

        p = h[i].value.data;
        last = p + h[i].value.len;

        if (ngx_strlcasestrn(p, last, (u_char *) "text/html", 9 - 1)) {
            return &ngx_http_bog_html;
        }

        if (ngx_strlcasestrn(p, last, (u_char *) "version=0.0.4", 13 - 1)
            || ngx_strlcasestrn(p, last, (u_char *) "openmetrics-text", 16 - 1))
        {
            return &ngx_http_bog_prometheus;
        }
    }
}


static ngx_http_bog_status_t *
ngx_http_bog_status_create(ngx_http_request_t *r,
    ngx_http_bog_format_t *format)
{
    ngx_http_cleanup_t        *cln;
    ngx_http_bog_status_t     *st;
    ngx_http_bog_main_conf_t  *bmcf;

    bmcf = ngx_http_get_module_main_conf(r, ngx_http_bog_module);

    cln = ngx_http_cleanup_add(r, sizeof(ngx_http_bog_status_t));
    if (cln == NULL) {
        return NULL;
    }

    st = cln->data;

    ngx_memzero(st, sizeof(ngx_http_bog_status_t));

    cln->handler = ngx_http_bog_status_cleanup;

    st->request = r;
    st->format = format;
    st->room = NGX_HTTP_BOG_PIECE
               + NGX_HTTP_BOG_PIECE_NAMES * bmcf->longest;

    st->event.handler = ngx_http_bog_status_turn;
    st->event.data = st;
    st->event.log = r->connection->log;

    st->writer.accounts = bmcf->accounts.elts;
    st->writer.n = bmcf->accounts.nelts;

    st->writer.troubles = ngx_palloc(r->pool, ngx_max(st->writer.n, 1));
    if (st->writer.troubles == NULL) {
        return NULL;
    }

    return st;
}


static ngx_int_t
ngx_http_bog_status_headers(ngx_http_request_t *r,
    ngx_http_bog_format_t *format)
{
    u_char  *p;

    /* each answer is another one: "If-Match" has nothing to compare with */

    r->disable_not_modified = 1;

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_type = format->type;
    r->headers_out.content_type_len = format->type.len;

    /* gzip and others compare the type without its parameters */

    p = ngx_strlchr(format->type.data, format->type.data + format->type.len,
                    ';');
    if (p) {
        r->headers_out.content_type_len = p - format->type.data;
    }

    /* nothing on the page comes from elsewhere, or runs */

    if (ngx_http_bog_status_header(r, "Cache-Control", "no-store") != NGX_OK
        || ngx_http_bog_status_header(r, "X-Content-Type-Options", "nosniff")
           != NGX_OK
        || ngx_http_bog_status_header(r, "Content-Security-Policy",
                                      "default-src 'none'; "
                                      "style-src 'unsafe-inline'; "
                                      "img-src data:; "
                                      "frame-ancestors 'none'")
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_status_header(ngx_http_request_t *r, char *key, char *value)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(h, sizeof(ngx_table_elt_t));

    h->hash = 1;
    h->key.data = (u_char *) key;
    h->key.len = ngx_strlen(key);
    h->value.data = (u_char *) value;
    h->value.len = ngx_strlen(value);

    return NGX_OK;
}


static ngx_chain_t *
ngx_http_bog_status_fill(ngx_http_bog_status_t *st)
{
    ngx_buf_t              *b;
    ngx_uint_t              n;
    ngx_chain_t            *cl;
    ngx_http_bog_writer_t  *w;

    cl = ngx_http_bog_status_buffer(st);
    if (cl == NULL) {
        return NULL;
    }

    b = cl->buf;
    w = &st->writer;

    for (n = 0; n < NGX_HTTP_BOG_PIECES && !w->done; n++) {

        if (b->last - b->pos >= NGX_HTTP_BOG_SLICE) {
            break;
        }

        b->last = st->format->write(w, b->last);
    }

    b->flush = !w->done;
    b->last_in_chain = w->done;
    b->last_buf = (w->done && st->request == st->request->main);

    return cl;
}


static ngx_chain_t *
ngx_http_bog_status_buffer(ngx_http_bog_status_t *st)
{
    size_t               size;
    ngx_buf_t           *b;
    ngx_chain_t         *cl;
    ngx_http_request_t  *r;

    r = st->request;

    cl = ngx_chain_get_free_buf(r->pool, &st->free);
    if (cl == NULL) {
        return NULL;
    }

    b = cl->buf;

    if (b->start == NULL) {
        size = NGX_HTTP_BOG_SLICE + st->room;

        b->start = ngx_palloc(r->pool, size);
        if (b->start == NULL) {
            return NULL;
        }

        b->end = b->start + size;
        b->temporary = 1;
        b->tag = (ngx_buf_tag_t) &ngx_http_bog_module;
    }

    b->pos = b->start;
    b->last = b->start;

    return cl;
}


static void
ngx_http_bog_status_send(ngx_http_bog_status_t *st, ngx_chain_t *out)
{
    ngx_int_t            rc;
    ngx_http_request_t  *r;

    r = st->request;

    if (out && ngx_buf_size(out->buf) == 0) {
        out->next = st->free;
        st->free = out;

        ngx_http_bog_status_next(st);
        return;
    }

    rc = ngx_http_output_filter(r, out);

    ngx_chain_update_chains(r->pool, &st->free, &st->busy, &out,
                            (ngx_buf_tag_t) &ngx_http_bog_module);

    /* what is left of the last ones nginx sends by itself */

    if (rc == NGX_ERROR || st->writer.done) {
        ngx_http_finalize_request(r, rc);
        return;
    }

    if (st->busy) {
        ngx_http_bog_status_await(st);
        return;
    }

    ngx_http_bog_status_next(st);
}


static void
ngx_http_bog_status_await(ngx_http_bog_status_t *st)
{
    ngx_event_t               *wev;
    ngx_http_request_t        *r;
    ngx_http_core_loc_conf_t  *clcf;

    r = st->request;

    /* a subrequest that is not to be sent yet is told when it is */

    if (r != r->connection->data) {
        return;
    }

    wev = r->connection->write;
    clcf = ngx_http_get_module_loc_conf(r->main, ngx_http_core_module);

    if (!wev->delayed) {
        ngx_add_timer(wev, clcf->send_timeout);
    }

    if (ngx_handle_write_event(wev, clcf->send_lowat) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_ERROR);
    }
}


/* a worker that is to exit stays while there is a timer, not for this event */

static void
ngx_http_bog_status_next(ngx_http_bog_status_t *st)
{
    ngx_event_t               *wev;
    ngx_http_request_t        *r;
    ngx_http_core_loc_conf_t  *clcf;

    r = st->request;
    wev = r->connection->write;

    if (!wev->delayed && r == r->connection->data) {
        clcf = ngx_http_get_module_loc_conf(r->main, ngx_http_core_module);
        ngx_add_timer(wev, clcf->send_timeout);
    }

    ngx_post_event(&st->event, &ngx_posted_next_events);
}


static void
ngx_http_bog_status_turn(ngx_event_t *ev)
{
    ngx_chain_t            *out;
    ngx_connection_t       *c;
    ngx_http_request_t     *r;
    ngx_http_bog_status_t  *st;

    st = ev->data;
    r = st->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    out = ngx_http_bog_status_fill(st);

    if (out) {
        ngx_http_bog_status_send(st, out);

    } else {
        ngx_http_finalize_request(r, NGX_ERROR);
    }

    ngx_http_run_posted_requests(c);
}


static void
ngx_http_bog_status_writer(ngx_http_request_t *r)
{
    ngx_event_t            *wev;
    ngx_http_cleanup_t     *cln;
    ngx_http_bog_status_t  *st;

    wev = r->connection->write;

    if (wev->timedout) {
        ngx_log_error(NGX_LOG_INFO, r->connection->log, NGX_ETIMEDOUT,
                      "client timed out");
        r->connection->timedout = 1;

        ngx_http_finalize_request(r, NGX_HTTP_REQUEST_TIME_OUT);
        return;
    }

    /* the context of this module is of another kind */

    for (cln = r->main->cleanup; cln; cln = cln->next) {

        st = cln->data;

        if (cln->handler == ngx_http_bog_status_cleanup && st->request == r) {

            if (st->busy && wev->delayed) {
                ngx_http_bog_status_await(st);

            } else if (st->busy) {
                ngx_http_bog_status_send(st, NULL);
            }

            return;
        }
    }
}


static void
ngx_http_bog_status_cleanup(void *data)
{
    ngx_http_bog_status_t *st = data;

    if (st->event.posted) {
        ngx_delete_posted_event(&st->event);
    }
}


u_char *
ngx_http_bog_status_seconds(u_char *dst, int64_t ms)
{
    return ngx_sprintf(dst, "%L.%03L", ms / 1000, ms % 1000);
}


u_char *
ngx_http_bog_status_time(u_char *dst, int64_t ms)
{
    ngx_tm_t  tm;

    ngx_gmtime((time_t) (ms / 1000), &tm);

    return ngx_sprintf(dst, "%4d-%02d-%02dT%02d:%02d:%02dZ",
                       tm.ngx_tm_year, tm.ngx_tm_mon, tm.ngx_tm_mday,
                       tm.ngx_tm_hour, tm.ngx_tm_min, tm.ngx_tm_sec);
}

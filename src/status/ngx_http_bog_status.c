
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_status.h"
#include "ngx_http_bog_page.h"


/*
 * The page runs its own script and has its own style, both known by their
 * digests, and loads nothing but the status.
 */

#define NGX_HTTP_BOG_CSP                                                      \
    "default-src 'none'; connect-src 'self'; "                                \
    "script-src 'sha256-60DtPaiega/xORwBylSPMxxDPkYsi4by6N4BmEdMbVM='; "      \
    "style-src 'sha256-pLvkmQzg0SuJAR+GodEYlWEkb+qVMF3G0pKwHYNEetg='; "       \
    "img-src data:; frame-ancestors 'none'"

/* the answer is in buffers of this size */

#define NGX_HTTP_BOG_BUFFER       65536

/* the longest piece is this long, and so many times the names in it */

#define NGX_HTTP_BOG_PIECE        8192
#define NGX_HTTP_BOG_PIECE_NAMES  16


static ngx_http_bog_format_t *ngx_http_bog_status_find(ngx_str_t *name);
static ngx_int_t ngx_http_bog_status_write(ngx_http_request_t *r,
    ngx_http_bog_format_t *format, ngx_http_bog_writer_t *w);
static ngx_int_t ngx_http_bog_status_header(ngx_http_request_t *r, char *key,
    char *value);
static ngx_int_t ngx_http_bog_html_write(ngx_http_bog_writer_t *w);


static ngx_http_bog_format_t  ngx_http_bog_html = {
    ngx_string("html"),
    ngx_string("text/html; charset=utf-8"), sizeof("text/html") - 1,
    ngx_http_bog_html_write
};


static ngx_http_bog_format_t  *ngx_http_bog_formats[] = {
    &ngx_http_bog_json,
    &ngx_http_bog_prometheus,
    &ngx_http_bog_html,
    NULL
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
    blcf->status_handler = ngx_http_bog_status_handler;

    blcf->status = &ngx_http_bog_json;

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
        format = ngx_http_bog_status_find(&name);

        if (format == NULL) {
            return NGX_HTTP_BAD_REQUEST;
        }
    }

    if (ngx_http_bog_status_write(r, format, &w) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /* each answer is another one: "If-Match" has nothing to compare with */

    r->disable_not_modified = 1;

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = w.length;
    r->headers_out.content_type = format->type;
    r->headers_out.content_type_len = format->type_len;

    if (ngx_http_bog_status_header(r, "Cache-Control", "no-store") != NGX_OK
        || ngx_http_bog_status_header(r, "X-Content-Type-Options", "nosniff")
           != NGX_OK
        || ngx_http_bog_status_header(r, "Content-Security-Policy",
                                      NGX_HTTP_BOG_CSP)
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    return ngx_http_output_filter(r, w.out);
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


static ngx_int_t
ngx_http_bog_status_write(ngx_http_request_t *r,
    ngx_http_bog_format_t *format, ngx_http_bog_writer_t *w)
{
    size_t                      names;
    ngx_uint_t                  i;
    ngx_chain_t                *cl;
    ngx_http_bog_account_t    **accounts;
    ngx_http_bog_main_conf_t   *bmcf;

    bmcf = ngx_http_get_module_main_conf(r, ngx_http_bog_module);
    accounts = bmcf->accounts.elts;

    ngx_memzero(w, sizeof(ngx_http_bog_writer_t));

    w->pool = r->pool;
    w->last = &w->out;
    w->n = bmcf->accounts.nelts;

    w->reports = ngx_palloc(r->pool,
                            ngx_max(w->n, 1) * sizeof(ngx_http_bog_report_t));
    if (w->reports == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < w->n; i++) {
        ngx_http_bog_report_take(&w->reports[i], accounts[i]);

        /* names are up to twice as long when they are quoted */

        names = 2 * (accounts[i]->name.len + accounts[i]->client_id.len)
                + accounts[i]->endpoint->url.len + accounts[i]->scope.len;

        w->piece = ngx_max(w->piece, NGX_HTTP_BOG_PIECE_NAMES * names);
    }

    w->piece += NGX_HTTP_BOG_PIECE;

    if (format->write(w) != NGX_OK) {
        return NGX_ERROR;
    }

    w->buf->last_buf = (r == r->main);
    w->buf->last_in_chain = 1;

    for (cl = w->out; cl; cl = cl->next) {
        w->length += ngx_buf_size(cl->buf);
    }

    return NGX_OK;
}


u_char *
ngx_http_bog_status_room(ngx_http_bog_writer_t *w)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    b = w->buf;

    if (b && (size_t) (b->end - b->last) >= w->piece) {
        return b->last;
    }

    cl = ngx_alloc_chain_link(w->pool);
    if (cl == NULL) {
        return NULL;
    }

    b = ngx_create_temp_buf(w->pool, NGX_HTTP_BOG_BUFFER + w->piece);
    if (b == NULL) {
        return NULL;
    }

    cl->buf = b;
    cl->next = NULL;

    *w->last = cl;
    w->last = &cl->next;
    w->buf = b;

    return b->last;
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


/* the page of ngx_http_bog_status.html, which asks for the JSON by itself */

static ngx_int_t
ngx_http_bog_html_write(ngx_http_bog_writer_t *w)
{
    u_char  *p;

    p = ngx_http_bog_status_room(w);
    if (p == NULL) {
        return NGX_ERROR;
    }

    w->buf->last = ngx_cpymem(p, ngx_http_bog_page,
                              sizeof(ngx_http_bog_page) - 1);

    return NGX_OK;
}


/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_compat.h"
#include "ngx_http_bog_ctx.h"
#include "ngx_http_bog_filter.h"


/* the first filter of each chain; the links are in the filters themselves */

typedef struct {
    ngx_http_output_header_filter_pt  header;
    ngx_http_output_header_filter_pt  early_hints;
    ngx_http_output_body_filter_pt    body;
    ngx_http_request_body_filter_pt   request_body;
} ngx_http_bog_filters_t;


static ngx_int_t ngx_http_bog_filter(ngx_http_request_t *r);
static ngx_int_t ngx_http_bog_add_retry_after(ngx_http_request_t *r,
    int64_t seconds);


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;

static ngx_http_bog_filters_t  ngx_http_bog_filters;


void
ngx_http_bog_filter_init(void)
{
    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_bog_filter;
}


void
ngx_http_bog_filter_keep(void)
{
    ngx_http_bog_filters.header = ngx_http_top_header_filter;
    ngx_http_bog_filters.early_hints = ngx_http_bog_top_early_hints();
    ngx_http_bog_filters.body = ngx_http_top_body_filter;
    ngx_http_bog_filters.request_body = ngx_http_top_request_body_filter;
}


void
ngx_http_bog_filter_put_back(void)
{
    ngx_http_top_header_filter = ngx_http_bog_filters.header;
    ngx_http_bog_set_top_early_hints(ngx_http_bog_filters.early_hints);
    ngx_http_top_body_filter = ngx_http_bog_filters.body;
    ngx_http_top_request_body_filter = ngx_http_bog_filters.request_body;
}


static ngx_int_t
ngx_http_bog_filter(ngx_http_request_t *r)
{
    ngx_http_bog_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_bog_module);

    if (ctx == NULL) {
        return ngx_http_bog_may_recover(r) ? ngx_http_bog_filter_answer(r)
                                           : ngx_http_next_header_filter(r);
    }

    /* most answers say nothing new: the token is accepted, as it was before */

    if (r->upstream
        && r->upstream->headers_in.status_n < NGX_HTTP_BAD_REQUEST
        && ctx->retry_after == 0
        && ctx->token
        && ngx_http_bog_source_accepted(ctx->source, ctx->token))
    {
        return ngx_http_next_header_filter(r);
    }

    return ngx_http_bog_filter_answer(r);
}


ngx_int_t
ngx_http_bog_filter_answer(ngx_http_request_t *r)
{
    ngx_http_bog_ctx_t  *ctx;

    ctx = ngx_http_bog_find_ctx(r);

    if (ctx == NULL) {
        return ngx_http_next_header_filter(r);
    }

    ngx_http_bog_check_answer(r, ctx);

    /* an "error_page" with "=" in it leaves the status to its own answer */

    if (ctx->retry_after
        && r->err_status == NGX_HTTP_SERVICE_UNAVAILABLE
        && ngx_http_bog_add_retry_after(r, ctx->retry_after) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_next_header_filter(r);
}


static ngx_int_t
ngx_http_bog_add_retry_after(ngx_http_request_t *r, int64_t seconds)
{
    u_char                     *p;
    ngx_table_elt_t            *h;
    ngx_http_variable_value_t  *v;

    static ngx_str_t  name = ngx_string("sent_http_retry_after");

    /* the backend that made the error page may have said it */

    v = ngx_http_get_variable(r, &name, ngx_hash_key(name.data, name.len));

    if (v == NULL || !v->not_found) {
        return v ? NGX_OK : NGX_ERROR;
    }

    p = ngx_pnalloc(r->pool, NGX_INT64_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(h, sizeof(ngx_table_elt_t));

    h->hash = 1;
    ngx_str_set(&h->key, "Retry-After");
    h->value.data = p;
    h->value.len = ngx_sprintf(p, "%L", seconds) - p;

    return NGX_OK;
}


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

    ctx = ngx_http_bog_find_ctx(r);

    if (ctx == NULL) {
        return ngx_http_next_header_filter(r);
    }

    ngx_http_bog_check_answer(r, ctx);

    /* error_page has found another answer */

    if (ctx->retry_after
        && r->headers_out.status != NGX_HTTP_SERVICE_UNAVAILABLE)
    {
        ctx->retry_after->hash = 0;
    }

    return ngx_http_next_header_filter(r);
}

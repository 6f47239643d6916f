
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_ctx.h"
#include "ngx_http_bog_filter.h"


static ngx_int_t ngx_http_bog_filter(ngx_http_request_t *r);


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;


void
ngx_http_bog_filter_init(void)
{
    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_bog_filter;
}


static ngx_int_t
ngx_http_bog_filter(ngx_http_request_t *r)
{
    ngx_http_bog_ctx_t  *ctx;

    ctx = ngx_http_bog_find_ctx(r);

    if (ctx == NULL) {
        return ngx_http_next_header_filter(r);
    }

    if (r->upstream
        && r->upstream->headers_in.status_n == NGX_HTTP_UNAUTHORIZED)
    {
        ngx_http_bog_check_answer(r, ctx);
    }

    /* error_page has found another answer */

    if (ctx->retry_after
        && r->headers_out.status != NGX_HTTP_SERVICE_UNAVAILABLE)
    {
        ctx->retry_after->hash = 0;
    }

    return ngx_http_next_header_filter(r);
}


/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_request.h"


/*
 * What the API has answered: a 401 tells that a token is not good any more,
 * whatever time it has left.  nginx calls the header filter for each answer
 * that it sends; the context has the others checked.  The filter adds a header
 * to our own 503, and must not change any other answer.
 */


static ngx_int_t ngx_http_bog_filter(ngx_http_request_t *r);
static ngx_int_t ngx_http_bog_add_retry_after(ngx_http_request_t *r,
    ngx_uint_t seconds);
static void ngx_http_bog_reject_token(ngx_http_bog_ctx_t *ctx);
static ngx_uint_t ngx_http_bog_invalid_token(ngx_http_upstream_t *u);


/* by bog_rejected_e */

static char  *ngx_http_bog_rejected_outcomes[] = {
    "it is kept",
    "it is too old to be sent again",
    "it has been replaced already",
    "it is being replaced already",
    "the newer token takes over",
    "the older token takes over again",
    "it is being replaced"
};


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

    /* most answers say nothing new: the token is accepted, as it was before */

    if (ctx->retry_after == 0
        && ctx->sent
        && r->upstream
        && r->upstream->headers_in.status_n < NGX_HTTP_BAD_REQUEST
        && ngx_http_bog_source_accepted(ctx->source, ctx->sent))
    {
        ctx->checked = r->upstream;

        return ngx_http_next_header_filter(r);
    }

    ngx_http_bog_check_answer(ctx);

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
ngx_http_bog_add_retry_after(ngx_http_request_t *r, ngx_uint_t seconds)
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

    p = ngx_pnalloc(r->pool, NGX_INT_T_LEN);
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
    h->value.len = ngx_sprintf(p, "%ui", seconds) - p;

    return NGX_OK;
}


/*
 * An answer tells something of the token only if the request has read the token
 * before its upstream was asked.  An answer from the cache tells nothing.
 */

void
ngx_http_bog_check_answer(void *data)
{
    ngx_http_bog_ctx_t *ctx = data;

    ngx_uint_t            status;
    ngx_http_request_t   *r;
    ngx_http_upstream_t  *u;

    r = ctx->request;
    u = r->upstream;

    if (u == NULL || u == ctx->checked || ctx->sent == NULL) {
        return;
    }

#if (NGX_HTTP_CACHE)

    if (r->cached) {
        return;
    }

#endif

    status = u->headers_in.status_n;

    if (status < NGX_HTTP_BAD_REQUEST) {

        if (status) {
            ctx->checked = u;
            ngx_http_bog_source_accept(ctx->source, ctx->sent);
        }

        return;
    }

    if (status == NGX_HTTP_UNAUTHORIZED || ngx_http_bog_invalid_token(u)) {
        ctx->checked = u;
        ngx_http_bog_reject_token(ctx);
    }
}


/* Counts the answer, has the source decide about the token, and logs that. */

static void
ngx_http_bog_reject_token(ngx_http_bog_ctx_t *ctx)
{
    ngx_uint_t              level;
    bog_rejected_e          outcome;
    ngx_http_bog_source_t  *source;

    source = ctx->source;
    level = NGX_LOG_INFO;

    ngx_http_bog_metrics_count(source->slot->metrics.unauthorized);

    outcome = ngx_http_bog_source_reject(source, ctx->sent);

    if (bog_rejected_changes(outcome)) {
        ngx_http_bog_metrics_count(source->slot->metrics.rejected);
        level = NGX_LOG_WARN;
    }

    ngx_http_bog_log_error(level, ctx->request,
                           "token \"%*s\" of client id \"%V\" was rejected, "
                           "%s", sizeof(ctx->sent->id), ctx->sent->id,
                           &source->account->client_id,
                           ngx_http_bog_rejected_outcomes[outcome]);
}


/* RFC 6750, 3: WWW-Authenticate: Bearer realm="...", error="invalid_token" */

static ngx_uint_t
ngx_http_bog_invalid_token(ngx_http_upstream_t *u)
{
    u_char           *p, *last;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    static ngx_str_t  name = ngx_string("WWW-Authenticate");
    static ngx_str_t  error = ngx_string("error=\"invalid_token\"");

    for (part = &u->headers_in.headers.part; part; part = part->next) {

        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].key.len != name.len
                || ngx_strncasecmp(h[i].key.data, name.data, name.len) != 0)
            {
                continue;
            }

            last = h[i].value.data + h[i].value.len;

            p = ngx_strlcasestrn(h[i].value.data, last,
                                 (u_char *) "bearer", 6 - 1);

            if (p && ngx_strlcasestrn(p, last, error.data, error.len - 1)) {
                return 1;
            }
        }
    }

    return 0;
}

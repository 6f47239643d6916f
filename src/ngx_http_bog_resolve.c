
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_resolve.h"


/* where addresses are known, a silent name server is not waited for */

#define NGX_HTTP_BOG_RESOLVE_TIMEOUT  1000


static ngx_int_t ngx_http_bog_resolve_ask(ngx_http_bog_fetch_t *fetch);
static void ngx_http_bog_resolve_handler(ngx_resolver_ctx_t *ctx);
static void ngx_http_bog_resolve_known(ngx_http_bog_fetch_t *fetch);
static void ngx_http_bog_resolve_add(ngx_http_bog_fetch_t *fetch,
    struct sockaddr *sockaddr, socklen_t socklen);
static void ngx_http_bog_resolve_suit(ngx_http_bog_fetch_t *fetch);


void
ngx_http_bog_resolve(ngx_http_bog_fetch_t *fetch)
{
    ngx_http_bog_account_t  *account;

    account = fetch->account;

    if (account->endpoint->upstream) {
        fetch->resolved(fetch);
        return;
    }

    if (account->resolver && ngx_http_bog_resolve_ask(fetch) == NGX_OK) {
        return;
    }

    ngx_http_bog_resolve_known(fetch);
}


static ngx_int_t
ngx_http_bog_resolve_ask(ngx_http_bog_fetch_t *fetch)
{
    ngx_resolver_ctx_t      *ctx;
    ngx_http_bog_account_t  *account;

    account = fetch->account;

    ctx = ngx_resolve_start(account->resolver, NULL);
    if (ctx == NULL || ctx == NGX_NO_RESOLVER) {
        return NGX_ERROR;
    }

    ctx->name = account->endpoint->host;
    ctx->handler = ngx_http_bog_resolve_handler;
    ctx->data = fetch;
    ctx->timeout = account->resolver_timeout;

    if (account->endpoint->naddrs) {
        ctx->timeout = ngx_min(ctx->timeout, NGX_HTTP_BOG_RESOLVE_TIMEOUT);
    }

    fetch->lookup = ctx;

    if (ngx_resolve_name(ctx) != NGX_OK) {
        fetch->lookup = NULL;
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_http_bog_resolve_handler(ngx_resolver_ctx_t *ctx)
{
    ngx_uint_t             i, level;
    ngx_http_bog_fetch_t  *fetch;

    fetch = ctx->data;

    if (ctx->state) {
        level = fetch->account->endpoint->naddrs ? NGX_LOG_INFO : NGX_LOG_ERR;

        ngx_log_error(level, &fetch->upstream_log, 0,
                      "%V could not be resolved (%i: %s)", &ctx->name,
                      ctx->state, ngx_resolver_strerror(ctx->state));
    }

    for (i = 0; ctx->state == 0 && i < ctx->naddrs; i++) {
        ngx_http_bog_resolve_add(fetch, ctx->addrs[i].sockaddr,
                                 ctx->addrs[i].socklen);
    }

    ngx_resolve_name_done(ctx);
    fetch->lookup = NULL;

    if (fetch->naddrs == 0) {
        ngx_http_bog_resolve_known(fetch);
        return;
    }

    ngx_http_bog_resolve_suit(fetch);

    fetch->resolved(fetch);
}


static void
ngx_http_bog_resolve_known(ngx_http_bog_fetch_t *fetch)
{
    ngx_uint_t                i;
    ngx_http_bog_endpoint_t  *endpoint;

    endpoint = fetch->account->endpoint;

    for (i = 0; i < endpoint->naddrs; i++) {
        ngx_http_bog_resolve_add(fetch, endpoint->addrs[i].sockaddr,
                                 endpoint->addrs[i].socklen);
    }

    if (fetch->naddrs == 0) {
        fetch->failure.error = BOG_ERROR_RESOLVE;
    }

    ngx_http_bog_resolve_suit(fetch);

    fetch->resolved(fetch);
}


static void
ngx_http_bog_resolve_add(ngx_http_bog_fetch_t *fetch,
    struct sockaddr *sockaddr, socklen_t socklen)
{
    ngx_uint_t            n;
    ngx_resolver_addr_t  *addr;

    n = fetch->naddrs;

    if (n == NGX_HTTP_BOG_ADDRS) {
        return;
    }

    ngx_memcpy(&fetch->sockaddrs[n], sockaddr, socklen);
    ngx_inet_set_port(&fetch->sockaddrs[n].sockaddr,
                      fetch->account->endpoint->port);

    addr = &fetch->addrs[n];
    addr->sockaddr = &fetch->sockaddrs[n].sockaddr;
    addr->socklen = socklen;

    fetch->naddrs++;
}


/*
 * From "bog_bind" there is no way to an address of another family, and nginx
 * would not try the next one then.  Where all are so, it says what is wrong.
 */

static void
ngx_http_bog_resolve_suit(ngx_http_bog_fetch_t *fetch)
{
    ngx_uint_t                  i, n;
    ngx_http_upstream_local_t  *local;

    local = fetch->account->upstream.local;

    if (local == NULL) {
        return;
    }

    n = 0;

    for (i = 0; i < fetch->naddrs; i++) {
        if (fetch->addrs[i].sockaddr->sa_family
            == local->addr->sockaddr->sa_family)
        {
            fetch->addrs[n++] = fetch->addrs[i];
        }
    }

    if (n) {
        fetch->naddrs = n;
    }
}


void
ngx_http_bog_resolve_cancel(ngx_http_bog_fetch_t *fetch)
{
    if (fetch->lookup) {
        ngx_resolve_name_done(fetch->lookup);
        fetch->lookup = NULL;
    }
}

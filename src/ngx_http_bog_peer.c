
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_peer.h"


static ngx_int_t ngx_http_bog_peer_get(ngx_peer_connection_t *pc, void *data);


ngx_int_t
ngx_http_bog_peer_init(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us)
{
    ngx_http_bog_fetch_t          *fetch;
    ngx_http_upstream_resolved_t  *ur;

    fetch = ngx_http_bog_fetch_of(r);

    ur = ngx_pcalloc(r->pool, sizeof(ngx_http_upstream_resolved_t));
    if (ur == NULL) {
        return NGX_ERROR;
    }

    ur->host = us->host;
    ur->port = us->port;
    ur->addrs = fetch->addrs;
    ur->naddrs = fetch->naddrs;

    return ngx_http_upstream_create_round_robin_peer(r, ur);
}


ngx_int_t
ngx_http_bog_peer_init_named(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us)
{
    ngx_http_upstream_t   *u;
    ngx_http_bog_fetch_t  *fetch;

    u = r->upstream;
    fetch = ngx_http_bog_fetch_of(r);
    us = fetch->account->endpoint->upstream;

    if (us->peer.init(r, us) != NGX_OK) {
        return NGX_ERROR;
    }

    if (u->ssl) {
        fetch->get_peer = u->peer.get;
        u->peer.get = ngx_http_bog_peer_get;
    }

    return NGX_OK;
}


/*
 * A TLS connection that an upstream {} has kept may be of another location,
 * and have been verified less.  Nothing would look at it again: it is closed,
 * and the peer connected to anew.
 */

static ngx_int_t
ngx_http_bog_peer_get(ngx_peer_connection_t *pc, void *data)
{
    ngx_int_t              rc;
    ngx_connection_t      *c;
    ngx_http_upstream_t   *u;
    ngx_http_bog_fetch_t  *fetch;

    u = (ngx_http_upstream_t *) ((u_char *) pc
                                 - offsetof(ngx_http_upstream_t, peer));
    fetch = ngx_http_bog_fetch_of((ngx_http_request_t *) u->input_filter_ctx);

    rc = fetch->get_peer(pc, data);

    if (rc != NGX_DONE || pc->connection == NULL) {
        return rc;
    }

    c = pc->connection;

    pc->connection = NULL;
    pc->cached = 0;

    if (c->ssl) {
        c->ssl->no_wait_shutdown = 1;
        (void) ngx_ssl_shutdown(c);
    }

    ngx_destroy_pool(c->pool);
    ngx_close_connection(c);

    return NGX_OK;
}

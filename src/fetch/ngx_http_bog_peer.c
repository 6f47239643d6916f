
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_peer.h"


/* no try is shorter, unless "bog_connect_timeout" says so */

#define NGX_HTTP_BOG_CONNECT_TIMEOUT  1000


static ngx_int_t ngx_http_bog_peer_get(ngx_peer_connection_t *pc, void *data);
static void ngx_http_bog_peer_free(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t state);


ngx_int_t
ngx_http_bog_peer_init(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us)
{
    ngx_http_upstream_t   *u;
    ngx_http_bog_fetch_t  *fetch;

    u = r->upstream;
    fetch = ngx_http_bog_fetch_of(r);
    us = fetch->account->endpoint->upstream;

    if (us) {
        if (us->peer.init(r, us) != NGX_OK) {
            return NGX_ERROR;
        }

        fetch->get_peer = u->peer.get;

    } else {
        u->peer.data = fetch;
        u->peer.free = ngx_http_bog_peer_free;
        u->peer.tries = ngx_max(fetch->addrs.n, 1);
    }

    u->peer.get = ngx_http_bog_peer_get;

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_peer_get(ngx_peer_connection_t *pc, void *data)
{
    ngx_int_t              rc;
    ngx_addr_t            *given;
    ngx_msec_t             timeout;
    ngx_connection_t      *c;
    ngx_http_upstream_t   *u;
    ngx_http_bog_addr_t   *addr;
    ngx_http_bog_fetch_t  *fetch;

    u = (ngx_http_upstream_t *) ((u_char *) pc
                                 - offsetof(ngx_http_upstream_t, peer));
    fetch = ngx_http_bog_fetch_of((ngx_http_request_t *) u->input_filter_ctx);

    /* those that do not answer leave time for those after them */

    timeout = fetch->account->upstream.connect_timeout;

    fetch->conf.connect_timeout = ngx_max(timeout / ngx_max(pc->tries, 1),
                              ngx_min(timeout, NGX_HTTP_BOG_CONNECT_TIMEOUT));

    if (fetch->get_peer == NULL) {
        given = fetch->account->endpoint->addr;

        if (given) {
            pc->sockaddr = given->sockaddr;
            pc->socklen = given->socklen;
            pc->name = &given->name;
            return NGX_OK;
        }

        addr = &fetch->addrs.list[fetch->addrs.first];

        pc->sockaddr = &addr->sockaddr;
        pc->socklen = sizeof(struct sockaddr_in);

#if (NGX_HAVE_INET6)
        if (addr->sockaddr.sa_family == AF_INET6) {
            pc->socklen = sizeof(struct sockaddr_in6);
        }
#endif

        fetch->peer_name.data = fetch->peer_text;
        fetch->peer_name.len = ngx_sock_ntop(pc->sockaddr, pc->socklen,
                                             fetch->peer_text,
                                             NGX_SOCKADDR_STRLEN, 1);
        pc->name = &fetch->peer_name;

        return NGX_OK;
    }

    rc = fetch->get_peer(pc, data);

    if (rc != NGX_DONE || pc->connection == NULL || !u->ssl) {
        return rc;
    }

    /*
     * A TLS connection that an upstream {} has kept may be of another
     * location, and have been verified less.  Nothing would look at it again:
     * it is closed, and the peer connected to anew.
     */

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


/* after a failure, this fetch or the next one goes on with the next address */

static void
ngx_http_bog_peer_free(ngx_peer_connection_t *pc, void *data, ngx_uint_t state)
{
    ngx_http_bog_fetch_t  *fetch;

    fetch = data;

    if (fetch->addrs.n
        && (state || fetch->failure.error == BOG_ERROR_TIMEOUT))
    {
        fetch->addrs.first = (fetch->addrs.first + 1) % fetch->addrs.n;
    }

    pc->tries--;
}

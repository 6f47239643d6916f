
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_compat.h"
#include "ngx_http_bog_fetch.h"


/*
 * The callbacks of nginx's upstream: how the token request is sent, to which
 * server, and what has failed if there is no answer.  nginx calls them for the
 * subrequest that a fetch has made.  The token request must not be copied to
 * memory that a core dump has, and a fetch must not be freed here.
 */


/* milliseconds that a server has at least, within "bog_connect_timeout" */

#define NGX_HTTP_BOG_CONNECT_TIMEOUT  1000

/* level and description of an alert that ends a connection */

#define NGX_HTTP_BOG_TLS_FATAL        (SSL3_AL_FATAL << 8)


static ngx_int_t ngx_http_bog_upstream_create_request(ngx_http_request_t *r);
static ngx_int_t ngx_http_bog_upstream_output_filter(void *data,
    ngx_chain_t *in);
static ngx_int_t ngx_http_bog_upstream_get_address(ngx_peer_connection_t *pc,
    void *data);
static ngx_int_t ngx_http_bog_upstream_get_server(ngx_peer_connection_t *pc,
    void *data);
static void ngx_http_bog_upstream_begin_peer(ngx_http_bog_fetch_t *fetch,
    ngx_peer_connection_t *pc);
static void ngx_http_bog_upstream_free_address(ngx_peer_connection_t *pc,
    void *data, ngx_uint_t state);
static void ngx_http_bog_upstream_finalize_request(ngx_http_request_t *r,
    ngx_int_t rc);
static void ngx_http_bog_upstream_fail(ngx_http_bog_fetch_t *fetch,
    ngx_http_upstream_t *u, ngx_int_t rc);
static void ngx_http_bog_upstream_fail_tls(ngx_http_bog_fetch_t *fetch,
    ngx_http_upstream_t *u, ngx_str_t *peer);
static void ngx_http_bog_upstream_info_callback(
    const ngx_ssl_conn_t *ssl_conn, int where, int ret);
static int ngx_http_bog_upstream_verify_callback(int ok,
    X509_STORE_CTX *store);


void
ngx_http_bog_upstream_start(ngx_http_request_t *r)
{
    ngx_http_upstream_t   *u;
    ngx_http_bog_fetch_t  *fetch;

    fetch = ngx_http_bog_fetch_of(r);

    r->write_event_handler = ngx_http_request_empty_handler;

    if (ngx_http_upstream_create(r) != NGX_OK) {
        fetch->aborted = 1;
        ngx_http_bog_fetch_finish(fetch);
        return;
    }

    u = r->upstream;

    u->conf = &fetch->conf;
    u->ssl = fetch->account->endpoint->ssl;
    u->output.tag = (ngx_buf_tag_t) &ngx_http_bog_module;

    u->create_request = ngx_http_bog_upstream_create_request;
    u->finalize_request = ngx_http_bog_upstream_finalize_request;

    u->output.output_filter = ngx_http_bog_upstream_output_filter;
    u->output.filter_ctx = r;

    /* nginx calls it again before it asks the next server */

    u->reinit_request = ngx_http_bog_answer_init;
    (void) ngx_http_bog_answer_init(r);

    ngx_http_upstream_init(r);
}


static ngx_int_t
ngx_http_bog_upstream_create_request(ngx_http_request_t *r)
{
    ngx_buf_t             *b;
    ngx_str_t             *request;
    ngx_http_upstream_t   *u;
    ngx_http_bog_fetch_t  *fetch;

    fetch = ngx_http_bog_fetch_of(r);
    u = r->upstream;

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    request = &fetch->account->request;

    b->start = request->data;
    b->pos = b->start;
    b->last = b->start + request->len;
    b->memory = 1;
    b->flush = 1;

    u->request_bufs = ngx_alloc_chain_link(r->pool);
    if (u->request_bufs == NULL) {
        return NGX_ERROR;
    }

    u->request_bufs->buf = b;
    u->request_bufs->next = NULL;

    /*
     * nginx would allocate the buffer of the answer in memory of its own, and
     * the lists of header lines, which stay empty.
     */

    b = &u->buffer;

    b->start = fetch->header;
    b->pos = b->start;
    b->last = b->start;
    b->end = b->start + NGX_HTTP_BOG_HEADER_SIZE;
    b->temporary = 1;
    b->tag = u->output.tag;

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_upstream_output_filter(void *data, ngx_chain_t *in)
{
    ngx_int_t              rc;
    ngx_connection_t      *c;
    ngx_http_request_t    *r;
    ngx_http_bog_fetch_t  *fetch;

    r = data;
    c = r->upstream->peer.connection;
    fetch = ngx_http_bog_fetch_of(r);

    fetch->peer_asked = 1;

    /* the life of the token begins when the request is sent */

    if (in) {
        ngx_http_bog_now(&fetch->token.start);
    }

    /* nginx's buffer for TLS would have a copy of the secret */

    if (c->ssl) {
        c->ssl->buffer = 0;
    }

    rc = ngx_chain_writer(&r->upstream->writer, in);

    /* the registers would keep what TLS has encrypted */

    bog_registers_clear();

    return rc;
}


ngx_int_t
ngx_http_bog_upstream_init_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us)
{
    ngx_http_upstream_t   *u;
    ngx_http_bog_fetch_t  *fetch;

    u = r->upstream;
    fetch = ngx_http_bog_fetch_of(r);
    us = fetch->account->endpoint->upstream;

    if (us == NULL) {
        u->peer.data = fetch;
        u->peer.get = ngx_http_bog_upstream_get_address;
        u->peer.free = ngx_http_bog_upstream_free_address;
        u->peer.tries = ngx_max(fetch->addrs.n, 1);

        return NGX_OK;
    }

    if (us->peer.init(r, us) != NGX_OK) {
        return NGX_ERROR;
    }

    fetch->get_peer = u->peer.get;
    u->peer.get = ngx_http_bog_upstream_get_server;

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_upstream_get_address(ngx_peer_connection_t *pc, void *data)
{
    ngx_addr_t            *given;
    ngx_http_bog_addr_t   *addr;
    ngx_http_bog_fetch_t  *fetch;

    fetch = data;
    given = fetch->account->endpoint->addr;

    if (given) {
        pc->sockaddr = given->sockaddr;
        pc->socklen = given->socklen;
        pc->name = &given->name;

        ngx_http_bog_upstream_begin_peer(fetch, pc);

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

    pc->name = ngx_palloc(fetch->request->pool,
                          sizeof(ngx_str_t) + NGX_SOCKADDR_STRLEN);
    if (pc->name == NULL) {
        return NGX_ERROR;
    }

    pc->name->data = (u_char *) pc->name + sizeof(ngx_str_t);
    pc->name->len = ngx_sock_ntop(pc->sockaddr, pc->socklen, pc->name->data,
                                  NGX_SOCKADDR_STRLEN, 1);

    ngx_http_bog_upstream_begin_peer(fetch, pc);

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_upstream_get_server(ngx_peer_connection_t *pc, void *data)
{
    ngx_int_t              rc;
    ngx_connection_t      *c;
    ngx_http_upstream_t   *u;
    ngx_http_bog_fetch_t  *fetch;

    u = (ngx_http_upstream_t *) ((u_char *) pc
                                 - offsetof(ngx_http_upstream_t, peer));
    fetch = ngx_http_bog_fetch_of((ngx_http_request_t *) u->input_filter_ctx);

    rc = fetch->get_peer(pc, data);

    if (rc == NGX_OK || rc == NGX_DONE) {
        ngx_http_bog_upstream_begin_peer(fetch, pc);
    }

    if (rc != NGX_DONE || pc->connection == NULL || !u->ssl) {
        return rc;
    }

    /*
     * The upstream {} has kept a TLS connection.  Another location may have
     * made it, and have verified less of the server, and nginx does not verify
     * it again.  It is closed, and nginx makes a new one to the same server.
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


static void
ngx_http_bog_upstream_begin_peer(ngx_http_bog_fetch_t *fetch,
    ngx_peer_connection_t *pc)
{
    ngx_msec_t  timeout;

    fetch->peer_len = ngx_min(pc->name->len, sizeof(fetch->peer));
    ngx_memcpy(fetch->peer, pc->name->data, fetch->peer_len);

    fetch->peer_began = ngx_current_msec;
    fetch->peer_asked = 0;
    fetch->detail_len = 0;
    fetch->alert = 0;

    /* a server that does not answer leaves time for those after it */

    timeout = fetch->account->upstream.connect_timeout;

    fetch->conf.connect_timeout = ngx_max(timeout / ngx_max(pc->tries, 1),
                              ngx_min(timeout, NGX_HTTP_BOG_CONNECT_TIMEOUT));
}


/* After a failure, this fetch or the next one begins with the next address. */

static void
ngx_http_bog_upstream_free_address(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t state)
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


/*
 * Only here both the end of the upstream and the state of its connection are
 * known.  NGX_DONE: the fetch ends, and the upstream with it.
 */

static void
ngx_http_bog_upstream_finalize_request(ngx_http_request_t *r, ngx_int_t rc)
{
    ngx_http_upstream_t        *u;
    ngx_http_bog_fetch_t       *fetch;
    ngx_http_upstream_local_t  *local;

    u = r->upstream;
    fetch = ngx_http_bog_fetch_of(r);

    if (fetch->failure.error || rc == NGX_DONE) {
        return;
    }

    /*
     * If there is no server after one that has answered, its answer counts.
     * Angie ends with the 404 of ngx_http_bog_answer_first_byte() then.
     */

    if (rc == NGX_OK
        || rc == NGX_HTTP_NOT_FOUND
        || (u->request_sent && u->peer.connection == NULL
            && fetch->answer.status.code))
    {
        fetch->answer.complete = 1;
        return;
    }

    ngx_http_bog_upstream_fail(fetch, u, rc);

    if (rc != NGX_HTTP_INTERNAL_SERVER_ERROR || u->peer.connection) {
        return;
    }

    /* if this worker is not to blame, "bog_bind" has failed */

    local = u->conf->local;

    fetch->aborted = (local == NULL
                      || ngx_cycle->free_connection_n == 0
                      || ngx_http_bog_resolve_test_family(
                                         local->addr->sockaddr->sa_family));
}


static void
ngx_http_bog_upstream_fail(ngx_http_bog_fetch_t *fetch, ngx_http_upstream_t *u,
    ngx_int_t rc)
{
    char              *when;
    ngx_str_t          peer;
    ngx_connection_t  *c;

    c = u->peer.connection;

    peer.len = fetch->peer_len;
    peer.data = fetch->peer;

    if (peer.len == 0) {
        peer = fetch->account->endpoint->authority;
    }

    if (rc == NGX_HTTP_GATEWAY_TIME_OUT) {
        when = fetch->peer_asked ? "to the token request"
                                 : (c && c->ssl) ? "in the TLS handshake"
                                                 : "while connecting";

        ngx_http_bog_fetch_fail(fetch, BOG_ERROR_TIMEOUT,
                                "no answer from %V in %.1f s %s", &peer,
                                ngx_http_bog_seconds(ngx_current_msec
                                                     - fetch->peer_began),
                                when);

    /*
     * In TLS 1.3 a server may reject our certificate after the request was
     * sent.  nginx and OpenSSL take this for an end like any other.
     */

    } else if (c && c->ssl
               && (!fetch->peer_asked
                   || (fetch->alert >= NGX_HTTP_BOG_TLS_FATAL
                       && u->buffer.last == u->buffer.start)))
    {
        ngx_http_bog_upstream_fail_tls(fetch, u, &peer);

    } else if (!fetch->peer_asked) {
        ngx_http_bog_fetch_fail(fetch, BOG_ERROR_CONNECT,
                                "could not connect to %V: %*s", &peer,
                                fetch->detail_len, fetch->detail);

    } else if (u->buffer.last == u->buffer.end) {
        ngx_http_bog_fetch_fail(fetch, BOG_ERROR_TOO_LARGE,
                                "the header of the answer is too large");

    } else {
        ngx_http_bog_fetch_fail(fetch, BOG_ERROR_MALFORMED,
                                "no complete answer from %V: %*s", &peer,
                                fetch->detail_len, fetch->detail);
    }
}


static void
ngx_http_bog_upstream_fail_tls(ngx_http_bog_fetch_t *fetch,
    ngx_http_upstream_t *u, ngx_str_t *peer)
{
    long             error;
    u_char           ch;
    const char      *alert;
    ngx_ssl_conn_t  *ssl_conn;

    ssl_conn = u->peer.connection->ssl->connection;

    error = u->conf->ssl_verify ? SSL_get_verify_result(ssl_conn) : X509_V_OK;

    /* an alert that came after the handshake may be unread */

    if (error == X509_V_OK && fetch->alert == 0
        && SSL_is_init_finished(ssl_conn))
    {
        (void) SSL_peek(ssl_conn, &ch, 1);
        ERR_clear_error();
    }

    if (error != X509_V_OK) {
        ngx_http_bog_fetch_fail(fetch, BOG_ERROR_TLS,
                                "TLS handshake with %V failed: "
                                "%s (error %l at depth %d)", peer,
                                X509_verify_cert_error_string(error), error,
                                fetch->verify_depth);

    } else if (fetch->alert >= NGX_HTTP_BOG_TLS_FATAL) {

        /* SSL_alert_desc_string_long() does not know those of TLS 1.3 */

        alert = ERR_reason_error_string(ERR_PACK(ERR_LIB_SSL, 0,
                              SSL_AD_REASON_OFFSET + (fetch->alert & 0xff)));

        ngx_http_bog_fetch_fail(fetch, BOG_ERROR_TLS,
                                "TLS handshake with %V failed: "
                                "the server sent \"%s\"", peer,
                                alert ? alert : "unknown alert");

    } else {
        ngx_http_bog_fetch_fail(fetch, BOG_ERROR_TLS,
                                "TLS handshake with %V failed: %*s", peer,
                                fetch->detail_len, fetch->detail);
    }
}


void
ngx_http_bog_upstream_watch_tls(ngx_ssl_t *ssl)
{
    /* nginx's own callbacks are of use to servers, and for debugging */

    SSL_CTX_set_info_callback(ssl->ctx, ngx_http_bog_upstream_info_callback);

    SSL_CTX_set_verify(ssl->ctx, SSL_CTX_get_verify_mode(ssl->ctx),
                       ngx_http_bog_upstream_verify_callback);
}


static void
ngx_http_bog_upstream_info_callback(const ngx_ssl_conn_t *ssl_conn, int where,
    int ret)
{
    ngx_connection_t      *c;
    ngx_http_bog_fetch_t  *fetch;

    if (where == SSL_CB_READ_ALERT) {
        c = ngx_ssl_get_connection((ngx_ssl_conn_t *) ssl_conn);
        fetch = (ngx_http_bog_fetch_t *) c->log->data;
        fetch->alert = ret;
    }
}


/* The first error ends the verification, and nginx the connection. */

static int
ngx_http_bog_upstream_verify_callback(int ok, X509_STORE_CTX *store)
{
    ngx_connection_t      *c;
    ngx_ssl_conn_t        *ssl_conn;
    ngx_http_bog_fetch_t  *fetch;

    if (!ok) {
        ssl_conn = X509_STORE_CTX_get_ex_data(store,
                                       SSL_get_ex_data_X509_STORE_CTX_idx());
        c = ngx_ssl_get_connection(ssl_conn);
        fetch = (ngx_http_bog_fetch_t *) c->log->data;
        fetch->verify_depth = X509_STORE_CTX_get_error_depth(store);
    }

    return ok;
}

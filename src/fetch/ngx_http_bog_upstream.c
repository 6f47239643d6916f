
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_answer.h"
#include "ngx_http_bog_compat.h"
#include "ngx_http_bog_header.h"
#include "ngx_http_bog_tls.h"
#include "ngx_http_bog_upstream.h"


static ngx_int_t ngx_http_bog_upstream_create_request(ngx_http_request_t *r);
static ngx_int_t ngx_http_bog_upstream_reinit_request(ngx_http_request_t *r);
static ngx_int_t ngx_http_bog_upstream_output_filter(void *data,
    ngx_chain_t *in);
static ngx_int_t ngx_http_bog_upstream_status_line(ngx_http_request_t *r);
static ngx_int_t ngx_http_bog_upstream_header(ngx_http_request_t *r);
static ngx_int_t ngx_http_bog_upstream_header_done(ngx_http_request_t *r,
    ngx_http_bog_fetch_t *fetch);
static ngx_int_t ngx_http_bog_upstream_first_byte(ngx_http_request_t *r);
static ngx_int_t ngx_http_bog_upstream_filter_init(void *data);
static ngx_int_t ngx_http_bog_upstream_filter(void *data, ssize_t bytes);
static ngx_int_t ngx_http_bog_upstream_chunked_filter(void *data,
    ssize_t bytes);
static ngx_int_t ngx_http_bog_upstream_add(ngx_http_bog_fetch_t *fetch,
    u_char *p, size_t len);
static void ngx_http_bog_upstream_abort_request(ngx_http_request_t *r);
static void ngx_http_bog_upstream_finalize_request(ngx_http_request_t *r,
    ngx_int_t rc);
static bog_error_e ngx_http_bog_upstream_error(ngx_http_upstream_t *u,
    ngx_int_t rc);


ngx_int_t
ngx_http_bog_upstream_start(ngx_http_request_t *r, ngx_http_bog_fetch_t *fetch)
{
    ngx_http_upstream_t      *u;
    ngx_http_bog_account_t   *account;

    if (ngx_http_upstream_create(r) != NGX_OK) {
        return NGX_ERROR;
    }

    account = fetch->account;
    u = r->upstream;

    u->conf = &fetch->conf;
    u->output.tag = (ngx_buf_tag_t) &ngx_http_bog_module;
    u->buffering = 0;

    if (account->endpoint->ssl) {
        u->ssl = 1;
        ngx_str_set(&u->schema, "https://");

    } else {
        ngx_str_set(&u->schema, "http://");
    }

    u->uri = account->endpoint->uri;

    u->create_request = ngx_http_bog_upstream_create_request;
    u->reinit_request = ngx_http_bog_upstream_reinit_request;
    u->process_header = ngx_http_bog_upstream_status_line;
    u->abort_request = ngx_http_bog_upstream_abort_request;
    u->finalize_request = ngx_http_bog_upstream_finalize_request;

    u->input_filter_init = ngx_http_bog_upstream_filter_init;
    u->input_filter = ngx_http_bog_upstream_filter;
    u->input_filter_ctx = r;

    u->output.output_filter = ngx_http_bog_upstream_output_filter;
    u->output.filter_ctx = r;

    ngx_http_upstream_init(r);

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_upstream_create_request(ngx_http_request_t *r)
{
    ngx_buf_t             *b;
    ngx_str_t             *request;
    ngx_chain_t           *cl;
    ngx_http_upstream_t   *u;
    ngx_http_bog_fetch_t  *fetch;

    fetch = ngx_http_bog_fetch_of(r);
    u = r->upstream;

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    cl = ngx_alloc_chain_link(r->pool);
    if (cl == NULL) {
        return NGX_ERROR;
    }

    request = &fetch->account->request;

    b->start = request->data;
    b->pos = b->start;
    b->last = b->start + request->len;
    b->end = b->last;
    b->memory = 1;
    b->flush = 1;

    cl->buf = b;
    cl->next = NULL;

    u->request_bufs = cl;

    /* the answer's buffer too is made here, to be outside of core dumps */

    b = &u->buffer;

    b->start = fetch->memory;
    b->pos = b->start;
    b->last = b->start;
    b->end = b->start + NGX_HTTP_BOG_HEADER_SIZE;
    b->temporary = 1;
    b->tag = u->output.tag;

    if (ngx_list_init(&u->headers_in.headers, r->pool, 1,
                      sizeof(ngx_table_elt_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_list_init(&u->headers_in.trailers, r->pool, 1,
                         sizeof(ngx_table_elt_t));
}


static ngx_int_t
ngx_http_bog_upstream_reinit_request(ngx_http_request_t *r)
{
    ngx_http_upstream_t  *u;

    u = r->upstream;

    u->process_header = ngx_http_bog_upstream_status_line;
    u->input_filter = ngx_http_bog_upstream_filter;

    r->state = 0;

    ngx_http_bog_answer_init(ngx_http_bog_fetch_of(r));

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_upstream_output_filter(void *data, ngx_chain_t *in)
{
    ngx_int_t            rc;
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = data;
    c = r->upstream->peer.connection;

    if (in) {
        ngx_http_bog_now(&ngx_http_bog_fetch_of(r)->sent);
    }

    /* the buffer that nginx puts before TLS would have a copy of the secret */

    if (c->ssl) {
        c->ssl->buffer = 0;
    }

    rc = ngx_chain_writer(&r->upstream->writer, in);

    /* nor do the registers keep what TLS has encrypted */

    bog_registers_clear();

    return rc;
}


static ngx_int_t
ngx_http_bog_upstream_status_line(ngx_http_request_t *r)
{
    ngx_int_t               rc;
    ngx_http_upstream_t    *u;
    ngx_http_bog_fetch_t   *fetch;
    ngx_http_bog_answer_t  *answer;

    u = r->upstream;
    fetch = ngx_http_bog_fetch_of(r);
    answer = &fetch->answer;

    rc = ngx_http_parse_status_line(r, &u->buffer, &answer->status);

    if (rc == NGX_AGAIN) {
        return rc;
    }

    if (rc == NGX_ERROR) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "token endpoint sent no valid HTTP/1.x header");

        /* a frame of settings, for stream 0, comes first in HTTP/2 */

        if (ngx_memcmp(u->buffer.start + 3, "\4\0\0\0\0\0", 6) == 0) {
            fetch->fault = "the server speaks HTTP/2 only";
        }

        return NGX_HTTP_UPSTREAM_INVALID_HEADER;
    }

    /* nor is a connection left that shows our certificate to others */

    if (u->ssl || answer->status.http_version < NGX_HTTP_VERSION_11) {
        answer->close = 1;
    }

    r->state = 0;
    u->process_header = ngx_http_bog_upstream_header;

    return ngx_http_bog_upstream_header(r);
}


static ngx_int_t
ngx_http_bog_upstream_header(ngx_http_request_t *r)
{
    ngx_int_t              rc;
    ngx_http_bog_fetch_t  *fetch;

    fetch = ngx_http_bog_fetch_of(r);

    for ( ;; ) {

        rc = ngx_http_parse_header_line(r, &r->upstream->buffer, 1);

        if (rc == NGX_AGAIN) {
            return rc;
        }

        if (rc == NGX_HTTP_PARSE_HEADER_DONE) {
            return ngx_http_bog_upstream_header_done(r, fetch);
        }

        if (rc != NGX_OK
            || ngx_http_bog_header_read(r, &fetch->answer) != NGX_OK)
        {
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                          "token endpoint sent invalid header");
            return NGX_HTTP_UPSTREAM_INVALID_HEADER;
        }
    }
}


static ngx_int_t
ngx_http_bog_upstream_header_done(ngx_http_request_t *r,
    ngx_http_bog_fetch_t *fetch)
{
    ngx_uint_t              status;
    ngx_http_upstream_t    *u;
    ngx_http_bog_answer_t  *answer;

    u = r->upstream;
    answer = &fetch->answer;
    status = answer->status.code;

    if (status < NGX_HTTP_CONTINUE) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "token endpoint sent invalid status %ui", status);
        return NGX_HTTP_UPSTREAM_INVALID_HEADER;
    }

    if (status < NGX_HTTP_OK && status != NGX_HTTP_SWITCHING_PROTOCOLS) {

        /* an interim answer, the real one follows (RFC 9110, 15.2) */

        (void) ngx_http_bog_upstream_reinit_request(r);

        return ngx_http_bog_upstream_status_line(r);
    }

    if (answer->has_length && answer->is_chunked) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "token endpoint sent both \"Content-Length\" and "
                      "\"Transfer-Encoding\"");
        return NGX_HTTP_UPSTREAM_INVALID_HEADER;
    }

    if (answer->encoded) {
        fetch->failure.error = BOG_ERROR_MALFORMED;
        fetch->fault = "the answer has a \"Content-Encoding\"";
        return NGX_HTTP_UPSTREAM_INVALID_HEADER;
    }

    if (answer->length > BOG_OAUTH_ANSWER_MAX) {
        fetch->failure.error = BOG_ERROR_TOO_LARGE;
        return NGX_HTTP_UPSTREAM_INVALID_HEADER;
    }

    if (status == NGX_HTTP_SWITCHING_PROTOCOLS
        || status == NGX_HTTP_NO_CONTENT
        || status == NGX_HTTP_NOT_MODIFIED)
    {
        answer->is_chunked = 0;
        answer->length = 0;
    }

    u->headers_in.content_length_n = answer->length;
    u->process_header = ngx_http_bog_upstream_first_byte;

    return ngx_http_bog_upstream_first_byte(r);
}


/*
 * To nginx, all that cannot be the word of a token endpoint is "404 Not Found":
 * it goes on to the next server then, and does not take this one for dead.
 * fetch->answer has the real status.
 */

static ngx_int_t
ngx_http_bog_upstream_first_byte(ngx_http_request_t *r)
{
    ngx_int_t               rc;
    ngx_buf_t               b;
    ngx_uint_t              status;
    ngx_http_chunked_t      chunked;
    ngx_http_upstream_t    *u;
    ngx_http_bog_answer_t  *answer;

    u = r->upstream;
    answer = &ngx_http_bog_fetch_of(r)->answer;
    status = answer->status.code;

    u->headers_in.status_n = NGX_HTTP_NOT_FOUND;

    if (status == NGX_HTTP_TOO_MANY_REQUESTS
        || status >= NGX_HTTP_INTERNAL_SERVER_ERROR
        || answer->length == 0)
    {
        return NGX_OK;
    }

    b = u->buffer;

    if (answer->is_chunked) {
        ngx_memzero(&chunked, sizeof(ngx_http_chunked_t));

        rc = ngx_http_bog_parse_chunked(r, &b, &chunked);

        if (rc != NGX_OK && rc != NGX_AGAIN) {
            return NGX_OK;
        }
    }

    if (b.pos == b.last) {
        return NGX_AGAIN;
    }

    while (b.pos < b.last && ngx_strchr(" \t\r\n", *b.pos)) {
        b.pos++;
    }

    if (b.pos == b.last || *b.pos == '{') {
        u->headers_in.status_n = NGX_HTTP_OK;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_upstream_filter_init(void *data)
{
    ngx_http_request_t     *r;
    ngx_http_upstream_t    *u;
    ngx_http_bog_answer_t  *answer;

    r = data;
    u = r->upstream;
    answer = &ngx_http_bog_fetch_of(r)->answer;

    if (answer->is_chunked) {
        u->input_filter = ngx_http_bog_upstream_chunked_filter;
        u->length = 1;

    } else {
        u->length = answer->length;
    }

    if (u->length == 0) {
        u->keepalive = !answer->close;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_upstream_filter(void *data, ssize_t bytes)
{
    u_char                *p;
    ngx_http_request_t    *r;
    ngx_http_upstream_t   *u;
    ngx_http_bog_fetch_t  *fetch;

    r = data;
    u = r->upstream;
    fetch = ngx_http_bog_fetch_of(r);

    p = u->buffer.last;
    u->buffer.last += bytes;

    if (u->length != -1) {

        if (bytes > u->length) {
            ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                          "token endpoint sent more data than specified in "
                          "\"Content-Length\" header");

            bytes = (ssize_t) u->length;
            fetch->answer.close = 1;
        }

        u->length -= bytes;

        if (u->length == 0) {
            u->keepalive = !fetch->answer.close;
        }
    }

    return ngx_http_bog_upstream_add(fetch, p, bytes);
}


static ngx_int_t
ngx_http_bog_upstream_chunked_filter(void *data, ssize_t bytes)
{
    size_t                 size;
    ngx_int_t              rc;
    ngx_buf_t              b;
    ngx_http_request_t    *r;
    ngx_http_upstream_t   *u;
    ngx_http_bog_fetch_t  *fetch;

    r = data;
    u = r->upstream;
    fetch = ngx_http_bog_fetch_of(r);

    ngx_memzero(&b, sizeof(ngx_buf_t));

    b.pos = u->buffer.last;
    b.last = b.pos + bytes;

    u->buffer.last = b.last;

    for ( ;; ) {

        rc = ngx_http_bog_parse_chunked(r, &b, &fetch->answer.chunked);

        if (rc == NGX_OK) {

            size = (size_t) ngx_min((off_t) (b.last - b.pos),
                                    fetch->answer.chunked.size);

            if (ngx_http_bog_upstream_add(fetch, b.pos, size) != NGX_OK) {
                return NGX_ERROR;
            }

            b.pos += size;
            fetch->answer.chunked.size -= size;

            continue;
        }

        if (rc == NGX_DONE) {
            u->length = 0;
            u->keepalive = (!fetch->answer.close && b.pos == b.last);
            return NGX_OK;
        }

        if (rc == NGX_AGAIN) {
            return NGX_OK;
        }

        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "token endpoint sent invalid chunked response");

        fetch->failure.error = BOG_ERROR_MALFORMED;

        return NGX_ERROR;
    }
}


static ngx_int_t
ngx_http_bog_upstream_add(ngx_http_bog_fetch_t *fetch, u_char *p, size_t len)
{
    ngx_http_bog_answer_t  *answer;

    answer = &fetch->answer;

    if (len > BOG_OAUTH_ANSWER_MAX - answer->body_len) {
        fetch->failure.error = BOG_ERROR_TOO_LARGE;
        return NGX_ERROR;
    }

    ngx_memcpy(answer->body + answer->body_len, p, len);
    answer->body_len += len;

    return NGX_OK;
}


static void
ngx_http_bog_upstream_abort_request(ngx_http_request_t *r)
{
    /* void */
}


/* the only place that sees both how it ended and how far it came */

static void
ngx_http_bog_upstream_finalize_request(ngx_http_request_t *r, ngx_int_t rc)
{
    ngx_socket_t           s;
    ngx_http_upstream_t   *u;
    ngx_http_bog_fetch_t  *fetch;

    u = r->upstream;
    fetch = ngx_http_bog_fetch_of(r);

    /*
     * The body went past nginx's buffer for subrequests, which would find it
     * too small.
     */

    r->headers_out.content_length_n = 0;

    if (fetch->failure.error || rc == NGX_DONE) {
        return;
    }

    if (rc == NGX_OK) {
        fetch->answer.complete = 1;
        return;
    }

    /* after an answer nobody was left to be asked: it is what there is */

    if (u->request_sent && u->peer.connection == NULL
        && fetch->answer.status.code)
    {
        fetch->answer.complete = 1;
        return;
    }

    fetch->failure.error = ngx_http_bog_upstream_error(u, rc);

    if (rc != NGX_HTTP_INTERNAL_SERVER_ERROR || u->peer.connection) {
        return;
    }

    /* where a socket can be made, it is "bog_bind" that has failed */

    fetch->local = 1;

    if (u->conf->local && ngx_cycle->free_connection_n) {
        s = ngx_socket(u->conf->local->addr->sockaddr->sa_family,
                       SOCK_STREAM, 0);

        if (s != (ngx_socket_t) -1) {
            (void) ngx_close_socket(s);
            fetch->local = 0;
        }
    }
}


static bog_error_e
ngx_http_bog_upstream_error(ngx_http_upstream_t *u, ngx_int_t rc)
{
    ngx_uint_t         alert;
    ngx_connection_t  *c;

    if (rc == NGX_HTTP_GATEWAY_TIME_OUT) {
        return BOG_ERROR_TIMEOUT;
    }

    c = u->peer.connection;
    alert = ngx_http_bog_tls_alert(c);

    /* in TLS 1.3 our certificate is judged when all has been sent */

    if (c && c->ssl
        && (!u->request_sent
            || (alert >= NGX_HTTP_BOG_TLS_FATAL
                && u->buffer.last == u->buffer.start)))
    {
        return BOG_ERROR_TLS;
    }

    if (!u->request_sent) {
        return BOG_ERROR_CONNECT;
    }

    return (u->buffer.last == u->buffer.end) ? BOG_ERROR_TOO_LARGE
                                             : BOG_ERROR_MALFORMED;
}


/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_compat.h"
#include "ngx_http_bog_fetch.h"


/*
 * Reads the HTTP of an answer: the status line, the few header lines that
 * matter, and the body, which is copied to the memory of the fetch.  nginx's
 * upstream calls this as bytes come.  What the body says is not known here,
 * and no byte of it may reach a filter of nginx or of another module.
 */


#define NGX_HTTP_BOG_RETRY_MAX  86400   /* seconds */


static ngx_int_t ngx_http_bog_answer_status_line(ngx_http_request_t *r);
static ngx_int_t ngx_http_bog_answer_header(ngx_http_request_t *r);
static ngx_int_t ngx_http_bog_answer_header_line(ngx_http_request_t *r,
    ngx_http_bog_answer_t *answer);
static ngx_uint_t ngx_http_bog_answer_equal(ngx_str_t *value, char *text);
static ngx_int_t ngx_http_bog_answer_seconds(ngx_str_t *value);
static ngx_int_t ngx_http_bog_answer_header_done(ngx_http_request_t *r,
    ngx_http_bog_fetch_t *fetch);
static ngx_int_t ngx_http_bog_answer_first_byte(ngx_http_request_t *r);
static ngx_int_t ngx_http_bog_answer_filter_init(void *data);
static ngx_int_t ngx_http_bog_answer_filter(void *data, ssize_t bytes);
static ngx_int_t ngx_http_bog_answer_chunked_filter(ngx_http_request_t *r,
    u_char *p, u_char *last);
static ngx_int_t ngx_http_bog_answer_add(ngx_http_bog_fetch_t *fetch,
    u_char *p, size_t len);


ngx_int_t
ngx_http_bog_answer_init(ngx_http_request_t *r)
{
    ngx_http_upstream_t   *u;
    ngx_http_bog_fetch_t  *fetch;

    u = r->upstream;
    fetch = ngx_http_bog_fetch_of(r);

    ngx_memzero(&fetch->answer, sizeof(ngx_http_bog_answer_t));

    fetch->answer.length = -1;
    fetch->answer.date = -1;
    fetch->answer.retry_date = -1;
    fetch->answer.retry_delay = -1;

    /* a fetch that has timed out in this event keeps that failure */

    if (!fetch->done.posted) {
        fetch->failure.error = BOG_ERROR_NONE;
        fetch->failure.retry_after = -1;
    }

    r->state = 0;

    u->process_header = ngx_http_bog_answer_status_line;
    u->input_filter_init = ngx_http_bog_answer_filter_init;
    u->input_filter = ngx_http_bog_answer_filter;
    u->input_filter_ctx = r;

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_answer_status_line(ngx_http_request_t *r)
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
        ngx_http_bog_fetch_fail(fetch, BOG_ERROR_MALFORMED,
                                "the answer has no valid HTTP/1.x header");

        /* HTTP/2 begins with a SETTINGS frame for stream 0 */

        if (ngx_memcmp(u->buffer.start + 3, "\4\0\0\0\0\0", 6) == 0) {
            ngx_http_bog_fetch_fail(fetch, BOG_ERROR_MALFORMED,
                                    "the server speaks HTTP/2 only");
        }

        return NGX_HTTP_UPSTREAM_INVALID_HEADER;
    }

    /* nobody else may use a connection that has shown our certificate */

    if (u->ssl || answer->status.http_version < NGX_HTTP_VERSION_11) {
        answer->close = 1;
    }

    r->state = 0;
    u->process_header = ngx_http_bog_answer_header;

    return ngx_http_bog_answer_header(r);
}


static ngx_int_t
ngx_http_bog_answer_header(ngx_http_request_t *r)
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
            return ngx_http_bog_answer_header_done(r, fetch);
        }

        if (rc != NGX_OK
            || ngx_http_bog_answer_header_line(r, &fetch->answer) != NGX_OK)
        {
            ngx_http_bog_fetch_fail(fetch, BOG_ERROR_MALFORMED,
                                    "the answer has an invalid header line");
            return NGX_HTTP_UPSTREAM_INVALID_HEADER;
        }
    }
}


/* Returns NGX_ERROR for a line that makes the whole answer invalid. */

static ngx_int_t
ngx_http_bog_answer_header_line(ngx_http_request_t *r,
    ngx_http_bog_answer_t *answer)
{
    ngx_str_t  name, value;

    name.data = r->header_name_start;
    name.len = r->header_name_end - r->header_name_start;

    value.data = r->header_start;
    value.len = r->header_end - r->header_start;

    if (ngx_http_bog_answer_equal(&name, "Content-Length")) {

        if (answer->length != -1) {
            return NGX_ERROR;
        }

        answer->length = ngx_atoof(value.data, value.len);

        if (answer->length == NGX_ERROR) {
            return NGX_ERROR;
        }

    } else if (ngx_http_bog_answer_equal(&name, "Transfer-Encoding")) {

        if (answer->is_chunked
            || !ngx_http_bog_answer_equal(&value, "chunked"))
        {
            return NGX_ERROR;
        }

        answer->is_chunked = 1;

    } else if (ngx_http_bog_answer_equal(&name, "Content-Encoding")) {

        /* the request wants "identity" (RFC 9110, 12.5.3) */

        answer->encoded = !ngx_http_bog_answer_equal(&value, "identity");

    } else if (ngx_http_bog_answer_equal(&name, "Connection")) {

        if (ngx_strlcasestrn(value.data, value.data + value.len,
                             (u_char *) "close", 5 - 1)
            != NULL)
        {
            answer->close = 1;
        }

    } else if (ngx_http_bog_answer_equal(&name, "Date")) {

        /* NGX_ERROR: the line counts as none */

        answer->date = ngx_parse_http_time(value.data, value.len);

    } else if (ngx_http_bog_answer_equal(&name, "Retry-After")) {

        answer->retry_delay = ngx_http_bog_answer_seconds(&value);

        if (answer->retry_delay == NGX_ERROR) {
            answer->retry_date = ngx_parse_http_time(value.data, value.len);
        }
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_http_bog_answer_equal(ngx_str_t *value, char *text)
{
    return value->len == ngx_strlen(text)
           && ngx_strncasecmp(value->data, (u_char *) text, value->len) == 0;
}


/* Returns the number, a day at most, or NGX_ERROR if it is none. */

static ngx_int_t
ngx_http_bog_answer_seconds(ngx_str_t *value)
{
    size_t     i;
    ngx_int_t  seconds;

    if (value->len == 0) {
        return NGX_ERROR;
    }

    seconds = 0;

    for (i = 0; i < value->len; i++) {

        if (value->data[i] < '0' || value->data[i] > '9') {
            return NGX_ERROR;
        }

        seconds = seconds * 10 + (value->data[i] - '0');
        seconds = ngx_min(seconds, NGX_HTTP_BOG_RETRY_MAX);
    }

    return seconds;
}


static ngx_int_t
ngx_http_bog_answer_header_done(ngx_http_request_t *r,
    ngx_http_bog_fetch_t *fetch)
{
    ngx_uint_t              status;
    ngx_http_upstream_t    *u;
    ngx_http_bog_answer_t  *answer;

    u = r->upstream;
    answer = &fetch->answer;
    status = answer->status.code;

    if (status < NGX_HTTP_CONTINUE) {
        ngx_http_bog_fetch_fail(fetch, BOG_ERROR_MALFORMED,
                                "the answer has the invalid status %ui",
                                status);
        return NGX_HTTP_UPSTREAM_INVALID_HEADER;
    }

    if (status < NGX_HTTP_OK && status != NGX_HTTP_SWITCHING_PROTOCOLS) {

        /* an interim answer, the final one follows (RFC 9110, 15.2) */

        (void) ngx_http_bog_answer_init(r);

        return ngx_http_bog_answer_status_line(r);
    }

    if (answer->length != -1 && answer->is_chunked) {
        ngx_http_bog_fetch_fail(fetch, BOG_ERROR_MALFORMED,
                                "the answer has both \"Content-Length\" and "
                                "\"Transfer-Encoding\"");
        return NGX_HTTP_UPSTREAM_INVALID_HEADER;
    }

    if (answer->encoded) {
        ngx_http_bog_fetch_fail(fetch, BOG_ERROR_MALFORMED,
                                "the answer has a \"Content-Encoding\"");
        return NGX_HTTP_UPSTREAM_INVALID_HEADER;
    }

    if (answer->length > BOG_OAUTH_ANSWER_MAX) {
        ngx_http_bog_fetch_fail(fetch, BOG_ERROR_TOO_LARGE,
                                "the answer is too large");
        return NGX_HTTP_UPSTREAM_INVALID_HEADER;
    }

    if (status == NGX_HTTP_SWITCHING_PROTOCOLS
        || status == NGX_HTTP_NO_CONTENT
        || status == NGX_HTTP_NOT_MODIFIED)
    {
        answer->is_chunked = 0;
        answer->length = 0;
    }

    /* nginx itself gets no body, see ngx_http_bog_answer_filter() */

    u->headers_in.content_length_n = 0;
    u->process_header = ngx_http_bog_answer_first_byte;

    return ngx_http_bog_answer_first_byte(r);
}


/*
 * Tells nginx that the status is 404 if the answer cannot come from a token
 * endpoint.  nginx goes on to the next server then, if there is one, and does
 * not take this one for dead.  The real status stays in fetch->answer.
 */

static ngx_int_t
ngx_http_bog_answer_first_byte(ngx_http_request_t *r)
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


/* u->length is what is still to come; 0 ends the answer, -1 is unknown. */

static ngx_int_t
ngx_http_bog_answer_filter_init(void *data)
{
    ngx_http_request_t     *r;
    ngx_http_upstream_t    *u;
    ngx_http_bog_answer_t  *answer;

    r = data;
    u = r->upstream;
    answer = &ngx_http_bog_fetch_of(r)->answer;

    u->length = answer->is_chunked ? 1 : answer->length;
    u->keepalive = (u->length == 0 && !answer->close);

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_answer_filter(void *data, ssize_t bytes)
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

    if (fetch->answer.is_chunked) {
        return ngx_http_bog_answer_chunked_filter(r, p, u->buffer.last);
    }

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

    return ngx_http_bog_answer_add(fetch, p, bytes);
}


static ngx_int_t
ngx_http_bog_answer_chunked_filter(ngx_http_request_t *r, u_char *p,
    u_char *last)
{
    size_t                 size;
    ngx_int_t              rc;
    ngx_buf_t              b;
    ngx_http_upstream_t   *u;
    ngx_http_bog_fetch_t  *fetch;
    ngx_http_chunked_t    *chunked;

    u = r->upstream;
    fetch = ngx_http_bog_fetch_of(r);
    chunked = &fetch->answer.chunked;

    ngx_memzero(&b, sizeof(ngx_buf_t));

    b.pos = p;
    b.last = last;

    for ( ;; ) {

        rc = ngx_http_bog_parse_chunked(r, &b, chunked);

        if (rc != NGX_OK) {
            break;
        }

        size = (size_t) ngx_min((off_t) (b.last - b.pos), chunked->size);

        if (ngx_http_bog_answer_add(fetch, b.pos, size) != NGX_OK) {
            return NGX_ERROR;
        }

        b.pos += size;
        chunked->size -= size;
    }

    if (rc == NGX_AGAIN) {
        return NGX_OK;
    }

    if (rc == NGX_DONE) {
        u->length = 0;
        u->keepalive = (!fetch->answer.close && b.pos == b.last);

        return NGX_OK;
    }

    ngx_http_bog_fetch_fail(fetch, BOG_ERROR_MALFORMED,
                            "the answer has an invalid chunk");

    return NGX_ERROR;
}


static ngx_int_t
ngx_http_bog_answer_add(ngx_http_bog_fetch_t *fetch, u_char *p, size_t len)
{
    ngx_http_bog_answer_t  *answer;

    answer = &fetch->answer;

    if (len > BOG_OAUTH_ANSWER_MAX - answer->body_len) {
        ngx_http_bog_fetch_fail(fetch, BOG_ERROR_TOO_LARGE,
                                "the answer is too large");
        return NGX_ERROR;
    }

    ngx_memcpy(fetch->body + answer->body_len, p, len);
    answer->body_len += len;

    return NGX_OK;
}


/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_header.h"


#define NGX_HTTP_BOG_RETRY_MAX  86400   /* seconds */


typedef ngx_int_t (*ngx_http_bog_header_pt)(ngx_http_bog_answer_t *answer,
    ngx_str_t *value);

typedef struct {
    ngx_str_t               name;
    ngx_http_bog_header_pt  handler;
} ngx_http_bog_header_t;


static ngx_int_t ngx_http_bog_header_length(ngx_http_bog_answer_t *answer,
    ngx_str_t *value);
static ngx_int_t ngx_http_bog_header_transfer(ngx_http_bog_answer_t *answer,
    ngx_str_t *value);
static ngx_int_t ngx_http_bog_header_encoding(ngx_http_bog_answer_t *answer,
    ngx_str_t *value);
static ngx_int_t ngx_http_bog_header_connection(ngx_http_bog_answer_t *answer,
    ngx_str_t *value);
static ngx_int_t ngx_http_bog_header_date(ngx_http_bog_answer_t *answer,
    ngx_str_t *value);
static ngx_int_t ngx_http_bog_header_retry_after(
    ngx_http_bog_answer_t *answer, ngx_str_t *value);
static ngx_int_t ngx_http_bog_header_seconds(ngx_str_t *value);


static ngx_http_bog_header_t  ngx_http_bog_headers[] = {
    { ngx_string("Content-Length"), ngx_http_bog_header_length },
    { ngx_string("Transfer-Encoding"), ngx_http_bog_header_transfer },
    { ngx_string("Content-Encoding"), ngx_http_bog_header_encoding },
    { ngx_string("Connection"), ngx_http_bog_header_connection },
    { ngx_string("Date"), ngx_http_bog_header_date },
    { ngx_string("Retry-After"), ngx_http_bog_header_retry_after },
    { ngx_null_string, NULL }
};


ngx_int_t
ngx_http_bog_header_read(ngx_http_request_t *r, ngx_http_bog_answer_t *answer)
{
    ngx_str_t               name, value;
    ngx_http_bog_header_t  *header;

    name.data = r->header_name_start;
    name.len = r->header_name_end - r->header_name_start;

    value.data = r->header_start;
    value.len = r->header_end - r->header_start;

    for (header = ngx_http_bog_headers; header->handler; header++) {

        if (header->name.len == name.len
            && ngx_strncasecmp(header->name.data, name.data, name.len) == 0)
        {
            return header->handler(answer, &value);
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_header_length(ngx_http_bog_answer_t *answer, ngx_str_t *value)
{
    if (answer->has_length) {
        return NGX_ERROR;
    }

    answer->has_length = 1;
    answer->length = ngx_atoof(value->data, value->len);

    return (answer->length == NGX_ERROR) ? NGX_ERROR : NGX_OK;
}


static ngx_int_t
ngx_http_bog_header_transfer(ngx_http_bog_answer_t *answer, ngx_str_t *value)
{
    if (answer->is_chunked
        || value->len != 7
        || ngx_strncasecmp(value->data, (u_char *) "chunked", 7) != 0)
    {
        return NGX_ERROR;
    }

    answer->is_chunked = 1;

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_header_encoding(ngx_http_bog_answer_t *answer, ngx_str_t *value)
{
    /* the request wants "identity" (RFC 9110, 12.5.3) */

    answer->encoded = (value->len != 8
                       || ngx_strncasecmp(value->data, (u_char *) "identity",
                                          8)
                          != 0);

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_header_connection(ngx_http_bog_answer_t *answer,
    ngx_str_t *value)
{
    if (ngx_strlcasestrn(value->data, value->data + value->len,
                         (u_char *) "close", 5 - 1)
        != NULL)
    {
        answer->close = 1;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_header_date(ngx_http_bog_answer_t *answer, ngx_str_t *value)
{
    /* NGX_ERROR, for one that is no date, is as good as none */

    answer->date = ngx_parse_http_time(value->data, value->len);

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_header_retry_after(ngx_http_bog_answer_t *answer,
    ngx_str_t *value)
{
    answer->retry_delay = ngx_http_bog_header_seconds(value);

    if (answer->retry_delay == NGX_ERROR) {
        answer->retry_after = ngx_parse_http_time(value->data, value->len);
    }

    return NGX_OK;
}


/* a number of any length is one, and a day is as long as any of them */

static ngx_int_t
ngx_http_bog_header_seconds(ngx_str_t *value)
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


/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_error.h"


typedef struct {
    char  *name;
    char  *reason;
} ngx_http_bog_error_t;


/* by bog_error_e */

static ngx_http_bog_error_t  ngx_http_bog_errors[] = {
    { "", "" },
    { "resolve", "the name could not be resolved" },
    { "connect", "could not connect" },
    { "tls", "TLS handshake failed" },
    { "timeout", "timed out" },
    { "http_", "unexpected status" },
    { "rejected", "the credentials were rejected" },
    { "malformed", "the answer is not valid HTTP or ended early" },
    { "too_large", "the answer is too large" }
};


u_char *
ngx_http_bog_error_class(u_char *dst, uint32_t error, uint32_t status)
{
    dst = ngx_sprintf(dst, "%s", ngx_http_bog_errors[error].name);

    if (error == BOG_ERROR_HTTP) {
        dst = ngx_sprintf(dst, "%uD", status);
    }

    return dst;
}


char *
ngx_http_bog_error_reason(uint32_t error)
{
    return ngx_http_bog_errors[error].reason;
}

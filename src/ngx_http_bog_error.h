
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_ERROR_H_INCLUDED_
#define _NGX_HTTP_BOG_ERROR_H_INCLUDED_


#include "ngx_http_bog_module.h"


/* What people are told of a failed fetch, its error being a bog_error_e. */


#define NGX_HTTP_BOG_CLASS_LEN  (sizeof("malformed") - 1 + NGX_INT32_LEN)


/*
 * Writes the class, that of HTTP with its status, of up to
 * NGX_HTTP_BOG_CLASS_LEN bytes, to dst.  Returns its end.
 */
u_char *ngx_http_bog_error_class(u_char *dst, uint32_t error,
    uint32_t status);

/* Returns the reason in words. */
char *ngx_http_bog_error_reason(uint32_t error);


#endif /* _NGX_HTTP_BOG_ERROR_H_INCLUDED_ */

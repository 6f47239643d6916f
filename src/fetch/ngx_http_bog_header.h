
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_HEADER_H_INCLUDED_
#define _NGX_HTTP_BOG_HEADER_H_INCLUDED_


#include "ngx_http_bog_fetch.h"


/*
 * Takes what is needed of the header line that nginx has just parsed.  Returns
 * NGX_ERROR for a line that makes the whole answer invalid.
 */
ngx_int_t ngx_http_bog_header_read(ngx_http_request_t *r,
    ngx_http_bog_answer_t *answer);


#endif /* _NGX_HTTP_BOG_HEADER_H_INCLUDED_ */

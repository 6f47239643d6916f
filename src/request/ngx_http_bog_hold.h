
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_HOLD_H_INCLUDED_
#define _NGX_HTTP_BOG_HOLD_H_INCLUDED_


#include "ngx_http_bog_core.h"


/*
 * The PRECONTENT handler: lets a request pass that has a token or needs none,
 * and holds the others.
 */
ngx_int_t ngx_http_bog_hold_handler(ngx_http_request_t *r);


#endif /* _NGX_HTTP_BOG_HOLD_H_INCLUDED_ */

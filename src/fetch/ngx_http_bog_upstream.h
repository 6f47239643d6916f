
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_UPSTREAM_H_INCLUDED_
#define _NGX_HTTP_BOG_UPSTREAM_H_INCLUDED_


#include "ngx_http_bog_fetch.h"


/*
 * Sends the token request on the subrequest and reads the answer into
 * fetch->answer; fetch->failure says where that went wrong.
 */
ngx_int_t ngx_http_bog_upstream_start(ngx_http_request_t *r,
    ngx_http_bog_fetch_t *fetch);


#endif /* _NGX_HTTP_BOG_UPSTREAM_H_INCLUDED_ */


/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_PEER_H_INCLUDED_
#define _NGX_HTTP_BOG_PEER_H_INCLUDED_


#include "ngx_http_bog_fetch.h"


/*
 * The peers are the addresses that the fetch has found, in their order, or
 * those of the upstream {}, but no TLS connection that it kept.
 */
ngx_int_t ngx_http_bog_peer_init(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us);


#endif /* _NGX_HTTP_BOG_PEER_H_INCLUDED_ */

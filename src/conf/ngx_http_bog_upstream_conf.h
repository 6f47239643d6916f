
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_UPSTREAM_CONF_H_INCLUDED_
#define _NGX_HTTP_BOG_UPSTREAM_CONF_H_INCLUDED_


#include "ngx_http_bog_conf.h"


/* Fills account->upstream from the location, while configuring. */
ngx_int_t ngx_http_bog_upstream_conf(ngx_conf_t *cf,
    ngx_http_bog_account_t *account, ngx_http_bog_loc_conf_t *blcf);


#endif /* _NGX_HTTP_BOG_UPSTREAM_CONF_H_INCLUDED_ */


/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_ACCOUNT_CONF_H_INCLUDED_
#define _NGX_HTTP_BOG_ACCOUNT_CONF_H_INCLUDED_


#include "ngx_http_bog_conf.h"


/*
 * Gives the location of cf->ctx its source.  An account that no location has
 * named yet is made, or where "make" is not set, done without.  Errors are
 * logged.
 */
ngx_int_t ngx_http_bog_account_get(ngx_conf_t *cf,
    ngx_http_bog_loc_conf_t *blcf, ngx_uint_t make);


#endif /* _NGX_HTTP_BOG_ACCOUNT_CONF_H_INCLUDED_ */

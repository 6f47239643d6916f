
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_TLS_H_INCLUDED_
#define _NGX_HTTP_BOG_TLS_H_INCLUDED_


#include "ngx_http_bog_module.h"


/*
 * Makes a TLS context for the location's settings.  The pool of the
 * configuration owns it.
 */
ngx_ssl_t *ngx_http_bog_tls_create(ngx_conf_t *cf,
    ngx_http_bog_loc_conf_t *blcf);


#endif /* _NGX_HTTP_BOG_TLS_H_INCLUDED_ */

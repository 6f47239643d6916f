
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_TLS_CONF_H_INCLUDED_
#define _NGX_HTTP_BOG_TLS_CONF_H_INCLUDED_


#include "ngx_http_bog_conf.h"


/*
 * Makes a TLS context for the location's settings.  The pool of the
 * configuration owns it.
 */
ngx_ssl_t *ngx_http_bog_tls_create(ngx_conf_t *cf,
    ngx_http_bog_loc_conf_t *blcf);

/*
 * Writes the SHA-256 of the certificate in a file, which a server may bind the
 * token to (RFC 8705).  Returns its length, 0 where the file has none.
 */
size_t ngx_http_bog_tls_thumbprint(ngx_conf_t *cf, ngx_str_t *file,
    u_char thumbprint[EVP_MAX_MD_SIZE]);


#endif /* _NGX_HTTP_BOG_TLS_CONF_H_INCLUDED_ */

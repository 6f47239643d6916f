
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_SECRET_H_INCLUDED_
#define _NGX_HTTP_BOG_SECRET_H_INCLUDED_


#include "ngx_http_bog_core.h"


/* the longest secret that is read from a file */

#define NGX_HTTP_BOG_SECRET_MAX  4096


/*
 * Reads a secret from the file into the pool, less one line end.  Complains
 * with the name of the file and the reason, and returns NGX_ERROR, where
 * there is none to be had.
 */
ngx_int_t ngx_http_bog_secret_read(ngx_conf_t *cf,
    bog_pool_t *pool, ngx_str_t *file, ngx_str_t *secret);


#endif /* _NGX_HTTP_BOG_SECRET_H_INCLUDED_ */


/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_ENDPOINT_CONF_H_INCLUDED_
#define _NGX_HTTP_BOG_ENDPOINT_CONF_H_INCLUDED_


#include "ngx_http_bog_conf.h"


/*
 * Returns the endpoint of the url, which is made where the configuration has
 * not named it before, or NULL with the reason in *err ("" when it is memory).
 */
ngx_http_bog_endpoint_t *ngx_http_bog_endpoint_get(ngx_conf_t *cf,
    ngx_str_t *url, ngx_http_bog_place_t *place, char **err);

/*
 * Looks for an upstream {} of the endpoint's name and warns of a secret in
 * clear text.  To be called when all of the http {} block is known.
 */
ngx_int_t ngx_http_bog_endpoint_check(ngx_conf_t *cf,
    ngx_http_bog_endpoint_t *endpoint);


#endif /* _NGX_HTTP_BOG_ENDPOINT_CONF_H_INCLUDED_ */

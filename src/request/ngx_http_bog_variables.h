
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_VARIABLES_H_INCLUDED_
#define _NGX_HTTP_BOG_VARIABLES_H_INCLUDED_


#include "ngx_http_bog_conf.h"


/* Adds the variables $bog_*. */
ngx_int_t ngx_http_bog_add_variables(ngx_conf_t *cf);


#endif /* _NGX_HTTP_BOG_VARIABLES_H_INCLUDED_ */


/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_FILTER_H_INCLUDED_
#define _NGX_HTTP_BOG_FILTER_H_INCLUDED_


#include "ngx_http_bog_module.h"


/*
 * Sees the answer of each request: the API's 401 tells that a token is not
 * good any more, whatever time it has left.
 */
void ngx_http_bog_filter_init(void);


#endif /* _NGX_HTTP_BOG_FILTER_H_INCLUDED_ */

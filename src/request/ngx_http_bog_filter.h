
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_FILTER_H_INCLUDED_
#define _NGX_HTTP_BOG_FILTER_H_INCLUDED_


#include "ngx_http_bog_core.h"


/*
 * Sees the answer of each request: the API's 401 tells that a token is not
 * good any more, whatever time it has left.
 */
void ngx_http_bog_filter_init(void);

/* The filter, where there is something to do: seldom, so in its own call. */
ngx_int_t ngx_http_bog_filter_answer(ngx_http_request_t *r);

/*
 * nginx makes its chains of filters anew while it configures, in all of its
 * processes to come.  Where that fails in the middle, the old configuration
 * goes on, and a worker that takes the place of another would lack all filters
 * that come after.  So the chains are kept as they were, and put back.
 */
void ngx_http_bog_filter_keep(void);
void ngx_http_bog_filter_put_back(void);


#endif /* _NGX_HTTP_BOG_FILTER_H_INCLUDED_ */

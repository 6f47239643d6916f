
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_RESOLVE_H_INCLUDED_
#define _NGX_HTTP_BOG_RESOLVE_H_INCLUDED_


#include "ngx_http_bog_fetch.h"


/*
 * Finds the addresses of the endpoint, for fetch->addrs, and calls
 * fetch->resolved, perhaps at once; with fetch->failure set where there are
 * none.  The addresses that worked last serve where name servers do not
 * answer.
 */
void ngx_http_bog_resolve(ngx_http_bog_fetch_t *fetch);

void ngx_http_bog_resolve_cancel(ngx_http_bog_fetch_t *fetch);


#endif /* _NGX_HTTP_BOG_RESOLVE_H_INCLUDED_ */

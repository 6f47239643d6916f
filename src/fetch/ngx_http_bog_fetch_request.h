
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_FETCH_REQUEST_H_INCLUDED_
#define _NGX_HTTP_BOG_FETCH_REQUEST_H_INCLUDED_


#include "ngx_http_bog_fetch.h"


/*
 * Begins a token request; the record is how those before went, "quiet" keeps
 * nginx's own errors of the connection from the log.  The handler is called
 * with the outcome, always from an event, and must take what it needs: the
 * fetch is gone afterwards.  Returns NULL where the request could not be
 * begun.
 */
ngx_http_bog_fetch_t *ngx_http_bog_fetch_start(ngx_http_bog_account_t *account,
    ngx_http_bog_record_t *record, ngx_uint_t quiet,
    ngx_http_bog_fetch_pt handler, void *data);

/* Ends the fetch by an event.  May be called several times, from anywhere. */
void ngx_http_bog_fetch_finish(ngx_http_bog_fetch_t *fetch);


#endif /* _NGX_HTTP_BOG_FETCH_REQUEST_H_INCLUDED_ */

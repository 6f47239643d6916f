
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_HOLD_H_INCLUDED_
#define _NGX_HTTP_BOG_HOLD_H_INCLUDED_


#include "ngx_http_bog_source.h"


/* what a request knows of its token */

typedef struct {
    ngx_http_request_t       *request;
    ngx_http_bog_source_t    *source;
    ngx_http_bog_token_t     *token;        /* the pool refers to it */

    /* event ident must be after 3 pointers as in ngx_connection_t */
    ngx_socket_t              ident;

    ngx_event_t               event;        /* deadline, or resumption */
    ngx_http_bog_waiter_t     waiter;
    ngx_int_t                 outcome;      /* of the wait */

    ngx_msec_t                began;        /* the hold */
    ngx_msec_t                held;         /* so far, in all holds */

    ngx_msec_t                filled;       /* when what follows was so */
    bog_policy_t              policy;

    ngx_table_elt_t          *retry_after;  /* of a refusal, or NULL */

    unsigned                  given:1;      /* the token, to the request */
    unsigned                  redirected:1;
    unsigned                  waiting:1;
    unsigned                  resumed:1;
} ngx_http_bog_ctx_t;


/*
 * The PRECONTENT handler: lets a request pass that has a token or needs none,
 * and holds the others.
 */
ngx_int_t ngx_http_bog_hold_handler(ngx_http_request_t *r);

/* Returns the request's context, or NULL where there is none yet. */
ngx_http_bog_ctx_t *ngx_http_bog_find_ctx(ngx_http_request_t *r);

/*
 * Returns the request's context with the state of the source, as it was when
 * first asked for; it is looked at again where there was no token, or the
 * token has ended before it was given to the request.  It does not change
 * while one value is evaluated: nginx does so twice, for the length and for
 * the copy.  NULL where memory is out.
 */
ngx_http_bog_ctx_t *ngx_http_bog_get_ctx(ngx_http_request_t *r,
    ngx_http_bog_source_t *source);

/*
 * Returns the token for the request, or NULL; never one that has ended, even
 * where it was given to the request before.
 */
ngx_http_bog_token_t *ngx_http_bog_give_token(ngx_http_bog_ctx_t *ctx);


#endif /* _NGX_HTTP_BOG_HOLD_H_INCLUDED_ */

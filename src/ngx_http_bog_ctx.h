
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_CTX_H_INCLUDED_
#define _NGX_HTTP_BOG_CTX_H_INCLUDED_


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
    ngx_http_upstream_t      *answered;     /* whose 401 was dealt with */

    unsigned                  given:1;      /* the token, to the request */
    unsigned                  redirected:1;
    unsigned                  waiting:1;
    unsigned                  resumed:1;
} ngx_http_bog_ctx_t;


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

/* Takes what the source has now for the request. */
void ngx_http_bog_fill_ctx(ngx_http_bog_ctx_t *ctx, bog_time_t *now);

/*
 * Looks at the answer that the request's upstream gave: a 401 to a request
 * that was given a token means that the token is rejected (RFC 6750, 3.1).
 */
void ngx_http_bog_check_answer(ngx_http_request_t *r, ngx_http_bog_ctx_t *ctx);

/* A cleanup: the request does not wait any more. */
void ngx_http_bog_leave(void *data);


#endif /* _NGX_HTTP_BOG_CTX_H_INCLUDED_ */

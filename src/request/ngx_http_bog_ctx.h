
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_CTX_H_INCLUDED_
#define _NGX_HTTP_BOG_CTX_H_INCLUDED_


#include "ngx_http_bog_conf.h"
#include "ngx_http_bog_source.h"


typedef struct ngx_http_bog_ctx_s  ngx_http_bog_ctx_t;


/* what the variables say, but for the token's own */

typedef struct {
    ngx_http_bog_token_t     *token;        /* the request refers to it */
    uint32_t                  error;        /* bog_error_e of the last fetch */
    uint32_t                  status;
} ngx_http_bog_view_t;


/* one that waits, or has: few do */

typedef struct {
    ngx_http_bog_ctx_t       *ctx;
    ngx_http_request_t       *request;
    ngx_http_bog_source_t    *source;

    /* event ident must be after 3 pointers as in ngx_connection_t */
    ngx_socket_t              ident;

    ngx_event_t               event;        /* deadline, or resumption */
    ngx_http_bog_waiter_t     waiter;
    ngx_int_t                 outcome;
    ngx_msec_t                began;
    ngx_uint_t                result;       /* for the metrics */

    unsigned                  waiting:1;
    unsigned                  resumed:1;
} ngx_http_bog_hold_t;


/* what a request knows of its token */

struct ngx_http_bog_ctx_s {
    ngx_pool_cleanup_t        cleanup;
    ngx_http_request_t       *request;
    ngx_http_bog_source_t    *source;
    ngx_http_bog_token_t     *token;
    ngx_http_bog_token_t     *kept;         /* the last one, referred to */
    ngx_http_bog_hold_t      *hold;         /* or NULL */

    ngx_msec_t                held;         /* so far, in all holds */

    ngx_msec_t                looked;       /* for a token that was dropped */
    ngx_msec_t                filled;       /* when what follows was so */
    uint32_t                  error;
    uint32_t                  status;

    ngx_msec_t                viewed;       /* when this was said */
    ngx_http_bog_view_t       view;

    int64_t                   retry_after;  /* seconds; 0: not refused */
    ngx_http_upstream_t      *answered;     /* whose 401 was dealt with */

    unsigned                  refused:NGX_HTTP_BOG_OFF;
                                            /* by "bog_token", for counting */
    unsigned                  given:1;      /* the token, to the request */
    unsigned                  redirected:1;
    unsigned                  has_view:1;
};


/* Returns the request's context, or NULL where there is none yet. */
static ngx_inline ngx_http_bog_ctx_t *ngx_http_bog_find_ctx(
    ngx_http_request_t *r);

/*
 * Says whether nginx may have forgotten it: an internal redirect clears the
 * contexts, and so does a filter that sends an error in place of the answer.
 */
#define ngx_http_bog_may_recover(r)  ((r)->internal || (r)->filter_finalize)

/* The same where that is so. */
ngx_http_bog_ctx_t *ngx_http_bog_recover_ctx(ngx_http_request_t *r);

/*
 * Returns the request's context with the state of the source, as it was when
 * first asked for; it is looked at again where there was no token, or the
 * token has ended before it was given to the request.  It does not change
 * while one value is evaluated: nginx does so twice, for the length and for
 * the copy.  NULL where memory is out.
 */
ngx_http_bog_ctx_t *ngx_http_bog_get_ctx(ngx_http_request_t *r,
    ngx_http_bog_source_t *source, bog_time_t *now);

/*
 * Returns the token for the request, or NULL; never one that has ended, and
 * one that the API has rejected only where there is no other.
 */
ngx_http_bog_token_t *ngx_http_bog_give_token(ngx_http_request_t *r,
    ngx_http_bog_source_t *source);

/*
 * Returns what is to be said of the token.  What was said once stays so to the
 * end of the event, even if the request is given another one.
 */
ngx_http_bog_view_t *ngx_http_bog_view_ctx(ngx_http_bog_ctx_t *ctx);

/*
 * Takes what the source has now for the request.  With "any" that may be a
 * token that the API has rejected, where there is no other.
 */
void ngx_http_bog_fill_ctx(ngx_http_bog_ctx_t *ctx, bog_time_t *now,
    ngx_uint_t any);

/*
 * Looks at the answer that the request's upstream gave, to a request that was
 * given a token: has the API accepted that, or rejected it?
 */
void ngx_http_bog_check_answer(ngx_http_request_t *r, ngx_http_bog_ctx_t *ctx);

/* Ends the hold, where the request waits.  It is the hold's cleanup, too. */
void ngx_http_bog_leave(void *data);


static ngx_inline ngx_http_bog_ctx_t *
ngx_http_bog_find_ctx(ngx_http_request_t *r)
{
    ngx_http_bog_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_bog_module);

    if (ctx || !ngx_http_bog_may_recover(r)) {
        return ctx;
    }

    return ngx_http_bog_recover_ctx(r);
}


#endif /* _NGX_HTTP_BOG_CTX_H_INCLUDED_ */

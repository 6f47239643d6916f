
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_REQUEST_H_INCLUDED_
#define _NGX_HTTP_BOG_REQUEST_H_INCLUDED_


#include "ngx_http_bog_conf.h"
#include "ngx_http_bog_source.h"


typedef struct ngx_http_bog_ctx_s  ngx_http_bog_ctx_t;


/* A hold.  Few requests have one, so it is not a part of the context. */

typedef struct {
    ngx_http_bog_ctx_t          *ctx;
    ngx_http_request_t          *request;
    ngx_http_bog_source_t       *source;

    /* event ident must be after 3 pointers as in ngx_connection_t */
    ngx_socket_t                 ident;

    ngx_event_t                  event;     /* has a timer as long as the
                                               request is held */
    ngx_http_bog_waiter_t        waiter;
    ngx_msec_t                   start;
} ngx_http_bog_hold_t;


/*
 * What a request knows of its token.  The token is looked up once in an event,
 * when the first variable is read, as nginx evaluates a value twice.  Each of A
 * and B may be NULL.
 *
 *                                               token    sent    described
 *
 *   A was looked up for a variable, or taken
 *   by the phase handler                        A        NULL    A
 *   $bog_bearer_token was read                  A        A       A
 *
 *   Later A has ended, or the API has rejected it:
 *
 *   $bog_bearer_token was read first            B        B       B
 *   another variable was read first             B        A       A
 *   and then $bog_bearer_token, in that event   B        B       A
 */

struct ngx_http_bog_ctx_s {
    ngx_pool_cleanup_t        cleanup;      /* drops the first token */
    ngx_http_request_t       *request;
    ngx_http_bog_source_t    *source;

    ngx_http_bog_token_t     *token;        /* for $bog_bearer_token */
    ngx_http_bog_token_t     *sent;         /* what that has said last in this
                                               location: the API gets it */
    ngx_http_bog_token_t     *described;    /* by the other variables */
    ngx_msec_t                looked_up;    /* when the token was; 0: never in
                                               this location */

    ngx_http_bog_hold_t      *hold;         /* the last one, or NULL */
    ngx_msec_t                held;         /* so far, in all holds */

    ngx_http_upstream_t      *checked;      /* the last one whose answer was */
    ngx_uint_t                retry_after;  /* seconds; 0: no 503 of ours */

    unsigned                  counted:NGX_HTTP_BOG_OFF;
                                            /* bit n: in metrics.without[n] */
    unsigned                  failed:1;     /* the hold has brought none */
};


/*
 * Returns the request's context, a new one where there is none yet, and looks
 * the token up, unless that was done in this event.  A token stays as long as
 * it is usable; where there is no other, one that the API has rejected is
 * taken.  With "bearer" it is for $bog_bearer_token.  Returns NULL if the
 * location has no source, or memory is out.
 */
ngx_http_bog_ctx_t *ngx_http_bog_look_up(ngx_http_request_t *r,
    ngx_uint_t bearer);

/*
 * Takes the token that the source gives out now for the request, or NULL.  With
 * "any" that may be one that the API has rejected, where there is no other.
 */
void ngx_http_bog_take_token(ngx_http_bog_ctx_t *ctx, bog_time_t *now,
    ngx_uint_t any);

/*
 * The PRECONTENT handler: lets a request pass that has a token or needs none,
 * and holds the others.
 */
ngx_int_t ngx_http_bog_hold_handler(ngx_http_request_t *r);

/* A cleanup handler: ends the hold, if the request is still held. */
void ngx_http_bog_abort_hold(void *hold);

/*
 * A cleanup handler, too: if the upstream of the request has answered, tells
 * the source whether the API has accepted or rejected the token that was sent.
 */
void ngx_http_bog_check_answer(void *ctx);

/* Adds the header filter, which checks the answers that nginx sends. */
void ngx_http_bog_filter_init(void);

/*
 * Logs a line about the token of a request.  nginx would add what it did last,
 * which has nothing to do with the token: " while sending to client".
 */
void ngx_http_bog_log_error(ngx_uint_t level, ngx_http_request_t *r,
    const char *fmt, ...);

/* Adds the variables $bog_*. */
ngx_int_t ngx_http_bog_add_variables(ngx_conf_t *cf);


/*
 * An internal redirect clears the contexts of all modules, and so does a filter
 * that sends an error in place of the answer.  Returns our context from before,
 * or NULL where there was none.
 */
ngx_http_bog_ctx_t *ngx_http_bog_recover_ctx(ngx_http_request_t *r);


/* Returns the request's context, or NULL where there is none yet. */
static ngx_inline ngx_http_bog_ctx_t *
ngx_http_bog_find_ctx(ngx_http_request_t *r)
{
    ngx_http_bog_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_bog_module);

    if (ctx || !(r->internal || r->filter_finalize)) {
        return ctx;
    }

    return ngx_http_bog_recover_ctx(r);
}


/* Says whether there is a valid token that the API has not rejected. */
static ngx_inline ngx_uint_t
ngx_http_bog_token_usable(ngx_http_bog_ctx_t *ctx, bog_time_t *now)
{
    return ctx->token
           && bog_times_valid(&ctx->token->times, now)
           && !ngx_http_bog_source_rejected(ctx->source, ctx->token);
}


#endif /* _NGX_HTTP_BOG_REQUEST_H_INCLUDED_ */

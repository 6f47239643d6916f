
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_hold.h"


/*
 * Milliseconds for which a state once given does not change.  Less than the
 * shortest margin before a token's expiry, a tenth of a second.
 */

#define NGX_HTTP_BOG_STABLE  50


static ngx_http_bog_ctx_t *ngx_http_bog_create_ctx(ngx_http_request_t *r);
static void ngx_http_bog_renew_ctx(ngx_http_bog_ctx_t *ctx, bog_time_t *now);
static void ngx_http_bog_fill_ctx(ngx_http_bog_ctx_t *ctx, bog_time_t *now);
static void ngx_http_bog_drop_token(void *data);
static ngx_int_t ngx_http_bog_hold(ngx_http_request_t *r,
    ngx_http_bog_ctx_t *ctx, ngx_http_bog_loc_conf_t *blcf, bog_time_t *now);
static ngx_int_t ngx_http_bog_hold_watch_client(ngx_http_request_t *r);
static void ngx_http_bog_hold_cleanup(void *data);
static void ngx_http_bog_hold_waiter_handler(ngx_http_bog_waiter_t *waiter,
    ngx_int_t rc);
static void ngx_http_bog_hold_event_handler(ngx_event_t *ev);
static ngx_int_t ngx_http_bog_pass(ngx_http_bog_ctx_t *ctx);
static ngx_int_t ngx_http_bog_refuse(ngx_http_request_t *r,
    ngx_http_bog_ctx_t *ctx, ngx_http_bog_loc_conf_t *blcf, int64_t wait);
static ngx_int_t ngx_http_bog_set_retry_after(ngx_http_request_t *r,
    ngx_http_bog_ctx_t *ctx, int64_t wait);


ngx_int_t
ngx_http_bog_hold_handler(ngx_http_request_t *r)
{
    int64_t                   next;
    bog_time_t                now;
    ngx_http_bog_ctx_t       *ctx;
    ngx_http_bog_loc_conf_t  *blcf;

    blcf = ngx_http_get_module_loc_conf(r, ngx_http_bog_module);

    if (blcf->source == NULL || r->content_handler == NULL) {
        return NGX_DECLINED;
    }

    ctx = ngx_http_bog_get_ctx(r, blcf->source);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ctx->waiting) {
        return NGX_AGAIN;
    }

    ngx_http_bog_now(&now);

    if (ctx->redirected || ctx->token == NULL
        || !ngx_http_bog_token_valid(ctx->token, &now))
    {
        ctx->redirected = 0;
        ngx_http_bog_fill_ctx(ctx, &now);
    }

    if (ctx->token) {
        return ngx_http_bog_pass(ctx);
    }

    if (ctx->resumed && ctx->outcome != NGX_OK) {
        ctx->resumed = 0;
        next = bog_policy_next(&ctx->policy, &now);

        return ngx_http_bog_refuse(r, ctx, blcf, next - now.mono);
    }

    return ngx_http_bog_hold(r, ctx, blcf, &now);
}


ngx_http_bog_ctx_t *
ngx_http_bog_find_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t  *cln;
    ngx_http_bog_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_bog_module);

    if (ctx) {
        return ctx;
    }

    /* an internal redirect clears the contexts, but not the cleanups */

    for (cln = r->pool->cleanup; cln; cln = cln->next) {

        if (cln->handler == ngx_http_bog_hold_cleanup) {
            ctx = cln->data;

            if (ctx->request == r) {
                ctx->redirected = 1;
                ngx_http_set_ctx(r, ctx, ngx_http_bog_module);
                return ctx;
            }
        }
    }

    return NULL;
}


ngx_http_bog_ctx_t *
ngx_http_bog_get_ctx(ngx_http_request_t *r, ngx_http_bog_source_t *source)
{
    bog_time_t           now;
    ngx_http_bog_ctx_t  *ctx;

    ctx = ngx_http_bog_find_ctx(r);

    if (ctx == NULL) {
        ctx = ngx_http_bog_create_ctx(r);
        if (ctx == NULL) {
            return NULL;
        }
    }

    ngx_http_bog_now(&now);

    if (ctx->source != source) {
        ctx->source = source;
        ngx_http_bog_fill_ctx(ctx, &now);

    } else if (!ctx->given) {
        ngx_http_bog_renew_ctx(ctx, &now);
    }

    return ctx;
}


ngx_http_bog_token_t *
ngx_http_bog_give_token(ngx_http_bog_ctx_t *ctx)
{
    bog_time_t  now;

    ngx_http_bog_now(&now);
    ngx_http_bog_renew_ctx(ctx, &now);

    if (ctx->token) {
        ctx->given = 1;
    }

    return ctx->token;
}


static void
ngx_http_bog_renew_ctx(ngx_http_bog_ctx_t *ctx, bog_time_t *now)
{
    if (ctx->token && ngx_http_bog_token_valid(ctx->token, now)) {
        return;
    }

    if (ngx_current_msec - ctx->filled >= NGX_HTTP_BOG_STABLE) {
        ngx_http_bog_fill_ctx(ctx, now);
    }
}


/*
 * The context goes with the pool: the access log, which may name the token,
 * is written when the request's own cleanups have been run.
 */

static ngx_http_bog_ctx_t *
ngx_http_bog_create_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t  *cln;
    ngx_http_bog_ctx_t  *ctx;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_bog_ctx_t));
    if (cln == NULL) {
        return NULL;
    }

    ctx = cln->data;
    ngx_memzero(ctx, sizeof(ngx_http_bog_ctx_t));

    cln->handler = ngx_http_bog_hold_cleanup;

    ctx->request = r;
    ctx->ident = (ngx_socket_t) -1;

    ctx->event.handler = ngx_http_bog_hold_event_handler;
    ctx->event.data = ctx;
    ctx->event.log = r->connection->log;

    ctx->waiter.handler = ngx_http_bog_hold_waiter_handler;

    ngx_http_set_ctx(r, ctx, ngx_http_bog_module);

    return ctx;
}


/*
 * A request keeps all tokens that it was given: what a regular expression has
 * captured of one is not copied, and may be read when another one is there.
 */

static void
ngx_http_bog_fill_ctx(ngx_http_bog_ctx_t *ctx, bog_time_t *now)
{
    ngx_pool_cleanup_t    *cln;
    ngx_http_bog_token_t  *token;

    token = ngx_http_bog_source_token(ctx->source, now);

    if (token && token != ctx->token) {
        cln = ngx_pool_cleanup_add(ctx->request->pool, 0);

        if (cln) {
            cln->handler = ngx_http_bog_drop_token;
            cln->data = token;
            token->refs++;

        } else {
            token = NULL;
        }
    }

    ctx->token = token;
    ctx->given = 0;
    ctx->policy = ctx->source->record.policy;
    ctx->filled = ngx_current_msec;
}


static void
ngx_http_bog_drop_token(void *data)
{
    ngx_http_bog_token_free(data);
}


static ngx_int_t
ngx_http_bog_hold(ngx_http_request_t *r, ngx_http_bog_ctx_t *ctx,
    ngx_http_bog_loc_conf_t *blcf, bog_time_t *now)
{
    int64_t              next;
    ngx_msec_t           left;
    ngx_http_cleanup_t  *cln;

    next = ngx_http_bog_source_demand(ctx->source, now);

    /* another worker may have published it since we looked */

    ngx_http_bog_fill_ctx(ctx, now);

    if (ctx->token) {
        return ngx_http_bog_pass(ctx);
    }

    /* a request that is passed from location to location waits once */

    left = (blcf->wait_timeout > ctx->held) ? blcf->wait_timeout - ctx->held
                                            : 0;

    if (left == 0 || next - now->mono > (int64_t) left) {
        return ngx_http_bog_refuse(r, ctx, blcf, next - now->mono);
    }

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln->handler = ngx_http_bog_hold_cleanup;
    cln->data = ctx;

    if (r == r->main && ngx_http_bog_hold_watch_client(r) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "bog hold: %M", left);

    r->write_event_handler = ngx_http_request_empty_handler;

    ctx->waiting = 1;
    ctx->resumed = 0;
    ctx->began = ngx_current_msec;

    ngx_add_timer(&ctx->event, left);

    ngx_http_bog_source_wait(ctx->source, &ctx->waiter);

    return NGX_AGAIN;
}


static ngx_int_t
ngx_http_bog_hold_watch_client(ngx_http_request_t *r)
{
    ngx_event_t  *rev;

    rev = r->connection->read;

    if (rev->ready) {
        ngx_post_event(rev, &ngx_posted_events);

    } else if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        return NGX_ERROR;
    }

    r->read_event_handler = ngx_http_test_reading;

    return NGX_OK;
}


static void
ngx_http_bog_hold_cleanup(void *data)
{
    ngx_http_bog_ctx_t *ctx = data;

    if (ctx->event.timer_set) {
        ngx_del_timer(&ctx->event);
    }

    if (ctx->event.posted) {
        ngx_delete_posted_event(&ctx->event);
    }

    ngx_http_bog_source_leave(ctx->source, &ctx->waiter);
}


/*
 * Requests are resumed one by one, each from an event of its own: what one
 * does may end another.
 */

static void
ngx_http_bog_hold_waiter_handler(ngx_http_bog_waiter_t *waiter, ngx_int_t rc)
{
    ngx_http_bog_ctx_t  *ctx;

    ctx = (ngx_http_bog_ctx_t *) ((u_char *) waiter
                                  - offsetof(ngx_http_bog_ctx_t, waiter));

    ctx->outcome = rc;

    ngx_post_event(&ctx->event, &ngx_posted_events);
}


static void
ngx_http_bog_hold_event_handler(ngx_event_t *ev)
{
    ngx_connection_t    *c;
    ngx_http_request_t  *r;
    ngx_http_bog_ctx_t  *ctx;

    ctx = ev->data;
    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    if (ctx->waiter.queued) {

        /* the deadline */

        ctx->outcome = NGX_ERROR;
        ngx_http_bog_source_leave(ctx->source, &ctx->waiter);
    }

    if (ev->timer_set) {
        ngx_del_timer(ev);
    }

    if (ev->posted) {
        ngx_delete_posted_event(ev);
    }

    ev->timedout = 0;

    ctx->waiting = 0;
    ctx->resumed = 1;
    ctx->held += ngx_current_msec - ctx->began;

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, c->log, 0,
                   "bog resume: %i, held: %M", ctx->outcome, ctx->held);

    if (r == r->main) {
        r->read_event_handler = ngx_http_block_reading;

        if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
            ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
            ngx_http_run_posted_requests(c);
            return;
        }
    }

    r->write_event_handler = ngx_http_core_run_phases;

    ngx_http_core_run_phases(r);
    ngx_http_run_posted_requests(c);
}


static ngx_int_t
ngx_http_bog_pass(ngx_http_bog_ctx_t *ctx)
{
    ctx->resumed = 0;

    /* of a location that refused it before */

    if (ctx->retry_after) {
        ctx->retry_after->hash = 0;
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_bog_refuse(ngx_http_request_t *r, ngx_http_bog_ctx_t *ctx,
    ngx_http_bog_loc_conf_t *blcf, int64_t wait)
{
    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "no token for client id \"%V\" after %M ms",
                  &ctx->source->account->client_id, ctx->held);

    if (blcf->token == NGX_HTTP_BOG_OPTIONAL) {
        return NGX_DECLINED;
    }

    if (ngx_http_bog_set_retry_after(r, ctx, wait) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_HTTP_SERVICE_UNAVAILABLE;
}


static ngx_int_t
ngx_http_bog_set_retry_after(ngx_http_request_t *r, ngx_http_bog_ctx_t *ctx,
    int64_t wait)
{
    u_char           *p;
    ngx_table_elt_t  *h;

    p = ngx_pnalloc(r->pool, NGX_INT64_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    h = ctx->retry_after;

    if (h == NULL) {
        h = ngx_list_push(&r->headers_out.headers);
        if (h == NULL) {
            return NGX_ERROR;
        }

        ngx_memzero(h, sizeof(ngx_table_elt_t));
        ngx_str_set(&h->key, "Retry-After");

        ctx->retry_after = h;
    }

    h->hash = 1;
    h->value.data = p;
    h->value.len = ngx_sprintf(p, "%L", (ngx_max(wait, 1) + 999) / 1000) - p;

    return NGX_OK;
}

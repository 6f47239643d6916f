
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_ctx.h"
#include "ngx_http_bog_hold.h"


static ngx_int_t ngx_http_bog_hold(ngx_http_request_t *r,
    ngx_http_bog_ctx_t *ctx, ngx_http_bog_loc_conf_t *blcf, bog_time_t *now);
static ngx_int_t ngx_http_bog_hold_watch_client(ngx_http_request_t *r,
    ngx_http_bog_ctx_t *ctx);
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


static ngx_int_t
ngx_http_bog_hold(ngx_http_request_t *r, ngx_http_bog_ctx_t *ctx,
    ngx_http_bog_loc_conf_t *blcf, bog_time_t *now)
{
    int64_t     next;
    ngx_msec_t  left;

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

    if (ngx_http_bog_hold_watch_client(r, ctx) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "bog hold: %M", left);

    r->write_event_handler = ngx_http_request_empty_handler;

    ctx->event.handler = ngx_http_bog_hold_event_handler;
    ctx->event.data = ctx;
    ctx->event.log = r->connection->log;

    ctx->waiter.handler = ngx_http_bog_hold_waiter_handler;

    ctx->waiting = 1;
    ctx->resumed = 0;
    ctx->began = ngx_current_msec;

    ngx_add_timer(&ctx->event, left);

    ngx_http_bog_source_wait(ctx->source, &ctx->waiter);

    return NGX_AGAIN;
}


/* whoever ends the request, it leaves; a client that does is seen */

static ngx_int_t
ngx_http_bog_hold_watch_client(ngx_http_request_t *r, ngx_http_bog_ctx_t *ctx)
{
    ngx_event_t         *rev;
    ngx_http_cleanup_t  *cln;

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_bog_leave;
    cln->data = ctx;

    /* the connection is the active request's to read */

    if (r != r->connection->data) {
        return NGX_OK;
    }

    rev = r->connection->read;

    if (rev->ready) {
        ngx_post_event(rev, &ngx_posted_events);

    } else if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        return NGX_ERROR;
    }

    r->read_event_handler = ngx_http_test_reading;

    return NGX_OK;
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

    if (r == c->data) {
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

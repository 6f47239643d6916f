
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_request.h"


/*
 * The phase handler: it lets a request pass that has a token, and holds the
 * others.  A hold adds a waiter to those of the source and sets a timer.  When
 * the source wakes the waiter, or the timer fires, an event runs the phases
 * again.  Nothing of a hold may outlive its request, and each request is
 * resumed by an event of its own, as resuming one may end others.
 */


/* so many connections and descriptors of a worker are left to others */

#define NGX_HTTP_BOG_SPARE  16

/* milliseconds after which an event looks for free connections again */

#define NGX_HTTP_BOG_LOOK   10


static ngx_int_t ngx_http_bog_wait_for_token(ngx_http_request_t *r,
    ngx_http_bog_ctx_t *ctx, ngx_http_bog_loc_conf_t *blcf, bog_time_t *now);
static ngx_int_t ngx_http_bog_do_without_token(ngx_http_request_t *r,
    ngx_http_bog_ctx_t *ctx, ngx_http_bog_loc_conf_t *blcf, int64_t next,
    bog_time_t *now);
static char *ngx_http_bog_hold_limit(ngx_connection_t *c);
static ngx_int_t ngx_http_bog_start_hold(ngx_http_request_t *r,
    ngx_http_bog_ctx_t *ctx, ngx_msec_t left, bog_time_t *now);
static void ngx_http_bog_test_writing(ngx_http_request_t *r);
static void ngx_http_bog_hold_event_handler(ngx_event_t *ev);
static void ngx_http_bog_end_hold(ngx_http_bog_hold_t *hold,
    ngx_http_bog_hold_result_e result);


ngx_int_t
ngx_http_bog_hold_handler(ngx_http_request_t *r)
{
    ngx_int_t                 rc;
    bog_time_t                now;
    ngx_http_bog_ctx_t       *ctx;
    ngx_http_bog_loc_conf_t  *blcf;

    blcf = ngx_http_get_module_loc_conf(r, ngx_http_bog_module);

    /* checks the answer of an upstream before another one takes its place */

    ctx = ngx_http_bog_find_ctx(r);

    if (blcf->source == NULL) {

        /* a token that was read elsewhere is not what this location sends */

        if (ctx) {
            ctx->sent = NULL;
        }

        return NGX_DECLINED;
    }

    if (r->content_handler == NULL) {
        return NGX_DECLINED;
    }

    ngx_http_bog_now(&now);

    /* most requests need nothing until they read the token */

    if (ctx == NULL && ngx_http_bog_source_fresh(blcf->source, &now)) {
        return NGX_DECLINED;
    }

    ctx = ngx_http_bog_look_up(r, 0);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ctx->hold && ctx->hold->event.timer_set) {
        return NGX_AGAIN;
    }

    /* a token that this location has read is sent, as long as it is usable */

    if (ctx->sent == NULL || !ngx_http_bog_token_usable(ctx, &now)) {
        ngx_http_bog_take_token(ctx, &now, 0);
    }

    if (ctx->token == NULL) {
        rc = ngx_http_bog_wait_for_token(r, ctx, blcf, &now);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    ctx->failed = 0;

    /* an earlier location may have answered 503 */

    ctx->retry_after = 0;

    return NGX_DECLINED;
}


/*
 * Returns NGX_OK if there is a token after all, NGX_AGAIN if the request is
 * held, and else what the phase handler is to return.
 */

static ngx_int_t
ngx_http_bog_wait_for_token(ngx_http_request_t *r, ngx_http_bog_ctx_t *ctx,
    ngx_http_bog_loc_conf_t *blcf, bog_time_t *now)
{
    char           *limit;
    int64_t         next;
    ngx_msec_t      left;

    static time_t   logged;

    if (ctx->failed) {
        ctx->failed = 0;
        next = bog_policy_next(&ctx->source->record.policy, now);

        return ngx_http_bog_do_without_token(r, ctx, blcf, next, now);
    }

    next = ngx_http_bog_source_fetch(ctx->source, now);

    /* another worker may have published a token in the meantime */

    ngx_http_bog_take_token(ctx, now, 0);

    if (ctx->token) {
        return NGX_OK;
    }

    /* a request that is passed from location to location waits once */

    left = (blcf->wait_timeout > ctx->held) ? blcf->wait_timeout - ctx->held
                                            : 0;

    if (left == 0 || next - now->mono > (int64_t) left) {
        return ngx_http_bog_do_without_token(r, ctx, blcf, next, now);
    }

    limit = ngx_http_bog_hold_limit(r->connection);

    if (limit == NULL) {
        return ngx_http_bog_start_hold(r, ctx, left, now);
    }

    if (logged != ngx_time()) {
        logged = ngx_time();

        ngx_http_bog_log_error(NGX_LOG_WARN, r,
                               "%ui requests are held and no more can be, "
                               "increase \"%s\"",
                               ngx_http_bog_metrics_holding(
                                               &ctx->source->slot->metrics),
                               limit);
    }

    return ngx_http_bog_do_without_token(r, ctx, blcf, now->mono, now);
}


/* the same for a request that is not held, or is not held any more */

static ngx_int_t
ngx_http_bog_do_without_token(ngx_http_request_t *r, ngx_http_bog_ctx_t *ctx,
    ngx_http_bog_loc_conf_t *blcf, int64_t next, bog_time_t *now)
{
    /* a token that the API has rejected is better than none */

    ngx_http_bog_take_token(ctx, now, 1);

    if (ctx->token) {
        return NGX_OK;
    }

    /* count the request once, though its next location may answer 503 too */

    if (!(ctx->counted & (1 << blcf->token))) {
        ctx->counted |= 1 << blcf->token;
        ngx_http_bog_metrics_without_token(&ctx->source->slot->metrics,
                                           blcf->token, now->mono);
    }

    ngx_http_bog_log_error(NGX_LOG_INFO, r,
                           "no token for client id \"%V\" after %M ms",
                           &ctx->source->account->client_id, ctx->held);

    if (blcf->token == NGX_HTTP_BOG_OPTIONAL) {
        return NGX_DECLINED;
    }

    ctx->retry_after = (ngx_max(next - now->mono, 1) + 999) / 1000;

    return NGX_HTTP_SERVICE_UNAVAILABLE;
}


/*
 * Returns the directive whose value keeps the request from being held, or NULL.
 * When less than a sixteenth of its connections is free, nginx begins to close
 * idle ones and new ones.  So holding leaves that sixteenth, and idle
 * connections count as free.  The kernel gives the lowest free descriptor, so
 * that of the client tells how many are in use, without a system call.
 */

static char *
ngx_http_bog_hold_limit(ngx_connection_t *c)
{
    ngx_uint_t     spare;
    struct rlimit  rlmt;

    static rlim_t  files;

    if (files == 0) {
        files = getrlimit(RLIMIT_NOFILE, &rlmt) == 0 ? rlmt.rlim_cur
                                                     : RLIM_INFINITY;
    }

    spare = NGX_HTTP_BOG_SPARE + ngx_cycle->connection_n / 16;

    if (ngx_cycle->free_connection_n + ngx_cycle->reusable_connections_n
        < ngx_min(spare, ngx_cycle->connection_n / 4))
    {
        return "worker_connections";
    }

    if ((rlim_t) c->fd >= files - ngx_min(NGX_HTTP_BOG_SPARE, files / 4)) {
        return "worker_rlimit_nofile";
    }

    return NULL;
}


static ngx_int_t
ngx_http_bog_start_hold(ngx_http_request_t *r, ngx_http_bog_ctx_t *ctx,
    ngx_msec_t left, bog_time_t *now)
{
    ngx_event_t          *rev;
    ngx_http_cleanup_t   *cln;
    ngx_http_bog_hold_t  *hold;

    if (ctx->hold == NULL) {
        cln = ngx_http_cleanup_add(r, sizeof(ngx_http_bog_hold_t));
        if (cln == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        cln->handler = ngx_http_bog_abort_hold;

        ctx->hold = cln->data;
        ngx_memzero(ctx->hold, sizeof(ngx_http_bog_hold_t));
    }

    /*
     * Only the active request looks whether the client has left.  The client
     * of a "post_action" has its answer, and may leave.
     */

    r->write_event_handler = ngx_http_request_empty_handler;

    if (r == r->connection->data && !r->post_action) {
        rev = r->connection->read;

        if (rev->ready) {
            ngx_post_event(rev, &ngx_posted_events);

        } else if (ngx_handle_read_event(rev, 0) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        r->read_event_handler = ngx_http_test_reading;
        r->write_event_handler = ngx_http_bog_test_writing;
    }

    hold = ctx->hold;

    hold->ctx = ctx;
    hold->request = r;
    hold->source = ctx->source;
    hold->ident = (ngx_socket_t) -1;

    hold->event.handler = ngx_http_bog_hold_event_handler;
    hold->event.data = hold;
    hold->event.log = r->connection->log;

    hold->waiter.event = &hold->event;
    hold->waiter.deadline = now->mono + (int64_t) left;

    hold->start = ngx_current_msec;

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "bog hold: %M", left);

    ngx_add_timer(&hold->event, left);

    ngx_http_bog_metrics_hold(&hold->source->slot->metrics);
    ngx_http_bog_source_wait(hold->source, &hold->waiter);

    return NGX_AGAIN;
}


/* an HTTP/3 client that sends STOP_SENDING wants no answer any more */

static void
ngx_http_bog_test_writing(ngx_http_request_t *r)
{
    if (r->connection->write->error) {
        r->connection->error = 1;
        ngx_http_finalize_request(r, NGX_HTTP_CLIENT_CLOSED_REQUEST);
    }
}


static void
ngx_http_bog_hold_event_handler(ngx_event_t *ev)
{
    ngx_connection_t            *c;
    ngx_http_request_t          *r;
    ngx_http_bog_ctx_t          *ctx;
    ngx_http_bog_hold_t         *hold;
    ngx_http_bog_loc_conf_t     *blcf;
    ngx_http_bog_hold_result_e   result;

    hold = ev->data;
    ctx = hold->ctx;
    r = hold->request;
    c = r->connection;

    if (ngx_http_get_module_ctx(r, ngx_http_bog_module) != ctx) {

        /* redirected to a location that has not run our handler yet */

        ngx_http_bog_end_hold(hold, NGX_HTTP_BOG_HOLD_ABORTED);
        return;
    }

    blcf = ngx_http_get_module_loc_conf(r, ngx_http_bog_module);

    if (hold->waiter.queued) {
        result = NGX_HTTP_BOG_HOLD_TIMEOUT;

    } else {
        result = (hold->waiter.rc == NGX_OK) ? NGX_HTTP_BOG_HOLD_TOKEN
                                             : NGX_HTTP_BOG_HOLD_FAILURE;
    }

    if (result == NGX_HTTP_BOG_HOLD_TOKEN
        && ctx->held + (ngx_current_msec - hold->start) < blcf->wait_timeout
        && ngx_http_bog_hold_limit(c))
    {
        /* requests that were resumed before it free their connections soon */

        if (ev->timer_set) {
            ngx_del_timer(ev);
        }

        ngx_add_timer(ev, NGX_HTTP_BOG_LOOK);
        return;
    }

    ngx_http_set_log_request(c->log, r);

    ngx_http_bog_end_hold(hold, result);

    ctx->failed = (result != NGX_HTTP_BOG_HOLD_TOKEN);

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, c->log, 0,
                   "bog resume: %d, held: %M",
                   ctx->failed ? NGX_ERROR : NGX_OK, ctx->held);

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


void
ngx_http_bog_abort_hold(void *data)
{
    ngx_http_bog_hold_t *hold = data;

    if (hold->event.timer_set) {
        ngx_http_bog_end_hold(hold, NGX_HTTP_BOG_HOLD_ABORTED);
    }
}


static void
ngx_http_bog_end_hold(ngx_http_bog_hold_t *hold,
    ngx_http_bog_hold_result_e result)
{
    ngx_msec_t  ms;

    ms = ngx_current_msec - hold->start;
    hold->ctx->held += ms;

    ngx_http_bog_metrics_held(&hold->source->slot->metrics, result, ms);

    if (hold->event.timer_set) {
        ngx_del_timer(&hold->event);
    }

    if (hold->event.posted) {
        ngx_delete_posted_event(&hold->event);
    }

    ngx_http_bog_source_leave(hold->source, &hold->waiter);
}

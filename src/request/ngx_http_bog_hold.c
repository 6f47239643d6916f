
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_ctx.h"
#include "ngx_http_bog_hold.h"


/* what holding leaves of a worker's connections, and of its descriptors */

#define NGX_HTTP_BOG_SPARE  16

/* milliseconds between two looks for a connection to go on with */

#define NGX_HTTP_BOG_LOOK   10


static ngx_int_t ngx_http_bog_hold(ngx_http_request_t *r,
    ngx_http_bog_ctx_t *ctx, ngx_http_bog_loc_conf_t *blcf, bog_time_t *now);
static char *ngx_http_bog_hold_limit(ngx_connection_t *c);
static ngx_http_bog_hold_t *ngx_http_bog_hold_create(ngx_http_request_t *r,
    ngx_http_bog_ctx_t *ctx);
static void ngx_http_bog_hold_test_writing(ngx_http_request_t *r);
static void ngx_http_bog_hold_waiter_handler(ngx_http_bog_waiter_t *waiter,
    ngx_int_t rc);
static void ngx_http_bog_hold_event_handler(ngx_event_t *ev);
static ngx_int_t ngx_http_bog_pass(ngx_http_bog_ctx_t *ctx);
static ngx_int_t ngx_http_bog_refuse(ngx_http_request_t *r,
    ngx_http_bog_ctx_t *ctx, ngx_http_bog_loc_conf_t *blcf, int64_t next,
    bog_time_t *now);


ngx_int_t
ngx_http_bog_hold_handler(ngx_http_request_t *r)
{
    int64_t                   next;
    bog_time_t                now;
    ngx_http_bog_ctx_t       *ctx;
    ngx_http_bog_loc_conf_t  *blcf;

    blcf = ngx_http_get_module_loc_conf(r, ngx_http_bog_module);

    /* before another upstream takes the place of the one that has answered */

    ctx = ngx_http_bog_find_ctx(r);

    if (blcf->source == NULL) {

        /* a token that was read elsewhere is not what this location sends */

        if (ctx) {
            ctx->given = 0;
        }

        return NGX_DECLINED;
    }

    if (r->content_handler == NULL) {
        return NGX_DECLINED;
    }

    ngx_http_bog_now(&now);

    /* most requests need nothing until they are given the token */

    if (ctx == NULL && ngx_http_bog_source_fresh(blcf->source, &now)) {
        return NGX_DECLINED;
    }

    ctx = ngx_http_bog_get_ctx(r, blcf->source, &now);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ctx->hold && ctx->hold->waiting) {
        return NGX_AGAIN;
    }

    if (ctx->redirected || ctx->token == NULL
        || !bog_times_valid(&ctx->token->times, &now)
        || ngx_http_bog_source_rejected(ctx->source, ctx->token))
    {
        ctx->redirected = 0;
        ngx_http_bog_fill_ctx(ctx, &now, 0);
    }

    if (ctx->token) {
        return ngx_http_bog_pass(ctx);
    }

    if (ctx->hold && ctx->hold->resumed && ctx->hold->outcome != NGX_OK) {
        ctx->hold->resumed = 0;
        next = bog_policy_next(&ctx->source->record.policy, &now);

        return ngx_http_bog_refuse(r, ctx, blcf, next, &now);
    }

    return ngx_http_bog_hold(r, ctx, blcf, &now);
}


static ngx_int_t
ngx_http_bog_hold(ngx_http_request_t *r, ngx_http_bog_ctx_t *ctx,
    ngx_http_bog_loc_conf_t *blcf, bog_time_t *now)
{
    char                 *limit;
    int64_t               next;
    ngx_msec_t            left;
    ngx_http_bog_hold_t  *hold;

    static time_t         logged;

    next = ngx_http_bog_source_demand(ctx->source, now);

    /* another worker may have published it since we looked */

    ngx_http_bog_fill_ctx(ctx, now, 0);

    if (ctx->token) {
        return ngx_http_bog_pass(ctx);
    }

    /* a request that is passed from location to location waits once */

    left = (blcf->wait_timeout > ctx->held) ? blcf->wait_timeout - ctx->held
                                            : 0;

    if (left == 0 || next - now->mono > (int64_t) left) {
        return ngx_http_bog_refuse(r, ctx, blcf, next, now);
    }

    limit = ngx_http_bog_hold_limit(r->connection);

    if (limit) {

        if (logged != ngx_time()) {
            logged = ngx_time();

            ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                          "%ui requests are held and no more can be, "
                          "increase \"%s\"",
                          ngx_http_bog_metrics_holding(
                                           &ctx->source->slot->metrics),
                          limit);
        }

        return ngx_http_bog_refuse(r, ctx, blcf, now->mono, now);
    }

    hold = ngx_http_bog_hold_create(r, ctx);
    if (hold == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "bog hold: %M", left);

    hold->waiting = 1;
    hold->resumed = 0;
    hold->began = ngx_current_msec;
    hold->result = NGX_HTTP_BOG_HOLD_ABORTED;

    hold->waiter.deadline = now->mono + (int64_t) left;

    ngx_add_timer(&hold->event, left);

    ngx_http_bog_metrics_hold(&hold->source->slot->metrics);
    ngx_http_bog_source_wait(hold->source, &hold->waiter);

    return NGX_AGAIN;
}


/*
 * Returns the directive that keeps the request from being held, or NULL.  When
 * a sixteenth of its connections is free, nginx begins to close idle and new
 * ones.  So holding does not use that sixteenth, and such connections count as
 * free.  A request whose descriptor has one of the highest numbers is not held:
 * this needs no system call.
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


/* prepares the hold, one for all of a request, and watches the client */

static ngx_http_bog_hold_t *
ngx_http_bog_hold_create(ngx_http_request_t *r, ngx_http_bog_ctx_t *ctx)
{
    ngx_event_t          *rev;
    ngx_http_cleanup_t   *cln;
    ngx_http_bog_hold_t  *hold;

    hold = ctx->hold;

    if (hold == NULL) {
        cln = ngx_http_cleanup_add(r, sizeof(ngx_http_bog_hold_t));
        if (cln == NULL) {
            return NULL;
        }

        cln->handler = ngx_http_bog_leave;

        hold = cln->data;
        ngx_memzero(hold, sizeof(ngx_http_bog_hold_t));

        hold->ctx = ctx;
        hold->request = r;
        hold->ident = (ngx_socket_t) -1;

        hold->event.handler = ngx_http_bog_hold_event_handler;
        hold->event.data = hold;
        hold->event.log = r->connection->log;

        hold->waiter.handler = ngx_http_bog_hold_waiter_handler;

        ctx->hold = hold;
    }

    hold->source = ctx->source;

    r->write_event_handler = ngx_http_request_empty_handler;

    /*
     * The connection is the active request's to read.  A "post_action" is for
     * a client that has its answer, and may have left.
     */

    if (r != r->connection->data || r->post_action) {
        return hold;
    }

    rev = r->connection->read;

    if (rev->ready) {
        ngx_post_event(rev, &ngx_posted_events);

    } else if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        return NULL;
    }

    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_bog_hold_test_writing;

    return hold;
}


/* an HTTP/3 client that wants no answer any more stops the other direction */

static void
ngx_http_bog_hold_test_writing(ngx_http_request_t *r)
{
    if (r->connection->write->error) {
        r->connection->error = 1;
        ngx_http_finalize_request(r, NGX_HTTP_CLIENT_CLOSED_REQUEST);
    }
}


/*
 * Requests are resumed one by one, each from an event of its own: what one
 * does may end another.
 */

static void
ngx_http_bog_hold_waiter_handler(ngx_http_bog_waiter_t *waiter, ngx_int_t rc)
{
    ngx_http_bog_hold_t  *hold;

    hold = (ngx_http_bog_hold_t *) ((u_char *) waiter
                                    - offsetof(ngx_http_bog_hold_t, waiter));

    hold->outcome = rc;

    ngx_post_event(&hold->event, &ngx_posted_events);
}


static void
ngx_http_bog_hold_event_handler(ngx_event_t *ev)
{
    ngx_connection_t         *c;
    ngx_http_request_t       *r;
    ngx_http_bog_hold_t      *hold;
    ngx_http_bog_loc_conf_t  *blcf;

    hold = ev->data;
    r = hold->request;
    c = r->connection;

    if (ngx_http_get_module_ctx(r, ngx_http_bog_module) != hold->ctx) {

        /* redirected, and our handler has not been reached again yet */

        ngx_http_bog_leave(hold);
        return;
    }

    blcf = ngx_http_get_module_loc_conf(r, ngx_http_bog_module);

    if (!hold->waiter.queued && hold->outcome == NGX_OK
        && hold->ctx->held + (ngx_current_msec - hold->began)
           < blcf->wait_timeout
        && ngx_http_bog_hold_limit(c))
    {
        /* the requests that went on before it free their connections soon */

        if (ev->timer_set) {
            ngx_del_timer(ev);
        }

        ngx_add_timer(ev, NGX_HTTP_BOG_LOOK);
        return;
    }

    ngx_http_set_log_request(c->log, r);

    if (hold->waiter.queued) {

        /* the deadline */

        hold->result = NGX_HTTP_BOG_HOLD_TIMEOUT;
        hold->outcome = NGX_ERROR;

    } else {
        hold->result = (hold->outcome == NGX_OK) ? NGX_HTTP_BOG_HOLD_TOKEN
                                                 : NGX_HTTP_BOG_HOLD_FAILURE;
    }

    ev->timedout = 0;

    hold->resumed = 1;

    ngx_http_bog_leave(hold);

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, c->log, 0,
                   "bog resume: %i, held: %M", hold->outcome, hold->ctx->held);

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
    if (ctx->hold) {
        ctx->hold->resumed = 0;
    }

    /* an earlier location may have refused the request */

    ctx->retry_after = 0;

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_bog_refuse(ngx_http_request_t *r, ngx_http_bog_ctx_t *ctx,
    ngx_http_bog_loc_conf_t *blcf, int64_t next, bog_time_t *now)
{
    /* a token that the API has rejected is better than none */

    ngx_http_bog_fill_ctx(ctx, now, 1);

    if (ctx->token) {
        return ngx_http_bog_pass(ctx);
    }

    /* count the request once, though its next location may refuse it too */

    if (!(ctx->refused & (1 << blcf->token))) {
        ctx->refused |= 1 << blcf->token;
        ngx_http_bog_metrics_count(
                          ctx->source->slot->metrics.without[blcf->token]);
    }

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "no token for client id \"%V\" after %M ms",
                  &ctx->source->account->client_id, ctx->held);

    if (blcf->token == NGX_HTTP_BOG_OPTIONAL) {
        return NGX_DECLINED;
    }

    ctx->retry_after = (ngx_max(next - now->mono, 1) + 999) / 1000;

    return NGX_HTTP_SERVICE_UNAVAILABLE;
}

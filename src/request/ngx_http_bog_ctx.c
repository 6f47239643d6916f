
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_ctx.h"


/*
 * Milliseconds for which a state once given does not change.  Less than the
 * shortest margin before a token's expiry, a tenth of a second.
 */

#define NGX_HTTP_BOG_STABLE  50


static ngx_http_bog_ctx_t *ngx_http_bog_create_ctx(ngx_http_request_t *r);
static ngx_http_bog_token_t *ngx_http_bog_first_token(ngx_http_request_t *r,
    ngx_http_bog_source_t *source);
static ngx_uint_t ngx_http_bog_invalid_token(ngx_http_upstream_t *u);
static ngx_uint_t ngx_http_bog_ctx_rejected(ngx_http_bog_ctx_t *ctx);
static void ngx_http_bog_renew_ctx(ngx_http_bog_ctx_t *ctx, bog_time_t *now);
static ngx_int_t ngx_http_bog_watch_end(ngx_http_bog_ctx_t *ctx);
static void ngx_http_bog_end(void *data);
static ngx_int_t ngx_http_bog_keep_token(ngx_http_bog_ctx_t *ctx);
static void ngx_http_bog_drop_ctx(void *data);
static void ngx_http_bog_drop_token(void *data);


ngx_http_bog_ctx_t *
ngx_http_bog_recover_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t  *cln;
    ngx_http_bog_ctx_t  *ctx;

    /* the contexts are cleared, but not the cleanups */

    for (cln = r->pool->cleanup; cln; cln = cln->next) {

        if (cln->handler == ngx_http_bog_drop_ctx) {
            ctx = cln->data;

            if (ctx->request == r) {
                ctx->redirected = 1;
                ngx_http_set_ctx(r, ctx, ngx_http_bog_module);

                /* the waiter would run the phases a second time */

                if (ctx->hold) {
                    ngx_http_bog_leave(ctx->hold);
                }

                /* the answer that was not passed on may have rejected it */

                ngx_http_bog_check_answer(r, ctx);

                /* nor has the new location been given any so far */

                ctx->given = 0;

                if (r->post_action) {
                    (void) ngx_http_bog_watch_end(ctx);
                }

                return ctx;
            }
        }
    }

    return NULL;
}


ngx_http_bog_ctx_t *
ngx_http_bog_get_ctx(ngx_http_request_t *r, ngx_http_bog_source_t *source,
    bog_time_t *now)
{
    ngx_http_bog_ctx_t  *ctx;

    ctx = ngx_http_bog_find_ctx(r);

    if (ctx == NULL) {
        ctx = ngx_http_bog_create_ctx(r);
        if (ctx == NULL) {
            return NULL;
        }
    }

    if (ctx->source != source) {
        ctx->source = source;
        ctx->refused = 0;
        ngx_http_bog_fill_ctx(ctx, now, 0);

    } else if (!ctx->given) {
        ngx_http_bog_renew_ctx(ctx, now);
    }

    return ctx;
}


ngx_http_bog_token_t *
ngx_http_bog_give_token(ngx_http_request_t *r, ngx_http_bog_source_t *source)
{
    bog_time_t           now;
    ngx_uint_t           has_view;
    ngx_http_bog_ctx_t  *ctx;

    ngx_http_bog_now(&now);

    if (ngx_http_get_module_ctx(r, ngx_http_bog_module) == NULL
        && !ngx_http_bog_may_recover(r)
        && ngx_http_bog_source_fresh(source, &now))
    {
        return ngx_http_bog_first_token(r, source);
    }

    ctx = ngx_http_bog_get_ctx(r, source, &now);
    if (ctx == NULL) {
        return NULL;
    }

    has_view = ctx->has_view;

    if (ctx->token == NULL || ngx_http_bog_ctx_rejected(ctx)) {
        ngx_http_bog_fill_ctx(ctx, &now, 1);

    } else if (ctx->given) {
        ngx_http_bog_renew_ctx(ctx, &now);
    }

    /* a value may have begun with what was said of the one before */

    ctx->has_view = has_view;

    if (ctx->token) {
        ctx->given = 1;
    }

    return ctx->token;
}


/* what most requests come to: all is well, no fetch has failed */

static ngx_http_bog_token_t *
ngx_http_bog_first_token(ngx_http_request_t *r, ngx_http_bog_source_t *source)
{
    ngx_http_bog_ctx_t  *ctx;

    ctx = ngx_http_bog_create_ctx(r);
    if (ctx == NULL) {
        return NULL;
    }

    source->fresh->refs++;

    ctx->source = source;
    ctx->token = source->fresh;
    ctx->kept = source->fresh;
    ctx->filled = ngx_current_msec;
    ctx->looked = ngx_current_msec;
    ctx->given = 1;

    return source->fresh;
}


ngx_http_bog_view_t *
ngx_http_bog_view_ctx(ngx_http_bog_ctx_t *ctx)
{
    if (!ctx->has_view || ctx->viewed != ngx_current_msec) {
        ctx->view.token = ctx->token;
        ctx->view.error = ctx->error;
        ctx->view.status = ctx->status;
        ctx->viewed = ngx_current_msec;
        ctx->has_view = 1;
    }

    return &ctx->view;
}


/*
 * What the API has answered is only known here of requests that were sent with
 * a token: one that came from a cache was not, and a variable that is merely
 * logged is read when all is over.
 */

void
ngx_http_bog_check_answer(ngx_http_request_t *r, ngx_http_bog_ctx_t *ctx)
{
    char                   *outcome;
    ngx_int_t               rc;
    ngx_uint_t              level, status;
    ngx_http_upstream_t    *u;
    ngx_http_bog_source_t  *source;

    u = r->upstream;

    if (u == NULL || u == ctx->answered || !ctx->given) {
        return;
    }

#if (NGX_HTTP_CACHE)

    if (r->cached) {
        return;
    }

#endif

    source = ctx->source;
    status = u->headers_in.status_n;

    if (status < NGX_HTTP_BAD_REQUEST) {

        if (status) {
            ngx_http_bog_source_accept(source, ctx->token);
        }

        return;
    }

    if (status != NGX_HTTP_UNAUTHORIZED && !ngx_http_bog_invalid_token(u)) {
        return;
    }

    /* what is given from now on is for another one */

    ctx->answered = u;
    ctx->given = 0;

    ngx_http_bog_metrics_count(source->slot->metrics.unauthorized);

    rc = ngx_http_bog_source_reject(source, ctx->token);

    switch (rc) {

    case NGX_OK:
        ngx_http_bog_metrics_count(source->slot->metrics.rejected);

        level = NGX_LOG_WARN;
        outcome = "is replaced";
        break;

    case NGX_DONE:
        level = NGX_LOG_INFO;
        outcome = "has been replaced already";
        break;

    default: /* NGX_DECLINED */
        level = NGX_LOG_INFO;
        outcome = "is kept";
    }

    ngx_log_error(level, r->connection->log, 0,
                  "token \"%*s\" of client id \"%V\" was rejected, it %s",
                  sizeof(ctx->token->id), ctx->token->id,
                  &source->account->client_id, outcome);
}


/* RFC 6750, 3: Bearer realm="...", error="invalid_token" */

static ngx_uint_t
ngx_http_bog_invalid_token(ngx_http_upstream_t *u)
{
    u_char           *p, *last;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    static ngx_str_t  name = ngx_string("WWW-Authenticate");
    static ngx_str_t  error = ngx_string("error=\"invalid_token\"");

    for (part = &u->headers_in.headers.part; part; part = part->next) {

        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].key.len != name.len
                || ngx_strncasecmp(h[i].key.data, name.data, name.len) != 0)
            {
                continue;
            }

            last = h[i].value.data + h[i].value.len;

            p = ngx_strlcasestrn(h[i].value.data, last,
                                 (u_char *) "bearer", 6 - 1);

            if (p && ngx_strlcasestrn(p, last, error.data, error.len - 1)) {
                return 1;
            }
        }
    }

    return 0;
}


/* not twice in one event: another worker may reject it between the two */

static ngx_uint_t
ngx_http_bog_ctx_rejected(ngx_http_bog_ctx_t *ctx)
{
    if (ngx_current_msec - ctx->looked < NGX_HTTP_BOG_STABLE) {
        return 0;
    }

    ctx->looked = ngx_current_msec;

    return ngx_http_bog_source_rejected(ctx->source, ctx->token);
}


static void
ngx_http_bog_renew_ctx(ngx_http_bog_ctx_t *ctx, bog_time_t *now)
{
    if (ctx->token && bog_times_valid(&ctx->token->times, now)) {
        return;
    }

    if (ngx_current_msec - ctx->filled >= NGX_HTTP_BOG_STABLE) {
        ngx_http_bog_fill_ctx(ctx, now, 0);
    }
}


/*
 * The context goes with the pool: the access log, which may name the token,
 * is written when the request's own cleanups have been run.  Its cleanup is a
 * part of it, as nearly all requests need both.
 */

static ngx_http_bog_ctx_t *
ngx_http_bog_create_ctx(ngx_http_request_t *r)
{
    ngx_http_bog_ctx_t  *ctx;

    ctx = ngx_pcalloc(r->pool, sizeof(ngx_http_bog_ctx_t));
    if (ctx == NULL) {
        return NULL;
    }

    ctx->cleanup.handler = ngx_http_bog_drop_ctx;
    ctx->cleanup.data = ctx;
    ctx->cleanup.next = r->pool->cleanup;

    r->pool->cleanup = &ctx->cleanup;

    ctx->request = r;

    ngx_http_set_ctx(r, ctx, ngx_http_bog_module);

    if ((r->post_action || r != r->main)
        && ngx_http_bog_watch_end(ctx) != NGX_OK)
    {
        return NULL;
    }

    return ctx;
}


/*
 * Our filter does not see what these were answered: a "post_action", as it
 * sends no header, and the subrequest of a slice, as that filter comes first
 * and lets no 401 pass.
 */

static ngx_int_t
ngx_http_bog_watch_end(ngx_http_bog_ctx_t *ctx)
{
    ngx_http_cleanup_t  *cln;

    cln = ngx_http_cleanup_add(ctx->request, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_bog_end;
    cln->data = ctx;

    return NGX_OK;
}


static void
ngx_http_bog_end(void *data)
{
    ngx_http_bog_ctx_t *ctx = data;

    ngx_http_bog_check_answer(ctx->request, ctx);
}


/*
 * A request keeps all tokens that it was given: what a regular expression has
 * captured of one is not copied, and may be read when another one is there.
 */

void
ngx_http_bog_fill_ctx(ngx_http_bog_ctx_t *ctx, bog_time_t *now, ngx_uint_t any)
{
    ngx_http_bog_token_t  *token;

    token = any ? ngx_http_bog_source_any_token(ctx->source, now)
                : ngx_http_bog_source_token(ctx->source, now);

    if (token && token != ctx->kept) {

        if (ngx_http_bog_keep_token(ctx) == NGX_OK) {
            ctx->kept = token;
            token->refs++;

        } else {
            token = NULL;
        }
    }

    if (token != ctx->token) {
        ctx->token = token;
        ctx->given = 0;
    }

    ctx->filled = ngx_current_msec;
    ctx->looked = ctx->filled;
    ctx->error = ctx->source->record.policy.error;
    ctx->status = ctx->source->record.policy.status;
    ctx->has_view = 0;
}


/* the reference to one that is replaced, which is seldom, is the pool's */

static ngx_int_t
ngx_http_bog_keep_token(ngx_http_bog_ctx_t *ctx)
{
    ngx_pool_cleanup_t  *cln;

    if (ctx->kept == NULL) {
        return NGX_OK;
    }

    cln = ngx_pool_cleanup_add(ctx->request->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_bog_drop_token;
    cln->data = ctx->kept;

    return NGX_OK;
}


static void
ngx_http_bog_drop_token(void *data)
{
    ngx_http_bog_token_free(data);
}


static void
ngx_http_bog_drop_ctx(void *data)
{
    ngx_http_bog_ctx_t *ctx = data;

    if (ctx->kept) {
        ngx_http_bog_token_free(ctx->kept);
    }
}


void
ngx_http_bog_leave(void *data)
{
    ngx_http_bog_hold_t *hold = data;

    ngx_msec_t  ms;

    if (hold->waiting) {
        hold->waiting = 0;

        ms = ngx_current_msec - hold->began;
        hold->ctx->held += ms;

        ngx_http_bog_metrics_held(&hold->source->slot->metrics, hold->result,
                                  ms);
    }

    if (hold->event.timer_set) {
        ngx_del_timer(&hold->event);
    }

    if (hold->event.posted) {
        ngx_delete_posted_event(&hold->event);
    }

    ngx_http_bog_source_leave(hold->source, &hold->waiter);
}

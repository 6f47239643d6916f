
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_request.h"


/*
 * The context of a client request: it knows which token the request has.  The
 * phase handler, the variables and the filter use it.  It must not change while
 * nginx evaluates a value, and must not free a token before the request ends.
 */


static ngx_http_bog_ctx_t *ngx_http_bog_create_ctx(ngx_http_request_t *r);
static void ngx_http_bog_check_at_end(ngx_http_bog_ctx_t *ctx);
static void ngx_http_bog_set_token(ngx_http_bog_ctx_t *ctx,
    ngx_http_bog_token_t *token);
static void ngx_http_bog_ctx_cleanup(void *data);


ngx_http_bog_ctx_t *
ngx_http_bog_recover_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t  *cln;
    ngx_http_bog_ctx_t  *ctx;

    /* a context begins with its cleanup; the pool has those of all requests */

    for (cln = r->pool->cleanup; cln; cln = cln->next) {

        if (cln->handler == ngx_http_bog_ctx_cleanup
            && ((ngx_http_bog_ctx_t *) cln)->request == r)
        {
            break;
        }
    }

    if (cln == NULL) {
        return NULL;
    }

    ctx = (ngx_http_bog_ctx_t *) cln;

    ngx_http_set_ctx(r, ctx, ngx_http_bog_module);

    /* or the hold would run the phases a second time */

    if (ctx->hold) {
        ngx_http_bog_abort_hold(ctx->hold);
    }

    /* the filter has not seen the answer that led to the redirect */

    ngx_http_bog_check_answer(ctx);

    /* the new location has not read the token yet, nor sent a request */

    ctx->checked = r->upstream;
    ctx->sent = NULL;
    ctx->looked_up = 0;

    if (r->post_action) {
        ngx_http_bog_check_at_end(ctx);
    }

    return ctx;
}


ngx_http_bog_ctx_t *
ngx_http_bog_look_up(ngx_http_request_t *r, ngx_uint_t bearer)
{
    bog_time_t                now;
    ngx_http_bog_ctx_t       *ctx;
    ngx_http_bog_source_t    *source;
    ngx_http_bog_loc_conf_t  *blcf;

    blcf = ngx_http_get_module_loc_conf(r, ngx_http_bog_module);

    source = blcf->source;

    if (source == NULL) {
        return NULL;
    }

    ctx = ngx_http_bog_find_ctx(r);

    if (ctx == NULL) {
        ctx = ngx_http_bog_create_ctx(r);
        if (ctx == NULL) {
            return NULL;
        }
    }

    if (ctx->source != source) {
        ctx->source = source;
        ctx->token = NULL;
        ctx->sent = NULL;
        ctx->counted = 0;

    } else if (ctx->looked_up == ngx_current_msec) {
        return ctx;
    }

    ngx_http_bog_now(&now);

    if (!ngx_http_bog_token_usable(ctx, &now)) {
        ngx_http_bog_set_token(ctx, ngx_http_bog_source_fresh(source, &now)
                             ? source->fresh
                             : ngx_http_bog_source_any_token(source, &now));
    }

    ctx->described = (bearer || ctx->sent == NULL) ? ctx->token : ctx->sent;
    ctx->looked_up = ngx_current_msec;

    return ctx;
}


/*
 * The context has a cleanup of the pool, as the access log, which may read the
 * variables, is written after the cleanups of the request have run.
 */

static ngx_http_bog_ctx_t *
ngx_http_bog_create_ctx(ngx_http_request_t *r)
{
    ngx_http_bog_ctx_t  *ctx;

    ctx = ngx_pcalloc(r->pool, sizeof(ngx_http_bog_ctx_t));
    if (ctx == NULL) {
        return NULL;
    }

    ctx->cleanup.handler = ngx_http_bog_ctx_cleanup;
    ctx->cleanup.next = r->pool->cleanup;

    r->pool->cleanup = &ctx->cleanup;

    ctx->request = r;

    /* what an earlier location was answered says nothing of the token */

    if (r->upstream && r->upstream->headers_in.status_n) {
        ctx->checked = r->upstream;
    }

    ngx_http_set_ctx(r, ctx, ngx_http_bog_module);

    if (r->post_action || r != r->main) {
        ngx_http_bog_check_at_end(ctx);
    }

    return ctx;
}


/*
 * The filter does not see all answers: a "post_action" sends no header, and the
 * slice filter, which is called before ours, lets no 401 pass.  If there is no
 * memory, such an answer is not checked.
 */

static void
ngx_http_bog_check_at_end(ngx_http_bog_ctx_t *ctx)
{
    ngx_http_cleanup_t  *cln;

    cln = ngx_http_cleanup_add(ctx->request, 0);

    if (cln) {
        cln->handler = ngx_http_bog_check_answer;
        cln->data = ctx;
    }
}


void
ngx_http_bog_take_token(ngx_http_bog_ctx_t *ctx, bog_time_t *now,
    ngx_uint_t any)
{
    ngx_http_bog_set_token(ctx, any
                             ? ngx_http_bog_source_any_token(ctx->source, now)
                             : ngx_http_bog_source_token(ctx->source, now));

    if (ctx->sent != ctx->token) {
        ctx->sent = NULL;
    }

    ctx->described = ctx->token;
    ctx->looked_up = ngx_current_msec;
}


/*
 * A request keeps its reference to each token that it had until the pool is
 * destroyed: a regular expression does not copy what it captures of a token,
 * and the captures may be read when the request has another one.
 */

static void
ngx_http_bog_set_token(ngx_http_bog_ctx_t *ctx, ngx_http_bog_token_t *token)
{
    ngx_pool_cleanup_t  *cln;

    if (token == NULL || token == ctx->token) {
        ctx->token = token;
        return;
    }

    cln = &ctx->cleanup;

    if (cln->data) {
        cln = ngx_pool_cleanup_add(ctx->request->pool, 0);
        if (cln == NULL) {
            ctx->token = NULL;
            return;
        }

        cln->handler = ngx_http_bog_token_free;
    }

    cln->data = token;
    token->refs++;

    ctx->token = token;
}


static void
ngx_http_bog_ctx_cleanup(void *data)
{
    if (data) {
        ngx_http_bog_token_free(data);
    }
}


void
ngx_http_bog_log_error(ngx_uint_t level, ngx_http_request_t *r,
    const char *fmt, ...)
{
    char       *action;
    u_char     *p;
    u_char      buf[NGX_MAX_ERROR_STR];
    va_list     args;
    ngx_log_t  *log;

    log = r->connection->log;

    va_start(args, fmt);
    p = ngx_vslprintf(buf, buf + sizeof(buf), fmt, args);
    va_end(args);

    action = log->action;
    log->action = NULL;

    ngx_log_error(level, log, 0, "%*s", (size_t) (p - buf), buf);

    log->action = action;
}

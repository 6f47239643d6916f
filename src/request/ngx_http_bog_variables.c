
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_ctx.h"
#include "ngx_http_bog_variables.h"


static ngx_http_bog_view_t *ngx_http_bog_variable_view(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, bog_time_t *now);
static void ngx_http_bog_variable_set(ngx_http_variable_value_t *v,
    u_char *data, size_t len);
static ngx_int_t ngx_http_bog_variable_bearer_token(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_bog_variable_state(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_bog_variable_expires(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_bog_variable_id(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_bog_variable_error(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_bog_variable_hold_time(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);


static ngx_http_variable_t  ngx_http_bog_vars[] = {

    { ngx_string(NGX_HTTP_BOG_BEARER_TOKEN), NULL,
      ngx_http_bog_variable_bearer_token, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("bog_token_state"), NULL,
      ngx_http_bog_variable_state, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("bog_token_expires"), NULL,
      ngx_http_bog_variable_expires, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("bog_token_id"), NULL,
      ngx_http_bog_variable_id, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("bog_token_error"), NULL,
      ngx_http_bog_variable_error, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("bog_hold_time"), NULL,
      ngx_http_bog_variable_hold_time, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

      ngx_http_null_variable
};


ngx_int_t
ngx_http_bog_add_variables(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    for (v = ngx_http_bog_vars; v->name.len; v++) {
        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


/* returns NULL, and v without a value, in a location that takes no part */

static ngx_http_bog_view_t *
ngx_http_bog_variable_view(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, bog_time_t *now)
{
    ngx_http_bog_ctx_t       *ctx;
    ngx_http_bog_loc_conf_t  *blcf;

    v->not_found = 1;

    blcf = ngx_http_get_module_loc_conf(r, ngx_http_bog_module);

    if (blcf->source == NULL) {
        return NULL;
    }

    ngx_http_bog_now(now);

    ctx = ngx_http_bog_get_ctx(r, blcf->source, now);

    return ctx ? ngx_http_bog_view_ctx(ctx) : NULL;
}


static void
ngx_http_bog_variable_set(ngx_http_variable_value_t *v, u_char *data,
    size_t len)
{
    v->data = data;
    v->len = len;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
}


static ngx_int_t
ngx_http_bog_variable_bearer_token(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_http_bog_token_t     *token;
    ngx_http_bog_loc_conf_t  *blcf;

    blcf = ngx_http_get_module_loc_conf(r, ngx_http_bog_module);

    token = blcf->source ? ngx_http_bog_give_token(r, blcf->source) : NULL;

    if (token) {
        ngx_http_bog_variable_set(v, token->data, token->len);

    } else {
        v->not_found = 1;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_variable_state(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    bog_time_t            now;
    ngx_str_t             state;
    ngx_http_bog_view_t  *view;

    view = ngx_http_bog_variable_view(r, v, &now);

    if (view == NULL) {
        ngx_str_set(&state, "off");

    } else if (view->token == NULL) {
        ngx_str_set(&state, "missing");

    } else if (bog_times_refreshing(&view->token->times, &now)) {
        ngx_str_set(&state, "refreshing");

    } else {
        ngx_str_set(&state, "valid");
    }

    ngx_http_bog_variable_set(v, state.data, state.len);

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_variable_expires(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                *p;
    int64_t                left;
    bog_time_t             now;
    ngx_http_bog_view_t   *view;

    view = ngx_http_bog_variable_view(r, v, &now);

    if (view == NULL || view->token == NULL) {
        return NGX_OK;
    }

    left = bog_times_left(&view->token->times, &now);
    left = ngx_max(left, 0);

    p = ngx_pnalloc(r->pool, NGX_INT64_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_http_bog_variable_set(v, p, ngx_sprintf(p, "%L", left / 1000) - p);

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_variable_id(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    bog_time_t            now;
    ngx_http_bog_view_t  *view;

    view = ngx_http_bog_variable_view(r, v, &now);

    if (view && view->token) {
        ngx_http_bog_variable_set(v, view->token->id,
                                  sizeof(view->token->id));
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_variable_error(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char               *p, *last;
    bog_time_t            now;
    ngx_http_bog_view_t  *view;

    view = ngx_http_bog_variable_view(r, v, &now);

    if (view == NULL || view->error == BOG_ERROR_NONE) {
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, NGX_HTTP_BOG_CLASS_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    last = ngx_http_bog_error_class(p, view->error, view->status);

    ngx_http_bog_variable_set(v, p, last - p);

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_variable_hold_time(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char              *p;
    ngx_msec_t           ms;
    ngx_http_bog_ctx_t  *ctx;

    ctx = ngx_http_bog_find_ctx(r);

    ms = ctx ? ctx->held : 0;

    p = ngx_pnalloc(r->pool, NGX_TIME_T_LEN + 4);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_http_bog_variable_set(v, p, ngx_sprintf(p, "%T.%03M",
                                                (time_t) ms / 1000, ms % 1000)
                                    - p);

    return NGX_OK;
}

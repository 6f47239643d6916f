
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_request.h"


/*
 * The variables $bog_*.  nginx calls a get handler when it needs the length of
 * a value, and again when it copies the value.  So a handler must only say what
 * the context of the request says, which does not change within an event.
 */


/* what ngx_http_bog_description_variable() tells of the token */

#define NGX_HTTP_BOG_STATE    0
#define NGX_HTTP_BOG_EXPIRES  1
#define NGX_HTTP_BOG_ID       2
#define NGX_HTTP_BOG_ERROR    3

/* the longest ones are the class of a failure, and a number */

#define NGX_HTTP_BOG_DESCRIPTION_LEN                                          \
    ngx_max(NGX_HTTP_BOG_CLASS_LEN, NGX_INT64_LEN)


static ngx_int_t ngx_http_bog_bearer_token_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_bog_description_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_bog_hold_time_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_bog_account_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_bog_set_value(ngx_http_variable_value_t *v,
    u_char *data, size_t len);


/* none is cacheable: an empty value that "set" has read must not stay */

static ngx_http_variable_t  ngx_http_bog_vars[] = {

    { ngx_string(NGX_HTTP_BOG_BEARER_TOKEN), NULL,
      ngx_http_bog_bearer_token_variable, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("bog_token_state"), NULL, ngx_http_bog_description_variable,
      NGX_HTTP_BOG_STATE, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("bog_token_expires"), NULL, ngx_http_bog_description_variable,
      NGX_HTTP_BOG_EXPIRES, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("bog_token_id"), NULL, ngx_http_bog_description_variable,
      NGX_HTTP_BOG_ID, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("bog_token_error"), NULL, ngx_http_bog_description_variable,
      NGX_HTTP_BOG_ERROR, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("bog_hold_time"), NULL, ngx_http_bog_hold_time_variable,
      0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("bog_client_id"), NULL, ngx_http_bog_account_variable,
      offsetof(ngx_http_bog_account_t, client_id), NGX_HTTP_VAR_NOCACHEABLE,
      0 },

    { ngx_string("bog_source"), NULL, ngx_http_bog_account_variable,
      offsetof(ngx_http_bog_account_t, name), NGX_HTTP_VAR_NOCACHEABLE, 0 },

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


static ngx_int_t
ngx_http_bog_bearer_token_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_http_bog_ctx_t  *ctx;

    ctx = ngx_http_bog_look_up(r, 1);

    if (ctx) {
        ctx->sent = ctx->token;
    }

    if (ctx == NULL || ctx->token == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    return ngx_http_bog_set_value(v, ctx->token->data, ctx->token->len);
}


static ngx_int_t
ngx_http_bog_description_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                *p, *last;
    int64_t                left;
    ngx_str_t              state;
    bog_time_t             now;
    bog_policy_t          *policy;
    ngx_http_bog_ctx_t    *ctx;
    ngx_http_bog_token_t  *token;

    ctx = ngx_http_bog_look_up(r, 0);
    token = ctx ? ctx->described : NULL;

    ngx_http_bog_now(&now);

    if (data == NGX_HTTP_BOG_STATE) {

        if (ctx == NULL) {
            ngx_str_set(&state, "off");

        } else if (token == NULL) {
            ngx_str_set(&state, "missing");

        } else if (bog_times_refreshing(&token->times, &now)) {
            ngx_str_set(&state, "refreshing");

        } else {
            ngx_str_set(&state, "valid");
        }

        return ngx_http_bog_set_value(v, state.data, state.len);
    }

    if (data == NGX_HTTP_BOG_ID) {
        return token ? ngx_http_bog_set_value(v, token->id, sizeof(token->id))
                     : ngx_http_bog_set_value(v, NULL, 0);
    }

    p = ngx_pnalloc(r->pool, NGX_HTTP_BOG_DESCRIPTION_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    last = p;

    if (data == NGX_HTTP_BOG_EXPIRES && token) {
        left = bog_times_left(&token->times, &now);
        last = ngx_sprintf(p, "%L", ngx_max(left, 0) / 1000);
    }

    if (data == NGX_HTTP_BOG_ERROR && ctx) {
        policy = &ctx->source->record.policy;

        if (policy->error != BOG_ERROR_NONE) {
            last = ngx_http_bog_error_class(p, policy->error, policy->status);
        }
    }

    return ngx_http_bog_set_value(v, p, last - p);
}


static ngx_int_t
ngx_http_bog_hold_time_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char              *p, *last;
    ngx_msec_t           ms;
    ngx_http_bog_ctx_t  *ctx;

    ctx = ngx_http_bog_find_ctx(r);

    ms = ctx ? ctx->held : 0;

    p = ngx_pnalloc(r->pool, NGX_TIME_T_LEN + 4);
    if (p == NULL) {
        return NGX_ERROR;
    }

    last = ngx_sprintf(p, "%T.%03M", (time_t) ms / 1000, ms % 1000);

    return ngx_http_bog_set_value(v, p, last - p);
}


/* Gives a string of the account that the location uses. */

static ngx_int_t
ngx_http_bog_account_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                *value;
    ngx_http_bog_loc_conf_t  *blcf;

    blcf = ngx_http_get_module_loc_conf(r, ngx_http_bog_module);

    if (blcf->source == NULL) {
        return ngx_http_bog_set_value(v, NULL, 0);
    }

    value = (ngx_str_t *) ((u_char *) blcf->source->account + data);

    return ngx_http_bog_set_value(v, value->data, value->len);
}


static ngx_int_t
ngx_http_bog_set_value(ngx_http_variable_value_t *v, u_char *data, size_t len)
{
    if (len == 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    v->data = data;
    v->len = len;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}


/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_compat.h"
#include "ngx_http_bog_directives.h"
#include "ngx_http_bog_endpoint_conf.h"
#include "ngx_http_bog_manager.h"
#include "ngx_http_bog_secret.h"


static ngx_http_bog_credential_t *ngx_http_bog_add_credential(ngx_conf_t *cf);
static void ngx_http_bog_pair_credentials(ngx_http_bog_loc_conf_t *blcf);


char *
ngx_http_bog_client_id(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_bog_loc_conf_t *blcf = conf;

    u_char                     *p, *last;
    ngx_str_t                  *value;
    ngx_http_bog_credential_t  *cred;

    if (blcf->client_id != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (value[1].len == 0 || value[1].len > 256) {
        return "must be of 1 to 256 characters";
    }

    p = value[1].data;
    last = p + value[1].len;

    while (p < last) {

        if (*p == '$') {
            return "does not support variables, \"$\" is not allowed";
        }

        if (*p >= 0x80 ? ngx_utf8_decode(&p, last - p) > 0x10ffff
                       : *p < 0x20 || *p++ == 0x7f)
        {
            return "must be UTF-8 without control characters";
        }
    }

    cred = ngx_http_bog_add_credential(cf);
    if (cred == NULL) {
        return NGX_CONF_ERROR;
    }

    cred->value = value[1];

    blcf->client_id = cred;

    ngx_http_bog_pair_credentials(blcf);

    return NGX_CONF_OK;
}


char *
ngx_http_bog_client_secret_file(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_bog_loc_conf_t *blcf = conf;

    ngx_str_t                  *value;
    ngx_http_bog_main_conf_t   *bmcf;
    ngx_http_bog_credential_t  *cred;

    if (blcf->client_secret != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (value[1].len == 0) {
        return "needs the path of a file";
    }

    if (ngx_conf_full_name(cf->cycle, &value[1], 1) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    cred = ngx_http_bog_add_credential(cf);
    if (cred == NULL) {
        return NGX_CONF_ERROR;
    }

    bmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_bog_module);

    if (ngx_http_bog_secret_read(cf, bmcf->secrets, &value[1], &cred->value)
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    blcf->client_secret = cred;

    ngx_http_bog_pair_credentials(blcf);

    return NGX_CONF_OK;
}


static ngx_http_bog_credential_t *
ngx_http_bog_add_credential(ngx_conf_t *cf)
{
    ngx_str_t                   *value;
    ngx_http_bog_main_conf_t    *bmcf;
    ngx_http_bog_credential_t   *cred, **slot;

    bmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_bog_module);

    cred = ngx_pcalloc(cf->pool, sizeof(ngx_http_bog_credential_t));
    if (cred == NULL) {
        return NULL;
    }

    value = cf->args->elts;

    cred->name = value[0];
    ngx_http_bog_conf_place(cf, &cred->place);

    slot = ngx_array_push(&bmcf->credentials);
    if (slot == NULL) {
        return NULL;
    }

    *slot = cred;

    return cred;
}


/* those of a block that no location inherits, which is no mistake */

static void
ngx_http_bog_pair_credentials(ngx_http_bog_loc_conf_t *blcf)
{
    if (blcf->client_id == NGX_CONF_UNSET_PTR
        || blcf->client_secret == NGX_CONF_UNSET_PTR)
    {
        return;
    }

    blcf->client_id->paired = 1;
    blcf->client_secret->paired = 1;
}


char *
ngx_http_bog_token_endpoint(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_bog_loc_conf_t *blcf = conf;

    char                  *err;
    ngx_str_t             *value;
    ngx_http_bog_place_t   place;

    if (blcf->endpoint != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    ngx_http_bog_conf_place(cf, &place);

    blcf->endpoint = ngx_http_bog_endpoint_get(cf, &value[1], &place, &err);

    if (blcf->endpoint == NULL) {
        if (*err) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "%s in token endpoint \"%V\"", err, &value[1]);
        }

        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


char *
ngx_http_bog_token_param(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_bog_loc_conf_t *blcf = conf;

    ngx_str_t    *value;
    bog_param_t  *param;

    value = cf->args->elts;

    if (value[1].len == 0) {
        return "needs a name";
    }

    if (value[1].len == sizeof("grant_type") - 1
        && ngx_strncmp(value[1].data, "grant_type", value[1].len) == 0)
    {
        return "cannot change \"grant_type\", "
               "it always is \"client_credentials\"";
    }

    if (value[1].len == sizeof("client_secret") - 1
        && ngx_strncmp(value[1].data, "client_secret", value[1].len) == 0)
    {
        return "cannot hold the secret, use \"bog_client_secret_file\"";
    }

    if (blcf->params == NGX_CONF_UNSET_PTR) {
        blcf->params = ngx_array_create(cf->pool, 2, sizeof(bog_param_t));
        if (blcf->params == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    param = ngx_array_push(blcf->params);
    if (param == NULL) {
        return NGX_CONF_ERROR;
    }

    param->name.data = value[1].data;
    param->name.len = value[1].len;
    param->value.data = value[2].data;
    param->value.len = value[2].len;

    return NGX_CONF_OK;
}


/*
 * nginx makes the folders of all its paths, for the user of its workers, and
 * where one has a manager, starts the cache manager process to call it.
 */

char *
ngx_http_bog_state_path(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_bog_main_conf_t *bmcf = conf;

    ngx_str_t   *value;
    ngx_path_t  *path;

    if (bmcf->state_dir.path) {
        return "is duplicate";
    }

    value = cf->args->elts;

    while (value[1].len && value[1].data[value[1].len - 1] == '/') {
        value[1].data[--value[1].len] = '\0';
    }

    if (value[1].len == 0) {
        return "needs the path of a folder";
    }

    path = ngx_pcalloc(cf->pool, sizeof(ngx_path_t));
    if (path == NULL) {
        return NGX_CONF_ERROR;
    }

    path->name = value[1];

    if (ngx_conf_full_name(cf->cycle, &path->name, 0) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    path->conf_file = cf->conf_file->file.name.data;
    path->line = cf->conf_file->line;
    path->manager = ngx_http_bog_manager;
    path->data = &bmcf->state_dir;

    bmcf->state_dir.path = path;
    bmcf->state_dir.accounts = &bmcf->accounts;

    if (ngx_add_path(cf, &bmcf->state_dir.path) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


char *
ngx_http_bog_check_time(ngx_conf_t *cf, void *post, void *data)
{
    ngx_msec_t            *msec = data;
    ngx_conf_num_bounds_t *bounds = post;

    if (*msec < (ngx_msec_t) bounds->low) {
        return "must be above zero";
    }

    /* timers take a sum of several times */

    if (*msec > (ngx_msec_t) bounds->high) {
        return "must be at most one day";
    }

    return NGX_CONF_OK;
}


char *
ngx_http_bog_check_verify(ngx_conf_t *cf, void *post, void *data)
{
    ngx_flag_t *verify = data;

    if (!*verify) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "\"bog_ssl_verify off\" lets anyone on the way to "
                           "the token endpoint read the client secret");
    }

    return NGX_CONF_OK;
}


char *
ngx_http_bog_check_name(ngx_conf_t *cf, void *post, void *data)
{
    ngx_str_t *name = data;

    size_t  i;

    if (name->len == 0) {
        return "needs a name";
    }

    /* it becomes a line of the request's header */

    for (i = 0; i < name->len; i++) {
        if (name->data[i] <= 0x20 || name->data[i] >= 0x7f) {
            return "must be of visible ASCII characters";
        }
    }

    return NGX_CONF_OK;
}


char *
ngx_http_bog_check_conf_command(ngx_conf_t *cf, void *post, void *data)
{
    if (!NGX_HTTP_BOG_CONF_COMMANDS) {
        return "needs nginx 1.19.4 or newer";
    }

    return NGX_CONF_OK;
}


char *
ngx_http_bog_bind(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_bog_loc_conf_t *blcf = conf;

    char  *rv;

    rv = ngx_http_upstream_bind_set_slot(cf, cmd, conf);

    if (rv == NGX_CONF_OK && blcf->local && blcf->local->value) {
        return "does not support variables, there is no client's request";
    }

    return rv;
}

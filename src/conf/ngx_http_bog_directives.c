
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_compat.h"
#include "ngx_http_bog_conf.h"


/*
 * What each directive takes, and what it refuses.  nginx calls these handlers
 * while it reads the configuration.  The client secret is read from its file
 * here, and stays in guarded memory.
 */


/* the longest secret in a file; room for it, a line end and one byte more */

#define NGX_HTTP_BOG_SECRET_MAX   4096
#define NGX_HTTP_BOG_SECRET_ROOM  (NGX_HTTP_BOG_SECRET_MAX + sizeof(CRLF))


static ngx_http_bog_credential_t *ngx_http_bog_add_credential(ngx_conf_t *cf);
static ngx_int_t ngx_http_bog_read_secret(ngx_conf_t *cf, ngx_str_t *file,
    ngx_str_t *secret);
static ngx_int_t ngx_http_bog_check_secret(ngx_conf_t *cf, ngx_str_t *file,
    ngx_str_t *secret);


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

    cred->value.data = bog_pool_alloc(bmcf->secrets, NGX_HTTP_BOG_SECRET_ROOM);
    if (cred->value.data == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "no memory for the client secret");
        return NGX_CONF_ERROR;
    }

    if (ngx_http_bog_read_secret(cf, &value[1], &cred->value) != NGX_OK
        || ngx_http_bog_check_secret(cf, &value[1], &cred->value) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    blcf->client_secret = cred;

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
    cred->place.file = cf->conf_file->file.name;
    cred->place.line = cf->conf_file->line;

    slot = ngx_array_push(&bmcf->credentials);
    if (slot == NULL) {
        return NULL;
    }

    *slot = cred;

    return cred;
}


/* Reads the file, up to NGX_HTTP_BOG_SECRET_ROOM bytes of it. */

static ngx_int_t
ngx_http_bog_read_secret(ngx_conf_t *cf, ngx_str_t *file, ngx_str_t *secret)
{
    char             *failed;
    ssize_t           n;
    ngx_file_info_t   fi;

    n = ngx_http_bog_read_file(file->data, 0, secret->data,
                               NGX_HTTP_BOG_SECRET_ROOM, &fi, &failed);

    if (n == NGX_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "%s client secret \"%s\" failed",
                           failed, file->data);
        return NGX_ERROR;
    }

    if (n == NGX_DECLINED) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "client secret \"%s\" is not a regular file",
                           file->data);
        return NGX_ERROR;
    }

    if (fi.st_mode & S_IROTH) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "client secret \"%s\" can be read by everyone, "
                           "its mode should be 0600", file->data);
    }

    secret->len = n;

    return NGX_OK;
}


/* Takes one line end off the secret, and looks at what is left. */

static ngx_int_t
ngx_http_bog_check_secret(ngx_conf_t *cf, ngx_str_t *file, ngx_str_t *secret)
{
    size_t   i, len;
    u_char  *p;

    p = secret->data;
    len = secret->len;

    if (len && p[len - 1] == LF) {
        len--;

        if (len && p[len - 1] == CR) {
            len--;
        }
    }

    secret->len = len;

    if (len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "client secret \"%s\" is empty", file->data);
        return NGX_ERROR;
    }

    if (len > NGX_HTTP_BOG_SECRET_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "client secret \"%s\" is longer than %d bytes",
                           file->data, NGX_HTTP_BOG_SECRET_MAX);
        return NGX_ERROR;
    }

    for (i = 0; i < len; i++) {
        if (p[i] < 0x20 || p[i] == 0x7f) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "client secret \"%s\" has a control character "
                               "at byte %uz, one secret on one line is "
                               "expected", file->data, i + 1);
            return NGX_ERROR;
        }
    }

    /* an editor, or a text that was copied, may have left these behind */

    if (ngx_strchr(" \"'", p[0])
        || ngx_strchr(" \"'", p[len - 1])
        || (len > 2 && ngx_memcmp(p, "\xEF\xBB\xBF", 3) == 0)
        || (len > 1 && (ngx_memcmp(p, "\xC2\xA0", 2) == 0
                        || ngx_memcmp(p + len - 2, "\xC2\xA0", 2) == 0)))
    {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "client secret \"%s\" begins or ends with a blank, "
                           "a quote or a byte order mark, which is sent too",
                           file->data);
    }

    return NGX_OK;
}


char *
ngx_http_bog_token_endpoint(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_bog_loc_conf_t *blcf = conf;

    ngx_str_t  *value;

    if (blcf->endpoint != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    blcf->endpoint = ngx_http_bog_endpoint_get(cf, &value[1]);

    return blcf->endpoint ? NGX_CONF_OK : NGX_CONF_ERROR;
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

    if (ngx_strcmp(value[1].data, "grant_type") == 0) {
        return "cannot change \"grant_type\", "
               "it always is \"client_credentials\"";
    }

    if (ngx_strcmp(value[1].data, "client_secret") == 0) {
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
 * nginx makes the folder of each path, for the user of its workers.  If a path
 * has a manager, nginx starts the cache manager process, which calls it.
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
    path->manager = ngx_http_bog_state_manager;
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

    /* a timer is set to the sum of several of these times */

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

    /* the name becomes a part of the token request's header */

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

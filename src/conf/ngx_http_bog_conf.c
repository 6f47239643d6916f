
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_compat.h"
#include "ngx_http_bog_conf.h"


/*
 * Defaults, inheritance, and what can only be checked when all locations are
 * known.  nginx calls these functions in the order of this file, through the
 * tables in ngx_http_bog_module.c.  They must refuse a configuration before
 * nginx makes its chains of filters, see docs/design.md.
 */


static ngx_int_t ngx_http_bog_merge_credentials(ngx_conf_t *cf,
    void **loc_conf, ngx_http_bog_loc_conf_t *prev);
static void ngx_http_bog_log_unpaired(ngx_conf_t *cf,
    ngx_http_bog_credential_t *cred);
static ngx_uint_t ngx_http_bog_token_used(ngx_conf_t *cf);
static ngx_int_t ngx_http_bog_init_location(ngx_conf_t *cf,
    ngx_http_bog_loc_conf_t *conf, ngx_uint_t own);


static ngx_str_t  ngx_http_bog_default_endpoint = ngx_string(
    "https://oauth2.bog.ge/auth/realms/bog/protocol/openid-connect/token");


void *
ngx_http_bog_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_bog_main_conf_t  *bmcf;

    bmcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_bog_main_conf_t));
    if (bmcf == NULL) {
        return NULL;
    }

    /* arrays of pointers */

    if (ngx_array_init(&bmcf->credentials, cf->pool, 8, sizeof(void *))
        != NGX_OK
        || ngx_array_init(&bmcf->endpoints, cf->pool, 4, sizeof(void *))
           != NGX_OK
        || ngx_array_init(&bmcf->accounts, cf->pool, 4, sizeof(void *))
           != NGX_OK
        || ngx_array_init(&bmcf->locations, cf->pool, 16, sizeof(void *))
           != NGX_OK)
    {
        return NULL;
    }

    ngx_rbtree_init(&bmcf->digests, &bmcf->digests_sentinel,
                    ngx_str_rbtree_insert_value);
    ngx_rbtree_init(&bmcf->names, &bmcf->names_sentinel,
                    ngx_str_rbtree_insert_value);

    bmcf->secrets = ngx_http_bog_pool_create(cf->pool);
    bmcf->requests = ngx_http_bog_pool_create(cf->pool);

    if (bmcf->secrets == NULL || bmcf->requests == NULL) {
        return NULL;
    }

    return bmcf;
}


void *
ngx_http_bog_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_bog_loc_conf_t  *conf;

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_http_bog_loc_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     conf->ssl_name = { 0, NULL };
     *     conf->ssl_protocols = 0;
     *     conf->ssl_ciphers = { 0, NULL };
     *     conf->ssl_trusted_certificate = { 0, NULL };
     *     conf->ssl_crl = { 0, NULL };
     *     conf->ssl_certificate = { 0, NULL };
     *     conf->ssl_certificate_key = { 0, NULL };
     *     conf->source = NULL;
     *     conf->status = NULL;
     */

    conf->client_id = NGX_CONF_UNSET_PTR;
    conf->client_secret = NGX_CONF_UNSET_PTR;
    conf->endpoint = NGX_CONF_UNSET_PTR;
    conf->params = NGX_CONF_UNSET_PTR;
    conf->client_auth = NGX_CONF_UNSET_UINT;

    conf->token = NGX_CONF_UNSET_UINT;
    conf->wait_timeout = NGX_CONF_UNSET_MSEC;

    conf->refresh_before = NGX_CONF_UNSET_MSEC;
    conf->max_lifetime = NGX_CONF_UNSET_MSEC;
    conf->default_lifetime = NGX_CONF_UNSET_MSEC;

    conf->connect_timeout = NGX_CONF_UNSET_MSEC;
    conf->send_timeout = NGX_CONF_UNSET_MSEC;
    conf->read_timeout = NGX_CONF_UNSET_MSEC;
    conf->local = NGX_CONF_UNSET_PTR;

    conf->ssl_verify = NGX_CONF_UNSET;
    conf->ssl_verify_depth = NGX_CONF_UNSET_UINT;
    conf->ssl_conf_commands = NGX_CONF_UNSET_PTR;

    return conf;
}


char *
ngx_http_bog_init_main_conf(ngx_conf_t *cf, void *conf)
{
    ngx_http_bog_main_conf_t *bmcf = conf;

    ngx_uint_t                   i;
    ngx_http_conf_ctx_t         *ctx;
    ngx_http_bog_loc_conf_t     *blcf;
    ngx_http_core_srv_conf_t   **cscfp;
    ngx_http_core_main_conf_t   *cmcf;
    ngx_http_bog_credential_t  **cred;

    /* the zones of sources would be unmapped under the timers of the process */

    if (ngx_process == NGX_PROCESS_SINGLE && !ngx_is_init_cycle(ngx_cycle)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "no reload with \"master_process off\", restart "
                           "nginx");
        return NGX_CONF_ERROR;
    }

    ctx = cf->ctx;
    blcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_bog_module);

    if (ngx_http_bog_merge_credentials(cf, ctx->loc_conf, blcf) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    cscfp = cmcf->servers.elts;

    for (i = 0; i < cmcf->servers.nelts; i++) {
        if (ngx_http_bog_merge_credentials(cf, cscfp[i]->ctx->loc_conf, blcf)
            != NGX_OK)
        {
            return NGX_CONF_ERROR;
        }
    }

    cred = bmcf->credentials.elts;

    for (i = 0; i < bmcf->credentials.nelts; i++) {
        if (!cred[i]->paired) {
            ngx_http_bog_log_unpaired(cf, cred[i]);
            return NGX_CONF_ERROR;
        }
    }

    if (bmcf->credentials.nelts == 0 && ngx_http_bog_token_used(cf)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"$bog_bearer_token\" is used, but there is no "
                           "\"bog_client_id\" and no "
                           "\"bog_client_secret_file\"");
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/*
 * Merges the credentials and "bog_token" of a block and of all locations in
 * it.  This comes before the merge of all other settings, so that a client id
 * without a secret, or a secret without an id, is refused before any account
 * is made.
 */

static ngx_int_t
ngx_http_bog_merge_credentials(ngx_conf_t *cf, void **loc_conf,
    ngx_http_bog_loc_conf_t *prev)
{
    ngx_queue_t                *q;
    ngx_http_bog_loc_conf_t    *conf;
    ngx_http_core_loc_conf_t   *clcf;
    ngx_http_location_queue_t  *lq;

    clcf = loc_conf[ngx_http_core_module.ctx_index];
    conf = loc_conf[ngx_http_bog_module.ctx_index];

    ngx_conf_merge_ptr_value(conf->client_id, prev->client_id, NULL);
    ngx_conf_merge_ptr_value(conf->client_secret, prev->client_secret, NULL);
    ngx_conf_merge_uint_value(conf->token, prev->token,
                              NGX_HTTP_BOG_REQUIRED);

    if (conf->client_id && conf->client_secret) {
        conf->client_id->paired = 1;
        conf->client_secret->paired = 1;

    } else if (clcf->handler && conf->token != NGX_HTTP_BOG_OFF
               && conf->status == NULL
               && (conf->client_id || conf->client_secret))
    {
        /* a location that passes requests on needs both halves itself */

        ngx_http_bog_log_unpaired(cf, conf->client_id ? conf->client_id
                                                      : conf->client_secret);
        return NGX_ERROR;
    }

    if (clcf->locations == NULL) {
        return NGX_OK;
    }

    for (q = ngx_queue_head(clcf->locations);
         q != ngx_queue_sentinel(clcf->locations);
         q = ngx_queue_next(q))
    {
        lq = (ngx_http_location_queue_t *) q;

        if (ngx_http_bog_merge_credentials(cf, ngx_http_bog_location_conf(lq),
                                           conf)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static void
ngx_http_bog_log_unpaired(ngx_conf_t *cf, ngx_http_bog_credential_t *cred)
{
    ngx_http_bog_conf_log(NGX_LOG_EMERG, cf, &cred->place,
                          "\"%V\" is used without \"%s\"", &cred->name,
                          cred->name.len == sizeof("bog_client_id") - 1
                          ? "bog_client_secret_file" : "bog_client_id");
}


/* Variables that are looked up by name at run time are not found here. */

static ngx_uint_t
ngx_http_bog_token_used(ngx_conf_t *cf)
{
    ngx_uint_t                  i;
    ngx_http_variable_t        *v;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    v = cmcf->variables.elts;

    for (i = 0; i < cmcf->variables.nelts; i++) {
        if (v[i].name.len == sizeof(NGX_HTTP_BOG_BEARER_TOKEN) - 1
            && ngx_strncmp(v[i].name.data, NGX_HTTP_BOG_BEARER_TOKEN,
                           v[i].name.len)
               == 0)
        {
            return 1;
        }
    }

    return 0;
}


char *
ngx_http_bog_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_bog_loc_conf_t *prev = parent;
    ngx_http_bog_loc_conf_t *conf = child;

    ngx_uint_t                 own;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (conf->status && clcf->handler != conf->status_handler) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"bog_status\" is not the only content handler of "
                      "location \"%V\"", &clcf->name);
        return NGX_CONF_ERROR;
    }

    /* an "if" in the location keeps its handler */

    if (clcf->noname && clcf->handler == NULL && conf->status == NULL) {
        conf->status = prev->status;
    }

    /* client_id, client_secret and token have been merged already */

    ngx_conf_merge_ptr_value(conf->endpoint, prev->endpoint, NULL);
    ngx_conf_merge_ptr_value(conf->params, prev->params, NULL);
    ngx_conf_merge_uint_value(conf->client_auth, prev->client_auth,
                              NGX_HTTP_BOG_BASIC);

    ngx_conf_merge_msec_value(conf->wait_timeout, prev->wait_timeout, 10000);

    ngx_conf_merge_msec_value(conf->refresh_before, prev->refresh_before,
                              60000);
    ngx_conf_merge_msec_value(conf->max_lifetime, prev->max_lifetime,
                              3600000);
    ngx_conf_merge_msec_value(conf->default_lifetime, prev->default_lifetime,
                              300000);

    ngx_conf_merge_msec_value(conf->connect_timeout, prev->connect_timeout,
                              5000);
    ngx_conf_merge_msec_value(conf->send_timeout, prev->send_timeout, 5000);
    ngx_conf_merge_msec_value(conf->read_timeout, prev->read_timeout, 10000);
    ngx_conf_merge_ptr_value(conf->local, prev->local, NULL);
    ngx_conf_merge_str_value(conf->ssl_name, prev->ssl_name, "");

    ngx_conf_merge_value(conf->ssl_verify, prev->ssl_verify, 1);

    /* more than nginx's 1: a cross-signed chain has two intermediates */

    ngx_conf_merge_uint_value(conf->ssl_verify_depth, prev->ssl_verify_depth,
                              5);

    ngx_conf_merge_bitmask_value(conf->ssl_protocols, prev->ssl_protocols,
                                 (NGX_CONF_BITMASK_SET
                                  |NGX_SSL_TLSv1_2|NGX_SSL_TLSv1_3));

    ngx_conf_merge_str_value(conf->ssl_ciphers, prev->ssl_ciphers, "DEFAULT");
    ngx_conf_merge_str_value(conf->ssl_trusted_certificate,
                             prev->ssl_trusted_certificate, "");
    ngx_conf_merge_str_value(conf->ssl_crl, prev->ssl_crl, "");

    /* data is NULL if no block gives a certificate, for "" it is not */

    if (conf->ssl_certificate.data == NULL) {
        conf->ssl_certificate = prev->ssl_certificate;
    }

    ngx_conf_merge_str_value(conf->ssl_certificate_key,
                             prev->ssl_certificate_key, "");
    ngx_conf_merge_ptr_value(conf->ssl_conf_commands,
                             prev->ssl_conf_commands, NULL);

    own = (conf->client_id != prev->client_id
           || conf->client_secret != prev->client_secret);

    if (ngx_http_bog_init_location(cf, conf, own) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/*
 * A location makes an account if it passes requests on, or if it has
 * credentials of its own and no locations inside.  All others, a static
 * location in the same server for one, only use an account that is there, so
 * that no fetch begins with settings that no request needs.
 */

static ngx_int_t
ngx_http_bog_init_location(ngx_conf_t *cf, ngx_http_bog_loc_conf_t *conf,
    ngx_uint_t own)
{
    ngx_http_core_loc_conf_t   *clcf;
    ngx_http_bog_loc_conf_t   **slot;
    ngx_http_bog_main_conf_t   *bmcf;

    if (conf->client_id == NULL || conf->client_secret == NULL
        || conf->token == NGX_HTTP_BOG_OFF || conf->status)
    {
        return NGX_OK;
    }

    if (conf->endpoint == NULL) {
        conf->endpoint = ngx_http_bog_endpoint_get(cf,
                                               &ngx_http_bog_default_endpoint);
        if (conf->endpoint == NULL) {
            return NGX_ERROR;
        }
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->handler || (own && clcf->locations == NULL)) {
        return ngx_http_bog_account_get(cf, conf);
    }

    bmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_bog_module);

    slot = ngx_array_push(&bmcf->locations);
    if (slot == NULL) {
        return NGX_ERROR;
    }

    *slot = conf;

    return NGX_OK;
}


ngx_int_t
ngx_http_bog_find_sources(ngx_conf_t *cf)
{
    u_char                      digest[BOG_OAUTH_DIGEST_LEN];
    ngx_uint_t                  i;
    ngx_http_bog_account_t     *account;
    ngx_http_bog_loc_conf_t   **blcf;
    ngx_http_bog_main_conf_t   *bmcf;
    ngx_http_bog_credential_t  *id;

    bmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_bog_module);

    blcf = bmcf->locations.elts;

    for (i = 0; i < bmcf->locations.nelts; i++) {

        if (ngx_http_bog_account_find(cf, blcf[i], digest, &account)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        id = blcf[i]->client_id;

        if (!id->used) {
            id->used = 1;

            ngx_http_bog_conf_log(NGX_LOG_WARN, cf, &id->place,
                                  "no location passes requests on with "
                                  "client id \"%V\", no token is fetched for "
                                  "it", &id->value);
        }
    }

    bog_pool_destroy(bmcf->secrets);

    return NGX_OK;
}


void
ngx_http_bog_conf_log(ngx_uint_t level, ngx_conf_t *cf,
    ngx_http_bog_place_t *place, const char *fmt, ...)
{
    u_char    buf[NGX_MAX_CONF_ERRSTR];
    u_char   *p;
    va_list   args;

    va_start(args, fmt);
    p = ngx_vslprintf(buf, buf + sizeof(buf), fmt, args);
    va_end(args);

    ngx_log_error(level, cf->log, 0, "%*s in %V:%ui",
                  (size_t) (p - buf), buf, &place->file, place->line);
}

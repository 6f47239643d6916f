
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_account_conf.h"
#include "ngx_http_bog_endpoint_conf.h"
#include "ngx_http_bog_source.h"
#include "ngx_http_bog_store.h"
#include "ngx_http_bog_tls_conf.h"
#include "ngx_http_bog_upstream_conf.h"


/* a name, and how many accounts were to have it */

typedef struct {
    ngx_str_node_t   node;
    ngx_int_t        n;
} ngx_http_bog_name_t;


typedef struct {
    char        *name;
    ngx_uint_t   offset;
    enum {
        NGX_HTTP_BOG_NUMBER = 0,
        NGX_HTTP_BOG_STRING,
        NGX_HTTP_BOG_ADDRESS,
        NGX_HTTP_BOG_KEYVALS
    }            type;
    ngx_uint_t   tls;           /* makes a TLS context of its own */
} ngx_http_bog_setting_t;


static ngx_int_t ngx_http_bog_account_digest(ngx_conf_t *cf,
    ngx_http_bog_loc_conf_t *blcf, ngx_str_t *secret, u_char *digest);
static ngx_http_bog_account_t *ngx_http_bog_account_create(ngx_conf_t *cf,
    ngx_http_bog_loc_conf_t *blcf, u_char *digest);
static ngx_int_t ngx_http_bog_account_network(ngx_conf_t *cf,
    ngx_http_bog_account_t *account, ngx_http_bog_loc_conf_t *blcf);
static ngx_int_t ngx_http_bog_account_tls(ngx_conf_t *cf,
    ngx_http_bog_account_t *account, ngx_http_bog_loc_conf_t *blcf);
static ngx_int_t ngx_http_bog_account_request(ngx_conf_t *cf,
    ngx_http_bog_account_t *account, ngx_http_bog_loc_conf_t *blcf);
static ngx_int_t ngx_http_bog_account_name(ngx_conf_t *cf,
    ngx_http_bog_account_t *account);
static ngx_int_t ngx_http_bog_account_count(ngx_conf_t *cf, ngx_str_t *name);
static ngx_int_t ngx_http_bog_account_label(ngx_conf_t *cf,
    ngx_http_bog_account_t *account);
static ngx_int_t ngx_http_bog_account_scope(ngx_conf_t *cf,
    ngx_http_bog_account_t *account, ngx_http_bog_loc_conf_t *blcf);
static ngx_int_t ngx_http_bog_account_state(ngx_conf_t *cf,
    ngx_http_bog_account_t *account, ngx_http_bog_loc_conf_t *blcf);
static ngx_int_t ngx_http_bog_account_check(ngx_conf_t *cf,
    ngx_http_bog_loc_conf_t *blcf);
static ngx_uint_t ngx_http_bog_setting_differs(
    ngx_http_bog_setting_t *setting, void *one, void *two);
static ngx_uint_t ngx_http_bog_strings_differ(ngx_str_t *one, ngx_str_t *two);
static ngx_uint_t ngx_http_bog_keyvals_differ(ngx_array_t *one,
    ngx_array_t *two);


/* what belongs to a source, and can be said by several locations */

#define ngx_http_bog_setting(name, field, type, tls)                          \
    { name, offsetof(ngx_http_bog_loc_conf_t, field), type, tls }

static ngx_http_bog_setting_t  ngx_http_bog_settings[] = {
    ngx_http_bog_setting("bog_refresh_before", refresh_before,
                         NGX_HTTP_BOG_NUMBER, 0),
    ngx_http_bog_setting("bog_max_lifetime", max_lifetime,
                         NGX_HTTP_BOG_NUMBER, 0),
    ngx_http_bog_setting("bog_default_lifetime", default_lifetime,
                         NGX_HTTP_BOG_NUMBER, 0),
    ngx_http_bog_setting("bog_connect_timeout", connect_timeout,
                         NGX_HTTP_BOG_NUMBER, 0),
    ngx_http_bog_setting("bog_send_timeout", send_timeout,
                         NGX_HTTP_BOG_NUMBER, 0),
    ngx_http_bog_setting("bog_read_timeout", read_timeout,
                         NGX_HTTP_BOG_NUMBER, 0),
    ngx_http_bog_setting("bog_bind", local, NGX_HTTP_BOG_ADDRESS, 0),
    ngx_http_bog_setting("bog_ssl_verify", ssl_verify, NGX_HTTP_BOG_NUMBER, 1),
    ngx_http_bog_setting("bog_ssl_verify_depth", ssl_verify_depth,
                         NGX_HTTP_BOG_NUMBER, 1),
    ngx_http_bog_setting("bog_ssl_protocols", ssl_protocols,
                         NGX_HTTP_BOG_NUMBER, 1),
    ngx_http_bog_setting("bog_ssl_ciphers", ssl_ciphers,
                         NGX_HTTP_BOG_STRING, 1),
    ngx_http_bog_setting("bog_ssl_name", ssl_name, NGX_HTTP_BOG_STRING, 0),
    ngx_http_bog_setting("bog_ssl_trusted_certificate", ssl_trusted_certificate,
                         NGX_HTTP_BOG_STRING, 1),
    ngx_http_bog_setting("bog_ssl_crl", ssl_crl, NGX_HTTP_BOG_STRING, 1),
    ngx_http_bog_setting("bog_ssl_certificate", ssl_certificate,
                         NGX_HTTP_BOG_STRING, 1),
    ngx_http_bog_setting("bog_ssl_certificate_key", ssl_certificate_key,
                         NGX_HTTP_BOG_STRING, 1),
    ngx_http_bog_setting("bog_ssl_conf_command", ssl_conf_commands,
                         NGX_HTTP_BOG_KEYVALS, 1),
    { NULL, 0, NGX_HTTP_BOG_NUMBER, 0 }
};


ngx_int_t
ngx_http_bog_account_get(ngx_conf_t *cf, ngx_http_bog_loc_conf_t *blcf,
    ngx_uint_t make)
{
    u_char                     digest[BOG_OAUTH_DIGEST_LEN];
    uint32_t                   hash;
    ngx_str_t                  key;
    ngx_http_bog_account_t    *account;
    ngx_http_bog_setting_t    *setting;
    ngx_http_bog_main_conf_t  *bmcf;

    bmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_bog_module);

    if (ngx_http_bog_account_digest(cf, blcf, &blcf->client_secret->value,
                                    digest)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    key.data = digest;
    key.len = BOG_OAUTH_DIGEST_LEN;

    hash = ngx_crc32_short(key.data, key.len);

    account = (ngx_http_bog_account_t *)
                  ngx_str_rbtree_lookup(&bmcf->digests, &key, hash);

    if (make) {
        blcf->client_id->used = 1;
    }

    if (account) {
        blcf->source = account->source;

        for (setting = ngx_http_bog_settings; make && setting->name; setting++)
        {
            if (ngx_http_bog_setting_differs(setting, account->blcf, blcf)) {
                ngx_http_bog_conf_log(NGX_LOG_WARN, cf,
                                      &blcf->client_id->place,
                                      "locations that share the token of "
                                      "client \"%V\" differ in \"%s\", that "
                                      "of the first one is used",
                                      &account->client_id, setting->name);
            }
        }

        return NGX_OK;
    }

    if (!make) {
        return NGX_OK;
    }

    account = ngx_http_bog_account_create(cf, blcf, digest);
    if (account == NULL) {
        return NGX_ERROR;
    }

    account->node.node.key = hash;
    ngx_rbtree_insert(&bmcf->digests, &account->node.node);

    blcf->source = account->source;

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_account_digest(ngx_conf_t *cf, ngx_http_bog_loc_conf_t *blcf,
    ngx_str_t *secret, u_char *digest)
{
    u_char        thumbprint[EVP_MAX_MD_SIZE];
    bog_str_t    *part;
    ngx_uint_t    i;
    ngx_array_t   parts;
    bog_param_t  *param;

    if (ngx_array_init(&parts, cf->temp_pool, 8, sizeof(bog_str_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    part = ngx_array_push_n(&parts, 4);
    if (part == NULL) {
        return NGX_ERROR;
    }

    part[0].data = blcf->endpoint->url.data;
    part[0].len = blcf->endpoint->url.len;
    part[1].data = blcf->client_id->value.data;
    part[1].len = blcf->client_id->value.len;
    part[2].data = secret->data;
    part[2].len = secret->len;
    part[3].data = (u_char *) (blcf->client_auth ? "1" : "0");
    part[3].len = 1;

    if (blcf->params) {
        param = blcf->params->elts;

        for (i = 0; i < blcf->params->nelts; i++) {
            part = ngx_array_push_n(&parts, 2);
            if (part == NULL) {
                return NGX_ERROR;
            }

            part[0] = param[i].name;
            part[1] = param[i].value;
        }
    }

    if (blcf->ssl_certificate.len) {
        part = ngx_array_push(&parts);
        if (part == NULL) {
            return NGX_ERROR;
        }

        part->data = thumbprint;
        part->len = ngx_http_bog_tls_thumbprint(cf, &blcf->ssl_certificate,
                                                thumbprint);
    }

    if (bog_oauth_digest(digest, parts.elts, parts.nelts) != 0) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "SHA-256 of the client credentials failed");
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_http_bog_account_t *
ngx_http_bog_account_create(ngx_conf_t *cf, ngx_http_bog_loc_conf_t *blcf,
    u_char *digest)
{
    ngx_http_bog_account_t    *account, **slot;
    ngx_http_bog_main_conf_t  *bmcf;

    bmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_bog_module);

    account = ngx_pcalloc(cf->pool, sizeof(ngx_http_bog_account_t));
    if (account == NULL) {
        return NULL;
    }

    ngx_memcpy(account->digest, digest, BOG_OAUTH_DIGEST_LEN);
    account->node.str.data = account->digest;
    account->node.str.len = BOG_OAUTH_DIGEST_LEN;

    account->index = bmcf->accounts.nelts;
    account->client_id = blcf->client_id->value;
    account->endpoint = blcf->endpoint;

    account->refresh_before = blcf->refresh_before;
    account->max_lifetime = blcf->max_lifetime;
    account->default_lifetime = blcf->default_lifetime;

    account->ctx = *(ngx_http_conf_ctx_t *) cf->ctx;
    account->blcf = blcf;

    if (ngx_http_bog_account_check(cf, blcf) != NGX_OK
        || ngx_http_bog_endpoint_check(cf, account->endpoint) != NGX_OK
        || ngx_http_bog_account_network(cf, account, blcf) != NGX_OK
        || ngx_http_bog_upstream_conf(cf, account, blcf) != NGX_OK
        || ngx_http_bog_account_tls(cf, account, blcf) != NGX_OK
        || ngx_http_bog_account_request(cf, account, blcf) != NGX_OK
        || ngx_http_bog_account_name(cf, account) != NGX_OK
        || ngx_http_bog_account_label(cf, account) != NGX_OK
        || ngx_http_bog_account_scope(cf, account, blcf) != NGX_OK
        || ngx_http_bog_account_state(cf, account, blcf) != NGX_OK
        || ngx_http_bog_store_add(cf, account) != NGX_OK)
    {
        return NULL;
    }

    account->source = ngx_http_bog_source_create(cf, account);
    if (account->source == NULL) {
        return NULL;
    }

    slot = ngx_array_push(&bmcf->accounts);
    if (slot == NULL) {
        return NULL;
    }

    *slot = account;

    return account;
}


static ngx_int_t
ngx_http_bog_account_network(ngx_conf_t *cf, ngx_http_bog_account_t *account,
    ngx_http_bog_loc_conf_t *blcf)
{
    void                      **loc_conf;
    ngx_resolver_ctx_t         *ctx;
    ngx_http_core_loc_conf_t   *clcf;

    /* "log_subrequest" would log each fetch */

    loc_conf = ngx_palloc(cf->pool, ngx_http_max_module * sizeof(void *));
    if (loc_conf == NULL) {
        return NGX_ERROR;
    }

    clcf = ngx_palloc(cf->pool, sizeof(ngx_http_core_loc_conf_t));
    if (clcf == NULL) {
        return NGX_ERROR;
    }

    *clcf = *(ngx_http_core_loc_conf_t *)
                ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->log_subrequest = 0;

    ngx_memcpy(loc_conf, account->ctx.loc_conf,
               ngx_http_max_module * sizeof(void *));
    loc_conf[ngx_http_core_module.ctx_index] = clcf;

    account->ctx.loc_conf = loc_conf;

    /* libc may ask several name servers, for five seconds each */

    account->resolver_timeout = 3 * blcf->connect_timeout;

    ctx = account->endpoint->local ? NGX_NO_RESOLVER
                                   : ngx_resolve_start(clcf->resolver, NULL);

    if (ctx != NGX_NO_RESOLVER) {
        ngx_free(ctx);
        account->resolver = clcf->resolver;
        account->resolver_timeout = ngx_min(clcf->resolver_timeout,
                                            blcf->connect_timeout);
    }

    /*
     * The time for all: a name to resolve, a try that fails at its end, and
     * another one that was begun just before.
     */

    account->fetch_timeout = account->resolver_timeout
                             + 2 * (blcf->connect_timeout + blcf->send_timeout
                                    + blcf->read_timeout);

    return NGX_OK;
}


/* a TLS context with the system's certificates is large: all alike share it */

static ngx_int_t
ngx_http_bog_account_tls(ngx_conf_t *cf, ngx_http_bog_account_t *account,
    ngx_http_bog_loc_conf_t *blcf)
{
    ngx_uint_t                 i;
    ngx_http_bog_tls_t        *tls;
    ngx_http_bog_setting_t    *setting;
    ngx_http_bog_main_conf_t  *bmcf;

    if (!account->endpoint->ssl) {
        return NGX_OK;
    }

    bmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_bog_module);

    tls = bmcf->tls.elts;

    for (i = 0; i < bmcf->tls.nelts; i++) {

        for (setting = ngx_http_bog_settings; setting->name; setting++) {
            if (setting->tls
                && ngx_http_bog_setting_differs(setting, tls[i].blcf, blcf))
            {
                break;
            }
        }

        if (setting->name == NULL) {
            account->upstream.ssl = tls[i].ssl;
            return NGX_OK;
        }
    }

    tls = ngx_array_push(&bmcf->tls);
    if (tls == NULL) {
        return NGX_ERROR;
    }

    tls->blcf = blcf;
    tls->ssl = ngx_http_bog_tls_create(cf, blcf);

    account->upstream.ssl = tls->ssl;

    return tls->ssl ? NGX_OK : NGX_ERROR;
}


/*
 * The whole request of a fetch is made once, in memory that no core dump
 * has, and sent from there.
 */

static ngx_int_t
ngx_http_bog_account_request(ngx_conf_t *cf, ngx_http_bog_account_t *account,
    ngx_http_bog_loc_conf_t *blcf)
{
    size_t                     len, basic, body;
    u_char                    *p;
    bog_str_t                  id, secret;
    ngx_str_t                 *host;
    ngx_uint_t                 n;
    bog_param_t               *params;
    ngx_http_bog_main_conf_t  *bmcf;

    bmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_bog_module);

    host = blcf->ssl_name.len ? &blcf->ssl_name
                              : &account->endpoint->authority;

    id.data = blcf->client_id->value.data;
    id.len = blcf->client_id->value.len;
    secret.data = blcf->client_secret->value.data;
    secret.len = blcf->client_secret->value.len;

    params = blcf->params ? blcf->params->elts : NULL;
    n = blcf->params ? blcf->params->nelts : 0;

    basic = bog_oauth_basic(NULL, &id, &secret, blcf->client_auth);
    body = bog_oauth_body(NULL, params, n);

    len = sizeof("POST  HTTP/1.1" CRLF) + account->endpoint->uri.len
          + sizeof("Host: " CRLF) + host->len
          + sizeof("Authorization: " CRLF) + basic
          + sizeof("Content-Type: application/x-www-form-urlencoded" CRLF)
          + sizeof("Accept: application/json" CRLF)
          + sizeof("Accept-Encoding: identity" CRLF)
          + sizeof("User-Agent: nginx-bog/" NGX_HTTP_BOG_VERSION CRLF)
          + sizeof("Content-Length: " CRLF CRLF) + NGX_SIZE_T_LEN
          + body;

    p = ngx_http_bog_pool_alloc(bmcf->requests, len, cf->log);
    if (p == NULL) {
        return NGX_ERROR;
    }

    account->request.data = p;

    p = ngx_sprintf(p, "POST %V HTTP/1.1" CRLF "Host: %V" CRLF
                    "Authorization: ", &account->endpoint->uri, host);

    p += bog_oauth_basic(p, &id, &secret, blcf->client_auth);

    p = ngx_sprintf(p, CRLF
                    "Content-Type: application/x-www-form-urlencoded" CRLF
                    "Accept: application/json" CRLF
                    "Accept-Encoding: identity" CRLF
                    "User-Agent: nginx-bog/" NGX_HTTP_BOG_VERSION CRLF
                    "Content-Length: %uz" CRLF CRLF, body);

    p += bog_oauth_body(p, params, n);

    account->request.len = p - account->request.data;

    return NGX_OK;
}


/*
 * "ID@HOST", and a number where there are several: secrets differ, paths, or
 * parameters.
 */

static ngx_int_t
ngx_http_bog_account_name(ngx_conf_t *cf, ngx_http_bog_account_t *account)
{
    u_char     *p;
    ngx_int_t   n;
    ngx_str_t  *name;

    name = &account->name;

    name->len = account->client_id.len + 1 + account->endpoint->authority.len;

    name->data = ngx_pnalloc(cf->pool, name->len + 1 + NGX_INT_T_LEN);
    if (name->data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_sprintf(name->data, "%V@%V", &account->client_id,
                    &account->endpoint->authority);

    n = ngx_http_bog_account_count(cf, name);

    if (n > 1) {
        name->len = ngx_sprintf(p, "#%i", n) - name->data;
    }

    return (n == NGX_ERROR) ? NGX_ERROR : NGX_OK;
}


/* returns 1 for the first account that is to have the name */

static ngx_int_t
ngx_http_bog_account_count(ngx_conf_t *cf, ngx_str_t *name)
{
    uint32_t                   hash;
    ngx_http_bog_name_t       *node;
    ngx_http_bog_main_conf_t  *bmcf;

    bmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_bog_module);

    hash = ngx_crc32_short(name->data, name->len);

    node = (ngx_http_bog_name_t *)
               ngx_str_rbtree_lookup(&bmcf->names, name, hash);

    if (node == NULL) {
        node = ngx_pcalloc(cf->pool, sizeof(ngx_http_bog_name_t));
        if (node == NULL) {
            return NGX_ERROR;
        }

        node->node.str = *name;
        node->node.node.key = hash;

        ngx_rbtree_insert(&bmcf->names, &node->node.node);
    }

    return ++node->n;
}


static ngx_int_t
ngx_http_bog_account_label(ngx_conf_t *cf, ngx_http_bog_account_t *account)
{
    u_char  *p;

    p = ngx_pnalloc(cf->pool, sizeof("source=\"\"") + 2 * account->name.len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    account->label.data = p;

    p = ngx_cpymem(p, "source=\"", sizeof("source=\"") - 1);
    p = ngx_http_bog_quote(p, account->name.data, account->name.len);
    *p++ = '"';

    account->label.len = p - account->label.data;

    return NGX_OK;
}


/*
 * Of the parameters only RFC 6749's own is shown: what others hold, nobody but
 * the endpoint need know.
 */

static ngx_int_t
ngx_http_bog_account_scope(ngx_conf_t *cf, ngx_http_bog_account_t *account,
    ngx_http_bog_loc_conf_t *blcf)
{
    u_char       *p;
    ngx_uint_t    i;
    bog_param_t  *param;

    if (blcf->params == NULL) {
        return NGX_OK;
    }

    param = blcf->params->elts;

    for (i = 0; i < blcf->params->nelts; i++) {

        if (param[i].name.len != 5
            || ngx_strncmp(param[i].name.data, "scope", 5) != 0)
        {
            continue;
        }

        p = ngx_pnalloc(cf->pool,
                        bog_oauth_form_encode(NULL, &param[i].value));
        if (p == NULL) {
            return NGX_ERROR;
        }

        account->scope.len = bog_oauth_form_encode(p, &param[i].value);
        account->scope.data = p;
    }

    return NGX_OK;
}


/*
 * The name of the file must not depend on the secret: with a new one, the same
 * file is written to again.
 */

static ngx_int_t
ngx_http_bog_account_state(ngx_conf_t *cf, ngx_http_bog_account_t *account,
    ngx_http_bog_loc_conf_t *blcf)
{
    u_char                     digest[BOG_OAUTH_DIGEST_LEN];
    u_char                    *p;
    ngx_int_t                  n;
    ngx_str_t                  name;
    ngx_http_bog_main_conf_t  *bmcf;

    static ngx_str_t  none = ngx_null_string;

    bmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_bog_module);

    if (bmcf->state_dir.path == NULL) {
        return NGX_OK;
    }

    if (ngx_http_bog_account_digest(cf, blcf, &none, digest) != NGX_OK) {
        return NGX_ERROR;
    }

    name.data = ngx_pnalloc(cf->pool, 2 * NGX_HTTP_BOG_STATE_NAME
                                      + NGX_INT_T_LEN + 1);
    if (name.data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_hex_dump(name.data, digest, NGX_HTTP_BOG_STATE_NAME);
    name.len = p - name.data;

    /* those that differ in nothing but the secret are told apart by order */

    n = ngx_http_bog_account_count(cf, &name);

    if (n == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (n > 1) {
        name.len = ngx_sprintf(p, "-%i", n) - name.data;
    }

    account->state = ngx_http_bog_state_create(cf->pool,
                                               &bmcf->state_dir.path->name,
                                               &name,
                                               &blcf->client_secret->value,
                                               bmcf->requests);

    return account->state ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_bog_account_check(ngx_conf_t *cf, ngx_http_bog_loc_conf_t *blcf)
{
    size_t      i;
    ngx_str_t  *id, *secret;

    if (blcf->ssl_certificate.len && blcf->ssl_certificate_key.len == 0) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "no \"bog_ssl_certificate_key\" is defined "
                      "for certificate \"%V\"", &blcf->ssl_certificate);
        return NGX_ERROR;
    }

    if (blcf->ssl_certificate_key.len && blcf->ssl_certificate.data == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "no \"bog_ssl_certificate\" is defined for key \"%V\"",
                      &blcf->ssl_certificate_key);
        return NGX_ERROR;
    }

    if (blcf->client_auth == NGX_HTTP_BOG_BASIC_URLENCODED) {
        return NGX_OK;
    }

    id = &blcf->client_id->value;

    for (i = 0; i < id->len; i++) {
        if (id->data[i] == ' ' || id->data[i] >= 0x80 || id->data[i] == ':') {
            ngx_http_bog_conf_log(NGX_LOG_EMERG, cf, &blcf->client_id->place,
                                  "client id \"%V\" is not of visible ASCII "
                                  "characters other than \":\", as "
                                  "\"bog_client_auth basic\" needs it", id);
            return NGX_ERROR;
        }
    }

    secret = &blcf->client_secret->value;

    if (ngx_strlchr(secret->data, secret->data + secret->len, '%')
        || ngx_strlchr(secret->data, secret->data + secret->len, '+'))
    {
        ngx_http_bog_conf_log(NGX_LOG_WARN, cf, &blcf->client_secret->place,
                              "the client secret has a \"%%\" or a \"+\", "
                              "which some servers decode, see "
                              "\"bog_client_auth\"");
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_http_bog_setting_differs(ngx_http_bog_setting_t *setting, void *one,
    void *two)
{
    u_char                     *p, *q;
    ngx_http_upstream_local_t  *local, *local2;

    p = (u_char *) one + setting->offset;
    q = (u_char *) two + setting->offset;

    switch (setting->type) {

    case NGX_HTTP_BOG_STRING:
        return ngx_http_bog_strings_differ((ngx_str_t *) p, (ngx_str_t *) q);

    case NGX_HTTP_BOG_ADDRESS:
        local = *(ngx_http_upstream_local_t **) p;
        local2 = *(ngx_http_upstream_local_t **) q;

        if (local == NULL || local2 == NULL) {
            return local != local2;
        }

        return ngx_http_bog_strings_differ(&local->addr->name,
                                           &local2->addr->name);

    case NGX_HTTP_BOG_KEYVALS:
        return ngx_http_bog_keyvals_differ(*(ngx_array_t **) p,
                                           *(ngx_array_t **) q);

    default: /* NGX_HTTP_BOG_NUMBER */
        return *(ngx_uint_t *) p != *(ngx_uint_t *) q;
    }
}


static ngx_uint_t
ngx_http_bog_strings_differ(ngx_str_t *one, ngx_str_t *two)
{
    return one->len != two->len
           || (one->len && ngx_strncmp(one->data, two->data, one->len) != 0);
}


static ngx_uint_t
ngx_http_bog_keyvals_differ(ngx_array_t *one, ngx_array_t *two)
{
    ngx_uint_t      i;
    ngx_keyval_t   *kv, *kv2;

    if (one == NULL || two == NULL || one->nelts != two->nelts) {
        return one != two;
    }

    kv = one->elts;
    kv2 = two->elts;

    for (i = 0; i < one->nelts; i++) {
        if (ngx_http_bog_strings_differ(&kv[i].key, &kv2[i].key)
            || ngx_http_bog_strings_differ(&kv[i].value, &kv2[i].value))
        {
            return 1;
        }
    }

    return 0;
}

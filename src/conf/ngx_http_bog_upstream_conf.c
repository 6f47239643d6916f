
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_compat.h"
#include "ngx_http_bog_conf.h"
#include "ngx_http_bog_fetch.h"


/*
 * How the fetches of an account connect: timeouts, names, TLS.  All of it is
 * made together with the account, and fetches must not change it.
 */


static ngx_int_t ngx_http_bog_account_set_ctx(ngx_conf_t *cf,
    ngx_http_bog_account_t *account);
static ngx_int_t ngx_http_bog_account_set_tls(ngx_conf_t *cf,
    ngx_http_bog_account_t *account);
static ngx_ssl_t *ngx_http_bog_create_tls(ngx_conf_t *cf,
    ngx_http_bog_loc_conf_t *blcf);
static ngx_int_t ngx_http_bog_trust(ngx_conf_t *cf, ngx_ssl_t *ssl,
    ngx_http_bog_loc_conf_t *blcf);


ngx_int_t
ngx_http_bog_account_set_upstream(ngx_conf_t *cf,
    ngx_http_bog_account_t *account)
{
    ngx_http_bog_loc_conf_t       *blcf;
    ngx_http_bog_endpoint_t       *endpoint;
    ngx_http_upstream_conf_t      *conf;
    ngx_http_upstream_srv_conf_t  *us;

    if (ngx_http_bog_account_set_ctx(cf, account) != NGX_OK) {
        return NGX_ERROR;
    }

    blcf = account->blcf;
    endpoint = account->endpoint;

    /*
     * set by ngx_pcalloc():
     *
     *     conf->buffering = 0;
     *     conf->intercept_errors = 0;
     *     conf->hide_headers_hash = { NULL, 0 };
     *     conf->next_upstream_tries = 0;
     *     and all that has to do with caches, temporary files, cookies
     */

    conf = &account->upstream;

    conf->connect_timeout = blcf->connect_timeout;
    conf->send_timeout = blcf->send_timeout;
    conf->read_timeout = blcf->read_timeout;
    conf->local = blcf->local;

    conf->buffer_size = NGX_HTTP_BOG_HEADER_SIZE;
    conf->ignore_client_abort = 1;
    ngx_str_set(&conf->module, "bog");

    /* a token request may be repeated: a new token does not end another one */

    conf->next_upstream = NGX_CONF_BITMASK_SET
                          |NGX_HTTP_UPSTREAM_FT_ERROR
                          |NGX_HTTP_UPSTREAM_FT_TIMEOUT
                          |NGX_HTTP_UPSTREAM_FT_INVALID_HEADER
                          |NGX_HTTP_UPSTREAM_FT_HTTP_404
                          |NGX_HTTP_UPSTREAM_FT_NON_IDEMPOTENT;
    conf->next_upstream_timeout = blcf->connect_timeout + blcf->send_timeout
                                  + blcf->read_timeout;

    us = &account->peers;

    us->host = endpoint->host;
    us->port = endpoint->port;
    us->file_name = endpoint->place.file.data;
    us->line = endpoint->place.line;
    us->peer.init = ngx_http_bog_upstream_init_peer;

    conf->upstream = us;

    return endpoint->ssl ? ngx_http_bog_account_set_tls(cf, account) : NGX_OK;
}


/*
 * A fetch has the configuration of the location that made the account, but for
 * "log_subrequest", which would write each fetch to the access log.
 */

static ngx_int_t
ngx_http_bog_account_set_ctx(ngx_conf_t *cf, ngx_http_bog_account_t *account)
{
    void                      **loc_conf;
    ngx_http_bog_loc_conf_t    *blcf;
    ngx_http_core_loc_conf_t   *clcf;

    account->ctx = *(ngx_http_conf_ctx_t *) cf->ctx;

    loc_conf = ngx_palloc(cf->pool, ngx_http_max_module * sizeof(void *));
    if (loc_conf == NULL) {
        return NGX_ERROR;
    }

    clcf = ngx_palloc(cf->pool, sizeof(ngx_http_core_loc_conf_t));
    if (clcf == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(loc_conf, account->ctx.loc_conf,
               ngx_http_max_module * sizeof(void *));

    *clcf = *(ngx_http_core_loc_conf_t *)
                loc_conf[ngx_http_core_module.ctx_index];
    clcf->log_subrequest = 0;

    loc_conf[ngx_http_core_module.ctx_index] = clcf;

    account->ctx.loc_conf = loc_conf;

    blcf = account->blcf;

    if (!account->endpoint->localhost
        && ngx_http_bog_resolver_works(clcf->resolver))
    {
        account->resolver = clcf->resolver;
        account->resolver_timeout = ngx_min(clcf->resolver_timeout,
                                            blcf->connect_timeout);

    } else {
        /* libc may ask several name servers, for five seconds each */

        account->resolver_timeout = 3 * blcf->connect_timeout;
    }

    /*
     * The longest time of a fetch: a name is resolved, a try fails when its
     * time is over, and another one has begun just before.
     */

    account->fetch_timeout = account->resolver_timeout
                             + 2 * (blcf->connect_timeout + blcf->send_timeout
                                    + blcf->read_timeout);

    return NGX_OK;
}


/*
 * A TLS context with the system's certificates is large, so accounts with the
 * same settings share one.  Accounts of one server follow each other, so the
 * search begins with the last one.
 */

static ngx_int_t
ngx_http_bog_account_set_tls(ngx_conf_t *cf, ngx_http_bog_account_t *account)
{
    ngx_uint_t                  i;
    ngx_http_bog_account_t    **other;
    ngx_http_bog_loc_conf_t    *blcf;
    ngx_http_bog_main_conf_t   *bmcf;
    ngx_http_upstream_conf_t   *conf;

    blcf = account->blcf;
    conf = &account->upstream;

    conf->ssl_name = ngx_pcalloc(cf->pool, sizeof(ngx_http_complex_value_t));
    if (conf->ssl_name == NULL) {
        return NGX_ERROR;
    }

    /* for a socket's path the authority is the only name */

    conf->ssl_name->value = blcf->ssl_name.len ? blcf->ssl_name
                                               : account->endpoint->authority;

    conf->ssl_server_name = 1;
    conf->ssl_verify = blcf->ssl_verify;

    /*
     * A session of an upstream {} may come from another location, and have
     * been verified less.  One more handshake in the life of a token costs
     * nothing.
     */

    conf->ssl_session_reuse = 0;

    bmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_bog_module);

    other = bmcf->accounts.elts;

    for (i = bmcf->accounts.nelts; i > 0; i--) {
        if (other[i - 1]->upstream.ssl
            && ngx_http_bog_find_difference(ngx_http_bog_module.commands,
                                offsetof(ngx_http_bog_loc_conf_t, ssl_verify),
                                other[i - 1]->blcf, blcf)
               == NULL)
        {
            conf->ssl = other[i - 1]->upstream.ssl;
            return NGX_OK;
        }
    }

    conf->ssl = ngx_http_bog_create_tls(cf, blcf);

    return conf->ssl ? NGX_OK : NGX_ERROR;
}


static ngx_ssl_t *
ngx_http_bog_create_tls(ngx_conf_t *cf, ngx_http_bog_loc_conf_t *blcf)
{
    ngx_ssl_t                *ssl;
    ngx_pool_cleanup_t       *cln;
    ngx_http_bog_loc_conf_t   conf;

    /* nginx replaces relative paths, which are still to be compared */

    conf = *blcf;
    blcf = &conf;

    ssl = ngx_pcalloc(cf->pool, sizeof(ngx_ssl_t));
    if (ssl == NULL) {
        return NULL;
    }

    ssl->log = cf->log;

    if (ngx_ssl_create(ssl, blcf->ssl_protocols, NULL) != NGX_OK) {
        return NULL;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        ngx_ssl_cleanup_ctx(ssl);
        return NULL;
    }

    cln->handler = ngx_ssl_cleanup_ctx;
    cln->data = ssl;

#ifdef SSL_OP_CLEANSE_PLAINTEXT

    /* or the token stays in OpenSSL's buffers when it has been read */

    SSL_CTX_set_options(ssl->ctx, SSL_OP_CLEANSE_PLAINTEXT);

#endif

    if (ngx_ssl_ciphers(cf, ssl, &blcf->ssl_ciphers, 0) != NGX_OK) {
        return NULL;
    }

    if (blcf->ssl_certificate.len
        && ngx_ssl_certificate(cf, ssl, &blcf->ssl_certificate,
                               &blcf->ssl_certificate_key, NULL)
           != NGX_OK)
    {
        return NULL;
    }

    if (blcf->ssl_verify && ngx_http_bog_trust(cf, ssl, blcf) != NGX_OK) {
        return NULL;
    }

    if (ngx_http_bog_ssl_conf_commands(cf, ssl, blcf->ssl_conf_commands)
        != NGX_OK)
    {
        return NULL;
    }

    ngx_http_bog_upstream_watch_tls(ssl);

    return ssl;
}


/* Sets the certificates that the endpoint's one is verified against. */

static ngx_int_t
ngx_http_bog_trust(ngx_conf_t *cf, ngx_ssl_t *ssl,
    ngx_http_bog_loc_conf_t *blcf)
{
    if (blcf->ssl_trusted_certificate.len) {

        if (ngx_ssl_trusted_certificate(cf, ssl,
                                        &blcf->ssl_trusted_certificate,
                                        blcf->ssl_verify_depth)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

    } else {

        if (SSL_CTX_set_default_verify_paths(ssl->ctx) == 0) {
            ngx_ssl_error(NGX_LOG_EMERG, cf->log, 0,
                          "SSL_CTX_set_default_verify_paths() failed");
            return NGX_ERROR;
        }

        SSL_CTX_set_verify_depth(ssl->ctx, (int) blcf->ssl_verify_depth);
    }

    return ngx_ssl_crl(cf, ssl, &blcf->ssl_crl);
}


size_t
ngx_http_bog_certificate_digest(ngx_conf_t *cf, ngx_str_t *file,
    u_char digest[EVP_MAX_MD_SIZE])
{
    BIO           *bio;
    X509          *cert;
    ngx_str_t      name;
    unsigned int   len;

    name = *file;

    if (ngx_conf_full_name(cf->cycle, &name, 1) != NGX_OK) {
        return 0;
    }

    len = 0;

    bio = BIO_new_file((char *) name.data, "r");
    cert = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;

    if (cert == NULL || X509_digest(cert, EVP_sha256(), digest, &len) == 0)
    {
        /* nginx names the file when it loads the certificate */

        ERR_clear_error();
        len = 0;
    }

    X509_free(cert);
    BIO_free(bio);

    return len;
}

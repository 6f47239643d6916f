
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_compat.h"
#include "ngx_http_bog_tls.h"
#include "ngx_http_bog_tls_conf.h"


static ngx_int_t ngx_http_bog_tls_configure(ngx_conf_t *cf, ngx_ssl_t *ssl,
    ngx_http_bog_loc_conf_t *blcf);
static ngx_int_t ngx_http_bog_tls_trust(ngx_conf_t *cf, ngx_ssl_t *ssl,
    ngx_http_bog_loc_conf_t *blcf);


ngx_ssl_t *
ngx_http_bog_tls_create(ngx_conf_t *cf, ngx_http_bog_loc_conf_t *blcf)
{
    ngx_ssl_t           *ssl;
    ngx_pool_cleanup_t  *cln;

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

    if (ngx_http_bog_tls_note_alerts(ssl) != NGX_OK) {
        return NULL;
    }

#ifdef SSL_OP_CLEANSE_PLAINTEXT

    /* or the token stays in OpenSSL's buffers when it has been read */

    SSL_CTX_set_options(ssl->ctx, SSL_OP_CLEANSE_PLAINTEXT);

#endif

    return (ngx_http_bog_tls_configure(cf, ssl, blcf) == NGX_OK) ? ssl : NULL;
}


static ngx_int_t
ngx_http_bog_tls_configure(ngx_conf_t *cf, ngx_ssl_t *ssl,
    ngx_http_bog_loc_conf_t *blcf)
{
    if (ngx_ssl_ciphers(cf, ssl, &blcf->ssl_ciphers, 0) != NGX_OK) {
        return NGX_ERROR;
    }

    if (blcf->ssl_certificate.len
        && ngx_ssl_certificate(cf, ssl, &blcf->ssl_certificate,
                               &blcf->ssl_certificate_key, NULL)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (blcf->ssl_verify
        && ngx_http_bog_tls_trust(cf, ssl, blcf) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_ssl_client_session_cache(cf, ssl, 0) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_bog_ssl_conf_commands(cf, ssl, blcf->ssl_conf_commands);
}


static ngx_int_t
ngx_http_bog_tls_trust(ngx_conf_t *cf, ngx_ssl_t *ssl,
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
ngx_http_bog_tls_thumbprint(ngx_conf_t *cf, ngx_str_t *file,
    u_char thumbprint[EVP_MAX_MD_SIZE])
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

    if (cert == NULL || X509_digest(cert, EVP_sha256(), thumbprint, &len) == 0)
    {
        /* nginx names the file when it loads the certificate */

        ERR_clear_error();
        len = 0;
    }

    X509_free(cert);
    BIO_free(bio);

    return len;
}

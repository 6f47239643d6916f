
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_answer.h"
#include "ngx_http_bog_peer.h"
#include "ngx_http_bog_upstream_conf.h"


static ngx_int_t ngx_http_bog_upstream_ssl_name(ngx_conf_t *cf,
    ngx_http_bog_account_t *account, ngx_http_bog_loc_conf_t *blcf);


ngx_int_t
ngx_http_bog_upstream_conf(ngx_conf_t *cf, ngx_http_bog_account_t *account,
    ngx_http_bog_loc_conf_t *blcf)
{
    ngx_http_upstream_conf_t      *conf;
    ngx_http_upstream_srv_conf_t  *us;

    conf = &account->upstream;

    /*
     * set by ngx_pcalloc():
     *
     *     conf->buffering = 0;
     *     conf->intercept_errors = 0;
     *     conf->hide_headers_hash = { NULL, 0 };
     *     conf->next_upstream_tries = 0;
     *     and all that has to do with caches, temporary files, cookies
     */

    conf->connect_timeout = blcf->connect_timeout;
    conf->send_timeout = blcf->send_timeout;
    conf->read_timeout = blcf->read_timeout;
    conf->local = blcf->local;

    conf->buffer_size = NGX_HTTP_BOG_HEADER_SIZE;
    conf->ignore_client_abort = 1;
    ngx_str_set(&conf->module, "bog");

    /* a token request may be repeated: tokens do not end each other */

    conf->next_upstream = NGX_CONF_BITMASK_SET
                          |NGX_HTTP_UPSTREAM_FT_ERROR
                          |NGX_HTTP_UPSTREAM_FT_TIMEOUT
                          |NGX_HTTP_UPSTREAM_FT_INVALID_HEADER
                          |NGX_HTTP_UPSTREAM_FT_HTTP_404
                          |NGX_HTTP_UPSTREAM_FT_NON_IDEMPOTENT;
    conf->next_upstream_timeout = blcf->connect_timeout + blcf->send_timeout
                                  + blcf->read_timeout;

    us = &account->peers;

    us->host = account->endpoint->host;
    us->port = account->endpoint->port;
    us->file_name = account->endpoint->place.file.data;
    us->line = account->endpoint->place.line;
    us->peer.init = ngx_http_bog_peer_init;

    conf->upstream = us;

    if (!account->endpoint->ssl) {
        return NGX_OK;
    }

    return ngx_http_bog_upstream_ssl_name(cf, account, blcf);
}


static ngx_int_t
ngx_http_bog_upstream_ssl_name(ngx_conf_t *cf, ngx_http_bog_account_t *account,
    ngx_http_bog_loc_conf_t *blcf)
{
    ngx_http_upstream_conf_t  *conf;

    conf = &account->upstream;

    conf->ssl_name = ngx_pcalloc(cf->pool, sizeof(ngx_http_complex_value_t));
    if (conf->ssl_name == NULL) {
        return NGX_ERROR;
    }

    /* a host that is a path has no name but this */

    if (blcf->ssl_name.len) {
        conf->ssl_name->value = blcf->ssl_name;

    } else {
        conf->ssl_name->value = account->endpoint->authority;
    }

    conf->ssl_server_name = 1;
    conf->ssl_verify = blcf->ssl_verify;

    /*
     * A session of an upstream {} may come from another location, and have
     * been verified less.  One more handshake in the life of a token costs
     * nothing.
     */

    conf->ssl_session_reuse = 0;

    return NGX_OK;
}

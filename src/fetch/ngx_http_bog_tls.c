
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_tls.h"


static void ngx_http_bog_tls_info(const ngx_ssl_conn_t *ssl_conn, int where,
    int ret);


static int  ngx_http_bog_tls_index = -1;


ngx_int_t
ngx_http_bog_tls_note_alerts(ngx_ssl_t *ssl)
{
    if (ngx_http_bog_tls_index == -1) {
        ngx_http_bog_tls_index = SSL_get_ex_new_index(0, NULL, NULL, NULL,
                                                      NULL);
    }

    if (ngx_http_bog_tls_index == -1) {
        ngx_ssl_error(NGX_LOG_EMERG, ssl->log, 0,
                      "SSL_get_ex_new_index() failed");
        return NGX_ERROR;
    }

    /* that of nginx is of use to servers only */

    SSL_CTX_set_info_callback(ssl->ctx, ngx_http_bog_tls_info);

    return NGX_OK;
}


static void
ngx_http_bog_tls_info(const ngx_ssl_conn_t *ssl_conn, int where, int ret)
{
    if (where == SSL_CB_READ_ALERT) {
        (void) SSL_set_ex_data((ngx_ssl_conn_t *) ssl_conn,
                               ngx_http_bog_tls_index,
                               (void *) (uintptr_t) ret);
    }
}


ngx_uint_t
ngx_http_bog_tls_alert(ngx_connection_t *c)
{
    if (c == NULL || c->ssl == NULL) {
        return 0;
    }

    return (uintptr_t) SSL_get_ex_data(c->ssl->connection,
                                       ngx_http_bog_tls_index);
}

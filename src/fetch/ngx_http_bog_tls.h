
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_TLS_H_INCLUDED_
#define _NGX_HTTP_BOG_TLS_H_INCLUDED_


#include "ngx_http_bog_core.h"


/* Makes connections of the TLS context note the other side's last alert. */
ngx_int_t ngx_http_bog_tls_note_alerts(ngx_ssl_t *ssl);

/*
 * The last alert of the other side, level and description, 0 where there was
 * none.  nginx, and OpenSSL on its behalf, take every end of a connection for
 * a clean one: this tells who has made it.
 */
ngx_uint_t ngx_http_bog_tls_alert(ngx_connection_t *c);

#define NGX_HTTP_BOG_TLS_FATAL  (SSL3_AL_FATAL << 8)


#endif /* _NGX_HTTP_BOG_TLS_H_INCLUDED_ */

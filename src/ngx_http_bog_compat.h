
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_COMPAT_H_INCLUDED_
#define _NGX_HTTP_BOG_COMPAT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/* what differs between versions of nginx is dealt with here, and only here */


#if !(NGX_HAVE_ATOMIC_OPS)
#error "workers share tokens by atomic operations, which nginx has not here"
#endif


#if (nginx_version >= 1029000)

#define ngx_http_bog_top_early_hints()  ngx_http_top_early_hints_filter
#define ngx_http_bog_set_top_early_hints(filter)                              \
    ngx_http_top_early_hints_filter = (filter)

#else

#define ngx_http_bog_top_early_hints()  NULL
#define ngx_http_bog_set_top_early_hints(filter)

#endif


#if (nginx_version >= 1027002)

#define ngx_http_bog_parse_chunked(r, b, ctx)                                 \
    ngx_http_parse_chunked(r, b, ctx, 0)

#else

#define ngx_http_bog_parse_chunked(r, b, ctx)                                 \
    ngx_http_parse_chunked(r, b, ctx)

#endif


#if (nginx_version >= 1019004)

#define NGX_HTTP_BOG_CONF_COMMANDS  1

#define ngx_http_bog_ssl_conf_commands(cf, ssl, commands)                     \
    ngx_ssl_conf_commands(cf, ssl, commands)

#else

#define NGX_HTTP_BOG_CONF_COMMANDS  0

#define ngx_http_bog_ssl_conf_commands(cf, ssl, commands)  NGX_OK

#endif


#endif /* _NGX_HTTP_BOG_COMPAT_H_INCLUDED_ */


/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_COMPAT_H_INCLUDED_
#define _NGX_HTTP_BOG_COMPAT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/* Only this file knows what differs between versions and forks of nginx. */


#if !(NGX_HAVE_ATOMIC_OPS)
#error "workers share tokens by atomic operations, which nginx has not here"
#endif


#if (NGX_HAVE_LIBATOMIC)

/* nginx takes functions that do not order reads and writes */

#undef ngx_atomic_cmp_set
#undef ngx_atomic_fetch_add
#undef ngx_memory_barrier

#define ngx_atomic_cmp_set(lock, old, new)                                    \
    AO_compare_and_swap_full(lock, old, new)
#define ngx_atomic_fetch_add(value, add)                                      \
    AO_fetch_and_add_full(value, add)
#define ngx_memory_barrier()  AO_nop_full()

#endif


#if (NGX_HTTP_BOG_KEEP_TRAILERS)

#define ngx_http_bog_parse_chunked(r, b, ctx)                                 \
    ngx_http_parse_chunked(r, b, ctx, 0)

#else

#define ngx_http_bog_parse_chunked(r, b, ctx)                                 \
    ngx_http_parse_chunked(r, b, ctx)

#endif


/* the "loc_conf" of a location in nginx's list of locations */

#if (NGX_HTTP_BOG_LOC_NODES)

/* in Angie several locations may share a configuration */

#define ngx_http_bog_location_conf(lq)                                        \
    (((lq)->exact ? (lq)->exact : (lq)->inclusive)->conf->loc_conf)

#else

#define ngx_http_bog_location_conf(lq)                                        \
    (((lq)->exact ? (lq)->exact : (lq)->inclusive)->loc_conf)

#endif


/* whether a resolver has name servers: nginx makes one that has none, too */

#if (NGX_HTTP_BOG_RESOLVER_LIST)
#define ngx_http_bog_resolver_works(r)  ((r)->connections != NULL)
#else
#define ngx_http_bog_resolver_works(r)  ((r)->connections.nelts != 0)
#endif


#if (NGX_HTTP_BOG_CONF_COMMANDS)

#define ngx_http_bog_ssl_conf_commands(cf, ssl, commands)                     \
    ngx_ssl_conf_commands(cf, ssl, commands)

#else

#define NGX_HTTP_BOG_CONF_COMMANDS  0

#define ngx_http_bog_ssl_conf_commands(cf, ssl, commands)  NGX_OK

#endif


#endif /* _NGX_HTTP_BOG_COMPAT_H_INCLUDED_ */

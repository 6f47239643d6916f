
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_WAKE_H_INCLUDED_
#define _NGX_HTTP_BOG_WAKE_H_INCLUDED_


#include "ngx_http_bog_core.h"


/*
 * Tells all workers that something was published.  One eventfd, made before
 * the fork, is in every worker's epoll set, edge-triggered, and is never
 * read: each write is a new edge for everyone.
 */

#if (NGX_HAVE_SYS_EVENTFD_H)

ngx_int_t ngx_http_bog_wake_init_module(ngx_cycle_t *cycle);
ngx_int_t ngx_http_bog_wake_init_process(ngx_cycle_t *cycle,
    void (*handler)(void));

/* Wakes all workers, this one included. */
void ngx_http_bog_wake(void);

/* Says whether this worker is woken, or has to look by itself. */
ngx_uint_t ngx_http_bog_wake_works(void);

#else

#define ngx_http_bog_wake_init_module(cycle)  NGX_OK
#define ngx_http_bog_wake_init_process(cycle, handler)                        \
    ((void) (handler), NGX_OK)
#define ngx_http_bog_wake()
#define ngx_http_bog_wake_works()  0

#endif


#endif /* _NGX_HTTP_BOG_WAKE_H_INCLUDED_ */

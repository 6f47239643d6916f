
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_WAKE_H_INCLUDED_
#define _NGX_HTTP_BOG_WAKE_H_INCLUDED_


#include "ngx_http_bog_core.h"


/*
 * Wakes all workers when something was published.  One eventfd, which is
 * created before the fork, is in the epoll set of every worker, edge-triggered,
 * and is never read: each write is a new edge for every worker.
 */

#if (NGX_HAVE_SYS_EVENTFD_H)

/* Creates the eventfd, in the master.  A failure is logged, and is no error. */
ngx_int_t ngx_http_bog_wake_init_module(ngx_cycle_t *cycle);

/* Has the handler called in this process whenever a process wakes it. */
ngx_int_t ngx_http_bog_wake_init_process(ngx_cycle_t *cycle,
    ngx_event_handler_pt handler);

/* Wakes all processes, this one included. */
void ngx_http_bog_wake(void);

/* Says whether this process is woken, or has to look by itself. */
ngx_uint_t ngx_http_bog_wake_works(void);

#else

#define ngx_http_bog_wake_init_module(cycle)  NGX_OK
#define ngx_http_bog_wake_init_process(cycle, handler)                        \
    ((void) (handler), NGX_OK)
#define ngx_http_bog_wake()
#define ngx_http_bog_wake_works()  0

#endif


#endif /* _NGX_HTTP_BOG_WAKE_H_INCLUDED_ */

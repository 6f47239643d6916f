
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

/*
 * Creates the eventfd, in the master.  If that fails, a warning is logged, and
 * all processes look by themselves.
 */
ngx_int_t ngx_http_bog_wake_init_module(ngx_cycle_t *cycle);

/* Has the handler called in this process whenever a process wakes it. */
ngx_int_t ngx_http_bog_wake_init_process(ngx_cycle_t *cycle,
    ngx_event_handler_pt handler);

/* Wakes all processes, this one included. */
void ngx_http_bog_wake(void);

/* Says whether this process is woken, or has to look by itself. */
ngx_uint_t ngx_http_bog_wake_works(void);


#endif /* _NGX_HTTP_BOG_WAKE_H_INCLUDED_ */


/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_SCHEDULE_H_INCLUDED_
#define _NGX_HTTP_BOG_SCHEDULE_H_INCLUDED_


#include "ngx_http_bog_core.h"


/*
 * What a worker is to do at a time.  Sources may be thousands, and nginx's tree
 * of timers, which each request changes a few times, gets one timer for all.
 */


typedef struct ngx_http_bog_task_s  ngx_http_bog_task_t;

typedef void (*ngx_http_bog_task_pt)(ngx_http_bog_task_t *task);

struct ngx_http_bog_task_s {
    ngx_rbtree_node_t       node;           /* key: its time, as a timer's */
    ngx_http_bog_task_pt    handler;
    unsigned                set:1;
};


/* Begins with nothing, in a worker. */
void ngx_http_bog_schedule_init_process(ngx_cycle_t *cycle);

/*
 * Calls the handler once, from a timer of nginx, in so many milliseconds, one
 * at the least; another time that was set before is forgotten.  The task is
 * the caller's.  A worker that is to exit does not stay for the sake of it.
 */
void ngx_http_bog_schedule(ngx_http_bog_task_t *task, ngx_msec_t delay);

/* Returns the milliseconds that are left until then, of a task that is set. */
ngx_msec_int_t ngx_http_bog_schedule_left(ngx_http_bog_task_t *task);


#endif /* _NGX_HTTP_BOG_SCHEDULE_H_INCLUDED_ */


/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_schedule.h"


static void ngx_http_bog_schedule_handler(ngx_event_t *ev);
static void ngx_http_bog_schedule_arm(void);


static ngx_rbtree_t       ngx_http_bog_tasks;
static ngx_rbtree_node_t  ngx_http_bog_tasks_sentinel;

static ngx_event_t        ngx_http_bog_tasks_timer;

/* a timer has a connection's descriptor in the debug log: this has none */

static ngx_connection_t   ngx_http_bog_tasks_ident;


void
ngx_http_bog_schedule_init_process(ngx_cycle_t *cycle)
{
    ngx_event_t  *ev;

    ngx_rbtree_init(&ngx_http_bog_tasks, &ngx_http_bog_tasks_sentinel,
                    ngx_rbtree_insert_timer_value);

    ngx_http_bog_tasks_ident.fd = (ngx_socket_t) -1;

    ev = &ngx_http_bog_tasks_timer;

    ev->handler = ngx_http_bog_schedule_handler;
    ev->log = cycle->log;
    ev->data = &ngx_http_bog_tasks_ident;
    ev->cancelable = 1;
}


void
ngx_http_bog_schedule(ngx_http_bog_task_t *task, ngx_msec_t delay)
{
    if (task->set) {
        ngx_rbtree_delete(&ngx_http_bog_tasks, &task->node);
    }

    /* or the handler could go on for ever */

    task->node.key = ngx_current_msec + ngx_max(delay, 1);
    task->set = 1;

    ngx_rbtree_insert(&ngx_http_bog_tasks, &task->node);

    ngx_http_bog_schedule_arm();
}


ngx_msec_int_t
ngx_http_bog_schedule_left(ngx_http_bog_task_t *task)
{
    return (ngx_msec_int_t) (task->node.key - ngx_current_msec);
}


static void
ngx_http_bog_schedule_handler(ngx_event_t *ev)
{
    ngx_rbtree_node_t    *node;
    ngx_http_bog_task_t  *task;

    while (ngx_http_bog_tasks.root != &ngx_http_bog_tasks_sentinel) {

        node = ngx_rbtree_min(ngx_http_bog_tasks.root,
                              &ngx_http_bog_tasks_sentinel);

        if ((ngx_msec_int_t) (node->key - ngx_current_msec) > 0) {
            ngx_http_bog_schedule_arm();
            return;
        }

        task = (ngx_http_bog_task_t *) ((u_char *) node
                                        - offsetof(ngx_http_bog_task_t, node));

        ngx_rbtree_delete(&ngx_http_bog_tasks, node);
        task->set = 0;

        task->handler(task);
    }
}


/* for the first of them, exactly: a worker does not wake up in vain */

static void
ngx_http_bog_schedule_arm(void)
{
    ngx_event_t        *ev;
    ngx_rbtree_node_t  *node;

    ev = &ngx_http_bog_tasks_timer;

    node = ngx_rbtree_min(ngx_http_bog_tasks.root,
                          &ngx_http_bog_tasks_sentinel);

    if (ev->timer_set) {

        if (ev->timer.key == node->key) {
            return;
        }

        ngx_del_timer(ev);
    }

    ngx_add_timer(ev, (ngx_msec_t) ngx_max((ngx_msec_int_t)
                                           (node->key - ngx_current_msec), 0));
}

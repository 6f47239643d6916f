
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_wake.h"


/*
 * The eventfd by which processes wake each other.  A source calls this after it
 * has published something; workers, and the process that writes files, are
 * woken.  Nobody may read the eventfd: each write is an edge without that.
 */


static void ngx_http_bog_wake_cleanup(void *data);


/* shared by all cycles: old workers and new ones wake each other */

static int         ngx_http_bog_wake_fd = -1;
static ngx_uint_t  ngx_http_bog_wake_cycles;

static ngx_uint_t  ngx_http_bog_wake_registered;


ngx_int_t
ngx_http_bog_wake_init_module(ngx_cycle_t *cycle)
{
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(cycle->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_bog_wake_cleanup;

    ngx_http_bog_wake_cycles++;

    if (ngx_http_bog_wake_fd != -1) {
        return NGX_OK;
    }

#if (NGX_HAVE_SYS_EVENTFD_H)

    ngx_http_bog_wake_fd = eventfd(0, EFD_NONBLOCK|EFD_CLOEXEC);

    if (ngx_http_bog_wake_fd == -1) {
        ngx_log_error(NGX_LOG_WARN, cycle->log, ngx_errno,
                      "eventfd() failed, held requests are polled for");
    }

#endif

    return NGX_OK;
}


static void
ngx_http_bog_wake_cleanup(void *data)
{
    if (--ngx_http_bog_wake_cycles == 0 && ngx_http_bog_wake_fd != -1) {
        (void) close(ngx_http_bog_wake_fd);
        ngx_http_bog_wake_fd = -1;
    }
}


ngx_int_t
ngx_http_bog_wake_init_process(ngx_cycle_t *cycle, ngx_event_handler_pt handler)
{
    ngx_connection_t  *c;

    if (ngx_http_bog_wake_fd == -1 || !(ngx_event_flags & NGX_USE_EPOLL_EVENT))
    {
        return NGX_OK;
    }

    c = ngx_get_connection(ngx_http_bog_wake_fd, cycle->log);
    if (c == NULL) {
        return NGX_ERROR;
    }

    c->pool = cycle->pool;
    c->read->log = cycle->log;
    c->write->log = cycle->log;
    c->read->handler = handler;

    /* else a worker that exits takes it for a connection left open */

    c->read->channel = 1;
    c->write->channel = 1;

    if (ngx_add_event(c->read, NGX_READ_EVENT, NGX_CLEAR_EVENT) != NGX_OK) {
        ngx_free_connection(c);
        return NGX_ERROR;
    }

    ngx_http_bog_wake_registered = 1;

    return NGX_OK;
}


void
ngx_http_bog_wake(void)
{
    static uint64_t  one = 1;

    if (ngx_http_bog_wake_fd == -1) {
        return;
    }

    if (write(ngx_http_bog_wake_fd, &one, sizeof(one)) == -1) {
        ngx_log_error(NGX_LOG_ALERT, ngx_cycle->log, ngx_errno,
                      "write() to eventfd failed");
    }
}


ngx_uint_t
ngx_http_bog_wake_works(void)
{
    return ngx_http_bog_wake_registered;
}


/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_CORE_H_INCLUDED_
#define _NGX_HTTP_BOG_CORE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "bog_memory.h"
#include "bog_oauth.h"
#include "bog_policy.h"


/* The version, the time, the names of failures, guarded memory: for all. */


#define NGX_HTTP_BOG_VERSION   "0.2.0"


/* "malformed", or "http_" and a status */

#define NGX_HTTP_BOG_CLASS_LEN  (sizeof("malformed") - 1 + NGX_INT32_LEN)


#if (NGX_PTR_SIZE != 8)

/* Returns the mono time.  ngx_current_msec is too short for it here. */
int64_t ngx_http_bog_mono(void);

#endif

/*
 * Writes the name of a bog_error_e to dst, that of HTTP with the status: up to
 * NGX_HTTP_BOG_CLASS_LEN bytes.  Returns its end.
 */
u_char *ngx_http_bog_error_class(u_char *dst, uint32_t error,
    uint32_t status);

/*
 * Copies a string with a backslash before each quote and backslash: dst has
 * room for twice the length.  Returns its end.
 */
u_char *ngx_http_bog_quote(u_char *dst, u_char *src, size_t len);

/*
 * Makes a pool of guarded memory that lives as long as nginx's pool.  It may be
 * destroyed before.  Returns NULL where memory is out.
 */
bog_pool_t *ngx_http_bog_pool_create(ngx_pool_t *pool);

/* Returns size bytes of the pool, or NULL, which is logged. */
u_char *ngx_http_bog_pool_alloc(bog_pool_t *pool, size_t size, ngx_log_t *log);

/*
 * Reads up to size bytes of a regular file into buf, and its description into
 * fi; both belong to the caller.  The flags are added to those of open(), 0 or
 * O_NOFOLLOW.  Returns the number of bytes; NGX_DECLINED if it is not a regular
 * file; or NGX_ERROR with ngx_errno set, and in failed the name of the system
 * call.
 */
ssize_t ngx_http_bog_read_file(u_char *name, int flags, u_char *buf,
    size_t size, ngx_file_info_t *fi, char **failed);


/* Sets the time on both clocks, as the event loop last updated it. */
static ngx_inline void
ngx_http_bog_now(bog_time_t *now)
{
    ngx_time_t  *tp;

    tp = ngx_timeofday();

    now->wall = (int64_t) tp->sec * 1000 + tp->msec;

#if (NGX_PTR_SIZE == 8)
    now->mono = (int64_t) ngx_current_msec;
#else
    now->mono = ngx_http_bog_mono();
#endif
}


/*
 * Converts milliseconds for "%.3f".  An event may seem to be in the future, as
 * the wall clock can be set back: the time since then is 0.
 */
static ngx_inline double
ngx_http_bog_seconds(int64_t ms)
{
    return (double) ngx_max(ms, 0) / 1000;
}


/* Returns 1 if no process has that pid, whoever its user is. */
static ngx_inline ngx_uint_t
ngx_http_bog_process_dead(ngx_pid_t pid)
{
    return kill(pid, 0) == -1 && ngx_errno == ESRCH;
}


extern ngx_module_t  ngx_http_bog_module;


#endif /* _NGX_HTTP_BOG_CORE_H_INCLUDED_ */

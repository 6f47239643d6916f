
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_core.h"


/*
 * This file has what several floors need: the names of failures, quoting, pools
 * of guarded memory that nginx cleans up, reading of small files and, on 32-bit
 * systems, the time.  It must know nothing of sources, fetches or requests.
 */


static void ngx_http_bog_pool_cleanup(void *data);


/* by bog_error_e */

static char  *ngx_http_bog_errors[] = {
    "",
    "resolve",
    "connect",
    "tls",
    "timeout",
    "http_",
    "rejected",
    "malformed",
    "too_large"
};


u_char *
ngx_http_bog_error_class(u_char *dst, uint32_t error, uint32_t status)
{
    dst = ngx_sprintf(dst, "%s", ngx_http_bog_errors[error]);

    if (error == BOG_ERROR_HTTP) {
        dst = ngx_sprintf(dst, "%uD", status);
    }

    return dst;
}


u_char *
ngx_http_bog_quote(u_char *dst, u_char *src, size_t len)
{
    for ( /* void */ ; len; len--) {

        if (*src == '"' || *src == '\\') {
            *dst++ = '\\';
        }

        *dst++ = *src++;
    }

    return dst;
}


bog_pool_t *
ngx_http_bog_pool_create(ngx_pool_t *pool)
{
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(pool, sizeof(bog_pool_t));
    if (cln == NULL) {
        return NULL;
    }

    ngx_memzero(cln->data, sizeof(bog_pool_t));
    cln->handler = ngx_http_bog_pool_cleanup;

    return cln->data;
}


u_char *
ngx_http_bog_pool_alloc(bog_pool_t *pool, size_t size, ngx_log_t *log)
{
    u_char  *p;

    p = bog_pool_alloc(pool, size);

    if (p == NULL) {
        ngx_log_error(NGX_LOG_EMERG, log, ngx_errno, "no memory for secrets");
    }

    return p;
}


static void
ngx_http_bog_pool_cleanup(void *data)
{
    bog_pool_destroy(data);
}


/*
 * The master reads files as root.  So this must neither block nor read anything
 * but a regular file.
 */

ssize_t
ngx_http_bog_read_file(u_char *name, int flags, u_char *buf, size_t size,
    ngx_file_info_t *fi, char **failed)
{
    size_t     len;
    ssize_t    n;
    ngx_fd_t   fd;
    ngx_err_t  err;

    /* with O_NONBLOCK, open() does not wait for the writer of a FIFO */

    fd = open((char *) name, O_RDONLY|O_NONBLOCK|O_CLOEXEC|flags);

    if (fd == NGX_INVALID_FILE) {
        *failed = "open()";
        return NGX_ERROR;
    }

    len = 0;

    if (ngx_fd_info(fd, fi) == NGX_FILE_ERROR) {
        *failed = "fstat()";
        n = NGX_ERROR;
        goto done;
    }

    if (!ngx_is_file(fi)) {
        n = NGX_DECLINED;
        goto done;
    }

    do {
        n = ngx_read_fd(fd, buf + len, size - len);

        if (n == -1) {
            *failed = "read()";
            n = NGX_ERROR;
            goto done;
        }

        len += n;

    } while (n && len < size);

    n = len;

done:

    err = ngx_errno;

    (void) ngx_close_file(fd);

    ngx_set_errno(err);

    return n;
}


#if (NGX_PTR_SIZE != 8)

int64_t
ngx_http_bog_mono(void)
{
    struct timespec    ts;

    static int64_t     mono;
    static ngx_msec_t  last;

    /*
     * ngx_current_msec starts again from zero every 49 days.  It only says here
     * whether the event loop has updated the time: within one event the time
     * must stand still, since nginx evaluates a value twice.
     */

    if (mono == 0 || ngx_current_msec != last) {
        (void) clock_gettime(CLOCK_MONOTONIC, &ts);

        mono = (int64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
        last = ngx_current_msec;
    }

    return mono;
}

#endif


/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_core.h"


/*
 * Reading a small file whole: the client secret while configuring, a stored
 * token at start.  The master does this as root, so it must neither block nor
 * take anything but a regular file.  The callers log what went wrong.
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

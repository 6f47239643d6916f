
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_secret.h"


static ssize_t ngx_http_bog_secret_load(ngx_conf_t *cf, ngx_str_t *file,
    u_char *buf, size_t size);
static ngx_int_t ngx_http_bog_secret_check(ngx_conf_t *cf, ngx_str_t *file,
    u_char *p, size_t len);


ngx_int_t
ngx_http_bog_secret_read(ngx_conf_t *cf, bog_pool_t *pool,
    ngx_str_t *file, ngx_str_t *secret)
{
    u_char    *buf;
    size_t     size;
    ssize_t    n;
    ngx_int_t  rc;

    /* one byte more than a secret with its line end tells a longer one */

    size = NGX_HTTP_BOG_SECRET_MAX + sizeof(CRLF);

    buf = bog_memory_alloc(size);
    if (buf == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "no memory for the client secret");
        return NGX_ERROR;
    }

    rc = NGX_ERROR;

    n = ngx_http_bog_secret_load(cf, file, buf, size);
    if (n == NGX_ERROR) {
        goto done;
    }

    if (n && buf[n - 1] == LF) {
        n--;

        if (n && buf[n - 1] == CR) {
            n--;
        }
    }

    if (ngx_http_bog_secret_check(cf, file, buf, n) != NGX_OK) {
        goto done;
    }

    secret->data = ngx_http_bog_pool_alloc(pool, n, cf->log);
    if (secret->data == NULL) {
        goto done;
    }

    ngx_memcpy(secret->data, buf, n);
    secret->len = n;

    rc = NGX_OK;

done:

    bog_memory_free(buf, size);

    return rc;
}


static ssize_t
ngx_http_bog_secret_load(ngx_conf_t *cf, ngx_str_t *file, u_char *buf,
    size_t size)
{
    size_t           len;
    ssize_t          n;
    ngx_fd_t         fd;
    ngx_file_info_t  fi;

    /* a FIFO without a writer must not keep nginx from starting */

    fd = ngx_open_file(file->data, NGX_FILE_RDONLY|NGX_FILE_NONBLOCK,
                       NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_open_file_n " client secret \"%s\" failed",
                           file->data);
        return NGX_ERROR;
    }

    if (ngx_fd_info(fd, &fi) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_fd_info_n " client secret \"%s\" failed",
                           file->data);
        goto failed;
    }

    if (!ngx_is_file(&fi)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "client secret \"%s\" is not a regular file",
                           file->data);
        goto failed;
    }

    if (fi.st_mode & S_IROTH) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "client secret \"%s\" can be read by everyone, "
                           "its mode should be 0600", file->data);
    }

    len = 0;

    do {
        n = ngx_read_fd(fd, buf + len, size - len);

        if (n == -1) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                               ngx_read_fd_n " client secret \"%s\" failed",
                               file->data);
            goto failed;
        }

        len += n;

    } while (n && len < size);

    (void) ngx_close_file(fd);

    return len;

failed:

    (void) ngx_close_file(fd);

    return NGX_ERROR;
}


static ngx_int_t
ngx_http_bog_secret_check(ngx_conf_t *cf, ngx_str_t *file, u_char *p,
    size_t len)
{
    size_t  i;

    if (len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "client secret \"%s\" is empty", file->data);
        return NGX_ERROR;
    }

    if (len > NGX_HTTP_BOG_SECRET_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "client secret \"%s\" is longer than %d bytes",
                           file->data, NGX_HTTP_BOG_SECRET_MAX);
        return NGX_ERROR;
    }

    for (i = 0; i < len; i++) {
        if (p[i] < 0x20 || p[i] == 0x7f) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "client secret \"%s\" has a control character "
                               "at byte %uz, one secret on one line is "
                               "expected", file->data, i + 1);
            return NGX_ERROR;
        }
    }

    /* what an editor or a copied text leaves behind */

    if (ngx_strchr(" \"'", p[0])
        || ngx_strchr(" \"'", p[len - 1])
        || (len > 2 && ngx_memcmp(p, "\xEF\xBB\xBF", 3) == 0)
        || (len > 1 && (ngx_memcmp(p, "\xC2\xA0", 2) == 0
                        || ngx_memcmp(p + len - 2, "\xC2\xA0", 2) == 0)))
    {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "client secret \"%s\" begins or ends with a blank, "
                           "a quote or a byte order mark, which is sent too",
                           file->data);
    }

    return NGX_OK;
}


/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_conf.h"


void
ngx_http_bog_conf_log(ngx_uint_t level, ngx_conf_t *cf,
    ngx_http_bog_place_t *place, const char *fmt, ...)
{
    u_char    buf[NGX_MAX_CONF_ERRSTR];
    u_char   *p;
    va_list   args;

    va_start(args, fmt);
    p = ngx_vslprintf(buf, buf + sizeof(buf), fmt, args);
    va_end(args);

    ngx_log_error(level, cf->log, 0, "%*s in %V:%ui",
                  (size_t) (p - buf), buf, &place->file, place->line);
}


void
ngx_http_bog_conf_place(ngx_conf_t *cf, ngx_http_bog_place_t *place)
{
    place->file = cf->conf_file->file.name;
    place->line = cf->conf_file->line;
}


/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_STATUS_H_INCLUDED_
#define _NGX_HTTP_BOG_STATUS_H_INCLUDED_


#include "ngx_http_bog_conf.h"
#include "ngx_http_bog_report.h"


/*
 * The whole answer is made at once, of reports that are taken at once, and
 * nginx sends the chain of buffers like that of a file.
 */

typedef struct {
    ngx_pool_t               *pool;

    ngx_http_bog_report_t    *reports;
    ngx_uint_t                n;            /* of them */
    size_t                    piece;        /* room for one of a source */

    ngx_chain_t              *out;
    ngx_chain_t             **last;
    ngx_buf_t                *buf;          /* the last one */
    off_t                     length;
} ngx_http_bog_writer_t;


struct ngx_http_bog_format_s {
    ngx_str_t                 name;         /* of the argument */
    ngx_str_t                 type;         /* of media */
    size_t                    type_len;     /* without parameters */

    ngx_int_t               (*write)(ngx_http_bog_writer_t *w);
};


extern ngx_http_bog_format_t  ngx_http_bog_json;
extern ngx_http_bog_format_t  ngx_http_bog_prometheus;


/* The directive. */
char *ngx_http_bog_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
ngx_int_t ngx_http_bog_status_handler(ngx_http_request_t *r);

/*
 * Returns where the next piece goes, which has room for w->piece bytes; its
 * writer sets w->buf->last.
 */
u_char *ngx_http_bog_status_room(ngx_http_bog_writer_t *w);


#endif /* _NGX_HTTP_BOG_STATUS_H_INCLUDED_ */


/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_STATUS_H_INCLUDED_
#define _NGX_HTTP_BOG_STATUS_H_INCLUDED_


#include "ngx_http_bog_report.h"


/*
 * The answer is written piece by piece: with a thousand sources it is long,
 * and other requests must not wait for it.
 */


/* the longest piece is this long, and so many times the names in it */

#define NGX_HTTP_BOG_PIECE        8192
#define NGX_HTTP_BOG_PIECE_NAMES  16


/* how much a source needs somebody to look at it */

typedef enum {
    NGX_HTTP_BOG_NO_TOKEN = 0,
    NGX_HTTP_BOG_FAILING,                   /* refreshes fail */
    NGX_HTTP_BOG_WELL,
    NGX_HTTP_BOG_TROUBLES
} ngx_http_bog_trouble_e;


/* where the writing has come to */

typedef struct {
    ngx_http_bog_account_t  **accounts;
    ngx_uint_t                n;            /* of them */

    ngx_uint_t                part;         /* the format's own, from 0 */
    ngx_uint_t                i;            /* account of the part */
    ngx_uint_t                done;         /* the last piece is written */

    ngx_http_bog_report_t     report;

    /* of HTML: ngx_http_bog_trouble_e of each account, and how many of each */
    u_char                   *troubles;
    ngx_uint_t                counts[NGX_HTTP_BOG_TROUBLES];
} ngx_http_bog_writer_t;


struct ngx_http_bog_format_s {
    ngx_str_t                 name;         /* of the argument */
    ngx_str_t                 type;         /* of media */

    /* writes the next piece, which may be empty, but not the last one, and
       returns its end */
    u_char                 *(*write)(ngx_http_bog_writer_t *w, u_char *p);
};


extern ngx_http_bog_format_t  ngx_http_bog_json;
extern ngx_http_bog_format_t  ngx_http_bog_prometheus;
extern ngx_http_bog_format_t  ngx_http_bog_html;


/* The directive. */
char *ngx_http_bog_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
ngx_int_t ngx_http_bog_status_handler(ngx_http_request_t *r);

/* Writes milliseconds, not less than none, as seconds. */
u_char *ngx_http_bog_status_seconds(u_char *dst, int64_t ms);

/* Writes a time, milliseconds since the epoch, in UTC (RFC 3339). */
u_char *ngx_http_bog_status_time(u_char *dst, int64_t ms);


#endif /* _NGX_HTTP_BOG_STATUS_H_INCLUDED_ */

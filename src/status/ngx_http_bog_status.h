
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_STATUS_H_INCLUDED_
#define _NGX_HTTP_BOG_STATUS_H_INCLUDED_


#include "ngx_http_bog_conf.h"
#include "ngx_http_bog_store.h"


/* how bad the state of a source is, see ngx_http_bog_status_level() */

typedef enum {
    NGX_HTTP_BOG_OK = 0,
    NGX_HTTP_BOG_WARNING,
    NGX_HTTP_BOG_CRITICAL,
    NGX_HTTP_BOG_LEVELS
} ngx_http_bog_level_e;


/*
 * One source, as all formats show it.  Times are in milliseconds since the
 * epoch, and relative to the wall clock as it is now.
 */

typedef struct {
    ngx_http_bog_account_t   *account;
    ngx_http_bog_metrics_t   *metrics;      /* in shared memory */
    ngx_http_bog_record_t     record;       /* a copy */

    ngx_str_t                 name;         /* quotes are escaped */
    ngx_str_t                 client_id;    /* likewise */

    ngx_http_bog_level_e      level;
    char                     *state;
    ngx_uint_t                valid;        /* requests are given a token */
    ngx_uint_t                starting;     /* there has been no token, and no
                                               fetch has ended */
    ngx_uint_t                fetching;
    ngx_uint_t                failures;     /* since the last success */
    ngx_uint_t                rejections;   /* of new tokens, one after the
                                               other, by the API */
    ngx_uint_t                held;         /* requests that wait now */
    ngx_uint_t                refused;      /* requests, in the last minute */
    int64_t                   expires;      /* the token; 0 without one */
    int64_t                   failing;      /* the first one of the failures;
                                               0 without any */
    int64_t                   next;         /* the time of the next fetch; now
                                               while a fetch is under way */
} ngx_http_bog_report_t;


/*
 * An answer.  All of it is written, into a chain of buffers, before nginx sends
 * the first byte.
 */

typedef struct {
    ngx_pool_t               *pool;
    bog_time_t                now;

    ngx_http_bog_report_t    *reports;
    ngx_uint_t                n;            /* of reports */
    ngx_uint_t                refusing;     /* a required source has no token */

    ngx_chain_t              *out;
    ngx_chain_t             **last;
    ngx_buf_t                *buf;          /* the last one of the chain */
    ngx_uint_t                failed;       /* some of the answer is missing */
} ngx_http_bog_writer_t;


struct ngx_http_bog_format_s {
    ngx_str_t                 name;         /* in "bog_status", "format=" */
    ngx_str_t                 type;         /* of the media */
    size_t                    type_len;     /* without its parameters */

    void                    (*write)(ngx_http_bog_writer_t *w);
};


extern ngx_http_bog_format_t  ngx_http_bog_json;
extern ngx_http_bog_format_t  ngx_http_bog_prometheus;
extern ngx_http_bog_format_t  ngx_http_bog_text;

/* when counting began, and the configurations that were loaded since then */

extern time_t                 ngx_http_bog_since;
extern ngx_uint_t             ngx_http_bog_reloads;


/* Counts a configuration, in the master.  Workers inherit both numbers. */
void ngx_http_bog_status_init_module(void);

/* The directive "bog_status". */
char *ngx_http_bog_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/*
 * Adds text to the answer, as ngx_sprintf() does.  A failure sets w->failed,
 * and everything after it is dropped: nobody needs to check each call.
 */
void ngx_http_bog_status_print(ngx_http_bog_writer_t *w, const char *fmt, ...);


#endif /* _NGX_HTTP_BOG_STATUS_H_INCLUDED_ */

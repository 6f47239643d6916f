
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_METRICS_H_INCLUDED_
#define _NGX_HTTP_BOG_METRICS_H_INCLUDED_


#include "ngx_http_bog_account.h"


/*
 * What has happened to a source so far, in all workers.  The numbers are in
 * its zone, so they go on over a reload.  Each is added to atomically: there
 * is no lock, and a worker may die at any instruction.
 */


/* the upper bounds, and one more for what is above them all */

#define NGX_HTTP_BOG_BUCKETS  12

/* processes that can have waiting requests at the same time */

#define NGX_HTTP_BOG_HOLDERS  64


/* how a fetch ended */

typedef enum {
    NGX_HTTP_BOG_FETCH_SUCCESS = 0,
    NGX_HTTP_BOG_FETCH_FAILURE,
    NGX_HTTP_BOG_FETCH_ABORTED,
    NGX_HTTP_BOG_FETCH_RESULTS
} ngx_http_bog_fetch_result_e;


/* how a hold ended */

typedef enum {
    NGX_HTTP_BOG_HOLD_TOKEN = 0,
    NGX_HTTP_BOG_HOLD_FAILURE,
    NGX_HTTP_BOG_HOLD_TIMEOUT,
    NGX_HTTP_BOG_HOLD_ABORTED,
    NGX_HTTP_BOG_HOLD_RESULTS
} ngx_http_bog_hold_result_e;


/* kinds of failures: those of bog_error_e, and HTTP's in parts */

#define NGX_HTTP_BOG_CLASSES  10


typedef struct {
    ngx_atomic_t              buckets[NGX_HTTP_BOG_BUCKETS];
    ngx_atomic_t              sum;              /* milliseconds */
} ngx_http_bog_histogram_t;


/* how many requests a process has waiting: they end with it */

typedef struct {
    ngx_atomic_t              pid;              /* 0: of none */
    ngx_atomic_t              requests;
} ngx_http_bog_holder_t;


typedef struct {
    ngx_atomic_t              fetches[NGX_HTTP_BOG_FETCH_RESULTS];
    ngx_atomic_t              failures[NGX_HTTP_BOG_CLASSES];
    ngx_http_bog_histogram_t  fetch_time;

    ngx_atomic_t              holds[NGX_HTTP_BOG_HOLD_RESULTS];
    ngx_http_bog_histogram_t  hold_time;
    ngx_http_bog_holder_t     holders[NGX_HTTP_BOG_HOLDERS];

    ngx_atomic_t              without[NGX_HTTP_BOG_OFF];
                                                /* a token, by "bog_token" */
    ngx_atomic_t              unauthorized;     /* answers of the API */
    ngx_atomic_t              rejected;         /* tokens dropped for them */
} ngx_http_bog_metrics_t;


extern ngx_str_t  ngx_http_bog_fetch_results[];
extern ngx_str_t  ngx_http_bog_hold_results[];
extern ngx_str_t  ngx_http_bog_failure_classes[];
extern ngx_str_t  ngx_http_bog_modes[];
extern ngx_str_t  ngx_http_bog_bound_names[];     /* in seconds */


#define ngx_http_bog_metrics_count(counter)                                   \
    (void) ngx_atomic_fetch_add(&(counter), 1)


/* Ends what a process that has died, or the one before this, left behind. */
void ngx_http_bog_metrics_init_process(ngx_http_bog_metrics_t *m);

/* A fetch has ended; error is BOG_ERROR_NONE where it brought a token. */
void ngx_http_bog_metrics_fetch(ngx_http_bog_metrics_t *m,
    bog_failure_t *failure, ngx_msec_t ms);

/* A request begins to wait, and does not wait any more. */
void ngx_http_bog_metrics_hold(ngx_http_bog_metrics_t *m);
void ngx_http_bog_metrics_held(ngx_http_bog_metrics_t *m,
    ngx_http_bog_hold_result_e result, ngx_msec_t ms);

/* Returns how many requests are waiting, in all processes that live. */
ngx_uint_t ngx_http_bog_metrics_holding(ngx_http_bog_metrics_t *m);


#endif /* _NGX_HTTP_BOG_METRICS_H_INCLUDED_ */


/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_METRICS_H_INCLUDED_
#define _NGX_HTTP_BOG_METRICS_H_INCLUDED_


#include "ngx_http_bog_account.h"


/*
 * What has happened to a source so far, in all workers.  The counters are in
 * the source's zone, so a reload keeps them.  Each is increased atomically:
 * there is no lock, as a worker may die at any instruction.
 */


/* one for each upper bound, and one for values above all of them */

#define NGX_HTTP_BOG_BUCKETS  12

/* processes that can have held requests at the same time */

#define NGX_HTTP_BOG_HOLDERS  64


/* seconds for which refused requests are counted one by one */

#define NGX_HTTP_BOG_RECENT  60


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


/* classes of failures: those of bog_error_e, where HTTP has three */

#define NGX_HTTP_BOG_CLASSES  10


typedef struct {
    ngx_atomic_t              buckets[NGX_HTTP_BOG_BUCKETS];
    ngx_atomic_t              sum;              /* milliseconds */
} ngx_http_bog_histogram_t;


/* how many requests a process holds: they end when the process dies */

typedef struct {
    ngx_atomic_t              pid;              /* 0: a free place */
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
                                                /* requests without a token, by
                                                   "bog_token" */
    ngx_atomic_t              refused[NGX_HTTP_BOG_RECENT];
                                                /* those that got 503, by
                                                   second */
    ngx_atomic_t              unauthorized;     /* answers of the API that
                                                   reject a token */
    ngx_atomic_t              rejected;         /* tokens dropped for them */
} ngx_http_bog_metrics_t;


extern ngx_str_t  ngx_http_bog_fetch_results[];
extern ngx_str_t  ngx_http_bog_hold_results[];
extern ngx_str_t  ngx_http_bog_failure_classes[];
extern ngx_str_t  ngx_http_bog_modes[];
extern ngx_str_t  ngx_http_bog_bound_names[];     /* in seconds */


#define ngx_http_bog_metrics_count(counter)                                   \
    (void) ngx_atomic_fetch_add(&(counter), 1)


/*
 * Clears the places of processes that have died, one with this pid too: else
 * requests that it held would be counted again when its pid is used again.
 */
void ngx_http_bog_metrics_init_process(ngx_http_bog_metrics_t *m);

/*
 * Counts a fetch that has ended, after so many milliseconds.  The error is
 * BOG_ERROR_NONE if there is a token.
 */
void ngx_http_bog_metrics_fetch(ngx_http_bog_metrics_t *m,
    bog_failure_t *failure, ngx_msec_t ms);

/* Counts a request that is held from now on, in this process. */
void ngx_http_bog_metrics_hold(ngx_http_bog_metrics_t *m);

/* Counts the end of that hold, after so many milliseconds. */
void ngx_http_bog_metrics_held(ngx_http_bog_metrics_t *m,
    ngx_http_bog_hold_result_e result, ngx_msec_t ms);

/* Returns how many requests are held, in all processes that live. */
ngx_uint_t ngx_http_bog_metrics_holding(ngx_http_bog_metrics_t *m);

/*
 * Counts a request for which there is no token at the mono time of now, by the
 * "bog_token" of its location.
 */
void ngx_http_bog_metrics_without_token(ngx_http_bog_metrics_t *m,
    ngx_uint_t mode, int64_t now);

/* Returns how many of them were refused in the last minute. */
ngx_uint_t ngx_http_bog_metrics_refused(ngx_http_bog_metrics_t *m,
    int64_t now);


#endif /* _NGX_HTTP_BOG_METRICS_H_INCLUDED_ */

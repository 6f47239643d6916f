
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_metrics.h"


/*
 * The counters of a source, in shared memory.  All floors above count here; the
 * report reads.  Nothing here may wait or fail: a count that cannot be made is
 * left out.
 */


/*
 * The low bits of a counter of refused requests are their number.  The bits
 * above are the minute in which they came.  Both are in one word, so that one
 * atomic operation changes both.
 */

#define NGX_HTTP_BOG_COUNT_BITS  20
#define NGX_HTTP_BOG_COUNT_MASK                                               \
    (((ngx_atomic_uint_t) 1 << NGX_HTTP_BOG_COUNT_BITS) - 1)

#define ngx_http_bog_metrics_minute(second)                                   \
    ((ngx_atomic_uint_t) ((second) / NGX_HTTP_BOG_RECENT)                     \
     << NGX_HTTP_BOG_COUNT_BITS)


static void ngx_http_bog_metrics_observe(ngx_http_bog_histogram_t *h,
    ngx_msec_t ms);
static ngx_http_bog_holder_t *ngx_http_bog_metrics_holder(
    ngx_http_bog_metrics_t *m);


ngx_str_t  ngx_http_bog_fetch_results[] = {
    ngx_string("success"),
    ngx_string("failure"),
    ngx_string("aborted")
};


ngx_str_t  ngx_http_bog_hold_results[] = {
    ngx_string("token"),
    ngx_string("failure"),
    ngx_string("timeout"),
    ngx_string("aborted")
};


ngx_str_t  ngx_http_bog_modes[] = {
    ngx_string("required"),
    ngx_string("optional")
};


ngx_str_t  ngx_http_bog_failure_classes[] = {
    ngx_string("resolve"),
    ngx_string("connect"),
    ngx_string("tls"),
    ngx_string("timeout"),
    ngx_string("http_4xx"),
    ngx_string("http_5xx"),
    ngx_string("http_other"),
    ngx_string("rejected"),
    ngx_string("malformed"),
    ngx_string("too_large")
};


static ngx_msec_t  ngx_http_bog_bounds[] = {
    5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000
};


ngx_str_t  ngx_http_bog_bound_names[] = {
    ngx_string("0.005"),
    ngx_string("0.01"),
    ngx_string("0.025"),
    ngx_string("0.05"),
    ngx_string("0.1"),
    ngx_string("0.25"),
    ngx_string("0.5"),
    ngx_string("1"),
    ngx_string("2.5"),
    ngx_string("5"),
    ngx_string("10"),
    ngx_string("+Inf")
};


/* by bog_error_e: the place in ngx_http_bog_failure_classes */

static ngx_uint_t  ngx_http_bog_classes[] = { 0, 0, 1, 2, 3, 6, 7, 8, 9 };


void
ngx_http_bog_metrics_init_process(ngx_http_bog_metrics_t *m)
{
    ngx_uint_t              i;
    ngx_atomic_uint_t       pid, requests;
    ngx_http_bog_holder_t  *holder;

    for (i = 0; i < NGX_HTTP_BOG_HOLDERS; i++) {
        holder = &m->holders[i];

        pid = holder->pid;
        requests = holder->requests;

        if (requests
            && (pid == (ngx_atomic_uint_t) ngx_pid
                || ngx_http_bog_process_dead((ngx_pid_t) pid)))
        {
            (void) ngx_atomic_cmp_set(&holder->requests, requests, 0);
        }
    }
}


void
ngx_http_bog_metrics_fetch(ngx_http_bog_metrics_t *m, bog_failure_t *failure,
    ngx_msec_t ms)
{
    ngx_uint_t  class;

    ngx_http_bog_metrics_observe(&m->fetch_time, ms);

    if (failure->error == BOG_ERROR_NONE) {
        ngx_http_bog_metrics_count(m->fetches[NGX_HTTP_BOG_FETCH_SUCCESS]);
        return;
    }

    class = ngx_http_bog_classes[failure->error];

    if (failure->error == BOG_ERROR_HTTP
        && (failure->status / 100 == 4 || failure->status / 100 == 5))
    {
        /* the classes "http_4xx" and "http_5xx" are at places 4 and 5 */

        class = failure->status / 100;
    }

    ngx_http_bog_metrics_count(m->failures[class]);
    ngx_http_bog_metrics_count(m->fetches[NGX_HTTP_BOG_FETCH_FAILURE]);
}


static void
ngx_http_bog_metrics_observe(ngx_http_bog_histogram_t *h, ngx_msec_t ms)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_HTTP_BOG_BUCKETS - 1; i++) {
        if (ms <= ngx_http_bog_bounds[i]) {
            break;
        }
    }

    (void) ngx_atomic_fetch_add(&h->sum, ms);
    ngx_http_bog_metrics_count(h->buckets[i]);
}


void
ngx_http_bog_metrics_hold(ngx_http_bog_metrics_t *m)
{
    ngx_uint_t              i;
    ngx_atomic_uint_t       pid;
    ngx_http_bog_holder_t  *holder;

    holder = ngx_http_bog_metrics_holder(m);

    /* take a free place; from here on only this process writes to it */

    for (i = 0; holder == NULL && i < NGX_HTTP_BOG_HOLDERS; i++) {
        pid = m->holders[i].pid;

        if ((pid == 0 || ngx_http_bog_process_dead((ngx_pid_t) pid))
            && ngx_atomic_cmp_set(&m->holders[i].pid, pid,
                                  (ngx_atomic_uint_t) ngx_pid))
        {
            holder = &m->holders[i];
            holder->requests = 0;
        }
    }

    /* with more processes than places, some requests are not counted */

    if (holder) {
        holder->requests++;
    }
}


void
ngx_http_bog_metrics_held(ngx_http_bog_metrics_t *m,
    ngx_http_bog_hold_result_e result, ngx_msec_t ms)
{
    ngx_http_bog_holder_t  *holder;

    ngx_http_bog_metrics_observe(&m->hold_time, ms);
    ngx_http_bog_metrics_count(m->holds[result]);

    holder = ngx_http_bog_metrics_holder(m);

    if (holder && holder->requests && --holder->requests == 0) {

        /* another process may take the place */

        holder->pid = 0;
    }
}


static ngx_http_bog_holder_t *
ngx_http_bog_metrics_holder(ngx_http_bog_metrics_t *m)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_HTTP_BOG_HOLDERS; i++) {
        if (m->holders[i].pid == (ngx_atomic_uint_t) ngx_pid) {
            return &m->holders[i];
        }
    }

    return NULL;
}


ngx_uint_t
ngx_http_bog_metrics_holding(ngx_http_bog_metrics_t *m)
{
    ngx_uint_t              i, n;
    ngx_atomic_uint_t       requests;
    ngx_http_bog_holder_t  *holder;

    n = 0;

    for (i = 0; i < NGX_HTTP_BOG_HOLDERS; i++) {
        holder = &m->holders[i];

        requests = holder->requests;

        if (requests && !ngx_http_bog_process_dead((ngx_pid_t) holder->pid)) {
            n += requests;
        }
    }

    return n;
}


void
ngx_http_bog_metrics_without_token(ngx_http_bog_metrics_t *m, ngx_uint_t mode,
    int64_t now)
{
    int64_t            second;
    ngx_atomic_t      *counter;
    ngx_atomic_uint_t  minute, old, count;

    ngx_http_bog_metrics_count(m->without[mode]);

    if (mode != NGX_HTTP_BOG_REQUIRED) {
        return;
    }

    second = now / 1000;
    counter = &m->refused[second % NGX_HTTP_BOG_RECENT];
    minute = ngx_http_bog_metrics_minute(second);

    /* the count of an earlier minute begins anew */

    do {
        old = *counter;
        count = 1;

        if ((old & ~NGX_HTTP_BOG_COUNT_MASK) == minute) {
            count = ngx_min((old & NGX_HTTP_BOG_COUNT_MASK) + 1,
                            NGX_HTTP_BOG_COUNT_MASK);
        }

    } while (!ngx_atomic_cmp_set(counter, old, minute | count));
}


ngx_uint_t
ngx_http_bog_metrics_refused(ngx_http_bog_metrics_t *m, int64_t now)
{
    int64_t            second, last;
    ngx_uint_t         n;
    ngx_atomic_uint_t  counter;

    n = 0;
    last = now / 1000;

    second = ngx_max(last - NGX_HTTP_BOG_RECENT + 1, 0);

    for ( /* void */ ; second <= last; second++) {

        counter = m->refused[second % NGX_HTTP_BOG_RECENT];

        if ((counter & ~NGX_HTTP_BOG_COUNT_MASK)
            == ngx_http_bog_metrics_minute(second))
        {
            n += counter & NGX_HTTP_BOG_COUNT_MASK;
        }
    }

    return n;
}

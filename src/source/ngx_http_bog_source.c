
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_source.h"
#include "ngx_http_bog_wake.h"

#include <openssl/rand.h>


/*
 * The fetches of a source in one worker, and the requests that wait for them.
 * The source's timer, or a request that finds no token, comes to
 * ngx_http_bog_source_fetch_if_due().  If a fetch is due and the lease is free,
 * this worker fetches, publishes the outcome, wakes the other workers, and
 * resumes its own waiters.  As long as requests wait, a timer must be set that
 * looks at the source again: the worker that fetches may die.
 */


#define NGX_HTTP_BOG_FETCHES  8       /* at once, at an endpoint */

/* milliseconds */

#define NGX_HTTP_BOG_STEP     100     /* between two workers */
#define NGX_HTTP_BOG_RETRY    1000    /* when a fetch cannot begin here */
#define NGX_HTTP_BOG_EXTEND   1000    /* between two extensions of the lease */
#define NGX_HTTP_BOG_WATCH    200     /* between looks, while requests wait */
#define NGX_HTTP_BOG_POLL     20      /* the same where no eventfd wakes us */
#define NGX_HTTP_BOG_DAY      86400000


static void ngx_http_bog_timer_handler(ngx_event_t *ev);
static void ngx_http_bog_fetch_unless_exiting(ngx_http_bog_source_t *source,
    bog_time_t *now);
static void ngx_http_bog_start_fetch(ngx_http_bog_source_t *source,
    bog_time_t *now);
static void ngx_http_bog_end_fetch(ngx_http_bog_fetch_t *fetch);
static void ngx_http_bog_publish(ngx_http_bog_source_t *source,
    ngx_http_bog_fetch_t *fetch);
static void ngx_http_bog_postpone_fetch(ngx_http_bog_source_t *source);
static void ngx_http_bog_start_postponed(ngx_http_bog_fetches_t *fetches);
static void ngx_http_bog_schedule(ngx_http_bog_source_t *source,
    int64_t delay);
static void ngx_http_bog_pause(ngx_http_bog_source_t *source, bog_time_t *now);
static ngx_msec_t ngx_http_bog_worker_delay(ngx_http_bog_source_t *source);
static void ngx_http_bog_check_waiters(ngx_http_bog_source_t *source,
    bog_time_t *now);
static void ngx_http_bog_wake_handler(ngx_event_t *ev);
static ngx_int_t ngx_http_bog_acquire_lease(ngx_http_bog_area_t *area,
    void *data);
static ngx_int_t ngx_http_bog_extend_lease(ngx_http_bog_area_t *area,
    void *data);
static ngx_int_t ngx_http_bog_release_lease(ngx_http_bog_area_t *area,
    void *data);
static ngx_int_t ngx_http_bog_publish_token(ngx_http_bog_area_t *area,
    void *data);
static ngx_int_t ngx_http_bog_publish_failure(ngx_http_bog_area_t *area,
    void *data);
static ngx_uint_t ngx_http_bog_has_lease(ngx_http_bog_source_t *source,
    ngx_http_bog_record_t *record);


static ngx_queue_t  ngx_http_bog_sources_waiting;
static ngx_uint_t   ngx_http_bog_workers;


ngx_int_t
ngx_http_bog_source_init_process(ngx_cycle_t *cycle, ngx_array_t *accounts)
{
    unsigned                  seed;
    ngx_uint_t                i;
    ngx_core_conf_t          *ccf;
    ngx_http_bog_source_t    *source;
    ngx_http_bog_account_t  **account;

    if ((ngx_process != NGX_PROCESS_WORKER
         && ngx_process != NGX_PROCESS_SINGLE)
        || accounts->nelts == 0)
    {
        return NGX_OK;
    }

    if (ngx_http_bog_wake_init_process(cycle, ngx_http_bog_wake_handler)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_queue_init(&ngx_http_bog_sources_waiting);

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);
    ngx_http_bog_workers = ngx_max(ccf->worker_processes, 1);

    /*
     * nginx has seeded ngx_random() with pid and time, which the containers of
     * a fleet may have in common.  OpenSSL's random numbers are not used later:
     * the first one takes half a millisecond.
     */

    if (RAND_bytes((u_char *) &seed, sizeof(seed)) == 1) {
        srandom(seed);
    }

    account = accounts->elts;

    for (i = 0; i < accounts->nelts; i++) {
        source = account[i]->source;

        source->account = account[i];
        source->slot = ngx_http_bog_store_slot(account[i]);
        source->ident = (ngx_socket_t) -1;

        source->timer.handler = ngx_http_bog_timer_handler;
        source->timer.data = source;
        source->timer.log = cycle->log;
        source->timer.cancelable = 1;

        ngx_queue_init(&source->waiters);

        /* sources of the same endpoint share these */

        ngx_queue_init(&account[i]->endpoint->fetches.urgent);
        ngx_queue_init(&account[i]->endpoint->fetches.others);

        ngx_http_bog_metrics_init_process(&source->slot->metrics);

        ngx_http_bog_schedule(source, ngx_http_bog_worker_delay(source));
    }

    return NGX_OK;
}


static void
ngx_http_bog_timer_handler(ngx_event_t *ev)
{
    bog_time_t              now;
    ngx_http_bog_source_t  *source;

    source = ev->data;

    ngx_http_bog_now(&now);
    ngx_http_bog_check_waiters(source, &now);

    if (source->fetch == NULL) {
        ngx_http_bog_fetch_unless_exiting(source, &now);
        return;
    }

    (void) ngx_http_bog_store_update(source->account->zone,
                                     ngx_http_bog_extend_lease, source);

    ngx_http_bog_schedule(source, NGX_HTTP_BOG_EXTEND);
}


/* A worker that is to exit fetches for its own requests only. */

static void
ngx_http_bog_fetch_unless_exiting(ngx_http_bog_source_t *source,
    bog_time_t *now)
{
    if ((ngx_exiting || ngx_terminate) && ngx_queue_empty(&source->waiters)) {
        return;
    }

    (void) ngx_http_bog_source_fetch_if_due(source, now);
}


ngx_uint_t
ngx_http_bog_source_fetch_if_due(ngx_http_bog_source_t *source, bog_time_t *now)
{
    int64_t    next;
    ngx_int_t  rc;

    if (source->fetch) {
        return 1;
    }

    ngx_http_bog_source_read(source);

    rc = NGX_DECLINED;

    if (bog_policy_next(&source->record.policy, now) <= now->mono) {

        if (source->pause > now->mono) {
            ngx_http_bog_schedule(source, source->pause - now->mono);
            return 1;
        }

        if (source->account->endpoint->fetches.n >= NGX_HTTP_BOG_FETCHES) {
            ngx_http_bog_postpone_fetch(source);
            return 1;
        }

        rc = ngx_http_bog_store_update(source->account->zone,
                                       ngx_http_bog_acquire_lease, source);
    }

    switch (rc) {

    case NGX_OK:
        ngx_http_bog_start_fetch(source, now);
        return 1;

    case NGX_DECLINED:

        /* nothing is due, or another worker has fetched since the read */

        next = bog_policy_next(&source->record.policy, now);

        ngx_http_bog_schedule(source, next - now->mono
                                      + ngx_http_bog_worker_delay(source));
        return 0;

    case NGX_BUSY:

        /* another worker fetches, and may die; while requests wait,
           ngx_http_bog_schedule() makes it 200 ms */

        next = ngx_min(source->record.lease.deadline,
                       now->mono + NGX_HTTP_BOG_RETRY);

        ngx_http_bog_schedule(source, next - now->mono
                                      + ngx_http_bog_worker_delay(source));
        return 1;

    default: /* NGX_AGAIN */
        ngx_http_bog_pause(source, now);
        return 1;
    }
}


static void
ngx_http_bog_start_fetch(ngx_http_bog_source_t *source, bog_time_t *now)
{
    source->fetch = ngx_http_bog_fetch_start(source->account, &source->record,
                                             ngx_http_bog_end_fetch, source);

    if (source->fetch) {
        source->account->endpoint->fetches.n++;
        ngx_http_bog_schedule(source, NGX_HTTP_BOG_EXTEND);
        return;
    }

    /* this worker has no memory or no connection, another one may have it */

    ngx_http_bog_metrics_count(
                  source->slot->metrics.fetches[NGX_HTTP_BOG_FETCH_ABORTED]);

    (void) ngx_http_bog_store_update(source->account->zone,
                                     ngx_http_bog_release_lease, source);

    ngx_http_bog_pause(source, now);
}


static void
ngx_http_bog_end_fetch(ngx_http_bog_fetch_t *fetch)
{
    int64_t                  wait;
    bog_time_t               now;
    ngx_http_bog_source_t   *source;
    ngx_http_bog_metrics_t  *metrics;

    source = fetch->data;

    source->account->endpoint->fetches.n--;
    source->fetch = NULL;

    ngx_http_bog_publish(source, fetch);

    metrics = &source->slot->metrics;

    if (fetch->aborted) {
        ngx_http_bog_metrics_count(
                               metrics->fetches[NGX_HTTP_BOG_FETCH_ABORTED]);

    } else {
        ngx_http_bog_metrics_fetch(metrics, &fetch->failure,
                                   ngx_current_msec - fetch->began);
    }

    if (ngx_atomic_cmp_set(&source->slot->waited, 1, 0)) {
        ngx_http_bog_wake();
    }

    ngx_http_bog_now(&now);
    ngx_http_bog_source_read(source);
    ngx_http_bog_check_waiters(source, &now);

    if (fetch->aborted) {
        ngx_http_bog_pause(source, &now);

    } else {
        source->pause = 0;

        wait = bog_policy_next(&source->record.policy, &now) - now.mono;
        ngx_http_bog_fetch_log_result(fetch, ngx_max(wait, 0));

        ngx_http_bog_fetch_unless_exiting(source, &now);
    }

    ngx_http_bog_start_postponed(&source->account->endpoint->fetches);
}


/* Sets fetch->aborted, or the failure, if the token cannot be published. */

static void
ngx_http_bog_publish(ngx_http_bog_source_t *source,
    ngx_http_bog_fetch_t *fetch)
{
    ngx_int_t        rc;
    ngx_shm_zone_t  *zone;

    zone = source->account->zone;

    if (fetch->aborted) {
        (void) ngx_http_bog_store_update(zone, ngx_http_bog_release_lease,
                                         source);
        return;
    }

    if (fetch->failure.error == BOG_ERROR_NONE) {

        rc = ngx_http_bog_store_update(zone, ngx_http_bog_publish_token, fetch);

        if (rc == NGX_AGAIN) {
            fetch->aborted = 1;
            return;
        }

        if (rc != NGX_DECLINED) {
            return;
        }

        ngx_http_bog_fetch_fail(fetch, BOG_ERROR_MALFORMED,
                                "the token had expired when it came");
    }

    (void) ngx_http_bog_store_update(zone, ngx_http_bog_publish_failure, fetch);
}


/*
 * Queues the source, as too many fetches are under way at the endpoint.  The
 * sources that requests wait for come first.
 */

static void
ngx_http_bog_postpone_fetch(ngx_http_bog_source_t *source)
{
    ngx_queue_t             *queue;
    ngx_http_bog_fetches_t  *fetches;

    fetches = &source->account->endpoint->fetches;

    queue = ngx_queue_empty(&source->waiters) ? &fetches->others
                                              : &fetches->urgent;
    if (source->queue != queue) {

        if (source->queue) {
            ngx_queue_remove(&source->postponed);
        }

        ngx_queue_insert_tail(queue, &source->postponed);
        source->queue = queue;
    }

    ngx_http_bog_schedule(source, NGX_HTTP_BOG_DAY);
}


static void
ngx_http_bog_start_postponed(ngx_http_bog_fetches_t *fetches)
{
    bog_time_t              now;
    ngx_queue_t            *q, *queue;
    ngx_http_bog_source_t  *source;

    ngx_http_bog_now(&now);

    while (fetches->n < NGX_HTTP_BOG_FETCHES) {

        queue = ngx_queue_empty(&fetches->urgent) ? &fetches->others
                                                  : &fetches->urgent;
        if (ngx_queue_empty(queue)) {
            return;
        }

        q = ngx_queue_head(queue);
        ngx_queue_remove(q);

        source = ngx_queue_data(q, ngx_http_bog_source_t, postponed);
        source->queue = NULL;

        ngx_http_bog_fetch_unless_exiting(source, &now);
    }
}


/*
 * Sets the timer, to a day at most: then the clocks are compared again.  While
 * requests wait for a fetch of another worker, the timer looks after that, and
 * may only be set to an earlier time: requests that come must not put it off.
 * ngx_add_timer() alone would keep a timer that is set to nearly the same time.
 */

static void
ngx_http_bog_schedule(ngx_http_bog_source_t *source, int64_t delay)
{
    int64_t       most;
    ngx_event_t  *ev;

    ev = &source->timer;
    most = NGX_HTTP_BOG_DAY;

    if (!ngx_queue_empty(&source->waiters) && source->fetch == NULL) {
        most = ngx_http_bog_wake_works() ? NGX_HTTP_BOG_WATCH
                                         : NGX_HTTP_BOG_POLL;
    }

    delay = ngx_min(ngx_max(delay, 1), most);

    if (ev->timer_set) {

        if (!ngx_queue_empty(&source->waiters)
            && (ngx_msec_int_t) (ev->timer.key - ngx_current_msec) <= delay)
        {
            return;
        }

        ngx_del_timer(ev);
    }

    ngx_add_timer(ev, (ngx_msec_t) delay);
}


/* No fetch can begin here for now, however many requests ask for it. */

static void
ngx_http_bog_pause(ngx_http_bog_source_t *source, bog_time_t *now)
{
    source->pause = now->mono + NGX_HTTP_BOG_RETRY;

    ngx_http_bog_schedule(source, NGX_HTTP_BOG_RETRY);
}


void
ngx_http_bog_source_check_timer(ngx_http_bog_source_t *source, bog_time_t *now)
{
    ngx_msec_int_t  left, most;

    if (source->fetch
        || source->queue
        || bog_policy_next(&source->record.policy, now) > now->mono)
    {
        return;
    }

    left = (ngx_msec_int_t) (source->timer.timer.key - ngx_current_msec);
    most = NGX_HTTP_BOG_RETRY + ngx_http_bog_worker_delay(source);

    if (left > most) {
        ngx_http_bog_schedule(source, 0);
    }
}


/*
 * Workers do not race for a fetch.  Each source has a worker that is the first,
 * and the others follow one by one if nothing has happened until then.  A
 * worker whose last fetch could not run lets all others go first.
 */

static ngx_msec_t
ngx_http_bog_worker_delay(ngx_http_bog_source_t *source)
{
    ngx_uint_t  n;

    n = ngx_http_bog_workers;

    if (source->pause) {
        return n * NGX_HTTP_BOG_STEP;
    }

    return (ngx_worker + n - source->account->index % n) % n
           * NGX_HTTP_BOG_STEP;
}


int64_t
ngx_http_bog_source_fetch(ngx_http_bog_source_t *source, bog_time_t *now)
{
    ngx_uint_t  coming;

    coming = ngx_http_bog_source_fetch_if_due(source, now);

    /* the waiter that comes next is told of failures after this one only */

    if (ngx_queue_empty(&source->waiters)) {
        source->seen_failures = source->record.total_failures;
    }

    return coming ? now->mono : bog_policy_next(&source->record.policy, now);
}


void
ngx_http_bog_source_wait(ngx_http_bog_source_t *source,
    ngx_http_bog_waiter_t *waiter)
{
    if (ngx_queue_empty(&source->waiters)) {
        ngx_queue_insert_tail(&ngx_http_bog_sources_waiting, &source->waiting);
    }

    ngx_queue_insert_tail(&source->waiters, &waiter->queue);
    waiter->queued = 1;

    if (source->queue) {
        ngx_http_bog_postpone_fetch(source);
    }

    /* what was published before this call wakes nobody: look for it */

    ngx_http_bog_store_wait(source->account);

    if (source->slot->version != source->version
        || source->seen_failures != source->record.total_failures)
    {
        ngx_http_bog_schedule(source, 1);

    } else {
        /* 200 ms or less, as there is a waiter now */

        ngx_http_bog_schedule(source, NGX_HTTP_BOG_WATCH);
    }
}


void
ngx_http_bog_source_leave(ngx_http_bog_source_t *source,
    ngx_http_bog_waiter_t *waiter)
{
    if (!waiter->queued) {
        return;
    }

    waiter->queued = 0;
    ngx_queue_remove(&waiter->queue);

    if (ngx_queue_empty(&source->waiters)) {
        ngx_queue_remove(&source->waiting);
    }
}


/*
 * Tells the waiters of a token, or of a failure.  After a failure those wait on
 * for which the next fetch comes in time.  This asks to be woken before it
 * reads: what is published later than that wakes us.
 */

static void
ngx_http_bog_check_waiters(ngx_http_bog_source_t *source, bog_time_t *now)
{
    int64_t                 next;
    ngx_int_t               rc;
    ngx_queue_t            *q, *following;
    ngx_http_bog_waiter_t  *waiter;

    if (ngx_queue_empty(&source->waiters)) {
        return;
    }

    ngx_http_bog_store_wait(source->account);

    if (ngx_http_bog_source_token(source, now)) {
        rc = NGX_OK;

    } else if (source->seen_failures != source->record.total_failures) {
        rc = NGX_ERROR;

    } else {
        return;
    }

    source->seen_failures = source->record.total_failures;

    next = bog_policy_next(&source->record.policy, now);

    for (q = ngx_queue_head(&source->waiters);
         q != ngx_queue_sentinel(&source->waiters);
         q = following)
    {
        following = ngx_queue_next(q);

        waiter = ngx_queue_data(q, ngx_http_bog_waiter_t, queue);

        if (rc == NGX_OK
            || source->record.policy.error == BOG_ERROR_REJECTED
            || next > waiter->deadline)
        {
            ngx_http_bog_source_leave(source, waiter);

            waiter->rc = rc;
            ngx_post_event(waiter->event, &ngx_posted_events);
        }
    }
}


/* Some worker has published something. */

static void
ngx_http_bog_wake_handler(ngx_event_t *ev)
{
    bog_time_t    now;
    ngx_queue_t  *q, *next;

    ngx_http_bog_now(&now);

    for (q = ngx_queue_head(&ngx_http_bog_sources_waiting);
         q != ngx_queue_sentinel(&ngx_http_bog_sources_waiting);
         q = next)
    {
        next = ngx_queue_next(q);

        ngx_http_bog_check_waiters(ngx_queue_data(q, ngx_http_bog_source_t,
                                                  waiting),
                                   &now);
    }
}


/*
 * What follows changes the record; see ngx_http_bog_store_update().  Each
 * handler may be called several times for one change.
 */


/*
 * Takes the lease, if a fetch is due and no other worker holds it: NGX_OK.
 * Another one holds it: NGX_BUSY.  Nothing is due: NGX_DECLINED.  Sets
 * source->record.
 */

static ngx_int_t
ngx_http_bog_acquire_lease(ngx_http_bog_area_t *area, void *data)
{
    ngx_http_bog_source_t *source = data;

    ngx_int_t               rc;
    bog_time_t              now;
    ngx_http_bog_record_t  *record;

    record = &area->record;

    ngx_http_bog_now(&now);

    if (ngx_http_bog_store_leased(record, &now)) {
        rc = NGX_BUSY;

    } else if (bog_policy_next(&record->policy, &now) > now.mono) {
        rc = NGX_DECLINED;

    } else {
        record->lease.pid = ngx_pid;
        record->lease.id++;
        record->lease.deadline = now.mono + NGX_HTTP_BOG_LEASE;
        rc = NGX_OK;
    }

    source->record = *record;
    source->lease = record->lease.id;

    return rc;
}


static ngx_int_t
ngx_http_bog_extend_lease(ngx_http_bog_area_t *area, void *data)
{
    bog_time_t  now;

    if (!ngx_http_bog_has_lease(data, &area->record)) {
        return NGX_DECLINED;
    }

    ngx_http_bog_now(&now);

    area->record.lease.deadline = now.mono + NGX_HTTP_BOG_LEASE;

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_release_lease(ngx_http_bog_area_t *area, void *data)
{
    if (!ngx_http_bog_has_lease(data, &area->record)) {
        return NGX_DECLINED;
    }

    area->record.lease.pid = 0;

    /* a token that the API has rejected is better than none */

    area->record.policy.withheld = 0;

    return NGX_OK;
}


/*
 * Publishes the token of a fetch and ends the lease.  A worker that has lost
 * the lease still publishes a token that lives longer than the one that is
 * there; else NGX_DONE.  NGX_DECLINED: the token had ended when it came, and
 * the lease is kept.  Later fetches use the addresses when name servers do not
 * answer, and begin with the first of them.
 */

static ngx_int_t
ngx_http_bog_publish_token(ngx_http_bog_area_t *area, void *data)
{
    ngx_http_bog_fetch_t *fetch = data;

    int64_t                    lifetime;
    ngx_uint_t                 mine, same;
    bog_time_t                 now;
    bog_policy_t              *policy;
    ngx_http_bog_record_t     *record;
    ngx_http_bog_source_t     *source;
    ngx_http_bog_new_token_t  *token;

    source = fetch->data;
    token = &fetch->token;
    record = &area->record;
    policy = &record->policy;

    mine = ngx_http_bog_has_lease(source, record);

    if (!mine && token->start.mono + token->lifetime <= policy->token.expires) {
        return NGX_DONE;
    }

    ngx_http_bog_now(&now);

    lifetime = token->lifetime;

    same = (token->len == record->len
            && ngx_memcmp(token->data, area->token, token->len) == 0);

    if (same && !token->stated) {

        /* the server does not say how long: for the time that is left */

        lifetime = bog_times_left(&policy->token, &token->start);
    }

    if (same && lifetime > 0 && now.mono < policy->token.expires) {
        bog_policy_repeated(policy, &token->start, lifetime);

        /* for the log */

        token->lifetime = policy->token.expires - token->start.mono;

    } else if (bog_policy_success(policy, &token->start, &now, lifetime,
                                (int64_t) source->account->refresh_before,
                                (uint32_t) ngx_random()))
    {
        ngx_http_bog_store_set_token(area, token);

    } else {
        return NGX_DECLINED;
    }

    record->obtained = now.wall;

    if (fetch->addrs.n) {
        record->addrs = fetch->addrs;
        record->begin = fetch->addrs.list[fetch->addrs.first];
    }

    if (mine) {
        record->lease.pid = 0;
    }

    return NGX_OK;
}


/*
 * Publishes the failure of a fetch and ends the lease, unless it was lost.  The
 * next fetch begins with the address at which this one has ended.
 */

static ngx_int_t
ngx_http_bog_publish_failure(ngx_http_bog_area_t *area, void *data)
{
    ngx_http_bog_fetch_t *fetch = data;

    bog_time_t              now;
    ngx_http_bog_failed_t  *failed;
    ngx_http_bog_record_t  *record;

    record = &area->record;

    if (!ngx_http_bog_has_lease(fetch->data, record)) {
        return NGX_DECLINED;
    }

    ngx_http_bog_now(&now);

    if (record->policy.failures == 0) {
        record->failing = now.wall;
    }

    bog_policy_failure(&record->policy, &now, &fetch->failure,
                       (uint32_t) ngx_random());

    failed = &record->failed;

    *failed = fetch->failed;
    failed->wall = now.wall;
    failed->error = fetch->failure.error;
    failed->status = fetch->failure.status;

    if (fetch->addrs.n) {
        record->begin = fetch->addrs.list[fetch->addrs.first];
    }

    record->total_failures++;
    record->lease.pid = 0;

    return NGX_OK;
}


static ngx_uint_t
ngx_http_bog_has_lease(ngx_http_bog_source_t *source,
    ngx_http_bog_record_t *record)
{
    return record->lease.pid == ngx_pid && record->lease.id == source->lease;
}

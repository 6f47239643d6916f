
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_source.h"
#include "ngx_http_bog_wake.h"


#define NGX_HTTP_BOG_FETCHES  8       /* at once, at an endpoint */

#define NGX_HTTP_BOG_STEP     100     /* between workers, milliseconds */
#define NGX_HTTP_BOG_RETRY    1000    /* when a fetch cannot begin here */
#define NGX_HTTP_BOG_BEAT     1000    /* to tell that one still fetches */

#define NGX_HTTP_BOG_WATCH    200     /* for workers that died */
#define NGX_HTTP_BOG_POLL     20      /* for publications too */

/*
 * For so long a token that the API has accepted is not blamed for what the API
 * says of other requests, unless it says so of several, and accepts none.
 */

#define NGX_HTTP_BOG_ACCEPTED  (1000 + NGX_HTTP_BOG_ACCEPTED_NOTE)
#define NGX_HTTP_BOG_REFUSALS  3


typedef struct {
    ngx_http_bog_task_t   watch;

    ngx_queue_t           waiting;    /* sources that requests wait for */
    ngx_uint_t            workers;
} ngx_http_bog_worker_t;


static void ngx_http_bog_source_hurry(ngx_http_bog_source_t *source,
    bog_time_t *now);
static void ngx_http_bog_source_task_handler(ngx_http_bog_task_t *task);
static void ngx_http_bog_source_go_on(ngx_http_bog_source_t *source,
    bog_time_t *now);
static ngx_uint_t ngx_http_bog_source_run(ngx_http_bog_source_t *source,
    bog_time_t *now);
static ngx_uint_t ngx_http_bog_source_begin(ngx_http_bog_source_t *source,
    bog_time_t *now);
static void ngx_http_bog_source_postpone(ngx_http_bog_source_t *source,
    ngx_queue_t *queue);
static void ngx_http_bog_source_next_pending(ngx_http_bog_fetches_t *fetches);
static void ngx_http_bog_source_arm(ngx_http_bog_source_t *source,
    int64_t delay);
static void ngx_http_bog_source_pause(ngx_http_bog_source_t *source,
    bog_time_t *now);
static ngx_msec_t ngx_http_bog_source_turn(ngx_http_bog_source_t *source);
static void ngx_http_bog_source_sync(ngx_http_bog_source_t *source);
static void ngx_http_bog_source_copy(ngx_http_bog_source_t *source);
static void ngx_http_bog_source_fetched(ngx_http_bog_fetch_t *fetch);
static void ngx_http_bog_source_publish(ngx_http_bog_source_t *source,
    ngx_http_bog_fetch_t *fetch, bog_time_t *now);
static void ngx_http_bog_source_deliver(ngx_http_bog_source_t *source,
    bog_time_t *now);
static void ngx_http_bog_source_woken(void);
static void ngx_http_bog_source_await(ngx_http_bog_source_t *source);
static void ngx_http_bog_source_watch_handler(ngx_http_bog_task_t *task);


static ngx_http_bog_worker_t  ngx_http_bog_worker;


ngx_http_bog_source_t *
ngx_http_bog_source_create(ngx_conf_t *cf, ngx_http_bog_account_t *account)
{
    ngx_http_bog_source_t   *source;
    ngx_http_bog_fetches_t  *fetches;

    source = ngx_pcalloc(cf->pool, sizeof(ngx_http_bog_source_t));
    if (source == NULL) {
        return NULL;
    }

    source->account = account;

    ngx_queue_init(&source->waiters);

    if (account->endpoint->fetches) {
        return source;
    }

    fetches = ngx_pcalloc(cf->pool, sizeof(ngx_http_bog_fetches_t));
    if (fetches == NULL) {
        return NULL;
    }

    ngx_queue_init(&fetches->urgent);
    ngx_queue_init(&fetches->pending);

    account->endpoint->fetches = fetches;

    return source;
}


ngx_int_t
ngx_http_bog_source_init_process(ngx_cycle_t *cycle, ngx_array_t *array)
{
    ngx_uint_t                  i;
    ngx_core_conf_t            *ccf;
    ngx_http_bog_source_t      *source;
    ngx_http_bog_account_t    **accounts;

    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE)
    {
        return NGX_OK;
    }

    ngx_queue_init(&ngx_http_bog_worker.waiting);

    ngx_http_bog_worker.watch.handler = ngx_http_bog_source_watch_handler;

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);
    ngx_http_bog_worker.workers = ngx_max(ccf->worker_processes, 1);

    if (array->nelts == 0) {
        return NGX_OK;
    }

    if (ngx_http_bog_wake_init_process(cycle, ngx_http_bog_source_woken)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_bog_schedule_init_process(cycle);
    ngx_http_bog_store_init_process();

    accounts = array->elts;

    for (i = 0; i < array->nelts; i++) {
        source = accounts[i]->source;

        source->slot = ngx_http_bog_store_slot(accounts[i]);
        source->task.handler = ngx_http_bog_source_task_handler;

        ngx_http_bog_metrics_init_process(&source->slot->metrics);
        ngx_http_bog_source_arm(source, ngx_http_bog_source_turn(source));
    }

    return NGX_OK;
}


ngx_http_bog_token_t *
ngx_http_bog_source_token(ngx_http_bog_source_t *source, bog_time_t *now)
{
    ngx_http_bog_token_t  *token;

    ngx_http_bog_source_sync(source);
    ngx_http_bog_source_copy(source);

    switch (bog_policy_token(&source->record.policy, now)) {

    case BOG_TOKEN_CURRENT:
        source->fresh = source->token;
        token = source->token;
        break;

    case BOG_TOKEN_OLD:
        token = source->old;
        break;

    default: /* BOG_TOKEN_NONE */
        token = NULL;
    }

    if (token == NULL || !bog_times_valid(&token->times, now)) {
        return NULL;
    }

    if (bog_times_refreshing(&token->times, now)) {
        ngx_http_bog_source_hurry(source, now);
    }

    return token;
}


ngx_http_bog_token_t *
ngx_http_bog_source_any_token(ngx_http_bog_source_t *source, bog_time_t *now)
{
    ngx_http_bog_token_t  *token;

    token = ngx_http_bog_source_token(source, now);

    if (token == NULL && source->token
        && bog_times_valid(&source->token->times, now))
    {
        token = source->token;
    }

    return token;
}


/* nginx's timers have slept as long as the machine, where that was asleep */

static void
ngx_http_bog_source_hurry(ngx_http_bog_source_t *source, bog_time_t *now)
{
    ngx_msec_int_t  left;

    if (source->fetch
        || source->pended
        || bog_policy_next(&source->record.policy, now) > now->mono)
    {
        return;
    }

    left = ngx_http_bog_schedule_left(&source->task);

    if (left > NGX_HTTP_BOG_RETRY + (ngx_msec_int_t)
                                    ngx_http_bog_source_turn(source))
    {
        ngx_http_bog_source_arm(source, 0);
    }
}


int64_t
ngx_http_bog_source_demand(ngx_http_bog_source_t *source, bog_time_t *now)
{
    ngx_uint_t  coming;

    coming = ngx_http_bog_source_run(source, now);

    /* of one that comes between this and the wait, the waiter is told */

    if (ngx_queue_empty(&source->waiters)) {
        source->failures = source->record.failures;
    }

    if (coming) {

        if (source->pended) {
            ngx_http_bog_source_postpone(source,
                                         &source->account->endpoint->fetches
                                         ->urgent);
        }

        return now->mono;
    }

    return bog_policy_next(&source->record.policy, now);
}


void
ngx_http_bog_source_wait(ngx_http_bog_source_t *source,
    ngx_http_bog_waiter_t *waiter)
{
    if (ngx_queue_empty(&source->waiters)) {
        ngx_queue_insert_tail(&ngx_http_bog_worker.waiting, &source->waiting);
        ngx_http_bog_source_await(source);
    }

    ngx_queue_insert_tail(&source->waiters, &waiter->queue);
    waiter->queued = 1;
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


ngx_int_t
ngx_http_bog_source_reject(ngx_http_bog_source_t *source,
    ngx_http_bog_token_t *token)
{
    bog_time_t              now;
    ngx_http_bog_slot_t    *slot;
    ngx_http_bog_token_t   *given;
    ngx_http_bog_change_t   change;

    ngx_http_bog_now(&now);

    given = ngx_http_bog_source_token(source, &now);

    if (given == NULL || given->number != token->number) {
        return NGX_DONE;
    }

    slot = source->slot;

    change.number = token->number;
    change.now = &now;

    if ((ngx_atomic_fetch_add(&slot->refusals, 1) + 1 < NGX_HTTP_BOG_REFUSALS
         && slot->accepted == token->number
         && ngx_current_msec - slot->accepted_msec < NGX_HTTP_BOG_ACCEPTED)
        || ngx_http_bog_store_change(source->account->zone,
                                     ngx_http_bog_change_reject, &change)
           != NGX_OK)
    {
        return NGX_DECLINED;
    }

    ngx_http_bog_source_sync(source);

    /* in a worker that is to exit, too: others do not know that it is due */

    (void) ngx_http_bog_source_run(source, &now);

    return NGX_OK;
}


void
ngx_http_bog_source_accept(ngx_http_bog_source_t *source,
    ngx_http_bog_token_t *token)
{
    ngx_http_bog_slot_t    *slot;
    ngx_http_bog_change_t   change;

    slot = source->slot;

    slot->refusals = 0;
    slot->accepted = token->number;
    slot->accepted_msec = ngx_current_msec;

    ngx_http_bog_source_sync(source);

    if (source->record.policy.rejections) {
        change.number = token->number;

        (void) ngx_http_bog_store_change(source->account->zone,
                                         ngx_http_bog_change_accept, &change);
    }
}


ngx_uint_t
ngx_http_bog_source_rejected(ngx_http_bog_source_t *source,
    ngx_http_bog_token_t *token)
{
    ngx_http_bog_source_sync(source);

    return token->number <= source->record.rejected;
}


static void
ngx_http_bog_source_task_handler(ngx_http_bog_task_t *task)
{
    bog_time_t              now;
    ngx_http_bog_change_t   change;
    ngx_http_bog_source_t  *source;

    source = (ngx_http_bog_source_t *) ((u_char *) task
                                        - offsetof(ngx_http_bog_source_t,
                                                   task));

    ngx_http_bog_now(&now);

    if (source->fetch == NULL) {
        ngx_http_bog_source_go_on(source, &now);
        return;
    }

    /* when a worker that is stopped no longer does this, another one fetches */

    change.lease = source->lease;
    change.now = &now;

    (void) ngx_http_bog_store_change(source->account->zone,
                                     ngx_http_bog_change_extend, &change);

    ngx_http_bog_source_arm(source, NGX_HTTP_BOG_BEAT);
}


/* a worker that is to exit fetches for its requests only */

static void
ngx_http_bog_source_go_on(ngx_http_bog_source_t *source, bog_time_t *now)
{
    if ((ngx_exiting || ngx_terminate) && ngx_queue_empty(&source->waiters)) {
        return;
    }

    (void) ngx_http_bog_source_run(source, now);
}


/*
 * Does what is due, or sees to it that this is called again when it is.  Says
 * whether an answer is under way.
 */

static ngx_uint_t
ngx_http_bog_source_run(ngx_http_bog_source_t *source, bog_time_t *now)
{
    int64_t                  next;
    ngx_http_bog_fetches_t  *fetches;

    if (source->fetch) {
        return 1;
    }

    ngx_http_bog_source_sync(source);

    next = bog_policy_next(&source->record.policy, now);

    if (next > now->mono) {
        ngx_http_bog_source_arm(source, next - now->mono
                                        + ngx_http_bog_source_turn(source));
        return 0;
    }

    if (source->pended) {
        return 1;
    }

    if (source->pause > now->mono) {
        ngx_http_bog_source_arm(source, source->pause - now->mono);
        return 1;
    }

    fetches = source->account->endpoint->fetches;

    if (fetches->n >= NGX_HTTP_BOG_FETCHES) {
        ngx_http_bog_source_postpone(source, &fetches->pending);
        return 1;
    }

    return ngx_http_bog_source_begin(source, now);
}


static ngx_uint_t
ngx_http_bog_source_begin(ngx_http_bog_source_t *source, bog_time_t *now)
{
    int64_t                next;
    ngx_uint_t             quiet;
    ngx_http_bog_change_t  change;
    ngx_http_bog_record_t  record;

    change.now = now;
    change.record = &record;

    switch (ngx_http_bog_store_change(source->account->zone,
                                      ngx_http_bog_change_acquire, &change))
    {
    case NGX_BUSY:

        /* looked after, lest its holder has died */

        next = ngx_min(record.lease.deadline - now->mono, NGX_HTTP_BOG_RETRY);

        ngx_http_bog_source_arm(source,
                                next + ngx_http_bog_source_turn(source));
        return 1;

    case NGX_AGAIN:
        ngx_http_bog_source_pause(source, now);
        return 1;

    case NGX_DECLINED:
        ngx_http_bog_source_sync(source);

        next = bog_policy_next(&record.policy, now);

        ngx_http_bog_source_arm(source, next - now->mono
                                        + ngx_http_bog_source_turn(source));
        return 0;

    default: /* NGX_OK */
        break;
    }

    /* what nginx has said of this kind of failure, it need not repeat */

    quiet = (record.policy.failures && record.policy.error == record.told);

    source->lease = record.lease.id;
    source->fetch = ngx_http_bog_fetch_start(source->account, &record, quiet,
                                             ngx_http_bog_source_fetched,
                                             source);

    if (source->fetch == NULL) {

        /* memory or connections are out here: another worker may do better */

        ngx_http_bog_metrics_count(
                  source->slot->metrics.fetches[NGX_HTTP_BOG_FETCH_ABORTED]);

        change.lease = source->lease;

        (void) ngx_http_bog_store_change(source->account->zone,
                                         ngx_http_bog_change_release, &change);

        ngx_http_bog_source_pause(source, now);
        return 1;
    }

    source->account->endpoint->fetches->n++;

    ngx_http_bog_source_arm(source, NGX_HTTP_BOG_BEAT);

    return 1;
}


static void
ngx_http_bog_source_postpone(ngx_http_bog_source_t *source, ngx_queue_t *queue)
{
    if (source->pended == &source->account->endpoint->fetches->urgent) {
        return;
    }

    if (source->pended) {
        ngx_queue_remove(&source->pending);
    }

    ngx_queue_insert_tail(queue, &source->pending);
    source->pended = queue;
}


static void
ngx_http_bog_source_next_pending(ngx_http_bog_fetches_t *fetches)
{
    bog_time_t              now;
    ngx_queue_t            *q;
    ngx_http_bog_source_t  *source;

    ngx_http_bog_now(&now);

    while (fetches->n < NGX_HTTP_BOG_FETCHES) {

        if (!ngx_queue_empty(&fetches->urgent)) {
            q = ngx_queue_head(&fetches->urgent);

        } else if (!ngx_queue_empty(&fetches->pending)) {
            q = ngx_queue_head(&fetches->pending);

        } else {
            return;
        }

        ngx_queue_remove(q);

        source = ngx_queue_data(q, ngx_http_bog_source_t, pending);
        source->pended = NULL;

        ngx_http_bog_source_go_on(source, &now);
    }
}


static void
ngx_http_bog_source_arm(ngx_http_bog_source_t *source, int64_t delay)
{
    /* a day at most, lest a clock be trusted too long */

    delay = ngx_min(ngx_max(delay, 1), 86400000);

    ngx_http_bog_schedule(&source->task, (ngx_msec_t) delay);
}


/* no fetch can begin here for now, however many requests ask for it */

static void
ngx_http_bog_source_pause(ngx_http_bog_source_t *source, bog_time_t *now)
{
    source->pause = now->mono + NGX_HTTP_BOG_RETRY;

    ngx_http_bog_source_arm(source, NGX_HTTP_BOG_RETRY);
}


/*
 * Workers do not race for what is due: each source has a worker that is the
 * first, and the others follow in steps, where those before did nothing.  One
 * that has failed for lack of something of its own lets all others go first.
 */

static ngx_msec_t
ngx_http_bog_source_turn(ngx_http_bog_source_t *source)
{
    ngx_uint_t  n;

    n = ngx_http_bog_worker.workers;

    if (source->last) {
        return n * NGX_HTTP_BOG_STEP;
    }

    return (ngx_worker + n - source->account->index % n) % n
           * NGX_HTTP_BOG_STEP;
}


/* a worker that gives out no tokens of the source has no copy of them */

static void
ngx_http_bog_source_sync(ngx_http_bog_source_t *source)
{
    if (source->slot->version == source->seen) {
        return;
    }

    source->seen = ngx_http_bog_store_read(source->account, &source->record,
                                           NULL, 0);
    source->fresh = NULL;

    if (source->token && source->token->number == source->record.token) {
        ngx_http_bog_token_set_times(source->token, &source->record.policy);
        source->version = source->seen;
    }
}


static void
ngx_http_bog_source_copy(ngx_http_bog_source_t *source)
{
    ngx_http_bog_token_t  *token, *old;

    if (source->version == source->seen || source->record.token == 0) {
        return;
    }

    token = ngx_http_bog_token_copy(source->account, &source->record,
                                    &source->seen, &old);
    if (token == NULL) {
        return;
    }

    if (source->token) {
        ngx_http_bog_token_free(source->token);
    }

    if (source->old) {
        ngx_http_bog_token_free(source->old);
    }

    source->token = token;
    source->old = old;
    source->fresh = NULL;
    source->version = source->seen;
}


static void
ngx_http_bog_source_fetched(ngx_http_bog_fetch_t *fetch)
{
    int64_t                  next;
    bog_time_t               now;
    ngx_http_bog_source_t   *source;
    ngx_http_bog_metrics_t  *m;

    source = fetch->data;

    source->account->endpoint->fetches->n--;
    source->fetch = NULL;

    /* where something of this worker's is lacking, another one may have it */

    source->last = fetch->aborted;

    ngx_http_bog_now(&now);

    ngx_http_bog_source_publish(source, fetch, &now);

    m = &source->slot->metrics;

    if (fetch->aborted) {
        ngx_http_bog_metrics_count(m->fetches[NGX_HTTP_BOG_FETCH_ABORTED]);

    } else {
        ngx_http_bog_metrics_fetch(m, &fetch->failure,
                                   ngx_current_msec - fetch->began);
    }

    if (ngx_http_bog_store_waited(source->account)) {
        ngx_http_bog_wake();
    }

    ngx_http_bog_source_sync(source);
    ngx_http_bog_source_deliver(source, &now);

    if (fetch->aborted) {
        ngx_http_bog_source_pause(source, &now);

    } else {
        next = bog_policy_next(&source->record.policy, &now);
        ngx_http_bog_fetch_log_result(fetch, ngx_max(next - now.mono, 0));

        ngx_http_bog_source_go_on(source, &now);
    }

    ngx_http_bog_source_next_pending(source->account->endpoint->fetches);
}


static void
ngx_http_bog_source_publish(ngx_http_bog_source_t *source,
    ngx_http_bog_fetch_t *fetch, bog_time_t *now)
{
    ngx_int_t               rc;
    ngx_str_t               code;
    ngx_shm_zone_t         *zone;
    ngx_http_bog_change_t   change;

    zone = source->account->zone;

    code.data = (u_char *) fetch->code;
    code.len = fetch->code_len;

    change.account = source->account;
    change.now = now;
    change.lease = source->lease;
    change.token = &fetch->token;
    change.failure = &fetch->failure;
    change.code = &code;
    change.told = !fetch->quiet;
    change.addrs = &fetch->addrs;

    if (fetch->aborted) {
        (void) ngx_http_bog_store_change(zone, ngx_http_bog_change_release,
                                         &change);
        return;
    }

    if (fetch->failure.error == BOG_ERROR_NONE) {

        rc = ngx_http_bog_store_change(zone, ngx_http_bog_change_success,
                                       &change);

        if (rc == NGX_AGAIN) {
            fetch->aborted = 1;
            return;
        }

        if (rc != NGX_DECLINED) {
            return;
        }

        fetch->failure.error = BOG_ERROR_MALFORMED;
        fetch->fault = "the token had expired when it came";
    }

    (void) ngx_http_bog_store_change(zone, ngx_http_bog_change_failure,
                                     &change);
}


static void
ngx_http_bog_source_deliver(ngx_http_bog_source_t *source, bog_time_t *now)
{
    int64_t                 next;
    ngx_int_t               rc;
    ngx_queue_t            *q, *following;
    ngx_http_bog_waiter_t  *waiter;

    if (ngx_queue_empty(&source->waiters)) {
        return;
    }

    if (ngx_http_bog_source_token(source, now)) {
        rc = NGX_OK;

    } else if (source->failures != source->record.failures) {
        rc = NGX_ERROR;

    } else {
        return;
    }

    source->failures = source->record.failures;

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
            waiter->handler(waiter, rc);
        }
    }
}


/* something was published by one of the workers */

static void
ngx_http_bog_source_woken(void)
{
    bog_time_t              now;
    ngx_queue_t            *q, *next;
    ngx_http_bog_source_t  *source;

    ngx_http_bog_now(&now);

    for (q = ngx_queue_head(&ngx_http_bog_worker.waiting);
         q != ngx_queue_sentinel(&ngx_http_bog_worker.waiting);
         q = next)
    {
        next = ngx_queue_next(q);

        source = ngx_queue_data(q, ngx_http_bog_source_t, waiting);

        ngx_http_bog_source_sync(source);
        ngx_http_bog_source_deliver(source, &now);

        if (!ngx_queue_empty(&source->waiters)) {
            ngx_http_bog_source_await(source);
        }
    }
}


/* asks to be woken, and looks at once if that was too late */

static void
ngx_http_bog_source_await(ngx_http_bog_source_t *source)
{
    ngx_msec_t            delay;
    ngx_http_bog_task_t  *watch;

    ngx_http_bog_store_wait(source->account);

    if (source->slot->version != source->seen
        || source->failures != source->record.failures)
    {
        delay = 1;

    } else {
        delay = ngx_http_bog_wake_works() ? NGX_HTTP_BOG_WATCH
                                          : NGX_HTTP_BOG_POLL;
    }

    watch = &ngx_http_bog_worker.watch;

    if (!watch->set
        || ngx_http_bog_schedule_left(watch) > (ngx_msec_int_t) delay)
    {
        ngx_http_bog_schedule(watch, delay);
    }
}


/*
 * The worker that fetches may have died, and where there is no eventfd, a
 * token may have come: looked after as long as requests wait.
 */

static void
ngx_http_bog_source_watch_handler(ngx_http_bog_task_t *task)
{
    bog_time_t              now;
    ngx_queue_t            *q, *next;
    ngx_http_bog_source_t  *source;

    ngx_http_bog_source_woken();

    ngx_http_bog_now(&now);

    for (q = ngx_queue_head(&ngx_http_bog_worker.waiting);
         q != ngx_queue_sentinel(&ngx_http_bog_worker.waiting);
         q = next)
    {
        next = ngx_queue_next(q);

        source = ngx_queue_data(q, ngx_http_bog_source_t, waiting);
        (void) ngx_http_bog_source_run(source, &now);
    }
}

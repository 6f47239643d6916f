
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_SOURCE_H_INCLUDED_
#define _NGX_HTTP_BOG_SOURCE_H_INCLUDED_


#include "ngx_http_bog_fetch.h"
#include "ngx_http_bog_schedule.h"
#include "ngx_http_bog_token.h"


/* milliseconds between two notes that the API has accepted a token */

#define NGX_HTTP_BOG_ACCEPTED_NOTE  100


/* one who waits for a token, or for the word that there is none */

typedef struct ngx_http_bog_waiter_s  ngx_http_bog_waiter_t;

typedef void (*ngx_http_bog_waiter_pt)(ngx_http_bog_waiter_t *waiter,
    ngx_int_t rc);

struct ngx_http_bog_waiter_s {
    ngx_queue_t               queue;
    ngx_http_bog_waiter_pt    handler;
    int64_t                   deadline;     /* mono */
    unsigned                  queued:1;
};


/* fetches at one endpoint: one that hangs does not delay the others */

struct ngx_http_bog_fetches_s {
    ngx_uint_t                n;            /* under way */
    ngx_queue_t               urgent;       /* sources whose turn comes, */
    ngx_queue_t               pending;      /* those with requests first */
};


/* what a worker does with an account */

struct ngx_http_bog_source_s {
    ngx_http_bog_account_t   *account;
    ngx_http_bog_slot_t      *slot;
    ngx_http_bog_token_t     *token;
    ngx_http_bog_token_t     *old;          /* the one before, or NULL */
    ngx_http_bog_token_t     *fresh;        /* the token, where that is given
                                               out, or NULL */

    ngx_atomic_uint_t         version;      /* of the token, */
    ngx_atomic_uint_t         seen;         /* and of what follows */
    ngx_http_bog_record_t     record;
    ngx_uint_t                failures;     /* that the waiters know of */

    ngx_http_bog_task_t       task;         /* when the next fetch is due, or
                                               the lease to be extended */
    int64_t                   pause;        /* mono: none can begin before */

    ngx_http_bog_fetch_t     *fetch;        /* under way here */
    ngx_uint_t                lease;
    ngx_uint_t                last;         /* of all workers, to try again */

    ngx_queue_t               pending;      /* as others are fetching, */
    ngx_queue_t              *pended;       /* in this queue, or NULL */
    ngx_queue_t               waiting;      /* in the list of those that are
                                               waited for */
    ngx_queue_t               waiters;
};


/* Makes the source of an account, while configuring. */
ngx_http_bog_source_t *ngx_http_bog_source_create(ngx_conf_t *cf,
    ngx_http_bog_account_t *account);

/* Starts the sources of all accounts in a worker. */
ngx_int_t ngx_http_bog_source_init_process(ngx_cycle_t *cycle,
    ngx_array_t *array);

/*
 * Says whether source->fresh is the token that ngx_http_bog_source_token()
 * would return: nothing has changed, and no refresh is due.
 */
#define ngx_http_bog_source_fresh(source, now)                                \
    ((source)->slot->version == (source)->version                             \
     && (source)->fresh                                                       \
     && !bog_times_refreshing(&(source)->fresh->times, now))

/*
 * Returns the token that may be given out now, or NULL.  The caller takes its
 * own reference by "refs++" and drops it by ngx_http_bog_token_free().
 */
ngx_http_bog_token_t *ngx_http_bog_source_token(ngx_http_bog_source_t *source,
    bog_time_t *now);

/*
 * The same for a request that cannot wait: where the API has rejected the token
 * and a new one is being fetched, the rejected one.
 */
ngx_http_bog_token_t *ngx_http_bog_source_any_token(
    ngx_http_bog_source_t *source, bog_time_t *now);

/*
 * Begins a fetch where one is due.  Returns the mono time at which the next
 * answer is under way: that of now, or that of the next try.
 */
int64_t ngx_http_bog_source_demand(ngx_http_bog_source_t *source,
    bog_time_t *now);

/*
 * The handler of the waiter, which the caller owns, is called once, from an
 * event of this worker: with NGX_OK when there is a token, with NGX_ERROR when
 * a fetch has failed since the demand, which comes just before, and the
 * credentials were rejected, or the next fetch begins after the waiter's
 * deadline.  It is never called from within these two.
 */
void ngx_http_bog_source_wait(ngx_http_bog_source_t *source,
    ngx_http_bog_waiter_t *waiter);
void ngx_http_bog_source_leave(ngx_http_bog_source_t *source,
    ngx_http_bog_waiter_t *waiter);

/*
 * The API has rejected the token, which a request was given.  Returns NGX_OK
 * where requests get another one from now on, or wait for one; NGX_DONE where
 * that is so already; NGX_DECLINED where they get this one as before, since the
 * API has accepted it a moment ago, or has forced a fetch not long ago.
 */
ngx_int_t ngx_http_bog_source_reject(ngx_http_bog_source_t *source,
    ngx_http_bog_token_t *token);

/* Says whether ngx_http_bog_source_accept() would change nothing. */
#define ngx_http_bog_source_accepted(source, token)                           \
    ((source)->slot->refusals == 0                                            \
     && (source)->slot->accepted == (token)->number                           \
     && ngx_current_msec - (source)->slot->accepted_msec                      \
        < NGX_HTTP_BOG_ACCEPTED_NOTE)

/* The API has accepted the token, which a request was given. */
void ngx_http_bog_source_accept(ngx_http_bog_source_t *source,
    ngx_http_bog_token_t *token);

/* Says whether the API has rejected the token, or one that came later. */
ngx_uint_t ngx_http_bog_source_rejected(ngx_http_bog_source_t *source,
    ngx_http_bog_token_t *token);


#endif /* _NGX_HTTP_BOG_SOURCE_H_INCLUDED_ */

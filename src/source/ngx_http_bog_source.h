
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_SOURCE_H_INCLUDED_
#define _NGX_HTTP_BOG_SOURCE_H_INCLUDED_


#include "ngx_http_bog_fetch.h"
#include "ngx_http_bog_store.h"


/* milliseconds between two notes that the API has accepted a token */

#define NGX_HTTP_BOG_ACCEPTED_NOTE  100


/*
 * A worker's own copy of a token, in memory that no core dump has.  The source
 * has a reference, and so has each request that was given the token.
 */

typedef struct {
    ngx_uint_t                refs;
    ngx_uint_t                number;
    bog_times_t               times;
    u_char                    id[16];
    size_t                    size;         /* that data has room for */
    size_t                    len;
    u_char                    data[1];
} ngx_http_bog_token_t;


/* one request that waits for a token, or for the news that there is none */

typedef struct {
    ngx_queue_t               queue;
    ngx_event_t              *event;        /* posted then, */
    ngx_int_t                 rc;           /* with this result */
    int64_t                   deadline;     /* mono */
    unsigned                  queued:1;
} ngx_http_bog_waiter_t;


/* what a worker does with an account */

struct ngx_http_bog_source_s {
    ngx_http_bog_account_t   *account;
    ngx_http_bog_slot_t      *slot;
    ngx_http_bog_fetch_t     *fetch;        /* under way here, or NULL */

    /* event ident must be after 3 pointers as in ngx_connection_t */
    ngx_socket_t              ident;

    ngx_atomic_uint_t         version;      /* of the record */
    ngx_http_bog_record_t     record;

    ngx_http_bog_token_t     *token;        /* may be older than the record */
    ngx_http_bog_token_t     *old;          /* the one before, or NULL */
    ngx_http_bog_token_t     *fresh;        /* the token, if requests are given
                                               that one, or NULL */

    ngx_event_t               timer;        /* for the next fetch, or to extend
                                               the lease */
    ngx_uint_t                lease;        /* its id, during a fetch */
    int64_t                   pause;        /* mono: no fetch begins before, as
                                               the last one here could not run;
                                               0: it could */

    ngx_queue_t               postponed;    /* its link in a queue of sources
                                               that may not fetch yet */
    ngx_queue_t              *queue;        /* that queue, or NULL */

    ngx_queue_t               waiters;
    ngx_queue_t               waiting;      /* in the list of the sources that
                                               have waiters */
    ngx_uint_t                seen_failures;
                                            /* total failures that the waiters
                                               have been told of */
};


/*
 * Starts the sources of all accounts in a worker.  Each account->source is
 * memory of zeroes, which the configuration has allocated.
 */
ngx_int_t ngx_http_bog_source_init_process(ngx_cycle_t *cycle,
    ngx_array_t *accounts);

/*
 * Says whether source->fresh is the token that ngx_http_bog_source_token()
 * would return: nothing has changed, and no refresh is due.
 */
#define ngx_http_bog_source_fresh(source, now)                                \
    ((source)->slot->version == (source)->version                             \
     && (source)->fresh                                                       \
     && !bog_times_refreshing(&(source)->fresh->times, now))

/*
 * Returns the token that requests are given now, or NULL.  The caller takes its
 * own reference by "refs++" and drops it by ngx_http_bog_token_free().
 */
ngx_http_bog_token_t *ngx_http_bog_source_token(ngx_http_bog_source_t *source,
    bog_time_t *now);

/*
 * The same for a request that cannot wait: if the API has rejected the token
 * and a new one is being fetched, this returns the rejected one.
 */
ngx_http_bog_token_t *ngx_http_bog_source_any_token(
    ngx_http_bog_source_t *source, bog_time_t *now);

/* A cleanup handler: drops one reference, and with the last one the token. */
void ngx_http_bog_token_free(void *token);

/*
 * Starts a fetch for a request, if one is due.  Returns the mono time of the
 * fetch that may bring a token: the time of now if that is under way, here or
 * in another worker, or about to begin; else that of the next one.
 */
int64_t ngx_http_bog_source_fetch(ngx_http_bog_source_t *source,
    bog_time_t *now);

/*
 * Adds a waiter, which the caller owns, right after the fetch.  Its event is
 * posted once: with NGX_OK when there is a token; with NGX_ERROR when a fetch
 * has failed since then, and either the credentials were rejected or the next
 * fetch begins after the waiter's deadline.
 */
void ngx_http_bog_source_wait(ngx_http_bog_source_t *source,
    ngx_http_bog_waiter_t *waiter);

/* Removes the waiter, if it is queued. */
void ngx_http_bog_source_leave(ngx_http_bog_source_t *source,
    ngx_http_bog_waiter_t *waiter);

/*
 * The API has rejected the token, which a request was given.  Returns what
 * follows.  The token is kept too if the API has accepted it a moment ago.
 */
bog_rejected_e ngx_http_bog_source_reject(ngx_http_bog_source_t *source,
    ngx_http_bog_token_t *token);

/* Says whether ngx_http_bog_source_accept() would change nothing. */
#define ngx_http_bog_source_accepted(source, token)                           \
    ((source)->slot->rejects == 0                                             \
     && (source)->slot->accepted == (token)->number                           \
     && ngx_current_msec - (source)->slot->accepted_msec                      \
        < NGX_HTTP_BOG_ACCEPTED_NOTE)

/* The API has accepted the token, which a request was given. */
void ngx_http_bog_source_accept(ngx_http_bog_source_t *source,
    ngx_http_bog_token_t *token);

/* Says whether the API has rejected the token, or one that came later. */
ngx_uint_t ngx_http_bog_source_rejected(ngx_http_bog_source_t *source,
    ngx_http_bog_token_t *token);


/* for the files of this folder only */

/* Copies the record from the store, if it has changed. */
void ngx_http_bog_source_read(ngx_http_bog_source_t *source);

/*
 * Starts a fetch if one is due and this worker may, else schedules the next
 * look.  Returns 1 if an answer is under way, or will be without waiting for
 * the policy's next fetch; 0 if no fetch is due.
 */
ngx_uint_t ngx_http_bog_source_fetch_if_due(ngx_http_bog_source_t *source,
    bog_time_t *now);

/*
 * Runs the timer of a fetch that is overdue.  The timers of nginx stand still
 * while the machine sleeps.
 */
void ngx_http_bog_source_check_timer(ngx_http_bog_source_t *source,
    bog_time_t *now);


#endif /* _NGX_HTTP_BOG_SOURCE_H_INCLUDED_ */

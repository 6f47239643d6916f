
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_STORE_H_INCLUDED_
#define _NGX_HTTP_BOG_STORE_H_INCLUDED_


#include "ngx_http_bog_account.h"
#include "ngx_http_bog_metrics.h"


/*
 * What all workers share of a source.  Each source has a zone of its own,
 * named by its digest: so nginx itself carries token, lease and all over a
 * reload, to old and new workers alike, as long as the source stays the same,
 * and drops them when it goes.
 */


/* a power of two: the valid area, and one for each who makes a change */

#define NGX_HTTP_BOG_AREAS  4

/* milliseconds that a lease lasts if it is not extended */

#define NGX_HTTP_BOG_LEASE  5000

/* addresses of an endpoint, at most */

#define NGX_HTTP_BOG_ADDRS  16


/* the right to fetch */

typedef struct {
    ngx_pid_t              pid;             /* 0: free */
    ngx_uint_t             id;
    int64_t                deadline;        /* mono */
} ngx_http_bog_lease_t;


typedef union {
    struct sockaddr        sockaddr;
    struct sockaddr_in     sockaddr_in;
#if (NGX_HAVE_INET6)
    struct sockaddr_in6    sockaddr_in6;
#endif
} ngx_http_bog_addr_t;


typedef struct {
    ngx_uint_t             n;
    ngx_uint_t             first;           /* the one to begin with */
    ngx_http_bog_addr_t    list[NGX_HTTP_BOG_ADDRS];
} ngx_http_bog_addrs_t;


/* for people: what went wrong, even if all has gone well since */

typedef struct {
    int64_t                wall;            /* 0: nothing ever */
    uint32_t               error;           /* bog_error_e */
    uint32_t               status;          /* of HTTP, 0: none */
    size_t                 len;
    u_char                 code[BOG_OAUTH_ERROR_MAX];
                                            /* "error" of the answer */
} ngx_http_bog_failed_t;


typedef struct {
    bog_policy_t           policy;
    ngx_http_bog_lease_t   lease;

    ngx_uint_t             token;           /* its number, 0: none so far */
    size_t                 len;
    u_char                 id[16];          /* of the token, hex */
    int64_t                start;           /* wall: of its life */
    int64_t                lifetime;
    size_t                 old_len;         /* of the token before it */
    ngx_uint_t             rejected;        /* number of the last one that the
                                               API has rejected, 0: none */

    int64_t                obtained;        /* wall, 0: no token so far */
    ngx_http_bog_failed_t  failed;
    ngx_uint_t             failures;        /* ever */
    uint32_t               told;            /* bog_error_e of the last one of
                                               which nginx has said more */

    ngx_http_bog_addrs_t   addrs;           /* that worked last */
    ngx_http_bog_addr_t    begin;           /* the next fetch begins there */
} ngx_http_bog_record_t;


/* room for the token, and behind it the one before */

#define NGX_HTTP_BOG_TOKENS  ((size_t) 2 * BOG_OAUTH_TOKEN_MAX)


typedef struct {
    ngx_http_bog_record_t  record;
    u_char                 token[NGX_HTTP_BOG_TOKENS];
} ngx_http_bog_area_t;


typedef struct {
    ngx_atomic_t           version;         /* its low bits: the valid area */
    ngx_atomic_t           owners[NGX_HTTP_BOG_AREAS];
                                            /* those who write */
    ngx_atomic_t           waited;          /* 1: somebody waits for a word */
    ngx_atomic_t           accepted;        /* number of the token that the API
                                               last accepted, */
    ngx_atomic_t           accepted_msec;   /* and when */
    ngx_atomic_t           refusals;        /* by the API, since it accepted */
    ngx_http_bog_metrics_t metrics;
    ngx_atomic_t           stored;          /* what a file has, and which one */
    ngx_http_bog_area_t    areas[NGX_HTTP_BOG_AREAS];
} ngx_http_bog_slot_t;


/* a token that a fetch brought */

typedef struct {
    u_char                *data;
    size_t                 len;
    u_char                 id[16];
    int64_t                lifetime;        /* milliseconds */
    bog_time_t             start;           /* of its life */
    ngx_uint_t             stated;          /* the server told the lifetime */
} ngx_http_bog_new_token_t;


#define ngx_http_bog_store_slot(account)                                      \
    ((ngx_http_bog_slot_t *) (account)->zone->data)


/* whether nothing has happened yet, not even the start of a fetch */

#define ngx_http_bog_store_untouched(account)                                 \
    (ngx_http_bog_store_slot(account)->version == NGX_HTTP_BOG_AREAS)


/* Adds the zone of the account to the configuration. */
ngx_int_t ngx_http_bog_store_add(ngx_conf_t *cf,
    ngx_http_bog_account_t *account);

/* Begins random numbers of its own, in a worker. */
void ngx_http_bog_store_init_process(void);

/*
 * Copies the record, and up to size bytes of the token and of the one before,
 * which follows it, of the same moment.  Returns the version that was read.
 */
ngx_atomic_uint_t ngx_http_bog_store_read(ngx_http_bog_account_t *account,
    ngx_http_bog_record_t *record, u_char *token, size_t size);

/* Says whether somebody who lives and has time left holds the lease. */
ngx_uint_t ngx_http_bog_store_leased(ngx_http_bog_record_t *record,
    bog_time_t *now);

/*
 * Who waits for what is published next says so first and looks at the version
 * afterwards; who publishes asks afterwards whether to wake anybody.  So none
 * misses it.  Asking takes the word back.
 */
void ngx_http_bog_store_wait(ngx_http_bog_account_t *account);
ngx_uint_t ngx_http_bog_store_waited(ngx_http_bog_account_t *account);

/* what a change needs to know; each kind says what */

typedef struct {
    ngx_http_bog_account_t    *account;
    bog_time_t                *now;
    ngx_uint_t                 lease;
    ngx_uint_t                 number;          /* of a token */
    bog_life_t                *life;
    ngx_http_bog_new_token_t  *token;
    bog_failure_t             *failure;
    ngx_str_t                 *code;            /* that the server gave */
    ngx_uint_t                 told;            /* nginx was free to log what it
                                                   knows of the failure */
    ngx_http_bog_addrs_t      *addrs;
    ngx_http_bog_record_t     *record;          /* set: as it is then */
} ngx_http_bog_change_t;

typedef ngx_int_t (*ngx_http_bog_change_pt)(ngx_http_bog_area_t *next,
    ngx_http_bog_change_t *change);

/*
 * Changes what the workers share, by one of the handlers below, which may be
 * called several times.  Returns what the handler returns: NGX_OK where there
 * is a change; or NGX_AGAIN, which is logged, where too many processes have
 * been stopped in the middle of a change, and nothing is changed.
 */
ngx_int_t ngx_http_bog_store_change(ngx_shm_zone_t *zone,
    ngx_http_bog_change_pt handler, ngx_http_bog_change_t *change);

/*
 * Takes the lease where a fetch is due and nobody who lives and has time left
 * holds it: NGX_OK.  NGX_BUSY: another one holds it.  NGX_DECLINED: nothing is
 * due.  Needs now; sets record.
 */
ngx_int_t ngx_http_bog_change_acquire(ngx_http_bog_area_t *next,
    ngx_http_bog_change_t *change);

/* Makes the lease last from now on, unless it was lost.  Needs lease, now. */
ngx_int_t ngx_http_bog_change_extend(ngx_http_bog_area_t *next,
    ngx_http_bog_change_t *change);

/* Gives the lease back with nothing done.  Needs lease. */
ngx_int_t ngx_http_bog_change_release(ngx_http_bog_area_t *next,
    ngx_http_bog_change_t *change);

/*
 * Publishes the token and ends the lease.  One who has lost the lease still
 * publishes a token that lives longer than what is there.  NGX_DECLINED: the
 * token had ended when it came, the lease is kept.  The addresses serve later
 * fetches when name servers do not answer; the next fetch begins with the one
 * that "first" names.  Needs account, lease, token, addrs, now.
 */
ngx_int_t ngx_http_bog_change_success(ngx_http_bog_area_t *next,
    ngx_http_bog_change_t *change);

/*
 * Publishes a token that was kept while nothing ran.  NGX_DECLINED: it is not
 * usable any more, or there is another one.  Needs account, token, life, now.
 */
ngx_int_t ngx_http_bog_change_restore(ngx_http_bog_area_t *next,
    ngx_http_bog_change_t *change);

/*
 * Publishes a failure and ends the lease, unless it was lost.  Of the addresses
 * only the one that "first" names is kept, to begin with.  Needs lease,
 * failure, code, told, addrs, now.
 */
ngx_int_t ngx_http_bog_change_failure(ngx_http_bog_area_t *next,
    ngx_http_bog_change_t *change);

/*
 * The API has rejected the token of that number: NGX_OK where that changes what
 * is given out, see bog_policy_rejected(); NGX_DECLINED where it does not.
 * Needs number, now.
 */
ngx_int_t ngx_http_bog_change_reject(ngx_http_bog_area_t *next,
    ngx_http_bog_change_t *change);

/* The API has accepted the token of that number, after it rejected others. */
ngx_int_t ngx_http_bog_change_accept(ngx_http_bog_area_t *next,
    ngx_http_bog_change_t *change);


#endif /* _NGX_HTTP_BOG_STORE_H_INCLUDED_ */


/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_STORE_H_INCLUDED_
#define _NGX_HTTP_BOG_STORE_H_INCLUDED_


#include "ngx_http_bog_account.h"
#include "ngx_http_bog_metrics.h"


/*
 * What all workers share of a source.  Each source has a zone of its own, which
 * is named by the digest of its account.  So nginx itself keeps the token, the
 * lease and all the rest over a reload, for old and new workers, as long as the
 * account stays the same, and frees the zone when the account is gone.
 */


/* the valid area, and one for each process in a change; a power of two */

#define NGX_HTTP_BOG_AREAS  4

/* milliseconds after which a lease ends, unless it is extended */

#define NGX_HTTP_BOG_LEASE  5000

/* addresses of an endpoint, at most */

#define NGX_HTTP_BOG_ADDRS  16

/* bytes of a reason in words */

#define NGX_HTTP_BOG_REASON_MAX  352


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
    ngx_uint_t             first;           /* to connect to */
    ngx_http_bog_addr_t    list[NGX_HTTP_BOG_ADDRS];
} ngx_http_bog_addrs_t;


/* the last failure, which is reported even after a success */

typedef struct {
    int64_t                wall;            /* 0: no fetch has failed */
    uint32_t               error;           /* bog_error_e */
    uint32_t               status;          /* of HTTP, 0: none */
    size_t                 code_len;        /* "error" of the answer */
    u_char                 code[BOG_OAUTH_ERROR_MAX];
    size_t                 reason_len;      /* in words */
    u_char                 reason[NGX_HTTP_BOG_REASON_MAX];
} ngx_http_bog_failed_t;


typedef struct {
    bog_policy_t           policy;
    ngx_http_bog_lease_t   lease;

    ngx_uint_t             number;          /* of the token, 0: none so far */
    size_t                 len;
    u_char                 id[16];          /* of the token, hex */
    int64_t                start;           /* wall: of its life */
    int64_t                lifetime;
    size_t                 old_len;         /* of the token before it, */
    u_char                 old_id[16];      /* and its id */
    ngx_uint_t             rejected;        /* number of the last one that the
                                               API has rejected, 0: none */

    int64_t                obtained;        /* wall, 0: no token so far */
    ngx_http_bog_failed_t  failed;
    int64_t                failing;         /* wall: the first failure since
                                               the last success */
    ngx_uint_t             total_failures;  /* of all fetches so far */

    ngx_http_bog_addrs_t   addrs;           /* of the last success */
    ngx_http_bog_addr_t    begin;           /* where the next fetch begins */
} ngx_http_bog_record_t;


/* room for the token, and after it the old one */

#define NGX_HTTP_BOG_TOKENS  ((size_t) 2 * BOG_OAUTH_TOKEN_MAX)


typedef struct {
    ngx_http_bog_record_t  record;
    u_char                 token[NGX_HTTP_BOG_TOKENS];
} ngx_http_bog_area_t;


typedef struct {
    ngx_atomic_t           version;         /* its low bits: the valid area */
    ngx_atomic_t           owners[NGX_HTTP_BOG_AREAS];
                                            /* processes in a change */
    ngx_atomic_t           waited;          /* 1: a process is to be woken */
    ngx_atomic_t           accepted;        /* number of the token that the API
                                               last accepted, */
    ngx_atomic_t           accepted_msec;   /* and when */
    ngx_atomic_t           rejects;         /* by the API, since it accepted */
    ngx_http_bog_metrics_t metrics;
    ngx_atomic_t           stored;          /* hash of the file's path, plus the
                                               number of the token in it */
    ngx_http_bog_area_t    areas[NGX_HTTP_BOG_AREAS];
} ngx_http_bog_slot_t;


/* a token that comes from a fetch or from a file */

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


/* says whether nothing has been changed yet, not even by the first fetch */

#define ngx_http_bog_store_untouched(account)                                 \
    (ngx_http_bog_store_slot(account)->version == NGX_HTTP_BOG_AREAS)


/* Adds the zone of the account to the configuration. */
ngx_int_t ngx_http_bog_store_add(ngx_conf_t *cf,
    ngx_http_bog_account_t *account);

/*
 * Copies the record, and, if token is not NULL, up to size bytes of the token
 * and of the old one, which follows it.  All are of the same version, which is
 * returned.
 */
ngx_atomic_uint_t ngx_http_bog_store_read(ngx_http_bog_account_t *account,
    ngx_http_bog_record_t *record, u_char *token, size_t size);

/*
 * Says whether a process holds the lease: one that exists, and has extended the
 * lease in time.
 */
ngx_uint_t ngx_http_bog_store_leased(ngx_http_bog_record_t *record,
    bog_time_t *now);

/*
 * Asks the process that publishes next to wake the others.  The caller must
 * look at the version afterwards: the publisher first changes the version, then
 * takes "waited" back by a compare-and-swap, and wakes the others if it was
 * set.  So either the caller or the publisher sees the other one.
 */
void ngx_http_bog_store_wait(ngx_http_bog_account_t *account);

/*
 * A handler changes the area, a copy of the valid one, and returns NGX_OK; any
 * other value means that nothing is to be changed.  It may be called several
 * times for one change, so it must not depend on what an earlier call of it has
 * written outside of the area.  It must not wait,
 * allocate or log.
 */
typedef ngx_int_t (*ngx_http_bog_store_update_pt)(ngx_http_bog_area_t *area,
    void *data);

/*
 * Changes what the processes share.  Returns what the handler returns, or
 * NGX_AGAIN, which is logged: too many processes have been stopped in the
 * middle of a change, and nothing is changed.
 */
ngx_int_t ngx_http_bog_store_update(ngx_shm_zone_t *zone,
    ngx_http_bog_store_update_pt handler, void *data);

/* For a handler: puts the new token in, before the one that was there. */
void ngx_http_bog_store_set_token(ngx_http_bog_area_t *area,
    ngx_http_bog_new_token_t *token);

/*
 * Publishes a token that was kept while nginx did not run.  Returns
 * NGX_DECLINED if the token is not usable any more, or there is another one.
 */
ngx_int_t ngx_http_bog_store_restore(ngx_http_bog_account_t *account,
    ngx_http_bog_new_token_t *token, bog_life_t *life);


#endif /* _NGX_HTTP_BOG_STORE_H_INCLUDED_ */


/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_FETCH_H_INCLUDED_
#define _NGX_HTTP_BOG_FETCH_H_INCLUDED_


#include "ngx_http_bog_account.h"
#include "ngx_http_bog_store.h"


/* room for the header of an answer */

#define NGX_HTTP_BOG_HEADER_SIZE  16384

/* what is kept of a line of nginx's log */

#define NGX_HTTP_BOG_DETAIL_MAX   160


typedef struct ngx_http_bog_fetch_s  ngx_http_bog_fetch_t;

typedef void (*ngx_http_bog_fetch_pt)(ngx_http_bog_fetch_t *fetch);


/* the HTTP of an answer, while it comes and afterwards */

typedef struct {
    ngx_http_status_t          status;
    ngx_http_chunked_t         chunked;

    off_t                      length;          /* -1: none */
    time_t                     date;            /* -1: none */
    time_t                     retry_date;      /* -1: none */
    ngx_int_t                  retry_delay;     /* seconds, -1: none */

    size_t                     body_len;

    unsigned                   is_chunked:1;
    unsigned                   encoded:1;
    unsigned                   complete:1;
    unsigned                   close:1;         /* do not keep alive */
} ngx_http_bog_answer_t;


/*
 * A fetch: it looks up the name of the endpoint, sends the token request and
 * reads the answer.
 *
 *   source ---> fetch ---> pool         header and body of the answer, token
 *                |
 *                +-------> c ---> r     a connection and a request that have
 *                |                |     no client
 *                |                +---> sr ---> upstream ---> peer
 *                |
 *                +-------> lookup       of the endpoint's addresses
 *
 * The fetch owns all of it, and frees it in the handler of the event "done":
 * nothing of the upstream is on the stack then.
 */

struct ngx_http_bog_fetch_s {
    ngx_http_log_ctx_t         log_ctx;         /* must be the first */
    ngx_log_t                  log;             /* for our own lines */
    ngx_log_t                  upstream_log;    /* for those of nginx, */
    size_t                     detail_len;      /* and the first error of
                                                   the peer */
    u_char                     detail[NGX_HTTP_BOG_DETAIL_MAX];

    ngx_http_bog_account_t    *account;
    ngx_http_bog_record_t      record;          /* when the fetch began */
    ngx_http_bog_fetch_pt      handler;
    void                      *data;
    ngx_msec_t                 began;

    ngx_resolver_ctx_t        *lookup;          /* by nginx's resolver, */
    ngx_uint_t                 questions;       /* or by the system */
    ngx_queue_t                queue;
    ngx_event_t                lookup_timer;
    ngx_msec_t                 lookup_again;    /* 0: ask no second time */
    ngx_int_t                  lookup_error;
    ngx_http_bog_addrs_t       addrs;           /* that were found */

    ngx_connection_t          *connection;
    ngx_http_connection_t      http_connection;
    ngx_http_request_t        *request;
    ngx_event_t                timeout;
    ngx_event_t                done;

    ngx_http_upstream_conf_t   conf;
    ngx_event_get_peer_pt      get_peer;        /* of the upstream {} */
    size_t                     peer_len;        /* 0: none so far */
    u_char                     peer[NGX_SOCKADDR_STRLEN];
    ngx_msec_t                 peer_began;
    ngx_uint_t                 peer_asked;      /* it was sent the request */
    int                        alert;           /* that the peer sent last */
    int                        verify_depth;    /* of its wrong certificate */
    bog_pool_t                 pool;
    u_char                    *header;          /* of the answer, in the pool */
    u_char                    *body;            /* in the pool, too */
    ngx_http_bog_answer_t      answer;

    /* the result; the token is in the pool */

    bog_failure_t              failure;         /* none: there is a token */
    ngx_http_bog_failed_t      failed;          /* the failure in words */
    ngx_http_bog_new_token_t   token;

    /*
     * The endpoint is not to blame: the worker exits, or it has no memory, no
     * connection, no descriptor or no thread for the fetch, or the machine has
     * no sockets of the families of the endpoint's addresses.  Where the
     * machine lacks the address of "bog_bind", the configuration is wrong, and
     * the fetch has failed.
     */

    unsigned                   aborted:1;
};


/*
 * Starts a fetch.  The record tells how the fetches before have ended.  The
 * handler is called once, always from an event, with the result in the fetch,
 * and must copy what it needs: the fetch is freed when the handler returns.
 * Returns NULL if there is no memory or no connection.
 */
ngx_http_bog_fetch_t *ngx_http_bog_fetch_start(ngx_http_bog_account_t *account,
    ngx_http_bog_record_t *record, ngx_http_bog_fetch_pt handler, void *data);

/*
 * Sets the failure, and the reason that the log and the status show: a sentence
 * in the form of a log message, cut to the room that there is.
 */
void ngx_http_bog_fetch_fail(ngx_http_bog_fetch_t *fetch, bog_error_e error,
    const char *fmt, ...);

/*
 * Logs the result: as an error or notice if it differs from the one before,
 * else as information.  The next fetch is in "wait" milliseconds.
 */
void ngx_http_bog_fetch_log_result(ngx_http_bog_fetch_t *fetch, int64_t wait);

/*
 * Initializes the peers of a token request: the servers of an upstream {}, or
 * the addresses that the fetch has found, in their order.
 */
ngx_int_t ngx_http_bog_upstream_init_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us);

/*
 * Makes the connections of a TLS context tell their fetch of the server's
 * alerts, and at which depth its certificates were found wrong.
 */
void ngx_http_bog_upstream_watch_tls(ngx_ssl_t *ssl);


/* The rest is for this floor only. */


/* Returns the fetch that a request was made for, from the request's log. */

#define ngx_http_bog_fetch_of(r)                                              \
    ((ngx_http_bog_fetch_t *) (r)->connection->log->data)


/*
 * Looks up the endpoint's addresses, for fetch->addrs, and calls
 * ngx_http_bog_fetch_send(), perhaps at once; or calls
 * ngx_http_bog_fetch_fail() and ends the fetch.  If no name server answers, the
 * addresses that worked last serve.
 */
void ngx_http_bog_resolve(ngx_http_bog_fetch_t *fetch);

/* Ends the lookup, if there is one. */
void ngx_http_bog_resolve_cancel(ngx_http_bog_fetch_t *fetch);

/* Returns 0 if this worker can make a socket of the family, or an error. */
ngx_err_t ngx_http_bog_resolve_test_family(int family);

/* Makes the request without a client, and starts the upstream in it. */
void ngx_http_bog_fetch_send(ngx_http_bog_fetch_t *fetch);

/* Ends the fetch by an event.  May be called several times, from anywhere. */
void ngx_http_bog_fetch_finish(ngx_http_bog_fetch_t *fetch);

/*
 * Sends the token request in the subrequest, and reads the answer into
 * fetch->answer; fetch->failure says why that failed.
 */
void ngx_http_bog_upstream_start(ngx_http_request_t *r);

/*
 * Sets the callbacks of the upstream that read an answer, and forgets what has
 * come of the one before.  Returns NGX_OK.
 */
ngx_int_t ngx_http_bog_answer_init(ngx_http_request_t *r);

/*
 * Finds the token in the answer, for fetch->token, or calls
 * ngx_http_bog_fetch_fail().  The token is in the pool of the fetch.
 */
void ngx_http_bog_result_read(ngx_http_bog_fetch_t *fetch);


#endif /* _NGX_HTTP_BOG_FETCH_H_INCLUDED_ */

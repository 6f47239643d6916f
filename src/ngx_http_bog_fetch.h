
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_FETCH_H_INCLUDED_
#define _NGX_HTTP_BOG_FETCH_H_INCLUDED_


#include "ngx_http_bog_account.h"
#include "ngx_http_bog_store.h"


#define NGX_HTTP_BOG_ADDRS  16


typedef struct ngx_http_bog_fetch_s  ngx_http_bog_fetch_t;

typedef void (*ngx_http_bog_fetch_pt)(ngx_http_bog_fetch_t *fetch);


/* what is known of the answer while it comes */

typedef struct {
    ngx_http_status_t          status;
    ngx_http_chunked_t         chunked;

    off_t                      length;          /* -1: not said */
    time_t                     date;            /* -1: not said */
    time_t                     retry_after;     /* a date, -1: not said */
    ngx_int_t                  retry_delay;     /* seconds, -1: not said */

    u_char                    *body;
    size_t                     body_len;

    unsigned                   has_length:1;
    unsigned                   is_chunked:1;
    unsigned                   encoded:1;
    unsigned                   complete:1;
    unsigned                   close:1;
} ngx_http_bog_answer_t;


/*
 * One token request.
 *
 *   source ---> fetch ---> memory       request header and body, no core
 *                |
 *                +-------> c ---> r     the connection that is none, and the
 *                |                |     request without a client
 *                |                +---> sr ---> upstream ---> peer
 *                |
 *                +-------> lookup       of the endpoint's addresses
 *
 * All of it belongs to the fetch and ends with it, in an event of its own,
 * never inside of what the upstream is doing.
 */

struct ngx_http_bog_fetch_s {
    ngx_http_log_ctx_t         log_ctx;         /* must be the first */
    ngx_log_t                  log;
    ngx_log_t                  upstream_log;    /* of nginx itself */

    ngx_http_bog_account_t    *account;
    ngx_http_bog_fetch_pt      handler;
    void                      *data;

    ngx_http_bog_fetch_pt      resolved;
    ngx_resolver_ctx_t        *lookup;
    ngx_resolver_addr_t        addrs[NGX_HTTP_BOG_ADDRS];
    ngx_sockaddr_t             sockaddrs[NGX_HTTP_BOG_ADDRS];
    ngx_uint_t                 naddrs;

    ngx_connection_t          *connection;
    ngx_http_connection_t      http_connection;
    struct sockaddr_un         sockaddr;
    ngx_http_request_t        *request;

    ngx_event_t                done;
    ngx_event_t                timeout;

    ngx_event_get_peer_pt      get_peer;        /* of the upstream {} */

    u_char                    *memory;
    ngx_msec_t                 began;
    bog_time_t                 sent;            /* the request, last try */
    ngx_http_bog_answer_t      answer;

    /* what came of it */

    bog_failure_t              failure;         /* none: there is a token */
    ngx_http_bog_new_token_t   token;

    char                      *fault;           /* of the answer, or NULL */
    char                       code[BOG_OAUTH_ERROR_MAX];
    size_t                     code_len;        /* the server's "error" */
    bog_policy_t               before;          /* how the last ones went */
    unsigned                   quiet:1;         /* on what repeats */
    unsigned                   aborted:1;
    unsigned                   local:1;         /* nothing came to be sent */
};


/*
 * The fetch that a request is made for.  It is found from the log, since
 * r->ctx of this module belongs to held requests.
 */

#define ngx_http_bog_fetch_of(r)                                              \
    ((ngx_http_bog_fetch_t *) (r)->connection->log->data)


/*
 * Begins a token request; "before" is how those before went, "quiet" keeps
 * nginx's own errors of the connection from the log.  The handler is called
 * with the outcome, always from an event, and must take what it needs: the
 * fetch is gone afterwards.  Returns NULL where the request could not be
 * begun.
 */
ngx_http_bog_fetch_t *ngx_http_bog_fetch_start(ngx_http_bog_account_t *account,
    bog_policy_t *before, ngx_uint_t quiet, ngx_http_bog_fetch_pt handler,
    void *data);

/* Ends the fetch by an event.  May be called several times, from anywhere. */
void ngx_http_bog_fetch_finish(ngx_http_bog_fetch_t *fetch);


#endif /* _NGX_HTTP_BOG_FETCH_H_INCLUDED_ */

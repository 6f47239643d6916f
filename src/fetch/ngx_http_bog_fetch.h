
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_FETCH_H_INCLUDED_
#define _NGX_HTTP_BOG_FETCH_H_INCLUDED_


#include "ngx_http_bog_account.h"
#include "ngx_http_bog_store.h"


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


/* a fetch that waits for an answer to a question of one family */

typedef struct {
    ngx_queue_t                queue;
    ngx_http_bog_fetch_t      *fetch;
    unsigned                   queued:1;
} ngx_http_bog_ask_t;


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
    ngx_resolver_ctx_t        *lookup;          /* of nginx's resolver, */
    ngx_http_bog_ask_t         asks[2];         /* or of the system */
    ngx_uint_t                 lookups;         /* begun, or to be answered */
    ngx_event_t                lookup_timer;
    ngx_msec_t                 lookup_time;
    ngx_int_t                  lookup_error;
    const char                *lookup_reason;
    ngx_http_bog_addrs_t       addrs;           /* none: no name, see peer */
    ngx_http_bog_addrs_t       known;           /* that worked last */
    ngx_http_bog_addr_t        begin;           /* with this one */

    ngx_connection_t          *connection;
    ngx_http_connection_t      http_connection;
    struct sockaddr_un         sockaddr;
    ngx_http_request_t        *request;

    ngx_event_t                done;
    ngx_event_t                timeout;

    ngx_http_upstream_conf_t   conf;
    ngx_event_get_peer_pt      get_peer;        /* of the upstream {} */
    ngx_str_t                  peer_name;
    u_char                     peer_text[NGX_SOCKADDR_STRLEN];

    u_char                    *memory;
    ngx_msec_t                 began;
    bog_time_t                 sent;            /* the request, last try */
    ngx_http_bog_answer_t      answer;

    /* what came of it */

    bog_failure_t              failure;         /* none: there is a token */
    ngx_http_bog_new_token_t   token;
    bog_pool_t                 pool;            /* the token, parsed JSON */

    char                      *fault;           /* of the answer, or NULL */
    char                       code[BOG_OAUTH_ERROR_MAX];
    size_t                     code_len;        /* the server's "error" */
    bog_policy_t               before;          /* how the last ones went */
    unsigned                   quiet:1;         /* on what repeats */
    unsigned                   aborted:1;
    unsigned                   doubted:1;       /* nothing answered, last */

    /*
     * The fetch failed, but not for the bank: this process had no memory, no
     * connection, no descriptor or no thread for it, or this machine lacks
     * sockets of all families that the endpoint has addresses of.  An address
     * of "bog_bind" that this machine lacks is a fault of the configuration,
     * and is not local.
     */

    unsigned                   local:1;
};


/*
 * The fetch that a request is made for.  It is found from the log, since
 * r->ctx of this module belongs to held requests.
 */

#define ngx_http_bog_fetch_of(r)                                              \
    ((ngx_http_bog_fetch_t *) (r)->connection->log->data)


#endif /* _NGX_HTTP_BOG_FETCH_H_INCLUDED_ */

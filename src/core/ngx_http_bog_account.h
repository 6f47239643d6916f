
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_ACCOUNT_H_INCLUDED_
#define _NGX_HTTP_BOG_ACCOUNT_H_INCLUDED_


#include "ngx_http_bog_core.h"


/* "bog_token" */

#define NGX_HTTP_BOG_REQUIRED  0
#define NGX_HTTP_BOG_OPTIONAL  1
#define NGX_HTTP_BOG_OFF       2


typedef struct ngx_http_bog_source_s    ngx_http_bog_source_t;
typedef struct ngx_http_bog_account_s   ngx_http_bog_account_t;
typedef struct ngx_http_bog_endpoint_s  ngx_http_bog_endpoint_t;
typedef struct ngx_http_bog_state_s     ngx_http_bog_state_t;


/* a place in the configuration, for messages after it was parsed */

typedef struct {
    ngx_str_t                     file;
    ngx_uint_t                    line;
} ngx_http_bog_place_t;


/*
 * A worker's fetches at one endpoint.  Their number is limited for each
 * endpoint, so one that hangs does not delay the fetches at others.
 */

typedef struct {
    ngx_uint_t                     n;           /* under way */
    ngx_queue_t                    urgent;      /* postponed sources that
                                                   requests wait for, */
    ngx_queue_t                    others;      /* and others */
} ngx_http_bog_fetches_t;


/* where tokens come from: "bog_token_endpoint" */

struct ngx_http_bog_endpoint_s {
    ngx_str_t                      url;         /* as configured */
    ngx_http_bog_place_t           place;

    ngx_str_t                      authority;   /* for the Host header */
    ngx_str_t                      host;
    ngx_str_t                      uri;
    in_port_t                      port;

    ngx_addr_t                    *addr;        /* NULL: host is a name */
    ngx_http_upstream_srv_conf_t  *upstream;    /* an upstream {} block */
    ngx_http_bog_fetches_t         fetches;     /* of this worker */

    unsigned                       ssl:1;
    unsigned                       no_port:1;
    unsigned                       localhost:1; /* by name */
    unsigned                       checked:1;
};


/*
 * What the configuration says of a source: one set of credentials at one
 * endpoint.  Read only at run time; ngx_http_bog_source_t is what a worker
 * does with it.
 */

struct ngx_http_bog_account_s {
    ngx_str_node_t                 node;        /* by digest */
    u_char                         digest[BOG_OAUTH_DIGEST_LEN];
    ngx_uint_t                     index;

    ngx_str_t                      client_id;
    ngx_http_bog_endpoint_t       *endpoint;
    ngx_str_t                      scope;       /* form-encoded, or empty */
    ngx_str_t                      name;        /* for people, unique */
    ngx_str_t                      request;     /* in guarded memory */

    ngx_msec_t                     refresh_before;
    ngx_msec_t                     max_lifetime;
    ngx_msec_t                     default_lifetime;

    ngx_resolver_t                *resolver;
    ngx_msec_t                     resolver_timeout;
    ngx_msec_t                     fetch_timeout;   /* all in all */

    ngx_http_upstream_conf_t       upstream;
    ngx_http_upstream_srv_conf_t   peers;

    /* of the first location that uses the account */

    ngx_http_conf_ctx_t            ctx;
    struct ngx_http_bog_loc_conf_s
                                  *blcf;

    ngx_shm_zone_t                *zone;
    ngx_http_bog_state_t          *state;       /* NULL: no "bog_state_path" */
    ngx_http_bog_source_t         *source;

    unsigned                       required:1;  /* by at least one location */
};


#endif /* _NGX_HTTP_BOG_ACCOUNT_H_INCLUDED_ */

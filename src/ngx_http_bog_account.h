
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_ACCOUNT_H_INCLUDED_
#define _NGX_HTTP_BOG_ACCOUNT_H_INCLUDED_


#include "ngx_http_bog_endpoint.h"


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
    ngx_str_t                      name;        /* for people, of its own */
    ngx_str_t                      label;       /* the same, for Prometheus */
    ngx_str_t                      request;     /* in the vault */

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
    ngx_http_bog_loc_conf_t       *blcf;

    ngx_shm_zone_t                *zone;
    ngx_http_bog_state_t          *state;       /* NULL: no "bog_state_path" */
    ngx_http_bog_source_t         *source;
};


/*
 * Gives the location of cf->ctx its source.  An account that no location has
 * named yet is made, or where "make" is not set, done without.  Errors are
 * logged.
 */
ngx_int_t ngx_http_bog_account_get(ngx_conf_t *cf,
    ngx_http_bog_loc_conf_t *blcf, ngx_uint_t make);

/*
 * Counts the accounts that are to have a name, which stays with the
 * configuration: 1 for the first one, NGX_ERROR where memory is out.
 */
ngx_int_t ngx_http_bog_account_count(ngx_conf_t *cf, ngx_str_t *name);

/*
 * Writes a string with a backslash before quotes and backslashes, twice as long
 * at the most.  Returns its end.
 */
u_char *ngx_http_bog_quote(u_char *dst, u_char *src, size_t len);


#endif /* _NGX_HTTP_BOG_ACCOUNT_H_INCLUDED_ */

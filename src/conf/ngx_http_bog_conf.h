
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_CONF_H_INCLUDED_
#define _NGX_HTTP_BOG_CONF_H_INCLUDED_


#include "ngx_http_bog_account.h"
#include "ngx_http_bog_state.h"


#define NGX_HTTP_BOG_ENDPOINT                                                 \
    "https://oauth2.bog.ge/auth/realms/bog/protocol/openid-connect/token"


/* "bog_client_auth" */

#define NGX_HTTP_BOG_BASIC             0
#define NGX_HTTP_BOG_BASIC_URLENCODED  1


typedef struct ngx_http_bog_format_s    ngx_http_bog_format_t;


/* a TLS context, and the location whose settings it has */

typedef struct {
    struct ngx_http_bog_loc_conf_s  *blcf;
    ngx_ssl_t                       *ssl;
} ngx_http_bog_tls_t;


/* a client id or a secret */

typedef struct {
    ngx_str_t                     name;      /* of the directive */
    ngx_str_t                     value;
    ngx_http_bog_place_t          place;
    unsigned                      paired:1;  /* with the other one */
    unsigned                      used:1;    /* for a source */
} ngx_http_bog_credential_t;


/* a location that has credentials and is not "off" */

typedef struct {
    ngx_http_conf_ctx_t           ctx;
    ngx_uint_t                    makes;        /* its account, or only uses
                                                   one that others make */
} ngx_http_bog_member_t;


typedef struct {
    ngx_array_t                   members;      /* ngx_http_bog_member_t */
    ngx_array_t                   accounts;     /* ngx_http_bog_account_t * */
    ngx_rbtree_t                  digests;      /* of accounts */
    ngx_rbtree_node_t             digests_sentinel;
    ngx_rbtree_t                  names;        /* of accounts */
    ngx_rbtree_node_t             names_sentinel;

    ngx_array_t                   endpoints;    /* ngx_http_bog_endpoint_t * */
    ngx_array_t                   credentials;
                                            /* ngx_http_bog_credential_t * */

    bog_pool_t                   *secrets;      /* while configuring */
    bog_pool_t                   *requests;     /* while the cycle lives */

    ngx_http_bog_state_dir_t      state_dir;    /* "bog_state_path" */

    ngx_array_t                   tls;          /* ngx_http_bog_tls_t */
} ngx_http_bog_main_conf_t;


typedef struct ngx_http_bog_loc_conf_s {
    ngx_http_bog_credential_t    *client_id;
    ngx_http_bog_credential_t    *client_secret;
    ngx_http_bog_endpoint_t      *endpoint;
    ngx_array_t                  *params;       /* bog_param_t */
    ngx_uint_t                    client_auth;

    ngx_uint_t                    token;
    ngx_msec_t                    wait_timeout;

    ngx_msec_t                    refresh_before;
    ngx_msec_t                    max_lifetime;
    ngx_msec_t                    default_lifetime;

    ngx_msec_t                    connect_timeout;
    ngx_msec_t                    send_timeout;
    ngx_msec_t                    read_timeout;
    ngx_http_upstream_local_t    *local;

    ngx_flag_t                    ssl_verify;
    ngx_uint_t                    ssl_verify_depth;
    ngx_uint_t                    ssl_protocols;
    ngx_str_t                     ssl_ciphers;
    ngx_str_t                     ssl_name;
    ngx_str_t                     ssl_trusted_certificate;
    ngx_str_t                     ssl_crl;
    ngx_str_t                     ssl_certificate;
    ngx_str_t                     ssl_certificate_key;
    ngx_array_t                  *ssl_conf_commands;

    ngx_http_bog_source_t        *source;       /* NULL: takes no part */

    ngx_http_bog_format_t        *status;       /* of "bog_status", or NULL */
    ngx_http_handler_pt           status_handler;
} ngx_http_bog_loc_conf_t;


#define NGX_HTTP_BOG_BEARER_TOKEN  "bog_bearer_token"


/* Writes a message of the configuration about something parsed before. */
void ngx_http_bog_conf_log(ngx_uint_t level, ngx_conf_t *cf,
    ngx_http_bog_place_t *place, const char *fmt, ...);

/* Tells where the directive stands that is being read. */
void ngx_http_bog_conf_place(ngx_conf_t *cf, ngx_http_bog_place_t *place);


#endif /* _NGX_HTTP_BOG_CONF_H_INCLUDED_ */


/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_MODULE_H_INCLUDED_
#define _NGX_HTTP_BOG_MODULE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "bog_memory.h"
#include "bog_oauth.h"
#include "bog_policy.h"
#include "bog_registers.h"


#define NGX_HTTP_BOG_VERSION   "0.1.0"

#define NGX_HTTP_BOG_ENDPOINT                                                 \
    "https://oauth2.bog.ge/auth/realms/bog/protocol/openid-connect/token"


/* "bog_token" */

#define NGX_HTTP_BOG_REQUIRED  0
#define NGX_HTTP_BOG_OPTIONAL  1
#define NGX_HTTP_BOG_OFF       2

/* "bog_client_auth" */

#define NGX_HTTP_BOG_BASIC             0
#define NGX_HTTP_BOG_BASIC_URLENCODED  1


typedef struct ngx_http_bog_source_s    ngx_http_bog_source_t;
typedef struct ngx_http_bog_account_s   ngx_http_bog_account_t;
typedef struct ngx_http_bog_endpoint_s  ngx_http_bog_endpoint_t;
typedef struct ngx_http_bog_fetches_s   ngx_http_bog_fetches_t;
typedef struct ngx_http_bog_vault_s     ngx_http_bog_vault_t;
typedef struct ngx_http_bog_format_s    ngx_http_bog_format_t;
typedef struct ngx_http_bog_state_s     ngx_http_bog_state_t;


/* a TLS context, and the location whose settings it has */

typedef struct {
    struct ngx_http_bog_loc_conf_s  *blcf;
    ngx_ssl_t                       *ssl;
} ngx_http_bog_tls_t;


/* where in the configuration something stands, for messages after parsing */

typedef struct {
    ngx_str_t                     file;
    ngx_uint_t                    line;
} ngx_http_bog_place_t;


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

    ngx_http_bog_vault_t         *secrets;      /* while configuring */
    ngx_http_bog_vault_t         *requests;     /* while the cycle lives */

    ngx_path_t                   *state_path;

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
} ngx_http_bog_loc_conf_t;


/* ngx_http_bog_conf.c */

void *ngx_http_bog_create_main_conf(ngx_conf_t *cf);
void *ngx_http_bog_create_loc_conf(ngx_conf_t *cf);
char *ngx_http_bog_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child);

/* Makes the accounts of all locations, when the http {} block is known. */
ngx_int_t ngx_http_bog_init_members(ngx_conf_t *cf);

/* Complains of credentials that miss their other half, or altogether. */
ngx_int_t ngx_http_bog_check_credentials(ngx_conf_t *cf);

/* Writes a message of the configuration about something parsed before. */
void ngx_http_bog_conf_log(ngx_uint_t level, ngx_conf_t *cf,
    ngx_http_bog_place_t *place, const char *fmt, ...);

/* Tells where the directive stands that is being read. */
void ngx_http_bog_conf_place(ngx_conf_t *cf, ngx_http_bog_place_t *place);

/* ngx_http_bog_directives.c */

char *ngx_http_bog_client_id(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_bog_client_secret_file(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_bog_token_endpoint(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_bog_token_param(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_bog_bind(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_bog_state_path(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_bog_check_time(ngx_conf_t *cf, void *post, void *data);
char *ngx_http_bog_check_verify(ngx_conf_t *cf, void *post, void *data);
char *ngx_http_bog_check_name(ngx_conf_t *cf, void *post, void *data);
char *ngx_http_bog_check_conf_command(ngx_conf_t *cf, void *post, void *data);

/* ngx_http_bog_variables.c */

ngx_int_t ngx_http_bog_add_variables(ngx_conf_t *cf);

/*
 * Says whether the configuration uses the token.  Variables that are looked
 * up by name at run time are not seen.
 */
ngx_uint_t ngx_http_bog_token_used(ngx_conf_t *cf);


extern ngx_module_t  ngx_http_bog_module;


#endif /* _NGX_HTTP_BOG_MODULE_H_INCLUDED_ */

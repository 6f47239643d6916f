
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_CONF_H_INCLUDED_
#define _NGX_HTTP_BOG_CONF_H_INCLUDED_


#include "ngx_http_bog_account.h"
#include "ngx_http_bog_state.h"


/*
 * The configuration: what directives say, and how accounts are made of it.
 * nginx reads the http {} block, then merges one location after another into
 * the one around it.  A location that passes requests on makes its account
 * when it is merged, or shares the account of an earlier location with the
 * same credentials, endpoint and parameters.
 */


#define NGX_HTTP_BOG_BEARER_TOKEN      "bog_bearer_token"


/* "bog_client_auth" */

#define NGX_HTTP_BOG_BASIC             0
#define NGX_HTTP_BOG_BASIC_URLENCODED  1


typedef struct ngx_http_bog_format_s    ngx_http_bog_format_t;


/* a client id or a client secret, as one directive gives it */

typedef struct {
    ngx_str_t                     name;         /* of the directive */
    ngx_str_t                     value;
    ngx_http_bog_place_t          place;
    unsigned                      paired:1;     /* a block has both halves */
    unsigned                      used:1;       /* an account has this id */
} ngx_http_bog_credential_t;


typedef struct {
    ngx_array_t                   credentials;
                                            /* ngx_http_bog_credential_t * */
    ngx_array_t                   endpoints;    /* ngx_http_bog_endpoint_t * */

    ngx_array_t                   accounts;     /* ngx_http_bog_account_t * */
    ngx_rbtree_t                  digests;      /* of accounts */
    ngx_rbtree_node_t             digests_sentinel;
    ngx_rbtree_t                  names;        /* of accounts */
    ngx_rbtree_node_t             names_sentinel;

    ngx_array_t                   locations;    /* ngx_http_bog_loc_conf_t *
                                                   that make no account, but
                                                   may use one */

    bog_pool_t                   *secrets;      /* while configuring */
    bog_pool_t                   *requests;     /* while the cycle lives */

    ngx_http_bog_state_dir_t      state_dir;    /* "bog_state_path" */
} ngx_http_bog_main_conf_t;


typedef struct ngx_http_bog_loc_conf_s {

    /* what makes one account differ from another, with the certificate */

    ngx_http_bog_credential_t    *client_id;
    ngx_http_bog_credential_t    *client_secret;
    ngx_http_bog_endpoint_t      *endpoint;
    ngx_array_t                  *params;       /* bog_param_t */
    ngx_uint_t                    client_auth;

    /* the location's own */

    ngx_uint_t                    token;
    ngx_msec_t                    wait_timeout;

    /*
     * From refresh_before to ssl_conf_commands: settings of the account,
     * which ngx_http_bog_find_difference() compares.  From ssl_verify on they
     * are those of the TLS context.
     */

    ngx_msec_t                    refresh_before;
    ngx_msec_t                    max_lifetime;
    ngx_msec_t                    default_lifetime;

    ngx_msec_t                    connect_timeout;
    ngx_msec_t                    send_timeout;
    ngx_msec_t                    read_timeout;
    ngx_http_upstream_local_t    *local;
    ngx_str_t                     ssl_name;

    ngx_flag_t                    ssl_verify;
    ngx_uint_t                    ssl_verify_depth;
    ngx_uint_t                    ssl_protocols;
    ngx_str_t                     ssl_ciphers;
    ngx_str_t                     ssl_trusted_certificate;
    ngx_str_t                     ssl_crl;
    ngx_str_t                     ssl_certificate;
    ngx_str_t                     ssl_certificate_key;
    ngx_array_t                  *ssl_conf_commands;

    ngx_http_bog_source_t        *source;       /* NULL: takes no part */

    ngx_http_bog_format_t        *status;       /* of "bog_status", or NULL */
    ngx_http_handler_pt           status_handler;
} ngx_http_bog_loc_conf_t;


/* ngx_http_bog_conf.c */

void *ngx_http_bog_create_main_conf(ngx_conf_t *cf);
void *ngx_http_bog_create_loc_conf(ngx_conf_t *cf);

/*
 * Refuses a client id without a secret, a secret without an id, a token
 * without any credentials, and a reload that would unmap the zones in use.
 */
char *ngx_http_bog_init_main_conf(ngx_conf_t *cf, void *conf);

char *ngx_http_bog_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child);

/*
 * Finds the sources of locations that make no account themselves, when all
 * accounts are made, and wipes the secrets.
 */
ngx_int_t ngx_http_bog_find_sources(ngx_conf_t *cf);

/* Writes a message of the configuration about something parsed before. */
void ngx_http_bog_conf_log(ngx_uint_t level, ngx_conf_t *cf,
    ngx_http_bog_place_t *place, const char *fmt, ...);


/* ngx_http_bog_directives.c: the handlers of directives */

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


/* ngx_http_bog_endpoint.c */

/*
 * Returns the endpoint of the URL, which is the same for all that name it, or
 * NULL with the reason in the log.
 */
ngx_http_bog_endpoint_t *ngx_http_bog_endpoint_get(ngx_conf_t *cf,
    ngx_str_t *url);

/*
 * Looks for an upstream {} of the endpoint's name and warns of a secret in
 * clear text.  To be called when all of the http {} block is known.
 */
ngx_int_t ngx_http_bog_endpoint_check(ngx_conf_t *cf,
    ngx_http_bog_endpoint_t *endpoint);


/* ngx_http_bog_account_conf.c */

/*
 * Gives the location of cf->ctx the source of its account, which is made if no
 * location has made it before.
 */
ngx_int_t ngx_http_bog_account_get(ngx_conf_t *cf,
    ngx_http_bog_loc_conf_t *blcf);

/*
 * Computes the digest of the location's account, and sets *account and
 * blcf->source: to NULL if no location has made that account so far.
 */
ngx_int_t ngx_http_bog_account_find(ngx_conf_t *cf,
    ngx_http_bog_loc_conf_t *blcf, u_char digest[BOG_OAUTH_DIGEST_LEN],
    ngx_http_bog_account_t **account);

/*
 * Returns the first directive from cmd on whose value differs between the two
 * locations, or NULL.  Only fields of ngx_http_bog_loc_conf_t from the offset
 * "first" on are compared.
 */
ngx_command_t *ngx_http_bog_find_difference(ngx_command_t *cmd, size_t first,
    ngx_http_bog_loc_conf_t *one, ngx_http_bog_loc_conf_t *two);


/* ngx_http_bog_upstream_conf.c */

/*
 * Fills the parts of an account that its fetches connect with: account->ctx,
 * the resolver, timeouts, the upstream and its TLS context.
 */
ngx_int_t ngx_http_bog_account_set_upstream(ngx_conf_t *cf,
    ngx_http_bog_account_t *account);

/*
 * Writes the SHA-256 of the certificate in a file, which a server may bind the
 * token to (RFC 8705).  Returns its length, 0 if the file has none.
 */
size_t ngx_http_bog_certificate_digest(ngx_conf_t *cf, ngx_str_t *file,
    u_char digest[EVP_MAX_MD_SIZE]);


#endif /* _NGX_HTTP_BOG_CONF_H_INCLUDED_ */


/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_conf.h"
#include "ngx_http_bog_request.h"
#include "ngx_http_bog_source.h"
#include "ngx_http_bog_status.h"
#include "ngx_http_bog_wake.h"


static ngx_int_t ngx_http_bog_init(ngx_conf_t *cf);
static ngx_int_t ngx_http_bog_init_module(ngx_cycle_t *cycle);
static ngx_int_t ngx_http_bog_init_process(ngx_cycle_t *cycle);
static void ngx_http_bog_exit_master(ngx_cycle_t *cycle);


static ngx_conf_enum_t  ngx_http_bog_token_modes[] = {
    { ngx_string("required"), NGX_HTTP_BOG_REQUIRED },
    { ngx_string("optional"), NGX_HTTP_BOG_OPTIONAL },
    { ngx_string("off"), NGX_HTTP_BOG_OFF },
    { ngx_null_string, 0 }
};


static ngx_conf_enum_t  ngx_http_bog_client_auths[] = {
    { ngx_string("basic"), NGX_HTTP_BOG_BASIC },
    { ngx_string("basic_urlencoded"), NGX_HTTP_BOG_BASIC_URLENCODED },
    { ngx_null_string, 0 }
};


static ngx_conf_bitmask_t  ngx_http_bog_ssl_protocols[] = {
    { ngx_string("TLSv1.2"), NGX_SSL_TLSv1_2 },
    { ngx_string("TLSv1.3"), NGX_SSL_TLSv1_3 },
    { ngx_null_string, 0 }
};


static ngx_conf_num_bounds_t  ngx_http_bog_time_bounds =
    { ngx_http_bog_check_time, 1, 86400000 };
static ngx_conf_num_bounds_t  ngx_http_bog_wait_bounds =
    { ngx_http_bog_check_time, 0, 86400000 };

static ngx_conf_post_t  ngx_http_bog_name_post = { ngx_http_bog_check_name };
static ngx_conf_post_t  ngx_http_bog_verify_post =
    { ngx_http_bog_check_verify };
static ngx_conf_post_t  ngx_http_bog_conf_command_post =
    { ngx_http_bog_check_conf_command };


static ngx_command_t  ngx_http_bog_commands[] = {

    { ngx_string("bog_client_id"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_bog_client_id,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("bog_client_secret_file"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_bog_client_secret_file,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("bog_token_endpoint"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_bog_token_endpoint,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("bog_token_param"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE2,
      ngx_http_bog_token_param,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("bog_client_auth"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_enum_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_bog_loc_conf_t, client_auth),
      &ngx_http_bog_client_auths },

    { ngx_string("bog_token"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_enum_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_bog_loc_conf_t, token),
      &ngx_http_bog_token_modes },

    { ngx_string("bog_wait_timeout"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_bog_loc_conf_t, wait_timeout),
      &ngx_http_bog_wait_bounds },

    { ngx_string("bog_refresh_before"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_bog_loc_conf_t, refresh_before),
      &ngx_http_bog_wait_bounds },

    { ngx_string("bog_max_lifetime"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_bog_loc_conf_t, max_lifetime),
      &ngx_http_bog_time_bounds },

    { ngx_string("bog_default_lifetime"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_bog_loc_conf_t, default_lifetime),
      &ngx_http_bog_time_bounds },

    { ngx_string("bog_connect_timeout"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_bog_loc_conf_t, connect_timeout),
      &ngx_http_bog_time_bounds },

    { ngx_string("bog_send_timeout"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_bog_loc_conf_t, send_timeout),
      &ngx_http_bog_time_bounds },

    { ngx_string("bog_read_timeout"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_bog_loc_conf_t, read_timeout),
      &ngx_http_bog_time_bounds },

    { ngx_string("bog_bind"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_bog_bind,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_bog_loc_conf_t, local),
      NULL },

    { ngx_string("bog_ssl_verify"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_bog_loc_conf_t, ssl_verify),
      &ngx_http_bog_verify_post },

    { ngx_string("bog_ssl_verify_depth"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_bog_loc_conf_t, ssl_verify_depth),
      NULL },

    { ngx_string("bog_ssl_protocols"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_conf_set_bitmask_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_bog_loc_conf_t, ssl_protocols),
      &ngx_http_bog_ssl_protocols },

    { ngx_string("bog_ssl_ciphers"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_bog_loc_conf_t, ssl_ciphers),
      NULL },

    { ngx_string("bog_ssl_name"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_bog_loc_conf_t, ssl_name),
      &ngx_http_bog_name_post },

    { ngx_string("bog_ssl_trusted_certificate"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_bog_loc_conf_t, ssl_trusted_certificate),
      NULL },

    { ngx_string("bog_ssl_crl"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_bog_loc_conf_t, ssl_crl),
      NULL },

    { ngx_string("bog_ssl_certificate"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_bog_loc_conf_t, ssl_certificate),
      NULL },

    { ngx_string("bog_ssl_certificate_key"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_bog_loc_conf_t, ssl_certificate_key),
      NULL },

    { ngx_string("bog_ssl_conf_command"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE2,
      ngx_conf_set_keyval_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_bog_loc_conf_t, ssl_conf_commands),
      &ngx_http_bog_conf_command_post },

    { ngx_string("bog_status"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS|NGX_CONF_TAKE1,
      ngx_http_bog_status,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("bog_state_path"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_bog_state_path,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_bog_module_ctx = {
    ngx_http_bog_add_variables,            /* preconfiguration */
    ngx_http_bog_init,                     /* postconfiguration */

    ngx_http_bog_create_main_conf,         /* create main configuration */
    ngx_http_bog_init_main_conf,           /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_bog_create_loc_conf,          /* create location configuration */
    ngx_http_bog_merge_loc_conf            /* merge location configuration */
};


ngx_module_t  ngx_http_bog_module = {
    NGX_MODULE_V1,
    &ngx_http_bog_module_ctx,              /* module context */
    ngx_http_bog_commands,                 /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    ngx_http_bog_init_module,              /* init module */
    ngx_http_bog_init_process,             /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    ngx_http_bog_exit_master,              /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_int_t
ngx_http_bog_init(ngx_conf_t *cf)
{
    ngx_http_handler_pt        *h;
    ngx_http_bog_main_conf_t   *bmcf;
    ngx_http_core_main_conf_t  *cmcf;

    if (ngx_http_bog_find_sources(cf) != NGX_OK) {
        return NGX_ERROR;
    }

    /*
     * Even without an account: if the configuration fails later, workers of
     * the old one may be started that need the filter.
     */

    ngx_http_bog_filter_init();

    bmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_bog_module);

    if (bmcf->accounts.nelts == 0) {
        return NGX_OK;
    }

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_PRECONTENT_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_bog_hold_handler;

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_init_module(ngx_cycle_t *cycle)
{
    ngx_http_bog_main_conf_t  *bmcf;

    ngx_http_bog_status_init_module();

    if (ngx_http_bog_wake_init_module(cycle) != NGX_OK) {
        return NGX_ERROR;
    }

    bmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_bog_module);

    if (bmcf) {
        ngx_http_bog_state_init_module(cycle, &bmcf->state_dir);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_init_process(ngx_cycle_t *cycle)
{
    ngx_http_bog_main_conf_t  *bmcf;

    bmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_bog_module);

    return bmcf ? ngx_http_bog_source_init_process(cycle, &bmcf->accounts)
                : NGX_OK;
}


static void
ngx_http_bog_exit_master(ngx_cycle_t *cycle)
{
    ngx_http_bog_main_conf_t  *bmcf;

    bmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_bog_module);

    if (bmcf) {
        ngx_http_bog_state_exit_master(cycle, &bmcf->state_dir);
    }
}

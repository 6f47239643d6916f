
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_DIRECTIVES_H_INCLUDED_
#define _NGX_HTTP_BOG_DIRECTIVES_H_INCLUDED_


#include "ngx_http_bog_conf.h"


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


#endif /* _NGX_HTTP_BOG_DIRECTIVES_H_INCLUDED_ */

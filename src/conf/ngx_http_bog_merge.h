
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_MERGE_H_INCLUDED_
#define _NGX_HTTP_BOG_MERGE_H_INCLUDED_


#include "ngx_http_bog_conf.h"


void *ngx_http_bog_create_main_conf(ngx_conf_t *cf);
void *ngx_http_bog_create_loc_conf(ngx_conf_t *cf);
char *ngx_http_bog_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child);

/* Makes the accounts of all locations, when the http {} block is known. */
ngx_int_t ngx_http_bog_init_members(ngx_conf_t *cf);

/* Complains of credentials that miss their other half, or altogether. */
ngx_int_t ngx_http_bog_check_credentials(ngx_conf_t *cf);


#endif /* _NGX_HTTP_BOG_MERGE_H_INCLUDED_ */

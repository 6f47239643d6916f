
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_VAULT_H_INCLUDED_
#define _NGX_HTTP_BOG_VAULT_H_INCLUDED_


#include "ngx_http_bog_core.h"


typedef struct ngx_http_bog_vault_s  ngx_http_bog_vault_t;


/*
 * Memory of the configuration for what must not reach a core dump.  It is
 * wiped and given back by a cleanup of the pool, or before, by
 * ngx_http_bog_vault_empty().
 */
ngx_http_bog_vault_t *ngx_http_bog_vault_create(ngx_pool_t *pool);

/* Returns size bytes that live as long as the vault's content, or NULL. */
u_char *ngx_http_bog_vault_alloc(ngx_http_bog_vault_t *vault, size_t size);

/* Wipes and returns all that was allocated. */
void ngx_http_bog_vault_empty(void *vault);


#endif /* _NGX_HTTP_BOG_VAULT_H_INCLUDED_ */

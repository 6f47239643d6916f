
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_vault.h"


#define NGX_HTTP_BOG_VAULT_CHUNK  65536


typedef struct ngx_http_bog_chunk_s  ngx_http_bog_chunk_t;

struct ngx_http_bog_chunk_s {
    ngx_http_bog_chunk_t  *next;
    size_t                 size;
    u_char                *last;
};


struct ngx_http_bog_vault_s {
    ngx_http_bog_chunk_t  *chunks;
    ngx_log_t             *log;
};


ngx_http_bog_vault_t *
ngx_http_bog_vault_create(ngx_pool_t *pool)
{
    ngx_pool_cleanup_t    *cln;
    ngx_http_bog_vault_t  *vault;

    cln = ngx_pool_cleanup_add(pool, sizeof(ngx_http_bog_vault_t));
    if (cln == NULL) {
        return NULL;
    }

    vault = cln->data;
    vault->chunks = NULL;
    vault->log = pool->log;

    cln->handler = ngx_http_bog_vault_empty;

    return vault;
}


u_char *
ngx_http_bog_vault_alloc(ngx_http_bog_vault_t *vault, size_t size)
{
    size_t                 total;
    u_char                *p;
    ngx_http_bog_chunk_t  *chunk;

    chunk = vault->chunks;

    if (chunk == NULL
        || size > (size_t) ((u_char *) chunk + chunk->size - chunk->last))
    {
        total = ngx_max(size + sizeof(ngx_http_bog_chunk_t),
                        NGX_HTTP_BOG_VAULT_CHUNK);

        chunk = bog_memory_alloc(total);
        if (chunk == NULL) {
            ngx_log_error(NGX_LOG_EMERG, vault->log, ngx_errno,
                          "no memory for secrets");
            return NULL;
        }

        chunk->size = total;
        chunk->last = (u_char *) chunk + sizeof(ngx_http_bog_chunk_t);
        chunk->next = vault->chunks;

        vault->chunks = chunk;
    }

    p = chunk->last;
    chunk->last += size;

    return p;
}


void
ngx_http_bog_vault_empty(void *data)
{
    ngx_http_bog_vault_t *vault = data;

    ngx_http_bog_chunk_t  *chunk;

    for ( ;; ) {
        chunk = vault->chunks;

        if (chunk == NULL) {
            return;
        }

        vault->chunks = chunk->next;

        bog_memory_free(chunk, chunk->size);
    }
}

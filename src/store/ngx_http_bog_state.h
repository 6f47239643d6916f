
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_STATE_H_INCLUDED_
#define _NGX_HTTP_BOG_STATE_H_INCLUDED_


#include "ngx_http_bog_store.h"


/* bytes of a digest that name a file, in hex */

#define NGX_HTTP_BOG_STATE_NAME  16


/* "bog_state_path", and the accounts that have files there */

typedef struct {
    ngx_path_t         *path;              /* NULL: none */
    ngx_array_t        *accounts;          /* ngx_http_bog_account_t * */
} ngx_http_bog_state_dir_t;


/*
 * Returns the state of an account, which has the file of that name in the
 * folder, or NULL if there is no memory.  The secret, which encrypts the file,
 * is copied to guarded memory.
 */
ngx_http_bog_state_t *ngx_http_bog_state_create(ngx_pool_t *pool,
    ngx_str_t *dir, ngx_str_t *name, ngx_str_t *secret, bog_pool_t *guarded);

/*
 * Reads the tokens of all sources that are new, in the master, before there is
 * a worker.  A file that cannot be used is logged and ignored.
 */
void ngx_http_bog_state_init_module(ngx_cycle_t *cycle,
    ngx_http_bog_state_dir_t *dir);

/*
 * Writes the tokens that are not in their files yet.  nginx calls it in its
 * cache manager process with path->data, which is the
 * ngx_http_bog_state_dir_t.  Returns the milliseconds until the next call.
 */
ngx_msec_t ngx_http_bog_state_manager(void *data);

/* Writes what came too late for the cache manager, at the master's end. */
void ngx_http_bog_state_exit_master(ngx_cycle_t *cycle,
    ngx_http_bog_state_dir_t *dir);


#endif /* _NGX_HTTP_BOG_STATE_H_INCLUDED_ */


/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_STATE_H_INCLUDED_
#define _NGX_HTTP_BOG_STATE_H_INCLUDED_


#include "ngx_http_bog_store.h"

#include "bog_state.h"


/*
 * The files of "bog_state_path", one an account: what they are called, what is
 * in them, and reading them.  The master does that, once, before there is any
 * worker; see ngx_http_bog_manager.h for writing.
 */


struct ngx_http_bog_state_s {
    ngx_str_t           file;
    u_char             *name;              /* of the file in its folder, */
    u_char             *temp;              /* and of what becomes the file */
    ngx_atomic_uint_t   place;             /* tells one file from another */
    bog_str_t           secret;            /* in guarded memory */

    /* in the process that writes */

    ngx_atomic_uint_t   version;           /* of the record, last seen */
    ngx_atomic_uint_t   failed;            /* what could not be written, */
    ngx_err_t           err;               /* why, */
    int64_t             retry;             /* mono: and when it may be again */
};


/* bytes of a digest that name a file, in hex */

#define NGX_HTTP_BOG_STATE_NAME  16


/* "bog_state_path", and the accounts that have files there */

typedef struct {
    ngx_path_t         *path;              /* NULL: none */
    ngx_array_t        *accounts;          /* ngx_http_bog_account_t * */
} ngx_http_bog_state_dir_t;


/*
 * Makes the state of an account, the file of that name in the folder.  A copy
 * of the secret, to seal it, goes to guarded memory.
 */
ngx_http_bog_state_t *ngx_http_bog_state_create(ngx_pool_t *pool,
    ngx_str_t *dir, ngx_str_t *name, ngx_str_t *secret, bog_pool_t *guarded);

/* Reads the tokens of all sources that are new. */
void ngx_http_bog_state_init_module(ngx_cycle_t *cycle,
    ngx_http_bog_state_dir_t *dir);

/*
 * Reads up to BOG_STATE_MAX + 1 bytes of the file into buf, one more than it
 * may have.  Returns how many, or NGX_ERROR, where there is none, silently, or
 * none that can be read, which is logged.
 */
ssize_t ngx_http_bog_state_read(ngx_str_t *file, u_char *buf, ngx_log_t *log);

/*
 * What a file has: a token, and which file.  Another one, after a reload, is to
 * have it too.
 */
ngx_atomic_uint_t ngx_http_bog_state_mark(ngx_http_bog_state_t *state,
    ngx_http_bog_record_t *record);


#endif /* _NGX_HTTP_BOG_STATE_H_INCLUDED_ */

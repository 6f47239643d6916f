
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_STATE_H_INCLUDED_
#define _NGX_HTTP_BOG_STATE_H_INCLUDED_


#include "ngx_http_bog_store.h"


/*
 * The files of "bog_state_path".  The master reads them, once, before there is
 * any worker.  They are written by nginx's cache manager process, which has
 * nothing else to do while a disk is slow, and by the master at its end.  No
 * worker ever waits for a disk.
 */


/*
 * Makes the state of an account that has this secret, of which it keeps a
 * copy.  The file is named by the digest of what is public of the account.
 */
ngx_http_bog_state_t *ngx_http_bog_state_create(ngx_conf_t *cf,
    u_char digest[BOG_OAUTH_DIGEST_LEN], ngx_str_t *secret);

/* Reads the tokens of all sources that are new. */
void ngx_http_bog_state_init_module(ngx_cycle_t *cycle);

/*
 * Writes what has changed; the manager of the path.  Returns the milliseconds
 * after which nginx is to call it again.
 */
ngx_msec_t ngx_http_bog_state_manager(void *data);

/* Writes what came too late for the manager. */
void ngx_http_bog_state_exit_master(ngx_cycle_t *cycle);


#endif /* _NGX_HTTP_BOG_STATE_H_INCLUDED_ */

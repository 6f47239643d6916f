
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_MANAGER_H_INCLUDED_
#define _NGX_HTTP_BOG_MANAGER_H_INCLUDED_


#include "ngx_http_bog_state.h"


/*
 * Who writes the files of "bog_state_path": nginx's cache manager process,
 * which has nothing else to do while a disk is slow, and the master at its
 * end.  No worker ever waits for a disk.
 */


/*
 * Writes what has changed; the manager of the path.  Returns the milliseconds
 * after which nginx is to call it again.
 */
ngx_msec_t ngx_http_bog_manager(void *data);

/* Writes what came too late for the manager. */
void ngx_http_bog_manager_exit_master(ngx_cycle_t *cycle,
    ngx_http_bog_state_dir_t *dir);


#endif /* _NGX_HTTP_BOG_MANAGER_H_INCLUDED_ */

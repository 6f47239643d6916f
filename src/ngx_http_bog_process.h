
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_PROCESS_H_INCLUDED_
#define _NGX_HTTP_BOG_PROCESS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* Says whether there is no process of that pid, of whatever user. */
static ngx_inline ngx_uint_t
ngx_http_bog_process_dead(ngx_pid_t pid)
{
    return kill(pid, 0) == -1 && ngx_errno == ESRCH;
}


#endif /* _NGX_HTTP_BOG_PROCESS_H_INCLUDED_ */

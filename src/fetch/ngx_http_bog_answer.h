
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_ANSWER_H_INCLUDED_
#define _NGX_HTTP_BOG_ANSWER_H_INCLUDED_


#include "ngx_http_bog_fetch.h"


/* a fetch's memory: the header and the body */

#define NGX_HTTP_BOG_HEADER_SIZE  16384
#define NGX_HTTP_BOG_MEMORY_SIZE                                              \
    (NGX_HTTP_BOG_HEADER_SIZE + BOG_OAUTH_ANSWER_MAX)


/* Forgets what has come, before the first try and the next ones. */
void ngx_http_bog_answer_init(ngx_http_bog_fetch_t *fetch);

/*
 * Understands the answer that has come: sets fetch->token, or fetch->failure
 * and the reason for the log.  The token is in fetch->pool, which
 * ngx_http_bog_answer_forget() destroys.
 */
void ngx_http_bog_answer_read(ngx_http_bog_fetch_t *fetch);
void ngx_http_bog_answer_forget(ngx_http_bog_fetch_t *fetch);

/*
 * Writes the outcome to the log: once when things change, and at "info" as
 * long as they do not.  "next" is the mono time of the next fetch.
 */
void ngx_http_bog_answer_log(ngx_http_bog_fetch_t *fetch, int64_t wait);


#endif /* _NGX_HTTP_BOG_ANSWER_H_INCLUDED_ */

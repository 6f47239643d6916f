
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_TOKEN_H_INCLUDED_
#define _NGX_HTTP_BOG_TOKEN_H_INCLUDED_


#include "ngx_http_bog_store.h"


/*
 * A worker's own copy of a token, in memory that no core dump has.  The source
 * has a reference, and so has each request that was given it.
 */

typedef struct {
    ngx_uint_t                refs;
    ngx_uint_t                number;
    bog_times_t               times;
    u_char                    id[16];
    size_t                    size;         /* that data has room for */
    size_t                    len;
    u_char                    data[1];
} ngx_http_bog_token_t;


/*
 * Copies the token, with one reference, and the record from the store.
 * Returns NULL where memory is out; *old is a copy of the token before it, or
 * NULL where there is none.
 */
ngx_http_bog_token_t *ngx_http_bog_token_copy(ngx_http_bog_account_t *account,
    ngx_http_bog_record_t *record, ngx_atomic_uint_t *version,
    ngx_http_bog_token_t **old);

/* Takes what may have changed of the token since it was copied. */
void ngx_http_bog_token_set_times(ngx_http_bog_token_t *token,
    bog_policy_t *policy);

/* Drops one reference, and with the last one the token. */
void ngx_http_bog_token_free(ngx_http_bog_token_t *token);


#endif /* _NGX_HTTP_BOG_TOKEN_H_INCLUDED_ */

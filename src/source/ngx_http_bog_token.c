
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_token.h"


static ngx_http_bog_token_t *ngx_http_bog_token_alloc(
    ngx_http_bog_account_t *account, size_t size);
static ngx_http_bog_token_t *ngx_http_bog_token_old(
    ngx_http_bog_account_t *account, ngx_http_bog_record_t *record,
    ngx_http_bog_token_t *token);


ngx_http_bog_token_t *
ngx_http_bog_token_copy(ngx_http_bog_account_t *account,
    ngx_http_bog_record_t *record, ngx_atomic_uint_t *version,
    ngx_http_bog_token_t **old)
{
    size_t                 size;
    ngx_http_bog_token_t  *token;

    for ( ;; ) {
        size = record->len + record->old_len;

        token = ngx_http_bog_token_alloc(account, size);
        if (token == NULL) {
            return NULL;
        }

        *version = ngx_http_bog_store_read(account, record, token->data, size);

        if (record->len + record->old_len <= size) {
            break;
        }

        /* longer ones have come since the record was last read */

        ngx_http_bog_token_free(token);
    }

    token->number = record->token;
    token->len = record->len;
    ngx_memcpy(token->id, record->id, sizeof(token->id));

    ngx_http_bog_token_set_times(token, &record->policy);

    *old = ngx_http_bog_token_old(account, record, token);

    bog_registers_clear();

    return token;
}


/* it follows the token, and is given out in its place for a while */

static ngx_http_bog_token_t *
ngx_http_bog_token_old(ngx_http_bog_account_t *account,
    ngx_http_bog_record_t *record, ngx_http_bog_token_t *token)
{
    ngx_http_bog_token_t  *old;

    if (record->old_len == 0) {
        return NULL;
    }

    old = ngx_http_bog_token_alloc(account, record->old_len);
    if (old == NULL) {
        return NULL;
    }

    old->number = record->token - 1;
    old->len = record->old_len;
    ngx_memcpy(old->data, token->data + token->len, old->len);

    if (bog_oauth_token_id((char *) old->id, old->data, old->len) != 0) {
        ngx_http_bog_token_free(old);
        return NULL;
    }

    old->times = record->policy.old;

    return old;
}


void
ngx_http_bog_token_set_times(ngx_http_bog_token_t *token, bog_policy_t *policy)
{
    token->times = policy->token;

    /* where that is later than its end, ngx_http_bog_source_fresh() is not */

    token->times.refresh = ngx_min(policy->token.refresh, policy->token.until);
    token->times.refresh_wall = ngx_min(policy->token.refresh_wall,
                                        policy->token.until_wall);
}


static ngx_http_bog_token_t *
ngx_http_bog_token_alloc(ngx_http_bog_account_t *account, size_t size)
{
    ngx_http_bog_token_t  *token;

    token = bog_memory_alloc(offsetof(ngx_http_bog_token_t, data) + size);

    if (token == NULL) {
        ngx_log_error(NGX_LOG_ALERT, ngx_cycle->log, ngx_errno,
                      "no memory for the token of client \"%V\"",
                      &account->client_id);
        return NULL;
    }

    token->refs = 1;
    token->size = size;

    return token;
}


void
ngx_http_bog_token_free(ngx_http_bog_token_t *token)
{
    if (--token->refs == 0) {
        bog_memory_free(token,
                        offsetof(ngx_http_bog_token_t, data) + token->size);
    }
}

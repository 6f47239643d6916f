
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_source.h"


/*
 * The tokens of a source in one worker: copies of what the store has, which of
 * them a request is given, and what the API's answers say of them.  The floor
 * "request" calls this file.  A token never changes while a request refers to
 * it, but for its times.
 */


/*
 * While the API accepts a token, it may answer 401 to some requests for reasons
 * of their own.  So a 401 counts only if the API has accepted nothing for so
 * many milliseconds, or says 401 so many times in a row.
 */

#define NGX_HTTP_BOG_ACCEPTED  (1000 + NGX_HTTP_BOG_ACCEPTED_NOTE)
#define NGX_HTTP_BOG_REJECTS   3


typedef struct {
    ngx_uint_t      number;       /* of the token that the API has rejected */
    bog_rejected_e  outcome;
} ngx_http_bog_rejection_t;


static void ngx_http_bog_source_copy_tokens(ngx_http_bog_source_t *source);
static ngx_http_bog_token_t *ngx_http_bog_token_copy_old(
    ngx_http_bog_source_t *source, ngx_http_bog_token_t *token);
static ngx_http_bog_token_t *ngx_http_bog_token_alloc(
    ngx_http_bog_account_t *account, size_t size);
static void ngx_http_bog_token_set_times(ngx_http_bog_token_t *token,
    bog_policy_t *policy);
static bog_rejected_e ngx_http_bog_record_reject(ngx_http_bog_record_t *record,
    ngx_uint_t number, bog_time_t *now);
static ngx_int_t ngx_http_bog_source_update_rejected(ngx_http_bog_area_t *area,
    void *data);
static ngx_int_t ngx_http_bog_source_update_accepted(ngx_http_bog_area_t *area,
    void *data);


ngx_http_bog_token_t *
ngx_http_bog_source_token(ngx_http_bog_source_t *source, bog_time_t *now)
{
    ngx_http_bog_token_t  *token;

    ngx_http_bog_source_read(source);
    ngx_http_bog_source_copy_tokens(source);

    switch (bog_policy_token(&source->record.policy, now)) {

    case BOG_TOKEN_CURRENT:
        token = source->token;

        /* without memory for a copy, an older token serves on */

        if (token && token->number == source->record.number) {
            source->fresh = token;
        }

        break;

    case BOG_TOKEN_OLD:
        token = source->old;
        break;

    default: /* BOG_TOKEN_NONE */
        token = NULL;
    }

    if (token == NULL || !bog_times_valid(&token->times, now)) {
        return NULL;
    }

    if (bog_times_refreshing(&token->times, now)) {
        ngx_http_bog_source_check_timer(source, now);
    }

    return token;
}


ngx_http_bog_token_t *
ngx_http_bog_source_any_token(ngx_http_bog_source_t *source, bog_time_t *now)
{
    ngx_http_bog_token_t  *token;

    token = ngx_http_bog_source_token(source, now);

    if (token == NULL && source->token
        && bog_times_valid(&source->token->times, now))
    {
        token = source->token;
    }

    return token;
}


void
ngx_http_bog_source_read(ngx_http_bog_source_t *source)
{
    if (source->slot->version == source->version) {
        return;
    }

    source->version = ngx_http_bog_store_read(source->account, &source->record,
                                              NULL, 0);
    source->fresh = NULL;

    if (source->token && source->token->number == source->record.number) {
        ngx_http_bog_token_set_times(source->token, &source->record.policy);
    }
}


/*
 * Copies the tokens only when a request asks for one: a worker that gives out
 * no tokens of the source has no copy of them.
 */

static void
ngx_http_bog_source_copy_tokens(ngx_http_bog_source_t *source)
{
    size_t                  size;
    ngx_http_bog_token_t   *token;
    ngx_http_bog_record_t  *record;

    record = &source->record;

    if (record->number == 0
        || (source->token && source->token->number == record->number))
    {
        return;
    }

    for ( ;; ) {
        size = record->len + record->old_len;

        token = ngx_http_bog_token_alloc(source->account, size);
        if (token == NULL) {
            return;
        }

        source->version = ngx_http_bog_store_read(source->account, record,
                                                  token->data, size);

        if (record->len + record->old_len <= size) {
            break;
        }

        /* longer tokens have come since the record was read */

        ngx_http_bog_token_free(token);
    }

    token->number = record->number;
    token->len = record->len;
    ngx_memcpy(token->id, record->id, sizeof(token->id));

    ngx_http_bog_token_set_times(token, &record->policy);

    if (source->token) {
        ngx_http_bog_token_free(source->token);
    }

    if (source->old) {
        ngx_http_bog_token_free(source->old);
    }

    source->token = token;
    source->old = ngx_http_bog_token_copy_old(source, token);

    bog_registers_clear();
}


/* The old token follows the new one, and is given out in its place at first. */

static ngx_http_bog_token_t *
ngx_http_bog_token_copy_old(ngx_http_bog_source_t *source,
    ngx_http_bog_token_t *token)
{
    ngx_http_bog_token_t   *old;
    ngx_http_bog_record_t  *record;

    record = &source->record;

    if (record->old_len == 0) {
        return NULL;
    }

    old = ngx_http_bog_token_alloc(source->account, record->old_len);
    if (old == NULL) {
        return NULL;
    }

    old->number = record->number - 1;
    old->len = record->old_len;
    ngx_memcpy(old->id, record->old_id, sizeof(old->id));
    ngx_memcpy(old->data, token->data + token->len, old->len);
    old->times = record->policy.old;

    return old;
}


static ngx_http_bog_token_t *
ngx_http_bog_token_alloc(ngx_http_bog_account_t *account, size_t size)
{
    ngx_http_bog_token_t  *token;

    token = bog_memory_alloc(offsetof(ngx_http_bog_token_t, data) + size);

    if (token == NULL) {
        ngx_log_error(NGX_LOG_ALERT, ngx_cycle->log, ngx_errno,
                      "no memory for the token of client id \"%V\"",
                      &account->client_id);
        return NULL;
    }

    token->refs = 1;
    token->size = size;

    return token;
}


void
ngx_http_bog_token_free(void *data)
{
    ngx_http_bog_token_t *token = data;

    if (--token->refs == 0) {
        bog_memory_free(token,
                        offsetof(ngx_http_bog_token_t, data) + token->size);
    }
}


static void
ngx_http_bog_token_set_times(ngx_http_bog_token_t *token, bog_policy_t *policy)
{
    token->times = policy->token;

    /*
     * ngx_http_bog_source_fresh() looks at the time of the refresh only, so it
     * must not be later than the end.
     */

    token->times.refresh = ngx_min(policy->token.refresh, policy->token.until);
    token->times.refresh_wall = ngx_min(policy->token.refresh_wall,
                                        policy->token.until_wall);
}


bog_rejected_e
ngx_http_bog_source_reject(ngx_http_bog_source_t *source,
    ngx_http_bog_token_t *token)
{
    bog_time_t                now;
    ngx_atomic_uint_t         rejects;
    ngx_http_bog_slot_t      *slot;
    ngx_http_bog_record_t     record;
    ngx_http_bog_rejection_t  rejection;

    ngx_http_bog_now(&now);
    ngx_http_bog_source_read(source);

    /* a token that is not given out any more has no part in the counts */

    record = source->record;
    rejection.number = token->number;
    rejection.outcome = ngx_http_bog_record_reject(&record, token->number,
                                                   &now);

    if (rejection.outcome != BOG_REJECTED_KEPT
        && !bog_rejected_changes(rejection.outcome))
    {
        return rejection.outcome;
    }

    slot = source->slot;
    rejects = ngx_atomic_fetch_add(&slot->rejects, 1) + 1;

    /* others are accepted with this token: it is not the token's fault */

    if (rejects < NGX_HTTP_BOG_REJECTS
        && slot->accepted == token->number
        && ngx_current_msec - slot->accepted_msec < NGX_HTTP_BOG_ACCEPTED)
    {
        return BOG_REJECTED_KEPT;
    }

    if (ngx_http_bog_store_update(source->account->zone,
                                  ngx_http_bog_source_update_rejected,
                                  &rejection)
        == NGX_AGAIN)
    {
        return BOG_REJECTED_KEPT;
    }

    /* a worker that exits does so, too: no other knows that a fetch is due */

    if (bog_rejected_changes(rejection.outcome)) {
        (void) ngx_http_bog_source_fetch_if_due(source, &now);
    }

    return rejection.outcome;
}


static ngx_int_t
ngx_http_bog_source_update_rejected(ngx_http_bog_area_t *area, void *data)
{
    ngx_http_bog_rejection_t *rejection = data;

    bog_time_t  now;

    ngx_http_bog_now(&now);

    /* other workers may have changed the record since it was read */

    rejection->outcome = ngx_http_bog_record_reject(&area->record,
                                                    rejection->number, &now);

    return bog_rejected_changes(rejection->outcome) ? NGX_OK : NGX_DECLINED;
}


static bog_rejected_e
ngx_http_bog_record_reject(ngx_http_bog_record_t *record, ngx_uint_t number,
    bog_time_t *now)
{
    bog_token_e     token;
    bog_rejected_e  outcome;

    token = (number == record->number) ? BOG_TOKEN_CURRENT
            : (number + 1 == record->number) ? BOG_TOKEN_OLD : BOG_TOKEN_NONE;

    outcome = bog_policy_rejected(&record->policy, now, token);

    if (bog_rejected_changes(outcome)) {
        record->rejected = number;
    }

    return outcome;
}


void
ngx_http_bog_source_accept(ngx_http_bog_source_t *source,
    ngx_http_bog_token_t *token)
{
    ngx_http_bog_slot_t  *slot;

    slot = source->slot;

    slot->rejects = 0;
    slot->accepted = token->number;
    slot->accepted_msec = ngx_current_msec;

    ngx_http_bog_source_read(source);

    if (source->record.policy.rejections) {
        (void) ngx_http_bog_store_update(source->account->zone,
                                         ngx_http_bog_source_update_accepted,
                                         token);
    }
}


static ngx_int_t
ngx_http_bog_source_update_accepted(ngx_http_bog_area_t *area, void *data)
{
    ngx_http_bog_token_t *token = data;

    /* a rejected token may still be in the answer to an earlier request */

    if (area->record.number != token->number
        || area->record.rejected == token->number)
    {
        return NGX_DECLINED;
    }

    bog_policy_accepted(&area->record.policy);

    return NGX_OK;
}


ngx_uint_t
ngx_http_bog_source_rejected(ngx_http_bog_source_t *source,
    ngx_http_bog_token_t *token)
{
    ngx_http_bog_source_read(source);

    return token->number <= source->record.rejected;
}

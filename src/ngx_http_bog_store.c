
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_store.h"


/*
 * A worker may die at any instruction, with the lock too, which the master
 * then opens.  So a change is made aside, in the record that is not active,
 * and becomes valid by the one store of "active".  A token is written to the
 * half that no valid record names.
 */


#define ngx_http_bog_store_pool(account)                                      \
    ((ngx_slab_pool_t *) (account)->zone->shm.addr)


static ngx_int_t ngx_http_bog_store_init(ngx_shm_zone_t *zone, void *data);
static void ngx_http_bog_store_reloaded(ngx_slab_pool_t *shpool,
    ngx_http_bog_slot_t *slot);
static ngx_http_bog_record_t *ngx_http_bog_store_begin(
    ngx_http_bog_slot_t *slot);
static void ngx_http_bog_store_commit(ngx_http_bog_slot_t *slot,
    ngx_uint_t publish);
static ngx_uint_t ngx_http_bog_lease_free(ngx_http_bog_lease_t *lease,
    bog_time_t *now);
static ngx_uint_t ngx_http_bog_lease_mine(ngx_http_bog_lease_t *lease,
    ngx_uint_t id);


ngx_int_t
ngx_http_bog_store_add(ngx_conf_t *cf, ngx_http_bog_account_t *account)
{
    size_t     size;
    u_char    *p;
    ngx_str_t  name;

    name.len = sizeof("bog_") - 1 + BOG_OAUTH_DIGEST_LEN;

    name.data = ngx_pnalloc(cf->pool, name.len + 1);
    if (name.data == NULL) {
        return NGX_ERROR;
    }

    /* half of the digest tells sources apart well enough */

    p = ngx_cpymem(name.data, "bog_", sizeof("bog_") - 1);
    p = ngx_hex_dump(p, account->digest, BOG_OAUTH_DIGEST_LEN / 2);
    *p = '\0';

    /* the slot, and the least that a slab pool needs for itself */

    size = ngx_align(sizeof(ngx_http_bog_slot_t), ngx_pagesize)
           + 8 * ngx_pagesize;

    account->zone = ngx_shared_memory_add(cf, &name, size,
                                          &ngx_http_bog_module);
    if (account->zone == NULL) {
        return NGX_ERROR;
    }

    account->zone->init = ngx_http_bog_store_init;

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_store_init(ngx_shm_zone_t *zone, void *data)
{
    ngx_slab_pool_t      *shpool;
    ngx_http_bog_slot_t  *slot;

    shpool = (ngx_slab_pool_t *) zone->shm.addr;

    if (data) {
        zone->data = data;
        ngx_http_bog_store_reloaded(shpool, data);
        return NGX_OK;
    }

    if (zone->shm.exists) {
        zone->data = shpool->data;
        return NGX_OK;
    }

    if (bog_memory_exclude(zone->shm.addr, zone->shm.size) == -1) {
        ngx_log_error(NGX_LOG_EMERG, zone->shm.log, ngx_errno,
                      "madvise() of zone \"%V\" failed", &zone->shm.name);
        return NGX_ERROR;
    }

    slot = ngx_slab_calloc(shpool, sizeof(ngx_http_bog_slot_t));
    if (slot == NULL) {
        return NGX_ERROR;
    }

    slot->generation = 1;

    shpool->data = slot;
    zone->data = slot;

    return NGX_OK;
}


/*
 * Who reloads the configuration has often mended something.  The master does
 * not wait for a lock: its holder may have been stopped.
 */

static void
ngx_http_bog_store_reloaded(ngx_slab_pool_t *shpool, ngx_http_bog_slot_t *slot)
{
    ngx_http_bog_record_t  *next;

    if (!ngx_shmtx_trylock(&shpool->mutex)) {
        return;
    }

    next = ngx_http_bog_store_begin(slot);

    if (next->policy.failures) {
        bog_policy_retry(&next->policy);
        ngx_http_bog_store_commit(slot, 1);
    }

    ngx_shmtx_unlock(&shpool->mutex);
}


ngx_atomic_uint_t
ngx_http_bog_store_read(ngx_http_bog_account_t *account,
    ngx_http_bog_record_t *record, u_char *token)
{
    ngx_slab_pool_t      *shpool;
    ngx_atomic_uint_t     generation;
    ngx_http_bog_slot_t  *slot;

    slot = ngx_http_bog_store_slot(account);
    shpool = ngx_http_bog_store_pool(account);

    ngx_shmtx_lock(&shpool->mutex);

    *record = slot->records[slot->active];
    generation = slot->generation;

    if (token) {
        ngx_memcpy(token, slot->tokens[record->token & 1], record->len);
    }

    ngx_shmtx_unlock(&shpool->mutex);

    return generation;
}


ngx_int_t
ngx_http_bog_store_acquire(ngx_http_bog_account_t *account,
    ngx_http_bog_record_t *record, bog_time_t *now)
{
    ngx_int_t               rc;
    ngx_slab_pool_t        *shpool;
    ngx_http_bog_slot_t    *slot;
    ngx_http_bog_record_t  *next;

    slot = ngx_http_bog_store_slot(account);
    shpool = ngx_http_bog_store_pool(account);

    ngx_shmtx_lock(&shpool->mutex);

    next = ngx_http_bog_store_begin(slot);

    if (!ngx_http_bog_lease_free(&next->lease, now)) {
        rc = NGX_BUSY;

    } else if (bog_policy_next(&next->policy, now) > now->mono) {
        rc = NGX_DECLINED;

    } else {
        next->lease.pid = ngx_pid;
        next->lease.id++;
        next->lease.deadline = now->mono + (int64_t) account->fetch_timeout
                               + 1000;

        ngx_http_bog_store_commit(slot, 0);
        rc = NGX_OK;
    }

    *record = slot->records[slot->active];

    ngx_shmtx_unlock(&shpool->mutex);

    return rc;
}


void
ngx_http_bog_store_release(ngx_http_bog_account_t *account, ngx_uint_t lease)
{
    ngx_slab_pool_t        *shpool;
    ngx_http_bog_slot_t    *slot;
    ngx_http_bog_record_t  *next;

    slot = ngx_http_bog_store_slot(account);
    shpool = ngx_http_bog_store_pool(account);

    ngx_shmtx_lock(&shpool->mutex);

    next = ngx_http_bog_store_begin(slot);

    if (ngx_http_bog_lease_mine(&next->lease, lease)) {
        next->lease.pid = 0;
        ngx_http_bog_store_commit(slot, 0);
    }

    ngx_shmtx_unlock(&shpool->mutex);
}


ngx_int_t
ngx_http_bog_store_success(ngx_http_bog_account_t *account, ngx_uint_t lease,
    ngx_http_bog_new_token_t *token, bog_time_t *now)
{
    ngx_int_t               rc;
    ngx_uint_t              mine;
    ngx_slab_pool_t        *shpool;
    ngx_http_bog_slot_t    *slot;
    ngx_http_bog_record_t  *next;

    slot = ngx_http_bog_store_slot(account);
    shpool = ngx_http_bog_store_pool(account);

    rc = NGX_OK;

    ngx_shmtx_lock(&shpool->mutex);

    next = ngx_http_bog_store_begin(slot);
    mine = ngx_http_bog_lease_mine(&next->lease, lease);

    if (!mine
        && token->start.mono + token->lifetime <= next->policy.expires)
    {
        goto done;
    }

    if (!bog_policy_success(&next->policy, &token->start, now,
                            token->lifetime,
                            (int64_t) account->refresh_before,
                            (uint32_t) ngx_random()))
    {
        rc = NGX_DECLINED;
        goto done;
    }

    next->token++;
    next->len = token->len;
    ngx_memcpy(next->id, token->id, sizeof(next->id));
    ngx_memcpy(slot->tokens[next->token & 1], token->data, token->len);

    if (mine) {
        next->lease.pid = 0;
    }

    ngx_http_bog_store_commit(slot, 1);

done:

    ngx_shmtx_unlock(&shpool->mutex);

    return rc;
}


void
ngx_http_bog_store_failure(ngx_http_bog_account_t *account, ngx_uint_t lease,
    bog_failure_t *failure, bog_time_t *now)
{
    ngx_slab_pool_t        *shpool;
    ngx_http_bog_slot_t    *slot;
    ngx_http_bog_record_t  *next;

    slot = ngx_http_bog_store_slot(account);
    shpool = ngx_http_bog_store_pool(account);

    ngx_shmtx_lock(&shpool->mutex);

    next = ngx_http_bog_store_begin(slot);

    if (ngx_http_bog_lease_mine(&next->lease, lease)) {

        bog_policy_failure(&next->policy, now, failure,
                           (uint32_t) ngx_random());

        next->failures++;
        next->lease.pid = 0;

        ngx_http_bog_store_commit(slot, 1);
    }

    ngx_shmtx_unlock(&shpool->mutex);
}


/* returns a copy of the valid record to be changed */

static ngx_http_bog_record_t *
ngx_http_bog_store_begin(ngx_http_bog_slot_t *slot)
{
    ngx_http_bog_record_t  *next;

    next = &slot->records[!slot->active];
    *next = slot->records[slot->active];

    return next;
}


static void
ngx_http_bog_store_commit(ngx_http_bog_slot_t *slot, ngx_uint_t publish)
{
    /* a death between the two costs the others one look, no more */

    if (publish) {
        slot->generation++;
    }

    ngx_memory_barrier();

    slot->active = !slot->active;
}


static ngx_uint_t
ngx_http_bog_lease_free(ngx_http_bog_lease_t *lease, bog_time_t *now)
{
    return lease->pid == 0
           || now->mono >= lease->deadline
           || (kill(lease->pid, 0) == -1 && ngx_errno == ESRCH);
}


static ngx_uint_t
ngx_http_bog_lease_mine(ngx_http_bog_lease_t *lease, ngx_uint_t id)
{
    return lease->pid == ngx_pid && lease->id == id;
}

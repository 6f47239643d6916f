
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_compat.h"
#include "ngx_http_bog_store.h"

#include <openssl/rand.h>


/*
 * There is no lock: a worker may die or be stopped at any instruction, and
 * nobody waits for it.  A change is made aside, in an area that only its owner
 * writes to, and becomes valid by one compare-and-swap of "version", which
 * fails where another change was first: then it is made again, upon that one.
 * Who copies a valid area looks afterwards whether it has been valid all the
 * while.
 */


/* tries to find an area, before somebody must have been stopped in each */

#define NGX_HTTP_BOG_TRIES  1000


/*
 * An owner is a pid, 0 for nobody, and above it how often the area was taken:
 * else a new process with the pid of one that has died, and one who knows that
 * he has, could both take his area.
 */

#define NGX_HTTP_BOG_PIDS  ((ngx_atomic_uint_t) 1 << 22)


#define ngx_http_bog_store_active(slot)                                       \
    ((slot)->version % NGX_HTTP_BOG_AREAS)


static ngx_int_t ngx_http_bog_store_init(ngx_shm_zone_t *zone, void *data);
static ngx_int_t ngx_http_bog_store_init_slot(ngx_shm_zone_t *zone);
static ngx_int_t ngx_http_bog_store_take(ngx_http_bog_slot_t *slot);
static ngx_uint_t ngx_http_bog_store_try(ngx_http_bog_slot_t *slot,
    ngx_uint_t i);
static ngx_atomic_uint_t ngx_http_bog_store_copy(ngx_http_bog_slot_t *slot,
    ngx_http_bog_record_t *record, u_char *token, size_t size);
static void ngx_http_bog_change_token(ngx_http_bog_area_t *next,
    ngx_http_bog_new_token_t *token);
static ngx_uint_t ngx_http_bog_store_commit(ngx_http_bog_slot_t *slot,
    ngx_atomic_uint_t version, ngx_uint_t i);
static ngx_int_t ngx_http_bog_change_reload(ngx_http_bog_area_t *next,
    ngx_http_bog_change_t *change);
static ngx_uint_t ngx_http_bog_lease_mine(ngx_http_bog_lease_t *lease,
    ngx_uint_t id);
static uint32_t ngx_http_bog_store_random(void);


static uint32_t  ngx_http_bog_store_seed;


/*
 * nginx begins its own random numbers by pid and time, which the containers of
 * a fleet have in common.  OpenSSL's are no good while requests wait: the first
 * one takes half a millisecond.
 */

void
ngx_http_bog_store_init_process(void)
{
    if (RAND_bytes((u_char *) &ngx_http_bog_store_seed, sizeof(uint32_t))
        != 1)
    {
        ngx_http_bog_store_seed = 0;
    }
}


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
    bog_time_t              now;
    ngx_slab_pool_t        *shpool;
    ngx_http_bog_change_t   change;

    shpool = (ngx_slab_pool_t *) zone->shm.addr;

    if (data) {
        zone->data = data;

        ngx_http_bog_now(&now);
        change.now = &now;

        (void) ngx_http_bog_store_change(zone, ngx_http_bog_change_reload,
                                         &change);
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

    return ngx_http_bog_store_init_slot(zone);
}


static ngx_int_t
ngx_http_bog_store_init_slot(ngx_shm_zone_t *zone)
{
    ngx_slab_pool_t      *shpool;
    ngx_http_bog_slot_t  *slot;

    shpool = (ngx_slab_pool_t *) zone->shm.addr;

    slot = ngx_slab_alloc(shpool, sizeof(ngx_http_bog_slot_t));
    if (slot == NULL) {
        return NGX_ERROR;
    }

    /* the other areas are not touched before they are used */

    ngx_memzero(slot, offsetof(ngx_http_bog_slot_t, areas)
                      + sizeof(ngx_http_bog_record_t));

    /* a worker that starts knows of version 0, and has to look once */

    slot->version = NGX_HTTP_BOG_AREAS;

    shpool->data = slot;
    zone->data = slot;

    return NGX_OK;
}


ngx_atomic_uint_t
ngx_http_bog_store_read(ngx_http_bog_account_t *account,
    ngx_http_bog_record_t *record, u_char *token, size_t size)
{
    return ngx_http_bog_store_copy(ngx_http_bog_store_slot(account), record,
                                   token, size);
}


ngx_uint_t
ngx_http_bog_store_leased(ngx_http_bog_record_t *record, bog_time_t *now)
{
    return record->lease.pid
           && now->mono < record->lease.deadline
           && !ngx_http_bog_process_dead(record->lease.pid);
}


void
ngx_http_bog_store_wait(ngx_http_bog_account_t *account)
{
    ngx_http_bog_store_slot(account)->waited = 1;

    /* a barrier for the processor too, which ngx_memory_barrier() may not be */

    (void) ngx_atomic_fetch_add(&ngx_http_bog_store_slot(account)->waited, 0);
}


ngx_uint_t
ngx_http_bog_store_waited(ngx_http_bog_account_t *account)
{
    return ngx_atomic_cmp_set(&ngx_http_bog_store_slot(account)->waited, 1, 0);
}


ngx_int_t
ngx_http_bog_store_change(ngx_shm_zone_t *zone, ngx_http_bog_change_pt handler,
    ngx_http_bog_change_t *change)
{
    ngx_int_t             i, rc;
    ngx_atomic_uint_t     version;
    ngx_http_bog_area_t  *next;
    ngx_http_bog_slot_t  *slot;

    slot = zone->data;

    i = ngx_http_bog_store_take(slot);

    if (i == NGX_ERROR) {
        ngx_log_error(NGX_LOG_ALERT, ngx_cycle->log, 0,
                      "zone \"%V\" is not changed: processes were stopped "
                      "while they changed it", &zone->shm.name);
        return NGX_AGAIN;
    }

    next = &slot->areas[i];

    do {
        version = ngx_http_bog_store_copy(slot, &next->record, next->token,
                                          NGX_HTTP_BOG_TOKENS);
        rc = handler(next, change);

    } while (rc == NGX_OK && !ngx_http_bog_store_commit(slot, version, i));

    /* the token was copied */

    bog_registers_clear();

    /*
     * What was written must not come after what the next owner writes.  Nobody
     * else changes the owner before.
     */

    ngx_memory_barrier();

    slot->owners[i] -= (ngx_atomic_uint_t) ngx_pid;

    return rc;
}


static ngx_int_t
ngx_http_bog_store_take(ngx_http_bog_slot_t *slot)
{
    ngx_uint_t  i, n;

    for (n = 0; n < NGX_HTTP_BOG_TRIES; n++) {

        for (i = 0; i < NGX_HTTP_BOG_AREAS; i++) {
            if (ngx_http_bog_store_try(slot, i)) {
                return i;
            }
        }

        /* a change takes a microsecond, unless its process has to wait */

        ngx_sched_yield();
    }

    return NGX_ERROR;
}


static ngx_uint_t
ngx_http_bog_store_try(ngx_http_bog_slot_t *slot, ngx_uint_t i)
{
    ngx_atomic_uint_t  owner, pid;

    owner = slot->owners[i];
    pid = owner % NGX_HTTP_BOG_PIDS;

    /* this process is not in two changes at once: one of the same pid was */

    if (pid && pid != (ngx_atomic_uint_t) ngx_pid
        && !ngx_http_bog_process_dead((ngx_pid_t) pid))
    {
        return 0;
    }

    /* looked at before, it could become valid by one who dies afterwards */

    ngx_memory_barrier();

    if (i == ngx_http_bog_store_active(slot)) {
        return 0;
    }

    return ngx_atomic_cmp_set(&slot->owners[i], owner,
                              owner - pid + NGX_HTTP_BOG_PIDS
                              + (ngx_atomic_uint_t) ngx_pid);
}


static ngx_atomic_uint_t
ngx_http_bog_store_copy(ngx_http_bog_slot_t *slot,
    ngx_http_bog_record_t *record, u_char *token, size_t size)
{
    ngx_atomic_uint_t     version;
    ngx_http_bog_area_t  *area;

    do {
        version = slot->version;

        ngx_memory_barrier();

        area = &slot->areas[version % NGX_HTTP_BOG_AREAS];

        *record = area->record;

        /* an area that is written to anew may say anything */

        if (token) {
            ngx_memcpy(token, area->token,
                       ngx_min(record->len + record->old_len, size));
        }

        ngx_memory_barrier();

    } while (version != slot->version);

    return version;
}


static ngx_uint_t
ngx_http_bog_store_commit(ngx_http_bog_slot_t *slot, ngx_atomic_uint_t version,
    ngx_uint_t i)
{
    ngx_atomic_uint_t  next;

    next = version - version % NGX_HTTP_BOG_AREAS + NGX_HTTP_BOG_AREAS + i;

    ngx_memory_barrier();

    return ngx_atomic_cmp_set(&slot->version, version, next);
}


ngx_int_t
ngx_http_bog_change_acquire(ngx_http_bog_area_t *next,
    ngx_http_bog_change_t *change)
{
    ngx_int_t               rc;
    ngx_http_bog_record_t  *record;

    record = &next->record;

    if (ngx_http_bog_store_leased(record, change->now)) {
        rc = NGX_BUSY;

    } else if (bog_policy_next(&record->policy, change->now)
               > change->now->mono)
    {
        rc = NGX_DECLINED;

    } else {
        record->lease.pid = ngx_pid;
        record->lease.id++;
        record->lease.deadline = change->now->mono + NGX_HTTP_BOG_LEASE;
        rc = NGX_OK;
    }

    *change->record = *record;

    return rc;
}


ngx_int_t
ngx_http_bog_change_extend(ngx_http_bog_area_t *next,
    ngx_http_bog_change_t *change)
{
    ngx_http_bog_lease_t  *lease;

    lease = &next->record.lease;

    if (!ngx_http_bog_lease_mine(lease, change->lease)) {
        return NGX_DECLINED;
    }

    lease->deadline = change->now->mono + NGX_HTTP_BOG_LEASE;

    return NGX_OK;
}


ngx_int_t
ngx_http_bog_change_release(ngx_http_bog_area_t *next,
    ngx_http_bog_change_t *change)
{
    ngx_http_bog_lease_t  *lease;

    lease = &next->record.lease;

    if (!ngx_http_bog_lease_mine(lease, change->lease)) {
        return NGX_DECLINED;
    }

    lease->pid = 0;

    /* a token that the API has rejected is better than none */

    next->record.policy.withheld = 0;

    return NGX_OK;
}


ngx_int_t
ngx_http_bog_change_success(ngx_http_bog_area_t *next,
    ngx_http_bog_change_t *change)
{
    int64_t                    lifetime;
    ngx_uint_t                 mine, repeated;
    ngx_http_bog_record_t     *record;
    ngx_http_bog_new_token_t  *token;

    record = &next->record;
    token = change->token;

    mine = ngx_http_bog_lease_mine(&record->lease, change->lease);

    if (!mine
        && token->start.mono + token->lifetime <= record->policy.token.expires)
    {
        /* a better one is there */

        return NGX_DONE;
    }

    lifetime = token->lifetime;

    repeated = (token->len == record->len
                && ngx_memcmp(token->data, next->token, token->len) == 0);

    if (repeated && !token->stated) {

        /* as long as was known before, by either clock */

        lifetime = bog_times_left(&record->policy.token, &token->start);
    }

    if (repeated && lifetime > 0
        && change->now->mono < record->policy.token.expires)
    {
        bog_policy_repeated(&record->policy, &token->start, lifetime);

    } else {

        if (!bog_policy_success(&record->policy, &token->start, change->now,
                              lifetime,
                              (int64_t) change->account->refresh_before,
                              ngx_http_bog_store_random()))
        {
            return NGX_DECLINED;
        }

        ngx_http_bog_change_token(next, token);
    }

    record->obtained = change->now->wall;

    if (change->addrs->n) {
        record->addrs = *change->addrs;
        record->begin = change->addrs->list[change->addrs->first];
    }

    if (mine) {
        record->lease.pid = 0;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_bog_change_restore(ngx_http_bog_area_t *next,
    ngx_http_bog_change_t *change)
{
    ngx_http_bog_record_t  *record;

    record = &next->record;

    if (record->token
        || !bog_policy_restore(&record->policy, change->life, change->now,
                               (int64_t) change->account->max_lifetime,
                               (int64_t) change->account->refresh_before))
    {
        return NGX_DECLINED;
    }

    ngx_http_bog_change_token(next, change->token);

    record->obtained = change->life->start;

    return NGX_OK;
}


static void
ngx_http_bog_change_token(ngx_http_bog_area_t *next,
    ngx_http_bog_new_token_t *token)
{
    ngx_http_bog_record_t  *record;

    record = &next->record;

    ngx_memmove(next->token + token->len, next->token, record->len);
    ngx_memcpy(next->token, token->data, token->len);

    record->token++;
    record->old_len = record->len;
    record->len = token->len;
    record->start = token->start.wall;
    record->lifetime = token->lifetime;
    ngx_memcpy(record->id, token->id, sizeof(record->id));
}


ngx_int_t
ngx_http_bog_change_failure(ngx_http_bog_area_t *next,
    ngx_http_bog_change_t *change)
{
    ngx_http_bog_failed_t  *failed;
    ngx_http_bog_record_t  *record;

    record = &next->record;

    if (!ngx_http_bog_lease_mine(&record->lease, change->lease)) {
        return NGX_DECLINED;
    }

    bog_policy_failure(&record->policy, change->now, change->failure,
                       ngx_http_bog_store_random());

    if (change->told) {
        record->told = change->failure->error;
    }

    failed = &record->failed;

    failed->wall = change->now->wall;
    failed->error = change->failure->error;
    failed->status = change->failure->status;
    failed->len = change->code->len;

    ngx_memcpy(failed->code, change->code->data, change->code->len);

    if (change->addrs->n) {
        record->begin = change->addrs->list[change->addrs->first];
    }

    record->failures++;
    record->lease.pid = 0;

    return NGX_OK;
}


ngx_int_t
ngx_http_bog_change_reject(ngx_http_bog_area_t *next,
    ngx_http_bog_change_t *change)
{
    bog_token_e             token;
    ngx_http_bog_record_t  *record;

    record = &next->record;

    if (change->number + 1 < record->token) {
        return NGX_DECLINED;
    }

    token = (change->number == record->token) ? BOG_TOKEN_CURRENT
                                              : BOG_TOKEN_OLD;

    if (!bog_policy_rejected(&record->policy, change->now, token)) {
        return NGX_DECLINED;
    }

    record->rejected = change->number;

    return NGX_OK;
}


ngx_int_t
ngx_http_bog_change_accept(ngx_http_bog_area_t *next,
    ngx_http_bog_change_t *change)
{
    /* of one that was rejected, an earlier request is answered */

    if (next->record.token != change->number
        || next->record.rejected == change->number)
    {
        return NGX_DECLINED;
    }

    bog_policy_accepted(&next->record.policy);

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_change_reload(ngx_http_bog_area_t *next,
    ngx_http_bog_change_t *change)
{
    return bog_policy_reload(&next->record.policy, change->now)
           ? NGX_OK : NGX_DECLINED;
}


static ngx_uint_t
ngx_http_bog_lease_mine(ngx_http_bog_lease_t *lease, ngx_uint_t id)
{
    return lease->pid == ngx_pid && lease->id == id;
}


static uint32_t
ngx_http_bog_store_random(void)
{
    return (uint32_t) ngx_random() ^ ngx_http_bog_store_seed;
}

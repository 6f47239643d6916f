
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_compat.h"
#include "ngx_http_bog_store.h"


/*
 * The slot of a source in shared memory.  Workers, the manager and the master
 * read and change it here, and nowhere else.
 *
 * There is no lock, as a process may die or be stopped at any instruction, and
 * nobody must wait for it.  A process makes a change in an area that only it
 * writes to.  A compare-and-swap of "version" then makes that area the valid
 * one.  It fails if another process was faster; the change is made again then,
 * on top of that one.  After copying an area, the reader checks that it is
 * still the valid one, and copies again if not.  t/model/store.pml proves this.
 */


/*
 * How often a process searches for an area to write to.  If it finds none in so
 * many tries, a stopped process must hold each of them.
 */

#define NGX_HTTP_BOG_TRIES  1000


/*
 * The owner of an area is a pid, 0 for none, plus NGX_HTTP_BOG_PIDS times the
 * number of times that the area was taken.  Without that number two processes
 * could take the area of a dead one: a new process that got its pid, and
 * another that has just seen that the pid was dead.
 */

#define NGX_HTTP_BOG_PIDS  ((ngx_atomic_uint_t) 1 << 22)


#define ngx_http_bog_store_active(slot)                                       \
    ((slot)->version % NGX_HTTP_BOG_AREAS)


typedef struct {
    ngx_http_bog_account_t    *account;
    ngx_http_bog_new_token_t  *token;
    bog_life_t                *life;
} ngx_http_bog_restore_t;


static ngx_int_t ngx_http_bog_store_init(ngx_shm_zone_t *zone, void *data);
static ngx_int_t ngx_http_bog_store_take(ngx_http_bog_slot_t *slot);
static ngx_atomic_uint_t ngx_http_bog_store_copy(ngx_http_bog_slot_t *slot,
    ngx_http_bog_record_t *record, u_char *token, size_t size);
static ngx_uint_t ngx_http_bog_store_commit(ngx_http_bog_slot_t *slot,
    ngx_atomic_uint_t version, ngx_uint_t i);
static ngx_int_t ngx_http_bog_store_update_reload(ngx_http_bog_area_t *area,
    void *data);
static ngx_int_t ngx_http_bog_store_update_restore(ngx_http_bog_area_t *area,
    void *data);


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

    /* half of the digest is enough to tell accounts apart */

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

        (void) ngx_http_bog_store_update(zone,
                                         ngx_http_bog_store_update_reload,
                                         NULL);
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

    slot = ngx_slab_alloc(shpool, sizeof(ngx_http_bog_slot_t));
    if (slot == NULL) {
        return NGX_ERROR;
    }

    /* the other areas take no memory until they are used */

    ngx_memzero(slot, offsetof(ngx_http_bog_slot_t, areas)
                      + sizeof(ngx_http_bog_record_t));

    /* a worker that starts knows version 0, so it reads the record once */

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


ngx_int_t
ngx_http_bog_store_update(ngx_shm_zone_t *zone,
    ngx_http_bog_store_update_pt handler, void *data)
{
    ngx_int_t             i, rc;
    ngx_atomic_uint_t     version;
    ngx_http_bog_area_t  *area;
    ngx_http_bog_slot_t  *slot;

    slot = zone->data;

    i = ngx_http_bog_store_take(slot);

    if (i == NGX_ERROR) {
        ngx_log_error(NGX_LOG_ALERT, ngx_cycle->log, 0,
                      "zone \"%V\" is not changed: processes were stopped "
                      "while they changed it", &zone->shm.name);
        return NGX_AGAIN;
    }

    area = &slot->areas[i];

    do {
        version = ngx_http_bog_store_copy(slot, &area->record, area->token,
                                          NGX_HTTP_BOG_TOKENS);
        rc = handler(area, data);

    } while (rc == NGX_OK && !ngx_http_bog_store_commit(slot, version, i));

    /* copying the token has left parts of it in registers */

    bog_registers_clear();

    /*
     * The next owner must not write to the area before this one has written all
     * that it had to.  Until then nobody else changes the owner.
     */

    ngx_memory_barrier();

    slot->owners[i] -= (ngx_atomic_uint_t) ngx_pid;

    return rc;
}


static ngx_int_t
ngx_http_bog_store_take(ngx_http_bog_slot_t *slot)
{
    ngx_uint_t         i, n;
    ngx_atomic_uint_t  owner, pid, self;

    self = (ngx_atomic_uint_t) ngx_pid;

    for (n = 0; n < NGX_HTTP_BOG_TRIES; n++) {

        for (i = 0; i < NGX_HTTP_BOG_AREAS; i++) {

            owner = slot->owners[i];
            pid = owner % NGX_HTTP_BOG_PIDS;

            /* an area of our own pid is left over from a dead process */

            if (pid && pid != self
                && !ngx_http_bog_process_dead((ngx_pid_t) pid))
            {
                continue;
            }

            /*
             * The version is read after the owner: else a process could make
             * the area valid in between, and die.
             */

            ngx_memory_barrier();

            if (i != ngx_http_bog_store_active(slot)
                && ngx_atomic_cmp_set(&slot->owners[i], owner,
                                      owner - pid + NGX_HTTP_BOG_PIDS + self))
            {
                return i;
            }
        }

        /* a change takes a microsecond, unless its process has to wait */

        ngx_sched_yield();
    }

    return NGX_ERROR;
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

        /* the lengths may be wrong if the area is not the valid one any more */

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


static ngx_int_t
ngx_http_bog_store_update_reload(ngx_http_bog_area_t *area, void *data)
{
    bog_time_t  now;

    ngx_http_bog_now(&now);

    return bog_policy_reload(&area->record.policy, &now) ? NGX_OK
                                                         : NGX_DECLINED;
}


ngx_int_t
ngx_http_bog_store_restore(ngx_http_bog_account_t *account,
    ngx_http_bog_new_token_t *token, bog_life_t *life)
{
    ngx_http_bog_restore_t  restore;

    restore.account = account;
    restore.token = token;
    restore.life = life;

    return ngx_http_bog_store_update(account->zone,
                                     ngx_http_bog_store_update_restore,
                                     &restore);
}


static ngx_int_t
ngx_http_bog_store_update_restore(ngx_http_bog_area_t *area, void *data)
{
    ngx_http_bog_restore_t *restore = data;

    bog_time_t              now;
    ngx_http_bog_record_t  *record;

    record = &area->record;

    ngx_http_bog_now(&now);

    if (record->number
        || !bog_policy_restore(&record->policy, restore->life, &now,
                               (int64_t) restore->account->max_lifetime,
                               (int64_t) restore->account->refresh_before))
    {
        return NGX_DECLINED;
    }

    ngx_http_bog_store_set_token(area, restore->token);

    record->obtained = restore->life->start;

    return NGX_OK;
}


void
ngx_http_bog_store_set_token(ngx_http_bog_area_t *area,
    ngx_http_bog_new_token_t *token)
{
    ngx_http_bog_record_t  *record;

    record = &area->record;

    ngx_memmove(area->token + token->len, area->token, record->len);
    ngx_memcpy(area->token, token->data, token->len);

    record->number++;
    record->old_len = record->len;
    ngx_memcpy(record->old_id, record->id, sizeof(record->old_id));

    record->len = token->len;
    ngx_memcpy(record->id, token->id, sizeof(record->id));
    record->start = token->start.wall;
    record->lifetime = token->lifetime;
}

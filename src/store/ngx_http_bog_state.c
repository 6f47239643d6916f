
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_state.h"
#include "ngx_http_bog_wake.h"

#include "bog_state.h"

#include <limits.h>
#include <sys/file.h>


/*
 * The files of "bog_state_path": each has the token of one account, encrypted,
 * for the next start.  The master reads them before there is a worker; nginx's
 * cache manager process writes them, and so does the master at its end.  No
 * worker may come here: a disk can be slow.
 */


#define NGX_HTTP_BOG_STATE_BATCH     32    /* files at a time */

/* milliseconds: */

#define NGX_HTTP_BOG_STATE_INTERVAL  1000  /* from call to call of nginx */
#define NGX_HTTP_BOG_STATE_RETRY     60000 /* after a file was not written */
#define NGX_HTTP_BOG_STATE_LOCKED    30000 /* before a lock is logged */


/* why a file is ignored, beyond what bog_state_status_e has */

#define NGX_HTTP_BOG_STATE_LINK    (BOG_STATE_FAILED + 1)
#define NGX_HTTP_BOG_STATE_NOFILE  (BOG_STATE_FAILED + 2)
#define NGX_HTTP_BOG_STATE_FUTURE  (BOG_STATE_FAILED + 3)


struct ngx_http_bog_state_s {
    ngx_str_t           file;              /* the path of the file, */
    u_char             *name;              /* and its last part */
    ngx_atomic_uint_t   hash;              /* of the path: slot->stored is this
                                              plus the number of the token that
                                              the file has */
    bog_str_t           secret;            /* in guarded memory */

    /* in the process that writes */

    ngx_uint_t          tried;             /* number of the token tried last */
    ngx_err_t           err;               /* of the last try, 0: none */
    int64_t             retry;             /* mono: after a failure, when to
                                              try the same token again */
};


static void ngx_http_bog_state_read_file(ngx_http_bog_account_t *account,
    ngx_log_t *log);
static ngx_uint_t ngx_http_bog_state_restore(ngx_http_bog_account_t *account,
    bog_state_t *state, ngx_log_t *log);
static void ngx_http_bog_state_wake_handler(ngx_event_t *ev);
static ngx_int_t ngx_http_bog_state_write(ngx_http_bog_state_dir_t *dir,
    ngx_uint_t max);
static ngx_int_t ngx_http_bog_state_open_dir(ngx_http_bog_state_dir_t *dir,
    ngx_http_bog_account_t *account, ngx_fd_t *fd);
static void ngx_http_bog_state_log_locked(ngx_http_bog_state_dir_t *dir);
static void ngx_http_bog_state_write_file(ngx_fd_t dir,
    ngx_http_bog_account_t *account, ngx_http_bog_record_t *record);
static ngx_int_t ngx_http_bog_state_replace_file(ngx_fd_t dir,
    ngx_http_bog_account_t *account, u_char *buf, size_t len);
static ngx_int_t ngx_http_bog_state_fill_file(ngx_fd_t fd,
    ngx_http_bog_account_t *account, u_char *buf, size_t len);
static ngx_int_t ngx_http_bog_state_failed(ngx_http_bog_account_t *account,
    char *what, ngx_err_t err);


static char  *ngx_http_bog_state_reasons[] = {
    "",
    "it is not a state file",
    "it is of another version of this module",
    "its size is wrong",
    "it was changed, or belongs to other credentials",
    "what is in it makes no sense",
    "OpenSSL cannot decrypt it",
    "it is a symbolic link",
    "it is not a regular file",
    "its token is of a time that is still to come"
};


/* in the process that writes: the folder, for the wake handler */

static ngx_http_bog_state_dir_t  *ngx_http_bog_state_dir;

/* why the last file that failed was not written, 0: one was written since */

static ngx_err_t                  ngx_http_bog_state_err;

/* mono: since when another process locks the folder, 0: none does */

static int64_t                    ngx_http_bog_state_locked;


ngx_http_bog_state_t *
ngx_http_bog_state_create(ngx_pool_t *pool, ngx_str_t *dir, ngx_str_t *name,
    ngx_str_t *secret, bog_pool_t *guarded)
{
    u_char                *copy;
    ngx_http_bog_state_t  *state;

    state = ngx_pcalloc(pool, sizeof(ngx_http_bog_state_t));
    if (state == NULL) {
        return NULL;
    }

    state->file.len = dir->len + 1 + name->len;

    state->file.data = ngx_pnalloc(pool, state->file.len + 1);
    if (state->file.data == NULL) {
        return NULL;
    }

    ngx_sprintf(state->file.data, "%V/%V%Z", dir, name);

    state->name = state->file.data + dir->len + 1;
    state->hash = ngx_crc32_long(state->file.data, state->file.len);

    copy = ngx_http_bog_pool_alloc(guarded, secret->len, pool->log);
    if (copy == NULL) {
        return NULL;
    }

    ngx_memcpy(copy, secret->data, secret->len);

    state->secret.data = copy;
    state->secret.len = secret->len;

    return state;
}


void
ngx_http_bog_state_init_module(ngx_cycle_t *cycle,
    ngx_http_bog_state_dir_t *dir)
{
    ngx_uint_t                i;
    ngx_core_conf_t          *ccf;
    ngx_http_bog_account_t  **account;

    if (dir->path == NULL || ngx_test_config) {
        return;
    }

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    if (!ccf->master) {
        ngx_log_error(NGX_LOG_WARN, cycle->log, 0,
                      "without a master process tokens are written to "
                      "\"%V\" only when nginx ends",
                      &dir->path->name);
    }

    account = dir->accounts->elts;

    for (i = 0; i < dir->accounts->nelts; i++) {

        /* after a reload, shared memory has the tokens of all other sources */

        if (ngx_http_bog_store_untouched(account[i])) {
            ngx_http_bog_state_read_file(account[i], cycle->log);
        }
    }
}


static void
ngx_http_bog_state_read_file(ngx_http_bog_account_t *account, ngx_log_t *log)
{
    char                  *failed;
    u_char                *buf;
    size_t                 size;
    ssize_t                n;
    ngx_uint_t             reason;
    bog_state_t            opened;
    ngx_file_info_t        fi;
    ngx_http_bog_state_t  *state;

    state = account->state;

    /* one byte more, to see that a file is too long */

    size = BOG_STATE_MAX + 1;

    buf = bog_memory_alloc(size);
    if (buf == NULL) {
        ngx_log_error(NGX_LOG_WARN, log, ngx_errno,
                      "no memory to read state file \"%V\", it is ignored",
                      &state->file);
        return;
    }

    /*
     * The master is root, and the folder belongs to the user of the workers:
     * the file may be a link to something that this user cannot read.
     */

    n = ngx_http_bog_read_file(state->file.data, O_NOFOLLOW, buf, size, &fi,
                               &failed);
    reason = BOG_STATE_OK;

    if (n == NGX_DECLINED) {
        reason = NGX_HTTP_BOG_STATE_NOFILE;

    } else if (n == NGX_ERROR && ngx_errno == NGX_ELOOP) {
        reason = NGX_HTTP_BOG_STATE_LINK;

    } else if (n == NGX_ERROR && ngx_errno != NGX_ENOENT) {
        ngx_log_error(NGX_LOG_WARN, log, ngx_errno,
                      "%s of state file \"%V\" failed, it is ignored",
                      failed, &state->file);

    } else if (n != NGX_ERROR) {
        reason = bog_state_open(&opened, buf, n, &state->secret,
                                account->digest);

        if (reason == BOG_STATE_OK) {
            reason = ngx_http_bog_state_restore(account, &opened, log);
        }
    }

    if (reason != BOG_STATE_OK) {
        ngx_log_error(NGX_LOG_WARN, log, 0, "state file \"%V\" is ignored: %s",
                      &state->file, ngx_http_bog_state_reasons[reason]);
    }

    bog_memory_free(buf, size);
}


/*
 * Publishes the token of a file.  Returns BOG_STATE_OK, or why the file is to
 * be ignored.
 */

static ngx_uint_t
ngx_http_bog_state_restore(ngx_http_bog_account_t *account, bog_state_t *state,
    ngx_log_t *log)
{
    int64_t                    left;
    ngx_int_t                  rc;
    bog_time_t                 now;
    ngx_http_bog_record_t      record;
    ngx_http_bog_new_token_t   token;

    /* the configuration may have taken seconds, to look up a name */

    ngx_time_update();
    ngx_http_bog_now(&now);

    if (state->life.start > now.wall) {
        return NGX_HTTP_BOG_STATE_FUTURE;
    }

    token.data = (u_char *) state->token;
    token.len = state->len;
    token.lifetime = state->life.lifetime;
    token.start.wall = state->life.start;
    token.start.mono = 0;

    if (bog_oauth_token_id((char *) token.id, token.data, token.len) != 0) {
        return BOG_STATE_FAILED;
    }

    rc = ngx_http_bog_store_restore(account, &token, &state->life);

    if (rc == NGX_DECLINED) {
        ngx_log_error(NGX_LOG_NOTICE, log, 0,
                      "the token in state file \"%V\" has expired",
                      &account->state->file);
    }

    if (rc != NGX_OK) {
        return BOG_STATE_OK;
    }

    (void) ngx_http_bog_store_read(account, &record, NULL, 0);

    ngx_http_bog_store_slot(account)->stored = account->state->hash
                                               + record.number;

    left = bog_times_left(&record.policy.token, &now);

    ngx_log_error(NGX_LOG_NOTICE, log, 0,
                  "token of client id \"%V\" was read from \"%V\", "
                  "it expires in %Ls",
                  &account->client_id, &account->state->file, left / 1000);

    return BOG_STATE_OK;
}


ngx_msec_t
ngx_http_bog_state_manager(void *data)
{
    ngx_http_bog_state_dir_t *dir = data;

    if (dir->accounts->nelts == 0) {
        return NGX_TIMER_INFINITE;
    }

    if (ngx_http_bog_state_dir == NULL) {
        ngx_http_bog_state_dir = dir;

        /* if this fails, a new token is only seen at the next call */

        (void) ngx_http_bog_wake_init_process((ngx_cycle_t *) ngx_cycle,
                                              ngx_http_bog_state_wake_handler);
    }

    /* between two batches nginx manages its caches */

    return ngx_http_bog_state_write(dir, NGX_HTTP_BOG_STATE_BATCH) == NGX_AGAIN
           ? 1 : NGX_HTTP_BOG_STATE_INTERVAL;
}


/*
 * A token was published.  The next call of nginx writes what is more than one
 * batch.
 */

static void
ngx_http_bog_state_wake_handler(ngx_event_t *ev)
{
    (void) ngx_http_bog_state_manager(ngx_http_bog_state_dir);
}


void
ngx_http_bog_state_exit_master(ngx_cycle_t *cycle,
    ngx_http_bog_state_dir_t *dir)
{
    if (dir->path == NULL) {
        return;
    }

    /*
     * The workers have ended, and a disk may be slow: clients must not connect
     * in vain, and the next nginx must not wait for the ports.
     */

    ngx_close_listening_sockets(cycle);

    (void) ngx_http_bog_state_write(dir, dir->accounts->nelts);
}


/*
 * Writes tokens that their files do not have, up to max of them.  Returns
 * NGX_AGAIN if there may be more.
 */

static ngx_int_t
ngx_http_bog_state_write(ngx_http_bog_state_dir_t *dir, ngx_uint_t max)
{
    ngx_fd_t                  fd;
    ngx_int_t                 rc;
    bog_time_t                now;
    ngx_uint_t                i, n;
    ngx_http_bog_slot_t      *slot;
    ngx_http_bog_state_t     *state;
    ngx_http_bog_record_t     record;
    ngx_http_bog_account_t  **accounts, *account;

    static ngx_uint_t  next;

    ngx_http_bog_now(&now);

    accounts = dir->accounts->elts;
    fd = NGX_INVALID_FILE;
    n = 0;

    for (i = 0; i < dir->accounts->nelts && n < max; i++) {

        /* on a slow disk the last accounts have to have their turn, too */

        account = accounts[next++ % dir->accounts->nelts];

        slot = ngx_http_bog_store_slot(account);
        state = account->state;

        /* this comes first: whoever publishes later wakes this process */

        ngx_http_bog_store_wait(account);

        (void) ngx_http_bog_store_read(account, &record, NULL, 0);

        if (record.number == 0
            || slot->stored == state->hash + record.number
            || (record.number == state->tried && now.mono < state->retry))
        {
            continue;
        }

        rc = ngx_http_bog_state_open_dir(dir, account, &fd);

        if (rc == NGX_BUSY) {
            return NGX_OK;
        }

        if (rc == NGX_OK) {
            ngx_http_bog_state_write_file(fd, account, &record);
        }

        state->tried = record.number;
        n++;
    }

    if (fd != NGX_INVALID_FILE) {

        /* if this fails, a crash may bring back the old files: no harm */

        (void) fsync(fd);

        /* this unlocks the folder, too */

        (void) ngx_close_file(fd);
    }

    ngx_http_bog_state_locked = 0;

    return (n == max) ? NGX_AGAIN : NGX_OK;
}


/*
 * Opens the folder and locks it, unless fd is open: while the binary is
 * upgraded, there are two managers.  Returns NGX_BUSY if another process has
 * the lock, or NGX_ERROR, which is logged.
 */

static ngx_int_t
ngx_http_bog_state_open_dir(ngx_http_bog_state_dir_t *dir,
    ngx_http_bog_account_t *account, ngx_fd_t *fd)
{
    ngx_int_t         rc;
    ngx_core_conf_t  *ccf;
    ngx_file_info_t   fi;

    if (*fd != NGX_INVALID_FILE) {
        return NGX_OK;
    }

    *fd = open((char *) dir->path->name.data, O_RDONLY|O_DIRECTORY|O_CLOEXEC);

    if (*fd == NGX_INVALID_FILE) {
        return ngx_http_bog_state_failed(account, "open()", ngx_errno);
    }

    if (geteuid() == 0) {

        /*
         * Another user, who may write to the folder above, could put a link in
         * the place of this one: root must not write to where that leads.
         */

        if (ngx_fd_info(*fd, &fi) == NGX_FILE_ERROR) {
            rc = ngx_http_bog_state_failed(account, "fstat()", ngx_errno);
            goto failed;
        }

        ccf = (ngx_core_conf_t *) ngx_get_conf(ngx_cycle->conf_ctx,
                                               ngx_core_module);

        if (fi.st_uid != ccf->user) {
            rc = ngx_http_bog_state_failed(account, "owner of the folder",
                                           NGX_EPERM);
            goto failed;
        }
    }

    if (flock(*fd, LOCK_EX|LOCK_NB) == 0) {
        return NGX_OK;
    }

    if (ngx_errno == EWOULDBLOCK) {
        ngx_http_bog_state_log_locked(dir);
        rc = NGX_BUSY;

    } else {
        rc = ngx_http_bog_state_failed(account, "flock()", ngx_errno);
    }

failed:

    (void) ngx_close_file(*fd);

    *fd = NGX_INVALID_FILE;

    return rc;
}


/*
 * A process that hangs may keep the lock for ever.  The manager, which tries
 * again each second, logs that once, after a while; the master tries only once.
 */

static void
ngx_http_bog_state_log_locked(ngx_http_bog_state_dir_t *dir)
{
    bog_time_t  now;

    ngx_http_bog_now(&now);

    if (ngx_http_bog_state_locked == 0) {
        ngx_http_bog_state_locked = now.mono;
    }

    if (ngx_process == NGX_PROCESS_HELPER
        && now.mono - ngx_http_bog_state_locked < NGX_HTTP_BOG_STATE_LOCKED)
    {
        return;
    }

    ngx_http_bog_state_locked = INT64_MAX;

    ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                  "another process is writing to \"%V\", "
                  "tokens are not kept for a restart",
                  &dir->path->name);
}


/*
 * Encrypts the token and writes it to its file.  Sets the record to that of the
 * token, which may be newer by now.
 */

static void
ngx_http_bog_state_write_file(ngx_fd_t dir, ngx_http_bog_account_t *account,
    ngx_http_bog_record_t *record)
{
    u_char                *token, *sealed;
    size_t                 size, len;
    ngx_int_t              rc;
    bog_state_t            plain;
    ngx_http_bog_state_t  *state;

    state = account->state;

    size = BOG_OAUTH_TOKEN_MAX + BOG_STATE_MAX;

    token = bog_memory_alloc(size);
    if (token == NULL) {
        (void) ngx_http_bog_state_failed(account, "mmap()", ngx_errno);
        return;
    }

    sealed = token + BOG_OAUTH_TOKEN_MAX;

    (void) ngx_http_bog_store_read(account, record, token,
                                   BOG_OAUTH_TOKEN_MAX);

    plain.life.start = record->start;
    plain.life.lifetime = record->lifetime;
    plain.life.refresh = record->policy.token.refresh_wall;
    plain.token = token;
    plain.len = record->len;

    len = bog_state_seal(sealed, &plain, &state->secret, account->digest);

    rc = len ? ngx_http_bog_state_replace_file(dir, account, sealed, len)
             : ngx_http_bog_state_failed(account, "encryption", 0);

    bog_memory_free(token, size);

    if (rc != NGX_OK) {
        return;
    }

    ngx_http_bog_store_slot(account)->stored = state->hash + record->number;

    ngx_log_error(NGX_LOG_INFO, ngx_cycle->log, 0,
                  "token of client id \"%V\" was written to \"%V\"",
                  &account->client_id, &state->file);

    if (state->err && ngx_http_bog_state_err) {
        ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                      "tokens are kept for a restart again");

        ngx_http_bog_state_err = 0;
    }

    state->err = 0;
}


/*
 * A temporary file gets the new content and then takes the place of the old
 * one, so that there is always one that is whole.
 */

static ngx_int_t
ngx_http_bog_state_replace_file(ngx_fd_t dir, ngx_http_bog_account_t *account,
    u_char *buf, size_t len)
{
    char       *name, temp[NAME_MAX + 1];
    ngx_fd_t    fd;
    ngx_int_t   rc;

    name = (char *) account->state->name;

    ngx_snprintf((u_char *) temp, sizeof(temp), "%s.tmp%Z", name);

    /* a process that was killed may have left it */

    (void) unlinkat(dir, temp, 0);

    fd = openat(dir, temp, O_WRONLY|O_CREAT|O_EXCL|O_NOFOLLOW|O_CLOEXEC, 0600);

    if (fd == NGX_INVALID_FILE) {
        return ngx_http_bog_state_failed(account, "openat()", ngx_errno);
    }

    rc = ngx_http_bog_state_fill_file(fd, account, buf, len);

    if (ngx_close_file(fd) == NGX_FILE_ERROR && rc == NGX_OK) {
        rc = ngx_http_bog_state_failed(account, "close()", ngx_errno);
    }

    if (rc == NGX_OK && renameat(dir, temp, dir, name) == -1) {
        rc = ngx_http_bog_state_failed(account, "renameat()", ngx_errno);
    }

    if (rc != NGX_OK) {
        (void) unlinkat(dir, temp, 0);
    }

    return rc;
}


static ngx_int_t
ngx_http_bog_state_fill_file(ngx_fd_t fd, ngx_http_bog_account_t *account,
    u_char *buf, size_t len)
{
    ssize_t           n;
    ngx_core_conf_t  *ccf;

    /* root is the master; the file belongs to the user of the workers */

    if (geteuid() == 0) {
        ccf = (ngx_core_conf_t *) ngx_get_conf(ngx_cycle->conf_ctx,
                                               ngx_core_module);

        if (fchown(fd, ccf->user, ccf->group) == -1) {
            return ngx_http_bog_state_failed(account, "fchown()", ngx_errno);
        }
    }

    for ( /* void */ ; len; buf += n, len -= n) {

        n = write(fd, buf, len);

        if (n == -1) {
            return ngx_http_bog_state_failed(account, "write()", ngx_errno);
        }
    }

    if (fsync(fd) == -1) {
        return ngx_http_bog_state_failed(account, "fsync()", ngx_errno);
    }

    return NGX_OK;
}


/*
 * Logs that the token was not written, and puts off the next try.  The level is
 * "info" if this file, or the last one that failed, has had the same error.
 * Returns NGX_ERROR.
 */

static ngx_int_t
ngx_http_bog_state_failed(ngx_http_bog_account_t *account, char *what,
    ngx_err_t err)
{
    ngx_uint_t             level;
    bog_time_t             now;
    ngx_http_bog_state_t  *state;

    state = account->state;

    level = (err && (err == state->err || err == ngx_http_bog_state_err))
            ? NGX_LOG_INFO : NGX_LOG_ERR;

    ngx_log_error(level, ngx_cycle->log, err,
                  "%s of state file \"%V\" failed, the token of client id "
                  "\"%V\" is not kept for a restart",
                  what, &state->file, &account->client_id);

    ngx_http_bog_now(&now);

    state->err = err;
    state->retry = now.mono + NGX_HTTP_BOG_STATE_RETRY;

    ngx_http_bog_state_err = err;

    return NGX_ERROR;
}

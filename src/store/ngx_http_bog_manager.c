
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_manager.h"
#include "ngx_http_bog_wake.h"

#include <sys/file.h>


#define NGX_HTTP_BOG_MANAGER_BATCH  32     /* files at a time */
#define NGX_HTTP_BOG_MANAGER_DELAY  10     /* milliseconds, for more to come */
#define NGX_HTTP_BOG_MANAGER_LOOK   1000   /* where nobody wakes us */
#define NGX_HTTP_BOG_MANAGER_RETRY  60000  /* after an error of the disk */
#define NGX_HTTP_BOG_MANAGER_BUSY   30000  /* that others keep us waiting */
#define NGX_HTTP_BOG_MANAGER_IDLE   3600000

/* for a token, and for a file: one byte more tells one that is too long */

#define NGX_HTTP_BOG_MANAGER_MEMORY  (BOG_OAUTH_TOKEN_MAX + BOG_STATE_MAX + 1)


/* a walk through all sources */

typedef struct {
    ngx_http_bog_state_dir_t  *state_dir;
    ngx_log_t                 *log;
    bog_time_t                 now;
    ngx_fd_t                   dir;
    ngx_uint_t                 busy;       /* another process writes there */
    ngx_uint_t                 files;      /* tried */
    u_char                    *token;      /* memory for one, */
    u_char                    *sealed;     /* and for a file */
} ngx_http_bog_walk_t;


static void ngx_http_bog_manager_woken(ngx_event_t *ev);
static void ngx_http_bog_manager_run(ngx_event_t *ev);
static ngx_int_t ngx_http_bog_manager_walk(ngx_http_bog_state_dir_t *dir,
    ngx_uint_t batch);
static void ngx_http_bog_manager_patience(ngx_http_bog_walk_t *walk);
static void ngx_http_bog_manager_locked(ngx_http_bog_state_dir_t *dir,
    ngx_log_t *log);
static void ngx_http_bog_manager_save(ngx_http_bog_walk_t *walk,
    ngx_http_bog_account_t *account);
static char *ngx_http_bog_manager_begin(ngx_http_bog_walk_t *walk);
static char *ngx_http_bog_manager_check_dir(ngx_fd_t dir);
static void ngx_http_bog_manager_end(ngx_http_bog_walk_t *walk);
static char *ngx_http_bog_manager_replace(ngx_http_bog_walk_t *walk,
    ngx_http_bog_account_t *account, ngx_http_bog_record_t *record);
static size_t ngx_http_bog_manager_seal(ngx_http_bog_walk_t *walk,
    ngx_http_bog_account_t *account, ngx_http_bog_record_t *record);
static char *ngx_http_bog_manager_write(ngx_http_bog_walk_t *walk,
    ngx_fd_t fd, size_t len);
static void ngx_http_bog_manager_failed(ngx_http_bog_walk_t *walk,
    ngx_http_bog_account_t *account, char *what, ngx_err_t err);
static void ngx_http_bog_manager_done(ngx_http_bog_walk_t *walk,
    ngx_http_bog_account_t *account);


static ngx_event_t                ngx_http_bog_manager_timer;
static ngx_http_bog_state_dir_t  *ngx_http_bog_manager_dir;
static ngx_uint_t                 ngx_http_bog_manager_next;
static ngx_err_t                  ngx_http_bog_manager_err;
static int64_t                    ngx_http_bog_manager_waits;
                                           /* mono: since when, 0: not, -1:
                                              this was said */


ngx_msec_t
ngx_http_bog_manager(void *data)
{
    static void  *ident[4];

    if (ngx_http_bog_manager_dir == NULL) {
        ngx_http_bog_manager_dir = data;

        ident[3] = (void *) -1;

        ngx_http_bog_manager_timer.handler = ngx_http_bog_manager_run;
        ngx_http_bog_manager_timer.data = ident;
        ngx_http_bog_manager_timer.log = ngx_cycle->log;

        /* without it, what is new waits for the next look */

        (void) ngx_http_bog_wake_init_process((ngx_cycle_t *) ngx_cycle,
                                              ngx_http_bog_manager_woken);
    }

    if (ngx_http_bog_manager_dir->accounts->nelts == 0) {
        return NGX_HTTP_BOG_MANAGER_IDLE;
    }

    ngx_http_bog_manager_run(&ngx_http_bog_manager_timer);

    return NGX_HTTP_BOG_MANAGER_LOOK;
}


/* of many tokens that come at once, all go to the disk together */

static void
ngx_http_bog_manager_woken(ngx_event_t *ev)
{
    if (!ngx_http_bog_manager_timer.timer_set) {
        ngx_add_timer(&ngx_http_bog_manager_timer, NGX_HTTP_BOG_MANAGER_DELAY);
    }
}


/* caches may have their turn between two batches */

static void
ngx_http_bog_manager_run(ngx_event_t *ev)
{
    if (ngx_http_bog_manager_walk(ngx_http_bog_manager_dir,
                                  NGX_HTTP_BOG_MANAGER_BATCH)
        == NGX_AGAIN)
    {
        ngx_add_timer(&ngx_http_bog_manager_timer, 1);
    }
}


void
ngx_http_bog_manager_exit_master(ngx_cycle_t *cycle,
    ngx_http_bog_state_dir_t *dir)
{
    if (dir->path == NULL) {
        return;
    }

    /*
     * No worker is there, and a disk may be slow: clients and the nginx that
     * comes next are not to wait for it.
     */

    ngx_close_listening_sockets(cycle);

    if (ngx_http_bog_manager_walk(dir, dir->accounts->nelts) == NGX_BUSY) {
        ngx_http_bog_manager_locked(dir, cycle->log);
    }
}


/*
 * NGX_AGAIN: the batch was too small for all that is to be written; NGX_BUSY:
 * another process is writing.
 */

static ngx_int_t
ngx_http_bog_manager_walk(ngx_http_bog_state_dir_t *dir, ngx_uint_t batch)
{
    ngx_uint_t                i;
    ngx_http_bog_walk_t       walk;
    ngx_http_bog_account_t  **account;

    ngx_memzero(&walk, sizeof(ngx_http_bog_walk_t));

    walk.state_dir = dir;
    walk.log = ngx_cycle->log;
    walk.dir = NGX_INVALID_FILE;

    ngx_http_bog_now(&walk.now);

    account = dir->accounts->elts;

    /* on from where the last one has ended, so that each has its turn */

    for (i = 0;
         i < dir->accounts->nelts && walk.files < batch && !walk.busy;
         i++)
    {
        ngx_http_bog_manager_next %= dir->accounts->nelts;

        ngx_http_bog_manager_save(&walk, account[ngx_http_bog_manager_next++]);
    }

    ngx_http_bog_manager_end(&walk);
    ngx_http_bog_manager_patience(&walk);

    if (walk.busy) {
        return NGX_BUSY;
    }

    return (i < dir->accounts->nelts) ? NGX_AGAIN : NGX_OK;
}


/* one that hangs keeps all the others from writing, for as long as it does */

static void
ngx_http_bog_manager_patience(ngx_http_bog_walk_t *walk)
{
    if (!walk->busy) {
        ngx_http_bog_manager_waits = 0;
        return;
    }

    if (ngx_http_bog_manager_waits == 0) {
        ngx_http_bog_manager_waits = walk->now.mono;
        return;
    }

    if (ngx_http_bog_manager_waits != -1
        && walk->now.mono - ngx_http_bog_manager_waits
           >= NGX_HTTP_BOG_MANAGER_BUSY)
    {
        ngx_http_bog_manager_waits = -1;
        ngx_http_bog_manager_locked(walk->state_dir, walk->log);
    }
}


static void
ngx_http_bog_manager_locked(ngx_http_bog_state_dir_t *dir, ngx_log_t *log)
{
    ngx_log_error(NGX_LOG_WARN, log, 0,
                  "another process is writing to \"%V\", "
                  "tokens are not kept for a restart",
                  &dir->path->name);
}


static void
ngx_http_bog_manager_save(ngx_http_bog_walk_t *walk,
    ngx_http_bog_account_t *account)
{
    char                   *what;
    ngx_err_t               err;
    ngx_atomic_uint_t       version, mark;
    ngx_http_bog_slot_t    *slot;
    ngx_http_bog_state_t   *state;
    ngx_http_bog_record_t   record;

    slot = ngx_http_bog_store_slot(account);
    state = account->state;

    /* who publishes is to wake us: said first, and looked at afterwards */

    ngx_http_bog_store_wait(account);

    if (slot->version == state->version) {
        return;
    }

    version = ngx_http_bog_store_read(account, &record, NULL, 0);
    mark = ngx_http_bog_state_mark(state, &record);

    if (record.token == 0 || mark == slot->stored) {
        state->version = version;
        return;
    }

    if (mark == state->failed && walk->now.mono < state->retry) {
        return;
    }

    walk->files++;

    what = ngx_http_bog_manager_begin(walk);

    if (what == NULL) {
        what = ngx_http_bog_manager_replace(walk, account, &record);
    }

    if (walk->busy) {
        return;
    }

    if (what) {
        err = ngx_errno;

        state->failed = mark;
        ngx_http_bog_manager_failed(walk, account, what, err);
        return;
    }

    slot->stored = ngx_http_bog_state_mark(state, &record);

    ngx_http_bog_manager_done(walk, account);
}


/*
 * Of two managers, while a binary is upgraded, one writes at a time.  Returns
 * what has failed, as all of these do.
 */

static char *
ngx_http_bog_manager_begin(ngx_http_bog_walk_t *walk)
{
    char       *what;
    ngx_err_t   err;

    if (walk->token == NULL) {
        walk->token = bog_memory_alloc(NGX_HTTP_BOG_MANAGER_MEMORY);

        if (walk->token == NULL) {
            return "mmap()";
        }

        walk->sealed = walk->token + BOG_OAUTH_TOKEN_MAX;
    }

    if (walk->dir != NGX_INVALID_FILE) {
        return NULL;
    }

    walk->dir = open((char *) walk->state_dir->path->name.data,
                     O_RDONLY|O_DIRECTORY|O_CLOEXEC);

    if (walk->dir == NGX_INVALID_FILE) {
        return "open()";
    }

    what = ngx_http_bog_manager_check_dir(walk->dir);

    if (what == NULL) {
        if (flock(walk->dir, LOCK_EX|LOCK_NB) == 0) {
            return NULL;
        }

        what = "flock()";
    }

    err = ngx_errno;

    (void) ngx_close_file(walk->dir);

    walk->dir = NGX_INVALID_FILE;
    walk->busy = (err == EWOULDBLOCK);

    ngx_set_errno(err);

    return what;
}


/*
 * Whoever may write to the folder above can put a link in the folder's place:
 * root is not to make files wherever that points to.
 */

static char *
ngx_http_bog_manager_check_dir(ngx_fd_t dir)
{
    ngx_core_conf_t  *ccf;
    ngx_file_info_t   fi;

    if (geteuid() != 0) {
        return NULL;
    }

    if (ngx_fd_info(dir, &fi) == NGX_FILE_ERROR) {
        return "fstat()";
    }

    ccf = (ngx_core_conf_t *) ngx_get_conf(ngx_cycle->conf_ctx,
                                           ngx_core_module);

    if (fi.st_uid != ccf->user) {
        ngx_set_errno(NGX_EPERM);
        return "owner of the folder";
    }

    return NULL;
}


static void
ngx_http_bog_manager_end(ngx_http_bog_walk_t *walk)
{
    bog_memory_free(walk->token, NGX_HTTP_BOG_MANAGER_MEMORY);

    if (walk->dir == NGX_INVALID_FILE) {
        return;
    }

    /* where that is lost, the file of before is there again, and no worse */

    (void) fsync(walk->dir);

    /* this unlocks it, too */

    (void) ngx_close_file(walk->dir);
}


static char *
ngx_http_bog_manager_replace(ngx_http_bog_walk_t *walk,
    ngx_http_bog_account_t *account, ngx_http_bog_record_t *record)
{
    char                  *what;
    size_t                 len;
    ngx_fd_t               fd;
    ngx_err_t              err;
    ngx_http_bog_state_t  *state;

    state = account->state;

    (void) ngx_http_bog_store_read(account, record, walk->token,
                                   BOG_OAUTH_TOKEN_MAX);

    len = ngx_http_bog_manager_seal(walk, account, record);
    if (len == 0) {
        ngx_set_errno(0);
        return "encryption";
    }

    /* what a process left behind that was killed in the middle of this */

    (void) unlinkat(walk->dir, (char *) state->temp, 0);

    fd = openat(walk->dir, (char *) state->temp,
                O_WRONLY|O_CREAT|O_EXCL|O_NOFOLLOW|O_CLOEXEC, 0600);

    if (fd == NGX_INVALID_FILE) {
        return "openat()";
    }

    what = ngx_http_bog_manager_write(walk, fd, len);
    err = ngx_errno;

    if (ngx_close_file(fd) == NGX_FILE_ERROR && what == NULL) {
        what = "close()";
        err = ngx_errno;
    }

    if (what == NULL
        && renameat(walk->dir, (char *) state->temp,
                    walk->dir, (char *) state->name) == -1)
    {
        what = "renameat()";
        err = ngx_errno;
    }

    if (what) {
        (void) unlinkat(walk->dir, (char *) state->temp, 0);
        ngx_set_errno(err);
    }

    return what;
}


static size_t
ngx_http_bog_manager_seal(ngx_http_bog_walk_t *walk,
    ngx_http_bog_account_t *account, ngx_http_bog_record_t *record)
{
    bog_state_t            opened;
    ngx_http_bog_state_t  *state;

    state = account->state;

    opened.life.start = record->start;
    opened.life.lifetime = record->lifetime;
    opened.life.refresh = record->policy.token.refresh_wall;
    opened.token = walk->token;
    opened.len = record->len;

    return bog_state_seal(walk->sealed, &opened, &state->secret,
                          account->digest);
}


static char *
ngx_http_bog_manager_write(ngx_http_bog_walk_t *walk, ngx_fd_t fd,
    size_t len)
{
    u_char           *p;
    ssize_t           n;
    ngx_core_conf_t  *ccf;

    /* the master, at its end, writes for the manager of the next one */

    if (geteuid() == 0) {
        ccf = (ngx_core_conf_t *) ngx_get_conf(ngx_cycle->conf_ctx,
                                               ngx_core_module);

        if (fchown(fd, ccf->user, ccf->group) == -1) {
            return "fchown()";
        }
    }

    for (p = walk->sealed; len; p += n, len -= n) {

        n = write(fd, p, len);

        if (n == -1) {
            return "write()";
        }
    }

    return (fsync(fd) == -1) ? "fsync()" : NULL;
}


/* what goes on failing, or fails for all alike, need not be said each time */

static void
ngx_http_bog_manager_failed(ngx_http_bog_walk_t *walk,
    ngx_http_bog_account_t *account, char *what, ngx_err_t err)
{
    ngx_uint_t             level;
    ngx_http_bog_state_t  *state;

    state = account->state;

    level = (err && (err == state->err || err == ngx_http_bog_manager_err))
            ? NGX_LOG_INFO : NGX_LOG_ERR;

    ngx_log_error(level, walk->log, err,
                  "%s of state file \"%V\" failed, the token of client id "
                  "\"%V\" is not kept for a restart",
                  what, &state->file, &account->client_id);

    state->err = err;
    state->retry = walk->now.mono + NGX_HTTP_BOG_MANAGER_RETRY;

    ngx_http_bog_manager_err = err;
}


static void
ngx_http_bog_manager_done(ngx_http_bog_walk_t *walk,
    ngx_http_bog_account_t *account)
{
    ngx_http_bog_state_t  *state;

    state = account->state;

    ngx_log_error(NGX_LOG_INFO, walk->log, 0,
                  "token of client id \"%V\" was written to \"%V\"",
                  &account->client_id, &state->file);

    if (state->err && ngx_http_bog_manager_err) {
        ngx_log_error(NGX_LOG_NOTICE, walk->log, 0,
                      "tokens are kept for a restart again");

        ngx_http_bog_manager_err = 0;
    }

    state->err = 0;
}

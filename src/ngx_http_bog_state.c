
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_compat.h"
#include "ngx_http_bog_state.h"
#include "ngx_http_bog_token.h"
#include "ngx_http_bog_vault.h"
#include "ngx_http_bog_wake.h"

#include "bog_state.h"

#include <sys/file.h>


#define NGX_HTTP_BOG_STATE_NAME   32       /* hex digits in a file's name */

#define NGX_HTTP_BOG_STATE_BATCH  32       /* files at a time */
#define NGX_HTTP_BOG_STATE_DELAY  10       /* milliseconds, for more to come */
#define NGX_HTTP_BOG_STATE_LOOK   1000     /* where nobody wakes us */
#define NGX_HTTP_BOG_STATE_RETRY  60000    /* after an error of the disk */
#define NGX_HTTP_BOG_STATE_IDLE   3600000
#define NGX_HTTP_BOG_STATE_BUSY   30000    /* that others may keep us waiting */

/* for a token, and for a file: one byte more tells one that is too long */

#define NGX_HTTP_BOG_STATE_MEMORY  (BOG_OAUTH_TOKEN_MAX + BOG_STATE_MAX + 1)


/* why a file is ignored, beyond what bog_state_status_e has */

#define NGX_HTTP_BOG_STATE_LINK    (BOG_STATE_FAILED + 1)
#define NGX_HTTP_BOG_STATE_NOFILE  (BOG_STATE_FAILED + 2)
#define NGX_HTTP_BOG_STATE_FUTURE  (BOG_STATE_FAILED + 3)


struct ngx_http_bog_state_s {
    ngx_str_t                  file;
    u_char                    *name;       /* of the file in its folder, */
    u_char                    *temp;       /* and of what becomes the file */
    ngx_atomic_uint_t          place;      /* tells one file from another */
    ngx_str_t                  secret;     /* in the vault */

    /* in the process that writes */

    ngx_atomic_uint_t          version;    /* of the record, last seen */
    ngx_atomic_uint_t          failed;     /* what could not be written, */
    ngx_err_t                  err;        /* why, */
    int64_t                    retry;      /* mono: and when it may be again */
};


/* a walk through all sources, by who writes */

typedef struct {
    ngx_http_bog_main_conf_t  *bmcf;
    ngx_log_t                 *log;
    bog_time_t                 now;
    ngx_fd_t                   dir;
    ngx_uint_t                 busy;       /* another process writes there */
    ngx_uint_t                 files;      /* tried */
    u_char                    *token;      /* memory for one, */
    u_char                    *sealed;     /* and for a file */
} ngx_http_bog_state_walk_t;


static ngx_uint_t ngx_http_bog_state_alike(ngx_http_bog_main_conf_t *bmcf,
    u_char *name);
static void ngx_http_bog_state_load(ngx_http_bog_account_t *account,
    ngx_log_t *log);
static ssize_t ngx_http_bog_state_read(ngx_str_t *file, u_char *buf,
    ngx_log_t *log);
static ngx_uint_t ngx_http_bog_state_check_file(ngx_str_t *file, ngx_fd_t fd,
    ngx_log_t *log);
static void ngx_http_bog_state_restore(ngx_http_bog_account_t *account,
    bog_state_t *state, ngx_log_t *log);
static void ngx_http_bog_state_ignore(ngx_str_t *file, ngx_uint_t reason,
    ngx_log_t *log);
static void ngx_http_bog_state_woken(void);
static void ngx_http_bog_state_timer_handler(ngx_event_t *ev);
static void ngx_http_bog_state_run(void);
static ngx_int_t ngx_http_bog_state_walk(ngx_http_bog_main_conf_t *bmcf,
    ngx_uint_t batch);
static void ngx_http_bog_state_patience(ngx_http_bog_state_walk_t *walk);
static void ngx_http_bog_state_locked(ngx_http_bog_main_conf_t *bmcf,
    ngx_log_t *log);
static void ngx_http_bog_state_save(ngx_http_bog_state_walk_t *walk,
    ngx_http_bog_account_t *account);
static ngx_atomic_uint_t ngx_http_bog_state_mark(ngx_http_bog_state_t *state,
    ngx_http_bog_record_t *record);
static char *ngx_http_bog_state_begin(ngx_http_bog_state_walk_t *walk);
static char *ngx_http_bog_state_check_dir(ngx_fd_t dir);
static void ngx_http_bog_state_end(ngx_http_bog_state_walk_t *walk);
static char *ngx_http_bog_state_replace(ngx_http_bog_state_walk_t *walk,
    ngx_http_bog_account_t *account, ngx_http_bog_record_t *record);
static size_t ngx_http_bog_state_seal(ngx_http_bog_state_walk_t *walk,
    ngx_http_bog_account_t *account, ngx_http_bog_record_t *record);
static char *ngx_http_bog_state_write(ngx_http_bog_state_walk_t *walk,
    ngx_fd_t fd, size_t len);
static char *ngx_http_bog_state_forget(ngx_http_bog_state_walk_t *walk,
    ngx_http_bog_account_t *account, ngx_http_bog_record_t *record);
static char *ngx_http_bog_state_remove(ngx_http_bog_state_walk_t *walk,
    ngx_http_bog_account_t *account);
static ngx_uint_t ngx_http_bog_state_others(ngx_http_bog_state_walk_t *walk,
    ngx_http_bog_account_t *account);
static void ngx_http_bog_state_failed(ngx_http_bog_state_walk_t *walk,
    ngx_http_bog_account_t *account, char *what, ngx_err_t err);
static void ngx_http_bog_state_done(ngx_http_bog_state_walk_t *walk,
    ngx_http_bog_account_t *account, ngx_http_bog_record_t *record);


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


/* of the process that writes */

static ngx_event_t                ngx_http_bog_state_timer;
static ngx_http_bog_main_conf_t  *ngx_http_bog_state_bmcf;
static ngx_uint_t                 ngx_http_bog_state_next;
static ngx_err_t                  ngx_http_bog_state_err;
static int64_t                    ngx_http_bog_state_waits;
                                               /* mono: since when, 0: no, or
                                                  -1: this was said */


ngx_http_bog_state_t *
ngx_http_bog_state_create(ngx_conf_t *cf, u_char digest[BOG_OAUTH_DIGEST_LEN],
    ngx_str_t *secret)
{
    size_t                     len;
    u_char                    *last;
    ngx_str_t                 *dir;
    ngx_uint_t                 n;
    ngx_http_bog_state_t      *state;
    ngx_http_bog_main_conf_t  *bmcf;

    bmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_bog_module);

    state = ngx_pcalloc(cf->pool, sizeof(ngx_http_bog_state_t));
    if (state == NULL) {
        return NULL;
    }

    dir = &bmcf->state_path->name;
    len = NGX_HTTP_BOG_STATE_NAME + sizeof("-") + NGX_INT_T_LEN;

    state->file.data = ngx_pnalloc(cf->pool, dir->len + 1 + len);
    state->temp = ngx_pnalloc(cf->pool, len + sizeof(".tmp") - 1);
    state->secret.data = ngx_http_bog_vault_alloc(bmcf->requests, secret->len);

    if (state->file.data == NULL || state->temp == NULL
        || state->secret.data == NULL)
    {
        return NULL;
    }

    ngx_memcpy(state->secret.data, secret->data, secret->len);
    state->secret.len = secret->len;

    state->name = ngx_sprintf(state->file.data, "%V/", dir);
    last = ngx_hex_dump(state->name, digest, NGX_HTTP_BOG_STATE_NAME / 2);

    n = ngx_http_bog_state_alike(bmcf, state->name);

    if (n) {
        last = ngx_sprintf(last, "-%ui", n + 1);
    }

    *last = '\0';

    state->file.len = last - state->file.data;
    state->place = ngx_crc32_long(state->file.data, state->file.len);

    ngx_sprintf(state->temp, "%s.tmp%Z", state->name);

    return state;
}


/* those that differ in nothing but the secret are told apart by order */

static ngx_uint_t
ngx_http_bog_state_alike(ngx_http_bog_main_conf_t *bmcf, u_char *name)
{
    ngx_uint_t                i, n;
    ngx_http_bog_account_t  **account;

    account = bmcf->accounts.elts;
    n = 0;

    for (i = 0; i < bmcf->accounts.nelts; i++) {
        if (ngx_memcmp(account[i]->state->name, name, NGX_HTTP_BOG_STATE_NAME)
            == 0)
        {
            n++;
        }
    }

    return n;
}


void
ngx_http_bog_state_init_module(ngx_cycle_t *cycle)
{
    ngx_uint_t                  i;
    ngx_core_conf_t            *ccf;
    ngx_http_bog_account_t    **account;
    ngx_http_bog_main_conf_t   *bmcf;

    bmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_bog_module);

    if (bmcf == NULL || bmcf->state_path == NULL || ngx_test_config) {
        return;
    }

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    if (!ccf->master) {
        ngx_log_error(NGX_LOG_WARN, cycle->log, 0,
                      "without a master process tokens are written to "
                      "\"%V\" only when nginx ends",
                      &bmcf->state_path->name);
    }

    account = bmcf->accounts.elts;

    for (i = 0; i < bmcf->accounts.nelts; i++) {

        /* after a reload, all others have gone on */

        if (ngx_http_bog_store_untouched(account[i])) {
            ngx_http_bog_state_load(account[i], cycle->log);
        }
    }
}


static void
ngx_http_bog_state_load(ngx_http_bog_account_t *account, ngx_log_t *log)
{
    u_char                *buf;
    size_t                 size;
    ssize_t                n;
    bog_str_t              secret;
    bog_state_t            opened;
    bog_state_status_e     status;
    ngx_http_bog_state_t  *state;

    state = account->state;

    /* one byte more tells a file that is too long */

    size = BOG_STATE_MAX + 1;

    buf = bog_memory_alloc(size);
    if (buf == NULL) {
        ngx_log_error(NGX_LOG_WARN, log, ngx_errno,
                      "no memory to read state file \"%V\", it is ignored",
                      &state->file);
        return;
    }

    n = ngx_http_bog_state_read(&state->file, buf, log);

    if (n != NGX_ERROR) {
        secret.data = state->secret.data;
        secret.len = state->secret.len;

        status = bog_state_open(&opened, buf, n, &secret, account->digest);

        if (status == BOG_STATE_OK) {
            ngx_http_bog_state_restore(account, &opened, log);

        } else {
            ngx_http_bog_state_ignore(&state->file, status, log);
        }
    }

    bog_memory_free(buf, size);
}


/*
 * The folder belongs to the user of the workers, and this is root: whatever is
 * there may be meant to be something else.
 */

static ssize_t
ngx_http_bog_state_read(ngx_str_t *file, u_char *buf, ngx_log_t *log)
{
    size_t     len;
    ssize_t    n;
    ngx_fd_t   fd;
    ngx_err_t  err;

    fd = open((char *) file->data, O_RDONLY|O_NOFOLLOW|O_NONBLOCK|O_CLOEXEC);

    if (fd == NGX_INVALID_FILE) {
        err = ngx_errno;

        if (err == NGX_ELOOP) {
            ngx_http_bog_state_ignore(file, NGX_HTTP_BOG_STATE_LINK, log);

        } else if (err != NGX_ENOENT) {
            ngx_log_error(NGX_LOG_WARN, log, err,
                          "open() of state file \"%V\" failed, it is ignored",
                          file);
        }

        return NGX_ERROR;
    }

    if (!ngx_http_bog_state_check_file(file, fd, log)) {
        (void) ngx_close_file(fd);
        return NGX_ERROR;
    }

    len = 0;

    do {
        n = ngx_read_fd(fd, buf + len, BOG_STATE_MAX + 1 - len);

        if (n == -1) {
            ngx_log_error(NGX_LOG_WARN, log, ngx_errno,
                          "read() of state file \"%V\" failed, it is ignored",
                          file);
            break;
        }

        len += n;

    } while (n && len < BOG_STATE_MAX + 1);

    (void) ngx_close_file(fd);

    return (n == -1) ? NGX_ERROR : (ssize_t) len;
}


static ngx_uint_t
ngx_http_bog_state_check_file(ngx_str_t *file, ngx_fd_t fd, ngx_log_t *log)
{
    ngx_file_info_t  fi;

    if (ngx_fd_info(fd, &fi) == NGX_FILE_ERROR) {
        ngx_log_error(NGX_LOG_WARN, log, ngx_errno,
                      "fstat() of state file \"%V\" failed, it is ignored",
                      file);
        return 0;
    }

    if (!ngx_is_file(&fi)) {
        ngx_http_bog_state_ignore(file, NGX_HTTP_BOG_STATE_NOFILE, log);
        return 0;
    }

    return 1;
}


static void
ngx_http_bog_state_restore(ngx_http_bog_account_t *account, bog_state_t *state,
    ngx_log_t *log)
{
    int64_t                    left;
    ngx_int_t                  rc;
    bog_time_t                 now;
    ngx_http_bog_slot_t       *slot;
    ngx_http_bog_record_t      record;
    ngx_http_bog_new_token_t   token;

    /* a name that was looked up since may have taken its time */

    ngx_time_update();
    ngx_http_bog_now(&now);

    token.data = (u_char *) state->token;
    token.len = state->len;
    token.lifetime = state->life.lifetime;
    token.start.wall = state->life.start;
    token.start.mono = 0;

    if (state->life.start > now.wall) {
        ngx_http_bog_state_ignore(&account->state->file,
                                  NGX_HTTP_BOG_STATE_FUTURE, log);
        return;
    }

    if (bog_oauth_token_id((char *) token.id, token.data, token.len) != 0) {
        ngx_http_bog_state_ignore(&account->state->file, BOG_STATE_FAILED,
                                  log);
        return;
    }

    rc = ngx_http_bog_store_restore(account, &token, &state->life, &now);

    if (rc == NGX_DECLINED) {
        ngx_log_error(NGX_LOG_NOTICE, log, 0,
                      "the token in state file \"%V\" has expired",
                      &account->state->file);
        return;
    }

    if (rc != NGX_OK) {
        return;
    }

    (void) ngx_http_bog_store_read(account, &record, NULL, 0);

    /* the file has it */

    slot = ngx_http_bog_store_slot(account);
    slot->stored = ngx_http_bog_state_mark(account->state, &record);
    ngx_memcpy(slot->stored_id, record.id, sizeof(slot->stored_id));

    left = record.policy.until - now.mono;

    ngx_log_error(NGX_LOG_NOTICE, log, 0,
                  "token of client id \"%V\" was read from \"%V\", "
                  "it is valid for %Ls",
                  &account->client_id, &account->state->file, left / 1000);
}


static void
ngx_http_bog_state_ignore(ngx_str_t *file, ngx_uint_t reason, ngx_log_t *log)
{
    ngx_log_error(NGX_LOG_WARN, log, 0, "state file \"%V\" is ignored: %s",
                  file, ngx_http_bog_state_reasons[reason]);
}


ngx_msec_t
ngx_http_bog_state_manager(void *data)
{
    static void  *ident[4];

    if (ngx_http_bog_state_bmcf == NULL) {
        ngx_http_bog_state_bmcf = data;

        ident[3] = (void *) -1;

        ngx_http_bog_state_timer.handler = ngx_http_bog_state_timer_handler;
        ngx_http_bog_state_timer.data = ident;
        ngx_http_bog_state_timer.log = ngx_cycle->log;

        /* without it, what is new waits for the next look */

        (void) ngx_http_bog_wake_init_process((ngx_cycle_t *) ngx_cycle,
                                              ngx_http_bog_state_woken);
    }

    if (ngx_http_bog_state_bmcf->accounts.nelts == 0) {
        return NGX_HTTP_BOG_STATE_IDLE;
    }

    ngx_http_bog_state_run();

    return NGX_HTTP_BOG_STATE_LOOK;
}


/* of many tokens that come at once, all go to the disk together */

static void
ngx_http_bog_state_woken(void)
{
    if (!ngx_http_bog_state_timer.timer_set) {
        ngx_add_timer(&ngx_http_bog_state_timer, NGX_HTTP_BOG_STATE_DELAY);
    }
}


static void
ngx_http_bog_state_timer_handler(ngx_event_t *ev)
{
    ngx_http_bog_state_run();
}


/* caches may have their turn between two batches */

static void
ngx_http_bog_state_run(void)
{
    if (ngx_http_bog_state_walk(ngx_http_bog_state_bmcf,
                                NGX_HTTP_BOG_STATE_BATCH)
        == NGX_AGAIN)
    {
        ngx_add_timer(&ngx_http_bog_state_timer, 1);
    }
}


void
ngx_http_bog_state_exit_master(ngx_cycle_t *cycle)
{
    ngx_http_bog_main_conf_t  *bmcf;

    bmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_bog_module);

    if (bmcf == NULL || bmcf->state_path == NULL) {
        return;
    }

    /*
     * No worker is there, and a disk may be slow: clients and the nginx that
     * comes next are not to wait for it.
     */

    ngx_close_listening_sockets(cycle);

    if (ngx_http_bog_state_walk(bmcf, bmcf->accounts.nelts) == NGX_BUSY) {
        ngx_http_bog_state_locked(bmcf, cycle->log);
    }
}


/*
 * NGX_AGAIN: the batch was too small for all that is to be written; NGX_BUSY:
 * another process is writing.
 */

static ngx_int_t
ngx_http_bog_state_walk(ngx_http_bog_main_conf_t *bmcf, ngx_uint_t batch)
{
    ngx_uint_t                   i;
    ngx_http_bog_account_t     **account;
    ngx_http_bog_state_walk_t    walk;

    ngx_memzero(&walk, sizeof(ngx_http_bog_state_walk_t));

    walk.bmcf = bmcf;
    walk.log = ngx_cycle->log;
    walk.dir = NGX_INVALID_FILE;

    ngx_http_bog_now(&walk.now);

    account = bmcf->accounts.elts;

    /* on from where the last one has ended, so that each has its turn */

    for (i = 0;
         i < bmcf->accounts.nelts && walk.files < batch && !walk.busy;
         i++)
    {
        ngx_http_bog_state_next %= bmcf->accounts.nelts;

        ngx_http_bog_state_save(&walk, account[ngx_http_bog_state_next++]);
    }

    ngx_http_bog_state_end(&walk);
    ngx_http_bog_state_patience(&walk);

    if (walk.busy) {
        return NGX_BUSY;
    }

    return (i < bmcf->accounts.nelts) ? NGX_AGAIN : NGX_OK;
}


/* one that hangs keeps all the others from writing, for as long as it does */

static void
ngx_http_bog_state_patience(ngx_http_bog_state_walk_t *walk)
{
    if (!walk->busy) {
        ngx_http_bog_state_waits = 0;
        return;
    }

    if (ngx_http_bog_state_waits == 0) {
        ngx_http_bog_state_waits = walk->now.mono;
        return;
    }

    if (ngx_http_bog_state_waits != -1
        && walk->now.mono - ngx_http_bog_state_waits
           >= NGX_HTTP_BOG_STATE_BUSY)
    {
        ngx_http_bog_state_waits = -1;
        ngx_http_bog_state_locked(walk->bmcf, walk->log);
    }
}


static void
ngx_http_bog_state_locked(ngx_http_bog_main_conf_t *bmcf, ngx_log_t *log)
{
    ngx_log_error(NGX_LOG_WARN, log, 0,
                  "another process is writing to \"%V\", "
                  "tokens are not kept for a restart",
                  &bmcf->state_path->name);
}


static void
ngx_http_bog_state_save(ngx_http_bog_state_walk_t *walk,
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

    what = ngx_http_bog_state_begin(walk);

    if (walk->busy) {
        return;
    }

    if (what == NULL) {
        what = ngx_http_bog_state_forget(walk, account, &record);
    }

    if (what == NULL) {
        what = record.len ? ngx_http_bog_state_replace(walk, account, &record)
                          : ngx_http_bog_state_remove(walk, account);
    }

    if (what) {
        err = ngx_errno;

        state->failed = mark;
        ngx_http_bog_state_failed(walk, account, what, err);
        return;
    }

    slot->stored = ngx_http_bog_state_mark(state, &record);

    if (record.len) {
        ngx_memcpy(slot->stored_id, record.id, sizeof(slot->stored_id));
    }

    ngx_http_bog_state_done(walk, account, &record);
}


/*
 * What a file has: a token, or that the API has rejected it, and which file.
 * Another one, after a reload, is to have it too.
 */

static ngx_atomic_uint_t
ngx_http_bog_state_mark(ngx_http_bog_state_t *state,
    ngx_http_bog_record_t *record)
{
    return state->place + 2 * record->token + (record->len == 0);
}


/*
 * Of two managers, while a binary is upgraded, one writes at a time.  Returns
 * what has failed, as all of these do.
 */

static char *
ngx_http_bog_state_begin(ngx_http_bog_state_walk_t *walk)
{
    char       *what;
    ngx_err_t   err;

    if (walk->token == NULL) {
        walk->token = bog_memory_alloc(NGX_HTTP_BOG_STATE_MEMORY);

        if (walk->token == NULL) {
            return "mmap()";
        }

        walk->sealed = walk->token + BOG_OAUTH_TOKEN_MAX;
    }

    if (walk->dir != NGX_INVALID_FILE) {
        return NULL;
    }

    walk->dir = open((char *) walk->bmcf->state_path->name.data,
                     O_RDONLY|O_DIRECTORY|O_CLOEXEC);

    if (walk->dir == NGX_INVALID_FILE) {
        return "open()";
    }

    what = ngx_http_bog_state_check_dir(walk->dir);

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
ngx_http_bog_state_check_dir(ngx_fd_t dir)
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
ngx_http_bog_state_end(ngx_http_bog_state_walk_t *walk)
{
    bog_memory_free(walk->token, NGX_HTTP_BOG_STATE_MEMORY);

    if (walk->dir == NGX_INVALID_FILE) {
        return;
    }

    /* where that is lost, the file of before is there again, and no worse */

    (void) fsync(walk->dir);

    /* this unlocks it, too */

    (void) ngx_close_file(walk->dir);
}


static char *
ngx_http_bog_state_replace(ngx_http_bog_state_walk_t *walk,
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

    /* it may have been dropped since it was last looked at */

    if (record->len == 0) {
        return ngx_http_bog_state_remove(walk, account);
    }

    len = ngx_http_bog_state_seal(walk, account, record);
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

    what = ngx_http_bog_state_write(walk, fd, len);
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
ngx_http_bog_state_seal(ngx_http_bog_state_walk_t *walk,
    ngx_http_bog_account_t *account, ngx_http_bog_record_t *record)
{
    bog_str_t              secret;
    bog_state_t            opened;
    ngx_http_bog_state_t  *state;

    state = account->state;

    opened.life.start = record->start;
    opened.life.lifetime = record->lifetime;
    opened.life.refresh = record->policy.refresh_wall;
    opened.token = walk->token;
    opened.len = record->len;

    secret.data = state->secret.data;
    secret.len = state->secret.len;

    return bog_state_seal(walk->sealed, &opened, &secret, account->digest);
}


static char *
ngx_http_bog_state_write(ngx_http_bog_state_walk_t *walk, ngx_fd_t fd,
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


/*
 * Another token is often there before anybody looks.  It may be that it cannot
 * be written, and the one that the API has rejected is not to stay.
 */

static char *
ngx_http_bog_state_forget(ngx_http_bog_state_walk_t *walk,
    ngx_http_bog_account_t *account, ngx_http_bog_record_t *record)
{
    char                   *what;
    ngx_atomic_uint_t       mark;
    ngx_http_bog_slot_t    *slot;
    ngx_http_bog_state_t   *state;

    slot = ngx_http_bog_store_slot(account);
    state = account->state;

    mark = state->place + 2 * record->dropped;

    if (record->dropped == 0 || slot->stored != mark) {
        return NULL;
    }

    what = ngx_http_bog_state_remove(walk, account);

    if (what == NULL) {
        slot->stored = mark + 1;
    }

    return what;
}


static char *
ngx_http_bog_state_remove(ngx_http_bog_state_walk_t *walk,
    ngx_http_bog_account_t *account)
{
    if (ngx_http_bog_state_others(walk, account)) {
        return NULL;
    }

    if (unlinkat(walk->dir, (char *) account->state->name, 0) == -1) {
        return (ngx_errno == NGX_ENOENT) ? NULL : "unlinkat()";
    }

    ngx_log_error(NGX_LOG_INFO, walk->log, 0,
                  "\"%V\" was removed, as the API has rejected its token",
                  &account->state->file);

    return NULL;
}


/* while a binary is upgraded, the other one may have stored a better token */

static ngx_uint_t
ngx_http_bog_state_others(ngx_http_bog_state_walk_t *walk,
    ngx_http_bog_account_t *account)
{
    u_char                 id[16];
    ssize_t                n;
    bog_str_t              secret;
    bog_state_t            opened;
    ngx_http_bog_state_t  *state;

    state = account->state;

    n = ngx_http_bog_state_read(&state->file, walk->sealed, walk->log);

    if (n == NGX_ERROR) {
        return 0;
    }

    secret.data = state->secret.data;
    secret.len = state->secret.len;

    return bog_state_open(&opened, walk->sealed, n, &secret, account->digest)
               == BOG_STATE_OK
           && bog_oauth_token_id((char *) id, opened.token, opened.len) == 0
           && ngx_memcmp(id, ngx_http_bog_store_slot(account)->stored_id,
                         sizeof(id))
              != 0;
}


/* what goes on failing, or fails for all alike, need not be said each time */

static void
ngx_http_bog_state_failed(ngx_http_bog_state_walk_t *walk,
    ngx_http_bog_account_t *account, char *what, ngx_err_t err)
{
    ngx_uint_t             level;
    ngx_http_bog_state_t  *state;

    state = account->state;

    level = (err && (err == state->err || err == ngx_http_bog_state_err))
            ? NGX_LOG_INFO : NGX_LOG_ERR;

    ngx_log_error(level, walk->log, err,
                  "%s of state file \"%V\" failed, the token of client id "
                  "\"%V\" is not kept for a restart",
                  what, &state->file, &account->client_id);

    state->err = err;
    state->retry = walk->now.mono + NGX_HTTP_BOG_STATE_RETRY;

    ngx_http_bog_state_err = err;
}


static void
ngx_http_bog_state_done(ngx_http_bog_state_walk_t *walk,
    ngx_http_bog_account_t *account, ngx_http_bog_record_t *record)
{
    ngx_http_bog_state_t  *state;

    state = account->state;

    if (record->len) {
        ngx_log_error(NGX_LOG_INFO, walk->log, 0,
                      "token of client id \"%V\" was written to \"%V\"",
                      &account->client_id, &state->file);
    }

    if (state->err && ngx_http_bog_state_err) {
        ngx_log_error(NGX_LOG_NOTICE, walk->log, 0,
                      "tokens are kept for a restart again");

        ngx_http_bog_state_err = 0;
    }

    state->err = 0;
}

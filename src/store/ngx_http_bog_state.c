
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_state.h"


/* why a file is ignored, beyond what bog_state_status_e has */

#define NGX_HTTP_BOG_STATE_LINK    (BOG_STATE_FAILED + 1)
#define NGX_HTTP_BOG_STATE_NOFILE  (BOG_STATE_FAILED + 2)
#define NGX_HTTP_BOG_STATE_FUTURE  (BOG_STATE_FAILED + 3)


static void ngx_http_bog_state_load(ngx_http_bog_account_t *account,
    ngx_log_t *log);
static ngx_uint_t ngx_http_bog_state_check_file(ngx_str_t *file, ngx_fd_t fd,
    ngx_log_t *log);
static void ngx_http_bog_state_restore(ngx_http_bog_account_t *account,
    bog_state_t *state, ngx_log_t *log);
static void ngx_http_bog_state_ignore(ngx_str_t *file, ngx_uint_t reason,
    ngx_log_t *log);


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
    state->temp = ngx_pnalloc(pool, name->len + sizeof(".tmp"));
    copy = ngx_http_bog_pool_alloc(guarded, secret->len, pool->log);

    if (state->file.data == NULL || state->temp == NULL || copy == NULL) {
        return NULL;
    }

    ngx_memcpy(copy, secret->data, secret->len);

    state->secret.data = copy;
    state->secret.len = secret->len;

    ngx_sprintf(state->file.data, "%V/%V%Z", dir, name);
    ngx_sprintf(state->temp, "%V.tmp%Z", name);

    state->name = state->file.data + dir->len + 1;
    state->place = ngx_crc32_long(state->file.data, state->file.len);

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
        status = bog_state_open(&opened, buf, n, &state->secret,
                                account->digest);

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

ssize_t
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

    rc = ngx_http_bog_store_restore(account, &token, &state->life);

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

    left = record.policy.token.until - now.mono;

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


ngx_atomic_uint_t
ngx_http_bog_state_mark(ngx_http_bog_state_t *state,
    ngx_http_bog_record_t *record)
{
    return state->place + record->token;
}


/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_fetch.h"


/*
 * The life of a fetch: the connection and the request that nginx's upstream
 * needs, and how they end.  A source starts a fetch and gets its result by a
 * callback.  Nothing here may touch the descriptor of the connection, or free a
 * fetch that has started anywhere but in the handler of its event "done".
 */


static ngx_int_t ngx_http_bog_fetch_create_connection(
    ngx_http_bog_fetch_t *fetch);
static ngx_http_request_t *ngx_http_bog_fetch_create_request(
    ngx_http_bog_fetch_t *fetch);
static ngx_int_t ngx_http_bog_fetch_subrequest_done(ngx_http_request_t *r,
    void *data, ngx_int_t rc);
static void ngx_http_bog_fetch_shutdown_handler(ngx_event_t *rev);
static void ngx_http_bog_fetch_timeout_handler(ngx_event_t *ev);
static void ngx_http_bog_fetch_done_handler(ngx_event_t *ev);
static void ngx_http_bog_fetch_close(ngx_http_bog_fetch_t *fetch);
static u_char *ngx_http_bog_fetch_log_handler(ngx_log_t *log, u_char *buf,
    size_t len);
static void ngx_http_bog_fetch_log_writer(ngx_log_t *log, ngx_uint_t level,
    u_char *buf, size_t len);


static ngx_http_post_subrequest_t  ngx_http_bog_fetch_subrequest = {
    ngx_http_bog_fetch_subrequest_done,
    NULL
};


ngx_http_bog_fetch_t *
ngx_http_bog_fetch_start(ngx_http_bog_account_t *account,
    ngx_http_bog_record_t *record, ngx_http_bog_fetch_pt handler, void *data)
{
    ngx_http_bog_fetch_t      *fetch;
    ngx_http_core_loc_conf_t  *clcf;

    fetch = ngx_calloc(sizeof(ngx_http_bog_fetch_t), ngx_cycle->log);
    if (fetch == NULL) {
        return NULL;
    }

    fetch->account = account;
    fetch->record = *record;
    fetch->handler = handler;
    fetch->data = data;
    fetch->began = ngx_current_msec;
    fetch->conf = account->upstream;
    fetch->failure.retry_after = -1;

    clcf = ngx_http_get_module_loc_conf((&account->ctx), ngx_http_core_module);

    fetch->log = *clcf->error_log;
    fetch->log.handler = ngx_http_bog_fetch_log_handler;
    fetch->log.data = &fetch->log_ctx;
    fetch->log.action = NULL;

    fetch->upstream_log = fetch->log;
    fetch->upstream_log.log_level = ngx_max(fetch->log.log_level,
                                            NGX_LOG_INFO);
    fetch->upstream_log.handler = NULL;
    fetch->upstream_log.next = NULL;
    fetch->upstream_log.writer = ngx_http_bog_fetch_log_writer;
    fetch->upstream_log.wdata = fetch;

    fetch->timeout.handler = ngx_http_bog_fetch_timeout_handler;
    fetch->timeout.data = fetch;
    fetch->timeout.log = &fetch->log;

    fetch->done.handler = ngx_http_bog_fetch_done_handler;
    fetch->done.data = fetch;
    fetch->done.log = &fetch->log;

    fetch->header = bog_pool_alloc(&fetch->pool, NGX_HTTP_BOG_HEADER_SIZE
                                                 + BOG_OAUTH_ANSWER_MAX);
    if (fetch->header == NULL) {
        ngx_log_error(NGX_LOG_ALERT, ngx_cycle->log, ngx_errno,
                      "no memory for a token request");
        ngx_free(fetch);
        return NULL;
    }

    fetch->body = fetch->header + NGX_HTTP_BOG_HEADER_SIZE;

    if (ngx_http_bog_fetch_create_connection(fetch) != NGX_OK) {
        bog_pool_destroy(&fetch->pool);
        ngx_free(fetch);
        return NULL;
    }

    ngx_add_timer(&fetch->timeout, account->fetch_timeout);

    ngx_http_bog_resolve(fetch);

    return fetch;
}


/*
 * A request needs a connection, and nginx's upstream checks that this has a
 * descriptor.  The connection gets descriptor 0, which nobody reads, writes,
 * polls or closes.
 */

static ngx_int_t
ngx_http_bog_fetch_create_connection(ngx_http_bog_fetch_t *fetch)
{
    ngx_log_t               *log;
    ngx_connection_t        *c;

    static struct sockaddr   sockaddr;

    log = &fetch->upstream_log;

    c = ngx_get_connection(0, log);
    if (c == NULL) {
        return NGX_ERROR;
    }

    fetch->connection = c;
    fetch->http_connection.conf_ctx = &fetch->account->ctx;

    c->data = &fetch->http_connection;
    c->log = log;
    c->log_error = NGX_ERROR_ERR;
    c->number = ngx_atomic_fetch_add(ngx_connection_counter, 1);
    fetch->log.connection = c->number;

    /* nothing in nginx prints, compares or looks up addresses of this family */

    sockaddr.sa_family = AF_UNIX;

    c->sockaddr = &sockaddr;
    c->socklen = sizeof(sa_family_t);
    c->local_sockaddr = c->sockaddr;
    c->local_socklen = c->socklen;

    c->tcp_nodelay = NGX_TCP_NODELAY_DISABLED;
    c->tcp_nopush = NGX_TCP_NOPUSH_DISABLED;

    c->read->log = log;
    c->read->handler = ngx_http_bog_fetch_shutdown_handler;
    c->read->active = 1;

    c->write->log = log;
    c->write->handler = ngx_http_empty_handler;
    c->write->ready = 1;

    /* epoll refuses descriptor 0, and nginx does not add an active event */

    if (ngx_event_flags & NGX_USE_CLEAR_EVENT) {
        c->write->active = 1;
    }

    return NGX_OK;
}


/*
 * nginx would send the header of an answer to the client of a main request, but
 * not that of a subrequest in memory.  The handler of the subrequest is
 * replaced before nginx calls it, so no phase and no other module sees it.
 */

void
ngx_http_bog_fetch_send(ngx_http_bog_fetch_t *fetch)
{
    ngx_http_request_t  *r, *sr;

    r = ngx_http_bog_fetch_create_request(fetch);

    if (r == NULL
        || ngx_http_subrequest(r, &r->uri, NULL, &sr,
                               &ngx_http_bog_fetch_subrequest,
                               NGX_HTTP_SUBREQUEST_IN_MEMORY)
           != NGX_OK)
    {
        fetch->aborted = 1;
        ngx_http_bog_fetch_finish(fetch);
        return;
    }

    sr->method = r->method;
    sr->method_name = r->method_name;
    sr->loc_conf = r->loc_conf;
    sr->write_event_handler = ngx_http_bog_upstream_start;

    ngx_http_run_posted_requests(fetch->connection);
}


static ngx_http_request_t *
ngx_http_bog_fetch_create_request(ngx_http_bog_fetch_t *fetch)
{
    ngx_log_t            log;
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    c = fetch->connection;
    log = *c->log;

    r = ngx_http_create_request(c);

    /* ngx_http_create_request() has put the configured log there */

    *c->log = log;

    if (r == NULL) {
        return NULL;
    }

    fetch->request = r;

    c->data = r;
    c->pool = r->pool;

#if (NGX_STAT_STUB)

    /* "stub_status" is about clients */

    (void) ngx_atomic_fetch_add(ngx_stat_reading, -1);
    r->stat_reading = 0;

#endif

    if (ngx_list_init(&r->headers_in.headers, r->pool, 1,
                      sizeof(ngx_table_elt_t))
        != NGX_OK)
    {
        return NULL;
    }

    r->method = NGX_HTTP_POST;
    ngx_str_set(&r->method_name, "POST");
    r->http_version = NGX_HTTP_VERSION_11;
    r->uri = fetch->account->endpoint->uri;
    r->unparsed_uri = r->uri;
    r->write_event_handler = ngx_http_request_empty_handler;

    /* nginx runs no log phase */

    r->logged = 1;

    /*
     * If a body filter fails, nginx terminates the request and would close the
     * connection.  "blocked" keeps it from that.
     */

    r->count++;
    r->blocked = 1;

    return r;
}


/* nginx calls this whenever it finalizes the subrequest, for any reason */

static ngx_int_t
ngx_http_bog_fetch_subrequest_done(ngx_http_request_t *r, void *data,
    ngx_int_t rc)
{
    ngx_http_bog_fetch_finish(ngx_http_bog_fetch_of(r));

    /* whatever rc was, nginx is to make no error page */

    return NGX_OK;
}


/* "worker_shutdown_timeout" has passed */

static void
ngx_http_bog_fetch_shutdown_handler(ngx_event_t *rev)
{
    ngx_connection_t      *c;
    ngx_http_bog_fetch_t  *fetch;

    c = rev->data;
    fetch = (ngx_http_bog_fetch_t *) c->log->data;

    if (!fetch->done.posted) {
        fetch->aborted = 1;
        ngx_http_bog_fetch_finish(fetch);
    }
}


/*
 * An answer that comes byte by byte keeps within the timeouts of nginx's
 * upstream, which begin again with each of them.
 */

static void
ngx_http_bog_fetch_timeout_handler(ngx_event_t *ev)
{
    ngx_http_bog_fetch_t  *fetch;

    fetch = ev->data;

    if (!fetch->done.posted) {
        ngx_http_bog_fetch_fail(fetch, BOG_ERROR_TIMEOUT,
                                "no complete answer in %.1f s",
                                ngx_http_bog_seconds(ngx_current_msec
                                                     - fetch->began));
        ngx_http_bog_fetch_finish(fetch);
    }
}


void
ngx_http_bog_fetch_finish(ngx_http_bog_fetch_t *fetch)
{
    if (!fetch->done.posted) {
        ngx_http_bog_resolve_cancel(fetch);
        ngx_post_event(&fetch->done, &ngx_posted_events);
    }
}


static void
ngx_http_bog_fetch_done_handler(ngx_event_t *ev)
{
    ngx_http_bog_fetch_t  *fetch;

    fetch = ev->data;

    ngx_http_bog_fetch_close(fetch);

    if (!fetch->aborted) {
        ngx_http_bog_result_read(fetch);
    }

    fetch->handler(fetch);

    bog_pool_destroy(&fetch->pool);
    ngx_free(fetch);
}


/* An upstream that still runs ends with the request. */

static void
ngx_http_bog_fetch_close(ngx_http_bog_fetch_t *fetch)
{
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    if (fetch->timeout.timer_set) {
        ngx_del_timer(&fetch->timeout);
    }

    r = fetch->request;

    if (r) {
        r->logged = 1;
        r->count = 100;

        ngx_http_free_request(r, 0);

        /* a cleanup of another module may have finalized the subrequest */

        if (fetch->done.posted) {
            ngx_delete_posted_event(&fetch->done);
        }
    }

    c = fetch->connection;

    if (c->read->posted) {
        ngx_delete_posted_event(c->read);
    }

    if (c->write->posted) {
        ngx_delete_posted_event(c->write);
    }

    /* ngx_close_connection() would close descriptor 0 */

    ngx_free_connection(c);
    c->fd = (ngx_socket_t) -1;
}


void
ngx_http_bog_fetch_fail(ngx_http_bog_fetch_t *fetch, bog_error_e error,
    const char *fmt, ...)
{
    u_char                 *p, *last;
    va_list                 args;
    ngx_http_bog_failed_t  *failed;

    fetch->failure.error = error;

    failed = &fetch->failed;

    va_start(args, fmt);
    last = ngx_vslprintf(failed->reason, failed->reason
                         + sizeof(failed->reason), fmt, args);
    va_end(args);

    failed->reason_len = last - failed->reason;

    /* a path or a name may have bytes that break a line or the JSON */

    for (p = failed->reason; p < last; p++) {
        if (*p < 0x20 || *p > 0x7e) {
            *p = '?';
        }
    }
}


static u_char *
ngx_http_bog_fetch_log_handler(ngx_log_t *log, u_char *buf, size_t len)
{
    u_char                *p;
    ngx_http_bog_fetch_t  *fetch;

    fetch = log->data;

    if (log->action) {
        p = ngx_snprintf(buf, len, " while %s", log->action);
        len -= p - buf;
        buf = p;
    }

    p = ngx_snprintf(buf, len, ", client id: \"%V\", token endpoint: \"%V\"",
                     &fetch->account->client_id,
                     &fetch->account->endpoint->url);

    if (fetch->peer_len) {
        len -= p - buf;
        p = ngx_snprintf(p, len, ", upstream: \"%*s\"", fetch->peer_len,
                         fetch->peer);
    }

    return p;
}


/*
 * nginx logs what goes wrong with one server as an error, and does not know
 * that the fetch may go on to another server.  Such a line becomes information
 * here, and its text part of the reason if the fetch fails.
 */

static void
ngx_http_bog_fetch_log_writer(ngx_log_t *log, ngx_uint_t level, u_char *buf,
    size_t len)
{
    u_char                *p, *last;
    ngx_http_bog_fetch_t  *fetch;

    fetch = log->wdata;

    /* after "TIME [LEVEL] PID#TID: " */

    last = buf + len - NGX_LINEFEED_SIZE;
    p = ngx_strlchr(buf, last, '#');
    p = p ? ngx_strlchr(p, last, ' ') : NULL;

    if (p == NULL) {
        return;
    }

    p++;

    /* what nginx says later of the same server follows from the first error */

    if (level <= NGX_LOG_ERR && fetch->detail_len == 0) {
        fetch->detail_len = ngx_min(last - p, NGX_HTTP_BOG_DETAIL_MAX);
        ngx_memcpy(fetch->detail, p, fetch->detail_len);
    }

    if (level > NGX_LOG_ALERT && level < NGX_LOG_INFO) {
        level = NGX_LOG_INFO;
    }

    fetch->log.action = log->action;

    ngx_log_error(level, &fetch->log, 0, "%*s", (size_t) (last - p), p);

    fetch->log.action = NULL;
}

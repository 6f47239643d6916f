
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_answer.h"
#include "ngx_http_bog_fetch_request.h"
#include "ngx_http_bog_resolve.h"
#include "ngx_http_bog_upstream.h"


static ngx_http_bog_fetch_t *ngx_http_bog_fetch_create(
    ngx_http_bog_account_t *account, ngx_http_bog_record_t *record,
    ngx_uint_t quiet);
static ngx_int_t ngx_http_bog_fetch_connection(ngx_http_bog_fetch_t *fetch);
static void ngx_http_bog_fetch_quiet(ngx_http_bog_fetch_t *fetch);
static void ngx_http_bog_fetch_resolved(ngx_http_bog_fetch_t *fetch);
static ngx_int_t ngx_http_bog_fetch_request(ngx_http_bog_fetch_t *fetch);
static ngx_int_t ngx_http_bog_fetch_subrequest(ngx_http_bog_fetch_t *fetch);
static void ngx_http_bog_fetch_send(ngx_http_request_t *r);
static ngx_int_t ngx_http_bog_fetch_sent(ngx_http_request_t *r, void *data,
    ngx_int_t rc);
static void ngx_http_bog_fetch_main_handler(ngx_http_request_t *r);
static void ngx_http_bog_fetch_cleanup(void *data);
static void ngx_http_bog_fetch_shutdown_handler(ngx_event_t *rev);
static void ngx_http_bog_fetch_timeout_handler(ngx_event_t *ev);
static void ngx_http_bog_fetch_done_handler(ngx_event_t *ev);
static void ngx_http_bog_fetch_close(ngx_http_bog_fetch_t *fetch);
static void ngx_http_bog_fetch_free(ngx_http_bog_fetch_t *fetch);
static void ngx_http_bog_fetch_empty_handler(ngx_event_t *ev);
static u_char *ngx_http_bog_fetch_log_error(ngx_log_t *log, u_char *buf,
    size_t len);


static ngx_str_t  ngx_http_bog_fetch_method = ngx_string("POST");


ngx_http_bog_fetch_t *
ngx_http_bog_fetch_start(ngx_http_bog_account_t *account,
    ngx_http_bog_record_t *record, ngx_uint_t quiet,
    ngx_http_bog_fetch_pt handler, void *data)
{
    ngx_http_bog_fetch_t  *fetch;

    fetch = ngx_http_bog_fetch_create(account, record, quiet);
    if (fetch == NULL) {
        return NULL;
    }

    fetch->handler = handler;
    fetch->data = data;
    fetch->resolved = ngx_http_bog_fetch_resolved;

    if (ngx_http_bog_fetch_connection(fetch) != NGX_OK) {
        ngx_http_bog_fetch_free(fetch);
        return NULL;
    }

    ngx_add_timer(&fetch->timeout, account->fetch_timeout);

    ngx_http_bog_resolve(fetch);

    return fetch;
}


static ngx_http_bog_fetch_t *
ngx_http_bog_fetch_create(ngx_http_bog_account_t *account,
    ngx_http_bog_record_t *record, ngx_uint_t quiet)
{
    ngx_http_bog_fetch_t      *fetch;
    ngx_http_core_loc_conf_t  *clcf;

    fetch = ngx_calloc(sizeof(ngx_http_bog_fetch_t), ngx_cycle->log);
    if (fetch == NULL) {
        return NULL;
    }

    fetch->account = account;
    fetch->conf = account->upstream;
    fetch->before = record->policy;
    fetch->known = record->addrs;
    fetch->begin = record->begin;
    fetch->quiet = quiet;
    fetch->began = ngx_current_msec;

    fetch->memory = bog_memory_alloc(NGX_HTTP_BOG_MEMORY_SIZE);

    if (fetch->memory == NULL) {
        ngx_log_error(NGX_LOG_ALERT, ngx_cycle->log, ngx_errno,
                      "no memory for a token request");
        ngx_free(fetch);
        return NULL;
    }

    ngx_http_bog_answer_init(fetch);

    clcf = ngx_http_get_module_loc_conf((&account->ctx), ngx_http_core_module);

    fetch->log = *clcf->error_log;
    fetch->log.handler = ngx_http_bog_fetch_log_error;
    fetch->log.data = &fetch->log_ctx;
    fetch->log.action = NULL;

    fetch->upstream_log = fetch->log;
    fetch->upstream_log.action = "resolving token endpoint";
    ngx_http_bog_fetch_quiet(fetch);

    fetch->done.handler = ngx_http_bog_fetch_done_handler;
    fetch->done.data = fetch;
    fetch->done.log = &fetch->log;

    fetch->timeout.handler = ngx_http_bog_fetch_timeout_handler;
    fetch->timeout.data = fetch;
    fetch->timeout.log = &fetch->log;

    return fetch;
}


/* while the bank is down, what the upstream says of it is said once */

static void
ngx_http_bog_fetch_quiet(ngx_http_bog_fetch_t *fetch)
{
    ngx_log_t  *log;

    log = &fetch->upstream_log;

    if (fetch->quiet && log->log_level < NGX_LOG_DEBUG_FIRST) {
        log->log_level = ngx_min(log->log_level, NGX_LOG_CRIT);
    }
}


/*
 * A request cannot do without a connection, and an upstream looks at its
 * descriptor: this one has descriptor 0, which is never read, written, polled
 * or closed.
 */

static ngx_int_t
ngx_http_bog_fetch_connection(ngx_http_bog_fetch_t *fetch)
{
    ngx_connection_t  *c;

    c = ngx_get_connection(0, &fetch->upstream_log);
    if (c == NULL) {
        return NGX_ERROR;
    }

    fetch->connection = c;
    fetch->http_connection.conf_ctx = &fetch->account->ctx;
    fetch->sockaddr.sun_family = AF_UNIX;

    c->data = &fetch->http_connection;
    c->log = &fetch->upstream_log;
    c->log_error = NGX_ERROR_ERR;
    c->number = ngx_atomic_fetch_add(ngx_connection_counter, 1);
    fetch->log.connection = c->number;
    fetch->upstream_log.connection = c->number;

    /* of a family that nothing tries to print, compare or look up */

    c->sockaddr = (struct sockaddr *) &fetch->sockaddr;
    c->socklen = sizeof(sa_family_t);
    c->local_sockaddr = c->sockaddr;
    c->local_socklen = c->socklen;

    c->tcp_nodelay = NGX_TCP_NODELAY_DISABLED;
    c->tcp_nopush = NGX_TCP_NOPUSH_DISABLED;

    c->read->log = c->log;
    c->read->handler = ngx_http_bog_fetch_shutdown_handler;
    c->read->active = 1;
    c->read->ready = 0;

    c->write->log = c->log;
    c->write->handler = ngx_http_bog_fetch_empty_handler;
    c->write->ready = 1;

    /* an active event is not added to epoll, which refuses descriptor 0 */

    if (ngx_event_flags & NGX_USE_CLEAR_EVENT) {
        c->write->active = 1;
    }

    return NGX_OK;
}


static void
ngx_http_bog_fetch_resolved(ngx_http_bog_fetch_t *fetch)
{
    if (fetch->failure.error) {
        ngx_http_bog_fetch_finish(fetch);
        return;
    }

    if (ngx_http_bog_fetch_request(fetch) != NGX_OK
        || ngx_http_bog_fetch_subrequest(fetch) != NGX_OK)
    {
        fetch->aborted = 1;
        ngx_http_bog_fetch_finish(fetch);
        return;
    }

    ngx_http_run_posted_requests(fetch->connection);
}


static ngx_int_t
ngx_http_bog_fetch_request(ngx_http_bog_fetch_t *fetch)
{
    ngx_connection_t    *c;
    ngx_http_cleanup_t  *cln;
    ngx_http_request_t  *r;

    c = fetch->connection;

    r = ngx_http_create_request(c);
    if (r == NULL) {
        return NGX_ERROR;
    }

    fetch->request = r;

    c->data = r;
    c->pool = r->pool;

    ngx_http_bog_fetch_quiet(fetch);

#if (NGX_STAT_STUB)

    /* "stub_status" is about clients */

    (void) ngx_atomic_fetch_add(ngx_stat_reading, -1);
    r->stat_reading = 0;

#endif

    if (ngx_list_init(&r->headers_in.headers, r->pool, 1,
                      sizeof(ngx_table_elt_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    r->method = NGX_HTTP_POST;
    r->method_name = ngx_http_bog_fetch_method;
    r->http_version = NGX_HTTP_VERSION_11;
    r->uri = fetch->account->endpoint->uri;
    r->unparsed_uri = r->uri;
    r->valid_unparsed_uri = 1;
    r->write_event_handler = ngx_http_bog_fetch_main_handler;

    /* no log phase for it */

    r->logged = 1;

    /*
     * A body filter that fails sets c->error, at which core would terminate
     * the request and close the connection.  "blocked" keeps it from that,
     * and the cleanup tells.
     */

    r->count++;
    r->blocked = 1;

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_bog_fetch_cleanup;
    cln->data = fetch;

    return NGX_OK;
}


/*
 * The main request would send the answer's header to a client.  An in-memory
 * subrequest does not; with its handler replaced before it ever runs, no
 * phase and no other module sees it.
 */

static ngx_int_t
ngx_http_bog_fetch_subrequest(ngx_http_bog_fetch_t *fetch)
{
    ngx_http_request_t          *r, *sr;
    ngx_http_post_subrequest_t  *ps;

    r = fetch->request;

    ps = ngx_palloc(r->pool, sizeof(ngx_http_post_subrequest_t));
    if (ps == NULL) {
        return NGX_ERROR;
    }

    ps->handler = ngx_http_bog_fetch_sent;
    ps->data = fetch;

    if (ngx_http_subrequest(r, &r->uri, NULL, &sr, ps,
                            NGX_HTTP_SUBREQUEST_IN_MEMORY)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    sr->method = r->method;
    sr->method_name = r->method_name;
    sr->loc_conf = r->loc_conf;
    sr->write_event_handler = ngx_http_bog_fetch_send;

    return NGX_OK;
}


static void
ngx_http_bog_fetch_send(ngx_http_request_t *r)
{
    ngx_http_bog_fetch_t  *fetch;

    fetch = r->post_subrequest->data;

    r->write_event_handler = ngx_http_request_empty_handler;

    if (ngx_http_bog_upstream_start(r, fetch) != NGX_OK) {
        fetch->aborted = 1;
        ngx_http_bog_fetch_finish(fetch);
    }
}


static ngx_int_t
ngx_http_bog_fetch_sent(ngx_http_request_t *r, void *data, ngx_int_t rc)
{
    ngx_http_bog_fetch_finish(data);

    /* whatever came, there is no error page to be made of it */

    return NGX_OK;
}


static void
ngx_http_bog_fetch_main_handler(ngx_http_request_t *r)
{
    ngx_http_bog_fetch_finish(ngx_http_bog_fetch_of(r));
}


static void
ngx_http_bog_fetch_cleanup(void *data)
{
    ngx_http_bog_fetch_finish(data);
}


static void
ngx_http_bog_fetch_shutdown_handler(ngx_event_t *rev)
{
    ngx_connection_t      *c;
    ngx_http_bog_fetch_t  *fetch;

    c = rev->data;
    fetch = (ngx_http_bog_fetch_t *) c->log->data;

    if (c->close && !fetch->done.posted) {
        fetch->aborted = 1;
        ngx_http_bog_fetch_finish(fetch);
    }
}


static void
ngx_http_bog_fetch_timeout_handler(ngx_event_t *ev)
{
    ngx_http_bog_fetch_t  *fetch;

    fetch = ev->data;

    if (fetch->done.posted) {
        return;
    }

    /* an answer that drips in keeps within each timeout of the upstream */

    fetch->failure.error = BOG_ERROR_TIMEOUT;

    ngx_http_bog_fetch_finish(fetch);
}


void
ngx_http_bog_fetch_finish(ngx_http_bog_fetch_t *fetch)
{
    if (!fetch->done.posted) {
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
        ngx_http_bog_answer_read(fetch);
    }

    fetch->handler(fetch);

    ngx_http_bog_answer_forget(fetch);
    ngx_http_bog_fetch_free(fetch);
}


/*
 * Ends the request, and with it the upstream, if that has not come to its end
 * by itself.  Both may still want to finish the fetch, which is too late.
 */

static void
ngx_http_bog_fetch_close(ngx_http_bog_fetch_t *fetch)
{
    ngx_http_request_t  *r;

    ngx_http_bog_resolve_cancel(fetch);

    r = fetch->request;

    if (r) {
        fetch->request = NULL;

        r->logged = 1;
        r->count = 100;

        ngx_http_free_request(r, 0);
    }

    if (fetch->done.posted) {
        ngx_delete_posted_event(&fetch->done);
    }
}


static void
ngx_http_bog_fetch_free(ngx_http_bog_fetch_t *fetch)
{
    ngx_connection_t  *c;

    ngx_http_bog_fetch_close(fetch);

    if (fetch->timeout.timer_set) {
        ngx_del_timer(&fetch->timeout);
    }

    c = fetch->connection;

    if (c) {
        if (c->read->posted) {
            ngx_delete_posted_event(c->read);
        }

        if (c->write->posted) {
            ngx_delete_posted_event(c->write);
        }

        c->read->active = 0;
        c->write->active = 0;
        c->read->closed = 1;
        c->write->closed = 1;

        ngx_free_connection(c);

        c->fd = (ngx_socket_t) -1;
        c->pool = NULL;
        c->destroyed = 1;
    }

    bog_memory_free(fetch->memory, NGX_HTTP_BOG_MEMORY_SIZE);
    ngx_free(fetch);
}


static void
ngx_http_bog_fetch_empty_handler(ngx_event_t *ev)
{
    /* void */
}


static u_char *
ngx_http_bog_fetch_log_error(ngx_log_t *log, u_char *buf, size_t len)
{
    u_char                *p;
    ngx_http_bog_fetch_t  *fetch;

    if (log->action) {
        p = ngx_snprintf(buf, len, " while %s", log->action);
        len -= p - buf;
        buf = p;
    }

    fetch = log->data;

    return ngx_snprintf(buf, len, ", client id: \"%V\", token endpoint: "
                        "\"%V\"", &fetch->account->client_id,
                        &fetch->account->endpoint->url);
}

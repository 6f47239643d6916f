
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_resolve.h"

#include <dlfcn.h>
#include <ngx_channel.h>
#include <pthread.h>


/*
 * A name is asked of the "resolver" in effect, or where there is none, of the
 * system: getaddrinfo() blocks, so each question has a thread of its own.  A
 * thread calls nothing of nginx.  It writes the pointer to its question into a
 * pipe, and the worker reads it there.  Whoever asked may be gone by then.
 *
 * The answer for both families is what counts.  IPv4 is asked for in a second
 * question, for name servers that fail or do not answer where IPv6 is meant.
 */


/* where addresses are known, a name server that is slow is not waited for */

#define NGX_HTTP_BOG_RESOLVE_TIMEOUT  1000

/* what the answer for both families may take when that for IPv4 is there */

#define NGX_HTTP_BOG_RESOLVE_DELAY    50

#define NGX_HTTP_BOG_RESOLVE_STACK    262144


typedef struct {
    ngx_queue_t        queue;       /* of questions without an answer */
    ngx_queue_t        asks;        /* of fetches that wait for this one */
    int                family;
    int                rc;
    struct addrinfo   *answer;
    char               name[1];
} ngx_http_bog_question_t;


static ngx_int_t ngx_http_bog_resolve_ask(ngx_http_bog_fetch_t *fetch);
static void ngx_http_bog_resolve_expire(ngx_resolver_t *resolver,
    ngx_str_t *name);
static void ngx_http_bog_resolve_handler(ngx_resolver_ctx_t *ctx);
static ngx_int_t ngx_http_bog_resolve_ask_system(ngx_http_bog_fetch_t *fetch);
static ngx_http_bog_question_t *ngx_http_bog_resolve_question(ngx_str_t *name,
    int family);
static ngx_int_t ngx_http_bog_resolve_open_pipe(void);
static void ngx_http_bog_resolve_stay(void);
static void *ngx_http_bog_resolve_thread(void *data);
static void ngx_http_bog_resolve_pipe_handler(ngx_event_t *ev);
static void ngx_http_bog_resolve_timeout_handler(ngx_event_t *ev);
static void ngx_http_bog_resolve_add(ngx_http_bog_fetch_t *fetch,
    struct sockaddr *sockaddr, socklen_t socklen);
static void ngx_http_bog_resolve_done(ngx_http_bog_fetch_t *fetch);
static void ngx_http_bog_resolve_choose(ngx_http_bog_fetch_t *fetch);


static ngx_queue_t  ngx_http_bog_questions;
static ngx_fd_t     ngx_http_bog_pipe[2] = { -1, -1 };
static void        *ngx_http_bog_itself;


void
ngx_http_bog_resolve(ngx_http_bog_fetch_t *fetch)
{
    ngx_int_t                rc;
    bog_policy_t            *before;
    ngx_http_bog_account_t  *account;

    account = fetch->account;

    if (account->endpoint->addr || account->endpoint->upstream) {
        fetch->resolved(fetch);
        return;
    }

    /* addresses where nothing answers may be those of yesterday */

    before = &fetch->before;

    fetch->doubted = (before->failures
                      && (before->error == BOG_ERROR_CONNECT
                          || before->error == BOG_ERROR_TLS
                          || before->error == BOG_ERROR_TIMEOUT));

    fetch->lookup_time = account->resolver_timeout;

    if (fetch->known.n && !fetch->doubted) {
        fetch->lookup_time = ngx_min(fetch->lookup_time,
                                     NGX_HTTP_BOG_RESOLVE_TIMEOUT);
    }

    fetch->lookup_error = NGX_RESOLVE_TIMEDOUT;
    fetch->lookup_reason = ngx_resolver_strerror(NGX_RESOLVE_TIMEDOUT);

    fetch->lookup_timer.handler = ngx_http_bog_resolve_timeout_handler;
    fetch->lookup_timer.data = fetch;
    fetch->lookup_timer.log = &fetch->log;

    /* a worker that exits does not wait for it */

    fetch->lookup_timer.cancelable = 1;
    fetch->timeout.cancelable = 1;
    fetch->connection->read->channel = 1;

    if (account->resolver) {
        rc = ngx_http_bog_resolve_ask(fetch);

    } else {
        rc = ngx_http_bog_resolve_ask_system(fetch);
    }

    if (rc != NGX_OK) {
        fetch->local = 1;
        ngx_http_bog_resolve_done(fetch);
    }
}


/*
 * Asks twice, each time for half of the time: nginx's resolver asks one name
 * server, and the next one only when somebody asks again.
 */

static ngx_int_t
ngx_http_bog_resolve_ask(ngx_http_bog_fetch_t *fetch)
{
    ngx_resolver_ctx_t      *ctx;
    ngx_http_bog_account_t  *account;

    account = fetch->account;

    ctx = ngx_resolve_start(account->resolver, NULL);
    if (ctx == NULL || ctx == NGX_NO_RESOLVER) {
        return NGX_ERROR;
    }

    ctx->name = account->endpoint->host;
    ctx->handler = ngx_http_bog_resolve_handler;
    ctx->data = fetch;

    if (fetch->doubted) {
        ngx_http_bog_resolve_expire(account->resolver, &ctx->name);
    }

    fetch->lookup = ctx;
    fetch->lookups++;

    ngx_add_timer(&fetch->lookup_timer, fetch->lookup_time / 2);

    if (ngx_resolve_name(ctx) != NGX_OK) {
        fetch->lookup = NULL;
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* nginx's resolver keeps an answer for its TTL */

static void
ngx_http_bog_resolve_expire(ngx_resolver_t *resolver, ngx_str_t *name)
{
    ngx_queue_t          *q;
    ngx_resolver_node_t  *node;

    for (q = ngx_queue_head(&resolver->name_expire_queue);
         q != ngx_queue_sentinel(&resolver->name_expire_queue);
         q = ngx_queue_next(q))
    {
        node = ngx_queue_data(q, ngx_resolver_node_t, queue);

        if (node->nlen == name->len
            && ngx_strncasecmp(node->name, name->data, name->len) == 0)
        {
            node->valid = 0;
            return;
        }
    }
}


static void
ngx_http_bog_resolve_handler(ngx_resolver_ctx_t *ctx)
{
    ngx_uint_t             i;
    ngx_http_bog_fetch_t  *fetch;

    fetch = ctx->data;

    if (ctx->state) {
        fetch->lookup_error = ctx->state;
        fetch->lookup_reason = ngx_resolver_strerror(ctx->state);

    } else {
        for (i = 0; i < ctx->naddrs; i++) {
            ngx_http_bog_resolve_add(fetch, ctx->addrs[i].sockaddr,
                                     ctx->addrs[i].socklen);
        }
    }

    ngx_http_bog_resolve_done(fetch);
}


static ngx_int_t
ngx_http_bog_resolve_ask_system(ngx_http_bog_fetch_t *fetch)
{
    ngx_uint_t                n;
    ngx_http_bog_question_t  *question;

    for (n = 0; n < 2; n++) {

        question = ngx_http_bog_resolve_question(
                                     &fetch->account->endpoint->host,
                                     n ? AF_INET : AF_UNSPEC);
        if (question == NULL) {

            if (n == 0) {
                return NGX_ERROR;
            }

            /* the first one may do */

            break;
        }

        fetch->asks[n].fetch = fetch;
        fetch->asks[n].queued = 1;
        ngx_queue_insert_tail(&question->asks, &fetch->asks[n].queue);

        fetch->lookups++;
    }

    ngx_add_timer(&fetch->lookup_timer, fetch->lookup_time);

    return NGX_OK;
}


/* asks, or finds the question that has been asked and not been answered yet */

static ngx_http_bog_question_t *
ngx_http_bog_resolve_question(ngx_str_t *name, int family)
{
    int                       rc;
    sigset_t                  all, old;
    pthread_t                 tid;
    ngx_queue_t              *q;
    pthread_attr_t            attr;
    ngx_http_bog_question_t  *question;

    if (ngx_http_bog_resolve_open_pipe() != NGX_OK) {
        return NULL;
    }

    for (q = ngx_queue_head(&ngx_http_bog_questions);
         q != ngx_queue_sentinel(&ngx_http_bog_questions);
         q = ngx_queue_next(q))
    {
        question = ngx_queue_data(q, ngx_http_bog_question_t, queue);

        if (question->family == family
            && ngx_strlen(question->name) == name->len
            && ngx_strncmp(question->name, name->data, name->len) == 0)
        {
            return question;
        }
    }

    question = ngx_calloc(sizeof(ngx_http_bog_question_t) + name->len,
                          ngx_cycle->log);
    if (question == NULL) {
        return NULL;
    }

    question->family = family;
    ngx_memcpy(question->name, name->data, name->len);
    ngx_queue_init(&question->asks);

    /* signals are for the worker */

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);

    rc = pthread_attr_init(&attr);

    if (rc == 0) {
        (void) pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        (void) pthread_attr_setstacksize(&attr, NGX_HTTP_BOG_RESOLVE_STACK);

        rc = pthread_create(&tid, &attr, ngx_http_bog_resolve_thread,
                            question);

        (void) pthread_attr_destroy(&attr);
    }

    pthread_sigmask(SIG_SETMASK, &old, NULL);

    if (rc) {
        ngx_log_error(NGX_LOG_ALERT, ngx_cycle->log, rc,
                      "pthread_create() failed");
        ngx_free(question);
        return NULL;
    }

    ngx_queue_insert_tail(&ngx_http_bog_questions, &question->queue);

    return question;
}


static ngx_int_t
ngx_http_bog_resolve_open_pipe(void)
{
    if (ngx_http_bog_pipe[0] != -1) {
        return NGX_OK;
    }

    if (pipe2(ngx_http_bog_pipe, O_NONBLOCK|O_CLOEXEC) == -1) {
        ngx_log_error(NGX_LOG_ALERT, ngx_cycle->log, ngx_errno,
                      "pipe2() failed");
        return NGX_ERROR;
    }

    if (ngx_add_channel_event((ngx_cycle_t *) ngx_cycle, ngx_http_bog_pipe[0],
                              NGX_READ_EVENT,
                              ngx_http_bog_resolve_pipe_handler)
        != NGX_OK)
    {
        ngx_close_channel(ngx_http_bog_pipe, ngx_cycle->log);
        ngx_http_bog_pipe[0] = -1;
        return NGX_ERROR;
    }

    ngx_http_bog_resolve_stay();

    ngx_queue_init(&ngx_http_bog_questions);

    return NGX_OK;
}


/*
 * A worker that exits unloads its modules before exit() ends the threads: one
 * whose answer comes in between would return to code that is gone.
 */

static void
ngx_http_bog_resolve_stay(void)
{
    Dl_info  info;

    if (dladdr(ngx_http_bog_pipe, &info)) {
        ngx_http_bog_itself = dlopen(info.dli_fname, RTLD_LAZY|RTLD_NOLOAD);
    }
}


static void *
ngx_http_bog_resolve_thread(void *data)
{
    struct addrinfo           hints;
    ngx_http_bog_question_t  *question;

    question = data;

    ngx_memzero(&hints, sizeof(struct addrinfo));

    hints.ai_family = question->family;
    hints.ai_socktype = SOCK_STREAM;

    question->rc = getaddrinfo(question->name, NULL, &hints,
                               &question->answer);

    (void) ngx_write_fd(ngx_http_bog_pipe[1], &question, sizeof(void *));

    return NULL;
}


static void
ngx_http_bog_resolve_pipe_handler(ngx_event_t *ev)
{
    ngx_queue_t              *q;
    struct addrinfo          *ai;
    ngx_http_bog_ask_t       *ask;
    ngx_http_bog_fetch_t     *fetch;
    ngx_http_bog_question_t  *question;

    while (ngx_read_fd(ngx_http_bog_pipe[0], &question, sizeof(void *))
           == sizeof(void *))
    {
        ngx_queue_remove(&question->queue);

        while (!ngx_queue_empty(&question->asks)) {
            q = ngx_queue_head(&question->asks);
            ngx_queue_remove(q);

            ask = ngx_queue_data(q, ngx_http_bog_ask_t, queue);
            ask->queued = 0;
            fetch = ask->fetch;

            if (question->family == AF_UNSPEC && question->answer) {
                fetch->addrs.n = 0;
                fetch->lookups = 1;
            }

            if (question->rc) {
                fetch->lookup_error = question->rc;
                fetch->lookup_reason = gai_strerror(question->rc);
            }

            for (ai = question->answer; ai; ai = ai->ai_next) {
                ngx_http_bog_resolve_add(fetch, ai->ai_addr, ai->ai_addrlen);
            }

            if (--fetch->lookups == 0) {
                ngx_http_bog_resolve_done(fetch);

            } else if (fetch->addrs.n) {
                ngx_add_timer(&fetch->lookup_timer,
                              NGX_HTTP_BOG_RESOLVE_DELAY);
            }
        }

        if (question->answer) {
            freeaddrinfo(question->answer);
        }

        ngx_free(question);
    }
}


static void
ngx_http_bog_resolve_timeout_handler(ngx_event_t *ev)
{
    ngx_http_bog_fetch_t  *fetch;

    fetch = ev->data;

    if (fetch->lookup && fetch->lookups == 1) {
        ngx_http_bog_resolve_cancel(fetch);

        if (ngx_http_bog_resolve_ask(fetch) == NGX_OK) {
            return;
        }
    }

    ngx_http_bog_resolve_done(fetch);
}


static void
ngx_http_bog_resolve_add(ngx_http_bog_fetch_t *fetch,
    struct sockaddr *sockaddr, socklen_t socklen)
{
    ngx_http_bog_addr_t  *addr;

    if (fetch->addrs.n == NGX_HTTP_BOG_ADDRS) {
        return;
    }

    addr = &fetch->addrs.list[fetch->addrs.n++];

    ngx_memcpy(addr, sockaddr, socklen);
    ngx_inet_set_port(&addr->sockaddr, fetch->account->endpoint->port);
}


static void
ngx_http_bog_resolve_done(ngx_http_bog_fetch_t *fetch)
{
    ngx_uint_t    level;
    ngx_socket_t  s;

    ngx_http_bog_resolve_cancel(fetch);

    fetch->timeout.cancelable = 0;
    fetch->connection->read->channel = 0;

    if (fetch->addrs.n == 0) {
        level = fetch->known.n ? NGX_LOG_INFO : NGX_LOG_ERR;

        ngx_log_error(level, &fetch->upstream_log, 0,
                      "%V could not be resolved (%i: %s)",
                      &fetch->account->endpoint->host, fetch->lookup_error,
                      fetch->lookup_reason);

        fetch->addrs = fetch->known;
    }

    if (fetch->addrs.n) {
        ngx_http_bog_resolve_choose(fetch);
        fetch->local = 0;

    } else {
        fetch->failure.error = BOG_ERROR_RESOLVE;

        /* without a descriptor, libc says only that it cannot resolve */

        s = ngx_socket(AF_INET, SOCK_DGRAM, 0);

        if (s == (ngx_socket_t) -1) {
            fetch->local = 1;

        } else {
            (void) ngx_close_socket(s);
        }
    }

    fetch->resolved(fetch);
}


/*
 * Leaves out addresses that this machine, or "bog_bind", has no way to: nginx
 * would not try the next one then.  Where all are so, it says what is wrong.
 */

static void
ngx_http_bog_resolve_choose(ngx_http_bog_fetch_t *fetch)
{
    int                         family;
    ngx_uint_t                  i, n;
    ngx_socket_t                s;
    ngx_http_bog_addrs_t       *addrs;
    ngx_http_upstream_local_t  *local;

    addrs = &fetch->addrs;
    local = fetch->account->upstream.local;

    for (i = 0, n = 0; i < addrs->n; i++) {
        family = addrs->list[i].sockaddr.sa_family;

        if (local && local->addr->sockaddr->sa_family != family) {
            continue;
        }

        s = ngx_socket(family, SOCK_STREAM, 0);

        if (s != (ngx_socket_t) -1) {
            (void) ngx_close_socket(s);

        } else if (ngx_socket_errno == EAFNOSUPPORT) {
            continue;
        }

        addrs->list[n++] = addrs->list[i];
    }

    if (n) {
        addrs->n = n;
    }

    addrs->first = 0;

    for (i = 0; i < addrs->n; i++) {
        if (ngx_cmp_sockaddr(&addrs->list[i].sockaddr,
                             sizeof(ngx_http_bog_addr_t),
                             &fetch->begin.sockaddr,
                             sizeof(ngx_http_bog_addr_t), 1)
            == NGX_OK)
        {
            addrs->first = i;
        }
    }
}


void
ngx_http_bog_resolve_cancel(ngx_http_bog_fetch_t *fetch)
{
    ngx_uint_t  n;

    if (fetch->lookup) {
        ngx_resolve_name_done(fetch->lookup);
        fetch->lookup = NULL;
    }

    for (n = 0; n < 2; n++) {
        if (fetch->asks[n].queued) {
            ngx_queue_remove(&fetch->asks[n].queue);
            fetch->asks[n].queued = 0;
        }
    }

    if (fetch->lookup_timer.timer_set) {
        ngx_del_timer(&fetch->lookup_timer);
    }
}

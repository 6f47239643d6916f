
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_fetch.h"

#include <dlfcn.h>
#include <ngx_channel.h>
#include <pthread.h>


/*
 * Looks up the addresses of the endpoint's name, by the "resolver" in effect,
 * or by the system if there is none.  A fetch asks, and goes on when there are
 * addresses.  The worker must never wait here: getaddrinfo() blocks, so each
 * question to the system has a thread of its own.
 *
 * A thread calls no function of nginx.  It writes the pointer to its question
 * into a pipe, and the worker reads it there and frees the question.  Fetches
 * that look up the same name share a question; they may all have ended when
 * the answer comes.
 */


/* milliseconds for a name server, if addresses are known that have worked */

#define NGX_HTTP_BOG_RESOLVE_TIMEOUT  1000

/* milliseconds that an answer for IPv4 waits for that of both families */

#define NGX_HTTP_BOG_RESOLVE_DELAY    50

#define NGX_HTTP_BOG_RESOLVE_STACK    262144


/*
 * Each lookup asks two questions.  The answer for both families counts.  The
 * answer for IPv4 serves if name servers fail, or do not answer, for IPv6.
 */

#define NGX_HTTP_BOG_RESOLVE_BOTH     1
#define NGX_HTTP_BOG_RESOLVE_IPV4     2


typedef struct {
    ngx_queue_t        queue;
    ngx_uint_t         kind;
    int                rc;
    struct addrinfo   *addrs;
    char               name[1];
} ngx_http_bog_question_t;


static ngx_int_t ngx_http_bog_resolve_ask_resolver(
    ngx_http_bog_fetch_t *fetch);
static void ngx_http_bog_resolve_expire(ngx_resolver_t *resolver,
    ngx_str_t *name);
static void ngx_http_bog_resolve_handler(ngx_resolver_ctx_t *ctx);
static ngx_int_t ngx_http_bog_resolve_ask_system(ngx_http_bog_fetch_t *fetch);
static ngx_int_t ngx_http_bog_resolve_open_pipe(void);
static ngx_int_t ngx_http_bog_resolve_ask(ngx_str_t *name, ngx_uint_t kind);
static void *ngx_http_bog_resolve_thread(void *data);
static void ngx_http_bog_resolve_pipe_handler(ngx_event_t *ev);
static void ngx_http_bog_resolve_take_answer(ngx_http_bog_fetch_t *fetch,
    ngx_http_bog_question_t *question);
static void ngx_http_bog_resolve_timeout_handler(ngx_event_t *ev);
static void ngx_http_bog_resolve_add_address(ngx_http_bog_fetch_t *fetch,
    struct sockaddr *sockaddr, socklen_t socklen);
static void ngx_http_bog_resolve_done(ngx_http_bog_fetch_t *fetch);
static void ngx_http_bog_resolve_choose(ngx_http_bog_fetch_t *fetch);


static ngx_queue_t  ngx_http_bog_questions;     /* to the system, without an
                                                   answer so far */
static ngx_queue_t  ngx_http_bog_lookups;       /* fetches that wait for one */
static ngx_fd_t     ngx_http_bog_pipe[2] = { -1, -1 };
static void        *ngx_http_bog_itself;        /* keeps the module loaded */


void
ngx_http_bog_resolve(ngx_http_bog_fetch_t *fetch)
{
    ngx_int_t                rc;
    ngx_msec_t               timeout;
    ngx_uint_t               stale;
    bog_policy_t            *policy;
    ngx_http_bog_account_t  *account;

    account = fetch->account;

    if (account->endpoint->addr || account->endpoint->upstream) {
        ngx_http_bog_fetch_send(fetch);
        return;
    }

    /* if nothing has answered at the addresses, there may be others now */

    policy = &fetch->record.policy;

    stale = (policy->failures
             && (policy->error == BOG_ERROR_CONNECT
                 || policy->error == BOG_ERROR_TLS
                 || policy->error == BOG_ERROR_TIMEOUT));

    timeout = account->resolver_timeout;

    if (fetch->record.addrs.n && !stale) {
        timeout = ngx_min(timeout, NGX_HTTP_BOG_RESOLVE_TIMEOUT);
    }

    fetch->lookup_error = NGX_RESOLVE_TIMEDOUT;

    fetch->lookup_timer.handler = ngx_http_bog_resolve_timeout_handler;
    fetch->lookup_timer.data = fetch;
    fetch->lookup_timer.log = &fetch->log;

    /* a worker that exits does not wait for the answer */

    fetch->lookup_timer.cancelable = 1;
    fetch->timeout.cancelable = 1;
    fetch->connection->read->channel = 1;

    if (account->resolver == NULL) {
        ngx_add_timer(&fetch->lookup_timer, timeout);
        rc = ngx_http_bog_resolve_ask_system(fetch);

    } else {
        if (stale) {
            ngx_http_bog_resolve_expire(account->resolver,
                                        &account->endpoint->host);
        }

        /* nginx asks one name server, and the next one if it is asked again */

        fetch->lookup_again = timeout / 2;
        ngx_add_timer(&fetch->lookup_timer, timeout / 2);
        rc = ngx_http_bog_resolve_ask_resolver(fetch);
    }

    if (rc != NGX_OK) {
        fetch->aborted = 1;
        ngx_http_bog_resolve_done(fetch);
    }
}


static ngx_int_t
ngx_http_bog_resolve_ask_resolver(ngx_http_bog_fetch_t *fetch)
{
    ngx_resolver_ctx_t  *ctx;

    ctx = ngx_resolve_start(fetch->account->resolver, NULL);
    if (ctx == NULL || ctx == NGX_NO_RESOLVER) {
        return NGX_ERROR;
    }

    ctx->name = fetch->account->endpoint->host;
    ctx->handler = ngx_http_bog_resolve_handler;
    ctx->data = fetch;

    fetch->lookup = ctx;

    if (ngx_resolve_name(ctx) != NGX_OK) {
        fetch->lookup = NULL;
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* nginx's resolver keeps an answer for its TTL, which ends here */

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

    } else {
        for (i = 0; i < ctx->naddrs; i++) {
            ngx_http_bog_resolve_add_address(fetch, ctx->addrs[i].sockaddr,
                                             ctx->addrs[i].socklen);
        }
    }

    ngx_http_bog_resolve_done(fetch);
}


static ngx_int_t
ngx_http_bog_resolve_ask_system(ngx_http_bog_fetch_t *fetch)
{
    ngx_str_t  *name;

    name = &fetch->account->endpoint->host;

    if (ngx_http_bog_resolve_open_pipe() != NGX_OK
        || ngx_http_bog_resolve_ask(name, NGX_HTTP_BOG_RESOLVE_BOTH) != NGX_OK)
    {
        return NGX_ERROR;
    }

    fetch->questions = NGX_HTTP_BOG_RESOLVE_BOTH;

    /* if there is no thread for the second question, the first one may do */

    if (ngx_http_bog_resolve_ask(name, NGX_HTTP_BOG_RESOLVE_IPV4) == NGX_OK) {
        fetch->questions |= NGX_HTTP_BOG_RESOLVE_IPV4;
    }

    ngx_queue_insert_tail(&ngx_http_bog_lookups, &fetch->queue);

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_resolve_open_pipe(void)
{
    Dl_info  info;

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

    /*
     * A worker that exits unloads its modules before exit() ends the threads.
     * A thread that gets its answer in between would return to code that is
     * gone.  So the module opens itself, and stays loaded.
     */

    if (dladdr(ngx_http_bog_pipe, &info)) {
        ngx_http_bog_itself = dlopen(info.dli_fname, RTLD_LAZY|RTLD_NOLOAD);
    }

    ngx_queue_init(&ngx_http_bog_questions);
    ngx_queue_init(&ngx_http_bog_lookups);

    return NGX_OK;
}


/* Asks, unless the same question has been asked and has no answer yet. */

static ngx_int_t
ngx_http_bog_resolve_ask(ngx_str_t *name, ngx_uint_t kind)
{
    int                       rc;
    sigset_t                  all, old;
    pthread_t                 tid;
    ngx_queue_t              *q;
    pthread_attr_t            attr;
    ngx_http_bog_question_t  *question;

    for (q = ngx_queue_head(&ngx_http_bog_questions);
         q != ngx_queue_sentinel(&ngx_http_bog_questions);
         q = ngx_queue_next(q))
    {
        question = ngx_queue_data(q, ngx_http_bog_question_t, queue);

        if (question->kind == kind
            && ngx_strlen(question->name) == name->len
            && ngx_strncmp(question->name, name->data, name->len) == 0)
        {
            return NGX_OK;
        }
    }

    question = ngx_calloc(sizeof(ngx_http_bog_question_t) + name->len,
                          ngx_cycle->log);
    if (question == NULL) {
        return NGX_ERROR;
    }

    question->kind = kind;
    ngx_memcpy(question->name, name->data, name->len);

    /* signals are for the worker: the thread inherits the mask */

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
        return NGX_ERROR;
    }

    ngx_queue_insert_tail(&ngx_http_bog_questions, &question->queue);

    return NGX_OK;
}


static void *
ngx_http_bog_resolve_thread(void *data)
{
    struct addrinfo           hints;
    ngx_http_bog_question_t  *question;

    question = data;

    ngx_memzero(&hints, sizeof(struct addrinfo));

    hints.ai_family = (question->kind == NGX_HTTP_BOG_RESOLVE_IPV4)
                      ? AF_INET : AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;

    question->rc = getaddrinfo(question->name, NULL, &hints,
                               &question->addrs);

    (void) ngx_write_fd(ngx_http_bog_pipe[1], &question, sizeof(void *));

    return NULL;
}


static void
ngx_http_bog_resolve_pipe_handler(ngx_event_t *ev)
{
    ngx_str_t                *host;
    ngx_queue_t              *q, *next;
    ngx_http_bog_fetch_t     *fetch;
    ngx_http_bog_question_t  *question;

    while (ngx_read_fd(ngx_http_bog_pipe[0], &question, sizeof(void *))
           == sizeof(void *))
    {
        ngx_queue_remove(&question->queue);

        for (q = ngx_queue_head(&ngx_http_bog_lookups);
             q != ngx_queue_sentinel(&ngx_http_bog_lookups);
             q = next)
        {
            next = ngx_queue_next(q);

            fetch = ngx_queue_data(q, ngx_http_bog_fetch_t, queue);
            host = &fetch->account->endpoint->host;

            if ((fetch->questions & question->kind)
                && ngx_strlen(question->name) == host->len
                && ngx_strncmp(question->name, host->data, host->len) == 0)
            {
                ngx_http_bog_resolve_take_answer(fetch, question);
            }
        }

        if (question->addrs) {
            freeaddrinfo(question->addrs);
        }

        ngx_free(question);
    }
}


static void
ngx_http_bog_resolve_take_answer(ngx_http_bog_fetch_t *fetch,
    ngx_http_bog_question_t *question)
{
    struct addrinfo  *ai;

    fetch->questions &= ~question->kind;

    if (question->rc) {
        fetch->lookup_error = question->rc;
    }

    if (question->kind == NGX_HTTP_BOG_RESOLVE_BOTH && question->addrs) {
        fetch->questions = 0;
        fetch->addrs.n = 0;
    }

    for (ai = question->addrs; ai; ai = ai->ai_next) {
        ngx_http_bog_resolve_add_address(fetch, ai->ai_addr, ai->ai_addrlen);
    }

    if (fetch->questions == 0) {
        ngx_queue_remove(&fetch->queue);
        ngx_http_bog_resolve_done(fetch);

    } else if (fetch->addrs.n) {
        ngx_add_timer(&fetch->lookup_timer, NGX_HTTP_BOG_RESOLVE_DELAY);
    }
}


static void
ngx_http_bog_resolve_timeout_handler(ngx_event_t *ev)
{
    ngx_http_bog_fetch_t  *fetch;

    fetch = ev->data;

    if (fetch->lookup_again) {
        ngx_http_bog_resolve_cancel(fetch);

        ngx_add_timer(&fetch->lookup_timer, fetch->lookup_again);
        fetch->lookup_again = 0;

        if (ngx_http_bog_resolve_ask_resolver(fetch) == NGX_OK) {
            return;
        }
    }

    ngx_http_bog_resolve_done(fetch);
}


static void
ngx_http_bog_resolve_add_address(ngx_http_bog_fetch_t *fetch,
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
    const char  *text;

    ngx_http_bog_resolve_cancel(fetch);

    fetch->timeout.cancelable = 0;
    fetch->connection->read->channel = 0;

    if (fetch->addrs.n == 0) {
        text = (fetch->account->resolver
                || fetch->lookup_error == NGX_RESOLVE_TIMEDOUT)
               ? ngx_resolver_strerror(fetch->lookup_error)
               : gai_strerror(fetch->lookup_error);

        ngx_http_bog_fetch_fail(fetch, BOG_ERROR_RESOLVE,
                                "%V could not be resolved (%i: %s)",
                                &fetch->account->endpoint->host,
                                fetch->lookup_error, text);

        fetch->addrs = fetch->record.addrs;

        if (fetch->addrs.n) {
            ngx_log_error(NGX_LOG_INFO, &fetch->log, 0,
                          "%*s, the addresses that worked last are used",
                          fetch->failed.reason_len, fetch->failed.reason);
        }
    }

    if (fetch->addrs.n) {
        fetch->aborted = 0;
        fetch->failure.error = BOG_ERROR_NONE;
        ngx_http_bog_resolve_choose(fetch);
        ngx_http_bog_fetch_send(fetch);
        return;
    }

    /* if there is no descriptor, libc says only that it cannot resolve */

    if (ngx_http_bog_resolve_test_family(AF_INET)) {
        fetch->aborted = 1;
    }

    ngx_http_bog_fetch_finish(fetch);
}


/*
 * Leaves out the addresses that cannot be reached from this machine, or from
 * the address of "bog_bind": nginx would not go on to the next one after them.
 * If all are so, they stay, and nginx logs what is wrong.
 */

static void
ngx_http_bog_resolve_choose(ngx_http_bog_fetch_t *fetch)
{
    int                         family;
    ngx_uint_t                  i, n;
    ngx_http_bog_addrs_t       *addrs;
    ngx_http_upstream_local_t  *local;

    addrs = &fetch->addrs;
    local = fetch->account->upstream.local;

    addrs->first = 0;

    for (i = 0, n = 0; i < addrs->n; i++) {
        family = addrs->list[i].sockaddr.sa_family;

        if (local && local->addr->sockaddr->sa_family != family) {
            continue;
        }

        if (ngx_http_bog_resolve_test_family(family) == EAFNOSUPPORT) {
            continue;
        }

        if (ngx_cmp_sockaddr(&addrs->list[i].sockaddr,
                             sizeof(ngx_http_bog_addr_t),
                             &fetch->record.begin.sockaddr,
                             sizeof(ngx_http_bog_addr_t), 1)
            == NGX_OK)
        {
            addrs->first = n;
        }

        addrs->list[n++] = addrs->list[i];
    }

    if (n) {
        addrs->n = n;
    }
}


ngx_err_t
ngx_http_bog_resolve_test_family(int family)
{
    ngx_socket_t  s;

    s = ngx_socket(family, SOCK_STREAM, 0);

    if (s == (ngx_socket_t) -1) {
        return ngx_socket_errno;
    }

    (void) ngx_close_socket(s);

    return 0;
}


void
ngx_http_bog_resolve_cancel(ngx_http_bog_fetch_t *fetch)
{
    if (fetch->lookup) {
        ngx_resolve_name_done(fetch->lookup);
        fetch->lookup = NULL;
    }

    if (fetch->questions) {
        ngx_queue_remove(&fetch->queue);
        fetch->questions = 0;
    }

    if (fetch->lookup_timer.timer_set) {
        ngx_del_timer(&fetch->lookup_timer);
    }
}

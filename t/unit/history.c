
/*
 * Copyright (C) The nginx-bog authors
 */


#include "unit.h"

#include "bog_policy.h"


/*
 * Histories made at random: a worker that does what the policy says, a bank
 * that answers, hands out the same token again, fails or asks for a wait, an
 * API that rejects and accepts tokens, reloads, and clocks that are set and
 * stand still.  A model that knows no more than the rules looks on.
 *
 * Each step has a seed of its own, so that the others stay what they are when
 * one is left out: of a history that fails, only those steps are told that it
 * takes to fail.
 */


#define UNIT_HISTORIES  1000000
#define UNIT_STEPS      32


/* what a model can be wrong about, to see that it is found */

typedef enum {
    UNIT_RIGHT = 0,
    UNIT_LATE,                    /* a token lasts a second longer */
    UNIT_NEWBORN,                 /* a new token is given out at once */
    UNIT_DOUBT,                   /* newborn for a second more */
    UNIT_BOTH,                    /* the old token comes back however often */
    UNIT_AGAIN,                   /* the same token has a new end */
    UNIT_RELEASED,                /* a rejected token is given out meanwhile */
    UNIT_WITHHELD,                /* after a failure it is withheld still */
    UNIT_EARLY,                   /* rejections override Retry-After */
    UNIT_PATIENT,                 /* they do not override a backoff */
    UNIT_FORGOTTEN,               /* an accepted token ends all waits */
    UNIT_RELOAD,                  /* reloads override Retry-After */
    UNIT_RELOADS,                 /* each reload allows a fetch */
    UNIT_SILENT,                  /* no answer: up to eight seconds */
    UNIT_MISTAKES
} unit_mistake_e;


typedef struct {
    uint64_t        first;        /* the history's seed */
    uint64_t        seed;         /* of what comes next */
    int             step;
    uint32_t        skip;         /* bits of steps that are left out */
    char           *log;          /* of the steps, or NULL */
    size_t          size;

    jmp_buf         failed;
    const char     *what;         /* does not hold */
    int             line;

    bog_time_t      now;
    bog_policy_t    policy;
    int64_t         before;

    /* the model */
    int64_t         ends;         /* mono: end of the last token got */
    int64_t         ends_wall;
    int64_t         guard;
    int64_t         quiet;        /* mono: no fetch may begin before, */
    int64_t         quiet_wall;   /* unless the wall clock says so */
    int64_t         apart;        /* mono: nor here, valid or not */
    int64_t         again;        /* mono: after the end of the same token */
    uint32_t        failures;
    int             asked;        /* the last failure asked for a wait */

    int64_t         mature;       /* mono: until then the token is newborn */
    int64_t         old_ends;     /* mono: the old one is given out until */
    int64_t         old_ends_wall;
    int             old;          /* the old one may be given out at all */
    int             doubted;      /* the API has rejected the newer one */
    int             withheld;
    int64_t         forced;       /* mono: the last fetch by a rejection */
    uint32_t        rejections;   /* since the API accepted a token */
    int64_t         reloaded;     /* mono: the last fetch by a reload */
    unit_mistake_e  mistake;
} unit_history_t;


#define unit_check(h, expr)                                                   \
    if (!(expr)) {                                                            \
        unit_history_fail(h, #expr, __LINE__);                                \
    }


static bog_failure_t  unit_kinds[] = {
    { BOG_ERROR_RESOLVE, 0, -1 },
    { BOG_ERROR_CONNECT, 0, -1 },
    { BOG_ERROR_TLS, 0, -1 },
    { BOG_ERROR_TIMEOUT, 0, -1 },
    { BOG_ERROR_HTTP, 500, -1 },
    { BOG_ERROR_HTTP, 404, -1 },
    { BOG_ERROR_HTTP, 503, -1 },
    { BOG_ERROR_HTTP, 503, 0 },
    { BOG_ERROR_HTTP, 429, 20000 },
    { BOG_ERROR_HTTP, 429, 90000000 },
    { BOG_ERROR_REJECTED, 401, -1 },
    { BOG_ERROR_REJECTED, 400, 1 },
    { BOG_ERROR_MALFORMED, 200, -1 },
    { BOG_ERROR_TOO_LARGE, 200, -1 }
};


static void unit_history_fail(unit_history_t *h, const char *what, int line);
static void unit_history_tell(unit_history_t *h, const char *format, ...)
    __attribute__((format(printf, 2, 3)));


static void
unit_history_fail(unit_history_t *h, const char *what, int line)
{
    h->what = what;
    h->line = line;

    longjmp(h->failed, 1);
}


/* one line of the story of a failure */

static void
unit_history_tell(unit_history_t *h, const char *format, ...)
{
    int      n;
    va_list  args;

    if (h->log == NULL) {
        return;
    }

    n = snprintf(h->log, h->size, "\n  step %d, %lld/%lld: ", h->step,
                 (long long) h->now.mono, (long long) h->now.wall);

    if (n > 0 && (size_t) n < h->size) {
        h->log += n;
        h->size -= n;
    }

    va_start(args, format);
    n = vsnprintf(h->log, h->size, format, args);
    va_end(args);

    if (n > 0 && (size_t) n < h->size) {
        h->log += n;
        h->size -= n;
    }
}


/* a number below n, of all sizes alike */

static int64_t
unit_history_number(unit_history_t *h, int64_t n)
{
    int64_t  x;

    x = (int64_t) unit_random(&h->seed) << 31 | unit_random(&h->seed) >> 1;

    return (x >> unit_random(&h->seed) % 60) % n;
}


static int
unit_history_old(unit_history_t *h)
{
    return h->old && h->now.mono < h->old_ends
           && h->now.wall < h->old_ends_wall;
}


static int
unit_history_valid(unit_history_t *h)
{
    return h->now.mono < h->ends - h->guard
                         + (h->mistake == UNIT_LATE ? 1000 : 0)
           && h->now.wall < h->ends_wall - h->guard;
}


/* the token that a request should get */

static bog_token_e
unit_history_given(unit_history_t *h)
{
    if (unit_history_old(h)
        && (h->doubted || (h->now.mono < h->mature
                           && h->mistake != UNIT_NEWBORN)))
    {
        return BOG_TOKEN_OLD;
    }

    return ((!h->withheld || h->mistake == UNIT_RELEASED)
            && unit_history_valid(h)) ? BOG_TOKEN_CURRENT : BOG_TOKEN_NONE;
}


/* what must hold at any time */

static void
unit_history_look(unit_history_t *h)
{
    int      valid;
    int64_t  next;

    valid = bog_times_valid(&h->policy.token, &h->now);
    next = bog_policy_next(&h->policy, &h->now);

    /* given out as long as it may be, and no longer, by either clock */

    unit_check(h, valid == unit_history_valid(h));
    unit_check(h, bog_policy_token(&h->policy, &h->now)
                  == unit_history_given(h));

    /* a token is withheld only as long as a fetch is due */

    unit_check(h, !h->withheld || next <= h->now.mono || next == h->apart);

    /* never before a failure's wait is over, nor too soon after a success */

    unit_check(h, next >= h->policy.retry);
    unit_check(h, !valid || next >= h->quiet || h->now.wall >= h->quiet_wall);

    /* there is a next one, in time for the token, and not too far */

    unit_check(h, h->now.wall < h->policy.token.refresh_wall
                  || next == h->policy.retry);
    unit_check(h, next <= h->now.mono + 375000
                  || (valid && next <= h->ends - h->guard)
                  || next == h->again);

    unit_check(h, valid || h->failures || next <= h->now.mono
                  || next == h->apart || next == h->again);
    unit_check(h, h->policy.failures == h->failures);
    unit_check(h, (h->policy.error == BOG_ERROR_NONE) == (h->failures == 0));
}


static void
unit_history_failure(unit_history_t *h)
{
    int64_t        least, wait;
    bog_policy_t   old;
    bog_failure_t  f;

    old = h->policy;
    f = unit_kinds[unit_random(&h->seed) % unit_count(unit_kinds)];

    unit_history_tell(h, "failure %d, status %u, Retry-After %lld",
                      f.error, f.status, (long long) f.retry_after);

    bog_policy_failure(&h->policy, &h->now, &f, unit_random(&h->seed));

    h->failures++;
    h->asked = (f.retry_after >= 0);
    h->withheld = (h->withheld && h->mistake == UNIT_WITHHELD);

    /* a second, five for the credentials, and twice that after another */

    least = (f.error == BOG_ERROR_REJECTED) ? 5000 : 1000;
    least = (h->failures > 1 && f.retry_after < 0) ? 2 * least : least;

    wait = h->policy.retry - h->now.mono;

    unit_check(h, wait >= least);
    unit_check(h, wait <= 375000);
    unit_check(h, wait <= 75000 || f.error == BOG_ERROR_REJECTED
                  || f.retry_after > 60000);
    unit_check(h, wait <= (h->mistake == UNIT_SILENT ? 8000 : 10000)
                  || f.error > BOG_ERROR_TIMEOUT);

    unit_check(h, h->policy.token.expires == old.token.expires
                  && h->policy.token.until == old.token.until
                  && h->policy.token.until_wall == old.token.until_wall
                  && h->policy.token.refresh == old.token.refresh
                  && h->policy.token.refresh_wall == old.token.refresh_wall);
}


/* a fetch brought a token */

static void
unit_history_done(unit_history_t *h, const bog_time_t *start)
{
    h->failures = 0;
    h->asked = 0;
    h->withheld = 0;
    h->apart = start->mono + 200;
    h->again = 0;

    unit_check(h, h->policy.retry == h->apart);
}


static void
unit_history_success(unit_history_t *h, const bog_time_t *start)
{
    int           first;
    int64_t       lifetime, guard;
    bog_policy_t  old;

    old = h->policy;
    first = (h->failures > 0 || !bog_times_valid(&h->policy.token, &h->now));
    lifetime = 1000 + unit_history_number(h, 86400000 - 1000 + 1);
    guard = (lifetime < 50000) ? lifetime / 10 : 5000;

    unit_history_tell(h, "token for %lld, sent at %lld", (long long) lifetime,
                      (long long) start->mono);

    if (!bog_policy_success(&h->policy, start, &h->now, lifetime, h->before,
                            unit_random(&h->seed)))
    {
        unit_check(h, h->now.mono >= start->mono + lifetime - guard
                      || h->now.wall >= start->wall + lifetime - guard);
        unit_check(h, memcmp(&h->policy, &old, sizeof(old)) == 0);

        unit_history_failure(h);
        return;
    }

    unit_check(h, bog_times_valid(&h->policy.token, &h->now));

    h->old = (h->rejections == 0);
    h->old_ends = h->ends - h->guard;
    h->old_ends_wall = h->ends_wall - h->guard;
    h->mature = h->now.mono + (lifetime < 30000 ? lifetime / 10 : 3000);
    h->doubted = 0;

    h->ends = start->mono + lifetime;
    h->ends_wall = start->wall + lifetime;
    h->guard = guard;

    unit_history_done(h, start);

    /* while it is valid, no refresh in the first 0.45 of its life */

    h->quiet = start->mono + lifetime - lifetime / 2 - lifetime / 20;

    /* after nothing, or after failures, in the first tenth of that */

    if (first && lifetime > 2 * h->before) {
        h->quiet = start->mono + (h->quiet - start->mono) / 10;

    } else {
        unit_check(h, h->policy.token.refresh >= h->ends - h->before
                                           - h->before / 10 - 1
                      || h->policy.token.refresh == h->policy.token.until);
    }

    h->quiet_wall = h->quiet - start->mono + start->wall;

    unit_check(h, h->policy.token.refresh >= h->quiet);
    unit_check(h, h->policy.token.refresh <= h->policy.token.until);
    unit_check(h, h->policy.token.refresh_wall - start->wall
                  == h->policy.token.refresh - start->mono);
}


/* the token that is held came again, and lives no longer than it did */

static void
unit_history_again(unit_history_t *h, const bog_time_t *start)
{
    int64_t  lifetime;

    lifetime = 1000 + unit_history_number(h, 86400000 - 1000 + 1);

    unit_history_tell(h, "the same token for %lld, sent at %lld",
                      (long long) lifetime, (long long) start->mono);

    bog_policy_repeated(&h->policy, start, lifetime);

    if (start->mono + lifetime < h->ends || h->mistake == UNIT_AGAIN) {
        h->ends = start->mono + lifetime;
    }

    h->ends_wall = start->wall + (h->ends - start->mono);

    unit_history_done(h, start);

    /* asked for again after its end */

    h->quiet = 0;
    h->quiet_wall = 0;
    h->again = h->ends + 1000;

    unit_check(h, h->policy.token.refresh == h->again);
    unit_check(h, h->policy.token.refresh_wall == h->ends_wall + 1000);
}


/* a worker lacks something of its own, or its fetch was cut short */

static void
unit_history_release(unit_history_t *h)
{
    unit_history_tell(h, "nothing came");

    h->policy.withheld = 0;
    h->withheld = 0;
}


/*
 * The API says 401.  Of two tokens the other one takes its place, once.  Else
 * it is withheld and a fetch is due: five seconds after the last such fetch, at
 * the soonest, and twice as long each time, until the API accepts a token.
 */

static void
unit_history_reject(unit_history_t *h)
{
    int           forced, changed;
    int64_t       gap;
    uint32_t      n;
    bog_token_e   token;
    bog_policy_t  old;

    token = unit_history_given(h);

    if (token == BOG_TOKEN_NONE) {
        return;
    }

    gap = 5000;

    for (n = 1; n < h->rejections && gap < 300000; n++) {
        gap = (gap < 150000) ? 2 * gap : 300000;
    }

    if (h->mistake == UNIT_FORGOTTEN && h->rejections == 0) {
        gap = 0;
    }

    forced = unit_history_valid(h)
             && !h->withheld
             && (h->forced == 0 || h->now.mono - h->forced >= gap)
             && (!h->asked || h->now.mono >= h->policy.retry
                 || h->mistake == UNIT_EARLY);

    changed = forced;

    if (token == BOG_TOKEN_OLD && !h->doubted) {
        h->old = 0;
        forced = 0;
        changed = 1;

    } else if (token == BOG_TOKEN_CURRENT
               && h->now.mono < h->mature + (h->mistake == UNIT_DOUBT ? 8000
                                                                     : 7000)
               && unit_history_old(h))
    {
        h->doubted = 1;
        forced = 0;
        changed = 1;
    }

    unit_history_tell(h, "401 for token %d, force a fetch: %d", token, forced);

    old = h->policy;

    unit_check(h, bog_rejected_changes(bog_policy_rejected(&h->policy, &h->now,
                                                           token))
                  == changed);

    if (!changed) {
        unit_check(h, memcmp(&h->policy, &old, sizeof(old)) == 0);
        return;
    }

    /* the tokens' ends are what they were, and so is the failure */

    unit_check(h, h->policy.token.until == old.token.until);
    unit_check(h, h->policy.token.until_wall == old.token.until_wall);
    unit_check(h, h->policy.error == old.error);

    if (!forced) {
        unit_check(h, h->policy.retry == old.retry);
        unit_check(h, h->policy.token.refresh == old.token.refresh);
        return;
    }

    h->old = (h->mistake == UNIT_BOTH);
    h->withheld = 1;
    h->forced = h->now.mono;
    h->rejections++;
    h->quiet = 0;
    h->quiet_wall = 0;

    unit_check(h, h->mistake != UNIT_PATIENT || h->policy.retry == old.retry);
}


static void
unit_history_accept(unit_history_t *h)
{
    if (unit_history_given(h) == BOG_TOKEN_CURRENT) {
        unit_history_tell(h, "200");

        bog_policy_accepted(&h->policy);
        h->rejections = 0;
    }
}


/* no more than one fetch in five seconds is allowed by reloads */

static void
unit_history_reload(unit_history_t *h)
{
    int64_t       soon;
    bog_policy_t  old;

    soon = h->now.mono;

    if (h->reloaded && h->reloaded + 5000 > soon
        && h->mistake != UNIT_RELOADS)
    {
        soon = h->reloaded + 5000;
    }

    unit_history_tell(h, "reload, not before %lld", (long long) soon);

    old = h->policy;

    if (h->failures == 0 || old.retry <= soon
        || (h->asked && h->mistake != UNIT_RELOAD))
    {
        unit_check(h, !bog_policy_reload(&h->policy, &h->now));
        unit_check(h, memcmp(&h->policy, &old, sizeof(old)) == 0);
        return;
    }

    unit_check(h, bog_policy_reload(&h->policy, &h->now));
    unit_check(h, h->policy.retry == soon);

    h->reloaded = soon;
    old.retry = soon;
    old.reloaded = soon;

    unit_check(h, memcmp(&h->policy, &old, sizeof(old)) == 0);
}


/* the clocks go on, both or one */

static void
unit_history_wait(unit_history_t *h, int64_t msec)
{
    h->now.mono += msec;
    h->now.wall += msec;

    switch (unit_random(&h->seed) % 16) {

    case 0:
        /* asleep, or set forward */
        h->now.wall += unit_history_number(h, 100000000);
        break;

    case 1:
        /* set back */
        h->now.wall -= unit_history_number(h, 100000000);
        break;

    default:
        break;
    }
}


static void
unit_history_fetch(unit_history_t *h)
{
    bog_time_t  start;

    start = h->now;

    /* it took as long as that, seldom for longer than a token lives */

    unit_history_wait(h, unit_history_number(h, 20000));

    /* the API rejects and accepts while it lasts, too */

    if (unit_random(&h->seed) % 4 == 0) {
        unit_history_look(h);
        unit_history_reject(h);
    }

    switch (unit_random(&h->seed) % 8) {

    case 0:
    case 1:
        unit_history_failure(h);
        break;

    case 2:
        unit_history_release(h);
        break;

    case 3:
        if (h->now.mono < h->ends) {
            unit_history_again(h, &start);
            break;
        }

        /* fall through */

    default:
        unit_history_success(h, &start);
        break;
    }
}


static void
unit_history_step(unit_history_t *h)
{
    int64_t  next;

    unit_history_look(h);

    switch (unit_random(&h->seed) % 8) {

    case 0:
    case 1:
        unit_history_reject(h);
        break;

    case 2:
        unit_history_accept(h);
        break;

    case 3:
        unit_history_reload(h);
        break;

    default:
        break;
    }

    unit_history_look(h);

    next = bog_policy_next(&h->policy, &h->now);

    if (next <= h->now.mono) {
        unit_history_fetch(h);
        return;
    }

    unit_history_tell(h, "next fetch at %lld", (long long) next);

    /* to the next fetch, or part of the way, or the worker comes late */

    switch (unit_random(&h->seed) % 4) {

    case 0:
        unit_history_wait(h, unit_history_number(h, next - h->now.mono));
        break;

    case 1:
        unit_history_wait(h, next - h->now.mono
                             + unit_history_number(h, 100000));
        break;

    default:
        unit_history_wait(h, next - h->now.mono);
        break;
    }
}


/* Returns 1 where all holds. */

static int
unit_history_run(unit_history_t *h, uint64_t first,
    unit_mistake_e mistake, uint32_t skip, char *log, size_t size)
{
    memset(h, 0, sizeof(unit_history_t));

    h->first = first;
    h->seed = first << 32;
    h->mistake = mistake;
    h->skip = skip;
    h->log = log;
    h->size = size;

    h->now.mono = unit_history_number(h, 10000000000);
    h->now.wall = 1700000000000 + unit_history_number(h, 10000000000);
    h->before = unit_history_number(h, 600000);

    if (setjmp(h->failed)) {
        return 0;
    }

    for (h->step = 0; h->step < UNIT_STEPS; h->step++) {

        h->seed = first << 32 | (uint64_t) (h->step + 1) << 24;

        if (!(h->skip >> h->step & 1)) {
            unit_history_step(h);
        }
    }

    return 1;
}


/* Leaves out each step without which it fails as well; returns the others. */

static int
unit_history_shrink(unit_history_t *h, uint64_t first,
    unit_mistake_e mistake, char *log, size_t size)
{
    int       i, n;
    uint32_t  skip;

    skip = 0;

    for (i = UNIT_STEPS - 1; i >= 0; i--) {
        if (!unit_history_run(h, first, mistake, skip | (uint32_t) 1 << i,
                              NULL, 0))
        {
            skip |= (uint32_t) 1 << i;
        }
    }

    (void) unit_history_run(h, first, mistake, skip, log, size);

    n = 0;

    for (i = 0; i < UNIT_STEPS; i++) {
        n += !(skip >> i & 1);
    }

    return n;
}


static void
test_histories(void **state)
{
    int             n;
    char            log[4096];
    uint64_t        i;
    unit_history_t  h;

    (void) state;

    for (i = 0; i < UNIT_HISTORIES; i++) {

        if (!unit_history_run(&h, i, UNIT_RIGHT, 0, NULL, 0)) {
            log[0] = '\0';
            n = unit_history_shrink(&h, i, UNIT_RIGHT, log, sizeof(log));

            fail_msg("seed 0x%llx, line %d: %s; %d steps:%s",
                     (unsigned long long) i, h.line, h.what, n, log);
        }
    }
}


/* a model that is wrong in one of the rules is soon found out */

static void
test_mistakes(void **state)
{
    int             n;
    char            log[4096];
    uint64_t        i;
    unit_history_t  h;
    unit_mistake_e  mistake;

    (void) state;

    for (mistake = UNIT_LATE; mistake < UNIT_MISTAKES; mistake++) {

        for (i = 0; unit_history_run(&h, i, mistake, 0, NULL, 0); i++) {
            if (i == 10000) {
                fail_msg("mistake %d is not found", mistake);
            }
        }

        log[0] = '\0';
        n = unit_history_shrink(&h, i, mistake, log, sizeof(log));

        if (n > UNIT_STEPS * 3 / 4) {
            fail_msg("mistake %d, seed 0x%llx: %d steps", mistake,
                     (unsigned long long) i, n);
        }

        assert_non_null(h.what);
        assert_non_null(strstr(log, "\n  step "));
    }
}


/*
 * An API that rejects every token once a second, for a day: few fetches come of
 * that, and most of the time there is a token.
 */

static void
test_storm(void **state)
{
    int             fetches, given;
    bog_token_e     token;
    unit_history_t  h;

    (void) state;

    memset(&h, 0, sizeof(h));
    h.now.wall = 1700000000000;

    fetches = 0;
    given = 0;

    while (h.now.mono < 86400000) {

        token = bog_policy_token(&h.policy, &h.now);

        if (token != BOG_TOKEN_NONE) {
            (void) bog_policy_rejected(&h.policy, &h.now, token);
        }

        if (bog_policy_next(&h.policy, &h.now) <= h.now.mono) {
            (void) bog_policy_success(&h.policy, &h.now, &h.now, 300000,
                                      60000, unit_random(&h.seed));
            fetches++;
        }

        given += (bog_policy_token(&h.policy, &h.now) != BOG_TOKEN_NONE);

        h.now.mono += 1000;
        h.now.wall += 1000;
    }

    /* a refresh each 234 seconds, and a fetch each 300, at the most */

    assert_in_range(fetches, 86400 / 300, 86400 / 234 + 86400 / 300 + 10);
    assert_in_range(given, 86400 - 10, 86400);
}


/*
 * How many fetches there are in a day of steady clocks: one for about every
 * half of a lifetime, and few from a bank that does not answer at all.
 */

static void
test_rate(void **state)
{
    int             n, failing, rejected;
    size_t          i;
    int64_t         least, wait;
    unit_history_t  h;

    static int64_t  lifetimes[] = { 1000, 2000, 60000, 300000, 3600000 };

    static bog_failure_t  failures[] = {
        { BOG_ERROR_CONNECT, 0, -1 },
        { BOG_ERROR_REJECTED, 401, -1 },
        { BOG_ERROR_HTTP, 503, 0 }
    };

    (void) state;

    for (i = 0; i < unit_count(lifetimes) + unit_count(failures); i++) {
        memset(&h, 0, sizeof(h));

        h.now.wall = 1700000000000;
        failing = (i >= unit_count(lifetimes));
        rejected = (i == unit_count(lifetimes) + 1);

        for (n = 0; h.now.mono < 86400000; n++) {

            if (failing) {
                bog_policy_failure(&h.policy, &h.now,
                                   &failures[i - unit_count(lifetimes)],
                                   unit_random(&h.seed));

            } else {
                assert_int_equal(bog_policy_success(&h.policy, &h.now, &h.now,
                                                    lifetimes[i], 60000,
                                                    unit_random(&h.seed)),
                                 1);
            }

            wait = bog_policy_next(&h.policy, &h.now) - h.now.mono;

            h.now.mono += wait;
            h.now.wall += wait;
        }

        if (!failing) {
            least = lifetimes[i] > 120000 ? lifetimes[i] - 66000
                                          : lifetimes[i] * 45 / 100;

        } else {
            least = rejected ? 290000 : (i == unit_count(lifetimes)) ? 7900
                                                                     : 1000;
        }

        assert_in_range(n, 1, 86400000 / least + 1);
    }
}


int
unit_history(void)
{
    const struct CMUnitTest  history[] = {
        cmocka_unit_test(test_histories),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_storm),
        cmocka_unit_test(test_rate)
    };

    return cmocka_run_group_tests(history, NULL, NULL);
}

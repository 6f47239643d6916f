
/*
 * Copyright (C) The nginx-bog authors
 */


#include "unit.h"

#include "bog_policy.h"


/*
 * Histories made at random: a worker that does what the policy says, a bank
 * that answers, fails or lets it wait, an API that rejects tokens, and clocks
 * that are set and stand still.  A model that knows no more than the rules
 * looks on.
 *
 * Each step has a seed of its own, so that the others stay what they are when
 * one is left out: of a history that fails, only those steps are told that it
 * takes to fail.
 */


#define UNIT_HISTORIES  1000000
#define UNIT_STEPS      32


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
    uint32_t        failures;
    int64_t         reject;       /* mono: no other token is dropped before */
    int64_t         gap;          /* between the last one and that */
    int64_t         late;         /* a mistake in the model, to be found */
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


/* what must hold at any time */

static void
unit_history_look(unit_history_t *h)
{
    int      valid;
    int64_t  next;

    valid = bog_policy_valid(&h->policy, &h->now);
    next = bog_policy_next(&h->policy, &h->now);

    /* given out as long as it may be, and no longer, by either clock */

    unit_check(h, valid == (h->now.mono < h->ends - h->guard + h->late
                            && h->now.wall < h->ends_wall - h->guard));

    /* never before a failure's wait is over, nor too soon after a success */

    unit_check(h, next >= h->policy.retry);
    unit_check(h, !valid || next >= h->quiet || h->now.wall >= h->quiet_wall);

    /* there is a next one, in time for the token, and not too far */

    unit_check(h, h->now.wall < h->policy.refresh_wall
                  || next == h->policy.retry);
    unit_check(h, next <= h->now.mono + 375000
                  || (valid && next <= h->ends - h->guard));

    unit_check(h, valid || h->failures || next <= h->now.mono
                  || next == h->apart);
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

    /* a second, five for the credentials, and twice that after another */

    least = (f.error == BOG_ERROR_REJECTED) ? 5000 : 1000;
    least = (h->failures > 1 && f.retry_after < 0) ? 2 * least : least;

    wait = h->policy.retry - h->now.mono;

    unit_check(h, wait >= least);
    unit_check(h, wait <= 375000);
    unit_check(h, wait <= 75000 || f.error == BOG_ERROR_REJECTED
                  || f.retry_after > 60000);

    unit_check(h, h->policy.expires == old.expires
                  && h->policy.until == old.until
                  && h->policy.until_wall == old.until_wall
                  && h->policy.refresh == old.refresh
                  && h->policy.refresh_wall == old.refresh_wall);
}


static void
unit_history_success(unit_history_t *h, const bog_time_t *start)
{
    int           first;
    int64_t       lifetime, guard;
    bog_policy_t  old;

    old = h->policy;
    first = (h->failures > 0 || !bog_policy_valid(&h->policy, &h->now));
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

    unit_check(h, bog_policy_valid(&h->policy, &h->now));

    h->ends = start->mono + lifetime;
    h->ends_wall = start->wall + lifetime;
    h->guard = guard;
    h->failures = 0;
    h->apart = start->mono + 200;

    unit_check(h, h->policy.retry == h->apart);

    /* while it is valid, no refresh in the first 0.45 of its life */

    h->quiet = start->mono + lifetime - lifetime / 2 - lifetime / 20;

    /* after nothing, or after failures, in the first tenth of that */

    if (first && lifetime > 2 * h->before) {
        h->quiet = start->mono + (h->quiet - start->mono) / 10;

    } else {
        unit_check(h, h->policy.refresh >= h->ends - h->before
                                           - h->before / 10 - 1
                      || h->policy.refresh == h->policy.until);
    }

    h->quiet_wall = h->quiet - start->mono + start->wall;

    unit_check(h, h->policy.refresh >= h->quiet);
    unit_check(h, h->policy.refresh <= h->policy.until);
    unit_check(h, h->policy.refresh_wall - start->wall
                  == h->policy.refresh - start->mono);
}


/*
 * The API says 401.  The token goes if it may: at the soonest five seconds
 * after the last one, and twice as long each time, until it was quiet for as
 * long as that again.
 */

static void
unit_history_reject(unit_history_t *h)
{
    int           may, dropped;
    bog_policy_t  old;

    old = h->policy;

    may = bog_policy_valid(&h->policy, &h->now)
          && h->now.mono >= h->reject
          && (h->failures == 0 || h->now.mono >= h->policy.retry);

    unit_history_tell(h, "401, may drop: %d", may);

    dropped = bog_policy_rejected(&h->policy, &h->now,
                                  unit_random(&h->seed));

    unit_check(h, dropped == may);

    if (!dropped) {
        unit_check(h, memcmp(&h->policy, &old, sizeof(old)) == 0);
        return;
    }

    if (h->gap == 0 || h->now.mono - h->reject > h->gap) {
        h->gap = 5000;

    } else {
        h->gap = (h->gap < 150000) ? 2 * h->gap : 300000;
    }

    h->reject = h->policy.reject;

    unit_check(h, h->reject >= h->now.mono + h->gap);
    unit_check(h, h->reject <= h->now.mono + h->gap + h->gap / 10);

    /* nothing else has changed, and the next fetch is due */

    unit_check(h, h->policy.retry == old.retry);
    unit_check(h, h->policy.error == old.error);
    unit_check(h, !bog_policy_valid(&h->policy, &h->now));

    h->ends = 0;
    h->ends_wall = 0;
    h->guard = 0;
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

    if (unit_random(&h->seed) % 3) {
        unit_history_success(h, &start);

    } else {
        unit_history_failure(h);
    }
}


static void
unit_history_step(unit_history_t *h)
{
    int64_t  next;

    unit_history_look(h);

    if (unit_random(&h->seed) % 4 == 0) {
        unit_history_reject(h);
        unit_history_look(h);
    }

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
unit_history_run(unit_history_t *h, uint64_t first, int64_t late,
    uint32_t skip, char *log, size_t size)
{
    memset(h, 0, sizeof(unit_history_t));

    h->first = first;
    h->seed = first << 32;
    h->late = late;
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
unit_history_shrink(unit_history_t *h, uint64_t first, int64_t late,
    char *log, size_t size)
{
    int       i, n;
    uint32_t  skip;

    skip = 0;

    for (i = UNIT_STEPS - 1; i >= 0; i--) {
        if (!unit_history_run(h, first, late, skip | (uint32_t) 1 << i, NULL,
                              0))
        {
            skip |= (uint32_t) 1 << i;
        }
    }

    (void) unit_history_run(h, first, late, skip, log, size);

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

        if (!unit_history_run(&h, i, 0, 0, NULL, 0)) {
            log[0] = '\0';
            n = unit_history_shrink(&h, i, 0, log, sizeof(log));

            fail_msg("seed 0x%llx, line %d: %s; %d steps:%s",
                     (unsigned long long) i, h.line, h.what, n, log);
        }
    }
}


/* a model that thinks that tokens last longer is soon found out */

static void
test_mistake(void **state)
{
    int             n;
    char            log[4096];
    uint64_t        i;
    unit_history_t  h;

    (void) state;

    for (i = 0; unit_history_run(&h, i, 1000, 0, NULL, 0); i++) {
        assert_in_range(i, 0, 1000);
    }

    log[0] = '\0';
    n = unit_history_shrink(&h, i, 1000, log, sizeof(log));

    assert_in_range(n, 1, UNIT_STEPS / 2);
    assert_non_null(h.what);
    assert_non_null(strstr(log, "token for "));
}


/*
 * An API that rejects every token once a second, for a day: few tokens go for
 * that, and most of the time there is one.
 */

static void
test_storm(void **state)
{
    int             fetches, valid;
    unit_history_t  h;

    (void) state;

    memset(&h, 0, sizeof(h));
    h.now.wall = 1700000000000;

    fetches = 0;
    valid = 0;

    while (h.now.mono < 86400000) {

        (void) bog_policy_rejected(&h.policy, &h.now, unit_random(&h.seed));

        if (bog_policy_next(&h.policy, &h.now) <= h.now.mono) {
            (void) bog_policy_success(&h.policy, &h.now, &h.now, 300000,
                                      60000, unit_random(&h.seed));
            fetches++;
        }

        valid += bog_policy_valid(&h.policy, &h.now);

        h.now.mono += 1000;
        h.now.wall += 1000;
    }

    /* a refresh each 234 seconds, and a drop each 300, at the most */

    assert_in_range(fetches, 86400 / 300, 86400 / 234 + 86400 / 300 + 10);
    assert_in_range(valid, 86400 - 10, 86400);
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
            least = rejected ? 290000 : (i == unit_count(lifetimes)) ? 59000
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
        cmocka_unit_test(test_mistake),
        cmocka_unit_test(test_storm),
        cmocka_unit_test(test_rate)
    };

    return cmocka_run_group_tests(history, NULL, NULL);
}

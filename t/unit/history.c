
/*
 * Copyright (C) The nginx-bog authors
 */


#include "unit.h"

#include "bog_policy.h"


/*
 * Histories made at random: a worker that does what the policy says, a bank
 * that answers, fails or lets it wait, and clocks that are set and stand
 * still.  A model that knows no more than the rules looks on.
 */


#define UNIT_HISTORIES  200000
#define UNIT_STEPS      32


typedef struct {
    uint64_t        first;        /* the history's seed */
    uint64_t        seed;
    int             step;

    bog_time_t      now;
    bog_policy_t    policy;
    int64_t         before;

    /* the model */
    int64_t         ends;         /* mono: end of the last token got */
    int64_t         ends_wall;
    int64_t         guard;
    int64_t         quiet;        /* mono: no fetch may begin before */
    int64_t         apart;        /* mono: nor here, valid or not */
    uint32_t        failures;
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


static void
unit_history_fail(unit_history_t *h, const char *what, int line)
{
    fail_msg("seed 0x%llx, step %d, line %d: %s",
             (unsigned long long) h->first, h->step, line, what);
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

    unit_check(h, valid == (h->now.mono < h->ends - h->guard
                            && h->now.wall < h->ends_wall - h->guard));

    /* never before a failure's wait is over, nor too soon after a success */

    unit_check(h, next >= h->policy.retry);
    unit_check(h, !valid || next >= h->quiet);

    /* there is a next one, in time for the token, and not too far */

    unit_check(h, next <= h->now.mono + 330000
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

    bog_policy_failure(&h->policy, &h->now, &f, unit_random(&h->seed));

    h->failures++;

    /* a second, five for the credentials, and twice that after another */

    least = (f.error == BOG_ERROR_REJECTED) ? 5000 : 1000;
    least = (h->failures > 1 && f.retry_after < 0) ? 2 * least : least;

    wait = h->policy.retry - h->now.mono;

    unit_check(h, wait >= least);
    unit_check(h, wait <= 330000);
    unit_check(h, wait <= 66000 || f.error == BOG_ERROR_REJECTED
                  || f.retry_after > 60000);

    unit_check(h, h->policy.expires == old.expires
                  && h->policy.until == old.until
                  && h->policy.until_wall == old.until_wall
                  && h->policy.refresh == old.refresh);
}


static void
unit_history_success(unit_history_t *h, const bog_time_t *start)
{
    int64_t       lifetime, guard;
    bog_policy_t  old;

    old = h->policy;
    lifetime = 1000 + unit_history_number(h, 86400000 - 1000 + 1);
    guard = (lifetime < 50000) ? lifetime / 10 : 5000;

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

    unit_check(h, h->policy.refresh >= h->quiet);
    unit_check(h, h->policy.refresh >= h->ends - h->before - h->before / 10
                                       - 1
                  || h->policy.refresh == h->policy.until);
    unit_check(h, h->policy.refresh <= h->policy.until);
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
unit_history_run(unit_history_t *h)
{
    int64_t  next;

    h->now.mono = unit_history_number(h, 10000000000);
    h->now.wall = 1700000000000 + unit_history_number(h, 10000000000);
    h->before = unit_history_number(h, 600000);

    for (h->step = 0; h->step < UNIT_STEPS; h->step++) {

        unit_history_look(h);

        next = bog_policy_next(&h->policy, &h->now);

        if (next <= h->now.mono) {
            unit_history_fetch(h);
            continue;
        }

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
}


static void
test_histories(void **state)
{
    uint64_t        i;
    unit_history_t  h;

    (void) state;

    for (i = 0; i < UNIT_HISTORIES; i++) {
        memset(&h, 0, sizeof(h));

        h.first = i;
        h.seed = i << 32;

        unit_history_run(&h);
    }
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
    int64_t         least;
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

            h.now.wall += bog_policy_next(&h.policy, &h.now) - h.now.mono;
            h.now.mono = bog_policy_next(&h.policy, &h.now);
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
        cmocka_unit_test(test_rate)
    };

    return cmocka_run_group_tests(history, NULL, NULL);
}


/*
 * Copyright (C) The nginx-bog authors
 */


#include "unit.h"

#include "bog_policy.h"


#define UNIT_MONO  1000000
#define UNIT_WALL  1700000000000


/* all times are counted from the start of the fetch */

typedef struct {
    int64_t       lifetime;
    int64_t       before;
    uint32_t      rnd;
    int64_t       expires;
    int64_t       until;
    int64_t       refresh;
} unit_success_t;


typedef struct {
    bog_error_e   error;
    uint32_t      status;
    int64_t       retry_after;
    uint32_t      failures;       /* before this one */
    uint32_t      rnd;
    int64_t       delay;
} unit_failure_t;


typedef struct {
    int64_t       mono;
    int64_t       wall;
    int           valid;
    int64_t       next;
} unit_clock_t;


static unit_success_t  unit_successes[] = {

    /* the margin is the smaller of what is asked for and half of the life */

    { 300000, 60000, 0, 300000, 295000, 240000 },
    { 3600000, 60000, 0, 3600000, 3595000, 3540000 },
    { 120000, 60000, 0, 120000, 115000, 60000 },
    { 119998, 60000, 0, 119998, 114998, 59999 },
    { 60000, 60000, 0, 60000, 55000, 30000 },
    { 10000, 60000, 0, 10000, 9000, 5000 },
    { 2000, 60000, 0, 2000, 1800, 1000 },
    { 1000, 60000, 0, 1000, 900, 500 },
    { 10, 60000, 0, 10, 9, 5 },
    { 1, 60000, 0, 1, 1, 1 },
    { 3, 60000, 0, 3, 3, 2 },

    /* the last seconds: the smaller of 5 and a tenth of the life */

    { 50000, 10000, 0, 50000, 45000, 40000 },
    { 50010, 10000, 0, 50010, 45010, 40010 },
    { 49990, 10000, 0, 49990, 44991, 39990 },
    { 86400000, 60000, 0, 86400000, 86395000, 86340000 },

    /* with a margin below them, a refresh is due when they begin */

    { 300000, 5000, 0, 300000, 295000, 295000 },
    { 300000, 4999, 0, 300000, 295000, 295000 },
    { 300000, 1000, 0, 300000, 295000, 295000 },
    { 300000, 0, 0, 300000, 295000, 295000 },
    { 300000, 0, 4294967295u, 300000, 295000, 295000 },
    { 300000, 5001, 0, 300000, 295000, 294999 },

    /* up to a tenth of the margin at random, both ends of it included */

    { 300000, 60000, 1, 300000, 295000, 239999 },
    { 300000, 60000, 5999, 300000, 295000, 234001 },
    { 300000, 60000, 6000, 300000, 295000, 234000 },
    { 300000, 60000, 6001, 300000, 295000, 240000 },
    { 300000, 60000, 4294967295u, 300000, 295000, 236413 },
    { 10000, 60000, 500, 10000, 9000, 4500 },
    { 10000, 60000, 501, 10000, 9000, 5000 },
    { 1000, 60000, 50, 1000, 900, 450 },
    { 10, 60000, 4294967295u, 10, 9, 5 }
};


#define HTTP      BOG_ERROR_HTTP
#define REJECTED  BOG_ERROR_REJECTED
#define TIMEOUT   BOG_ERROR_TIMEOUT

static unit_failure_t  unit_failures[] = {

    /* the first of each class */

    { BOG_ERROR_RESOLVE, 0, -1, 0, 0, 1000 },
    { BOG_ERROR_CONNECT, 0, -1, 0, 0, 1000 },
    { BOG_ERROR_TLS, 0, -1, 0, 0, 1000 },
    { BOG_ERROR_TIMEOUT, 0, -1, 0, 0, 1000 },
    { BOG_ERROR_MALFORMED, 200, -1, 0, 0, 1000 },
    { BOG_ERROR_TOO_LARGE, 200, -1, 0, 0, 1000 },
    { HTTP, 500, -1, 0, 0, 1000 },
    { HTTP, 502, -1, 0, 0, 1000 },
    { HTTP, 302, -1, 0, 0, 1000 },
    { HTTP, 404, -1, 0, 0, 1000 },
    { HTTP, 429, -1, 0, 0, 1000 },
    { HTTP, 503, -1, 0, 0, 1000 },
    { REJECTED, 400, -1, 0, 0, 5000 },
    { REJECTED, 401, -1, 0, 0, 5000 },
    { REJECTED, 403, -1, 0, 0, 5000 },

    /* no answer: 1 s doubling to 8 s */

    { TIMEOUT, 0, -1, 1, 0, 2000 },
    { TIMEOUT, 0, -1, 2, 0, 4000 },
    { TIMEOUT, 0, -1, 3, 0, 8000 },
    { TIMEOUT, 0, -1, 4, 0, 8000 },
    { TIMEOUT, 0, -1, 32, 0, 8000 },
    { TIMEOUT, 0, -1, UINT32_MAX, 0, 8000 },
    { BOG_ERROR_RESOLVE, 0, -1, 9, 0, 8000 },
    { BOG_ERROR_CONNECT, 0, -1, 9, 0, 8000 },
    { BOG_ERROR_TLS, 0, -1, 9, 0, 8000 },

    /* a bad answer: 1 s doubling to 60 s */

    { HTTP, 500, -1, 1, 0, 2000 },
    { HTTP, 500, -1, 2, 0, 4000 },
    { HTTP, 500, -1, 3, 0, 8000 },
    { HTTP, 503, -1, 4, 0, 16000 },
    { HTTP, 500, -1, 5, 0, 32000 },
    { HTTP, 403, -1, 6, 0, 60000 },
    { HTTP, 500, -1, 7, 0, 60000 },
    { HTTP, 500, -1, 31, 0, 60000 },
    { HTTP, 500, -1, 32, 0, 60000 },
    { HTTP, 500, -1, 63, 0, 60000 },
    { HTTP, 500, -1, 64, 0, 60000 },
    { HTTP, 500, -1, 1000000, 0, 60000 },
    { HTTP, 500, -1, UINT32_MAX - 1, 0, 60000 },
    { HTTP, 500, -1, UINT32_MAX, 0, 60000 },
    { BOG_ERROR_MALFORMED, 200, -1, 9, 0, 60000 },
    { BOG_ERROR_TOO_LARGE, 200, -1, 9, 0, 60000 },

    /* 5 s doubling to 5 min */

    { REJECTED, 401, -1, 1, 0, 10000 },
    { REJECTED, 401, -1, 2, 0, 20000 },
    { REJECTED, 401, -1, 3, 0, 40000 },
    { REJECTED, 401, -1, 4, 0, 80000 },
    { REJECTED, 401, -1, 5, 0, 160000 },
    { REJECTED, 401, -1, 6, 0, 300000 },
    { REJECTED, 401, -1, 7, 0, 300000 },
    { REJECTED, 401, -1, 64, 0, 300000 },
    { REJECTED, 401, -1, UINT32_MAX, 0, 300000 },

    /* Retry-After, from 1 s to 5 min, whatever was before */

    { HTTP, 429, 0, 0, 0, 1000 },
    { HTTP, 429, 0, 5, 0, 1000 },
    { HTTP, 429, 1, 0, 0, 1000 },
    { HTTP, 429, 999, 0, 0, 1000 },
    { HTTP, 429, 1000, 0, 0, 1000 },
    { HTTP, 429, 1001, 0, 0, 1001 },
    { HTTP, 429, 30000, 0, 0, 30000 },
    { HTTP, 503, 30000, 0, 0, 30000 },
    { HTTP, 503, 30000, 9, 0, 30000 },
    { HTTP, 503, 2000, UINT32_MAX, 0, 2000 },
    { HTTP, 503, 300000, 0, 0, 300000 },
    { HTTP, 503, 300001, 0, 0, 300000 },
    { HTTP, 429, 86400000, 0, 0, 300000 },
    { HTTP, 429, INT64_MAX, 0, 0, 300000 },

    /* with any status, and an answer that is of no use */

    { HTTP, 302, 120000, 0, 0, 120000 },
    { HTTP, 400, 120000, 0, 0, 120000 },
    { HTTP, 403, 120000, 0, 0, 120000 },
    { HTTP, 500, 120000, 0, 0, 120000 },
    { HTTP, 502, 120000, 9, 0, 120000 },
    { HTTP, 504, 120000, 0, 0, 120000 },
    { HTTP, 599, 120000, 0, 0, 120000 },
    { BOG_ERROR_MALFORMED, 500, 120000, 0, 0, 120000 },
    { BOG_ERROR_TOO_LARGE, 503, 120000, 0, 0, 120000 },

    /* rejected credentials: the later of both */

    { REJECTED, 401, 120000, 0, 0, 120000 },
    { REJECTED, 400, 5001, 0, 0, 5001 },
    { REJECTED, 403, 5000, 0, 0, 5000 },
    { REJECTED, 401, 4999, 0, 0, 5000 },
    { REJECTED, 401, 0, 0, 0, 5000 },
    { REJECTED, 401, 30000, 3, 0, 40000 },
    { REJECTED, 401, 86400000, 0, 0, 300000 },
    { REJECTED, 401, 120000, 9, 0, 300000 },

    /* up to a quarter more at random, both ends of it included */

    { TIMEOUT, 0, -1, 0, 1, 1001 },
    { TIMEOUT, 0, -1, 0, 250, 1250 },
    { TIMEOUT, 0, -1, 0, 251, 1000 },
    { TIMEOUT, 0, -1, 9, 2000, 10000 },
    { TIMEOUT, 0, -1, 9, 2001, 8000 },
    { TIMEOUT, 0, -1, 9, 4294967295u, 8885 },
    { HTTP, 500, -1, 9, 15000, 75000 },
    { HTTP, 500, -1, 9, 15001, 60000 },
    { HTTP, 500, -1, 9, 4294967295u, 60983 },
    { REJECTED, 401, -1, 0, 1250, 6250 },
    { REJECTED, 401, -1, 9, 75000, 375000 },
    { REJECTED, 401, -1, 9, 75001, 300000 },
    { HTTP, 429, 30000, 0, 7500, 37500 },
    { HTTP, 429, 30000, 0, 7501, 30000 },
    { HTTP, 503, 900000, 0, 75000, 375000 },
    { HTTP, 503, 900000, 0, 75001, 300000 }
};


/*
 * A token of 300 s, and its refresh, due after 240 s, failed after 241 s, so
 * that the next try is due after 242 s.
 */

static unit_clock_t  unit_clocks[] = {
    { 0, 0, 1, 242000 },
    { 241000, 241000, 1, 242000 },
    { 294999, 294999, 1, 242000 },
    { 295000, 295000, 0, 242000 },
    { 300000, 300000, 0, 242000 },

    /* the machine slept: mono stood still */

    { 0, 239999, 1, 242000 },
    { 241000, 294999, 1, 242000 },
    { 241000, 295000, 0, 242000 },
    { 241000, 90000000, 0, 242000 },
    { 0, 295000, 0, 242000 },

    /* the wall clock was set back */

    { 294999, -90000000, 1, 242000 },
    { 295000, -90000000, 0, 242000 },
    { 295000, 0, 0, 242000 }
};


static bog_time_t  unit_start = { UNIT_MONO, UNIT_WALL };


static void
test_none(void **state)
{
    bog_time_t    now;
    bog_policy_t  p;

    (void) state;

    memset(&p, 0, sizeof(p));

    assert_false(bog_times_valid(&p.token, &unit_start));
    assert_true(bog_policy_next(&p, &unit_start) <= UNIT_MONO);

    now.mono = 0;
    now.wall = 0;

    assert_false(bog_times_valid(&p.token, &now));
    assert_true(bog_policy_next(&p, &now) <= 0);
}


static void
test_success(void **state)
{
    size_t           i;
    bog_policy_t     p;
    unit_success_t  *row;

    (void) state;

    for (i = 0; i < unit_count(unit_successes); i++) {
        row = &unit_successes[i];

        /* a retry far off, among others */

        memset(&p, 0x11, sizeof(p));
        p.failures = 0;

        assert_int_equal(bog_policy_success(&p, &unit_start, &unit_start,
                                            row->lifetime, row->before,
                                            row->rnd),
                         1);

        if (p.token.expires != UNIT_MONO + row->expires
            || p.token.until != UNIT_MONO + row->until
            || p.token.until_wall != UNIT_WALL + row->until
            || p.token.refresh != UNIT_MONO + row->refresh
            || p.token.refresh_wall != UNIT_WALL + row->refresh)
        {
            fail_msg("row %zu: expires %lld, until %lld and %lld, "
                     "refresh %lld and %lld", i,
                     (long long) p.token.expires - UNIT_MONO,
                     (long long) p.token.until - UNIT_MONO,
                     (long long) (p.token.until_wall - UNIT_WALL),
                     (long long) p.token.refresh - UNIT_MONO,
                     (long long) (p.token.refresh_wall - UNIT_WALL));
        }

        /* all is forgotten; the next fetch begins a while after this one */

        assert_int_equal(p.retry, UNIT_MONO + 200);
        assert_int_equal(p.failures, 0);
        assert_int_equal(p.error, BOG_ERROR_NONE);
        assert_int_equal(p.status, 0);
    }
}


/* after nothing, or after failures, the first refresh comes anywhere */

static void
test_success_first(void **state)
{
    size_t        i;
    bog_policy_t  p;

    static struct {
        int64_t   lifetime;
        int64_t   before;
        uint32_t  failures;
        int64_t   until;
        uint32_t  rnd;
        int64_t   refresh;
    } rows[] = {
        { 300000, 60000, 0, 0, 0, 240000 },
        { 300000, 60000, 0, 0, 1, 239998 },
        { 300000, 60000, 0, 0, 6001, 233999 },
        { 300000, 60000, 0, 0, 216000, 228663 },
        { 300000, 60000, 0, 0, 4294967295u, 31568 },
        { 300000, 60000, 1, 0, 6001, 233999 },
        { 300000, 60000, 1, 1, 6001, 233999 },
        { 300000, 60000, 0, 1, 6001, 240000 },
        { 300000, 0, 0, 0, 6001, 288999 },
        { 120001, 60000, 0, 0, 6001, 54000 },
        { 120000, 60000, 0, 0, 6001, 60000 },
        { 5000, 60000, 0, 0, 251, 2500 }
    };

    (void) state;

    for (i = 0; i < unit_count(rows); i++) {
        memset(&p, 0, sizeof(p));

        p.failures = rows[i].failures;
        p.token.until = rows[i].until ? UNIT_MONO + 1 : 0;
        p.token.until_wall = rows[i].until ? UNIT_WALL + 1 : 0;

        assert_int_equal(bog_policy_success(&p, &unit_start, &unit_start,
                                            rows[i].lifetime, rows[i].before,
                                            rows[i].rnd),
                         1);

        if (p.token.refresh != UNIT_MONO + rows[i].refresh
            || p.token.refresh_wall != UNIT_WALL + rows[i].refresh)
        {
            fail_msg("row %zu: refresh %lld", i,
                     (long long) p.token.refresh - UNIT_MONO);
        }

        assert_int_equal(p.failures, 0);
    }
}


/* the life begins with the fetch, not with its end */

static void
test_success_late(void **state)
{
    size_t        i;
    bog_time_t    now;
    bog_policy_t  p, before;

    /* a token of 300 s is good for 295 */

    static unit_clock_t  rows[] = {
        { 0, 0, 1, 0 },
        { 10000, 10000, 1, 0 },
        { 241000, 241000, 1, 0 },
        { 294999, 294999, 1, 0 },
        { 294999, -90000000, 1, 0 },
        { 295000, 0, 0, 0 },
        { 0, 295000, 0, 0 },
        { 295000, 295000, 0, 0 },
        { 300001, 300001, 0, 0 }
    };

    (void) state;

    for (i = 0; i < unit_count(rows); i++) {
        memset(&p, 0x11, sizeof(p));
        before = p;

        now.mono = UNIT_MONO + rows[i].mono;
        now.wall = UNIT_WALL + rows[i].wall;

        assert_int_equal(bog_policy_success(&p, &unit_start, &now, 300000,
                                            60000, 0),
                         rows[i].valid);

        if (rows[i].valid) {
            assert_true(p.token.until == UNIT_MONO + 295000);
            assert_true(p.token.until_wall == UNIT_WALL + 295000);
            assert_true(p.token.refresh == UNIT_MONO + 240000);
            assert_true(p.token.refresh_wall == UNIT_WALL + 240000);

        } else {
            assert_memory_equal(&p, &before, sizeof(p));
        }
    }
}


static void
test_success_no_life(void **state)
{
    size_t        i;
    bog_policy_t  p;

    static int64_t  lifetimes[] = { 0, -1, -9, -10, -100, -5000, -3600000 };

    (void) state;

    for (i = 0; i < unit_count(lifetimes); i++) {
        memset(&p, 0, sizeof(p));

        assert_int_equal(bog_policy_success(&p, &unit_start, &unit_start,
                                            lifetimes[i], 60000, 12345),
                         0);
        assert_true(unit_zero(&p, sizeof(p)));
    }
}


static void
test_failure(void **state)
{
    size_t           i;
    bog_policy_t     p;
    bog_failure_t    f;
    unit_failure_t  *row;

    (void) state;

    for (i = 0; i < unit_count(unit_failures); i++) {
        row = &unit_failures[i];

        memset(&p, 0, sizeof(p));

        p.failures = row->failures;
        p.withheld = 1;

        f.error = row->error;
        f.status = row->status;
        f.retry_after = row->retry_after;

        bog_policy_failure(&p, &unit_start, &f, row->rnd);

        if (p.retry != UNIT_MONO + row->delay) {
            fail_msg("row %zu: delay %lld", i,
                     (long long) p.retry - UNIT_MONO);
        }

        assert_true(p.failures > 0);
        assert_int_equal(p.failures, row->failures == UINT32_MAX
                                     ? UINT32_MAX : row->failures + 1);
        assert_int_equal(p.error, row->error);
        assert_int_equal(p.status, row->status);
        assert_int_equal(p.withheld, 0);
        assert_int_equal(p.retry_asked, row->retry_after >= 0);

        assert_true(bog_policy_next(&p, &unit_start) == p.retry);
    }
}


/* a failed refresh takes nothing from the token; a new one takes its place */

static void
test_refresh_fails(void **state)
{
    bog_time_t     now;
    bog_policy_t   p, before;
    bog_failure_t  f = { BOG_ERROR_HTTP, 502, -1 };

    (void) state;

    memset(&p, 0, sizeof(p));

    assert_int_equal(bog_policy_success(&p, &unit_start, &unit_start, 300000,
                                        60000, 0),
                     1);

    assert_true(bog_policy_next(&p, &unit_start) == UNIT_MONO + 240000);

    before = p;

    now.mono = UNIT_MONO + 241000;
    now.wall = UNIT_WALL + 241000;

    bog_policy_failure(&p, &now, &f, 0);

    assert_true(p.token.expires == before.token.expires);
    assert_true(p.token.until == before.token.until);
    assert_true(p.token.until_wall == before.token.until_wall);
    assert_true(p.token.refresh == before.token.refresh);
    assert_true(p.token.refresh_wall == before.token.refresh_wall);
    assert_int_equal(p.status, 502);

    bog_policy_failure(&p, &now, &f, 0);

    assert_int_equal(p.failures, 2);
    assert_true(p.retry == now.mono + 2000);

    assert_int_equal(bog_policy_success(&p, &now, &now, 300000, 60000, 0), 1);

    assert_true(p.token.expires == now.mono + 300000);
    assert_int_equal(p.failures, 0);
    assert_int_equal(p.error, BOG_ERROR_NONE);
    assert_int_equal(p.status, 0);
    assert_true(bog_policy_next(&p, &now) == now.mono + 240000);

    /* and the next failure is a first one again */

    bog_policy_failure(&p, &now, &f, 0);

    assert_int_equal(p.failures, 1);
    assert_true(p.retry == now.mono + 1000);

    /* while the refresh is further off than the retry, it decides */

    assert_true(bog_policy_next(&p, &now) == now.mono + 240000);
}


static void
test_clocks(void **state)
{
    int            valid;
    size_t         i;
    int64_t        next;
    bog_time_t     now;
    bog_policy_t   p;
    bog_failure_t  f = { BOG_ERROR_TIMEOUT, 0, -1 };

    (void) state;

    memset(&p, 0, sizeof(p));

    assert_int_equal(bog_policy_success(&p, &unit_start, &unit_start, 300000,
                                        60000, 0),
                     1);

    now.mono = UNIT_MONO + 241000;
    now.wall = UNIT_WALL + 241000;

    bog_policy_failure(&p, &now, &f, 0);

    for (i = 0; i < unit_count(unit_clocks); i++) {
        now.mono = UNIT_MONO + unit_clocks[i].mono;
        now.wall = UNIT_WALL + unit_clocks[i].wall;

        valid = bog_times_valid(&p.token, &now);
        next = bog_policy_next(&p, &now) - UNIT_MONO;

        if (valid != unit_clocks[i].valid || next != unit_clocks[i].next) {
            fail_msg("row %zu: valid %d, next %lld", i, valid,
                     (long long) next);
        }
    }
}


/* the wall clock says that a fetch is due, a while after the last one */

static void
test_wall_jump(void **state)
{
    bog_time_t    now;
    bog_policy_t  p;

    (void) state;

    memset(&p, 0, sizeof(p));

    assert_int_equal(bog_policy_success(&p, &unit_start, &unit_start, 300000,
                                        60000, 0),
                     1);

    now.mono = UNIT_MONO + 1;
    now.wall = UNIT_WALL + 295000;

    assert_false(bog_times_valid(&p.token, &now));
    assert_int_equal(bog_policy_next(&p, &now), UNIT_MONO + 200);

    now.wall = UNIT_WALL + 294999;

    assert_true(bog_times_valid(&p.token, &now));
    assert_true(bog_policy_next(&p, &now) == UNIT_MONO + 200);

    now.wall = UNIT_WALL + 240000;

    assert_true(bog_policy_next(&p, &now) == UNIT_MONO + 200);

    now.wall = UNIT_WALL + 239999;

    assert_true(bog_policy_next(&p, &now) == UNIT_MONO + 240000);
}


/*
 * A token of 300 s, and at 240 s the next one.  The API may reject one of them
 * before the row's time.
 */

typedef struct {
    int64_t          at;          /* of the rejection */
    bog_token_e      rejected;
    bog_rejected_e   outcome;
    int64_t          mono;
    int64_t          wall;
    bog_token_e      given;
} unit_given_t;


#define NONE     BOG_TOKEN_NONE
#define CURRENT  BOG_TOKEN_CURRENT
#define OLD      BOG_TOKEN_OLD

#define KEPT      BOG_REJECTED_KEPT
#define TOO_OLD   BOG_REJECTED_TOO_OLD
#define REPLACED  BOG_REJECTED_REPLACED
#define WITHHELD  BOG_REJECTED_WITHHELD
#define NEWER     BOG_REJECTED_NEWER
#define OLDER     BOG_REJECTED_OLDER
#define FETCH     BOG_REJECTED_FETCH

static unit_given_t  unit_given[] = {

    /* the newer one is given out when it is three seconds old */

    { 0, NONE, KEPT, 240000, 240000, OLD },
    { 0, NONE, KEPT, 242999, 242999, OLD },
    { 0, NONE, KEPT, 243000, 243000, CURRENT },
    { 0, NONE, KEPT, 534999, 534999, CURRENT },
    { 0, NONE, KEPT, 535000, 535000, NONE },

    /* or when the old one ends by either clock */

    { 0, NONE, KEPT, 240000, 294999, OLD },
    { 0, NONE, KEPT, 240000, 295000, CURRENT },
    { 0, NONE, KEPT, 240000, 534999, CURRENT },
    { 0, NONE, KEPT, 240000, 535000, NONE },
    { 0, NONE, KEPT, 243000, -90000000, CURRENT },
    { 0, NONE, KEPT, 535000, -90000000, NONE },

    /* rejected in its first ten seconds, it makes room for the old one */

    { 243000, CURRENT, OLDER, 243000, 243000, OLD },
    { 243000, CURRENT, OLDER, 294999, 294999, OLD },
    { 243000, CURRENT, OLDER, 295000, 295000, CURRENT },
    { 243000, CURRENT, OLDER, 250000, 295000, CURRENT },
    { 243000, CURRENT, OLDER, 535000, 535000, NONE },
    { 249999, CURRENT, OLDER, 249999, 249999, OLD },

    /* and later it is withheld */

    { 250000, CURRENT, FETCH, 250000, 250000, NONE },
    { 250000, CURRENT, FETCH, 534999, 534999, NONE },

    /* the old one rejected makes room for the newer one */

    { 240000, OLD, NEWER, 240000, 240000, CURRENT },
    { 242999, OLD, NEWER, 242999, 242999, CURRENT },
    { 242999, OLD, NEWER, 535000, 535000, NONE },

    /* a rejection of a token that is given out no more changes nothing */

    { 243000, OLD, REPLACED, 243000, 243000, CURRENT },
    { 240000, CURRENT, REPLACED, 240000, 240000, OLD },
    { 535000, CURRENT, TOO_OLD, 535000, 535000, NONE },
    { 535000, OLD, REPLACED, 535000, 535000, NONE }
};


static void
unit_two_tokens(bog_policy_t *p, bog_time_t *now)
{
    memset(p, 0, sizeof(bog_policy_t));

    assert_true(bog_policy_success(p, &unit_start, &unit_start, 300000, 60000,
                                   0));
    assert_int_equal(bog_policy_token(p, &unit_start), CURRENT);

    now->mono = UNIT_MONO + 240000;
    now->wall = UNIT_WALL + 240000;

    assert_true(bog_policy_success(p, now, now, 300000, 60000, 0));

    assert_true(p->old.expires == UNIT_MONO + 300000);
    assert_true(p->token.expires == UNIT_MONO + 540000);
}


static void
test_token(void **state)
{
    size_t          i;
    bog_time_t      now;
    bog_token_e     given;
    bog_policy_t    p, old;
    unit_given_t   *row;
    bog_rejected_e  outcome;

    (void) state;

    for (i = 0; i < unit_count(unit_given); i++) {
        row = &unit_given[i];

        unit_two_tokens(&p, &now);

        if (row->rejected != NONE) {
            now.mono = UNIT_MONO + row->at;
            now.wall = UNIT_WALL + row->at;

            old = p;
            outcome = bog_policy_rejected(&p, &now, row->rejected);

            if (outcome != row->outcome) {
                fail_msg("row %zu: outcome %d", i, outcome);
            }

            if (!bog_rejected_changes(outcome)) {
                assert_memory_equal(&p, &old, sizeof(p));
            }
        }

        now.mono = UNIT_MONO + row->mono;
        now.wall = UNIT_WALL + row->wall;

        given = bog_policy_token(&p, &now);

        if (given != row->given) {
            fail_msg("row %zu: given %d", i, given);
        }
    }
}


/* the API takes neither of the two: a fetch is due */

static void
test_token_doubted(void **state)
{
    bog_time_t    now;
    bog_policy_t  p, old;

    (void) state;

    unit_two_tokens(&p, &now);

    now.mono += 3000;
    now.wall += 3000;

    assert_int_equal(bog_policy_rejected(&p, &now, CURRENT), OLDER);
    assert_int_equal(p.rejections, 0);
    assert_true(bog_policy_next(&p, &now) == UNIT_MONO + 480000);

    old = p;
    assert_int_equal(bog_policy_rejected(&p, &now, CURRENT), REPLACED);
    assert_memory_equal(&p, &old, sizeof(p));

    /* a while after such a fetch nothing changes */

    p.rejected = now.mono - 4999;
    p.rejections = 1;
    old = p;

    assert_int_equal(bog_policy_rejected(&p, &now, OLD), KEPT);
    assert_memory_equal(&p, &old, sizeof(p));

    now.mono += 1;
    now.wall += 1;

    assert_int_equal(bog_policy_rejected(&p, &now, OLD), FETCH);
    assert_int_equal(bog_policy_token(&p, &now), NONE);
    assert_true(bog_policy_next(&p, &now) <= now.mono);

    /* late answers: the fetch is to replace both, and no token before them */

    old = p;
    assert_int_equal(bog_policy_rejected(&p, &now, CURRENT), WITHHELD);
    assert_int_equal(bog_policy_rejected(&p, &now, OLD), WITHHELD);
    assert_int_equal(bog_policy_rejected(&p, &now, NONE), REPLACED);
    assert_memory_equal(&p, &old, sizeof(p));

    /* what comes then is given out at once */

    assert_true(bog_policy_success(&p, &now, &now, 300000, 60000, 0));
    assert_int_equal(bog_policy_token(&p, &now), CURRENT);
    assert_int_equal(bog_policy_rejected(&p, &now, OLD), REPLACED);
}


/*
 * Between a worker's look and its change another worker may have replaced the
 * token, or have begun to.
 */

static void
test_rejected_late(void **state)
{
    bog_time_t    now;
    bog_policy_t  p, old;

    (void) state;

    unit_two_tokens(&p, &now);

    old = p;
    assert_int_equal(bog_policy_rejected(&p, &now, NONE), REPLACED);
    assert_memory_equal(&p, &old, sizeof(p));

    now.mono += 10000;
    now.wall += 10000;

    assert_int_equal(bog_policy_rejected(&p, &now, CURRENT), FETCH);

    old = p;
    assert_int_equal(bog_policy_rejected(&p, &now, CURRENT), WITHHELD);
    assert_int_equal(bog_policy_rejected(&p, &now, OLD), REPLACED);
    assert_int_equal(bog_policy_rejected(&p, &now, NONE), REPLACED);
    assert_memory_equal(&p, &old, sizeof(p));
}


/* where there is no token, the first one is given out at once */

static void
test_token_first(void **state)
{
    bog_time_t    now;
    bog_policy_t  p;

    (void) state;

    memset(&p, 0, sizeof(p));
    assert_int_equal(bog_policy_token(&p, &unit_start), NONE);

    assert_true(bog_policy_success(&p, &unit_start, &unit_start, 300000, 60000,
                                   0));
    assert_int_equal(bog_policy_token(&p, &unit_start), CURRENT);

    /* nor is one waited for that has ended */

    now.mono = UNIT_MONO + 295000;
    now.wall = UNIT_WALL + 295000;

    assert_int_equal(bog_policy_token(&p, &now), NONE);

    assert_true(bog_policy_success(&p, &now, &now, 300000, 60000, 0));
    assert_int_equal(bog_policy_token(&p, &now), CURRENT);
}


/* a token of 300 s is handed out again */

static void
test_repeated(void **state)
{
    size_t         i;
    bog_time_t     at;
    bog_policy_t   p;
    bog_failure_t  f = { BOG_ERROR_HTTP, 429, 300000 };

    static struct {
        int64_t   mono;
        int64_t   wall;
        int64_t   lifetime;
        int64_t   expires;
        int64_t   until_wall;
    } rows[] = {

        /* what is left is told, or is taken for five minutes */

        { 240000, 240000, 60000, 300000, 295000 },
        { 240000, 240000, 300000, 300000, 295000 },
        { 299000, 299000, 300000, 300000, 295000 },
        { 240000, 240000, 3600000, 300000, 295000 },

        /* it ends sooner than it was thought to */

        { 240000, 240000, 59999, 299999, 294999 },
        { 240000, 240000, 30000, 270000, 265000 },
        { 240000, 240000, 1, 240001, 235001 },

        /* a machine that slept for 100 s, and a wall clock that was set */

        { 140000, 240000, 60000, 200000, 295000 },
        { 240000, 90000000, 60000, 300000, 90055000 },
        { 240000, -90000000, 60000, 300000, -89945000 }
    };

    (void) state;

    for (i = 0; i < unit_count(rows); i++) {
        memset(&p, 0, sizeof(p));

        assert_true(bog_policy_success(&p, &unit_start, &unit_start, 300000,
                                       60000, 0));

        at.mono = UNIT_MONO + rows[i].mono;
        at.wall = UNIT_WALL + rows[i].wall;

        bog_policy_failure(&p, &at, &f, 0);
        p.withheld = 1;

        bog_policy_repeated(&p, &at, rows[i].lifetime);

        if (p.token.expires != UNIT_MONO + rows[i].expires
            || p.token.until != UNIT_MONO + rows[i].expires - 5000
            || p.token.until_wall != UNIT_WALL + rows[i].until_wall)
        {
            fail_msg("row %zu: expires %lld, until %lld and %lld", i,
                     (long long) p.token.expires - UNIT_MONO,
                     (long long) p.token.until - UNIT_MONO,
                     (long long) (p.token.until_wall - UNIT_WALL));
        }

        /* the next fetch begins a second after its end, by either clock */

        assert_true(bog_policy_next(&p, &at)
                    == UNIT_MONO + rows[i].expires + 1000);

        at.wall = UNIT_WALL + rows[i].until_wall + 5999;
        assert_true(bog_policy_next(&p, &at)
                    == UNIT_MONO + rows[i].expires + 1000);

        at.wall++;
        assert_true(bog_policy_next(&p, &at)
                    == UNIT_MONO + rows[i].mono + 200);

        assert_int_equal(p.failures, 0);
        assert_int_equal(p.error, BOG_ERROR_NONE);
        assert_int_equal(p.status, 0);
        assert_int_equal(p.retry_asked, 0);
        assert_int_equal(p.withheld, 0);
    }
}


/*
 * The API rejects a token that is no newborn.  Rows go on from each other: a
 * new token comes at once for each that is withheld.
 */

typedef struct {
    int64_t          at;          /* since the row before */
    int              accepted;    /* the API accepted the one before */
    bog_rejected_e   outcome;
} unit_rejection_t;


static unit_rejection_t  unit_rejections[] = {
    { 0, 0, FETCH },
    { 1, 0, KEPT },
    { 4998, 0, KEPT },
    { 1, 0, FETCH },
    { 9999, 0, KEPT },
    { 1, 0, FETCH },
    { 19999, 0, KEPT },
    { 1, 0, FETCH },
    { 40000, 0, FETCH },
    { 79999, 0, KEPT },
    { 1, 0, FETCH },
    { 160000, 0, FETCH },
    { 299999, 0, KEPT },
    { 1, 0, FETCH },
    { 299999, 0, KEPT },
    { 1, 0, FETCH },

    /* time alone makes nobody forget */

    { 900000, 0, FETCH },
    { 299999, 0, KEPT },

    /* an accepted token does, but for the five seconds */

    { 0, 1, FETCH },
    { 4999, 1, KEPT },
    { 1, 0, FETCH },
    { 5000, 0, FETCH },
    { 9999, 0, KEPT },
    { 0, 1, FETCH }
};


static void
test_rejected(void **state)
{
    size_t          i;
    bog_time_t      now;
    bog_policy_t    p, old;
    bog_rejected_e  outcome;

    (void) state;

    memset(&p, 0, sizeof(p));
    now = unit_start;

    /* where there is none, none is withheld */

    assert_int_equal(bog_policy_rejected(&p, &now, CURRENT), TOO_OLD);
    assert_int_equal(bog_policy_rejected(&p, &now, OLD), REPLACED);
    assert_true(unit_zero(&p, sizeof(p)));

    assert_true(bog_policy_success(&p, &now, &now, 3600000, 60000, 0));

    for (i = 0; i < unit_count(unit_rejections); i++) {

        now.mono += unit_rejections[i].at;
        now.wall += unit_rejections[i].at;

        if (unit_rejections[i].accepted) {
            bog_policy_accepted(&p);
        }

        old = p;
        outcome = bog_policy_rejected(&p, &now, CURRENT);

        if (outcome != unit_rejections[i].outcome) {
            fail_msg("row %zu: outcome %d", i, outcome);
        }

        if (outcome == KEPT) {
            assert_memory_equal(&p, &old, sizeof(p));
            assert_int_equal(bog_policy_token(&p, &now), CURRENT);
            continue;
        }

        /* it is valid all the same, and once is enough */

        assert_true(bog_times_valid(&p.token, &now));
        assert_int_equal(bog_policy_token(&p, &now), NONE);
        assert_true(bog_policy_next(&p, &now) <= now.mono + 200);

        old = p;
        assert_int_equal(bog_policy_rejected(&p, &now, CURRENT), WITHHELD);
        assert_memory_equal(&p, &old, sizeof(p));

        assert_true(bog_policy_success(&p, &now, &now, 3600000, 60000, 0));
        assert_int_equal(bog_policy_token(&p, &now), CURRENT);
    }
}


/* what the end of the fetch makes of a token that is withheld */

static void
test_withheld(void **state)
{
    bog_time_t     now;
    bog_policy_t   p, old;
    bog_failure_t  f = { BOG_ERROR_HTTP, 500, -1 };

    (void) state;

    memset(&p, 0, sizeof(p));
    now = unit_start;

    assert_true(bog_policy_success(&p, &now, &now, 300000, 60000, 0));

    now.mono += 1000;
    now.wall += 1000;

    assert_int_equal(bog_policy_rejected(&p, &now, CURRENT), FETCH);
    assert_true(bog_policy_next(&p, &now) <= now.mono);

    /* a token that has ended when it comes changes nothing */

    old = p;
    assert_false(bog_policy_success(&p, &unit_start, &now, 1000, 60000, 0));
    assert_memory_equal(&p, &old, sizeof(p));

    /* after a failure it serves on to its own end */

    bog_policy_failure(&p, &now, &f, 0);

    assert_int_equal(bog_policy_token(&p, &now), CURRENT);
    assert_true(p.rejected == now.mono);
    assert_int_equal(p.rejections, 1);
    assert_true(p.token.until == UNIT_MONO + 295000);
    assert_true(bog_policy_next(&p, &now) == now.mono + 1000);

    now.mono = UNIT_MONO + 295000;
    now.wall = UNIT_WALL + 295000;

    assert_int_equal(bog_policy_token(&p, &now), NONE);
}


/* a 401 allows an early try, unless the server itself asked for a wait */

static void
test_rejected_early(void **state)
{
    bog_time_t     now;
    bog_policy_t   p, old;
    bog_failure_t  f = { BOG_ERROR_CONNECT, 0, -1 };
    bog_failure_t  asked = { BOG_ERROR_HTTP, 503, 60000 };

    (void) state;

    memset(&p, 0, sizeof(p));
    now = unit_start;

    assert_true(bog_policy_success(&p, &now, &now, 300000, 60000, 0));

    now.mono += 240000;
    now.wall += 240000;

    bog_policy_failure(&p, &now, &f, 0);
    bog_policy_failure(&p, &now, &f, 0);
    assert_true(bog_policy_next(&p, &now) == now.mono + 2000);

    assert_int_equal(bog_policy_rejected(&p, &now, CURRENT), FETCH);
    assert_true(bog_policy_next(&p, &now) == now.mono);

    /* the early try fails as well, and the backoff has not forgotten */

    bog_policy_failure(&p, &now, &f, 0);
    assert_int_equal(p.failures, 3);
    assert_true(bog_policy_next(&p, &now) == now.mono + 4000);

    /* no second one within five seconds */

    now.mono += 3999;
    now.wall += 3999;
    old = p;

    assert_int_equal(bog_policy_rejected(&p, &now, CURRENT), KEPT);
    assert_memory_equal(&p, &old, sizeof(p));

    bog_policy_failure(&p, &now, &asked, 0);
    assert_true(bog_policy_next(&p, &now) == now.mono + 60000);

    old = p;
    now.mono += 50000;
    now.wall += 50000;

    assert_int_equal(bog_policy_rejected(&p, &now, CURRENT), KEPT);
    assert_memory_equal(&p, &old, sizeof(p));
    assert_int_equal(bog_policy_token(&p, &now), CURRENT);
}


static void
test_reload(void **state)
{
    size_t         i;
    bog_time_t     now;
    bog_policy_t   p, old;

    static bog_failure_t  failures[] = {
        { BOG_ERROR_REJECTED, 401, -1 },
        { BOG_ERROR_HTTP, 500, -1 },
        { BOG_ERROR_HTTP, 429, 300000 },
        { BOG_ERROR_REJECTED, 401, 1000 }
    };

    (void) state;

    memset(&p, 0, sizeof(p));
    now = unit_start;

    assert_false(bog_policy_reload(&p, &now));
    assert_true(unit_zero(&p, sizeof(p)));

    assert_true(bog_policy_success(&p, &now, &now, 300000, 60000, 0));

    old = p;
    assert_false(bog_policy_reload(&p, &now));
    assert_memory_equal(&p, &old, sizeof(p));

    for (i = 0; i < unit_count(failures); i++) {
        memset(&p, 0, sizeof(p));

        bog_policy_failure(&p, &now, &failures[i], 0);
        old = p;

        /* the server itself asked for the wait */

        if (failures[i].retry_after >= 0) {
            assert_false(bog_policy_reload(&p, &now));
            assert_memory_equal(&p, &old, sizeof(p));
            continue;
        }

        /* the first reload is followed by a try at once */

        assert_true(bog_policy_reload(&p, &now));
        assert_true(bog_policy_next(&p, &now) == now.mono);

        old.retry = now.mono;
        old.reloaded = now.mono;
        assert_memory_equal(&p, &old, sizeof(p));

        assert_false(bog_policy_reload(&p, &now));
    }
}


/* a reload each second for 20 seconds, and a server that fails at once */

static void
test_reloads(void **state)
{
    int            n;
    size_t         i;
    int64_t        end, last;
    bog_time_t     now;
    bog_policy_t   p;

    static struct {
        bog_failure_t  failure;
        int            fetches;
    } rows[] = {
        { { BOG_ERROR_REJECTED, 401, -1 }, 5 },
        { { BOG_ERROR_HTTP, 429, 300000 }, 1 },
        { { BOG_ERROR_REJECTED, 401, 300000 }, 1 }
    };

    (void) state;

    for (i = 0; i < unit_count(rows); i++) {
        memset(&p, 0, sizeof(p));

        /* the backoff alone would wait for minutes */

        p.failures = 9;

        now = unit_start;
        end = now.mono + 20000;
        last = now.mono - 5000;
        n = 0;

        for ( /* void */ ; now.mono < end; now.mono += 100, now.wall += 100) {

            if (now.mono % 1000 == 0) {
                (void) bog_policy_reload(&p, &now);
            }

            if (bog_policy_next(&p, &now) > now.mono) {
                continue;
            }

            assert_true(n < 2 || now.mono - last >= 5000);

            last = now.mono;
            n++;

            bog_policy_failure(&p, &now, &rows[i].failure, 0);
        }

        if (n != rows[i].fetches) {
            fail_msg("row %zu: %d fetches", i, n);
        }
    }
}


int
unit_policy(void)
{
    const struct CMUnitTest  policy[] = {
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_success),
        cmocka_unit_test(test_success_first),
        cmocka_unit_test(test_success_late),
        cmocka_unit_test(test_success_no_life),
        cmocka_unit_test(test_failure),
        cmocka_unit_test(test_refresh_fails),
        cmocka_unit_test(test_clocks),
        cmocka_unit_test(test_wall_jump),
        cmocka_unit_test(test_token),
        cmocka_unit_test(test_token_doubted),
        cmocka_unit_test(test_rejected_late),
        cmocka_unit_test(test_token_first),
        cmocka_unit_test(test_repeated),
        cmocka_unit_test(test_rejected),
        cmocka_unit_test(test_withheld),
        cmocka_unit_test(test_rejected_early),
        cmocka_unit_test(test_reload),
        cmocka_unit_test(test_reloads)
    };

    return cmocka_run_group_tests(policy, NULL, NULL);
}

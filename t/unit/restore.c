
/*
 * Copyright (C) The nginx-bog authors
 */


#include "unit.h"

#include "bog_policy.h"


#define UNIT_MONO  1000000
#define UNIT_WALL  1700000000000

#define NEVER      INT64_MIN      /* there is no token */


/* all times are counted from the start of the token's life */

typedef struct {
    int64_t    lifetime;
    int64_t    refresh;
    int64_t    max;
    int64_t    before;
    int64_t    now;
    int64_t    expires;
    int64_t    until;
    int64_t    due;
} unit_restore_t;


static unit_restore_t  unit_restores[] = {

    /* as it was, and at any time */

    { 300000, 200000, 3600000, 60000, 0, 300000, 295000, 200000 },
    { 300000, 200000, 3600000, 60000, 10000, 300000, 295000, 200000 },
    { 300000, 200000, 3600000, 60000, 199999, 300000, 295000, 200000 },
    { 300000, 200000, 3600000, 60000, 200000, 300000, 295000, 200000 },
    { 300000, 200000, 3600000, 60000, 294999, 300000, 295000, 200000 },

    /* in its last seconds, and behind its end */

    { 300000, 200000, 3600000, 60000, 295000, NEVER, 0, 0 },
    { 300000, 200000, 3600000, 60000, 300000, NEVER, 0, 0 },
    { 300000, 200000, 3600000, 60000, 86400000, NEVER, 0, 0 },
    { 300000, 200000, 3600000, 60000, 1600000000000, NEVER, 0, 0 },

    /* from the future */

    { 300000, 200000, 3600000, 60000, -1, NEVER, 0, 0 },
    { 300000, 200000, 3600000, 60000, -86400000, NEVER, 0, 0 },
    { 300000, 200000, 3600000, 60000, -1700000000000, NEVER, 0, 0 },

    /* the last seconds of a short one */

    { 10000, 5000, 3600000, 60000, 8999, 10000, 9000, 5000 },
    { 10000, 5000, 3600000, 60000, 9000, NEVER, 0, 0 },
    { 10, 5, 3600000, 60000, 8, 10, 9, 5 },
    { 1, 1, 3600000, 60000, 0, 1, 1, 1 },
    { 1, 1, 3600000, 60000, 1, NEVER, 0, 0 },

    /* "bog_max_lifetime" is less than it was, or more */

    { 300000, 40000, 100000, 60000, 10000, 100000, 95000, 40000 },
    { 300000, 200000, 100000, 10000, 10000, 100000, 95000, 90000 },
    { 300000, 200000, 100000, 60000, 10000, 100000, 95000, 50000 },
    { 300000, 200000, 100000, 60000, 94999, 100000, 95000, 50000 },
    { 300000, 200000, 100000, 60000, 95000, NEVER, 0, 0 },
    { 300000, 200000, 300000, 60000, 95000, 300000, 295000, 200000 },

    /* "bog_refresh_before" is more than it was, or less */

    { 300000, 240000, 3600000, 100000, 0, 300000, 295000, 200000 },
    { 300000, 240000, 3600000, 200000, 0, 300000, 295000, 150000 },
    { 300000, 240000, 3600000, 10000, 0, 300000, 295000, 240000 },
    { 300000, 295000, 3600000, 1000, 0, 300000, 295000, 295000 },
    { 300000, 299000, 3600000, 1000, 0, 300000, 295000, 295000 },
    { 300000, 900000, 3600000, 1000, 0, 300000, 295000, 295000 },

    /* a refresh before its life is one that is due */

    { 300000, -5000, 3600000, 60000, 1000, 300000, 295000, -5000 },
    { 300000, -1699999999999, 3600000, 60000, 1000, 300000, 295000,
      -1699999999999 }
};


static void
unit_check(unit_restore_t *u, bog_time_t *now)
{
    int          rc;
    int64_t      start;
    bog_life_t   life;
    bog_policy_t p, old;

    memset(&p, 0x5a, sizeof(bog_policy_t));
    old = p;

    life.start = UNIT_WALL;
    life.lifetime = u->lifetime;
    life.refresh = UNIT_WALL + u->refresh;

    rc = bog_policy_restore(&p, &life, now, u->max, u->before);

    if (u->expires == NEVER) {
        assert_int_equal(rc, 0);
        assert_memory_equal(&p, &old, sizeof(bog_policy_t));
        return;
    }

    assert_int_equal(rc, 1);

    start = now->mono - u->now;

    assert_true(p.token.expires == start + u->expires);
    assert_true(p.token.until == start + u->until);
    assert_true(p.token.until_wall == UNIT_WALL + u->until);
    assert_true(p.token.refresh == start + u->due);
    assert_true(p.token.refresh_wall == UNIT_WALL + u->due);

    assert_true(p.retry == 0);
    assert_true(p.failures == 0);
    assert_true(p.error == BOG_ERROR_NONE);
    assert_true(p.rejections == 0);
    assert_true(p.rejected == 0);
    assert_true(p.withheld == 0);

    assert_true(bog_times_valid(&p.token, now));

    if (now->mono < start + u->due) {
        assert_true(bog_policy_next(&p, now) == start + u->due);

    } else {
        assert_true(bog_policy_next(&p, now) <= now->mono);
    }
}


static void
test_restore(void **data)
{
    size_t      i;
    bog_time_t  now;

    (void) data;

    for (i = 0; i < unit_count(unit_restores); i++) {
        now.wall = UNIT_WALL + unit_restores[i].now;
        now.mono = UNIT_MONO;

        unit_check(&unit_restores[i], &now);

        /* a machine that was started just now */

        now.mono = 1;

        unit_check(&unit_restores[i], &now);
    }
}


/* it goes on as if nothing had stopped */

static void
test_restore_same(void **data)
{
    uint32_t      i;
    int64_t       lifetime, before;
    bog_life_t    life;
    bog_time_t    start, now;
    bog_policy_t  p, restored;

    (void) data;

    start.mono = UNIT_MONO;
    start.wall = UNIT_WALL;

    for (i = 0; i < 10000; i++) {
        lifetime = 1 + (int64_t) i * 7919 % 3600000;
        before = (int64_t) i * 104729 % 120000;

        memset(&p, 0, sizeof(bog_policy_t));
        assert_int_equal(bog_policy_success(&p, &start, &start, lifetime,
                                            before, i * 2654435761u), 1);

        life.start = start.wall;
        life.lifetime = lifetime;
        life.refresh = p.token.refresh_wall;

        now.mono = start.mono + (p.token.until - start.mono) / 3;
        now.wall = start.wall + (p.token.until - start.mono) / 3;

        assert_int_equal(bog_policy_restore(&restored, &life, &now, 3600000,
                                            before), 1);

        /* what a fetch leaves behind is of no meaning any more */

        restored.retry = p.retry;
        restored.give_old_until = p.give_old_until;
        assert_memory_equal(&restored, &p, sizeof(bog_policy_t));
    }
}


/* the clock is set after a start, as after any other */

static void
test_restore_jump(void **data)
{
    bog_life_t    life;
    bog_time_t    now;
    bog_policy_t  p;

    (void) data;

    life.start = UNIT_WALL;
    life.lifetime = 300000;
    life.refresh = UNIT_WALL + 200000;

    now.mono = UNIT_MONO;
    now.wall = UNIT_WALL + 10000;

    assert_int_equal(bog_policy_restore(&p, &life, &now, 3600000, 60000), 1);

    now.wall += 3600000;
    assert_false(bog_times_valid(&p.token, &now));

    now.wall -= 7200000;
    assert_true(bog_times_valid(&p.token, &now));
    assert_true(bog_policy_next(&p, &now) == UNIT_MONO + 190000);

    now.mono = UNIT_MONO + 285000;
    assert_false(bog_times_valid(&p.token, &now));
}


int
unit_restore(void)
{
    const struct CMUnitTest  restore[] = {
        cmocka_unit_test(test_restore),
        cmocka_unit_test(test_restore_same),
        cmocka_unit_test(test_restore_jump)
    };

    return cmocka_run_group_tests(restore, NULL, NULL);
}

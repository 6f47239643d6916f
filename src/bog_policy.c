
/*
 * Copyright (C) The nginx-bog authors
 */


#include <string.h>

#include "bog_policy.h"


#define BOG_POLICY_GUARD            5000    /* the last seconds of a token */

#define BOG_POLICY_APART             200    /* two fetches, at the least */

#define BOG_POLICY_FAILED_FIRST     1000
#define BOG_POLICY_FAILED_MAX      60000

#define BOG_POLICY_REJECTED_FIRST   5000
#define BOG_POLICY_REJECTED_MAX   300000

#define BOG_POLICY_DROPPED_FIRST    5000    /* between two tokens given up */
#define BOG_POLICY_DROPPED_MAX    300000

#define BOG_POLICY_ASKED_MIN        1000
#define BOG_POLICY_ASKED_MAX      300000


static int64_t bog_policy_guard(int64_t lifetime);
static int64_t bog_policy_delay(const bog_policy_t *p, const bog_failure_t *f);
static int64_t bog_policy_backoff(int64_t first, int64_t max,
    uint32_t failures);
static int64_t bog_policy_random(int64_t span, uint32_t rnd);
static int64_t bog_policy_min(int64_t a, int64_t b);
static int64_t bog_policy_max(int64_t a, int64_t b);


/*
 * Of many gateways that began at the same time, or came through the same
 * outage, all would ask again at the same time, for ever.  So where there was
 * no token, or failures, the first refresh comes anywhere in this part of what
 * it had to wait, and waits after failures are longer by up to this part.
 */

#define BOG_POLICY_APART_FIRST(time)   ((time) / 10 * 9)
#define BOG_POLICY_APART_FAILED(time)  ((time) / 4)


/*
 * A token's life:
 *
 *     start                  refresh          until    expires
 *       |----------------------|-----------------|--------|
 *       |  given out           |  given out,     |  kept, |
 *       |                      |  next is due    |  gone  |
 *
 * The wall clock runs on while a machine sleeps, and so may make each of these
 * come earlier.  Where it is set back, the mono clock says when they come.
 */


int
bog_policy_valid(const bog_policy_t *p, const bog_time_t *now)
{
    return now->mono < p->until && now->wall < p->until_wall;
}


int64_t
bog_policy_next(const bog_policy_t *p, const bog_time_t *now)
{
    if (bog_policy_valid(p, now) && now->wall < p->refresh_wall) {
        return bog_policy_max(p->refresh, p->retry);
    }

    return p->retry;
}


int
bog_policy_success(bog_policy_t *p, const bog_time_t *start,
    const bog_time_t *now, int64_t lifetime, int64_t refresh_before,
    uint32_t rnd)
{
    int64_t       guard, margin, spare;
    bog_policy_t  next;

    guard = bog_policy_guard(lifetime);
    margin = bog_policy_min(refresh_before, lifetime / 2);
    margin += bog_policy_random(margin / 10, rnd);

    memset(&next, 0, sizeof(bog_policy_t));

    next.expires = start->mono + lifetime;
    next.until = next.expires - guard;
    next.until_wall = start->wall + lifetime - guard;

    /* with a margin below the guard a refresh would come after the end */

    next.refresh = bog_policy_min(next.expires - margin, next.until);

    /* one that is short for its margin has no time to spare */

    if (lifetime > 2 * refresh_before
        && (p->failures || !bog_policy_valid(p, now)))
    {
        spare = BOG_POLICY_APART_FIRST(next.refresh - start->mono);
        next.refresh -= bog_policy_random(spare, rnd);
    }

    next.refresh_wall = start->wall + (next.refresh - start->mono);

    /* a token that lives for milliseconds is not fetched without end */

    next.retry = start->mono + BOG_POLICY_APART;

    if (!bog_policy_valid(&next, now)) {
        return 0;
    }

    /* a new token does not mean that the API takes it */

    next.rejections = p->rejections;
    next.reject = p->reject;

    *p = next;

    return 1;
}


/*
 * Of the time that has passed only the wall clock knows.  Where it says that
 * the token comes from the future it has been set back, by who knows how much.
 */

int
bog_policy_restore(bog_policy_t *p, const bog_life_t *life,
    const bog_time_t *now, int64_t max_lifetime, int64_t refresh_before)
{
    int64_t       start, lifetime, latest;
    bog_policy_t  next;

    if (life->start > now->wall) {
        return 0;
    }

    lifetime = bog_policy_min(life->lifetime, max_lifetime);
    start = now->mono - (now->wall - life->start);

    memset(&next, 0, sizeof(bog_policy_t));

    next.expires = start + lifetime;
    next.until = next.expires - bog_policy_guard(lifetime);
    next.until_wall = life->start + (next.until - start);

    /* a restart is no reason for a fetch, a setting that changed may be one */

    latest = next.expires - bog_policy_min(refresh_before, lifetime / 2);
    latest = bog_policy_min(latest, next.until);

    next.refresh = bog_policy_min(start + (life->refresh - life->start),
                                  latest);
    next.refresh_wall = life->start + (next.refresh - start);

    if (!bog_policy_valid(&next, now)) {
        return 0;
    }

    *p = next;

    return 1;
}


void
bog_policy_failure(bog_policy_t *p, const bog_time_t *now,
    const bog_failure_t *f, uint32_t rnd)
{
    int64_t  delay;

    if (p->failures < UINT32_MAX) {
        p->failures++;
    }

    p->error = f->error;
    p->status = f->status;

    delay = bog_policy_delay(p, f);

    p->retry = now->mono + delay
               + bog_policy_random(BOG_POLICY_APART_FAILED(delay), rnd);
}


/*
 * One part of an API may say 401 whatever the token.  So a token is not given
 * up where none can take its place at once, and ever more seldom while this
 * goes on: all other requests need it.
 */

int
bog_policy_rejected(bog_policy_t *p, const bog_time_t *now, uint32_t rnd)
{
    int64_t  delay;

    if (!bog_policy_valid(p, now)
        || now->mono < p->reject
        || (p->failures && now->mono < p->retry))
    {
        return 0;
    }

    delay = bog_policy_backoff(BOG_POLICY_DROPPED_FIRST,
                               BOG_POLICY_DROPPED_MAX, p->rejections);

    /* as long again without a rejection, and it is the first one */

    if (now->mono - p->reject > delay) {
        p->rejections = 0;
    }

    if (p->rejections < UINT32_MAX) {
        p->rejections++;
    }

    delay = bog_policy_backoff(BOG_POLICY_DROPPED_FIRST,
                               BOG_POLICY_DROPPED_MAX, p->rejections);

    p->reject = now->mono + delay + bog_policy_random(delay / 10, rnd);

    p->expires = 0;
    p->until = 0;
    p->until_wall = 0;
    p->refresh = 0;
    p->refresh_wall = 0;

    return 1;
}


void
bog_policy_retry(bog_policy_t *p)
{
    p->retry = 0;
}


static int64_t
bog_policy_guard(int64_t lifetime)
{
    return bog_policy_min(BOG_POLICY_GUARD, lifetime / 10);
}


static int64_t
bog_policy_delay(const bog_policy_t *p, const bog_failure_t *f)
{
    int64_t  delay;

    if (f->error == BOG_ERROR_REJECTED) {
        return bog_policy_backoff(BOG_POLICY_REJECTED_FIRST,
                                  BOG_POLICY_REJECTED_MAX, p->failures);
    }

    if ((f->status == 429 || f->status == 503) && f->retry_after >= 0) {
        delay = bog_policy_max(f->retry_after, BOG_POLICY_ASKED_MIN);

        return bog_policy_min(delay, BOG_POLICY_ASKED_MAX);
    }

    return bog_policy_backoff(BOG_POLICY_FAILED_FIRST, BOG_POLICY_FAILED_MAX,
                              p->failures);
}


static int64_t
bog_policy_backoff(int64_t first, int64_t max, uint32_t failures)
{
    int64_t  delay;

    for (delay = first; failures > 1 && delay < max; failures--) {
        delay *= 2;
    }

    return bog_policy_min(delay, max);
}


/* a number from zero to span */

static int64_t
bog_policy_random(int64_t span, uint32_t rnd)
{
    return (span > 0) ? (int64_t) rnd % (span + 1) : 0;
}


static int64_t
bog_policy_min(int64_t a, int64_t b)
{
    return (a < b) ? a : b;
}


static int64_t
bog_policy_max(int64_t a, int64_t b)
{
    return (a > b) ? a : b;
}


/*
 * Copyright (C) The nginx-bog authors
 */


#include <string.h>

#include "bog_policy.h"


/*
 * This file decides when a token is fetched, given out, refreshed and given
 * up.  The store calls it with the record that it is about to publish, and
 * sources and reports ask it what is due.  It has no clock, no random numbers
 * and no memory of its own: tests run it through years in a second.
 */


#define BOG_POLICY_GUARD            5000    /* the last seconds of a token */

#define BOG_POLICY_APART             200    /* two fetches, at the least */
#define BOG_POLICY_SECOND           1000    /* what servers count in */

/*
 * Servers whose clocks or replicas lag behind reject a token that was issued a
 * moment ago.
 */

#define BOG_POLICY_NEWBORN          3000    /* given out after this, or after a
                                               tenth of its life */
#define BOG_POLICY_DOUBT            7000    /* taken back within this */

#define BOG_POLICY_SILENT_FIRST     1000    /* no answer */
#define BOG_POLICY_SILENT_MAX       8000    /* 10 s with the random part */

#define BOG_POLICY_FAILED_FIRST     1000
#define BOG_POLICY_FAILED_MAX      60000

#define BOG_POLICY_REJECTED_FIRST   5000    /* credentials */
#define BOG_POLICY_REJECTED_MAX   300000

#define BOG_POLICY_FORCED_FIRST     5000    /* fetches forced by the API */
#define BOG_POLICY_FORCED_MAX     300000

#define BOG_POLICY_ASKED_MIN        1000
#define BOG_POLICY_ASKED_MAX      300000

#define BOG_POLICY_RELOADS          5000    /* fetches allowed by reloads */


static void bog_policy_set_times(bog_times_t *t, const bog_time_t *start,
    int64_t lifetime, int64_t refresh);
static bog_rejected_e bog_policy_force(bog_policy_t *p,
    const bog_time_t *now);
static int64_t bog_policy_backoff(int64_t first, int64_t max,
    uint32_t failures);
static int64_t bog_policy_random(int64_t span, uint32_t rnd);
static int64_t bog_policy_min(int64_t a, int64_t b);
static int64_t bog_policy_max(int64_t a, int64_t b);


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


bog_token_e
bog_policy_token(const bog_policy_t *p, const bog_time_t *now)
{
    if (now->mono < p->give_old_until && bog_times_valid(&p->old, now)) {
        return BOG_TOKEN_OLD;
    }

    if (p->withheld || !bog_times_valid(&p->token, now)) {
        return BOG_TOKEN_NONE;
    }

    return BOG_TOKEN_CURRENT;
}


int64_t
bog_policy_next(const bog_policy_t *p, const bog_time_t *now)
{
    if (now->wall < p->token.refresh_wall) {
        return bog_policy_max(p->token.refresh, p->retry);
    }

    return p->retry;
}


int
bog_policy_success(bog_policy_t *p, const bog_time_t *start,
    const bog_time_t *now, int64_t lifetime, int64_t refresh_before,
    uint32_t rnd)
{
    int64_t       margin, early;
    bog_policy_t  next;

    memset(&next, 0, sizeof(bog_policy_t));

    margin = bog_policy_min(refresh_before, lifetime / 2);
    margin += bog_policy_random(margin / 10, rnd);

    bog_policy_set_times(&next.token, start, lifetime, lifetime - margin);

    /*
     * Many gateways that start at the same time, or come through the same
     * outage, would refresh at the same time for ever.  So the first refresh
     * comes at random, anywhere but in the first tenth of the time before it.
     * A token that lives less than twice the margin has no time for that.
     */

    if (lifetime > 2 * refresh_before
        && (p->failures || !bog_times_valid(&p->token, now)))
    {
        early = (next.token.refresh - start->mono) / 10 * 9;
        early = bog_policy_random(early, rnd);

        next.token.refresh -= early;
        next.token.refresh_wall -= early;
    }

    if (!bog_times_valid(&next.token, now)) {
        return 0;
    }

    /* a token that lives for milliseconds is not fetched without end */

    next.retry = start->mono + BOG_POLICY_APART;

    /* the old token is given out at first, unless the API has rejected it */

    if (p->rejections == 0) {
        next.give_old_until = now->mono
                      + bog_policy_min(BOG_POLICY_NEWBORN, lifetime / 10);
        next.old = p->token;
    }

    /* the API may reject the new token too: go on counting until it accepts */

    next.rejected = p->rejected;
    next.rejections = p->rejections;
    next.reloaded = p->reloaded;

    *p = next;

    return 1;
}


/*
 * Some servers hand out the same token until it ends, and count its lifetime
 * down.  Asking them earlier brings nothing.
 */

void
bog_policy_repeated(bog_policy_t *p, const bog_time_t *start, int64_t lifetime)
{
    int64_t       guard;
    bog_times_t  *t;

    t = &p->token;
    guard = t->expires - t->until;

    t->expires = bog_policy_min(t->expires, start->mono + lifetime);
    t->until = t->expires - guard;
    t->until_wall = start->wall + (t->until - start->mono);
    t->refresh = t->expires + BOG_POLICY_SECOND;
    t->refresh_wall = start->wall + (t->refresh - start->mono);

    p->retry = start->mono + BOG_POLICY_APART;
    p->failures = 0;
    p->error = BOG_ERROR_NONE;
    p->status = 0;
    p->retry_asked = 0;
    p->withheld = 0;
}


/*
 * Only the wall clock knows how much time has passed.  Where it says that the
 * token comes from the future, it has been set back, and nobody knows how far.
 */

int
bog_policy_restore(bog_policy_t *p, const bog_life_t *life,
    const bog_time_t *now, int64_t max_lifetime, int64_t refresh_before)
{
    int64_t      lifetime, margin, refresh;
    bog_time_t   start;
    bog_times_t  token;

    if (life->start > now->wall) {
        return 0;
    }

    start.wall = life->start;
    start.mono = now->mono - (now->wall - life->start);

    lifetime = bog_policy_min(life->lifetime, max_lifetime);

    /* a restart is no reason for a fetch, a setting that changed may be one */

    margin = bog_policy_min(refresh_before, lifetime / 2);
    refresh = bog_policy_min(life->refresh - life->start, lifetime - margin);

    bog_policy_set_times(&token, &start, lifetime, refresh);

    if (!bog_times_valid(&token, now)) {
        return 0;
    }

    memset(p, 0, sizeof(bog_policy_t));
    p->token = token;

    return 1;
}


void
bog_policy_failure(bog_policy_t *p, const bog_time_t *now,
    const bog_failure_t *f, uint32_t rnd)
{
    int64_t  delay, wait;

    if (p->failures < UINT32_MAX) {
        p->failures++;
    }

    p->error = f->error;
    p->status = f->status;
    p->retry_asked = (f->retry_after >= 0);
    p->withheld = 0;

    wait = 0;

    if (p->retry_asked) {
        wait = bog_policy_max(f->retry_after, BOG_POLICY_ASKED_MIN);
        wait = bog_policy_min(wait, BOG_POLICY_ASKED_MAX);
    }

    switch (f->error) {

    case BOG_ERROR_RESOLVE:
    case BOG_ERROR_CONNECT:
    case BOG_ERROR_TLS:
    case BOG_ERROR_TIMEOUT:
        delay = bog_policy_backoff(BOG_POLICY_SILENT_FIRST,
                                   BOG_POLICY_SILENT_MAX, p->failures);
        break;

    case BOG_ERROR_REJECTED:
        delay = bog_policy_backoff(BOG_POLICY_REJECTED_FIRST,
                                   BOG_POLICY_REJECTED_MAX, p->failures);
        delay = bog_policy_max(delay, wait);
        break;

    default:
        delay = p->retry_asked ? wait
                         : bog_policy_backoff(BOG_POLICY_FAILED_FIRST,
                                              BOG_POLICY_FAILED_MAX,
                                              p->failures);
    }

    /* the random part keeps many gateways apart, as after a success */

    p->retry = now->mono + delay + bog_policy_random(delay / 4, rnd);
}


bog_rejected_e
bog_policy_rejected(bog_policy_t *p, const bog_time_t *now, bog_token_e token)
{
    bog_token_e  given;

    given = bog_policy_token(p, now);

    if (given == BOG_TOKEN_NONE) {

        /* the API may have rejected both, one after the other */

        if (p->withheld
            && (token == BOG_TOKEN_CURRENT
                || (token == BOG_TOKEN_OLD && p->doubted)))
        {
            return BOG_REJECTED_WITHHELD;
        }

        if (token == BOG_TOKEN_CURRENT) {
            return BOG_REJECTED_TOO_OLD;
        }
    }

    if (given != token || token == BOG_TOKEN_NONE) {
        return BOG_REJECTED_REPLACED;
    }

    if (token == BOG_TOKEN_OLD && !p->doubted) {
        p->give_old_until = 0;
        return BOG_REJECTED_NEWER;
    }

    if (token == BOG_TOKEN_CURRENT
        && now->mono < p->give_old_until + BOG_POLICY_DOUBT
        && bog_times_valid(&p->old, now))
    {
        if (p->doubted) {
            return BOG_REJECTED_KEPT;
        }

        p->give_old_until = p->old.until;
        p->doubted = 1;

        return BOG_REJECTED_OLDER;
    }

    return bog_policy_force(p, now);
}


/*
 * One part of an API may answer 401 to any token.  So forced fetches become
 * rarer and rarer as long as the API accepts no token.
 */

static bog_rejected_e
bog_policy_force(bog_policy_t *p, const bog_time_t *now)
{
    if (!bog_times_valid(&p->token, now)
        || (p->retry_asked && now->mono < p->retry)
        || (p->rejected
            && now->mono - p->rejected
               < bog_policy_backoff(BOG_POLICY_FORCED_FIRST,
                                    BOG_POLICY_FORCED_MAX, p->rejections)))
    {
        return BOG_REJECTED_KEPT;
    }

    if (p->rejections < UINT32_MAX) {
        p->rejections++;
    }

    p->rejected = now->mono;
    p->withheld = 1;
    p->give_old_until = 0;

    p->token.refresh = now->mono;
    p->token.refresh_wall = now->wall;

    /* a failure need not be waited for: the server may have come back */

    if (p->failures) {
        p->retry = now->mono;
    }

    return BOG_REJECTED_FETCH;
}


void
bog_policy_accepted(bog_policy_t *p)
{
    p->rejections = 0;
}


int
bog_policy_reload(bog_policy_t *p, const bog_time_t *now)
{
    int64_t  retry;

    retry = p->reloaded ? bog_policy_max(p->reloaded + BOG_POLICY_RELOADS,
                                         now->mono)
                        : now->mono;

    if (p->failures == 0 || p->retry_asked || p->retry <= retry) {
        return 0;
    }

    p->retry = retry;
    p->reloaded = retry;

    return 1;
}


/*
 * start and lifetime are of the token.  refresh is counted from its start: with
 * a margin below the guard it would come after the end of the token.
 */

static void
bog_policy_set_times(bog_times_t *t, const bog_time_t *start,
    int64_t lifetime, int64_t refresh)
{
    int64_t  until;

    until = lifetime - bog_policy_min(BOG_POLICY_GUARD, lifetime / 10);
    refresh = bog_policy_min(refresh, until);

    t->expires = start->mono + lifetime;
    t->until = start->mono + until;
    t->until_wall = start->wall + until;
    t->refresh = start->mono + refresh;
    t->refresh_wall = start->wall + refresh;
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

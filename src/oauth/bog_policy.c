
/*
 * Copyright (C) The nginx-bog authors
 */


#include <string.h>

#include "bog_policy.h"


#define BOG_POLICY_GUARD            5000    /* the last seconds of a token */

#define BOG_POLICY_APART             200    /* two fetches, at the least */
#define BOG_POLICY_SECOND           1000    /* what servers count in */

/*
 * Servers whose clocks or replicas lag behind refuse a token that was issued a
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


bog_token_e
bog_policy_token(const bog_policy_t *p, const bog_time_t *now)
{
    if (now->mono < p->mature && bog_times_valid(&p->old, now)) {
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
    int64_t       guard, margin, spare;
    bog_policy_t  next;

    guard = bog_policy_guard(lifetime);
    margin = bog_policy_min(refresh_before, lifetime / 2);
    margin += bog_policy_random(margin / 10, rnd);

    memset(&next, 0, sizeof(bog_policy_t));

    next.token.expires = start->mono + lifetime;
    next.token.until = next.token.expires - guard;
    next.token.until_wall = start->wall + lifetime - guard;

    /* with a margin below the guard a refresh would come after the end */

    next.token.refresh = bog_policy_min(next.token.expires - margin,
                                        next.token.until);

    /* one that is short for its margin has no time to spare */

    if (lifetime > 2 * refresh_before
        && (p->failures || !bog_times_valid(&p->token, now)))
    {
        spare = BOG_POLICY_APART_FIRST(next.token.refresh - start->mono);
        next.token.refresh -= bog_policy_random(spare, rnd);
    }

    next.token.refresh_wall = start->wall + (next.token.refresh - start->mono);

    /* a token that lives for milliseconds is not fetched without end */

    next.retry = start->mono + BOG_POLICY_APART;

    if (!bog_times_valid(&next.token, now)) {
        return 0;
    }

    /* one that the API has rejected is no better than a newborn one */

    if (p->rejections == 0) {
        next.mature = now->mono
                      + bog_policy_min(BOG_POLICY_NEWBORN, lifetime / 10);
        next.old = p->token;
    }

    /* a new token does not mean that the API takes it */

    next.rejected = p->rejected;
    next.rejections = p->rejections;
    next.reloaded = p->reloaded;

    *p = next;

    return 1;
}


/*
 * Some servers hand out the same token until it ends, and count its lifetime
 * down: asking them earlier brings nothing.
 */

void
bog_policy_repeated(bog_policy_t *p, const bog_time_t *start, int64_t lifetime)
{
    int64_t  guard;

    guard = p->token.expires - p->token.until;

    p->token.expires = bog_policy_min(p->token.expires, start->mono + lifetime);
    p->token.until = p->token.expires - guard;
    p->token.until_wall = start->wall + (p->token.until - start->mono);
    p->token.refresh = p->token.expires + BOG_POLICY_SECOND;
    p->token.refresh_wall = start->wall + (p->token.refresh - start->mono);

    p->retry = start->mono + BOG_POLICY_APART;
    p->failures = 0;
    p->error = BOG_ERROR_NONE;
    p->status = 0;
    p->asked = 0;
    p->withheld = 0;
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

    next.token.expires = start + lifetime;
    next.token.until = next.token.expires - bog_policy_guard(lifetime);
    next.token.until_wall = life->start + (next.token.until - start);

    /* a restart is no reason for a fetch, a setting that changed may be one */

    latest = next.token.expires - bog_policy_min(refresh_before, lifetime / 2);
    latest = bog_policy_min(latest, next.token.until);

    next.token.refresh = bog_policy_min(start + (life->refresh - life->start),
                                        latest);
    next.token.refresh_wall = life->start + (next.token.refresh - start);

    if (!bog_times_valid(&next.token, now)) {
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
    p->asked = (f->retry_after >= 0);
    p->withheld = 0;

    delay = bog_policy_delay(p, f);

    p->retry = now->mono + delay
               + bog_policy_random(BOG_POLICY_APART_FAILED(delay), rnd);
}


int
bog_policy_rejected(bog_policy_t *p, const bog_time_t *now, bog_token_e token)
{
    if (token == BOG_TOKEN_OLD) {

        if (bog_policy_token(p, now) != BOG_TOKEN_OLD) {
            return 0;
        }

        if (!p->doubted) {
            p->mature = 0;
            return 1;
        }

    } else if (now->mono < p->mature + BOG_POLICY_DOUBT
               && bog_times_valid(&p->old, now))
    {
        if (p->doubted) {
            return 0;
        }

        p->mature = p->old.until;
        p->doubted = 1;

        return 1;
    }

    /*
     * One part of an API may say 401 whatever the token.  So such fetches come
     * ever more seldom, as long as the API accepts no token.
     */

    if (p->withheld
        || !bog_times_valid(&p->token, now)
        || (p->asked && now->mono < p->retry)
        || (p->rejected
            && now->mono - p->rejected
               < bog_policy_backoff(BOG_POLICY_FORCED_FIRST,
                                    BOG_POLICY_FORCED_MAX, p->rejections)))
    {
        return 0;
    }

    if (p->rejections < UINT32_MAX) {
        p->rejections++;
    }

    p->rejected = now->mono;
    p->withheld = 1;
    p->mature = 0;

    p->token.refresh = now->mono;
    p->token.refresh_wall = now->wall;

    /* a failure need not be waited for: the server may have come back */

    if (p->failures) {
        p->retry = now->mono;
    }

    return 1;
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

    if (p->failures == 0 || p->asked || p->retry <= retry) {
        return 0;
    }

    p->retry = retry;
    p->reloaded = retry;

    return 1;
}


static int64_t
bog_policy_guard(int64_t lifetime)
{
    return bog_policy_min(BOG_POLICY_GUARD, lifetime / 10);
}


static int64_t
bog_policy_delay(const bog_policy_t *p, const bog_failure_t *f)
{
    int64_t  delay, asked;

    asked = bog_policy_max(f->retry_after, BOG_POLICY_ASKED_MIN);
    asked = bog_policy_min(asked, BOG_POLICY_ASKED_MAX);

    switch (f->error) {

    case BOG_ERROR_REJECTED:
        delay = bog_policy_backoff(BOG_POLICY_REJECTED_FIRST,
                                   BOG_POLICY_REJECTED_MAX, p->failures);

        return p->asked ? bog_policy_max(delay, asked) : delay;

    case BOG_ERROR_RESOLVE:
    case BOG_ERROR_CONNECT:
    case BOG_ERROR_TLS:
    case BOG_ERROR_TIMEOUT:
        return bog_policy_backoff(BOG_POLICY_SILENT_FIRST,
                                  BOG_POLICY_SILENT_MAX, p->failures);

    default:
        return p->asked ? asked
                        : bog_policy_backoff(BOG_POLICY_FAILED_FIRST,
                                             BOG_POLICY_FAILED_MAX,
                                             p->failures);
    }
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

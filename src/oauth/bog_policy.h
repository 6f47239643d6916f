
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _BOG_POLICY_H_INCLUDED_
#define _BOG_POLICY_H_INCLUDED_


#include <stdint.h>


/*
 * When a token is fetched, given out, refreshed and given up.  Pure: all that
 * is needed comes in, time and randomness too, and all that is decided goes
 * out.  Times are in milliseconds: "mono" on a clock that is never set, the
 * same for all workers, "wall" since the epoch.
 */


typedef enum {
    BOG_ERROR_NONE = 0,
    BOG_ERROR_RESOLVE,
    BOG_ERROR_CONNECT,
    BOG_ERROR_TLS,
    BOG_ERROR_TIMEOUT,
    BOG_ERROR_HTTP,             /* a status that no other class covers */
    BOG_ERROR_REJECTED,         /* the credentials */
    BOG_ERROR_MALFORMED,
    BOG_ERROR_TOO_LARGE
} bog_error_e;


typedef struct {
    int64_t   mono;
    int64_t   wall;
} bog_time_t;


/*
 * The times of one token, all zero where there is none.  The wall clock runs
 * on while a machine sleeps, so a time has come when either clock says so.
 */

typedef struct {
    int64_t      expires;       /* mono: the end of its life */
    int64_t      until;         /* mono: from here on it is not given out */
    int64_t      until_wall;    /* wall: the same */
    int64_t      refresh;       /* mono: the next fetch is due */
    int64_t      refresh_wall;  /* wall: the same */
} bog_times_t;


typedef struct {
    bog_times_t  token;
    bog_times_t  old;           /* the token before it, which is given out */
    int64_t      mature;        /* in its place up to this mono time */

    /* the last fetches */
    int64_t      retry;         /* mono: no fetch begins before */
    uint32_t     failures;      /* in a row */
    uint32_t     error;         /* bog_error_e of the last, none if it went
                                   well */
    uint32_t     status;        /* its HTTP status, 0: none */
    uint32_t     asked;         /* 1: the server itself asked for the wait */
    int64_t      reloaded;      /* mono: a reload allowed a fetch at that time,
                                   0: never */

    /* tokens that the API has rejected */
    int64_t      rejected;      /* mono: the last one that forced a fetch, 0:
                                   none */
    uint32_t     rejections;    /* such, since the API accepted a token */
    uint32_t     withheld;      /* 1: that fetch has not ended yet */
    uint32_t     doubted;       /* 1: the API has rejected the newer token, and
                                   the one before is given out again */
} bog_policy_t;


/* which token is given out */

typedef enum {
    BOG_TOKEN_NONE = 0,
    BOG_TOKEN_CURRENT,
    BOG_TOKEN_OLD               /* the one before the current one */
} bog_token_e;


/* of a token that was kept while nothing ran */

typedef struct {
    int64_t   start;            /* wall: of its life */
    int64_t   lifetime;
    int64_t   refresh;          /* wall: as it was then */
} bog_life_t;


/* the end of a fetch that brought no token */

typedef struct {
    uint32_t  error;
    uint32_t  status;
    int64_t   retry_after;      /* milliseconds; -1: not said */
} bog_failure_t;


/* Says whether the token may still be given out, by its times alone. */
static inline int
bog_times_valid(const bog_times_t *t, const bog_time_t *now)
{
    return now->mono < t->until && now->wall < t->until_wall;
}


/* Says whether a refresh of the token is due. */
static inline int
bog_times_refreshing(const bog_times_t *t, const bog_time_t *now)
{
    return now->mono >= t->refresh || now->wall >= t->refresh_wall;
}


/* Returns the milliseconds to its end, by the clock that says the least. */
static inline int64_t
bog_times_left(const bog_times_t *t, const bog_time_t *now)
{
    int64_t  mono, wall;

    mono = t->expires - now->mono;
    wall = t->until_wall + (t->expires - t->until) - now->wall;

    return (mono < wall) ? mono : wall;
}


/* Tells which token a request gets now. */
bog_token_e bog_policy_token(const bog_policy_t *p, const bog_time_t *now);

/*
 * Returns the mono time at which the next fetch is to begin; one in the past
 * means at once.  There always is a next one.
 */
int64_t bog_policy_next(const bog_policy_t *p, const bog_time_t *now);

/*
 * A token of the given lifetime came; its life began at start.  rnd is any
 * random number.  The token before it is given out for some seconds more.
 * Returns 1, or 0 where the new one is not usable any more by now and the state
 * was left as it was.
 */
int bog_policy_success(bog_policy_t *p, const bog_time_t *start,
    const bog_time_t *now, int64_t lifetime, int64_t refresh_before,
    uint32_t rnd);

/*
 * The token came that is held already, and has not expired.  It gets no later
 * end, and the next fetch begins after its end.
 */
void bog_policy_repeated(bog_policy_t *p, const bog_time_t *start,
    int64_t lifetime);

/*
 * A token that was kept while nothing ran is there again.  Its refresh is due
 * as it was, but not later than it would be with these settings.  Returns 1,
 * or 0 where the token is not usable, or the wall clock cannot tell, and the
 * state was left as it was.
 */
int bog_policy_restore(bog_policy_t *p, const bog_life_t *life,
    const bog_time_t *now, int64_t max_lifetime, int64_t refresh_before);

/* A fetch failed: the next one waits, by class, longer each time. */
void bog_policy_failure(bog_policy_t *p, const bog_time_t *now,
    const bog_failure_t *f, uint32_t rnd);

/*
 * The API has rejected a token (RFC 6750, 3.1), the current one or the one
 * before.  Returns 1 where that changes what is given out: the other one of
 * the two takes its place, or, where there is no other, a fetch is due and the
 * token is withheld until that has ended.  Returns 0 where the token stays.
 */
int bog_policy_rejected(bog_policy_t *p, const bog_time_t *now,
    bog_token_e token);

/* The API has accepted the current token. */
void bog_policy_accepted(bog_policy_t *p);

/*
 * The configuration was reloaded, and somebody may have mended what failed: the
 * next fetch need not wait, unless the server itself asked for that, or reloads
 * follow each other.  Returns 1, or 0 where nothing has changed.
 */
int bog_policy_reload(bog_policy_t *p, const bog_time_t *now);


#endif /* _BOG_POLICY_H_INCLUDED_ */


/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _BOG_POLICY_H_INCLUDED_
#define _BOG_POLICY_H_INCLUDED_


#include <stdint.h>


/*
 * The rules for one source: when a token is fetched, given out, refreshed and
 * given up.  The caller passes in the time and random numbers.  Times are in
 * milliseconds: "mono" on a clock that is never set and is the same for all
 * workers, "wall" since the epoch.
 */


typedef enum {
    BOG_ERROR_NONE = 0,
    BOG_ERROR_RESOLVE,
    BOG_ERROR_CONNECT,
    BOG_ERROR_TLS,
    BOG_ERROR_TIMEOUT,
    BOG_ERROR_HTTP,             /* a status that no other class covers */
    BOG_ERROR_REJECTED,         /* the server rejected the credentials */
    BOG_ERROR_MALFORMED,
    BOG_ERROR_TOO_LARGE
} bog_error_e;


typedef struct {
    int64_t   mono;
    int64_t   wall;
} bog_time_t;


/*
 * The times of one token; all zero if there is none.  The wall clock runs on
 * while a machine sleeps, so a time has come when either clock says so.
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
    bog_times_t  old;           /* the token before it */
    int64_t      give_old_until;
                                /* mono: until then the old token is given
                                   out, while it is valid */

    /* the last fetches */
    int64_t      retry;         /* mono: no fetch begins before */
    uint32_t     failures;      /* in a row */
    uint32_t     error;         /* bog_error_e of the last one */
    uint32_t     status;        /* its HTTP status, 0: none */
    uint32_t     retry_asked;   /* 1: the server sent Retry-After */
    int64_t      reloaded;      /* mono: the last time that a reload allowed
                                   a fetch, 0: never */

    /* tokens that the API has rejected */
    int64_t      rejected;      /* mono: the last time that a rejected token
                                   forced a fetch, 0: never */
    uint32_t     rejections;    /* such times since the API accepted a token */
    uint32_t     withheld;      /* 1: the forced fetch has not ended yet */
    uint32_t     doubted;       /* 1: the API rejected the newer token, and the
                                   old one is given out again */
} bog_policy_t;


/* the token that is given out */

typedef enum {
    BOG_TOKEN_NONE = 0,
    BOG_TOKEN_CURRENT,
    BOG_TOKEN_OLD               /* the one before the current one */
} bog_token_e;


/* what follows when the API has rejected a token */

typedef enum {
    BOG_REJECTED_KEPT = 0,      /* requests get the token as before */
    BOG_REJECTED_TOO_OLD,       /* it was about to expire, and there is no
                                   other token yet */
    BOG_REJECTED_REPLACED,      /* requests get another token already */
    BOG_REJECTED_WITHHELD,      /* the API has rejected it before, and the
                                   fetch of a new one has not ended */

    /* these change what is given out */

    BOG_REJECTED_NEWER,         /* requests get the newer token */
    BOG_REJECTED_OLDER,         /* requests get the older token again */
    BOG_REJECTED_FETCH          /* requests wait for a fetch to end */
} bog_rejected_e;


/* a token that is kept in a state file */

typedef struct {
    int64_t   start;            /* wall: its life began */
    int64_t   lifetime;
    int64_t   refresh;          /* wall: the next fetch is due */
} bog_life_t;


/* why a fetch brought no token */

typedef struct {
    uint32_t  error;
    uint32_t  status;
    int64_t   retry_after;      /* milliseconds; -1: the server sent none */
} bog_failure_t;


/* Returns 1 if the token has not come to its end. */
static inline int
bog_times_valid(const bog_times_t *t, const bog_time_t *now)
{
    return now->mono < t->until && now->wall < t->until_wall;
}


/* Returns 1 if a refresh of the token is due. */
static inline int
bog_times_refreshing(const bog_times_t *t, const bog_time_t *now)
{
    return now->mono >= t->refresh || now->wall >= t->refresh_wall;
}


/* Returns 1 if requests get another token, or wait for one, from now on. */
static inline int
bog_rejected_changes(bog_rejected_e outcome)
{
    return outcome >= BOG_REJECTED_NEWER;
}


/* Returns the milliseconds until it expires, by the clock that says less. */
static inline int64_t
bog_times_left(const bog_times_t *t, const bog_time_t *now)
{
    int64_t  mono, wall;

    mono = t->expires - now->mono;
    wall = t->until_wall + (t->expires - t->until) - now->wall;

    return (mono < wall) ? mono : wall;
}


/* Returns which token a request is given now. */
bog_token_e bog_policy_token(const bog_policy_t *p, const bog_time_t *now);

/*
 * Returns the mono time at which the next fetch begins.  A time in the past
 * means at once.  There always is a next fetch.
 */
int64_t bog_policy_next(const bog_policy_t *p, const bog_time_t *now);

/*
 * A fetch brought a token, whose life began at start.  rnd is any random
 * number.  The token before it is given out for some seconds more.  Returns 1,
 * or 0 if the new token is not valid any more: then *p is unchanged.
 */
int bog_policy_success(bog_policy_t *p, const bog_time_t *start,
    const bog_time_t *now, int64_t lifetime, int64_t refresh_before,
    uint32_t rnd);

/*
 * A fetch brought the current token again, which has not expired.  It gets no
 * later end, and the next fetch begins after its end.
 */
void bog_policy_repeated(bog_policy_t *p, const bog_time_t *start,
    int64_t lifetime);

/*
 * A token was read from a state file.  Its refresh is due as it was, but not
 * later than these settings say.  Returns 1, or 0 if the token is not valid,
 * or began in the future by the wall clock: then *p is unchanged.
 */
int bog_policy_restore(bog_policy_t *p, const bog_life_t *life,
    const bog_time_t *now, int64_t max_lifetime, int64_t refresh_before);

/* A fetch failed.  The next one waits, longer each time, as f->error says. */
void bog_policy_failure(bog_policy_t *p, const bog_time_t *now,
    const bog_failure_t *f, uint32_t rnd);

/*
 * The API has rejected a token (RFC 6750, 3.1): the current one, the old one,
 * or, with BOG_TOKEN_NONE, one before these.  A token that is given out makes
 * room for the other one of the two.  If there is no other, a fetch is due, and
 * the token is withheld until the fetch has ended.
 */
bog_rejected_e bog_policy_rejected(bog_policy_t *p, const bog_time_t *now,
    bog_token_e token);

/* The API has accepted the current token. */
void bog_policy_accepted(bog_policy_t *p);

/*
 * The configuration was reloaded, and somebody may have mended what failed.  So
 * the next fetch need not wait, unless the server sent Retry-After, or the last
 * reload was a moment ago.  Returns 1, or 0 if nothing has changed.
 */
int bog_policy_reload(bog_policy_t *p, const bog_time_t *now);


#endif /* _BOG_POLICY_H_INCLUDED_ */

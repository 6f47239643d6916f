
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
    BOG_ERROR_REJECTED,         /* 400, 401, 403: the credentials */
    BOG_ERROR_MALFORMED,
    BOG_ERROR_TOO_LARGE
} bog_error_e;


typedef struct {
    int64_t   mono;
    int64_t   wall;
} bog_time_t;


typedef struct {
    /* the token; all zero where there is none */
    int64_t   expires;          /* mono: its end */
    int64_t   until;            /* mono: from here on it is not given out */
    int64_t   until_wall;       /* wall: the same, for a suspended machine */
    int64_t   refresh;          /* mono: a refresh is due */
    int64_t   refresh_wall;     /* wall: the same */

    /* the last fetches */
    int64_t   retry;            /* mono: no fetch begins before */
    uint32_t  failures;         /* in a row */
    uint32_t  error;            /* bog_error_e of the last, none if it went
                                   well */
    uint32_t  status;           /* its HTTP status, 0: none */

    /* tokens that the API has rejected */
    uint32_t  rejections;       /* dropped, in a row */
    int64_t   reject;           /* mono: no other one is dropped before */
} bog_policy_t;


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


/* Says whether the token may be given out now. */
int bog_policy_valid(const bog_policy_t *p, const bog_time_t *now);

/*
 * Returns the mono time at which the next fetch is to begin; one in the past
 * means at once.  There always is a next one.
 */
int64_t bog_policy_next(const bog_policy_t *p, const bog_time_t *now);

/*
 * A token of the given lifetime came; its life began at start.  rnd is any
 * random number.  Returns 1, or 0 where it is not usable any more by now and
 * the state was left as it was.
 */
int bog_policy_success(bog_policy_t *p, const bog_time_t *start,
    const bog_time_t *now, int64_t lifetime, int64_t refresh_before,
    uint32_t rnd);

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
 * The API has rejected the token (RFC 6750, 3.1).  Returns 1 where it is given
 * up, and the next fetch is due; 0 where it is kept: another one was given up
 * just before, or no fetch may begin now.  The time between two grows as long
 * as this goes on.
 */
int bog_policy_rejected(bog_policy_t *p, const bog_time_t *now, uint32_t rnd);

/*
 * Somebody may have mended what failed: the next fetch need not wait.  Should
 * it fail again, the one after waits as long as it would have.
 */
void bog_policy_retry(bog_policy_t *p);


#endif /* _BOG_POLICY_H_INCLUDED_ */

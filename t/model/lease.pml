/*
 * Lease, publication and wake-up of a source: ngx_http_bog_source.c and
 * ngx_http_bog_wake.c upon the changes of ngx_http_bog_store.c, each of which
 * is one step here.  That it may be one is what store.pml proves.
 *
 * Workers get requests, fetch, wake each other, are killed, stopped, replaced,
 * and asked to exit by a reload.  What the world may do is counted (requests,
 * kills, ...), and it may leave it, too; so no run has a next request, kill or
 * expiry to hope for.  A tick of a timer that would change nothing is left out.
 * Then a run is finite, and where it ends
 *
 *   - no request is held by a worker that lives and goes on: none is held for
 *     ever, whatever came in between.  There is no wait timeout here.
 *
 * This takes for granted that a worker which can go on does some time (weak
 * fairness), and rests on CYCLES, which finds no state that comes again.
 * Besides:
 *
 *   - never two that fetch and have not outlived their lease;
 *   - a fetch begins only where one is due: since the last token was
 *     published, it has ended, its refresh has come, or the API rejected it;
 *   - a token never takes the place of one that was asked for later;
 *   - only the very token that was rejected is withheld, until a fetch ends:
 *     from then on, and where a run ends, the newest token is given out, if
 *     its time has not ended;
 *   - a failed fetch ends no hold that the next one may still help;
 *   - no request is refused while there is a token whose time has not ended.
 *
 * The variants:
 *   POLL       no eventfd: the watch timer has to find it all
 *   NO_WATCH   no watch timer: the eventfd alone has to do it, as long as
 *              nobody dies (KILLS and STOPS 0)
 *   RELOAD     workers 0 and 1 are asked to exit, 2 and 3 come
 *   REQUESTS, KILLS, STOPS (in mid-fetch, for a time or for ever), ENDS (of a
 *   token's time), REFRESHES, REJECTS, HICCUPS (a fetch is released, or fails
 *   and the next one comes in time for those that wait): how many of each
 *
 * The faults, each of which has to be found:
 *   WAKE_ONE        one other worker is woken, not all
 *   WAKE_FIRST      they are woken before there is something to see
 *   WAKE_NEW        only workers that came by the last reload are woken
 *   SAY_LATE        who waits looks whether that is in vain, then says so
 *   LOOK_ONCE       who asks for a fetch does not look at the store again
 *   RELEASE_ANY     a fetch frees the lease of another
 *   PUBLISH_LATE    who has lost the lease publishes whatever he has
 *   PUBLISH_MINE    who has the lease publishes whatever he has
 *   REJECT_ANY      the token that is there is withheld, not the one rejected
 *   REJECT_WAITS    a rejected token is withheld, but no fetch becomes due
 *   REJECT_DROPS    a failed fetch drops the token that is withheld
 *   FAIL_KEEPS      a failed fetch leaves the token withheld
 *   RELEASE_KEEPS   a fetch that is released leaves the token withheld
 *   FAIL_ALL        a failed fetch ends all holds
 *   ACQUIRE_BLIND   whether a fetch is due is known from one's own copy only
 *   NO_KILL_0       it is not looked whether the owner of the lease lives, and
 *                   there is no deadline
 */

#ifndef REQUESTS
#define REQUESTS   2
#endif
#ifndef KILLS
#define KILLS      0
#endif
#ifndef STOPS
#define STOPS      0
#endif
#ifndef ENDS
#define ENDS       0
#endif
#ifndef REFRESHES
#define REFRESHES  0
#endif
#ifndef REJECTS
#define REJECTS    0
#endif
#ifndef HICCUPS
#define HICCUPS    0
#endif

#ifdef RELOAD
#define WORKERS    4
#else
#define WORKERS    3
#endif

/*
 * The record.  A token is known by its place among all that were asked for:
 * one with a greater number lives longer.  "version" is who has not seen it;
 * the copy of a worker that has seen it is the record itself.
 *
 * The lease needs no number: a worker has one fetch at a time.
 */

byte  token;                    /* 0: none yet */
bool  withheld;                 /* the API has rejected it */
byte  failed;                   /* who waits and has not seen a failure */
byte  lease_pid;                /* 0: free */
bool  lease_over;               /* its deadline has passed */
bool  backoff;                  /* no fetch before its time, */
bool  far;                      /* which is too late for those that wait */

byte  unseen;                   /* workers whose version is another */
bool  waited;                   /* somebody has said so */

/* time and the bank */

byte  ended;                    /* this token and those before are too old */
bool  refresh;                  /* is due */

/* workers */

#define NO_FETCH   0
#define BEGUN      1            /* looking up, connecting */
#define ASKED      2            /* the request is sent */

#define SUCCESS    0
#define FAILURE    1
#define HICCUP     2
#define ABORTED    3

#define GOES_ON    0
#define STOPPED    1
#define FOR_EVER   2

byte  self[WORKERS];            /* pid, 0: no process */
byte  edge;                     /* whose eventfd is ready */
bool  killed[WORKERS];
byte  stopped[WORKERS];
bool  quit[WORKERS];
byte  waiting;                  /* who holds requests, or is about to */
byte  fetch[WORKERS];
byte  born[WORKERS];            /* the token that was asked for */
bool  late[WORKERS];            /* has outlived the lease of its fetch */

/* what the world still may do */

byte  requests = REQUESTS;
byte  kills = KILLS;
byte  stops = STOPS;
byte  ends = ENDS;
byte  refreshes = REFRESHES;
byte  tries = REFRESHES * 2;    /* to refresh with no request that waits */
byte  rejects = REJECTS;
byte  hiccups = HICCUPS;
bool  reloads;
bool  enough;
bool  over;

byte  given;                    /* a token that a request has */
byte  given_by;

byte  newest;                   /* of all tokens that were published */
bool  due = true;               /* a fetch, for a reason */

#define BIT(w)       (1 << (w))
#define HAS(m, w)    (((m) >> (w)) & 1)
#define ALL          (BIT(WORKERS) - 1)

/* pids of a place: place + 1, place + 1 + WORKERS, ... */
#define PLACE(p)     (((p) - 1) % WORKERS)
#define EXISTS(p)    (self[PLACE(p)] == (p))

#define VALID        (token > ended)
#define USABLE       (VALID && !withheld)
#define MINE         (lease_pid == self[me])

/* bog_policy_next() */
#ifdef ACQUIRE_BLIND
#define DUE          (!backoff && (!seen || refresh))
#else
#define DUE          (!backoff && (!VALID || refresh))
#endif

/* ngx_http_bog_store_leased() */
#ifdef NO_KILL_0
#define FREE         (lease_pid == 0)
#else
#define FREE         (lease_pid == 0 || lease_over || !EXISTS(lease_pid))
#endif

#define FETCHES(w)   (fetch[w] != NO_FETCH && !late[w])
#define MAX(a, b)    ((a) > (b) -> (a) : (b))

#ifdef RELOAD
#define FETCHERS     (FETCHES(0) + FETCHES(1) + FETCHES(2) + FETCHES(3))
#define LAST_BORN    MAX(MAX(born[0], born[1]), MAX(born[2], born[3]))
#else
#define FETCHERS     (FETCHES(0) + FETCHES(1) + FETCHES(2))
#define LAST_BORN    MAX(MAX(born[0], born[1]), born[2])
#endif

#define RUNS(w)      (self[w] != 0 && stopped[w] == GOES_ON)
#define HOLDS(w)     HAS(waiting, w)


/* ngx_http_bog_source_fetch_if_due(), ngx_http_bog_acquire_lease() */

inline acquire()
{
    d_step {
        if
        :: fetch[me] == NO_FETCH && FREE && DUE ->
            assert(due);
            lease_pid = self[me];
            lease_over = false;
            fetch[me] = BEGUN;
            unseen = ALL;
            assert(FETCHERS == 1)
        :: else
        fi
    }
}


/* a request goes on with the token; of one, the worker sees the API's answer */

inline give()
{
    if
    :: rejects > 0 && given == 0 ->
        given = token;
        given_by = me
    :: else
    fi
}


/* ngx_http_bog_check_waiters(), what it does with what it reads */

inline deliver()
{
    unseen = unseen & ~BIT(me);

    if
    :: HOLDS(me) && USABLE ->
        waiting = waiting & ~BIT(me);
        give()

#ifdef FAIL_ALL
    :: HOLDS(me) && !USABLE && HAS(failed, me) ->
#else
    :: HOLDS(me) && !USABLE && HAS(failed, me) && far ->
#endif
        assert(far && newest <= ended);
        waiting = waiting & ~BIT(me)

    :: else
    fi;

    failed = failed & ~BIT(me)
}


/* ngx_http_bog_end_fetch(), ngx_http_bog_wake() */

inline wake()
{
#if defined(POLL)
    skip
#else
    d_step { woken = waited; waited = false };

    if
    :: woken ->
        woken = false;
#if defined(WAKE_ONE)
        edge = edge | BIT((me + 1) % WORKERS)
#elif defined(WAKE_NEW)
        edge = edge | (reloads -> 3 : 12)
#else
        edge = edge | ALL
#endif
    :: else
    fi
#endif
}


/* ngx_http_bog_source_wait(): the timer of a millisecond is an edge here */

inline look()
{
    d_step {
        if
        :: HAS(unseen, me) || HAS(failed, me) -> edge = edge | BIT(me)
        :: else
        fi
    }
}


inline await()
{
#ifndef POLL
#ifdef SAY_LATE
    look();
    waited = true
#else
    waited = true;
    look()
#endif
#else
    skip
#endif
}


inline ask()
{
    if
    :: HOLDS(me) -> waited = true
    :: else
    fi
}


inline check_waiters()
{
#ifdef SAY_LATE
    d_step { deliver() };
    ask()
#else
#ifndef POLL
    ask();
#endif
    d_step { deliver() }
#endif
}


/*
 * A request: ngx_http_bog_hold_handler().  The worker asks to be woken for the
 * first one that waits.
 */

inline request()
{
    d_step {
        unseen = unseen & ~BIT(me);
        seen = USABLE;
        first = !HOLDS(me);

        if
        :: seen -> give()
        :: else -> waiting = waiting | BIT(me)
        fi
    }

    if
    :: seen
    :: else ->
        acquire();

        d_step {
            unseen = unseen & ~BIT(me);
            seen = USABLE;
            later = (fetch[me] == NO_FETCH && backoff && far);

            if
            :: seen ->
                give();
#ifdef LOOK_ONCE
                assert(false)           /* refused */
#endif
            :: else ->
                assert(!later || newest <= ended)
            fi
        }

        if
        :: !seen && first ->
            await()

        :: !seen && !first

        :: seen || later ->

            /* it is given the token, or refused, as it would be too late */

            d_step {
                if
                :: first ->
                    waiting = waiting & ~BIT(me);
                    failed = failed & ~BIT(me)
                :: else
                fi
            }
        fi
    fi;

    d_step { seen = false; first = false; later = false }
}


/* ngx_http_bog_publish() of a token: ngx_http_bog_publish_token() */

inline success()
{
    if
    :: born[me] <= ended ->
        failure(true)

#if defined(PUBLISH_LATE)
    :: born[me] > ended && MINE && born[me] <= token ->
#elif defined(PUBLISH_MINE)
    :: born[me] > ended && !MINE && born[me] <= token ->
#else
    :: born[me] > ended && born[me] <= token ->
#endif
        release()

    :: else ->
        assert(born[me] > newest);
        newest = born[me];
        token = born[me];
        withheld = false;
        refresh = false;
        backoff = false;
        far = false;
        due = false;
        release();
        unseen = ALL
    fi
}


/* ngx_http_bog_release_lease() */

inline release()
{
    if
#ifdef RELEASE_ANY
    :: true ->
#else
    :: MINE ->
#endif
#ifndef RELEASE_KEEPS
        withheld = false;
#endif
        lease_pid = 0;
        lease_over = false;
        unseen = ALL
#ifndef RELEASE_ANY
    :: else
#endif
    fi
}


/* ngx_http_bog_publish_failure(), bog_policy_failure() */

inline failure(too_late)
{
    if
    :: MINE ->
        failed = waiting;
        backoff = true;
        far = too_late;
#ifdef REJECT_DROPS
        token = (withheld -> 0 : token);
#endif
#ifndef FAIL_KEEPS
        withheld = false;
#endif
        lease_pid = 0;
        lease_over = false;
        unseen = ALL
    :: else ->
#ifdef RELEASE_ANY
        lease_pid = 0
#endif
    fi
}


/* ngx_http_bog_end_fetch() */

inline fetched(what)
{
#ifdef WAKE_FIRST
    wake();
#endif

    d_step {
        mine = MINE;

        if
        :: what == SUCCESS -> success()
        :: what == FAILURE -> failure(true)
        :: what == HICCUP -> failure(false)
        :: what == ABORTED -> release()
        fi;

        assert(!mine || newest <= ended || USABLE);
        mine = false;
        fetch[me] = NO_FETCH;
        born[me] = 0;
        late[me] = false
    }

#ifndef WAKE_FIRST
    wake();
#endif

    check_waiters();

    /* ngx_http_bog_fetch_unless_exiting() */

    if
    :: HOLDS(me) -> acquire()
    :: else
    fi
}


/* ngx_http_bog_source_reject(), bog_policy_rejected() */

inline reject()
{
    d_step {
        rejects--;

        if
#ifdef REJECT_ANY
        :: USABLE ->
#else
        :: USABLE && token == given ->
#endif
            assert(token == given);
            withheld = true;
#ifndef REJECT_WAITS
            refresh = true;
#endif
            backoff = false;
            far = false;
            due = true;
            unseen = ALL
        :: else
        fi;

        given = 0;
        given_by = 0
    }

    if
    :: withheld && (!quit[me] || HOLDS(me)) -> acquire()
    :: else
    fi
}


proctype worker(byte me)
{
    bool  seen, first, later, mine, woken;

start:
    {
        do
        /* workers that are new have no self before a reload */

        :: atomic { requests > 0 && RUNS(me) && !quit[me] -> requests-- }
            request()

        /* ngx_http_bog_wake_handler(), of the eventfd */

        :: d_step {
            HAS(edge, me) && RUNS(me) ->
            edge = edge & ~BIT(me)
           }
            check_waiters()

#ifndef NO_WATCH
        /* ngx_http_bog_timer_handler() while requests wait */

        :: (HOLDS(me) && RUNS(me)
            && (HAS(unseen, me) || USABLE || HAS(failed, me)
                || (fetch[me] == NO_FETCH && FREE && DUE))) ->
            check_waiters();

            if
            :: HOLDS(me) -> acquire()
            :: else
            fi
#endif

        /* ngx_http_bog_timer_handler() */

        :: atomic {
            (RUNS(me) && fetch[me] == NO_FETCH && FREE && DUE
             && (HOLDS(me)
                 || (!quit[me]
                     && (withheld || (VALID && refresh && tries > 0))))) ->

            if
            :: !HOLDS(me) && !withheld -> tries--
            :: else
            fi;

            acquire()
           }

        /* of a worker that fetches: ngx_http_bog_extend_lease() */

        :: d_step {
            fetch[me] != NO_FETCH && RUNS(me) && lease_over && MINE ->
            lease_over = false;
            late[me] = false;
            unseen = ALL;
            assert(FETCHERS == 1)
           }

        :: d_step {
            fetch[me] == BEGUN && RUNS(me) ->
            fetch[me] = ASKED;
            born[me] = MAX(newest, LAST_BORN) + 1
           }

        :: fetch[me] == ASKED && RUNS(me) ->
            fetched(SUCCESS)

        :: fetch[me] != NO_FETCH && RUNS(me) ->
            fetched(FAILURE)

#if HICCUPS > 0
        :: atomic {
            fetch[me] != NO_FETCH && RUNS(me) && hiccups > 0 ->
            hiccups--
           }
            if
            :: fetched(HICCUP)
            :: fetched(ABORTED)
            fi
#endif

#ifdef RELOAD
        /* worker_shutdown_timeout: ngx_http_bog_release_lease() */

        :: d_step {
            fetch[me] != NO_FETCH && RUNS(me) && quit[me] ->
            waiting = waiting & ~BIT(me)
           }
            fetched(ABORTED)

        :: d_step {
            quit[me] && !HOLDS(me) && fetch[me] == NO_FETCH ->
            self[me] = 0
           }
            goto gone
#endif

        /* of a token given to a request */

        :: given > 0 && given_by == me && rejects > 0 ->
            reject()

        :: over ->
            goto gone
        od

    } unless {
        killed[me]
    };

    /* dead, and known as such when the master has seen it */

    atomic {
        seen = false; first = false; later = false; woken = false;
        killed[me] = false;

        if
        :: given > 0 && given_by == me -> given = 0; given_by = 0
        :: else
        fi;

        if
        :: quit[me] ->
            self[me] = 0;
            goto gone
        :: else ->
            self[me] = self[me] + WORKERS;
            unseen = unseen | BIT(me);
            goto start
        fi
    }

gone:
    skip
}


inline kill(w)
{
    killed[w] = true;
    stopped[w] = GOES_ON;
    waiting = waiting & ~BIT(w);
    failed = failed & ~BIT(w);
    fetch[w] = NO_FETCH;
    born[w] = 0;
    late[w] = false
}


#define MAY_KILL(w)  (kills > 0 && self[w] != 0 && !killed[w])
#define MAY_STOP(w)  (stops > 0 && fetch[w] != NO_FETCH && !stopped[w])


inline at_rest(w)
{
    assert(self[w] == 0 || stopped[w] == FOR_EVER
           || (!HOLDS(w) && fetch[w] == NO_FETCH))
}


/*
 * Workers are alike, but for new ones and old ones: which one is killed or
 * stopped makes no difference.
 */

proctype world()
{
    do
#if KILLS > 0
    :: d_step { MAY_KILL(0) -> kills--; kill(0) }
#ifdef RELOAD
    :: d_step { MAY_KILL(2) -> kills--; kill(2) }
#endif
#endif

#if STOPS > 0
    :: d_step { MAY_STOP(0) -> stops--; stopped[0] = STOPPED }
    :: d_step { MAY_STOP(1) -> stops--; stopped[1] = STOPPED }
    :: stopped[0] == STOPPED -> stopped[0] = GOES_ON
    :: stopped[0] == STOPPED -> stopped[0] = FOR_EVER
    :: stopped[1] == STOPPED -> stopped[1] = GOES_ON
    :: stopped[1] == STOPPED -> stopped[1] = FOR_EVER
#endif

#if STOPS + KILLS > 0
    /* only who cannot extend it outlives a lease */

    :: d_step {
        (lease_pid != 0 && !lease_over
         && (!EXISTS(lease_pid) || killed[PLACE(lease_pid)]
             || stopped[PLACE(lease_pid)] != GOES_ON)) ->
        lease_over = true;
        late[PLACE(lease_pid)] = (EXISTS(lease_pid)
                                  && fetch[PLACE(lease_pid)] != NO_FETCH)
       }
#endif

    :: backoff -> backoff = false

#if ENDS > 0
    :: d_step { ends > 0 && token > ended -> ends--; ended = token; due = true }
#endif

#if REFRESHES > 0
    :: d_step {
        refreshes > 0 && VALID -> refreshes--; refresh = true; due = true
       }
#endif

#ifdef RELOAD
    /* ngx_http_bog_store_update_reload(), and the new workers */

    :: atomic {
        !reloads ->
        reloads = true;
        quit[0] = true;
        quit[1] = true;
        self[2] = 3;
        self[3] = 4;
        unseen = ALL;
        backoff = false
       }
#endif

    /* the API accepts it */

#if REJECTS > 0
    :: d_step { given > 0 -> given = 0; given_by = 0 }
#endif

    /* from here on nothing comes from outside any more */

    :: d_step {
        !enough ->
        enough = true;
        requests = 0;
        kills = 0;
        stops = 0;
        ends = 0;
        refreshes = 0;
        rejects = 0;
        hiccups = 0
       }

    :: timeout ->
        assert(newest <= ended || (token == newest && !withheld));
        at_rest(0);
        at_rest(1);
        at_rest(2);
#ifdef RELOAD
        at_rest(3);
#endif
        over = true;
        break
    od
}


init
{
    atomic {
        self[0] = 1;
        self[1] = 2;
#ifndef RELOAD
        self[2] = 3;
#endif
        unseen = ALL;

        run worker(0);
        run worker(1);
        run worker(2);
#ifdef RELOAD
        run worker(3);
#endif
        run world()
    }
}

/*
 * Lease, publication and wake-up of a source: src/ngx_http_bog_source.c and
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
 *   - only the very token that was rejected is dropped;
 *   - nobody is refused who has seen a valid token.
 *
 * The variants:
 *   POLL       no eventfd: the watch timer has to find it all
 *   NO_WATCH   no watch timer: the eventfd alone has to do it, as long as
 *              nobody dies (KILLS and STOPS 0)
 *   RELOAD     workers 0 and 1 are asked to exit, 2 and 3 come
 *   REQUESTS, KILLS, STOPS (in mid-fetch, for a time or for ever), ENDS (of a
 *   token's time), REFRESHES, REJECTS: how many of each
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
 *   REJECT_ANY      the token that is there is dropped, not the one rejected
 *   REJECT_FORGETS  a dropped token leaves no trace of when it was asked for
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

#ifdef RELOAD
#define WORKERS    4
#else
#define WORKERS    3
#endif

/*
 * The record.  A token is known by its place among all that were asked for:
 * one with a greater number lives longer.  "version" is who has not seen it.
 */

byte  token;                    /* 0: none yet */
bool  dropped;
byte  failures;                 /* ever */
byte  lease_pid;                /* 0: free */
byte  lease_id;
bool  lease_over;               /* its deadline has passed */
bool  backoff;                  /* no fetch before its time */

byte  unseen;                   /* workers whose version is another */
bool  waited;                   /* somebody has said so */

/* time and the bank */

byte  asked;                    /* tokens asked for */
byte  ended;                    /* this token and those before are too old */
bool  refresh;                  /* is due */

/* workers */

#define NO_FETCH   0
#define BEGUN      1            /* looking up, connecting */
#define ASKED      2            /* the request is sent */

#define SUCCESS    0
#define FAILURE    1
#define ABORTED    2

#define GOES_ON    0
#define STOPPED    1
#define FOR_EVER   2

byte  self[WORKERS];            /* pid, 0: no process */
byte  edge;                     /* whose eventfd is ready */
bool  killed[WORKERS];
byte  stopped[WORKERS];
bool  quit[WORKERS];
byte  held[WORKERS];            /* requests */
byte  fetch[WORKERS];
bool  late[WORKERS];            /* has outlived the lease of its fetch */

/* what the world still may do */

byte  requests = REQUESTS;
byte  kills = KILLS;
byte  stops = STOPS;
byte  ends = ENDS;
byte  refreshes = REFRESHES;
byte  tries = REFRESHES * 2;    /* to refresh with no request that waits */
byte  rejects = REJECTS;
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

#define VALID        (token > ended && !dropped)
#define MINE         (lease_pid == self[me] && lease_id == id)

/* bog_policy_next() */
#ifdef ACQUIRE_BLIND
#define DUE          (!backoff && (!SEEN_VALID || refresh))
#else
#define DUE          (!backoff && (!VALID || refresh))
#endif

/* ngx_http_bog_lease_free() */
#ifdef NO_KILL_0
#define FREE         (lease_pid == 0)
#else
#define FREE         (lease_pid == 0 || lease_over || !EXISTS(lease_pid))
#endif

#define FETCHES(w)   (fetch[w] != NO_FETCH && !late[w])

#ifdef RELOAD
#define FETCHERS     (FETCHES(0) + FETCHES(1) + FETCHES(2) + FETCHES(3))
#else
#define FETCHERS     (FETCHES(0) + FETCHES(1) + FETCHES(2))
#endif

/* what this worker has seen of the record */
#define SEEN_VALID   (s_token > ended && !s_dropped)


/* ngx_http_bog_source_sync() */

inline sync()
{
    if
    :: HAS(unseen, me) ->
        s_token = token;
        s_dropped = dropped;
        s_failures = failures;
        unseen = unseen & ~BIT(me)
    :: else
    fi
}


/* ngx_http_bog_source_begin(), ngx_http_bog_store_acquire() */

inline acquire()
{
    d_step {
        if
        :: fetch[me] == NO_FETCH && FREE && DUE ->
            assert(due);
            lease_pid = self[me];
            lease_id++;
            lease_over = false;
            id = lease_id;
            fetch[me] = BEGUN;
            unseen = ALL;
            assert(FETCHERS == 1)
        :: else
        fi
    }
}


/* a request goes on with the token; of one it is seen what the API says */

inline give()
{
    if
    :: rejects > 0 && given == 0 ->
        given = s_token;
        given_by = me
    :: else
    fi
}


/* ngx_http_bog_source_deliver() */

inline deliver()
{
    if
    :: held[me] > 0 && (SEEN_VALID || s_failures != remembered) ->
        held[me] = 0;
        remembered = 0;

        if
        :: SEEN_VALID -> give()
        :: else
        fi
    :: else
    fi
}


/* ngx_http_bog_store_waited(), ngx_http_bog_wake() */

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


/* ngx_http_bog_source_await(): the timer of a millisecond is an edge here */

inline look()
{
    d_step {
        if
        :: HAS(unseen, me) || s_failures != remembered -> edge = edge | BIT(me)
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


inline await_again()
{
    if
    :: held[me] > 0 -> await()
    :: else
    fi
}


/* a request: ngx_http_bog_hold_handler() */

inline request()
{
    d_step {
        sync();

        if
        :: held[me] == 0 -> remembered = s_failures
        :: else
        fi
    }

    if
    :: SEEN_VALID ->
        give()

    :: else ->
        acquire();
        d_step { later = (fetch[me] == NO_FETCH && backoff); sync() }

        if
#ifndef LOOK_ONCE
        :: SEEN_VALID ->
            give()
#else
        :: SEEN_VALID ->
            assert(!SEEN_VALID)         /* refused */
#endif

        :: !SEEN_VALID && later             /* refused: it would be too late */

#ifdef NO_WATCH
        :: atomic {
            !SEEN_VALID && !later ->
#else
        :: atomic {
            !SEEN_VALID ->
#endif

            /* ngx_http_bog_source_wait() */

            held[me]++
           }
            await()
        fi;

        later = false
    fi
}


/* ngx_http_bog_source_publish() of a token: ngx_http_bog_store_success() */

inline success()
{
    if
    :: born <= ended ->
        failure()

#if defined(PUBLISH_LATE)
    :: born > ended && MINE && born <= token ->
#elif defined(PUBLISH_MINE)
    :: born > ended && !MINE && born <= token ->
#else
    :: born > ended && born <= token ->
#endif
        free()

    :: else ->
        assert(born > newest);
        newest = born;
        token = born;
        dropped = false;
        refresh = false;
        backoff = false;
        due = false;
        free();
        unseen = ALL
    fi
}


inline free()
{
    if
#ifdef RELEASE_ANY
    :: true ->
#else
    :: MINE ->
#endif
        lease_pid = 0;
        lease_over = false;
        unseen = ALL
#ifndef RELEASE_ANY
    :: else
#endif
    fi
}


/* ngx_http_bog_store_failure() */

inline failure()
{
    if
    :: MINE ->
        failures++;
        backoff = true;
        lease_pid = 0;
        lease_over = false;
        unseen = ALL
    :: else ->
#ifdef RELEASE_ANY
        lease_pid = 0
#endif
    fi
}


/* ngx_http_bog_source_fetched() */

inline fetched(what)
{
#ifdef WAKE_FIRST
    wake();
#endif

    d_step {
        if
        :: what == SUCCESS -> success()
        :: what == FAILURE -> failure()
        :: what == ABORTED -> free()
        fi;

        fetch[me] = NO_FETCH;
        late[me] = false;
        born = 0;
        id = 0
    }

#ifndef WAKE_FIRST
    wake();
#endif

    d_step { sync(); deliver() }

    /* ngx_http_bog_source_go_on() */

    if
    :: held[me] > 0 -> acquire()
    :: else
    fi
}


/* ngx_http_bog_store_reject() */

inline reject()
{
    d_step {
        rejects--;

        if
#ifdef REJECT_ANY
        :: VALID ->
#else
        :: VALID && token == given ->
#endif
            assert(token == given);
            dropped = true;
            due = true;
#ifdef REJECT_FORGETS
            token = 0;
#endif
            unseen = ALL
        :: else
        fi;

        given = 0;
        given_by = 0
    }

    d_step { sync() }

    if
    :: s_dropped && (!quit[me] || held[me] > 0) -> acquire()
    :: else
    fi
}


proctype worker(byte me)
{
    byte  s_token, s_failures, remembered, id, born;
    bool  s_dropped, later, woken;

start:
    {
        do
        /* workers that are new have no self before a reload */

        :: atomic {
            (requests > 0 && held[me] < 2 && self[me] != 0 && !quit[me]
             && stopped[me] == GOES_ON) ->
            requests--
           }
            request()

        /* ngx_http_bog_source_woken(), of the eventfd */

        :: atomic {
            HAS(edge, me) && self[me] != 0 && stopped[me] == GOES_ON ->
            edge = edge & ~BIT(me)
           }
            d_step { sync(); deliver() }
            await_again()

#ifndef NO_WATCH
        /* ngx_http_bog_source_watch_handler() */

        :: atomic {
            (held[me] > 0 && stopped[me] == GOES_ON
             && (HAS(unseen, me) || SEEN_VALID || s_failures != remembered
                 || (fetch[me] == NO_FETCH && FREE && DUE))) ->
            sync();
            deliver()
           }
            await_again();

            if
            :: held[me] > 0 -> acquire()
            :: else
            fi
#endif

        /* ngx_http_bog_source_timer_handler() */

        :: atomic {
            ((held[me] > 0
              || (VALID && refresh && tries > 0 && self[me] != 0
                  && !quit[me]))
             && stopped[me] == GOES_ON
             && fetch[me] == NO_FETCH && FREE && DUE) ->
            sync();

            if
            :: held[me] == 0 -> tries--
            :: else
            fi
           }
            acquire()

        /* ngx_http_bog_source_beat(), ngx_http_bog_store_extend() */

        :: atomic {
            (fetch[me] != NO_FETCH && stopped[me] == GOES_ON
             && lease_over && MINE) ->
            lease_over = false;
            late[me] = false;
            unseen = ALL;
            assert(FETCHERS == 1)
           }

        :: atomic {
            fetch[me] == BEGUN && stopped[me] == GOES_ON ->
            asked++;
            born = asked;
            fetch[me] = ASKED
           }

        :: fetch[me] == ASKED && stopped[me] == GOES_ON ->
            fetched(SUCCESS)

        :: fetch[me] != NO_FETCH && stopped[me] == GOES_ON ->
            fetched(FAILURE)

#ifdef RELOAD
        /* worker_shutdown_timeout: ngx_http_bog_store_release() */

        :: fetch[me] != NO_FETCH && stopped[me] == GOES_ON && quit[me] ->
            held[me] = 0;
            fetched(ABORTED)

        :: atomic {
            quit[me] && held[me] == 0 && fetch[me] == NO_FETCH ->
            self[me] = 0
           }
            goto gone
#endif

        /* ngx_http_bog_source_reject(), of a token given to a request */

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
        s_token = 0; s_dropped = false; s_failures = 0; remembered = 0;
        id = 0; born = 0; later = false; woken = false;
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
    held[w] = 0;
    fetch[w] = NO_FETCH;
    late[w] = false
}


#define MAY_KILL(w)  (kills > 0 && self[w] != 0 && !killed[w])
#define MAY_STOP(w)  (stops > 0 && fetch[w] != NO_FETCH && !stopped[w])


inline at_rest(w)
{
    assert(self[w] == 0 || stopped[w] == FOR_EVER
           || (held[w] == 0 && fetch[w] == NO_FETCH))
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
    /* ngx_http_bog_change_reload(), and the new workers */

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
        rejects = 0
       }

    :: timeout ->
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

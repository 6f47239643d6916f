/*
 * The record of a source in shared memory, which no lock guards:
 * src/store/ngx_http_bog_store.c.  util/model.sh has spin go through all that
 * can happen here, in whatever order.
 *
 * A slot has AREAS areas, each a record and a token, and a version that says
 * how many changes there were and which area is valid.  A change is made aside
 * in an area of one's own, and becomes valid by one compare-and-swap of the
 * version.  Who reads copies, and copies again where the version has moved.
 *
 * Any worker may be killed at any step, another comes in its place.  Any may
 * be stopped at any step: for a time, as spin may go on with the others for as
 * long as it likes, or for ever (GONE).
 *
 * What is proven:
 *
 *   - nobody uses a torn copy: neither a reader nor a change;
 *   - each change is of the state right before it, none is lost;
 *   - "busy" is said only where more than AREAS - 2 others that live are, or
 *     were during the search, inside of a change: so the areas of the dead
 *     come back;
 *   - nobody waits for others, and nobody goes in circles: the search finds no
 *     state in which a worker that goes on cannot, and (CYCLES) none that
 *     comes again.  A copy or a commit is repeated only because another one
 *     has committed.
 *
 * Memory is taken to be sequentially consistent; for barriers see the code.
 *
 * The sizes:
 *   AREAS, WORKERS
 *   TURNS     reads and changes, of all workers together
 *   KILLS     workers killed
 *   STOPS     workers stopped for ever
 *   REUSE     a worker that comes in the place of another gets its pid
 *
 * The faults, each of which has to be found:
 *   BLIND_COMMIT    the version is stored, not swapped
 *   VALID_FIRST     whether an area is valid is asked before its owner is
 *   READ_ONCE       a reader does not look at the version again
 *   CHANGE_UNSEEN   nor does a change, before it uses its copy
 *   NO_COUNT        the version says which area is valid, and no more
 *   STEAL           the area of a worker that lives is taken
 *   NO_RETURN       the area of a dead worker is not
 *   NO_TAG          the owner of an area is a pid, not a pid and a count
 *   LOCK            a worker that finds all areas taken waits for one
 */

#ifndef AREAS
#define AREAS    3
#endif
#ifndef WORKERS
#define WORKERS  3
#endif
#ifndef TURNS
#define TURNS    4
#endif
#ifndef KILLS
#define KILLS    1
#endif
#ifndef STOPS
#define STOPS    0
#endif

#define PIDS     (WORKERS + KILLS + 1)

/* who owns an area: a pid, 0 for nobody; and how often it was taken */

#ifndef NO_TAG
#define PID(o)         ((o) & 7)
#define OWNED(o, p)  (((((o) >> 3) + 1) << 3) | (p))
#define RELEASED(o)    ((o) & ~7)
#else
#define PID(o)         (o)
#define OWNED(o, p)  (p)
#define RELEASED(o)    0
#endif

#if defined(STEAL)
#define TAKEABLE(o)  true
#elif defined(NO_RETURN)
#define TAKEABLE(o)  (PID(o) == 0)
#else
#define TAKEABLE(o)  (PID(o) == 0 || PID(o) == self[me] || !exists[PID(o)])
#endif

#define ACTIVE(v)  ((v) % AREAS)

#ifdef NO_COUNT
#define NEXT(v, i)  (i)
#else
#define NEXT(v, i)  ((v) - (v) % AREAS + AREAS + (i))
#endif

/* the slot: ngx_http_bog_slot_t */

byte  version;
byte  owner[AREAS];
byte  record[AREAS];
byte  token[AREAS];

/* the system: what kill(pid, 0) knows; and what became of workers */

byte  self[WORKERS];
bool  exists[PIDS];
byte  pids = WORKERS;

#define KILLED  1
#define GONE    2

byte  fate[WORKERS];

byte  turns = TURNS;
byte  kills = KILLS;
byte  stops = STOPS;

/* areas of the dead that seem to be of the living */

#ifdef REUSE
#define LEFT  KILLS
#else
#define LEFT  0
#endif

/*
 * What no worker knows: changes made; who owns an area and lives; for whom
 * the slot has changed since his search began.
 */

byte  commits;
byte  inside;
byte  moved;
byte  searching;

#define BIT(w)     (1 << (w))
#define HAS(m, w)  (((m) >> (w)) & 1)
#define COUNT(m)   (HAS(m, 0) + HAS(m, 1) + HAS(m, 2) + HAS(m, 3))


inline release()
{
    owner[area] = RELEASED(o);
    inside = inside & ~BIT(me);
    moved = searching
}


/*
 * ngx_http_bog_store_take(): an area to write to, or AREAS where
 * there is none.  The code gives up after a number of rounds; here it does
 * after one in which nothing has changed, as others would find the same.
 */

inline take()
{
    do
    :: area == AREAS ->
        if
        :: atomic { HAS(moved, me) -> moved = moved & ~BIT(me); area = 0 }

#ifdef LOCK
        :: atomic { !HAS(moved, me) -> area = 0 }
#else
        :: atomic {
            !HAS(moved, me) ->
            searching = searching & ~BIT(me);
            assert(COUNT(inside & ~BIT(me)) > AREAS - 2 - LEFT)
           }
            break
#endif
        fi

    :: area < AREAS ->
        o = owner[area];

#ifdef VALID_FIRST
        valid = (area == ACTIVE(version));
#endif

        /* PID(o) != self[me]: kill(pid, 0) */

        if
        :: atomic { !TAKEABLE(o) -> area++; goto next }
        :: atomic { TAKEABLE(o) -> skip }
        fi;

#ifndef VALID_FIRST
        valid = (area == ACTIVE(version));
#endif

        if
        :: atomic { valid -> area++; goto next }
        :: atomic { !valid -> skip }
        fi;

        if
        :: atomic { owner[area] != o -> area++ }

        :: atomic {
            owner[area] == o ->
            owner[area] = OWNED(o, self[me]);
            o = owner[area];
            inside = inside | BIT(me);
            moved = searching;
            searching = searching & ~BIT(me);
            moved = moved & ~BIT(me)
           }
            break
        fi;
next:
        skip
    od
}


/* ngx_http_bog_store_update() */

inline change()
{
    d_step { searching = searching | BIT(me); area = 0 }

    take();

    if
    :: area == AREAS ->
        d_step { o = 0; area = 0 }

    :: else ->
copy:
        v = version;
        record[area] = record[ACTIVE(v)];
        token[area] = token[ACTIVE(v)];

        if
#ifndef CHANGE_UNSEEN
        :: version != v ->
            goto copy
        :: atomic {
            version == v ->
#else
        :: atomic {
#endif
            /* what a change is made of has to be whole */

            assert(record[area] == token[area]);
            record[area] = record[area] + 1
           }
        fi;

        token[area] = token[area] + 1;

        if
        :: true                         /* there is nothing to change */

        :: atomic {
#ifndef BLIND_COMMIT
            version == v ->
#endif
            commits++;
            version = NEXT(v, area);
            moved = searching;
            assert(record[area] == commits && token[area] == commits)
           }

#ifndef BLIND_COMMIT
        :: version != v ->
            goto copy
#endif
        fi;

        d_step { release(); o = 0; v = 0; area = 0 }
    fi
}


/* ngx_http_bog_store_read() */

inline read()
{
    do
    :: v = version;
        r = record[ACTIVE(v)];
        t = token[ACTIVE(v)];

        if
#ifndef READ_ONCE
        :: version != v
        :: else ->
#else
        :: skip ->
#endif
            break
        fi
    od;

    atomic {
        assert(r == t);
#ifndef NO_COUNT
        assert(r == v / AREAS);
#endif
        r = 0; t = 0; v = 0
    }
}


proctype worker(byte me)
{
    byte  v, o, area, r, t;
    bool  valid;

born:
    {
        do
        :: d_step { turns > 0 -> turns-- }
            if
            :: change()
            :: read()
            fi

        :: d_step { turns == 0 -> exists[self[me]] = false }
            goto ended
        od

    } unless {
        fate[me] != 0
    };

    /* a worker has no say in what follows */

    atomic {
        v = 0; o = 0; area = 0; r = 0; t = 0
    }

    if
    :: fate[me] == GONE

    :: d_step {
        fate[me] == KILLED ->
        fate[me] = 0;
        searching = searching & ~BIT(me);
        moved = moved & ~BIT(me);
#ifndef REUSE
        pids++;
        self[me] = pids;
#endif
        exists[self[me]] = true
       }
        goto born
    fi;

ended:
    skip
}


/*
 * Kills and stops, or leaves it.  All workers are alike: which ones they are
 * makes no difference.
 */

proctype world()
{
    do
    :: atomic {
        kills > 0 ->
        kills--;

        if
        :: fate[0] == 0 ->
            fate[0] = KILLED;
            exists[self[0]] = false;
            inside = inside & ~BIT(0);
            moved = searching
        :: true
        fi
       }

    :: atomic {
        stops > 0 ->
        stops--;

        if
        :: fate[0] == 0 -> fate[0] = GONE
        :: fate[1] == 0 -> fate[1] = GONE
        :: true
        fi
       }

    :: kills + stops == 0 ->
        break
    od
}


init
{
    byte  w;

    atomic {
        do
        :: w < WORKERS ->
            self[w] = w + 1;
            exists[self[w]] = true;
            run worker(w);
            w++
        :: else ->
            break
        od;

        run world()
    }
}


/*
 * Copyright (C) The nginx-bog authors
 */


#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bog_policy.h"


/*
 * A fleet of gateways that ask one endpoint for tokens, on a clock of its own.
 * When each of them asks is the module's own policy's affair; here are only the
 * fleet, the endpoint and who counts.
 *
 *     fleet SEED DIR    prints the tables, writes what is plotted to DIR
 *     fleet SEED        no more than the self-check, which comes first
 *
 * All times are in milliseconds.
 */


#define FLEET_GATEWAYS   10000
#define FLEET_FETCH      100            /* from the request to its answer */
#define FLEET_BEFORE     60000          /* bog_refresh_before */
#define FLEET_SLICE      100            /* requests are counted in these */
#define FLEET_EPOCH      1700000000000ll

#define FLEET_SECOND     1000ll
#define FLEET_MINUTE     60000ll
#define FLEET_HOUR       3600000ll

#define FLEET_OUTAGE     (10 * FLEET_MINUTE)

#define fleet_count(a)   (sizeof(a) / sizeof((a)[0]))


typedef enum {
    FLEET_NONE = 0,                     /* rnd is zero */
    FLEET_CODE                          /* as src/oauth/bog_policy.c has it */
} fleet_jitter_e;


typedef struct {
    int64_t         lifetime;
    fleet_jitter_e  jitter;
    int64_t         starts;             /* they start at 0 to this */

    int64_t         outage;             /* its begin, 0: none */
    int64_t         restart;            /* all at once, 0: not */
    uint32_t        status;             /* 0: connections are refused */
    int64_t         retry_after;

    int64_t         time;               /* how long it goes on */
} fleet_case_t;


typedef struct {
    bog_policy_t    policy;
    uint64_t        seed;
    int64_t         sent;               /* the request's time, -1: none */
} fleet_gateway_t;


typedef struct {
    int64_t         time;
    uint32_t        gateway;
} fleet_event_t;


typedef struct {
    fleet_case_t     c;
    fleet_gateway_t *gateways;

    fleet_event_t   *heap;
    size_t           size;

    uint32_t        *slices;
    size_t           nslices;

    int64_t          without;           /* time without a token, summed up,
                                           after the first one */
    int64_t          recovered;         /* the last token after the outage */
    uint32_t         early;             /* successes in the outage */
} fleet_t;


typedef struct {
    double           mean;              /* a second */
    double           peak;              /* requests in a window, at the most */
    double           ratio;             /* to the mean */
    double           chance;            /* what it would be by chance alone */
} fleet_peak_t;


static void fleet_run(fleet_t *f, const fleet_case_t *c, uint64_t seed);
static void fleet_free(fleet_t *f);
static void fleet_event(fleet_t *f, const fleet_event_t *e);
static void fleet_restart(fleet_t *f, uint64_t seed);
static void fleet_send(fleet_t *f, uint32_t n, int64_t time);
static void fleet_answer(fleet_t *f, uint32_t n, int64_t time);
static void fleet_succeed(fleet_t *f, fleet_gateway_t *g,
    const bog_time_t *now);
static void fleet_fail(fleet_t *f, fleet_gateway_t *g, const bog_time_t *now);
static int fleet_is_out(const fleet_t *f, int64_t time);
static void fleet_push(fleet_t *f, int64_t time, uint32_t gateway);
static fleet_event_t fleet_pop(fleet_t *f);
static int fleet_before(const fleet_event_t *a, const fleet_event_t *b);
static uint32_t fleet_random(uint64_t *seed);
static uint32_t fleet_rnd(const fleet_t *f, fleet_gateway_t *g);
static fleet_peak_t fleet_peak(const fleet_t *f, int64_t from, int64_t to,
    int64_t window);
static double fleet_chance(double mean, double windows);
static double fleet_requests(const fleet_t *f, int64_t from, int64_t to);
static const char *fleet_jitter(const fleet_case_t *c);
static void fleet_check(uint64_t seed);
static void fleet_expect(int ok, const char *what);
static void fleet_steady(uint64_t seed);
static void fleet_mixing(uint64_t seed, const char *dir);
static void fleet_restarts(uint64_t seed, const char *dir);
static void fleet_outages(uint64_t seed, const char *dir);
static void fleet_series(const fleet_t *f, const char *dir, const char *name,
    int64_t from, int64_t to);
static FILE *fleet_open(const char *dir, const char *name);
static void *fleet_alloc(size_t n, size_t size);


static int  fleet_failed;


int
main(int argc, char **argv)
{
    char      *end;
    uint64_t   seed;

    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: fleet SEED [DIR]\n");
        return 2;
    }

    seed = strtoull(argv[1], &end, 10);

    if (end == argv[1] || *end != '\0') {
        fprintf(stderr, "fleet: a seed is a number\n");
        return 2;
    }

    fleet_check(seed);

    if (fleet_failed) {
        return 1;
    }

    if (argc == 3) {
        fleet_steady(seed);
        fleet_mixing(seed, argv[2]);
        fleet_restarts(seed, argv[2]);
        fleet_outages(seed, argv[2]);
    }

    return 0;
}


/* a case from its start to its end, with all that is counted */

static void
fleet_run(fleet_t *f, const fleet_case_t *c, uint64_t seed)
{
    int64_t           last, start;
    uint32_t          i;
    uint64_t          starts;
    fleet_event_t     e;
    fleet_gateway_t  *g;

    memset(f, 0, sizeof(fleet_t));

    f->c = *c;
    f->nslices = c->time / FLEET_SLICE + 1;
    f->slices = fleet_alloc(f->nslices, sizeof(uint32_t));
    f->gateways = fleet_alloc(FLEET_GATEWAYS, sizeof(fleet_gateway_t));
    f->heap = fleet_alloc(FLEET_GATEWAYS, sizeof(fleet_event_t));

    starts = ~seed;

    for (i = 0; i < FLEET_GATEWAYS; i++) {
        g = &f->gateways[i];

        g->sent = -1;
        g->seed = (seed << 32) + i;
        start = fleet_random(&starts) % (c->starts + 1);

        /* one step apart, or neighbours would have each other's numbers */

        g->seed = (uint64_t) fleet_random(&g->seed) << 32
                  | fleet_random(&g->seed);

        fleet_push(f, start, i);
    }

    for (last = 0; f->size; last = e.time) {
        e = fleet_pop(f);

        if (c->restart && last < c->restart && e.time >= c->restart) {
            fleet_push(f, e.time, e.gateway);
            fleet_restart(f, seed);
            e = fleet_pop(f);
        }

        if (e.time >= c->time) {
            break;
        }

        fleet_expect(e.time >= last, "time goes forward");
        fleet_event(f, &e);
    }
}


static void
fleet_free(fleet_t *f)
{
    free(f->gateways);
    free(f->heap);
    free(f->slices);
}


static void
fleet_event(fleet_t *f, const fleet_event_t *e)
{
    if (f->gateways[e->gateway].sent < 0) {
        fleet_send(f, e->gateway, e->time);

    } else {
        fleet_answer(f, e->gateway, e->time);
    }
}


/* all at once: what they knew is gone, and each asks as it starts */

static void
fleet_restart(fleet_t *f, uint64_t seed)
{
    uint32_t          i;
    uint64_t          starts;
    fleet_gateway_t  *g;

    starts = seed;
    f->size = 0;

    for (i = 0; i < FLEET_GATEWAYS; i++) {
        g = &f->gateways[i];

        memset(&g->policy, 0, sizeof(bog_policy_t));
        g->sent = -1;

        fleet_push(f, f->c.restart + fleet_random(&starts) % FLEET_SECOND, i);
    }
}


static void
fleet_send(fleet_t *f, uint32_t n, int64_t time)
{
    f->slices[time / FLEET_SLICE]++;
    f->gateways[n].sent = time;

    fleet_push(f, time + FLEET_FETCH, n);
}


static void
fleet_answer(fleet_t *f, uint32_t n, int64_t time)
{
    int64_t           next;
    bog_time_t        now;
    fleet_gateway_t  *g;

    g = &f->gateways[n];

    now.mono = time;
    now.wall = FLEET_EPOCH + time;

    if (fleet_is_out(f, g->sent)) {
        fleet_fail(f, g, &now);

    } else {
        fleet_succeed(f, g, &now);
    }

    g->sent = -1;
    next = bog_policy_next(&g->policy, &now);

    fleet_push(f, (next > time) ? next : time + 1, n);
}


static void
fleet_succeed(fleet_t *f, fleet_gateway_t *g, const bog_time_t *now)
{
    bog_time_t    start;
    bog_policy_t  old;

    old = g->policy;

    start.mono = g->sent;
    start.wall = FLEET_EPOCH + g->sent;

    if (old.token.until && now->mono > old.token.until) {
        f->without += now->mono - old.token.until;
    }

    if (!bog_policy_success(&g->policy, &start, now, f->c.lifetime,
                            FLEET_BEFORE, fleet_rnd(f, g)))
    {
        fleet_expect(0, "a token is usable when it comes");
    }

    f->early += f->c.outage && now->mono > f->c.outage + FLEET_FETCH
                && now->mono < f->c.outage + FLEET_OUTAGE;

    if (old.failures) {
        f->recovered = now->mono;
    }
}


static void
fleet_fail(fleet_t *f, fleet_gateway_t *g, const bog_time_t *now)
{
    bog_failure_t  failure;

    failure.error = f->c.status ? BOG_ERROR_HTTP : BOG_ERROR_CONNECT;
    failure.status = f->c.status;
    failure.retry_after = f->c.status ? f->c.retry_after : -1;

    bog_policy_failure(&g->policy, now, &failure, fleet_rnd(f, g));
}


static int
fleet_is_out(const fleet_t *f, int64_t time)
{
    return f->c.outage && time >= f->c.outage
           && time < f->c.outage + FLEET_OUTAGE;
}


/* a binary heap; each gateway has one event in it at the most */

static void
fleet_push(fleet_t *f, int64_t time, uint32_t gateway)
{
    size_t         i;
    fleet_event_t  e;

    e.time = time;
    e.gateway = gateway;

    for (i = f->size++; i; i = (i - 1) / 2) {

        if (!fleet_before(&e, &f->heap[(i - 1) / 2])) {
            break;
        }

        f->heap[i] = f->heap[(i - 1) / 2];
    }

    f->heap[i] = e;
}


static fleet_event_t
fleet_pop(fleet_t *f)
{
    size_t         i, child;
    fleet_event_t  first, e;

    first = f->heap[0];
    e = f->heap[--f->size];

    for (i = 0; (child = 2 * i + 1) < f->size; i = child) {

        if (child + 1 < f->size
            && fleet_before(&f->heap[child + 1], &f->heap[child]))
        {
            child++;
        }

        if (!fleet_before(&f->heap[child], &e)) {
            break;
        }

        f->heap[i] = f->heap[child];
    }

    f->heap[i] = e;

    return first;
}


static int
fleet_before(const fleet_event_t *a, const fleet_event_t *b)
{
    return a->time < b->time || (a->time == b->time && a->gateway < b->gateway);
}


/* splitmix64: the same on all machines */

static uint32_t
fleet_random(uint64_t *seed)
{
    uint64_t  x;

    x = (*seed += 0x9e3779b97f4a7c15ull);

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;

    return (uint32_t) (x >> 32);
}


static uint32_t
fleet_rnd(const fleet_t *f, fleet_gateway_t *g)
{
    return (f->c.jitter == FLEET_NONE) ? 0 : fleet_random(&g->seed);
}


/* whole windows only, side by side */

static fleet_peak_t
fleet_peak(const fleet_t *f, int64_t from, int64_t to, int64_t window)
{
    double        n, windows;
    int64_t       t;
    fleet_peak_t  p;

    memset(&p, 0, sizeof(fleet_peak_t));

    windows = 0;

    for (t = from; t + window <= to; t += window) {
        n = fleet_requests(f, t, t + window);
        p.peak = (n > p.peak) ? n : p.peak;
        windows++;
    }

    p.mean = fleet_requests(f, from, to) * 1000 / (to - from);
    p.ratio = p.peak / (p.mean * window / 1000);
    p.chance = fleet_chance(p.mean * window / 1000, windows)
               / (p.mean * window / 1000);

    return p;
}


/*
 * The largest of so many numbers of requests, where each request comes at any
 * moment (Poisson): one of such tries in two has as many or more.
 */

static double
fleet_chance(double mean, double windows)
{
    double  k, below, p;

    below = 0;

    for (k = 0; k < 100000; k++) {
        p = exp(k * log(mean) - mean - lgamma(k + 1));
        below += p;

        if (k > mean && windows * (1 - below) < 0.7) {
            return k;
        }
    }

    return 0;
}


static double
fleet_requests(const fleet_t *f, int64_t from, int64_t to)
{
    double   n;
    int64_t  i;

    n = 0;

    for (i = from / FLEET_SLICE; i < to / FLEET_SLICE; i++) {
        n += f->slices[i];
    }

    return n;
}


static const char *
fleet_jitter(const fleet_case_t *c)
{
    return (c->jitter == FLEET_NONE) ? "none" : "as it is";
}


/* What has to be so if the simulation is right. */

static void
fleet_check(uint64_t seed)
{
    double        n, m, chance;
    fleet_t       f, again;
    uint32_t      i;
    bog_time_t    now;
    fleet_case_t  c;

    memset(&c, 0, sizeof(fleet_case_t));

    /* two hours, begun anywhen: the second one has what sums say */

    c.lifetime = 300 * FLEET_SECOND;
    c.jitter = FLEET_CODE;
    c.starts = c.lifetime;
    c.time = 2 * FLEET_HOUR;

    fleet_run(&f, &c, seed);
    fleet_run(&again, &c, seed);

    n = fleet_requests(&f, FLEET_HOUR, 2 * FLEET_HOUR);
    m = FLEET_GATEWAYS * (double) FLEET_HOUR
        / (c.lifetime - FLEET_BEFORE - FLEET_BEFORE / 20);

    fleet_expect(n > m * 0.98 && n < m * 1.02,
                 "requests = gateways * time / interval");
    fleet_expect(f.without == 0, "steady: never without a token");
    fleet_expect(memcmp(f.slices, again.slices,
                        f.nslices * sizeof(uint32_t)) == 0,
                 "the same seed, the same figures");

    now.mono = c.time;
    now.wall = FLEET_EPOCH + c.time;

    for (i = 0; i < FLEET_GATEWAYS; i++) {
        fleet_expect(bog_times_valid(&f.gateways[i].policy.token, &now),
                     "steady: a token at the end");
    }

    fleet_free(&f);
    fleet_free(&again);

    /* without jitter who starts at once stays together */

    c.jitter = FLEET_NONE;
    c.starts = 0;

    fleet_run(&f, &c, seed);

    fleet_expect(fleet_peak(&f, FLEET_HOUR, c.time, FLEET_SLICE).peak
                 == FLEET_GATEWAYS, "no jitter: all at the same time");
    fleet_expect(f.without == 0, "no jitter: never without a token");

    fleet_free(&f);

    /* an outage: all lose their token, and have one in a backoff's time */

    c.jitter = FLEET_CODE;
    c.starts = c.lifetime;
    c.outage = FLEET_HOUR;

    fleet_run(&f, &c, seed);

    fleet_expect(f.early == 0, "no token comes in an outage");
    fleet_expect(f.without > 0, "an outage: tokens end");
    fleet_expect(f.recovered > c.outage + FLEET_OUTAGE
                 && f.recovered <= c.outage + FLEET_OUTAGE
                                   + 10 * FLEET_SECOND + 2 * FLEET_FETCH,
                 "an outage is over within the longest wait");

    for (i = 0; i < FLEET_GATEWAYS; i++) {
        fleet_expect(bog_times_valid(&f.gateways[i].policy.token, &now),
                     "an outage: a token at the end");
    }

    fleet_free(&f);

    /* 42 a second for an hour, at random: 66 to 70 in the peak second */

    chance = fleet_chance(42, 3600);

    fleet_expect(chance >= 66 && chance <= 70, "a peak by chance");
}


static void
fleet_expect(int ok, const char *what)
{
    if (!ok && !fleet_failed) {
        fprintf(stderr, "fleet: wrong: %s\n", what);
        fleet_failed = 1;
    }
}


static void
fleet_steady(uint64_t seed)
{
    int                  i, j, k, hours;
    fleet_t              f;
    fleet_case_t         c;
    fleet_peak_t         one, ten, sixty;
    static int           seconds[] = { 300, 3600 };
    static const char   *starts[] = { "anywhen", "at once" };

    printf("\n## Steady state\n\n"
           "| lifetime | starts | jitter | hour | requests/s"
           " | peak second | x mean | by chance"
           " | 10 s: x mean | by chance | 60 s: x mean | by chance |\n"
           "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- "
           "| --- | --- |\n");

    for (i = 0; i < (int) fleet_count(seconds); i++) {
        for (j = 0; j < (int) fleet_count(starts); j++) {
            for (k = FLEET_NONE; k <= FLEET_CODE; k++) {

                memset(&c, 0, sizeof(fleet_case_t));

                c.lifetime = seconds[i] * FLEET_SECOND;
                c.jitter = k;
                c.starts = (j == 0) ? c.lifetime - FLEET_BEFORE : 0;

                hours = 12;
                c.time = (hours + 1) * FLEET_HOUR;

                fleet_run(&f, &c, seed);

                one = fleet_peak(&f, hours * FLEET_HOUR, c.time, 1000);
                ten = fleet_peak(&f, hours * FLEET_HOUR, c.time, 10000);
                sixty = fleet_peak(&f, hours * FLEET_HOUR, c.time, 60000);

                fleet_expect(f.without == 0, "steady: always a token");

                printf("| %d s | %s | %s | %d | %.1f | %.0f | %.2f | %.2f "
                       "| %.2f | %.2f | %.2f | %.2f |\n",
                       seconds[i], starts[j], fleet_jitter(&c), hours + 1,
                       one.mean, one.peak, one.ratio, one.chance,
                       ten.ratio, ten.chance, sixty.ratio, sixty.chance);

                fleet_free(&f);
            }
        }
    }
}


/* how long those who have started at once stay together */

static void
fleet_mixing(uint64_t seed, const char *dir)
{
    int             i, hours, hour, mixed;
    char            name[64];
    FILE           *file;
    fleet_t         f;
    fleet_case_t    c;
    fleet_peak_t    p;
    int64_t         window;

    static struct {
        int             lifetime;
        fleet_jitter_e  jitter;
        int             hours;
    } cases[] = {
        { 300, FLEET_NONE, 24 },
        { 300, FLEET_CODE, 240 },
        { 3600, FLEET_NONE, 24 },
        { 3600, FLEET_CODE, 240 }
    };

    printf("\n## After a start at once\n\n"
           "| lifetime | jitter | window | hour 1 | hour 2 | hour 6 | hour 12 "
           "| hour 24 | hour 72 | hour 240 | from then on <= 1.5 |\n"
           "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- "
           "| --- |\n");

    for (i = 0; i < (int) fleet_count(cases); i++) {
        memset(&c, 0, sizeof(fleet_case_t));

        hours = cases[i].hours;
        window = (cases[i].lifetime == 300) ? 10000 : 60000;

        c.lifetime = cases[i].lifetime * FLEET_SECOND;
        c.jitter = cases[i].jitter;
        c.time = hours * FLEET_HOUR;

        fleet_run(&f, &c, seed);

        snprintf(name, sizeof(name), "mixing-%d-%d", cases[i].lifetime,
                 c.jitter);
        file = fleet_open(dir, name);

        printf("| %d s | %s | %d s ", cases[i].lifetime, fleet_jitter(&c),
               (int) window / 1000);

        mixed = 0;

        for (hour = 1; hour <= 240; hour++) {

            if (hour <= hours) {
                p = fleet_peak(&f, (hour - 1) * FLEET_HOUR, hour * FLEET_HOUR,
                               window);

                fprintf(file, "%d %.3f\n", hour, p.ratio);
                mixed = (p.ratio > 1.5) ? 0 : mixed ? mixed : hour;
            }

            if (hour == 1 || hour == 2 || hour == 6 || hour == 12
                || hour == 24 || hour == 72 || hour == 240)
            {
                if (hour <= hours) {
                    printf("| %.2f ", p.ratio);

                } else {
                    printf("| ");
                }
            }
        }

        if (mixed) {
            printf("| hour %d |\n", mixed);

        } else {
            printf("| not in %d h |\n", hours);
        }

        fclose(file);
        fleet_free(&f);
    }
}


/* all are started at once, or within a delay */

static void
fleet_restarts(uint64_t seed, const char *dir)
{
    int            i;
    char           name[64];
    fleet_t        f;
    fleet_case_t   c;
    static int     delays[] = { 0, 1, 5, 60 };

    printf("\n## All restart at once\n\n"
           "| delay before the first fetch | peak 100 ms | peak second | 10 s "
           "| first refreshes: peak second |\n"
           "| --- | --- | --- | --- | --- |\n");

    for (i = 0; i < (int) fleet_count(delays); i++) {
        memset(&c, 0, sizeof(fleet_case_t));

        c.lifetime = 300 * FLEET_SECOND;
        c.jitter = FLEET_CODE;
        c.starts = delays[i] ? delays[i] * FLEET_SECOND - 1 : 0;
        c.time = 20 * FLEET_MINUTE;

        fleet_run(&f, &c, seed);

        printf("| %s%d s | %.0f | %.0f | %.0f | %.0f |\n",
               delays[i] ? "0 to " : "", delays[i],
               fleet_peak(&f, 0, FLEET_MINUTE, 100).peak,
               fleet_peak(&f, 0, FLEET_MINUTE, 1000).peak,
               fleet_peak(&f, 0, FLEET_MINUTE, 10000).peak,
               fleet_peak(&f, FLEET_MINUTE, 6 * FLEET_MINUTE, 1000).peak);

        snprintf(name, sizeof(name), "restart-%d", delays[i]);
        fleet_series(&f, dir, name, 0, c.time);

        fleet_free(&f);
    }
}


static void
fleet_outages(uint64_t seed, const char *dir)
{
    int            i, j, k, met;
    char           name[64], text[32];
    int64_t        begin, end, from, last;
    fleet_t        f;
    fleet_case_t   c;
    fleet_peak_t   out, one, ten, after;

    static int     seconds[] = { 300, 3600 };
    printf("\n## An outage of ten minutes\n\n"
           "| lifetime | failure | fleet | jitter | requests/s in it "
           "| peak second | recovery | requests/s | peak second | x mean "
           "| by chance | 10 s: x mean | an hour later: 10 s |\n"
           "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- "
           "| --- | --- | --- |\n");

    for (i = 0; i < (int) fleet_count(seconds); i++) {
        for (j = 0; j < 2; j++) {
            for (met = 0; met < 2; met++) {
                for (k = FLEET_NONE; k <= FLEET_CODE; k++) {
                    memset(&c, 0, sizeof(fleet_case_t));

                    c.lifetime = seconds[i] * FLEET_SECOND;
                    c.jitter = k;
                    c.starts = c.lifetime - FLEET_BEFORE;
                    c.status = j ? 503 : 0;
                    c.retry_after = 30 * FLEET_SECOND;

                    begin = 2 * FLEET_HOUR;
                    end = begin + FLEET_OUTAGE;

                    c.outage = begin;
                    c.restart = met ? begin : 0;
                    c.time = end + 2 * FLEET_HOUR;

                    fleet_run(&f, &c, seed);

                    fleet_expect(f.early == 0, "no token in an outage");

                    /* the restart itself is not the outage's affair */

                    from = met ? begin + 10 * FLEET_SECOND : begin;

                    /* whole seconds */

                    last = (f.recovered + 999) / 1000 * 1000;

                    out = fleet_peak(&f, from, end, 1000);
                    one = fleet_peak(&f, end, last, 1000);
                    ten = fleet_peak(&f, end, last, 10000);
                    after = fleet_peak(&f, end + FLEET_HOUR, c.time, 10000);

                    snprintf(text, sizeof(text), "%.2f", ten.ratio);

                    if (last - end < 20 * FLEET_SECOND) {
                        strcpy(text, "too short");
                    }

                    printf("| %d s | %s | %s | %s | %.1f | %.0f | %d s "
                           "| %.1f | %.0f | %.2f | %.2f | %s | %.2f |\n",
                           seconds[i], j ? "503, 30 s" : "connect",
                           met ? "restarts in it" : "spread",
                           fleet_jitter(&c), out.mean, out.peak,
                           (int) ((last - end) / 1000), one.mean, one.peak,
                           one.ratio, one.chance, text, after.ratio);

                    snprintf(name, sizeof(name), "outage-%d-%d-%d-%d",
                             seconds[i], j, met, k);
                    fleet_series(&f, dir, name, begin - 2 * FLEET_MINUTE,
                                 end + 8 * FLEET_MINUTE);

                    fleet_free(&f);
                }
            }
        }
    }
}


/* requests in each second, for gnuplot */

static void
fleet_series(const fleet_t *f, const char *dir, const char *name, int64_t from,
    int64_t to)
{
    FILE     *file;
    int64_t   t;

    file = fleet_open(dir, name);

    for (t = from; t < to; t += FLEET_SECOND) {
        fprintf(file, "%d %.0f\n", (int) ((t - from) / FLEET_SECOND),
                fleet_requests(f, t, t + FLEET_SECOND));
    }

    fclose(file);
}


static FILE *
fleet_open(const char *dir, const char *name)
{
    char   path[4096];
    FILE  *file;

    snprintf(path, sizeof(path), "%s/%s", dir, name);

    file = fopen(path, "w");

    if (file == NULL) {
        perror(path);
        exit(1);
    }

    return file;
}


static void *
fleet_alloc(size_t n, size_t size)
{
    void  *p;

    p = calloc(n, size);

    if (p == NULL) {
        perror("calloc()");
        exit(1);
    }

    return p;
}

/* timers.c - the heap of deadlines. */
#include "sched/timers.h"
#include "base/alloc.h"
#include "micro.h"

#define MANY 100000u
#define FEW 100u

static nl_timers heap;
static nl_timer *timers; /* MANY of them */
static uint64_t seed = 42;

static int64_t deadline(void)
{
    return (int64_t)(micro_random(&seed) >> 24);
}

static void armed(unsigned n)
{
    nl_timers_init(&heap);
    timers = nl_calloc(MANY * sizeof(*timers));
    for (unsigned i = 0; i < n; i++) {
        nl_timers_add(&heap, &timers[i], deadline());
    }
}

static void setup_none(void)
{
    armed(0);
}

static void setup_few(void)
{
    armed(FEW);
}

static void setup_many(void)
{
    armed(MANY);
}

static void teardown(void)
{
    nl_timers_fini(&heap);
    nl_free(timers);
}

/* A time-out that is put off: the deadline moves to the end. */
static void put_off(unsigned among, uint64_t n)
{
    static int64_t now = INT64_MAX / 4;
    for (uint64_t i = 0; i < n; i++) {
        nl_timer *t = &timers[micro_random(&seed) % among];
        nl_timers_remove(&heap, t);
        nl_timers_add(&heap, t, now++);
    }
}

static void put_off_few(uint64_t n)
{
    put_off(FEW, n);
}

static void put_off_many(uint64_t n)
{
    put_off(MANY, n);
}

/* Armed and taken back before anything happens, as the time-out of a call that is answered at once. */
static void unused(uint64_t n)
{
    static nl_timer t;
    for (uint64_t i = 0; i < n; i++) {
        nl_timers_add(&heap, &t, INT64_MAX / 2);
        nl_timers_remove(&heap, &t);
    }
}

/* MANY at a time, with deadlines in no order. */
static void fire(uint64_t n)
{
    for (uint64_t done = 0; done < n;) {
        unsigned k = n - done < MANY ? (unsigned)(n - done) : MANY;
        for (unsigned i = 0; i < k; i++) {
            nl_timers_add(&heap, &timers[i], deadline());
        }
        while (nl_timers_pop_due(&heap, INT64_MAX - 1)) {
            done++;
        }
    }
}

const micro micro_timers[] = {
    {"timers.unused", "armed and disarmed, 100 others armed", unused, setup_few, teardown, 1},
    {"timers.put-off.100", "a random one of 100 moved to the end", put_off_few, setup_few, teardown, 1},
    {"timers.put-off.100k", "a random one of 100,000 moved to the end", put_off_many, setup_many, teardown,
     1},
    {"timers.fire.100k", "one of 100,000: armed, fired", fire, setup_none, teardown, 1},
    {NULL, NULL, NULL, NULL, NULL, 0},
};

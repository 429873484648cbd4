/* The heap of deadlines against a list that is searched from end to end. */
#include "base/alloc.h"
#include "rng.h"
#include "sched/timers.h"

#include <criterion/criterion.h>

enum { NODES = 400 };

typedef struct model {
    nl_timers h;
    nl_timer t[NODES];
    bool in[NODES];
    int64_t deadline[NODES];
    uint64_t order[NODES], next_order;
    uint32_t count;
} model;

/* The node that must leave first, or -1. */
static int model_first(const model *m)
{
    int best = -1;
    for (int i = 0; i < NODES; i++) {
        if (m->in[i] && (best < 0 || m->deadline[i] < m->deadline[best] ||
                         (m->deadline[i] == m->deadline[best] && m->order[i] < m->order[best]))) {
            best = i;
        }
    }
    return best;
}

static void model_check(model *m)
{
    int first = model_first(m);
    cr_assert_eq(m->h.count, m->count);
    cr_assert_eq(nl_timers_first(&m->h), first < 0 ? NL_NEVER : m->deadline[first]);
    for (int i = 0; i < NODES; i++) {
        cr_assert_eq(nl_timer_armed(&m->t[i]), m->in[i], "node %d", i);
    }
}

static void model_add(model *m, int i, int64_t deadline)
{
    nl_timers_add(&m->h, &m->t[i], deadline);
    m->in[i] = true;
    m->deadline[i] = deadline;
    m->order[i] = m->next_order++;
    m->count++;
}

static void model_remove(model *m, int i)
{
    cr_assert_eq(nl_timers_remove(&m->h, &m->t[i]), m->in[i]);
    m->count -= m->in[i];
    m->in[i] = false;
}

static bool model_pop(model *m, int64_t now)
{
    int first = model_first(m);
    nl_timer *t = nl_timers_pop_due(&m->h, now);
    if (first < 0 || m->deadline[first] > now) {
        cr_assert_null(t, "nothing is due");
        return false;
    }
    cr_assert_eq(t, &m->t[first], "node %d left instead of %d", (int)(t - m->t), first);
    cr_assert_eq(t->deadline, m->deadline[first]);
    m->in[first] = false;
    m->count--;
    return true;
}

static void random_run(uint64_t seed, uint32_t span, int ops)
{
    static model m;
    rng r = rng_seed(seed);
    memset(&m, 0, sizeof(m));
    nl_timers_init(&m.h);
    for (int i = 0; i < NODES; i++) {
        nl_timer_init(&m.t[i]);
    }
    int64_t now = 0;
    for (int op = 0; op < ops; op++) {
        /* Phases in which the heap fills and in which it empties. */
        uint32_t adds = op / 3000 % 2 ? 3 : 6;
        int i = (int)rng_below(&r, NODES);
        if (rng_below(&r, 10) < adds) {
            model_remove(&m, i);
            model_add(&m, i, now + (int64_t)rng_below(&r, span) - span / 4);
        } else if (rng_below(&r, 2)) {
            model_remove(&m, i);
        } else {
            now += rng_below(&r, span / 8 + 1);
            while (model_pop(&m, now)) {
            }
        }
        if (op % 16 == 0) {
            model_check(&m);
        }
    }
    while (model_pop(&m, INT64_MAX)) {
    }
    model_check(&m);
    nl_timers_fini(&m.h);
}

Test(timers, random_many_equal_deadlines)
{
    random_run(1, 20, 20000);
}

Test(timers, random_scattered_deadlines)
{
    random_run(2, 100000, 20000);
}

Test(timers, empty)
{
    nl_timers h;
    nl_timer t;
    nl_timers_init(&h);
    nl_timer_init(&t);
    cr_assert_eq(nl_timers_first(&h), NL_NEVER);
    cr_assert_null(nl_timers_pop_due(&h, INT64_MAX));
    cr_assert_not(nl_timers_remove(&h, &t));
    cr_assert_null(h.cell, "no memory before the first timer");
    nl_timers_fini(&h);
}

Test(timers, never_early)
{
    nl_timers h;
    nl_timer t;
    nl_timers_init(&h);
    nl_timer_init(&t);
    nl_timers_add(&h, &t, 1000);
    cr_assert_null(nl_timers_pop_due(&h, INT64_MIN));
    cr_assert_null(nl_timers_pop_due(&h, 999));
    cr_assert(nl_timer_armed(&t));
    cr_assert_eq(nl_timers_pop_due(&h, 1000), &t);
    cr_assert_not(nl_timer_armed(&t));
    nl_timers_fini(&h);
}

Test(timers, equal_deadlines_leave_in_order_of_adding)
{
    enum { N = 1000 };
    static nl_timer t[N];
    nl_timers h;
    nl_timers_init(&h);
    for (int i = 0; i < N; i++) {
        nl_timer_init(&t[i]);
        nl_timers_add(&h, &t[i], 5);
    }
    /* Taking some out of the middle, and adding them again, must not disturb the others' order. */
    for (int i = 0; i < N; i += 2) {
        cr_assert(nl_timers_remove(&h, &t[i]));
        nl_timers_add(&h, &t[i], 5);
    }
    for (int i = 1; i < N; i += 2) {
        cr_assert_eq(nl_timers_pop_due(&h, 5), &t[i]);
    }
    for (int i = 0; i < N; i += 2) {
        cr_assert_eq(nl_timers_pop_due(&h, 5), &t[i]);
    }
    nl_timers_fini(&h);
}

Test(timers, extreme_deadlines)
{
    nl_timer t[4];
    static const int64_t deadline[4] = {INT64_MAX, 0, INT64_MIN, -1};
    static const int order[4] = {2, 3, 1, 0};
    nl_timers h;
    nl_timers_init(&h);
    for (int i = 0; i < 4; i++) {
        nl_timer_init(&t[i]);
        nl_timers_add(&h, &t[i], deadline[i]);
    }
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(nl_timers_first(&h), deadline[order[i]]);
        cr_assert_eq(nl_timers_pop_due(&h, INT64_MAX), &t[order[i]]);
    }
    nl_timers_fini(&h);
}

Test(timers, memory_shrinks)
{
    enum { N = 100000 };
    nl_timer *t = nl_malloc(N * sizeof(*t));
    nl_timers h;
    nl_timers_init(&h);
    for (int i = 0; i < N; i++) {
        nl_timer_init(&t[i]);
        nl_timers_add(&h, &t[i], i);
    }
    cr_assert_geq(h.cap, (uint32_t)N);
    for (int i = 0; i < N - 10; i++) {
        cr_assert(nl_timers_remove(&h, &t[i]));
        cr_assert_geq(h.cap, h.count);
    }
    cr_assert_leq(h.cap, 64, "room for %u, for 10 timers", (unsigned)h.cap);
    for (int i = N - 10; i < N; i++) {
        cr_assert_eq(nl_timers_pop_due(&h, N), &t[i]);
    }
    nl_timers_fini(&h);
    nl_free(t);
}

Test(timers, no_resizing_to_and_fro)
{
    nl_timer t[200];
    nl_timers h;
    nl_timers_init(&h);
    for (int i = 0; i < 200; i++) {
        nl_timer_init(&t[i]);
    }
    /* At every size: one more, one less, one more must not change the capacity three times. */
    for (int n = 0; n < 199; n++) {
        nl_timers_add(&h, &t[n], n);
        uint32_t cap = h.cap;
        for (int k = 0; k < 3; k++) {
            cr_assert(nl_timers_remove(&h, &t[n]));
            cr_assert_eq(h.cap, cap, "at %d", n);
            nl_timers_add(&h, &t[n], n);
            cr_assert_eq(h.cap, cap, "at %d", n);
        }
    }
    nl_timers_fini(&h);
}

Test(timers, fini_disarms)
{
    nl_timer t[3];
    nl_timers h;
    nl_timers_init(&h);
    for (int i = 0; i < 3; i++) {
        nl_timer_init(&t[i]);
        nl_timers_add(&h, &t[i], i);
    }
    nl_timers_fini(&h);
    for (int i = 0; i < 3; i++) {
        cr_assert_not(nl_timer_armed(&t[i]));
    }
    cr_assert_eq(nl_timers_first(&h), NL_NEVER);
}

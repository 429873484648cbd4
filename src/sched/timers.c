/*
 * timers.c - see timers.h.  Four children a node: half the levels of a binary heap, and the
 * children of one node lie in 64 bytes.
 */
#include "sched/timers.h"
#include "base/alloc.h"

#define CAP_MIN 4u

typedef struct nl_timer_cell cell;

void nl_timers_init(nl_timers *h)
{
    *h = (nl_timers){NULL, 0, 0, 0};
}

void nl_timers_fini(nl_timers *h)
{
    for (uint32_t i = 0; i < h->count; i++) {
        h->cell[i].t->at = 0;
    }
    nl_free(h->cell);
    nl_timers_init(h);
}

static bool before(const cell *a, const cell *b)
{
    return a->deadline != b->deadline ? a->deadline < b->deadline : a->t->seq < b->t->seq;
}

static void put(nl_timers *h, uint32_t i, cell c)
{
    h->cell[i] = c;
    c.t->at = i + 1;
}

/* Position i is a hole: c goes there, or higher up. */
static void sift_up(nl_timers *h, uint32_t i, cell c)
{
    while (i > 0) {
        uint32_t parent = (i - 1) / 4;
        if (!before(&c, &h->cell[parent])) {
            break;
        }
        put(h, i, h->cell[parent]);
        i = parent;
    }
    put(h, i, c);
}

/* Position i is a hole: c goes there, or further down. */
static void sift_down(nl_timers *h, uint32_t i, cell c)
{
    for (;;) {
        uint64_t child = (uint64_t)i * 4 + 1;
        if (child >= h->count) {
            break;
        }
        uint32_t least = (uint32_t)child;
        uint32_t end = h->count - least < 4 ? h->count : least + 4;
        for (uint32_t k = least + 1; k < end; k++) {
            if (before(&h->cell[k], &h->cell[least])) {
                least = k;
            }
        }
        if (!before(&h->cell[least], &c)) {
            break;
        }
        put(h, i, h->cell[least]);
        i = least;
    }
    put(h, i, c);
}

static void resize(nl_timers *h, uint32_t cap)
{
    h->cell = (cell *)nl_realloc(h->cell, cap * sizeof(cell));
    h->cap = cap;
}

void nl_timers_add(nl_timers *h, nl_timer *t, int64_t deadline)
{
    nl_debug_assert(t->at == 0, "a timer is in one heap at a time");
    if (h->count == h->cap) {
        nl_assert(h->cap < UINT32_MAX / 2, "too many timers");
        resize(h, h->cap ? h->cap * 2 : CAP_MIN);
    }
    t->deadline = deadline;
    t->seq = h->seq++;
    sift_up(h, h->count++, (cell){deadline, t});
}

static void take_out(nl_timers *h, uint32_t i)
{
    h->cell[i].t->at = 0;
    cell last = h->cell[--h->count];
    if (i < h->count) {
        if (i > 0 && before(&last, &h->cell[(i - 1) / 4])) {
            sift_up(h, i, last);
        } else {
            sift_down(h, i, last);
        }
    }
    /* A quarter full: halve, so that neither the next add nor the next removal resizes again. */
    if (h->cap > CAP_MIN && h->count <= h->cap / 4) {
        resize(h, h->cap / 2);
    }
}

bool nl_timers_remove(nl_timers *h, nl_timer *t)
{
    if (t->at == 0) {
        return false;
    }
    nl_debug_assert(t->at <= h->count && h->cell[t->at - 1].t == t,
                    "a timer is removed from the heap it is in");
    take_out(h, t->at - 1);
    return true;
}

nl_timer *nl_timers_pop_due(nl_timers *h, int64_t now)
{
    if (h->count == 0 || h->cell[0].deadline > now) {
        return NULL;
    }
    nl_timer *t = h->cell[0].t;
    take_out(h, 0);
    return t;
}

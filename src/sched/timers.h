/*
 * timers.h - a 4-ary heap of deadlines.
 *
 * Purpose: a context has one for its own timers, a worker one for the earliest deadline of each
 *   context.
 * Threads: none of its own: a context's heap belongs to the worker that runs the context, a
 *   worker's heap is under the worker's timer lock.
 * Ownership: nodes are embedded by the user; equal deadlines leave in the order they were added.
 */
#ifndef NL_TIMERS_H
#define NL_TIMERS_H

#include "base/base.h"

typedef struct nl_timer {
    int64_t deadline; /* nl_now_ns() */
    uint64_t seq;     /* tie break, set by nl_timers_add */
    uint32_t at;      /* position in the heap + 1; 0 = not in it */
} nl_timer;

typedef struct nl_timers {
    struct nl_timer_cell
        *cell; /* copy of the deadline beside the node pointer: comparing stays in one array */
    uint32_t count, cap;
    uint64_t seq;
} nl_timers;

struct nl_timer_cell {
    int64_t deadline;
    nl_timer *t; /* its seq is looked at only where two deadlines are equal */
};

#define NL_NEVER INT64_MAX

void nl_timers_init(nl_timers *h);
void nl_timers_fini(nl_timers *h);
/* t must not be in a heap. O(log n), amortised constant for rising deadlines. */
void nl_timers_add(nl_timers *h, nl_timer *t, int64_t deadline);
/* Takes t out if it is in; true if it was. */
bool nl_timers_remove(nl_timers *h, nl_timer *t);
/* Earliest node whose deadline is <= now, taken out, or NULL. */
nl_timer *nl_timers_pop_due(nl_timers *h, int64_t now);

static inline void nl_timer_init(nl_timer *t)
{
    t->at = 0;
}

static inline bool nl_timer_armed(const nl_timer *t)
{
    return t->at != 0;
}

/* Deadline of the earliest, or NL_NEVER. */
static inline int64_t nl_timers_first(const nl_timers *h)
{
    return h->count ? h->cell[0].deadline : NL_NEVER;
}

#endif

/*
 * idle.h - who is parked, who is searching, and whom to wake: the one place where a wake-up
 * could be lost.
 *
 * Purpose: a producer wakes a worker only when nobody else would come for its work.
 * Threads: any thread; all of it is seq_cst.
 * Ownership: a worker's bit is set by the worker.  The thread that clears it owns the right to wake
 *     it.
 *
 * A worker is busy, searching (looking for work to steal), or parked in its reactor.
 *
 *   Producer:  (1) push to a queue            Parker:  (a) give the searching state up
 *              (2) load searching, parked              (b) set the parked bit
 *                                                      (c) look at every queue once more
 *                                                      (d) sleep in the reactor
 *                                                      (e) clear the bit
 *                                                      (f) deliver what the reactor has told
 *
 * All of 1, 2, a, b, c are seq_cst operations, so they stand in one order that all agree on.
 * Suppose the work of a push is seen by nobody.  Then (c) of every parked worker came
 * before (1), hence its (b) before (2): the producer saw a parked bit.  If it woke nobody, it
 * saw searching > 0; that searcher's (a) comes after (2), so its (c) comes after (1) and
 * sees the work.  Contradiction.  A searcher that finds work instead of parking stops
 * searching, and if it was the last one it looks at all queues and wakes one more if
 * something is there: work whose producers relied on it is passed on.
 *
 * The same holds for all that (c) looks at: who changes it does so before (2), as a producer.
 *
 * Two cases stand beside this argument (wake.c):
 *   - A worker that runs the work itself at once wakes nobody: the next slot, the first context
 *     of a delivery, a context that is alone on its worker.
 *   - A producer counts a searcher in before it looks for a parked worker.  If it finds none, it
 *     takes the count back.  Another producer may have seen that count and woken nobody.  If the
 *     one that took it back is a worker, it looks at every queue before it parks.  Any other
 *     thread looks at once (hand_search_over).
 *
 * A wake is handed over by claiming: the thread that clears the parked bit of a worker wakes
 * it, and the woken worker starts as a searcher that was already counted.  (f) comes after (e):
 * a worker that delivers is a producer, and must not claim itself.
 */
#ifndef NL_IDLE_H
#define NL_IDLE_H

#include "sched/sched.h"

typedef struct nl_idle {
    nl_alignas_line atomic_int searching;
    atomic_int nparked; /* bits set in parked; a hint that saves looking at the words */
    atomic_uint_fast64_t parked[NL_WORKERS_MAX / 64];
} nl_idle;

/* Sets the bit of a worker that is about to park. */
static inline void nl_idle_park(nl_idle *d, int worker)
{
    atomic_fetch_add(&d->nparked, 1); /* first: never less than the number of bits */
    atomic_fetch_or(&d->parked[worker / 64], (uint64_t)1 << (worker % 64));
}

/* Clears it; true if it was still set, false if a waker has claimed it first. */
static inline bool nl_idle_unpark(nl_idle *d, int worker)
{
    uint64_t bit = (uint64_t)1 << (worker % 64);
    if (atomic_fetch_and(&d->parked[worker / 64], ~bit) & bit) {
        atomic_fetch_sub(&d->nparked, 1);
        return true;
    }
    return false;
}

static inline bool nl_idle_is_parked(nl_idle *d, int worker)
{
    return atomic_load(&d->parked[worker / 64]) >> (worker % 64) & 1;
}

/* Claims some parked worker; its index, or -1. */
static inline int nl_idle_claim(nl_idle *d)
{
    for (int w = 0; w < NL_WORKERS_MAX / 64; w++) {
        uint64_t bits = atomic_load(&d->parked[w]);
        while (bits) {
            int worker = w * 64 + __builtin_ctzll(bits);
            if (nl_idle_unpark(d, worker)) {
                return worker;
            }
            bits = atomic_load(&d->parked[w]);
        }
    }
    return -1;
}

#endif

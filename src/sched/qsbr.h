/*
 * qsbr.h - quiescent-state based reclamation: when memory that other threads may still look at
 * can be freed.
 *
 * Purpose: a pointer got from a handle table (contexts, sockets) is used without a lock or a
 *   reference count.
 * Threads: nl_retire by any thread.  Each nl_qsbr record has one thread that moves its epoch.
 * Ownership: a retired object belongs to the limbo list of the thread that retired it, until
 *   fn frees it.
 *
 * A looked-up pointer is good until the end of the dispatch that got it, or until the next call
 * that may run Lua or sleep in the system.  Where no such pointer is held the thread is
 * quiescent.  It says so by taking over the global epoch; while it sleeps it is offline (epoch
 * 0).  What is retired at epoch e is freed when every thread is offline or has taken over an
 * epoch > e: the grace period is over.
 *
 *   Reader:  (1) store its epoch             Reclaimer:  (a) take the object out of its table
 *            (2) full fence                              (b) increment the global epoch
 *            (3) look the object up                      (c) full fence
 *                                                        (d) load the reader's epoch
 *
 * A reader that comes online: fences 2 and c stand in one order.  If 2 comes first, d sees the
 * epoch of 1, which is not greater than e, and the object stays.  If c comes first, 3 sees a,
 * and the reader misses the object.
 * A reader that takes over an epoch > e without a fence has read it from b or from a later
 * increment (acquire): its look-ups from then on see a.  Its earlier reads come before the store
 * of the epoch that d sees: nothing is freed under them.
 *
 * Cost on the hot path: one load per dispatch, and a store when the epoch has changed.
 */
#ifndef NL_QSBR_H
#define NL_QSBR_H

#include "base/base.h"

typedef struct nl_limbo {
    struct nl_limbo *next;
    uint64_t epoch;
    void (*fn)(struct nl_limbo *g);
} nl_limbo;

/* Calls fn(g), which frees it, when the grace period is over.  Any thread. */
void nl_retire(nl_limbo *g, void (*fn)(nl_limbo *g));

/* Threads that are not workers bracket their use of looked-up pointers with these two. */
void nl_qsbr_enter(void);
void nl_qsbr_leave(void);

/* --- for the workers -------------------------------------------------------------------------- */

typedef struct nl_qsbr {
    nl_alignas_line atomic_uint_fast64_t epoch; /* 0: offline */
    nl_limbo *first, **last;                    /* retired by this thread, oldest first */
    struct nl_qsbr *next;                       /* all records; never taken out */
} nl_qsbr;

/* The current epoch of the process: grows by one with each retired object. */
extern atomic_uint_fast64_t nl_qsbr_global;

/* Makes r the calling thread's record (offline). */
void nl_qsbr_register(nl_qsbr *r);
void nl_qsbr_online(nl_qsbr *r);
void nl_qsbr_offline(nl_qsbr *r);
/* The calling thread holds no looked-up pointer at this point. */
static inline void nl_qsbr_quiescent(nl_qsbr *r)
{
    /* Acquire pairs with the increment in nl_retire: the removal before it is seen. */
    uint64_t g = atomic_load_explicit(&nl_qsbr_global, memory_order_acquire);
    if (g != atomic_load_explicit(&r->epoch, memory_order_relaxed)) {
        atomic_store_explicit(&r->epoch, g, memory_order_seq_cst);
    }
}
/* Any thread: what was retired by now waits for r. */
static inline bool nl_qsbr_behind(const nl_qsbr *r)
{
    uint64_t e = atomic_load_explicit(&r->epoch, memory_order_relaxed);
    return e && e != atomic_load_explicit(&nl_qsbr_global, memory_order_relaxed);
}
/* Any thread: r's thread sleeps. */
static inline bool nl_qsbr_is_offline(const nl_qsbr *r)
{
    return atomic_load_explicit(&r->epoch, memory_order_relaxed) == 0;
}
/* Frees what can be; true if something is left. */
bool nl_qsbr_sweep(nl_qsbr *r);
/* Frees everything everywhere and forgets all records; only when no other thread is left. */
void nl_qsbr_fini(void);

#endif

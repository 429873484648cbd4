/*
 * qsbr.h - quiescent-state based reclamation: when memory that other threads may still be
 * looking at can be freed.
 *
 * A pointer got from a handle table (contexts, sockets) is used without a lock or a reference
 * count, but only until the end of the dispatch that got it.  Between two dispatches a
 * worker holds no such pointer: it is quiescent, and says so by taking over the global
 * epoch; while it is parked it is offline (epoch 0).  What is buried at epoch e is freed
 * when every worker is offline or has taken over an epoch > e.
 *
 * Why that is enough: the object was taken out of its table before it was buried.  A
 * worker that took over the later epoch did so after the burial, and looked nothing up
 * before it, that it still uses.  One that comes online later publishes its epoch with a
 * seq_cst store before its first look-up, and the sweep loads epochs with seq_cst after the
 * removal: either the sweep sees the worker online, or the worker's look-up comes after
 * the removal in the one order of seq_cst operations and misses the object.
 *
 * Cost on the hot path: one load per dispatch, and a store when the epoch has changed.
 */
#ifndef NL_QSBR_H
#define NL_QSBR_H

#include "base/base.h"

typedef struct nl_grave {
    struct nl_grave *next;
    uint64_t epoch;
    void (*fn)(struct nl_grave *g);
} nl_grave;

/* Frees g with fn(g) when no other thread can still be looking at it.  Any thread. */
void nl_bury(nl_grave *g, void (*fn)(nl_grave *g));

/* A thread that is no worker brackets its use of looked-up pointers with these two. */
void nl_qsbr_enter(void);
void nl_qsbr_leave(void);

/* --- for the workers ------------------------------------------------------------- */

typedef struct nl_qsbr {
    nl_alignas_line atomic_uint_fast64_t epoch; /* 0: offline */
    nl_grave *first, **last;                    /* buried by this thread, oldest first */
    struct nl_qsbr *next;                       /* all records; never taken out */
} nl_qsbr;

/* The process's current epoch; grows with each burial that starts a batch. */
extern atomic_uint_fast64_t nl_qsbr_global;

/* Makes r the calling thread's record (offline). */
void nl_qsbr_register(nl_qsbr *r);
void nl_qsbr_online(nl_qsbr *r);
void nl_qsbr_offline(nl_qsbr *r);
/* Between two dispatches. */
static inline void nl_qsbr_quiescent(nl_qsbr *r)
{
    /* Acquire pairs with the increment in nl_bury: what was done before the burial is seen. */
    uint64_t g = atomic_load_explicit(&nl_qsbr_global, memory_order_acquire);
    if (g != atomic_load_explicit(&r->epoch, memory_order_relaxed)) {
        atomic_store_explicit(&r->epoch, g, memory_order_seq_cst);
    }
}
/* Frees what can be; true if something is left. */
bool nl_qsbr_sweep(nl_qsbr *r);
/* Frees everything everywhere and forgets all records; only when no other thread is left. */
void nl_qsbr_fini(void);

#endif

/*
 * runq.h - a worker's local queue of ready contexts: 256 places, first in first out.
 *
 * Purpose: one owner pushes and pops without a lock; any other worker steals the older half.
 *   (Not Chase-Lev: its owner takes the newest first, which starves old actors.)
 * Threads: push, pop and the receiving end of a steal: the owner.  Length: any thread.
 * Ownership: a context in it belongs to the queue until it is popped or stolen.
 *
 * head is moved by compare-and-swap by the owner and by thieves, tail only by the owner.  A
 * place is written before tail is stored (release) and read after tail is loaded (acquire),
 * and it is not written again before head has passed it, which the owner sees with an
 * acquire load.  A thief copies first and claims afterwards; if its claim fails, what it
 * copied is forgotten.  tail's store is also seq_cst: see idle.h.
 */
#ifndef NL_RUNQ_H
#define NL_RUNQ_H

#include "base/base.h"

struct nl_ctx;

#define NL_RUNQ_SIZE 256u

typedef struct nl_runq {
    nl_alignas_line atomic_uint_least32_t head;
    nl_alignas_line atomic_uint_least32_t tail;
    _Atomic(struct nl_ctx *) ring[NL_RUNQ_SIZE];
} nl_runq;

static inline void nl_runq_init(nl_runq *q)
{
    atomic_init(&q->head, 0);
    atomic_init(&q->tail, 0);
    for (unsigned i = 0; i < NL_RUNQ_SIZE; i++) {
        atomic_init(&q->ring[i], NULL);
    }
}

/* Owner.  False: full. */
static inline bool nl_runq_push(nl_runq *q, struct nl_ctx *c)
{
    uint32_t t = atomic_load_explicit(&q->tail, memory_order_relaxed);
    uint32_t h = atomic_load_explicit(&q->head, memory_order_acquire);
    if (t - h >= NL_RUNQ_SIZE) {
        return false;
    }
    atomic_store_explicit(&q->ring[t % NL_RUNQ_SIZE], c, memory_order_relaxed);
    atomic_store_explicit(&q->tail, t + 1, memory_order_seq_cst);
    return true;
}

/* Owner.  The oldest, or NULL. */
static inline struct nl_ctx *nl_runq_pop(nl_runq *q)
{
    uint32_t h = atomic_load_explicit(&q->head, memory_order_acquire);
    for (;;) {
        if (h == atomic_load_explicit(&q->tail, memory_order_relaxed)) {
            return NULL;
        }
        struct nl_ctx *c = atomic_load_explicit(&q->ring[h % NL_RUNQ_SIZE], memory_order_relaxed);
        if (atomic_compare_exchange_weak_explicit(&q->head, &h, h + 1, memory_order_acq_rel,
                                                  memory_order_acquire)) {
            return c;
        }
    }
}

/* Any thread; exact only for the owner.  seq_cst: the look of a worker about to park (idle.h). */
static inline uint32_t nl_runq_len(nl_runq *q)
{
    uint32_t h = atomic_load_explicit(&q->head, memory_order_seq_cst);
    uint32_t t = atomic_load_explicit(&q->tail, memory_order_seq_cst);
    /* head moved between the loads: it is busy */
    return t - h <= NL_RUNQ_SIZE ? t - h : NL_RUNQ_SIZE;
}

/*
 * The owner of `to`, which must be empty: takes the older half (rounded up) of `from`.  Returns how
 * many.
 */
static inline uint32_t nl_runq_steal(nl_runq *to, nl_runq *from)
{
    uint32_t base = atomic_load_explicit(&to->tail, memory_order_relaxed);
    uint32_t h = atomic_load_explicit(&from->head, memory_order_acquire);
    for (;;) {
        uint32_t t = atomic_load_explicit(&from->tail, memory_order_acquire);
        uint32_t n = t - h;
        if (n == 0) {
            return 0;
        }
        n -= n / 2;
        if (n > NL_RUNQ_SIZE / 2) { /* h is old: it moved between the two loads */
            h = atomic_load_explicit(&from->head, memory_order_acquire);
            continue;
        }
        for (uint32_t i = 0; i < n; i++) {
            struct nl_ctx *c =
                atomic_load_explicit(&from->ring[(h + i) % NL_RUNQ_SIZE], memory_order_relaxed);
            atomic_store_explicit(&to->ring[(base + i) % NL_RUNQ_SIZE], c, memory_order_relaxed);
        }
        if (atomic_compare_exchange_weak_explicit(&from->head, &h, h + n, memory_order_acq_rel,
                                                  memory_order_acquire)) {
            atomic_store_explicit(&to->tail, base + n, memory_order_seq_cst);
            return n;
        }
    }
}

#endif

/* injq.c - see injq.h */
#include "sched/injq.h"

#include "base/alloc.h"
#include "base/os.h"

static nl_injq_ring *ring_new(size_t cells)
{
    nl_injq_ring *r = nl_calloc_aligned(sizeof *r);
    r->mask = cells - 1;
    r->cell = nl_malloc(cells * sizeof *r->cell);
    for (size_t i = 0; i < cells; i++) {
        atomic_init(&r->cell[i].seq, i);
    }
    return r;
}

void nl_injq_init(nl_injq *q)
{
    atomic_init(&q->newest, 0);
    for (int i = 0; i < NL_INJQ_RINGS; i++) {
        atomic_init(&q->ring[i], NULL);
    }
    atomic_init(&q->ring[0], ring_new(NL_INJQ_FIRST));
}

void nl_injq_fini(nl_injq *q)
{
    for (int i = 0; i < NL_INJQ_RINGS; i++) {
        nl_injq_ring *r = atomic_load(&q->ring[i]);
        if (r) {
            nl_free(r->cell);
            nl_free_aligned(r);
        }
    }
}

void nl_injq_reserve(nl_injq *q, size_t contexts)
{
    int i = atomic_load_explicit(&q->newest, memory_order_relaxed);
    if (contexts <= (size_t)NL_INJQ_FIRST << i) {
        return;
    }
    nl_assert(i + 1 < NL_INJQ_RINGS, "more contexts than handles");
    atomic_store_explicit(&q->ring[i + 1], ring_new((size_t)NL_INJQ_FIRST << (i + 1)), memory_order_release);
    /*
     * seq_cst, though release would publish the ring: a producer reads newest, pushes, and looks
     * for parked workers; a worker parks and looks at newest (idle.h).  If the producer saw no
     * parked worker, this store comes before the worker's load in the one order, and is seen.
     */
    atomic_store(&q->newest, i + 1);
}

static bool ring_push(nl_injq_ring *r, struct nl_ctx *c)
{
    size_t at = atomic_load_explicit(&r->push, memory_order_relaxed);
    for (;;) {
        nl_injq_cell *cell = &r->cell[at & r->mask];
        /* Acquire pairs with the release in ring_pop: the cell's last reader is done. */
        size_t seq = atomic_load_explicit(&cell->seq, memory_order_acquire);
        if (seq == at) {
            /* seq_cst, as in runq: this push comes before the producer's look at idle.h */
            if (atomic_compare_exchange_weak(&r->push, &at, at + 1)) {
                cell->ctx = c;
                atomic_store_explicit(&cell->seq, at + 1, memory_order_release);
                return true;
            }
        } else if ((intptr_t)(seq - at) < 0) {
            return false; /* full */
        } else {
            at = atomic_load_explicit(&r->push, memory_order_relaxed);
        }
    }
}

static struct nl_ctx *ring_pop(nl_injq_ring *r)
{
    size_t at = atomic_load_explicit(&r->pop, memory_order_relaxed);
    for (;;) {
        nl_injq_cell *cell = &r->cell[at & r->mask];
        /* Acquire pairs with the release in ring_push: ctx is there. */
        size_t seq = atomic_load_explicit(&cell->seq, memory_order_acquire);
        if (seq == at + 1) {
            if (atomic_compare_exchange_weak_explicit(&r->pop, &at, at + 1, memory_order_acq_rel,
                                                      memory_order_relaxed)) {
                struct nl_ctx *c = cell->ctx;
                atomic_store_explicit(&cell->seq, at + r->mask + 1, memory_order_release);
                return c;
            }
        } else if ((intptr_t)(seq - (at + 1)) < 0) {
            return NULL;
        } else {
            at = atomic_load_explicit(&r->pop, memory_order_relaxed);
        }
    }
}

void nl_injq_push(nl_injq *q, struct nl_ctx *c)
{
    for (int tries = 0;; tries++) {
        int i = atomic_load_explicit(&q->newest, memory_order_acquire);
        if (ring_push(atomic_load_explicit(&q->ring[i], memory_order_acquire), c)) {
            return;
        }
        /* A pop has claimed the cell and has not given it back yet; it may have been preempted. */
        if (tries < 64) {
            nl_cpu_relax();
        } else {
            nl_thread_yield();
        }
    }
}

struct nl_ctx *nl_injq_pop(nl_injq *q)
{
    int n = atomic_load_explicit(&q->newest, memory_order_acquire);
    for (int i = 0; i <= n; i++) {
        struct nl_ctx *c = ring_pop(atomic_load_explicit(&q->ring[i], memory_order_acquire));
        if (c) {
            return c;
        }
    }
    return NULL;
}

size_t nl_injq_len(nl_injq *q)
{
    size_t len = 0;
    int n = atomic_load(&q->newest);
    for (int i = 0; i <= n; i++) {
        nl_injq_ring *r = atomic_load_explicit(&q->ring[i], memory_order_acquire);
        size_t pop = atomic_load(&r->pop), push = atomic_load(&r->push);
        len += push - pop <= r->mask + 1 ? push - pop : 0;
    }
    return len;
}

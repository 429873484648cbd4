/*
 * injq.h - the global ready queue, into which others inject: what comes from outside the workers,
 * what a local queue has no place for, and what the monitor moves.
 *
 * Purpose: many producers, many consumers, first in first out.
 * Threads: any thread pushes and pops; nl_injq_reserve one thread at a time.
 * Ownership: a context in it belongs to the queue until it is popped; rings live as long as the
 *   queue.
 *
 * Vyukov's bounded queue: each cell carries a sequence number that says whose turn it is, so a
 * push and a pop are one compare-and-swap each.
 *
 * A push cannot fail: a context stands in at most one ready queue, and the queue has a cell
 * for every live context.  When their number outgrows the ring, nl_injq_reserve adds one of
 * twice the size; pushes go to the newest, pops look at the oldest first, so order is kept.
 * A producer that still saw the old ring full tries again with the newer one.
 */
#ifndef NL_INJQ_H
#define NL_INJQ_H

#include "base/base.h"

struct nl_ctx;

typedef struct nl_injq_cell {
    atomic_size_t seq;
    struct nl_ctx *ctx;
} nl_injq_cell;

typedef struct nl_injq_ring {
    nl_alignas_line atomic_size_t push;
    nl_alignas_line atomic_size_t pop;
    size_t mask;
    nl_injq_cell *cell;
} nl_injq_ring;

#define NL_INJQ_FIRST 1024u /* cells of the first ring */
#define NL_INJQ_RINGS 16    /* 1024 · 2^15 = 32 M contexts, more than there are handles */

typedef struct nl_injq {
    atomic_int newest;
    _Atomic(nl_injq_ring *) ring[NL_INJQ_RINGS];
} nl_injq;

void nl_injq_init(nl_injq *q);
void nl_injq_fini(nl_injq *q);
/* Makes room for that many contexts; one thread at a time (the caller holds a lock). */
void nl_injq_reserve(nl_injq *q, size_t contexts);
/* Any thread. */
void nl_injq_push(nl_injq *q, struct nl_ctx *c);
/* Any thread.  NULL: empty, or a push is under way. */
struct nl_ctx *nl_injq_pop(nl_injq *q);
/* Any thread; racy.  seq_cst: the look of a worker about to park (idle.h). */
size_t nl_injq_len(nl_injq *q);

#endif

/*
 * mailbox.h - a context's queue of messages: many producers, one consumer, intrusive.
 *
 * Purpose: a push is one atomic exchange, and tells its caller whether it must schedule the
 *   consumer.
 * Threads: any thread pushes and asks for the length; only the worker that runs the context
 *   pops and marks idle.
 * Ownership: a message belongs to the mailbox from push to pop.
 *
 * It has two halves, for the owner to place on two cache lines: nl_mailbox_in, which producers
 * write, and nl_mailbox_out, which the consumer writes.
 *
 * Vyukov's MPSC queue with an embedded stub.  One exchange of the head pushes.  The lowest
 * bit of the head is the idle mark (as in Pony): it is set only by the consumer, only when
 * the queue holds nothing but the stub, and the producer whose exchange takes it away
 * learns that it must schedule the consumer.  So exactly one producer schedules an idle
 * context, and none a context that is queued or running.
 *
 * Between a producer's exchange and its store of prev->next the queue looks cut off behind
 * prev: pop then returns NULL though the queue is not empty, and nl_mailbox_idle refuses,
 * so the consumer is queued again instead of going idle; it never spins.
 *
 * Orders: the exchange is acq_rel.  Its release, with the release store of next, publishes
 * the message to the acquire load of next in pop; its acquire pairs with the release CAS in
 * nl_mailbox_idle, so that a producer that found the consumer idle, and the worker to which
 * it hands the context, see everything the last dispatch wrote.
 */
#ifndef NL_MAILBOX_H
#define NL_MAILBOX_H

#include "sched/msg.h"

typedef struct nl_mailbox_in {
    atomic_uintptr_t head;           /* newest node, | NL_MAILBOX_IDLE */
    atomic_uint_fast64_t pushed;     /* messages ever pushed; the line of head, so it is cheap */
    atomic_uint_fast64_t room_until; /* as long as pushed is below it: nl_mailbox_full */
} nl_mailbox_in;

typedef struct nl_mailbox_out {
    nl_msg *tail;                /* oldest node */
    atomic_uint_fast64_t popped; /* messages ever popped; read by any thread */
    nl_msg stub;
} nl_mailbox_out;

#define NL_MAILBOX_IDLE ((uintptr_t)1)

/* Empty and idle: the first push says "schedule". */
static inline void nl_mailbox_init(nl_mailbox_in *in, nl_mailbox_out *out)
{
    atomic_init(&out->stub.next, NULL);
    out->stub.ops = NULL;
    out->tail = &out->stub;
    atomic_init(&out->popped, 0);
    atomic_init(&in->pushed, 0);
    atomic_init(&in->room_until, 0);
    atomic_init(&in->head, (uintptr_t)&out->stub | NL_MAILBOX_IDLE);
}

/* Any thread.  True: the consumer was idle and the caller must schedule it. */
static inline bool nl_mailbox_push(nl_mailbox_in *in, nl_msg *m)
{
    atomic_fetch_add_explicit(&in->pushed, 1, memory_order_relaxed);
    atomic_store_explicit(&m->next, NULL, memory_order_relaxed);
    uintptr_t prev = atomic_exchange_explicit(&in->head, (uintptr_t)m, memory_order_acq_rel);
    nl_msg *p = (nl_msg *)(prev & ~NL_MAILBOX_IDLE);
    atomic_store_explicit(&p->next, m, memory_order_release);
    return prev & NL_MAILBOX_IDLE;
}

/* Messages in it; any thread, racy. */
static inline uint64_t nl_mailbox_len(const nl_mailbox_in *in, const nl_mailbox_out *out)
{
    uint64_t popped = atomic_load_explicit(&out->popped, memory_order_relaxed);
    uint64_t pushed = atomic_load_explicit(&in->pushed, memory_order_relaxed);
    return pushed > popped ? pushed - popped : 0;
}

/*
 * Any thread; racy.  True if max messages or more are in it.  popped is on the consumer's line,
 * which producers leave alone: the value seen there last says up to which push there is room.
 */
static inline bool nl_mailbox_full(nl_mailbox_in *in, const nl_mailbox_out *out, uint64_t max)
{
    if (nl_likely(atomic_load_explicit(&in->pushed, memory_order_relaxed) <
                  atomic_load_explicit(&in->room_until, memory_order_relaxed))) {
        return false;
    }
    uint64_t room_until = atomic_load_explicit(&out->popped, memory_order_relaxed) + max;
    atomic_store_explicit(&in->room_until, room_until, memory_order_relaxed);
    return atomic_load_explicit(&in->pushed, memory_order_relaxed) >= room_until;
}

/* Consumer.  The oldest message, or NULL when there is none or a push is under way. */
static inline nl_msg *nl_mailbox_pop(nl_mailbox_in *in, nl_mailbox_out *out)
{
    nl_msg *t = out->tail;
    nl_msg *next = atomic_load_explicit(&t->next, memory_order_acquire);
    if (t == &out->stub) {
        if (!next) {
            return NULL;
        }
        out->tail = t = next;
        next = atomic_load_explicit(&t->next, memory_order_acquire);
    }
    if (!next) {
        /*
         * t looks like the last one.  Only if it is may the stub, which is not in the queue now,
         * take its place.  Release publishes the stub's next to the producer that pushes behind it.
         */
        uintptr_t last = (uintptr_t)t;
        atomic_store_explicit(&out->stub.next, NULL, memory_order_relaxed);
        if (!atomic_compare_exchange_strong_explicit(&in->head, &last, (uintptr_t)&out->stub,
                                                     memory_order_acq_rel, memory_order_relaxed)) {
            return NULL;
        }
        next = &out->stub;
    }
    out->tail = next;
    __builtin_prefetch(next); /* another core may have written it */
    atomic_store_explicit(&out->popped, atomic_load_explicit(&out->popped, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    return t;
}

/* Consumer.  Marks the queue idle if it is empty; false: something is there or coming. */
static inline bool nl_mailbox_idle(nl_mailbox_in *in, nl_mailbox_out *out)
{
    uintptr_t stub = (uintptr_t)&out->stub;
    return out->tail == &out->stub &&
           atomic_compare_exchange_strong_explicit(&in->head, &stub, stub | NL_MAILBOX_IDLE,
                                                   memory_order_release, memory_order_relaxed);
}

#endif

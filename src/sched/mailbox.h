/*
 * mailbox.h - a context's queue of messages: many producers, one consumer, intrusive.
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

/* What a context has in front of its mailbox, on the producers' line: all that a look-up and a push touch is on one. */
#define NL_MAILBOX_BEHIND 16

typedef struct nl_mailbox {
    atomic_uintptr_t head;       /* newest node, | NL_MAILBOX_IDLE; producers */
    atomic_uint_fast64_t pushed; /* messages ever pushed; same line as head, so cheap */
    atomic_uint_fast64_t
        unlimited; /* below this value of pushed nobody need look at popped; see nl_mailbox_full */
    /* The consumer's part is on another line, if as many bytes stand in front of the struct as are left out here. */
    char apart[NL_CACHELINE - 3 * sizeof(uint64_t) - NL_MAILBOX_BEHIND];
    nl_msg *tail;                /* oldest node; consumer only, as all below */
    atomic_uint_fast64_t popped; /* stored by the consumer, read by anybody */
    nl_msg stub;
} nl_mailbox;

#define NL_MAILBOX_IDLE ((uintptr_t)1)

/* Empty and idle: the first push says "schedule". */
static inline void nl_mailbox_init(nl_mailbox *q)
{
    atomic_init(&q->stub.next, NULL);
    q->stub.ops = NULL;
    q->tail = &q->stub;
    atomic_init(&q->popped, 0);
    atomic_init(&q->pushed, 0);
    atomic_init(&q->unlimited, 0);
    atomic_init(&q->head, (uintptr_t)&q->stub | NL_MAILBOX_IDLE);
}

/* Any thread.  True: the consumer was idle and the caller must schedule it. */
static inline bool nl_mailbox_push(nl_mailbox *q, nl_msg *m)
{
    atomic_fetch_add_explicit(&q->pushed, 1, memory_order_relaxed);
    atomic_store_explicit(&m->next, NULL, memory_order_relaxed);
    uintptr_t prev = atomic_exchange_explicit(&q->head, (uintptr_t)m, memory_order_acq_rel);
    nl_msg *p = (nl_msg *)(prev & ~NL_MAILBOX_IDLE);
    atomic_store_explicit(&p->next, m, memory_order_release);
    return prev & NL_MAILBOX_IDLE;
}

/* Messages in it; any thread, racy. */
static inline uint64_t nl_mailbox_len(nl_mailbox *q)
{
    uint64_t popped = atomic_load_explicit(&q->popped, memory_order_relaxed);
    uint64_t pushed = atomic_load_explicit(&q->pushed, memory_order_relaxed);
    return pushed > popped ? pushed - popped : 0;
}

/*
 * Any thread; racy.  True if max messages or more are in it.  popped is on the consumer's line,
 * which producers leave alone: what was seen there last time says up to which push there is room.
 */
static inline bool nl_mailbox_full(nl_mailbox *q, uint64_t max)
{
    if (nl_likely(atomic_load_explicit(&q->pushed, memory_order_relaxed) <
                  atomic_load_explicit(&q->unlimited, memory_order_relaxed))) {
        return false;
    }
    uint64_t unlimited = atomic_load_explicit(&q->popped, memory_order_relaxed) + max;
    atomic_store_explicit(&q->unlimited, unlimited, memory_order_relaxed);
    return atomic_load_explicit(&q->pushed, memory_order_relaxed) >= unlimited;
}

/* Consumer.  The oldest message, or NULL when there is none or a push is under way. */
static inline nl_msg *nl_mailbox_pop(nl_mailbox *q)
{
    nl_msg *t = q->tail;
    nl_msg *next = atomic_load_explicit(&t->next, memory_order_acquire);
    if (t == &q->stub) {
        if (!next) {
            return NULL;
        }
        q->tail = t = next;
        next = atomic_load_explicit(&t->next, memory_order_acquire);
    }
    if (!next) {
        /*
         * t looks like the last one.  Only if it is may the stub, which is not in the queue now, take its
         * place.  Release publishes the stub's next to whoever pushes behind it.
         */
        uintptr_t last = (uintptr_t)t;
        atomic_store_explicit(&q->stub.next, NULL, memory_order_relaxed);
        if (!atomic_compare_exchange_strong_explicit(&q->head, &last, (uintptr_t)&q->stub,
                                                     memory_order_acq_rel, memory_order_relaxed)) {
            return NULL;
        }
        next = &q->stub;
    }
    q->tail = next;
    __builtin_prefetch(next); /* another core may have written it */
    atomic_store_explicit(&q->popped, atomic_load_explicit(&q->popped, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    return t;
}

/* Consumer.  Marks the queue idle if it is empty; false: something is there or coming. */
static inline bool nl_mailbox_idle(nl_mailbox *q)
{
    uintptr_t stub = (uintptr_t)&q->stub;
    return q->tail == &q->stub &&
           atomic_compare_exchange_strong_explicit(&q->head, &stub, stub | NL_MAILBOX_IDLE,
                                                   memory_order_release, memory_order_relaxed);
}

#endif

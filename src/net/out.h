/*
 * out.h - a socket's pending output: bytes, who may touch them, and who wants to be told of them.
 *
 * Purpose:   many contexts append, one thread at a time sends, and each request is told exactly
 *            once, in the order of the writes.
 * Threads:   everything is under `lock`, a spin lock, held for the few instructions of an append or
 *            of collecting an iovec. Under it no memory is taken or freed and no system call is
 *            made: an append makes its segment before (nl_segment_try takes from the thread's own
 *            stock, without a lock), what was sent is freed after.
 * Ownership: nl_tcp has the nl_out; a request belongs to it from nl_out_request until its message
 *            has been posted or dropped.
 *
 * The flags are declared here and used by tcp_write.c and linger.c, where the protocol is told.
 *
 * Requests are told in order, whoever tells them, by two rules:
 *   - what becomes ripe stays in the ring until a thread takes it out with `telling` set;
 *   - a thread that finds `telling` set leaves, and the one that has set it looks at the ring again
 *     under the lock before it takes `telling` away.
 *
 *     thread A (has sent)                    thread B (its write is refused, or empty)
 *     lock; take out 1; telling = true       lock; add 2 behind what waits
 *     unlock; post 1                         telling? leave it to A; unlock
 *     lock; look at the ring: 2 is ripe
 *     unlock; post 2; lock; telling = false
 *
 * So 2 is never posted before 1, and never forgotten: either B sees `telling` while A has still to
 * look, or A has taken it away under the lock and B tells by itself.
 */
#ifndef NL_OUT_H
#define NL_OUT_H

#include "base/spin.h"
#include "net/chain.h"
#include "sched/msg.h"

/* Somebody who wants to know when everything up to a position has been taken by the kernel. */
typedef struct nl_wreq {
    nl_msg msg;   /* posted to ctx with err set; dropped if ctx is gone */
    uint64_t ctx; /* handle */
    uint64_t pos;
    int err; /* 0, or the (positive) error: of the write if it was refused, else of the socket */
    struct nl_wreq *next;
} nl_wreq;

typedef struct nl_out {
    nl_spin lock;
    bool flushing : 1; /* somebody writes, or, after the close, uses the descriptor otherwise */
    bool again : 1;    /* an event came while flushing: the flusher looks once more */
    bool blocked : 1;  /* the kernel took no more: the reactor's WRITE edge resumes */
    bool dirty : 1;    /* on some worker's list of sockets to flush */
    bool wshared : 1;  /* others than the owner may write */
    bool shut : 1;     /* closed by the owner: nothing is appended any more */
    bool cut : 1;      /* the time for closing is over */
    bool done : 1;     /* the descriptor is closed; flushing stays set */
    bool telling : 1;  /* somebody posts requests */
    bool lost : 1;     /* bytes were dropped: the stream must not end as if it were whole */
    uint16_t err;      /* sticky: the (positive) error that ended writing */
    uint16_t burst;    /* how much went last time, cut to NL_CHAIN_BURST_MAX */
    nl_chain chain;
    nl_wreq *last_request; /* they are a ring, its next is the first */
} nl_out;

/* Called with the lock held, except the first. */
void nl_out_init(nl_out *o);
/*
 * Asks to be told when all that is queued now is gone; err (positive) instead of 0: the write was
 * refused, which is told as soon as all that asked before have been. The caller calls nl_out_tell
 * before it gives up the lock.
 */
void nl_out_request(nl_out *o, nl_wreq *r, int err);
/* Tells who is to be told by now. The lock is given up in between, and held on return. */
void nl_out_tell_ripe(nl_out *o);
static inline void nl_out_tell(nl_out *o)
{
    if (nl_unlikely(o->last_request)) {
        nl_out_tell_ripe(o);
    }
}
/* n bytes were taken; the caller tells. */
static inline void nl_out_advance(nl_out *o, size_t n, nl_segment **done)
{
    o->burst = (uint16_t)(n < NL_CHAIN_BURST_MAX ? n : NL_CHAIN_BURST_MAX);
    nl_chain_advance(&o->chain, n, done);
}
/* Drops what is queued; those who wait for it are to hear of err (positive). The caller tells. */
void nl_out_drop(nl_out *o, int err, nl_segment **done);

#endif

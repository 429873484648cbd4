/*
 * out.h - a socket's pending output: bytes, flags, and requests of writers to be told.
 *
 * Purpose:   many contexts append, one thread at a time sends, and each request is told exactly
 *            once, in the order of the writes.
 * Threads:   everything is under `lock`, a spin lock, held for the few instructions of an append or
 *            of collecting an iovec. Under it no memory is taken or freed and no system call is
 *            made: an append makes its segment before (nl_segment_try takes from the thread's own
 *            stock, without a lock), what was sent is freed after.
 * Ownership: nl_tcp has the nl_out; a request belongs to it from nl_out_request_locked until its
 *            message has been posted or dropped.
 *
 * The flags are declared here.  tcp_write.c and linger.c use them, and say how in their heads.
 *
 * Requests are posted in the order of the writes, on whatever thread, by two rules:
 *   - what becomes ripe stays in the ring until a thread takes it out with `posting` set;
 *   - a thread that finds `posting` set leaves, and the one that has set it looks at the ring again
 *     under the lock before it takes `posting` away.
 *
 *     thread A (has sent)                    thread B (its write is refused, or empty)
 *     lock; take out 1; posting = true       lock; add 2 behind what waits
 *     unlock; post 1                         posting? leave it to A; unlock
 *     lock; look at the ring: 2 is ripe
 *     unlock; post 2; lock; posting = false
 *
 * So 2 is never posted before 1, and never forgotten: either B sees `posting` while A has still to
 * look, or A has taken it away under the lock and B posts by itself.
 */
#ifndef NL_OUT_H
#define NL_OUT_H

#include "base/spin.h"
#include "net/chain.h"
#include "sched/msg.h"

/* A message that is to be sent when the kernel has taken everything up to a position. */
typedef struct nl_wreq {
    nl_msg msg;   /* posted to ctx with err set; dropped if ctx has ended */
    uint64_t ctx; /* handle */
    uint64_t pos;
    int err; /* 0, or the (positive) error: of the write if it was refused, else of the socket */
    struct nl_wreq *next;
} nl_wreq;

typedef struct nl_out {
    nl_spin lock;
    bool flushing : 1;  /* a thread writes, or, after the close, uses the descriptor otherwise */
    bool again : 1;     /* an event came while flushing: the flusher looks once more */
    bool blocked : 1;   /* the kernel took no more: the reactor's WRITE edge resumes */
    bool dirty : 1;     /* on some worker's list of sockets to flush */
    bool wshared : 1;   /* others than the owner may write */
    bool shut : 1;      /* closed by the owner: nothing is appended any more */
    bool cut : 1;       /* the time for closing is over */
    bool fd_closed : 1; /* the descriptor is closed; flushing stays set */
    bool posting : 1;   /* a thread posts requests */
    bool lost : 1;      /* bytes were dropped: the stream must not end as if it were whole */
    uint16_t err;       /* sticky: the (positive) error that ended writing */
    uint16_t burst;     /* how much went last time, cut to NL_CHAIN_BURST_MAX */
    nl_chain chain;
    nl_wreq *last_request; /* they are a ring, its next is the first */
} nl_out;

void nl_out_init(nl_out *o);
/*
 * Asks to be told when all that is queued now is gone; err (positive) instead of 0: the write was
 * refused, which is told as soon as all that asked before have been. The caller calls
 * nl_out_post_locked before it gives up the lock.
 */
void nl_out_request_locked(nl_out *o, nl_wreq *r, int err);
/* Posts the requests that are ripe. The lock is given up in between, and held on return. */
void nl_out_post_ripe_locked(nl_out *o);
static inline void nl_out_post_locked(nl_out *o)
{
    if (nl_unlikely(o->last_request)) {
        nl_out_post_ripe_locked(o);
    }
}
/* n bytes were taken; the caller tells. */
static inline void nl_out_advance_locked(nl_out *o, size_t n, nl_segment **done)
{
    o->burst = (uint16_t)(n < NL_CHAIN_BURST_MAX ? n : NL_CHAIN_BURST_MAX);
    nl_chain_advance(&o->chain, n, done);
}
/* Drops what is queued; those who wait for it are to hear of err (positive). The caller tells. */
void nl_out_drop_locked(nl_out *o, int err, nl_segment **done);

#endif

/*
 * chain.h - a socket's output: bytes waiting for the kernel, in order, gathered into as few
 * system calls as they fit in.
 *
 * Many producers, one flusher at a time.  Short runs are copied into chunks of the chain's
 * own (head and payload side by side, one after the other), longer ones are kept as references
 * to shared blocks.  A spin lock guards the list for the few instructions of an append or of
 * collecting an iovec; the flushing flag says who writes, so that the lock is never held in a
 * system call: whoever sets it writes until the chain is empty or the kernel takes no more.
 * Functions without another note are called with the lock held.
 *
 * The flags are this file's only in that it declares them: tcp_write.c and linger.c use them, and the
 * protocol is told there.
 */
#ifndef NL_CHAIN_H
#define NL_CHAIN_H

#include <string.h>

#include "base/spin.h"
#include "net/buffer.h"
#include "reactor/sock.h"
#include "sched/msg.h"

/* Somebody who wants to know when everything up to a position has been taken by the kernel. */
typedef struct nl_wreq {
    nl_msg msg;   /* posted to ctx with err set; dropped if ctx is gone */
    uint64_t ctx; /* handle */
    uint64_t pos;
    int err; /* 0, or the (positive) error that ended the socket */
    struct nl_wreq *next;
} nl_wreq;

/* Some bytes of its own, then perhaps a view of a block. */
typedef struct nl_chunk {
    struct nl_chunk *next;
    uint16_t cap, start, end; /* own bytes: data[start..end) of cap are still to go */
    uint16_t size;            /* of the allocation */
    nl_buf view;              /* follows the own bytes; block NULL: none, and own bytes may still be added */
    unsigned char data[];
} nl_chunk;

typedef struct nl_chain {
    nl_spin lock;
    bool flushing : 1; /* somebody writes, or, once the owner has closed, uses the descriptor otherwise */
    bool again : 1;    /* an event came while flushing: the flusher looks once more before it stops */
    bool blocked : 1;  /* the kernel took no more: the reactor's WRITE edge resumes */
    bool dirty : 1;    /* on some worker's list of chains to flush */
    bool wshared : 1;  /* others than the owner may write */
    bool shut : 1;     /* closed by the owner: nothing is appended any more */
    bool abort : 1;    /* the time for closing is over */
    bool done : 1;     /* the descriptor is closed; flushing stays set */
    uint16_t err;      /* sticky: the (positive) error that ended writing; nothing is appended any more */
    uint16_t burst;    /* how much went last time, or some of that: a guess at how much will come */
    nl_chunk *first, *last;
    uint64_t added, taken; /* byte positions since the start */
    nl_wreq *wreqs;        /* the last one; they are a ring, its next is the first */
} nl_chain;

/* Payloads up to this are copied beside their head; longer ones are shared or put into a block of their own. */
#define NL_CHAIN_INLINE 1024

/* No lock. */
void nl_chain_init(nl_chain *c);

static inline uint64_t nl_chain_queued(const nl_chain *c)
{
    return c->added - c->taken;
}

/* Appends head (0..4 bytes) and n <= NL_CHAIN_INLINE bytes, copied. */
static inline void nl_chain_add_copy(nl_chain *c, const void *head, unsigned head_n, const void *p, size_t n);
/* Appends head and a view, whose reference the chain takes over. */
void nl_chain_add_buf(nl_chain *c, const void *head, unsigned head_n, nl_buf b);
/*
 * Fills iov with the first bytes waiting, at most max entries and NL_CHAIN_GATHER bytes (or one entry);
 * returns how many.  The memory stays valid until nl_chain_advance or nl_chain_clear, which only
 * the flusher calls.
 */
int nl_chain_iov(nl_chain *c, nl_iov *iov, int max);
#define NL_CHAIN_GATHER (1u << 20)
/*
 * n bytes were taken.  Returns the requests that are fulfilled thereby, in order; chunks that
 * are done are put in front of *done, for nl_chunks_free.
 */
nl_wreq *nl_chain_advance(nl_chain *c, size_t n, nl_chunk **done);
/* Empties the chain as if all was taken: the same results. */
nl_wreq *nl_chain_clear(nl_chain *c, nl_chunk **done);
/* Without the lock: freeing large memory is a system call. */
void nl_chunks_free(nl_chunk *done);
/* Asks to be told when all that is queued now is gone; false: it is already. */
bool nl_chain_request(nl_chain *c, nl_wreq *r);

/* --- The fast path ----------------------------------------------------------------------- */

void nl_chain_add_copy_slow(nl_chain *c, const void *head, unsigned head_n, const void *p, size_t n);

static inline void nl_chunk_put_head(nl_chunk *k, const void *head, unsigned n)
{
    unsigned char *to = k->data + k->end;
    switch (n) { /* lengths known to the compiler: no calls */
    case 0:
        return;
    case 4:
        memcpy(to, head, 4);
        break;
    case 2:
        memcpy(to, head, 2);
        break;
    default:
        memcpy(to, head, n);
        break;
    }
    k->end = (uint16_t)(k->end + n);
}

static inline void nl_chain_add_copy(nl_chain *c, const void *head, unsigned head_n, const void *p, size_t n)
{
    nl_debug_assert(head_n <= 4 && n <= NL_CHAIN_INLINE, "longer runs are added as views");
    nl_chunk *k = c->last;
    if (nl_unlikely(!k || k->view.block || (size_t)(k->cap - k->end) < head_n + n)) {
        nl_chain_add_copy_slow(c, head, head_n, p, n);
        return;
    }
    c->added += head_n + n;
    nl_chunk_put_head(k, head, head_n);
    if (n) {
        memcpy(k->data + k->end, p, n);
        k->end = (uint16_t)(k->end + n);
    }
}

#endif

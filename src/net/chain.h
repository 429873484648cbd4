/*
 * chain.h - bytes waiting for the kernel, in order, gathered into as few system calls as they fit
 * in.
 *
 * Purpose:   a list of segments. Short runs are copied into segments of the chain's own (head and
 *            payload side by side, one after the other); longer ones are kept as views of shared
 *            blocks.
 * Threads:   none of its own: the caller's lock guards every function. nl_chain_put,
 *            nl_chain_put_fresh and nl_chain_put_view take no memory, so that no lock is held over
 *            a system call: what they need is made before, by nl_segment_new or nl_segment_try.
 * Ownership: the chain owns its segments until nl_chain_advance or nl_chain_clear hands them over;
 *            a segment owns a reference to the block of its view.
 */
#ifndef NL_CHAIN_H
#define NL_CHAIN_H

#include <string.h>

#include "net/buffer.h"
#include "reactor/sock.h"

/* Some bytes of its own, then perhaps a view of a block. */
typedef struct nl_segment {
    struct nl_segment *next;
    uint16_t cap, start, end; /* own bytes: data[start..end) of cap are still to go */
    uint16_t size;            /* of the allocation */
    /* Follows the own bytes; block NULL: none, and own bytes may still be added. */
    nl_buf view;
    unsigned char data[];
} nl_segment;

typedef struct nl_chain {
    nl_segment *first, *last;
    uint64_t added, taken; /* byte positions since the start */
} nl_chain;

/*
 * Payloads up to this are copied beside their head; longer ones are shared or put into a block of
 * their own.
 */
#define NL_CHAIN_INLINE 1024
/* The most that one nl_chain_iov gathers, unless a single entry is longer. */
#define NL_CHAIN_GATHER (1u << 20)
/* A burst, see nl_chain_room, is cut to this. */
#define NL_CHAIN_BURST_MAX ((size_t)8 * 1024)
/* Room in a segment for a head and a view: a broadcast makes many. */
#define NL_SEGMENT_VIEW 4

static inline uint64_t nl_chain_queued(const nl_chain *c)
{
    return c->added - c->taken;
}

/* --- Segments: without the lock, as memory may come from the system and go back to it --------- */

/* One with room for at least n bytes of its own. */
nl_segment *nl_segment_new(size_t n);
/*
 * The same out of the calling thread's stock, which takes no lock and no system call; NULL if there
 * is none.
 */
nl_segment *nl_segment_try(size_t n);
/* Frees a list of them. NULL is harmless. */
void nl_segments_free(nl_segment *list);

/* --- Adding ----------------------------------------------------------------------------------- */

/*
 * Appends head (0..4 bytes) and n <= NL_CHAIN_INLINE bytes, copied. False: there is no room,
 * nothing was done.
 */
static inline bool nl_chain_put(nl_chain *c, const void *head, unsigned head_n, const void *p, size_t n);
/*
 * Room that a segment for nl_chain_put_fresh must have, for n bytes. burst: how much went last
 * time, a guess at how much will come: what is written the same way again leaves from one piece of
 * memory.
 */
size_t nl_chain_room(const nl_chain *c, size_t n, size_t burst);
/* As nl_chain_put; what finds no room goes into fresh. Returns fresh if it was not needed. */
nl_segment *nl_chain_put_fresh(nl_chain *c, const void *head, unsigned head_n, const void *p, size_t n,
                               nl_segment *fresh);
/*
 * Appends head and a view, whose reference the chain takes over. fresh has room for NL_SEGMENT_VIEW
 * bytes; it is returned if it was not needed.
 */
nl_segment *nl_chain_put_view(nl_chain *c, const void *head, unsigned head_n, nl_buf view, nl_segment *fresh);

/* --- Taking ----------------------------------------------------------------------------------- */

/*
 * Fills iov with the first bytes waiting, at most max entries and NL_CHAIN_GATHER bytes (or one
 * entry); returns how many. The memory stays valid until nl_chain_advance or nl_chain_clear, which
 * only one thread at a time calls.
 */
int nl_chain_iov(nl_chain *c, nl_iov *iov, int max);
/* n bytes were taken. Segments that are done are put in front of *done, for nl_segments_free. */
void nl_chain_advance(nl_chain *c, size_t n, nl_segment **done);
/* Empties the chain as if all was taken. */
void nl_chain_clear(nl_chain *c, nl_segment **done);

/* --- The fast path ---------------------------------------------------------------------------- */

static inline void nl_segment_put_head(nl_segment *k, const void *head, unsigned n)
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

static inline bool nl_chain_put(nl_chain *c, const void *head, unsigned head_n, const void *p, size_t n)
{
    nl_debug_assert(head_n <= 4 && n <= NL_CHAIN_INLINE, "longer runs are added as views");
    nl_segment *k = c->last;
    if (nl_unlikely(!k || k->view.block || (size_t)(k->cap - k->end) < head_n + n)) {
        return false;
    }
    c->added += head_n + n;
    nl_segment_put_head(k, head, head_n);
    if (n) {
        memcpy(k->data + k->end, p, n);
        k->end = (uint16_t)(k->end + n);
    }
    return true;
}

#endif

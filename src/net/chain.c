/*
 * chain.c - the list of segments behind a socket's output.
 *
 * A segment is some bytes of its own, then perhaps a view of a block: a frame's head stands before
 * its shared payload, and a run of short writes fills one segment after the other.
 */
#include "net/chain.h"

#include "base/alloc.h"

/* Room in a segment that gathers short writes, at least. */
#define BURST_MIN 472

_Static_assert(sizeof(nl_segment) + NL_SEGMENT_VIEW <= NL_CACHELINE, "a view costs one line");
_Static_assert(4 + NL_CHAIN_INLINE <= NL_CHAIN_BURST_MAX, "room for a copied payload");

/* --- Segments --------------------------------------------------------------------------------- */

static size_t size_for(size_t n)
{
    return (sizeof(nl_segment) + n + 63) & ~(size_t)63;
}

static nl_segment *init_segment(nl_segment *k, size_t size)
{
    k->next = NULL;
    k->size = (uint16_t)size;
    k->cap = (uint16_t)(size - sizeof(nl_segment));
    k->start = k->end = 0;
    k->view = nl_buf_empty();
    return k;
}

nl_segment *nl_segment_new(size_t n)
{
    size_t size = size_for(n);
    return init_segment(nl_pool_alloc(size), size);
}

nl_segment *nl_segment_try(size_t n)
{
    size_t size = size_for(n);
    nl_segment *k = nl_pool_try(size);
    return k ? init_segment(k, size) : NULL;
}

void nl_segments_free(nl_segment *list)
{
    while (list) {
        nl_segment *k = list;
        list = k->next;
        nl_buf_release(&k->view);
        nl_pool_free(k, k->size);
    }
}

/* --- Adding ----------------------------------------------------------------------------------- */

static void append(nl_chain *c, nl_segment *k)
{
    if (c->last) {
        c->last->next = k;
    } else {
        c->first = k;
    }
    c->last = k;
}

/* Free bytes at the end of the last segment. */
static size_t room(const nl_chain *c)
{
    const nl_segment *k = c->last;
    return k && !k->view.block ? (size_t)(k->cap - k->end) : 0;
}

size_t nl_chain_room(const nl_chain *c, size_t n, size_t burst)
{
    size_t want = c->last ? 4 * (size_t)c->last->cap : burst;
    want = want < BURST_MIN ? BURST_MIN : want > NL_CHAIN_BURST_MAX ? NL_CHAIN_BURST_MAX : want;
    return want > n ? want : n;
}

static void put(nl_segment *k, const void *p, size_t n)
{
    if (n) {
        memcpy(k->data + k->end, p, n);
        k->end = (uint16_t)(k->end + n);
    }
}

nl_segment *nl_chain_put_fresh(nl_chain *c, const void *head, unsigned head_n, const void *p, size_t n,
                               nl_segment *fresh)
{
    if (head_n + n == 0 || nl_chain_put(c, head, head_n, p, n)) {
        return fresh;
    }
    c->added += head_n + n;
    size_t left = room(c);
    if (left >= head_n && left > 0) { /* fills the last segment, and goes on in the fresh one */
        nl_segment_put_head(c->last, head, head_n);
        left -= head_n;
        head_n = 0;
        put(c->last, p, left);
        p = (const unsigned char *)p + left;
        n -= left;
    }
    nl_debug_assert(fresh->cap >= head_n + n, "made with nl_chain_room");
    append(c, fresh);
    nl_segment_put_head(fresh, head, head_n);
    put(fresh, p, n);
    return NULL;
}

nl_segment *nl_chain_put_view(nl_chain *c, const void *head, unsigned head_n, nl_buf view, nl_segment *fresh)
{
    nl_debug_assert(head_n <= NL_SEGMENT_VIEW, "a head has 4 bytes at most");
    if (view.len == 0) {
        nl_buf_release(&view);
        return nl_chain_put_fresh(c, head, head_n, NULL, 0, fresh);
    }
    c->added += head_n + view.len;
    nl_segment *k = c->last;
    if (!k || k->view.block || room(c) < head_n) {
        append(c, k = fresh);
        fresh = NULL;
    }
    nl_segment_put_head(k, head, head_n);
    k->view = view;
    return fresh;
}

/* --- Taking ----------------------------------------------------------------------------------- */

int nl_chain_iov(nl_chain *c, nl_iov *iov, int max)
{
    int n = 0;
    size_t sum = 0;
    for (nl_segment *k = c->first; k && n < max; k = k->next) {
        if (k->end > k->start) {
            iov[n].base = k->data + k->start;
            iov[n].len = (size_t)(k->end - k->start);
            sum += iov[n++].len;
        }
        if (k->view.len && n < max) {
            /* A longer view alone goes in slices: no system takes arbitrarily much in one call. */
            size_t len = k->view.len;
            if (sum + len > NL_CHAIN_GATHER) {
                if (sum >= NL_CHAIN_GATHER) {
                    break;
                }
                len = NL_CHAIN_GATHER - sum;
            }
            iov[n].base = k->view.block->data + k->view.off;
            iov[n].len = len;
            sum += iov[n++].len;
            if (len < k->view.len) {
                break;
            }
        }
    }
    return n;
}

/* Takes the first segment out and puts it in front of *done. */
static void drop_first(nl_chain *c, nl_segment **done)
{
    nl_segment *k = c->first;
    c->first = k->next;
    if (!c->first) {
        c->last = NULL;
    }
    k->next = *done;
    *done = k;
}

void nl_chain_advance(nl_chain *c, size_t n, nl_segment **done)
{
    nl_debug_assert(n <= nl_chain_queued(c), "no more is taken than was queued");
    c->taken += n;
    while (n) {
        nl_segment *k = c->first;
        size_t own = (size_t)(k->end - k->start);
        if (n < own) {
            k->start = (uint16_t)(k->start + n);
            break;
        }
        n -= own;
        k->start = k->end;
        if (n < k->view.len) {
            k->view.off += (uint32_t)n;
            k->view.len -= (uint32_t)n;
            break;
        }
        n -= k->view.len;
        drop_first(c, done);
    }
}

void nl_chain_clear(nl_chain *c, nl_segment **done)
{
    while (c->first) {
        drop_first(c, done);
    }
    c->taken = c->added;
}

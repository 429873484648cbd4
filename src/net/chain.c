/*
 * chain.c - the list of chunks behind a socket's output.
 *
 * A chunk is some bytes of its own, then perhaps a view of a block: a frame's head stands
 * before its shared payload, and a run of short writes fills one chunk after the other.  The first
 * chunk has room for as much as went last time, so that what is written the same way again
 * leaves from one piece of memory, which costs the kernel less than two.
 */
#include "net/chain.h"

#include "base/alloc.h"

#include <string.h>

#define CHUNK_SIZE_REF 64 /* of one that holds a head and a view: a broadcast makes many */
/* Room in one that gathers short writes, at least and at most. */
#define BURST_MIN 472
#define BURST_MAX ((size_t)8 * 1024)

_Static_assert(CHUNK_SIZE_REF >= sizeof(nl_chunk) + 4, "room for a head");
_Static_assert(4 + NL_CHAIN_INLINE <= BURST_MAX, "room for a copied payload");

void nl_chain_init(nl_chain *c)
{
    *c = (nl_chain){.lock = NL_SPIN_INIT};
}

static nl_chunk *add_chunk(nl_chain *c, unsigned size)
{
    nl_chunk *k = nl_pool_alloc(size);
    k->next = NULL;
    k->size = (uint16_t)size;
    k->cap = (uint16_t)(size - sizeof(nl_chunk));
    k->start = k->end = 0;
    k->view = nl_buf_empty();
    if (c->last) {
        c->last->next = k;
    } else {
        c->first = k;
    }
    c->last = k;
    return k;
}

/* One that gathers short writes, the next of which has n bytes. */
static nl_chunk *add_gathering_chunk(nl_chain *c, size_t n)
{
    size_t room = c->last ? 4 * (size_t)c->last->cap : c->burst;
    room = room < BURST_MIN ? BURST_MIN : room > BURST_MAX ? BURST_MAX : room;
    room = room > n ? room : n;
    return add_chunk(c, (unsigned)(sizeof(nl_chunk) + room + 63) & ~63u);
}

static void put(nl_chunk *k, const void *p, size_t n)
{
    if (n == 0) {
        return;
    }
    memcpy(k->data + k->end, p, n);
    k->end = (uint16_t)(k->end + n);
}

/* Free bytes at the end of the last chunk. */
static size_t room(const nl_chain *c)
{
    const nl_chunk *k = c->last;
    return k && !k->view.block ? (size_t)(k->cap - k->end) : 0;
}

/* Fills the last chunk, and goes on in a new one. */
void nl_chain_add_copy_slow(nl_chain *c, const void *head, unsigned head_n, const void *p, size_t n)
{
    if (head_n + n == 0) {
        return;
    }
    c->added += head_n + n;
    nl_chunk *k = c->last;
    size_t left = room(c);
    if (left < head_n || left == 0) {
        k = add_gathering_chunk(c, head_n + n);
        left = k->cap;
    }
    nl_chunk_put_head(k, head, head_n);
    left -= head_n;
    if (n > left) {
        put(k, p, left);
        k = add_gathering_chunk(c, n - left);
        p = (const unsigned char *)p + left;
        n -= left;
    }
    put(k, p, n);
}

void nl_chain_add_buf(nl_chain *c, const void *head, unsigned head_n, nl_buf b)
{
    nl_debug_assert(head_n <= 4, "a head has 4 bytes at most");
    if (b.len == 0) {
        nl_chain_add_copy(c, head, head_n, NULL, 0);
        nl_buf_release(&b);
        return;
    }
    c->added += head_n + b.len;
    nl_chunk *k = c->last;
    if (!k || k->view.block || room(c) < head_n) {
        k = add_chunk(c, CHUNK_SIZE_REF);
    }
    nl_chunk_put_head(k, head, head_n);
    k->view = b;
}

int nl_chain_iov(nl_chain *c, nl_iov *iov, int max)
{
    int n = 0;
    size_t sum = 0;
    for (nl_chunk *k = c->first; k && n < max; k = k->next) {
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

/* Takes the first chunk out and puts it in front of *done. */
static void drop_first(nl_chain *c, nl_chunk **done)
{
    nl_chunk *k = c->first;
    c->first = k->next;
    if (!c->first) {
        c->last = NULL;
    }
    k->next = *done;
    *done = k;
}

/* The requests up to c->taken, taken out. */
static nl_wreq *fulfilled(nl_chain *c)
{
    nl_wreq *end = c->wreqs;
    if (nl_likely(!end) || end->next->pos > c->taken) {
        return NULL;
    }
    nl_wreq *first = end->next, *last = first;
    while (last != end && last->next->pos <= c->taken) {
        last = last->next;
    }
    if (last == end) {
        c->wreqs = NULL;
    } else {
        end->next = last->next;
    }
    last->next = NULL;
    return first;
}

nl_wreq *nl_chain_advance(nl_chain *c, size_t n, nl_chunk **done)
{
    nl_debug_assert(n <= nl_chain_queued(c), "no more is taken than was queued");
    c->taken += n;
    c->burst = (uint16_t)(n < BURST_MAX ? n : BURST_MAX);
    while (n) {
        nl_chunk *k = c->first;
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
    return fulfilled(c);
}

nl_wreq *nl_chain_clear(nl_chain *c, nl_chunk **done)
{
    while (c->first) {
        drop_first(c, done);
    }
    c->taken = c->added;
    return fulfilled(c);
}

void nl_chunks_free(nl_chunk *done)
{
    while (done) {
        nl_chunk *k = done;
        done = k->next;
        nl_buf_release(&k->view);
        nl_pool_free(k, k->size);
    }
}

bool nl_chain_request(nl_chain *c, nl_wreq *r)
{
    if (c->taken == c->added) {
        return false;
    }
    r->pos = c->added;
    r->err = 0;
    if (c->wreqs) {
        r->next = c->wreqs->next;
        c->wreqs->next = r;
    } else {
        r->next = r;
    }
    c->wreqs = r;
    return true;
}

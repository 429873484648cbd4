/*
 * buffer.c - blocks and the views on them.
 *
 * Small blocks come from the pool, so that a reply made on one worker and sent on another
 * costs no trip to malloc.  A block's allocation size follows from its cap alone.
 */
#include "net/buffer.h"

#include "base/alloc.h"
#include "base/os.h"

#include <string.h>

/* Pieces up to this are copied out rather than left to pin the block they lie in. */
#define COPY_MAX 512

/* --- The sum of all blocks -------------------------------------------------------------------- */

/* One counter would be a line that all workers write; threads are dealt out over several. */
#define SHARDS 16
static struct {
    /* Relaxed throughout: a statistic, it publishes nothing. */
    nl_alignas_line atomic_int_fast64_t bytes;
} shards[SHARDS];
static atomic_uint next_shard;
static _Thread_local unsigned my_shard; /* 1.. ; 0: none dealt yet */

static void count_bytes(int64_t n)
{
    if (nl_unlikely(my_shard == 0)) {
        my_shard = atomic_fetch_add_explicit(&next_shard, 1, memory_order_relaxed) % SHARDS + 1;
    }
    atomic_fetch_add_explicit(&shards[my_shard - 1].bytes, n, memory_order_relaxed);
}

uint64_t nl_block_bytes(void)
{
    int64_t sum = 0; /* a block made on one thread and freed on another leaves one shard negative */
    for (unsigned i = 0; i < SHARDS; i++) {
        sum += atomic_load_explicit(&shards[i].bytes, memory_order_relaxed);
    }
    return sum > 0 ? (uint64_t)sum : 0;
}

/* --- Blocks ----------------------------------------------------------------------------------- */

nl_block *nl_block_new(size_t cap)
{
    if (cap > NL_BUF_MAX) {
        return NULL;
    }
    size_t size = (sizeof(nl_block) + cap + 15) & ~(size_t)15; /* what an allocator gives anyway */
    nl_block *b = size <= NL_POOL_MAX ? nl_pool_alloc(size) : nl_try_malloc(size);
    if (!b) {
        return NULL;
    }
    atomic_init(&b->refs, 1);
    b->cap = (uint32_t)(size - sizeof(nl_block));
    count_bytes((int64_t)size);
    return b;
}

void nl_block_unref(nl_block *b)
{
    if (!b) {
        return;
    }
    /*
     * Release: this holder's use of the bytes comes before the free, and before a write by the
     * last remaining holder (whose acquire load is in sole_holder).  The sole holder needs
     * no read-modify-write: nobody else is left to change the count.
     */
    if (atomic_load_explicit(&b->refs, memory_order_acquire) != 1 &&
        atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    size_t size = sizeof(nl_block) + b->cap;
    count_bytes(-(int64_t)size);
    if (size <= NL_POOL_MAX) {
        nl_pool_free(b, size);
    } else {
        nl_free(b);
    }
}

/*
 * Nobody else holds b: its bytes may be written.  Acquire pairs with the release in nl_block_unref.
 */
static bool sole_holder(nl_block *b)
{
    return atomic_load_explicit(&b->refs, memory_order_acquire) == 1;
}

/* --- Views ------------------------------------------------------------------------------------ */

nl_buf nl_buf_share(const nl_buf *b)
{
    if (!b->block || b->len == 0) {
        return nl_buf_empty();
    }
    return (nl_buf){nl_block_ref(b->block), b->off, b->len};
}

void nl_buf_release(nl_buf *b)
{
    nl_block_unref(b->block);
    *b = nl_buf_empty();
}

/* Moves b's bytes into a block of its own with room for cap bytes.  0 or -ENOMEM. */
static int move_to_new(nl_buf *b, size_t cap)
{
    nl_block *n = nl_block_new(cap);
    if (!n) {
        return -ENOMEM;
    }
    memcpy(n->data, nl_buf_data(b), b->len);
    nl_block_unref(b->block);
    b->block = n;
    b->off = 0;
    return 0;
}

int nl_buf_reserve(nl_buf *b, size_t cap)
{
    if (cap < b->len) {
        cap = b->len;
    }
    if (b->block ? sole_holder(b->block) && b->block->cap - b->off >= cap : cap == 0) {
        return 0;
    }
    return move_to_new(b, cap);
}

int nl_buf_append(nl_buf *b, const void *src, size_t n)
{
    if (n == 0) {
        return 0;
    }
    if (n > NL_BUF_MAX - b->len) {
        return -ENOMEM;
    }
    nl_block *old = b->block;
    bool sole = old && sole_holder(old);
    if (sole && old->cap - b->off - b->len >= n) {
        /* src may lie before it in the same block: no overlap. */
        memcpy(old->data + b->off + b->len, src, n);
        b->len += (uint32_t)n;
        return 0;
    }
    bool inside = old && (uintptr_t)src - (uintptr_t)old->data < old->cap;
    if (sole && !inside && b->off >= b->len && old->cap - b->len >= n) {
        /* Room has come free in front, by splits, and moving costs no more than what has left. */
        memcpy(old->data, old->data + b->off, b->len);
        b->off = 0;
        memcpy(old->data + b->len, src, n);
        b->len += (uint32_t)n;
        return 0;
    }
    size_t need = b->len + n, cap = need < 2 * (size_t)b->len ? 2 * (size_t)b->len : need;
    cap = cap < 48 ? 48 : cap > NL_BUF_MAX ? NL_BUF_MAX : cap;
    nl_block *fresh = nl_block_new(cap);
    if (!fresh && !(fresh = nl_block_new(need))) {
        return -ENOMEM;
    }
    memcpy(fresh->data, nl_buf_data(b), b->len);
    memcpy(fresh->data + b->len, src, n); /* before the old block goes: src may lie in it */
    nl_block_unref(old);
    *b = (nl_buf){fresh, 0, (uint32_t)need};
    return 0;
}

nl_buf nl_buf_split(nl_buf *b, size_t n)
{
    nl_buf front = *b;
    if (n >= b->len) {
        *b = nl_buf_empty();
        return front;
    }
    if (n == 0) {
        return nl_buf_empty();
    }
    front.len = (uint32_t)n;
    b->off += (uint32_t)n;
    b->len -= (uint32_t)n;
    nl_block *copy = NULL;
    if (n <= COPY_MAX) {
        if ((copy = nl_block_new(n))) {
            memcpy(copy->data, nl_buf_data(&front), n);
            front.block = copy; /* b keeps the reference */
            front.off = 0;
        }
    } else if (b->len <= COPY_MAX && (copy = nl_block_new(b->len))) {
        memcpy(copy->data, nl_buf_data(b), b->len);
        b->block = copy; /* front keeps the reference */
        b->off = 0;
    }
    if (!copy) {
        nl_block_ref(front.block);
    }
    return front;
}

void nl_buf_clear(nl_buf *b)
{
    if (b->block && !sole_holder(b->block)) {
        nl_buf_release(b);
    }
    b->off = b->len = 0;
}

size_t nl_buf_unfill(const nl_buf *b)
{
    return b->block && sole_holder(b->block) ? b->block->cap - b->off - b->len : 0;
}

/* --- Search ----------------------------------------------------------------------------------- */

int64_t nl_bytes_find(const void *hay, size_t n, const void *needle, size_t m, size_t from)
{
    if (from > n || m > n - from) {
        return -1;
    }
    const unsigned char *h = hay;
    if (m == 0) {
        return (int64_t)from;
    }
    const unsigned char *hit = nl_memmem(h + from, n - from, needle, m);
    return hit ? hit - h : -1;
}

/*
 * buffer.h - shared bytes.
 *
 * Purpose:   reference-counted blocks, and the views (nl_buf) that scripts, sockets and messages
 *            hold on them.
 * Threads:   a block's reference count is atomic; its bytes are written only by the one holder of
 *            a view while nobody else holds the block (refs == 1), so bytes under other holders
 *            never change. A view itself belongs to one thread at a time.
 * Ownership: a view holds one reference to its block; the last one frees it.
 */
#ifndef NL_BUFFER_H
#define NL_BUFFER_H

#include "base/base.h"

typedef struct nl_block {
    atomic_uint refs;
    uint32_t cap;
    unsigned char data[];
} nl_block;

/* Longest buffer: 1 GiB; longer is -ENOMEM. */
#define NL_BUF_MAX (1u << 30)

typedef struct nl_buf {
    nl_block *block; /* NULL: no bytes set aside */
    uint32_t off, len;
} nl_buf;

/* A block with one reference and at least cap bytes, or NULL when memory is out. */
nl_block *nl_block_new(size_t cap);
static inline nl_block *nl_block_ref(nl_block *b)
{
    /*
     * Relaxed: the thread that copies a reference has one, so the count cannot reach 0 meanwhile.
     */
    atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
    return b;
}
/*
 * Gives one reference back; the last one frees (release, then acquire before the free). NULL is
 * harmless.
 */
void nl_block_unref(nl_block *b);

static inline nl_buf nl_buf_empty(void)
{
    return (nl_buf){NULL, 0, 0};
}
static inline const unsigned char *nl_buf_data(const nl_buf *b)
{
    return b->block ? b->block->data + b->off : (const unsigned char *)"";
}
/* A second view of the same bytes. */
nl_buf nl_buf_share(const nl_buf *b);
/* Gives the view's reference up and empties it. */
void nl_buf_release(nl_buf *b);
/*
 * 0 or -ENOMEM: sets at least cap bytes aside in all (capacity counts from the first byte of the
 * view).
 */
int nl_buf_reserve(nl_buf *b, size_t cap);
/*
 * Copies first if the block is shared.  0, or -ENOMEM with b unchanged.  src may point into b
 * itself.
 */
int nl_buf_append(nl_buf *b, const void *src, size_t n);
/* The first n bytes as a view of their own; they leave b.  n is cut to b->len. */
nl_buf nl_buf_split(nl_buf *b, size_t n);
/* Empties b; keeps its memory if nobody shares it. */
void nl_buf_clear(nl_buf *b);
/* Bytes that can be appended without setting memory aside (0 when shared). */
size_t nl_buf_unfill(const nl_buf *b);
/* Offset of the first occurrence at or after from, or -1. */
int64_t nl_bytes_find(const void *hay, size_t n, const void *needle, size_t m, size_t from);
/* Memory now held in all blocks of the process, in bytes; racy. */
uint64_t nl_block_bytes(void);

#endif

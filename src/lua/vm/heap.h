/*
 * heap.h - the memory of one Lua state, and of its context.
 *
 * A list of chunks (span.h) cut into blocks of a few dozen sizes, one free list per size; what is
 * larger than NL_HEAP_BIG is malloc's.  Blocks go back to their free list only; the chunks are
 * freed all at once, with the state.  So states that are made on one thread and closed on
 * another cost no locks and leave no holes, and the books are exact.
 *
 * Belongs to whoever runs the state; only nl_heap_used and nl_heap_held may be called by
 * others.  Under AddressSanitizer every block is malloc's, so that misuse is seen.
 */
#ifndef NL_HEAP_H
#define NL_HEAP_H

#include "base/base.h"

typedef struct nl_heap nl_heap;

#define NL_HEAP_BIG 16384

/*
 * A heap with its first chunk; owner is found again by nl_heap_owner.  With owner NULL it is owner_size zeroed bytes of
 * the heap itself, on a cache line of their own.  NULL when memory is out.
 */
nl_heap *nl_heap_new(void *owner, size_t owner_size);
/* A copy of a string that lasts as long as the heap. */
char *nl_heap_strdup(nl_heap *s, const char *text);
/* Frees everything in it. */
void nl_heap_free(nl_heap *s);

/* The lua_Alloc function; ud is the heap.  NULL when memory is out or allocations are denied. */
void *nl_heap_alloc(void *ud, void *ptr, size_t osize, size_t nsize);

/* From now on nothing is put on free lists any more: for lua_close, before nl_heap_free. */
void nl_heap_closing(nl_heap *s);
/* While set, no block is made or grown (nl_leave uses it to raise an error that no handler sees). */
void nl_heap_deny(nl_heap *s, bool deny);

/* Bytes the state has asked for; bytes of memory taken for them.  Any thread, racy. */
size_t nl_heap_used(const nl_heap *s);
size_t nl_heap_held(const nl_heap *s);

void nl_heap_set_owner(nl_heap *s, void *owner);

/* The owner is the heap's first field, so that a lookup is one load. */
static inline void *nl_heap_owner(const void *ud)
{
    return *(void *const *)ud;
}

#endif

/*
 * heap.h - the memory of one Lua state.
 *
 * Purpose: blocks of a few dozen sizes, one free list per size; what is larger than NL_HEAP_BIG is
 *          malloc's.  A small heap cuts chunks (span.h) into blocks of all sizes, and keeps them;
 *          one that has grown takes pages for blocks of one size each, and gives a page back when
 *          none of its blocks is used.  All goes at once with the state.  So states that are made
 *          on one thread and closed on another cost no locks and leave no holes, and the books are
 *          exact.
 * Threads: the one that runs the state.  What is in a nl_heap_use may be read by any.
 * Ownership: whatever owns the state (state.h).  Under AddressSanitizer every block is malloc's, so
 *            that misuse is seen.
 */
#ifndef NL_HEAP_H
#define NL_HEAP_H

#include "base/base.h"

typedef struct nl_heap nl_heap;

#define NL_HEAP_BIG 16384

/*
 * The books, which lie in the owner and outlast the heap: other threads read them.  One thread
 * writes, so no RMW.
 */
typedef struct nl_heap_use {
    atomic_size_t used; /* bytes that the state has asked for */
    atomic_size_t held; /* bytes of memory taken for them */
} nl_heap_use;

/* A heap with its first chunk; owner is found again by nl_heap_owner.  NULL when memory is out. */
nl_heap *nl_heap_new(void *owner, nl_heap_use *use);
/* Frees everything in it. */
void nl_heap_free(nl_heap *s);

/* The lua_Alloc function; ud is the heap.  NULL when memory is out or allocations are denied. */
void *nl_heap_alloc(void *ud, void *ptr, size_t osize, size_t nsize);

/* From now on nothing is put on free lists any more: for lua_close, before nl_heap_free. */
void nl_heap_closing(nl_heap *s);
/*
 * While set, no block is made or grown (nl_leave uses it to raise an error that no handler sees).
 */
void nl_heap_deny(nl_heap *s, bool deny);

/* The owner is the heap's first field, so that a lookup is one load. */
static inline void *nl_heap_owner(const void *ud)
{
    return *(void *const *)ud;
}

#endif

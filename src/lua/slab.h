/*
 * slab.h - the memory of one Lua state, and of its context.
 *
 * A list of chunks (span.h) cut into blocks of a few dozen sizes, one free list per size; what is
 * larger than NL_SLAB_BIG is malloc's.  Blocks go back to their free list only; the chunks are
 * freed all at once, with the state.  So states that are made on one thread and closed on
 * another cost no locks and leave no holes, and the books are exact.
 *
 * Belongs to whoever runs the state; only nl_slab_used and nl_slab_held may be called by
 * others.  Under AddressSanitizer every block is malloc's, so that misuse is seen.
 */
#ifndef NL_SLAB_H
#define NL_SLAB_H

#include "base/base.h"

typedef struct nl_slab nl_slab;

#define NL_SLAB_BIG 16384

/*
 * A slab with its first chunk; owner is found again by nl_slab_owner.  With owner NULL it is owner_size zeroed bytes of
 * the slab itself, on a cache line of their own.  NULL when memory is out.
 */
nl_slab *nl_slab_new(void *owner, size_t owner_size);
/* A copy of a string that lasts as long as the slab. */
char *nl_slab_strdup(nl_slab *s, const char *text);
/* Frees everything in it. */
void nl_slab_free(nl_slab *s);

/* The lua_Alloc function; ud is the slab.  NULL when memory is out or allocations are denied. */
void *nl_slab_alloc(void *ud, void *ptr, size_t osize, size_t nsize);

/* From now on nothing is put on free lists any more: for lua_close, before nl_slab_free. */
void nl_slab_closing(nl_slab *s);
/* While set, no block is made or grown (nl_leave uses it to raise an error that no handler sees). */
void nl_slab_deny(nl_slab *s, bool deny);

/* Bytes the state has asked for; bytes of memory taken for them.  Any thread, racy. */
size_t nl_slab_used(const nl_slab *s);
size_t nl_slab_held(const nl_slab *s);

/* The owner is the slab's first field, so that a lookup is one load. */
static inline void *nl_slab_owner(const void *ud)
{
    return *(void *const *)ud;
}

#endif

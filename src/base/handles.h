/*
 * handles.h - a table of index + generation for one thread: an id names a thing as long as it is
 * there, and never another.
 *
 * Purpose: ids for scripts, exact in a double, whose look-up is two loads.  slots.h is the table
 * for many threads.
 * Threads: one at a time.
 * Ownership: the table owns its memory only; nl_handles_fini frees it.
 *
 * An id is generation << 24 | index.  The place used last is used again first.  A place whose
 * generations are used up stays empty.
 */
#ifndef NL_HANDLES_H
#define NL_HANDLES_H

#include "base/alloc.h"

#define NL_HANDLE_INDEX_BITS 24
#define NL_HANDLES_MAX ((1u << NL_HANDLE_INDEX_BITS) - 1)
#define NL_HANDLE_GENERATIONS ((1u << 29) - 1) /* with the index 53 bits */

typedef struct nl_handle_slot {
    void *thing;         /* NULL: free */
    uint32_t generation; /* of the thing in it, or of the next one */
    uint32_t next_free;
} nl_handle_slot;

/* All zero: empty. */
typedef struct nl_handles {
    nl_handle_slot *slots; /* [0] is not used, so no id is 0 */
    uint32_t used, cap, first_free;
} nl_handles;

static inline bool nl_handles_full(const nl_handles *h)
{
    return !h->first_free && h->used > NL_HANDLES_MAX;
}

static inline void nl_handles_grow(nl_handles *h)
{
    h->cap = h->cap ? 2 * h->cap : 4;
    h->slots = nl_realloc(h->slots, h->cap * sizeof *h->slots);
    h->used += h->used == 0;
}

/* The id of a thing that is not NULL.  The table is not full. */
static inline uint64_t nl_handles_add(nl_handles *h, void *thing)
{
    uint32_t i = h->first_free;
    if (nl_likely(i)) {
        h->first_free = h->slots[i].next_free;
    } else {
        if (h->used == h->cap) {
            nl_handles_grow(h);
        }
        i = h->used++;
        h->slots[i].generation = 0;
    }
    h->slots[i].thing = thing;
    return (uint64_t)h->slots[i].generation << NL_HANDLE_INDEX_BITS | i;
}

/* The thing of that id, or NULL. */
static inline void *nl_handles_get(const nl_handles *h, uint64_t id)
{
    uint32_t i = (uint32_t)id & NL_HANDLES_MAX;
    if (nl_unlikely(i >= h->used)) {
        return NULL;
    }
    const nl_handle_slot *s = &h->slots[i];
    return nl_likely(i && s->generation == id >> NL_HANDLE_INDEX_BITS) ? s->thing : NULL;
}

/* Takes out a thing that is in the table. */
static inline void nl_handles_remove(nl_handles *h, uint64_t id)
{
    uint32_t i = (uint32_t)id & NL_HANDLES_MAX;
    nl_handle_slot *s = &h->slots[i];
    nl_debug_assert(nl_handles_get(h, id), "only what is in the table is taken out");
    s->thing = NULL;
    if (nl_likely(s->generation < NL_HANDLE_GENERATIONS)) {
        s->generation++;
        s->next_free = h->first_free;
        h->first_free = i;
    }
}

static inline void nl_handles_fini(nl_handles *h)
{
    nl_free(h->slots);
    *h = (nl_handles){NULL, 0, 0, 0};
}

#endif

/*
 * slots.h - handle table: index + generation names an object for ever, exactly in a double.
 *
 * Purpose:   an id is (generation << 24 | index), index from 1; the first id of a table is 1 and no
 *            id is ever given out twice (a slot whose generation is used up stays empty).  Free
 *            slots are used again oldest first.
 * Threads:   any.  Insert and remove take the table's lock.  A look-up takes none: chunks of slots
 *            are freed with the table only, and the caller guarantees that the memory of a removed
 *            object stays for as long as a reader may look at it (qsbr.h).
 * Ownership: the table owns its slots, never the objects.  An object carries its id in its first
 *            member, a nl_slot_obj.
 */
#ifndef NL_SLOTS_H
#define NL_SLOTS_H

#include "base/base.h"

#define NL_SLOT_INDEX_BITS 24
#define NL_SLOT_MAX ((1u << NL_SLOT_INDEX_BITS) - 1)

typedef struct nl_slot_obj {
    uint64_t id; /* 0: not in a table; written before publication, constant from then on */
} nl_slot_obj;

typedef struct nl_slots nl_slots;
struct nl_mutex;

/* For the look-up, which is inline; slots.c has the rest. */
#define NL_SLOT_CHUNK_BITS 10
typedef struct nl_slot {
    /* Written under the lock with release: a thread that acquires the pointer sees the id. */
    _Atomic(nl_slot_obj *) obj;
    uint32_t gen;       /* of the object now in it, or of the next one; under the lock */
    uint32_t next_free; /* index, 0 ends the list; under the lock */
} nl_slot;

struct nl_slots {
    /* Written once, with release: the acquire in nl_slot_at sees zeroed slots. */
    _Atomic(nl_slot *) chunk[1u << (NL_SLOT_INDEX_BITS - NL_SLOT_CHUNK_BITS)];
    struct nl_mutex *lock;
    uint32_t used;                  /* indices 1..used have been given out at least once */
    uint32_t free_first, free_last; /* oldest first; 0 = empty */
    atomic_uint count;              /* written under the lock; relaxed, for statistics */
};

static inline nl_slot *nl_slot_at(nl_slots *t, uint32_t index)
{
    nl_slot *c = atomic_load_explicit(&t->chunk[index >> NL_SLOT_CHUNK_BITS], memory_order_acquire);
    return nl_likely(c != NULL) ? c + (index & ((1u << NL_SLOT_CHUNK_BITS) - 1)) : NULL;
}

nl_slots *nl_slots_new(void);
void nl_slots_free(nl_slots *t);

/*
 * Gives obj an id and publishes it (release; pairs with the acquire in nl_slots_get).  0, or
 * -ENFILE when the table is full.
 */
int nl_slots_insert(nl_slots *t, nl_slot_obj *obj);
/* Unpublishes; obj->id keeps its value, a reader may still hold the pointer. */
void nl_slots_remove(nl_slots *t, nl_slot_obj *obj);
/* False: another thread was first. */
bool nl_slots_try_remove(nl_slots *t, nl_slot_obj *obj);
/* The object of that id, or NULL if it is gone or never was.  Any thread, wait-free. */
static inline nl_slot_obj *nl_slots_get(nl_slots *t, uint64_t id)
{
    nl_slot *s = nl_slot_at(t, (uint32_t)(id & NL_SLOT_MAX));
    if (nl_unlikely(!s)) {
        return NULL;
    }
    nl_slot_obj *obj = atomic_load_explicit(&s->obj, memory_order_acquire);
    return nl_likely(obj && obj->id == id) ? obj : NULL;
}
/* Objects now in the table (racy, for statistics). */
unsigned nl_slots_count(nl_slots *t);
/* Calls fn for each object in the table, under the table's lock: fn must not insert or remove. */
void nl_slots_each(nl_slots *t, void (*fn)(nl_slot_obj *obj, void *arg), void *arg);

#endif

/*
 * slots.c - see slots.h.
 *
 * Slots live in chunks that are added one by one and never move, so that a lookup follows
 * two pointers without a lock: table → chunk → object.  It trusts only the object's own id,
 * which is written before the object is published: a slot that is empty, or holds another
 * generation, or was never used (index 0, or one above `used`), gives NULL.
 */
#include "base/slots.h"
#include "base/alloc.h"
#include "base/os.h"

#define CHUNK_SLOTS (1u << NL_SLOT_CHUNK_BITS)
#define CHUNKS (1u << (NL_SLOT_INDEX_BITS - NL_SLOT_CHUNK_BITS))
/* 24 bits of index and 29 of generation: the 53 bits of a double.  A test has lower limits. */
#ifndef SLOTS_INDEX_MAX
#define SLOTS_INDEX_MAX NL_SLOT_MAX
#define SLOTS_GEN_MAX ((1u << 29) - 1)
#endif

nl_slots *nl_slots_new(void)
{
    nl_slots *t = (nl_slots *)nl_calloc(sizeof(*t));
    t->lock = nl_mutex_new();
    return t;
}

void nl_slots_free(nl_slots *t)
{
    for (uint32_t i = 0; i < CHUNKS; i++) {
        nl_free(atomic_load_explicit(&t->chunk[i], memory_order_relaxed));
    }
    nl_mutex_free(t->lock);
    nl_free(t);
}

int nl_slots_insert(nl_slots *t, nl_slot_obj *obj)
{
    int err = 0;
    nl_mutex_lock(t->lock);
    uint32_t index = t->free_first;
    nl_slot *s;
    if (index) {
        s = nl_slot_at(t, index);
        t->free_first = s->next_free;
        if (!t->free_first) {
            t->free_last = 0;
        }
    } else {
        if (t->used == SLOTS_INDEX_MAX) {
            err = -ENFILE;
            goto out;
        }
        index = t->used + 1;
        s = nl_slot_at(t, index);
        if (!s) {
            nl_slot *c = (nl_slot *)nl_calloc(CHUNK_SLOTS * sizeof(nl_slot));
            atomic_store_explicit(&t->chunk[index >> NL_SLOT_CHUNK_BITS], c, memory_order_release);
            s = nl_slot_at(t, index);
        }
        t->used = index;
    }
    obj->id = (uint64_t)s->gen << NL_SLOT_INDEX_BITS | index;
    atomic_store_explicit(&s->obj, obj, memory_order_release);
    atomic_fetch_add_explicit(&t->count, 1, memory_order_relaxed);
out:
    nl_mutex_unlock(t->lock);
    return err;
}

bool nl_slots_try_remove(nl_slots *t, nl_slot_obj *obj)
{
    uint32_t index = (uint32_t)(obj->id & NL_SLOT_MAX);
    nl_mutex_lock(t->lock);
    nl_slot *s = nl_slot_at(t, index);
    if (atomic_load_explicit(&s->obj, memory_order_relaxed) != obj) {
        nl_mutex_unlock(t->lock);
        return false;
    }
    /* Relaxed: a reader that still gets the pointer may use it, by the caller's guarantee. */
    atomic_store_explicit(&s->obj, NULL, memory_order_relaxed);
    atomic_fetch_sub_explicit(&t->count, 1, memory_order_relaxed);
    if (s->gen < SLOTS_GEN_MAX) { /* else the slot stays empty for ever */
        s->gen++;
        s->next_free = 0;
        if (t->free_last) {
            nl_slot_at(t, t->free_last)->next_free = index;
        } else {
            t->free_first = index;
        }
        t->free_last = index;
    }
    nl_mutex_unlock(t->lock);
    return true;
}

void nl_slots_remove(nl_slots *t, nl_slot_obj *obj)
{
    bool was_in = nl_slots_try_remove(t, obj);
    nl_assert(was_in, "removed from a table it is not in");
}

unsigned nl_slots_count(nl_slots *t)
{
    return atomic_load_explicit(&t->count, memory_order_relaxed);
}

void nl_slots_each(nl_slots *t, void (*fn)(nl_slot_obj *obj, void *arg), void *arg)
{
    nl_mutex_lock(t->lock);
    for (uint32_t index = 1; index <= t->used; index++) {
        nl_slot_obj *obj = atomic_load_explicit(&nl_slot_at(t, index)->obj, memory_order_relaxed);
        if (obj) {
            fn(obj, arg);
        }
    }
    nl_mutex_unlock(t->lock);
}

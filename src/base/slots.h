/*
 * slots.h - handle table: index + generation names an object for ever, exactly in a double.
 *
 * An id is (generation << 24 | index), index from 1; the first id of a table is 1 and no id
 * is ever given out twice (a slot whose generation is used up is retired).  Free slots are
 * used again oldest first.
 *
 * Insert and remove take the table's lock.  Lookup takes none: chunks of slots are never
 * freed before the table, and the pointer read is only valid under the caller's guarantee
 * that a removed object's memory stays for as long as a reader may look at it (qsbr.h).
 * The object itself must carry its id in a first member of type nl_slot_obj.
 */
#ifndef NL_SLOTS_H
#define NL_SLOTS_H

#include "base/base.h"

#define NL_SLOT_INDEX_BITS 24
#define NL_SLOT_MAX ((1u << NL_SLOT_INDEX_BITS) - 1)

typedef struct nl_slot_obj {
    uint64_t id; /* 0: not in a table; written before publication, constant until memory is freed */
} nl_slot_obj;

typedef struct nl_slots nl_slots;

nl_slots *nl_slots_new(void);
void nl_slots_free(nl_slots *t);

/* Gives obj an id and publishes it (release; pairs with the acquire in nl_slots_get).  0, or -ENFILE when full. */
int nl_slots_insert(nl_slots *t, nl_slot_obj *obj);
/* Unpublishes; obj->id keeps its value for those who still hold the pointer. */
void nl_slots_remove(nl_slots *t, nl_slot_obj *obj);
/* The object of that id, or NULL if it is gone or never was.  Any thread, wait-free. */
nl_slot_obj *nl_slots_get(nl_slots *t, uint64_t id);
/* Objects now in the table (racy, for statistics). */
unsigned nl_slots_count(nl_slots *t);
/* Calls fn for each object that is in the table, under the table's lock: fn must not insert or remove. */
void nl_slots_each(nl_slots *t, void (*fn)(nl_slot_obj *obj, void *arg), void *arg);

#endif

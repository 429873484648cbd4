/*
 * pending.h - messages that have come in and that nobody receives yet.
 *
 * Purpose: the oldest of all, or the oldest of one sender, in constant time, however many others
 * stand before it.
 * Threads: the context's.
 * Ownership: a packet belongs to the list from add to take or cut.
 *
 * The packets form one list, oldest first.  While one is in it nobody runs or drops it, so its
 * msg.ops holds the one before.  A search by sender walks the list; one that has to go far makes an
 * index by sender first, which stays until the list is empty.  So who takes messages as they come
 * pays for no index.
 */
#ifndef NL_PENDING_H
#define NL_PENDING_H

#include "lua/msg/pack.h"

typedef struct nl_packets {
    nl_packet *first, *last;
} nl_packets;

static inline nl_packet *nl_packet_next(nl_packet *m)
{
    return (nl_packet *)atomic_load_explicit(&m->msg.next, memory_order_relaxed);
}

static inline nl_packet *nl_packet_before(const nl_packet *m)
{
    return (nl_packet *)(void *)(uintptr_t)m->msg.ops;
}

void nl_packets_add(nl_packets *l, nl_packet *m);
void nl_packets_cut(nl_packets *l, nl_packet *m);

struct nl_sender;

typedef struct nl_pending {
    nl_packets all;
    nl_packet *drain_next; /* where recv.c: drain_run goes on */
    uint32_t count;
    uint32_t nsenders, nbuckets;
    struct nl_sender **buckets; /* the index; NULL: there is none */
} nl_pending;

void nl_pending_add(nl_pending *p, nl_packet *m);
/* Takes the oldest out, of that sender, or with from 0 of all; NULL if there is none. */
nl_packet *nl_pending_take(nl_pending *p, uint64_t from);
/* Takes m out, which is the oldest of its sender. */
void nl_pending_cut(nl_pending *p, nl_packet *m);
/* Everything, for the end; the list is empty then. */
nl_packet *nl_pending_take_all(nl_pending *p);

#endif

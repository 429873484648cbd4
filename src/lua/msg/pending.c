/* pending.c - see pending.h */
#include "lua/msg/pending.h"

#include "base/alloc.h"

static inline void set_next(nl_packet *m, nl_packet *next)
{
    atomic_store_explicit(&m->msg.next, next ? &next->msg : NULL, memory_order_relaxed);
}

static inline void set_before(nl_packet *m, const nl_packet *before)
{
    m->msg.ops = (const nl_msg_ops *)(const void *)before;
}

void nl_packets_add(nl_packets *l, nl_packet *m)
{
    set_next(m, NULL);
    set_before(m, l->last);
    if (l->last) {
        set_next(l->last, m);
    } else {
        l->first = m;
    }
    l->last = m;
}

void nl_packets_cut(nl_packets *l, nl_packet *m)
{
    nl_packet *before = nl_packet_before(m), *next = nl_packet_next(m);
    if (before) {
        set_next(before, next);
    } else {
        l->first = next;
    }
    if (next) {
        set_before(next, before);
    } else {
        l->last = before;
    }
}

/* --- the index -------------------------------------------------------------------------------- */

#define FAR 32 /* messages of others that a search passes by before it makes an index */

/* The pending messages of one sender, oldest first: a ring. */
typedef struct nl_sender {
    struct nl_sender *next; /* in its bucket */
    uint64_t from;
    nl_packet **ring;
    uint32_t first, count, cap; /* cap is a power of two */
} sender;

static inline uint32_t bucket_of(const nl_pending *p, uint64_t from)
{
    return (uint32_t)(from * 0x9e3779b97f4a7c15u >> 40) & (p->nbuckets - 1);
}

/* The place of a sender, or the end of its bucket. */
static sender **place_of(const nl_pending *p, uint64_t from)
{
    sender **at = &p->buckets[bucket_of(p, from)];
    while (*at && (*at)->from != from) {
        at = &(*at)->next;
    }
    return at;
}

static void grow_buckets(nl_pending *p)
{
    uint32_t n = p->nbuckets;
    sender **old = p->buckets;
    p->nbuckets = n ? 4 * n : 16;
    p->buckets = nl_calloc(p->nbuckets * sizeof(sender *));
    for (uint32_t i = 0; i < n; i++) {
        for (sender *s = old[i], *next; s; s = next) {
            next = s->next;
            sender **at = &p->buckets[bucket_of(p, s->from)];
            s->next = *at;
            *at = s;
        }
    }
    nl_free(old);
}

static void index_add(nl_pending *p, nl_packet *m)
{
    if (p->nsenders == p->nbuckets) {
        grow_buckets(p);
    }
    sender **at = place_of(p, m->from), *s = *at;
    if (!s) {
        s = *at = nl_calloc(sizeof *s);
        s->from = m->from;
        p->nsenders++;
    }
    if (s->count == s->cap) {
        uint32_t cap = s->cap ? 2 * s->cap : 2;
        nl_packet **ring = nl_malloc(cap * sizeof(nl_packet *));
        for (uint32_t i = 0; i < s->count; i++) {
            ring[i] = s->ring[(s->first + i) & (s->cap - 1)];
        }
        nl_free(s->ring);
        s->ring = ring;
        s->cap = cap;
        s->first = 0;
    }
    s->ring[(s->first + s->count++) & (s->cap - 1)] = m;
}

static void index_cut(nl_pending *p, const nl_packet *m)
{
    sender **at = place_of(p, m->from), *s = *at;
    nl_assert(s && s->ring[s->first] == m, "only the oldest message of a sender is taken");
    s->first = (s->first + 1) & (s->cap - 1);
    if (--s->count == 0) {
        *at = s->next;
        nl_free(s->ring);
        nl_free(s);
        p->nsenders--;
    }
}

static void index_make(nl_pending *p)
{
    grow_buckets(p);
    for (nl_packet *m = p->all.first; m; m = nl_packet_next(m)) {
        index_add(p, m);
    }
}

static void index_free(nl_pending *p)
{
    for (uint32_t i = 0; i < p->nbuckets; i++) {
        for (sender *s = p->buckets[i], *next; s; s = next) {
            next = s->next;
            nl_free(s->ring);
            nl_free(s);
        }
    }
    nl_free(p->buckets);
    p->buckets = NULL;
    p->nbuckets = p->nsenders = 0;
}

/* --- the list --------------------------------------------------------------------------------- */

void nl_pending_add(nl_pending *p, nl_packet *m)
{
    nl_packets_add(&p->all, m);
    p->count++;
    if (nl_unlikely(p->buckets)) {
        index_add(p, m);
    }
}

void nl_pending_cut(nl_pending *p, nl_packet *m)
{
    if (nl_unlikely(p->drain_next == m)) {
        p->drain_next = nl_packet_next(m);
    }
    nl_packets_cut(&p->all, m);
    p->count--;
    if (nl_unlikely(p->buckets)) {
        index_cut(p, m);
        if (p->count == 0) {
            index_free(p);
        }
    }
}

/* The oldest message of a sender, or NULL. */
static nl_packet *find(nl_pending *p, uint64_t from)
{
    if (!p->buckets) {
        nl_packet *m = p->all.first;
        for (int passed = 0; m && m->from != from; m = nl_packet_next(m)) {
            if (nl_unlikely(++passed > FAR)) {
                index_make(p);
                break;
            }
        }
        if (!p->buckets) {
            return m;
        }
    }
    const sender *s = *place_of(p, from);
    return s ? s->ring[s->first] : NULL;
}

nl_packet *nl_pending_take(nl_pending *p, uint64_t from)
{
    nl_packet *m = from ? find(p, from) : p->all.first;
    if (m) {
        nl_pending_cut(p, m);
    }
    return m;
}

nl_packet *nl_pending_take_all(nl_pending *p)
{
    nl_packet *all = p->all.first;
    index_free(p);
    *p = (nl_pending){0};
    return all;
}

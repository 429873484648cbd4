/* pack_seen.c - the tables that a message has so far; see pack_impl.h */
#include <string.h>

#include "base/alloc.h"
#include "lua/msg/pack_impl.h"

static inline uint32_t hash_of(const void *p, uint32_t size)
{
    return (uint32_t)(((uintptr_t)p >> 4) * 0x9e3779b97f4a7c15u >> 32) & (size - 1);
}

static void hash_add(nl_seen *s, uint32_t i)
{
    uint32_t at = hash_of(s->all[i].table, s->hash_size);
    while (s->hash[at]) {
        at = (at + 1) & (s->hash_size - 1);
    }
    s->hash[at] = i + 1;
}

int64_t nl_seen_find_hashed(const nl_seen *s, const void *t)
{
    for (uint32_t at = hash_of(t, s->hash_size); s->hash[at]; at = (at + 1) & (s->hash_size - 1)) {
        if (s->all[s->hash[at] - 1].table == t) {
            return s->hash[at] - 1;
        }
    }
    return -1;
}

static void grow(nl_seen *s)
{
    bool inside = s->all == s->first;
    s->cap *= 4;
    s->all = nl_realloc(inside ? NULL : s->all, s->cap * sizeof *s->all);
    if (inside) {
        memcpy(s->all, s->first, sizeof s->first);
    }
    nl_free(s->hash);
    s->hash_size = s->cap * 2;
    s->hash = nl_calloc(s->hash_size * sizeof *s->hash);
    for (uint32_t i = 0; i < s->n; i++) {
        hash_add(s, i);
    }
}

uint32_t nl_seen_add_hashed(nl_seen *s, const void *t)
{
    if (nl_unlikely(s->n == s->cap)) {
        grow(s);
    }
    uint32_t i = s->n++;
    s->all[i].table = t;
    s->all[i].open = true;
    hash_add(s, i);
    return i;
}

void nl_seen_free(nl_seen *s)
{
    nl_free(s->all); /* the two come together */
    nl_free(s->hash);
}

/*
 * pack_impl.h - the inside of the serialiser.
 *
 * Purpose: what pack.c, pack_plain.c, pack_cdata.c and pack_seen.c share.
 * Threads: the one that runs the state.
 * Ownership: as pack.h says.
 *
 * A value is a tag byte and what the tag says.  A table's list values, 1, 2, 3 … up to the first
 * hole, stand without keys; everything else is pairs.  Both counts stand in front, so the receiver
 * makes the table in its final size.
 */
#ifndef NL_PACK_IMPL_H
#define NL_PACK_IMPL_H

#include "base/alloc.h"
#include "lua/msg/pack.h"
#include "lua/run/lctx.h"

enum {
    T_NIL,
    T_FALSE,
    T_TRUE,
    T_NUMBER = NL_PACK_NUMBER, /* 8 bytes, as in memory */
    T_STR8,                    /* length in 1 byte, bytes, zeros up to a multiple of 4 */
    T_STR32,                   /* length in 4 bytes, bytes, zeros likewise */
    T_TABLE,                   /* 4 bytes number of list values, 4 of pairs; values; pairs */
    T_REF,                     /* 4 bytes: the how-manieth table of this message, from 0 */
    T_BUFFER,                  /* a buf_record */
    T_CDATA,                   /* NL_CDATA_BYTES */
    T_NULL                     /* light userdata NULL, which cjson and others have for null */
};

_Static_assert(T_NUMBER == NL_PACK_NUMBER, "pack.h knows numbers");

#define PADDED(n) (((size_t)(n) + 3) & ~(size_t)3)

/* Where a message's data begin: what is behind a nl_packed's last member is theirs, not padding. */
#define DATA_AT (offsetof(nl_packet, body) + offsetof(nl_packed, data))
/* Room in the smallest block, of two cache lines: eight numbers, or a short string and some. */
#define SMALL_ROOM (2 * (size_t)NL_CACHELINE - DATA_AT)

/* Gives a message's block up; it holds no buffers. */
static inline void nl_packet_drop(nl_packet *m)
{
    /* A block over NL_POOL_MAX is malloc's, wherever it was made. */
    nl_pool_free(m, DATA_AT + m->body.cap);
}

/* --- the tables of a message, in the order in which they are met: pack_seen.c ----------------- */

#define NL_SEEN_LINEAR 16 /* so many are found by looking at each */

typedef struct nl_seen {
    struct nl_seen_table {
        const void *table;
        bool open; /* it is on the path from the argument to where packing is */
    } * all, first[NL_SEEN_LINEAR];
    uint32_t n, cap;
    uint32_t *hash; /* of indices + 1 into all, once there are more than fit into first */
    uint32_t hash_size;
} nl_seen;

static inline void nl_seen_init(nl_seen *s)
{
    s->all = s->first;
    s->n = 0;
    s->cap = NL_SEEN_LINEAR;
    s->hash = NULL;
}

/* Index of a table met before, or -1. */
int64_t nl_seen_find_hashed(const nl_seen *s, const void *t);
static inline int64_t nl_seen_find(const nl_seen *s, const void *t)
{
    if (nl_unlikely(s->hash)) {
        return nl_seen_find_hashed(s, t);
    }
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->first[i].table == t) {
            return i;
        }
    }
    return -1;
}

/* Adds a table that was not met before, as open; its index. */
uint32_t nl_seen_add_hashed(nl_seen *s, const void *t);
static inline uint32_t nl_seen_add(nl_seen *s, const void *t)
{
    uint32_t i = s->n;
    if (nl_unlikely(i >= NL_SEEN_LINEAR)) {
        return nl_seen_add_hashed(s, t);
    }
    s->first[i].table = t;
    s->first[i].open = true;
    s->n = i + 1;
    return i;
}

void nl_seen_free(nl_seen *s);
static inline void nl_seen_fini(nl_seen *s)
{
    if (nl_unlikely(s->hash)) {
        nl_seen_free(s);
    }
}

/* --- cdata that are one number or bool: pack_cdata.c ------------------------------------------ */

#define NL_CDATA_BYTES 9 /* its kind, and 8 of which it takes as many as it is long */

/* False: it is another cdata. */
bool nl_cdata_pack(lua_State *L, int idx, unsigned char v[NL_CDATA_BYTES]);
/* Pushes a cdata of the same type.  False: nil instead, for the stack cannot grow. */
bool nl_cdata_push(lua_State *L, const unsigned char *p);

/* --- the two ways ----------------------------------------------------------------------------- */

/* pack.c: nl_packet_pack, for all there is. */
nl_packet *nl_pack_any(lua_State *L, int first, int last, int argbase, nl_packet **spare);

#if NL_LUAJIT_INSIDE

/*
 * pack_plain.c: the same for plain values; calls nl_pack_any if there are others, or something to
 * refuse.  m is the block to write to: *spare, or a new one, or NULL if that has still to be made.
 */
nl_packet *nl_pack_plain(lua_State *L, int first, int last, int argbase, nl_packet **spare, nl_packet *m);

/*
 * Pushes the values of a plain message from p on, where n are left; returns how many it has.  There
 * is room on the stack.
 */
int nl_unpack_plain(lua_State *L, const nl_packet *m, const unsigned char *p, int n);

#endif
#endif

/*
 * pack_plain.c - the short way for most messages; see pack_impl.h
 *
 * It takes nil, booleans, numbers, strings and tables of these.
 *
 * Tables are walked and filled as they lie in memory (lj.h), without the Lua stack.  That is sound
 * because nothing here runs Lua: packing allocates nothing in the state and so cannot raise, and
 * unpacking lets the collector work only before it begins.  So what is half made needs no anchor
 * and no barrier; if memory runs out in the middle, it is garbage.
 *
 * All else, from buffers to whatever has to be refused and named, is pack.c's, which starts again
 * from the first value.
 */
#include <string.h>

#include "base/alloc.h"
#include "lua/msg/pack_impl.h"

#include <lj/lj_str.h>
#include <lj/lj_tab.h>

/* --- packing ---------------------------------------------------------------------------------- */

typedef struct packer {
    nl_packet *m; /* what is written to: old, or a block of our own */
    const nl_packet *old;
    unsigned char *end; /* of m's room */
    uint32_t depth;
    bool shares;
    nl_seen seen;
} packer;

/* A tag and what has a fixed size behind it. */
#define ROOM 9

/*
 * Moves what is packed, up to p, to a larger block that has room for n bytes more.  The new p, or
 * NULL.
 */
static __attribute__((noinline)) unsigned char *grow(packer *k, const unsigned char *p, size_t n)
{
    size_t len = (size_t)(p - k->m->body.data), room = 2 * (len + n);
    room = room < 256 ? 256 : room; /* a second step is rare then */
    nl_packet *m = room > NL_BUF_MAX               ? NULL
                   : DATA_AT + room <= NL_POOL_MAX ? nl_pool_alloc(DATA_AT + room)
                                                   : nl_try_malloc(DATA_AT + room);
    if (!m) {
        return NULL;
    }
    memcpy(m->body.data, k->m->body.data, len);
    if (k->m != k->old) {
        nl_packet_drop(k->m);
    }
    m->body.cap = (uint32_t)room;
    k->m = m;
    k->end = m->body.data + room;
    return m->body.data + len;
}

/* Strings are copied by words: LuaJIT fills up the last one with zeros, too. */

static __attribute__((noinline)) unsigned char *put_long_string(packer *k, unsigned char *p, const GCstr *s)
{
    uint32_t n = s->len;
    size_t padded = PADDED(n);
    if ((size_t)(k->end - p) < padded + 5 && !(p = grow(k, p, padded + 5))) {
        return NULL;
    }
    if (n < 256) {
        p[0] = T_STR8;
        p[1] = (unsigned char)n;
        p += 2;
    } else {
        p[0] = T_STR32;
        memcpy(p + 1, &n, sizeof n);
        p += 5;
    }
    memcpy(p, strdata(s), padded);
    return p + padded;
}

static inline unsigned char *put_string(packer *k, unsigned char *p, const GCstr *s)
{
    uint32_t n = s->len;
    size_t padded = PADDED(n);
    if (nl_unlikely(n > 32 || (size_t)(k->end - p) < 2 + padded)) {
        return put_long_string(k, p, s);
    }
    p[0] = T_STR8;
    p[1] = (unsigned char)n;
    p += 2;
    for (uint32_t i = 0; i < n; i += 4) {
        memcpy(p + i, strdata(s) + i, 4);
    }
    return p + padded;
}

static unsigned char *put_table(packer *k, unsigned char *p, const GCtab *t);

_Static_assert(T_NIL == ~LJ_TNIL && T_FALSE == ~LJ_TFALSE && T_TRUE == ~LJ_TTRUE, "our tags are LuaJIT's");

static inline __attribute__((always_inline)) unsigned char *put(packer *k, unsigned char *p, const TValue *o)
{
    if (nl_unlikely(k->end - p < ROOM) && !(p = grow(k, p, ROOM))) {
        return NULL;
    }
    if (nl_likely(tvisnumber(o))) {
        lua_Number n = numberVnum(o);
        *p = T_NUMBER;
        memcpy(p + 1, &n, sizeof n);
        return p + 9;
    }
    if (nl_likely(tvisstr(o))) {
        return put_string(k, p, strV(o));
    }
    if (tvistab(o)) {
        return put_table(k, p, tabV(o));
    }
    if (nl_likely(tvispri(o))) {
        *p = (unsigned char)~itype(o);
        return p + 1;
    }
    return NULL;
}

static unsigned char *put_index(packer *k, unsigned char *p, uint32_t i)
{
    TValue key;
    setnumV(&key, (lua_Number)i);
    return put(k, p, &key);
}

/* A table met before: its number.  One that is open would be part of itself. */
static unsigned char *put_ref(packer *k, unsigned char *p, uint32_t i)
{
    if (k->seen.all[i].open) {
        return NULL;
    }
    k->shares = true;
    *p = T_REF;
    memcpy(p + 1, &i, sizeof i);
    return p + 5;
}

static unsigned char *put_table(packer *k, unsigned char *p, const GCtab *t)
{
    int64_t known = nl_seen_find(&k->seen, t);
    if (nl_unlikely(known >= 0)) {
        return put_ref(k, p, (uint32_t)known);
    }
    if (nl_unlikely(k->depth == NL_PACK_DEPTH)) {
        return NULL;
    }
    k->depth++;
    uint32_t me = nl_seen_add(&k->seen, t), asize = t->asize, i = 1, pairs = 0;
    size_t at = (size_t)(p - k->m->body.data) + 1;
    *p = T_TABLE;
    p += 9;
    const TValue *array = tvref(t->array);
    for (; i < asize && !tvisnil(&array[i]); i++) {
        if (!(p = put(k, p, &array[i]))) {
            return NULL;
        }
    }
    const uint32_t list = i - 1;
    if (nl_unlikely(asize > 0 && !tvisnil(&array[0]))) {
        pairs++;
        if (!(p = put_index(k, p, 0)) || !(p = put(k, p, &array[0]))) {
            return NULL;
        }
    }
    for (; i < asize; i++) { /* behind a hole */
        if (!tvisnil(&array[i])) {
            pairs++;
            if (!(p = put_index(k, p, i)) || !(p = put(k, p, &array[i]))) {
                return NULL;
            }
        }
    }
    if (t->hmask > 0) {
        for (const Node *n = noderef(t->node), *end = n + t->hmask; n <= end; n++) {
            if (tvisnil(&n->val)) {
                continue;
            }
            pairs++;
            bool key_ok = tvisstr(&n->key) || tvisnumber(&n->key) || tvisbool(&n->key);
            if (nl_unlikely(!key_ok) || !(p = put(k, p, &n->key)) || !(p = put(k, p, &n->val))) {
                return NULL;
            }
        }
    }
    memcpy(k->m->body.data + at, &list, sizeof list);
    memcpy(k->m->body.data + at + sizeof list, &pairs, sizeof pairs);
    k->seen.all[me].open = false;
    k->depth--;
    return p;
}

nl_packet *nl_pack_plain(lua_State *L, int first, int last, int argbase, nl_packet **spare, nl_packet *m)
{
    nl_packet *old = *spare;
    if (!m) {
        m = nl_pool_alloc(DATA_AT + SMALL_ROOM);
        m->body.cap = SMALL_ROOM;
    }
    packer k; /* its list of tables is not to be cleared */
    k.m = m;
    k.old = old;
    k.end = m->body.data + m->body.cap;
    k.depth = 0;
    k.shares = false;
    nl_seen_init(&k.seen);
    unsigned char *p = m->body.data;
    for (int i = first; i <= last && p; i++) {
        const TValue *o = nl_lua_slot(L, i);
        p = nl_likely(o != NULL) ? put(&k, p, o) : NULL;
    }
    nl_seen_fini(&k.seen);
    m = k.m;
    nl_packet *spent = p ? old : m;
    if (nl_unlikely(m != old) && spent) {
        nl_packet_drop(spent);
    }
    if (nl_unlikely(!p)) {
        return nl_pack_any(L, first, last, argbase, spare);
    }
    *spare = NULL;
    m->body.len = (uint32_t)(p - m->body.data);
    m->body.buf_last = 0;
    m->body.nvalues = (uint16_t)(last < first ? 0 : last - first + 1);
    m->body.kind = k.shares ? NL_PACKED_SHARES : k.seen.n ? NL_PACKED_TABLES : NL_PACKED_PLAIN;
    return m;
}

/* --- unpacking -------------------------------------------------------------------------------- */

/*
 * The same strings come again and again, message by message, keys above all.  A state that gets
 * tables keeps some of them, each at a place that follows from its bytes, so that they need not be
 * interned anew, which takes three times as long: those that were keys, and values that were there
 * already when they came.  They stand in a table, through which the collector sees them.  A query
 * and its reply with {id = 1, name = "abc", pos = {1, 2, 3}} take 5,900 instructions with these
 * strings kept, 6,700 without.
 */
#define STRINGS 64
#define STRING_MAX 32

/*
 * The table, if there is one: it is looked for each time, since a script with the debug library
 * might take it away.
 */
static inline GCtab *strings_of(lua_State *L, const nl_lctx *lc)
{
    const TValue *o = lj_tab_getint(tabV(registry(L)), lc->strings);
    return o && tvistab(o) && tabV(o)->asize >= STRINGS ? tabV(o) : NULL;
}

/* slot: where to keep it, or NULL. */
static __attribute__((noinline)) GCstr *intern(lua_State *L, GCtab *strings, TValue *slot,
                                               const unsigned char *p, uint32_t n, bool key)
{
    MSize there = G(L)->str.num;
    GCstr *s = lj_str_new(L, (const char *)p, n);
    if (slot && (key || G(L)->str.num == there)) {
        setstrV(L, slot, s);
        lj_gc_objbarriert(L, strings, s);
    }
    return s;
}

static inline GCstr *get_string(lua_State *L, GCtab *strings, const unsigned char *p, uint32_t n, bool key)
{
    if (nl_unlikely(n - 1 >= STRING_MAX || !strings)) {
        return intern(L, NULL, NULL, p, n, key);
    }
    uint32_t head, tail, differ = 0;
    memcpy(&head, p, sizeof head);
    memcpy(&tail, p + ((n - 1) & ~3u), sizeof tail);
    TValue *slot = tvref(strings->array) + ((head * 0x9e3779b1u ^ tail * 0x85ebca6bu ^ n << 26) >> 26);
    if (nl_unlikely(!tvisstr(slot) || strV(slot)->len != n)) {
        return intern(L, strings, slot, p, n, key);
    }
    GCstr *s = strV(slot);
    for (uint32_t i = 0; i < n; i += 4) { /* zeros fill up the last word of both */
        uint32_t a, b;
        memcpy(&a, p + i, sizeof a);
        memcpy(&b, strdata(s) + i, sizeof b);
        differ |= a ^ b;
    }
    return nl_likely(!differ) ? s : intern(L, strings, slot, p, n, key);
}

static const unsigned char *get_table(lua_State *L, GCtab *strings, const unsigned char *p, TValue *o);

static inline __attribute__((always_inline)) const unsigned char *get(lua_State *L, GCtab *strings,
                                                                      const unsigned char *p, TValue *o)
{
    uint32_t n;
    switch (*p) {
    case T_NUMBER: {
        lua_Number v;
        memcpy(&v, p + 1, sizeof v);
        nl_lua_setnumber(o, v);
        return p + 9;
    }
    case T_STR8:
        n = p[1];
        setstrV(L, o, get_string(L, strings, p + 2, n, false));
        return p + 2 + PADDED(n);
    case T_TABLE:
        return get_table(L, strings, p, o);
    case T_STR32:
        memcpy(&n, p + 1, sizeof n);
        setstrV(L, o, lj_str_new(L, (const char *)p + 5, n));
        return p + 5 + PADDED(n);
    default:
        nl_debug_assert(*p <= T_TRUE, "a plain message holds plain values");
        setpriV(o, ~(uint32_t)*p);
        return p + 1;
    }
}

/* The place for a key that t, which is new and large enough, does not have yet. */
static inline TValue *place(lua_State *L, GCtab *t, const TValue *key)
{
    if (nl_likely(tvisstr(key))) {
        Node *n = hashstr(t, strV(key));
        if (nl_likely(tvisnil(&n->val))) {
            n->key = *key;
            return &n->val;
        }
    } else if (tvisnum(key)) {
        lua_Number v = numV(key);
        if (v >= INT32_MIN && v <= INT32_MAX && (lua_Number)(int32_t)v == v) {
            /* It may have a place in the array part: 0, for one. */
            return lj_tab_setint(L, t, (int32_t)v);
        }
    }
    return lj_tab_newkey(L, t, key);
}

static const unsigned char *get_table(lua_State *L, GCtab *strings, const unsigned char *p, TValue *o)
{
    uint32_t list, pairs;
    memcpy(&list, p + 1, sizeof list);
    memcpy(&pairs, p + 5, sizeof pairs);
    p += 9;
    GCtab *t = lj_tab_new(L, list ? list + 1 : 0, hsize2hbits(pairs));
    settabV(L, o, t);
    TValue *array = tvref(t->array);
    for (uint32_t i = 1; i <= list; i++) {
        p = get(L, strings, p, &array[i]);
    }
    if (pairs) {
        t->nomm = 0; /* it may have metamethods now, should it become a metatable */
    }
    for (; pairs > 0; pairs--) {
        TValue key, value;
        if (nl_likely(*p == T_STR8)) {
            uint32_t n = p[1];
            setstrV(L, &key, get_string(L, strings, p + 2, n, true));
            p += 2 + PADDED(n);
        } else {
            p = get(L, strings, p, &key);
        }
        p = get(L, strings, p, &value); /* before the place is looked for: see lj_tab_newkey */
        *place(L, t, &key) = value;
    }
    return p;
}

/*
 * Lets the collector take its steps for the memory that so many bytes of a message will fill, if it
 * wants them.
 */
static void collect(lua_State *L, uint32_t bytes)
{
    const GCState *gc = &G(L)->gc;
    for (uint32_t n = bytes / 64 + 1; n > 0 && nl_unlikely(gc->total >= gc->threshold); n--) {
        lj_gc_step(L);
    }
}

int nl_unpack_plain(lua_State *L, const nl_packet *m, const unsigned char *p, int n)
{
    nl_lctx *lc = nl_lctx_of(L);
    collect(L, m->body.len);
    GCtab *strings = strings_of(L, lc);
    if (nl_unlikely(!strings) && m->body.kind == NL_PACKED_TABLES) {
        lua_createtable(L, STRINGS - 1, 0);
        lc->strings = luaL_ref(L, LUA_REGISTRYINDEX);
        strings = strings_of(L, lc);
    }
    for (; n > 0; n--) {
        p = get(L, strings, p, L->top);
        nl_lua_pushed(L);
    }
    return m->body.nvalues;
}

/*
 * pack.c - the serialiser; see pack.h, and pack_impl.h for the bytes
 *
 * What is here takes every kind of value, by the public API of Lua, and names what it refuses; most
 * messages go the short way of pack_plain.c instead.  Nothing called while packing raises: refusals
 * come back as a result, the builder is freed, and only then is the error raised.
 */
#include "lua/msg/pack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "lua/msg/bufobj.h"
#include "lua/msg/pack_impl.h"

typedef struct buf_record {
    nl_buf view;   /* with a reference of the message's own */
    uint32_t prev; /* the one before, + 1 */
} buf_record;

#define LUA_TCDATA_ 10 /* lua_type of a cdata; LuaJIT's headers do not name it */
#define INLINE_SIZE 512

/* --- the builder ------------------------------------------------------------------------------ */

typedef struct builder {
    lua_State *L;
    unsigned char *p; /* data; the heap block has room for the message's head in front */
    uint32_t len, cap;
    bool heap;
    uint32_t buf_last; /* of the message to be, as in nl_packed */
    uint8_t kind;
    nl_seen seen;
    int depth;
    /*
     * Why it was refused: where, grown backwards from the end as the recursion returns, and what.
     */
    char path[256];
    size_t path_at;
    bool cut; /* outer keys were left out of it */
    char what[96];
    unsigned char inside[INLINE_SIZE];
} builder;

static bool reserve(builder *b, size_t n)
{
    if (nl_likely(n <= b->cap - b->len)) {
        return true;
    }
    size_t cap = (size_t)b->cap * 2;
    while (cap - b->len < n) {
        cap *= 2;
    }
    if (cap > NL_BUF_MAX) {
        snprintf(b->what, sizeof b->what, "makes the message longer than %u bytes", NL_BUF_MAX);
        return false;
    }
    unsigned char *block = nl_try_malloc(DATA_AT + cap);
    if (!block) {
        snprintf(b->what, sizeof b->what, "needs more memory than there is");
        return false;
    }
    memcpy(block + DATA_AT, b->p, b->len);
    if (b->heap) {
        nl_free(b->p - DATA_AT);
    }
    b->p = block + DATA_AT;
    b->cap = (uint32_t)cap;
    b->heap = true;
    return true;
}

/* Tag and n bytes behind it; room was reserved. */
static inline void put(builder *b, int tag, const void *v, size_t n)
{
    b->p[b->len] = (unsigned char)tag;
    memcpy(b->p + b->len + 1, v, n);
    b->len += (uint32_t)(1 + n);
}

static void release_buffers(unsigned char *data, uint32_t last)
{
    while (last) {
        buf_record r;
        memcpy(&r, data + last - 1, sizeof r);
        nl_buf_release(&r.view);
        last = r.prev;
    }
}

static void builder_fini(builder *b)
{
    if (b->heap) {
        nl_free(b->p - DATA_AT);
    }
    nl_seen_fini(&b->seen);
}

/* --- refusals --------------------------------------------------------------------------------- */

/* Bytes at the path's front that are kept free for the argument's number and what was left out. */
#define PATH_FRONT 24

static void prepend(builder *b, const char *s, size_t n)
{
    b->path_at -= n;
    memcpy(b->path + b->path_at, s, n);
}

/* The key at idx, as it would be written behind a table. */
static void prepend_key(builder *b, int idx)
{
    lua_State *L = b->L;
    char buf[80];
    int n;
    if (lua_type(L, idx) == LUA_TSTRING) {
        size_t len;
        const char *s = lua_tolstring(L, idx, &len);
        bool name = len > 0 && len < 60 && !(s[0] >= '0' && s[0] <= '9');
        for (size_t i = 0; name && i < len; i++) {
            name = s[i] == '_' || (s[i] >= '0' && s[i] <= '9') || ((s[i] | 32) >= 'a' && (s[i] | 32) <= 'z');
        }
        n = name ? snprintf(buf, sizeof buf, ".%s", s) : snprintf(buf, sizeof buf, "[\"%.60s\"]", s);
    } else if (lua_type(L, idx) == LUA_TNUMBER) {
        n = snprintf(buf, sizeof buf, "[%.14g]", lua_tonumber(L, idx));
    } else if (lua_type(L, idx) == LUA_TBOOLEAN) {
        n = snprintf(buf, sizeof buf, "[%s]", lua_toboolean(L, idx) ? "true" : "false");
    } else {
        n = snprintf(buf, sizeof buf, "[a %s]", luaL_typename(L, idx));
    }
    size_t len = (size_t)n < sizeof buf ? (size_t)n : sizeof buf - 1;
    if (b->cut || b->path_at - PATH_FRONT < len) {
        b->cut = true; /* too long a path keeps its innermost end */
    } else {
        prepend(b, buf, len);
    }
}

static bool refuse(builder *b, const char *what)
{
    snprintf(b->what, sizeof b->what, "%s", what);
    return false;
}

static bool refuse_type(builder *b, int idx, const char *role)
{
    const char *type = luaL_typename(b->L, idx);
    const char *article = strchr("aeio", type[0]) ? "an" : "a";
    snprintf(b->what, sizeof b->what, "%s%s %s", role, article, type);
    return false;
}

/* --- packing ---------------------------------------------------------------------------------- */

static bool pack_value(builder *b, int idx);

static bool pack_key(builder *b, int idx)
{
    switch (lua_type(b->L, idx)) {
    case LUA_TSTRING:
    case LUA_TNUMBER:
    case LUA_TBOOLEAN:
        return pack_value(b, idx);
    default:
        return refuse_type(b, idx, "has as key ");
    }
}

static bool pack_table(builder *b, int idx)
{
    lua_State *L = b->L;
    const void *t = lua_topointer(L, idx);
    int64_t known = nl_seen_find(&b->seen, t);
    if (known >= 0) {
        if (b->seen.all[known].open) {
            return refuse(b, "is part of a cycle");
        }
        uint32_t ref = (uint32_t)known;
        b->kind = NL_PACKED_SHARES;
        if (!reserve(b, 1 + sizeof ref)) {
            return false;
        }
        put(b, T_REF, &ref, sizeof ref);
        return true;
    }
    if (b->depth == NL_PACK_DEPTH) {
        return refuse(b, "is nested more than 100 levels deep");
    }
    if (!lua_checkstack(L, 6) || !reserve(b, 9)) {
        return b->what[0] ? false : refuse(b, "needs more stack than there is");
    }
    uint32_t me = nl_seen_add(&b->seen, t);
    uint32_t at = b->len, count[2] = {0, 0};
    put(b, T_TABLE, count, sizeof count);
    b->depth++;
    int key = lua_gettop(L) + 1, value = key + 1;
    bool list = true;
    lua_pushnil(L);
    while (lua_next(L, idx)) {
        list = list && lua_type(L, key) == LUA_TNUMBER && lua_tonumber(L, key) == (lua_Number)count[0] + 1;
        count[list ? 0 : 1]++;
        if ((!list && !pack_key(b, key)) || !pack_value(b, value)) {
            prepend_key(b, key);
            lua_settop(L, key - 1);
            return false;
        }
        lua_settop(L, key);
    }
    b->depth--;
    b->seen.all[me].open = false;
    memcpy(b->p + at + 1, count, sizeof count);
    return true;
}

static bool pack_buffer(builder *b, const nl_buf *v)
{
    if (!reserve(b, 1 + sizeof(buf_record))) {
        return false;
    }
    buf_record r = {.view = nl_buf_share(v), .prev = b->buf_last};
    b->buf_last = b->len + 2;
    put(b, T_BUFFER, &r, sizeof r);
    return true;
}

static bool pack_cdata(builder *b, int idx)
{
    unsigned char v[NL_CDATA_BYTES];
    if (!nl_cdata_pack(b->L, idx, v)) {
        return refuse(b, "is a cdata that is not a number");
    }
    if (!reserve(b, 1 + sizeof v)) {
        return false;
    }
    put(b, T_CDATA, v, sizeof v);
    return true;
}

static bool pack_tag(builder *b, int tag)
{
    if (!reserve(b, 1)) {
        return false;
    }
    b->p[b->len++] = (unsigned char)tag;
    return true;
}

static bool pack_value(builder *b, int idx)
{
    lua_State *L = b->L;
    switch (lua_type(L, idx)) {
    case LUA_TNIL:
    case LUA_TNONE:
        return pack_tag(b, T_NIL);
    case LUA_TBOOLEAN:
        return pack_tag(b, lua_toboolean(L, idx) ? T_TRUE : T_FALSE);
    case LUA_TLIGHTUSERDATA:
        return lua_touserdata(L, idx) ? refuse_type(b, idx, "is ") : pack_tag(b, T_NULL);
    case LUA_TNUMBER: {
        lua_Number n = lua_tonumber(L, idx);
        if (!reserve(b, 9)) {
            return false;
        }
        put(b, T_NUMBER, &n, sizeof n);
        return true;
    }
    case LUA_TSTRING: {
        size_t n;
        const char *s = lua_tolstring(L, idx, &n);
        size_t padded = PADDED(n);
        if (!reserve(b, padded + 5)) {
            return false;
        }
        if (n < 256) {
            b->p[b->len] = T_STR8;
            b->p[b->len + 1] = (unsigned char)n;
            b->len += 2;
        } else {
            uint32_t n32 = (uint32_t)n;
            put(b, T_STR32, &n32, sizeof n32);
        }
        memcpy(b->p + b->len, s, n);
        memset(b->p + b->len + n, 0, padded - n);
        b->len += (uint32_t)padded;
        return true;
    }
    case LUA_TTABLE:
        return pack_table(b, idx);
    case LUA_TUSERDATA: {
        const nl_buf *v = nl_buffer_test(L, idx);
        return v ? pack_buffer(b, v) : refuse_type(b, idx, "is ");
    }
    case LUA_TCDATA_:
        return pack_cdata(b, idx);
    default:
        return refuse_type(b, idx, "is ");
    }
}

static int raise(builder *b, int argument)
{
    char text[sizeof b->path + sizeof b->what + 32];
    snprintf(text, sizeof text, "[%d]%.*s %s", argument, (int)(sizeof b->path - b->path_at),
             b->path + b->path_at, b->what);
    lua_State *L = b->L;
    release_buffers(b->p, b->buf_last);
    builder_fini(b);
    return luaL_error(L, "ETRANSTYPE: %s", text);
}

nl_packet *nl_pack_any(lua_State *L, int first, int last, int argbase, nl_packet **spare)
{
    builder b;
    b.L = L;
    b.p = b.inside;
    b.len = 0;
    b.cap = INLINE_SIZE;
    b.heap = false;
    b.buf_last = 0;
    b.kind = NL_PACKED_ANY;
    nl_seen_init(&b.seen);
    b.depth = 0;
    b.path_at = sizeof b.path;
    b.cut = false;
    b.what[0] = 0;
    if (nl_unlikely(last - first >= NL_PACK_VALUES)) {
        luaL_error(L, "too many values for one message (at most %d)", NL_PACK_VALUES);
    }
    for (int i = first; i <= last; i++) {
        if (nl_unlikely(!pack_value(&b, i))) {
            raise(&b, i - first + argbase);
        }
    }
    /*
     * Only now: what runs Lua to look at a cdata may run a hook or a finalizer of the script, and
     * those may send.
     */
    nl_packet *m, *old = *spare;
    *spare = NULL;
    if (old && b.len <= old->body.cap) {
        release_buffers(old->body.data, old->body.buf_last);
        m = old;
        old = NULL;
        memcpy(m->body.data, b.p, b.len);
    } else if (b.heap && DATA_AT + b.cap > NL_POOL_MAX) {
        m = (nl_packet *)(void *)(b.p - DATA_AT);
        m->body.cap = b.cap;
        b.heap = false; /* the message's now */
    } else {
        uint32_t room = b.len < SMALL_ROOM ? SMALL_ROOM : b.len;
        m = nl_pool_alloc(DATA_AT + room);
        m->body.cap = room;
        memcpy(m->body.data, b.p, b.len);
    }
    m->body.len = b.len;
    m->body.buf_last = b.buf_last;
    m->body.nvalues = (uint16_t)(last < first ? 0 : last - first + 1);
    m->body.kind = b.kind;
    builder_fini(&b);
    if (old) {
        nl_packet_free(old);
    }
    return m;
}

/* What is not numbers only. */
#if NL_LUAJIT_INSIDE
#define pack_rest nl_pack_plain
#else
static nl_packet *pack_rest(lua_State *L, int first, int last, int argbase, nl_packet **spare, nl_packet *m)
{
    if (m && m != *spare) {
        nl_packet_drop(m);
    }
    return nl_pack_any(L, first, last, argbase, spare);
}
#endif

/* Most messages are a few numbers: these are written here, and all else is a tail call away. */
nl_packet *nl_packet_pack(lua_State *L, int first, int last, int argbase, nl_packet **spare)
{
    nl_packet *m = *spare;
    if (nl_unlikely(last - first >= NL_PACK_VALUES || (m && m->body.buf_last))) {
        return nl_pack_any(L, first, last, argbase,
                           spare); /* which complains, or gives up the spare's buffers */
    }
    if (!m) {
        m = nl_pool_try(DATA_AT + SMALL_ROOM);
        if (nl_unlikely(!m)) {
            return pack_rest(L, first, last, argbase, spare, NULL);
        }
        m->body.cap = SMALL_ROOM;
    }
    unsigned char *p = m->body.data;
    const unsigned char *end = p + m->body.cap;
    for (int i = first; i <= last; i++, p += 9) {
        lua_Number v;
        if (nl_unlikely(!nl_lua_number(L, i, &v) || end - p < 9)) {
            return pack_rest(L, first, last, argbase, spare, m);
        }
        *p = T_NUMBER;
        memcpy(p + 1, &v, sizeof v);
    }
    m->body.len = (uint32_t)(p - m->body.data);
    m->body.buf_last = 0;
    m->body.nvalues = (uint16_t)(last < first ? 0 : last - first + 1);
    m->body.kind = NL_PACKED_PLAIN;
    *spare = NULL;
    return m;
}

void nl_packet_free(nl_packet *m)
{
    release_buffers(m->body.data, m->body.buf_last);
    nl_packet_drop(m);
}

/* --- unpacking -------------------------------------------------------------------------------- */

typedef struct reader {
    lua_State *L;
    const unsigned char *p;
    int seen; /* stack index of the list of tables made so far, 0: nobody will ask */
    uint32_t ntables;
    bool failed; /* the stack is full: what follows is nil */
} reader;

static inline uint32_t get32(reader *r)
{
    uint32_t v;
    memcpy(&v, r->p, sizeof v);
    r->p += sizeof v;
    return v;
}

static void unpack_value(reader *r);

static void unpack_table(reader *r)
{
    lua_State *L = r->L;
    uint32_t list = get32(r), pairs = get32(r);
    /* The one place that is used here was reserved by the caller. */
    if (nl_unlikely(!lua_checkstack(L, 4))) {
        r->failed = true;
        lua_pushnil(L);
        return;
    }
    lua_createtable(L, (int)list, (int)pairs);
    if (r->seen) {
        lua_pushvalue(L, -1);
        lua_rawseti(L, r->seen, (int)++r->ntables);
    }
    for (uint32_t i = 1; i <= list && !r->failed; i++) {
        unpack_value(r);
        lua_rawseti(L, -2, (int)i);
    }
    for (uint32_t i = 0; i < pairs && !r->failed; i++) {
        unpack_value(r);
        unpack_value(r);
        if (nl_unlikely(lua_isnil(L, -2))) {
            lua_pop(L, 2);
            break; /* failed in the key */
        }
        lua_rawset(L, -3);
    }
}

static void unpack_value(reader *r)
{
    lua_State *L = r->L;
    size_t n;
    if (nl_unlikely(r->failed)) {
        nl_lua_pushnil(L);
        return;
    }
    switch (*r->p++) {
    case T_NIL:
        nl_lua_pushnil(L);
        break;
    case T_FALSE:
        nl_lua_pushboolean(L, 0);
        break;
    case T_TRUE:
        nl_lua_pushboolean(L, 1);
        break;
    case T_NUMBER: {
        lua_Number v;
        memcpy(&v, r->p, sizeof v);
        r->p += sizeof v;
        nl_lua_pushnumber(L, v);
        break;
    }
    case T_STR8:
        n = *r->p++;
        lua_pushlstring(L, (const char *)r->p, n);
        r->p += PADDED(n);
        break;
    case T_STR32:
        n = get32(r);
        lua_pushlstring(L, (const char *)r->p, n);
        r->p += PADDED(n);
        break;
    case T_TABLE:
        unpack_table(r);
        break;
    case T_REF:
        lua_rawgeti(L, r->seen, (int)get32(r) + 1);
        break;
    case T_BUFFER: {
        buf_record rec;
        memcpy(&rec, r->p, sizeof rec);
        r->p += sizeof rec;
        nl_buf mine = nl_buf_share(&rec.view);
        nl_buffer_push_buf(L, &mine);
        break;
    }
    case T_CDATA:
        r->failed = !nl_cdata_push(r->L, r->p);
        r->p += NL_CDATA_BYTES;
        break;
    case T_NULL:
        lua_pushlightuserdata(r->L, NULL);
        break;
    default:
        nl_assert(false, "a message holds what pack.c wrote");
    }
}

static int unpack_slow(lua_State *L, const nl_packet *m)
{
    int n = m->body.nvalues;
    if (!lua_checkstack(L, n + 8)) {
        nl_log(nl_lctx_of(L)->name,
               "a message of %d values is delivered empty: no room on the receiver's stack", n);
        return 0;
    }
#if NL_LUAJIT_INSIDE
    if (m->body.kind <= NL_PACKED_TABLES) {
        return nl_unpack_plain(L, m, m->body.data, n);
    }
#endif
    reader r = {.L = L, .p = m->body.data};
    if (m->body.kind == NL_PACKED_SHARES) {
        lua_createtable(L, 8, 0);
        r.seen = lua_gettop(L);
    }
    for (int i = 0; i < n; i++) {
        unpack_value(&r);
    }
    if (r.seen) {
        lua_remove(L, r.seen);
    }
    if (nl_unlikely(r.failed)) {
        nl_log(nl_lctx_of(L)->name, "a message is delivered cut off: no room on the receiver's stack");
    }
    return n;
}

/* The same division of labour: numbers here. */
int nl_packet_unpack_any(lua_State *L, const nl_packet *m)
{
    int n = m->body.nvalues;
    if (nl_unlikely(m->body.kind > NL_PACKED_TABLES || !nl_lua_hasroom(L, n + 8))) {
        return unpack_slow(L, m);
    }
    const unsigned char *p = m->body.data;
    for (int left = n; left > 0; left--, p += 9) {
#if NL_LUAJIT_INSIDE
        if (nl_unlikely(*p != T_NUMBER)) {
            return nl_unpack_plain(L, m, p, left);
        }
#endif
        lua_Number v;
        memcpy(&v, p + 1, sizeof v);
        nl_lua_putnumber(L, v);
    }
    return n;
}

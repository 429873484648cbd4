/*
 * lib_buffer.c - the module `buffer`: byte arrays outside the Lua heap.
 *
 * A buffer has one of two forms.  Small ones, which most received frames are, hold their
 * bytes inside their userdata and have a metatable without __gc: nothing but the userdata is
 * made and collected.  One that grows, or that somebody wants to share, moves its bytes to a
 * reference-counted block (net/buffer.h) and takes the metatable with __gc.  There is no way
 * back; scripts cannot tell the two apart.
 *
 * LuaJIT's collector sees only the userdata.  So that garbage buffers with large blocks do
 * not pile up, the blocks' sizes are told to it as steps of collection (pay).
 */
#include "base/alloc.h"
#include "lua/lctx.h"

#include <math.h>
#include <string.h>

/* Room of a buffer made empty: most are filled by and by. */
#define SMALL_ROOM 64

typedef struct lbuf {
    bool full; /* the second form */
    bool released;
    uint16_t room, off, len; /* of the first form: len bytes from in[off] on, of room */
    union {
        unsigned char in[1]; /* in truth room bytes, or what the second form takes, if that is more */
        struct {
            nl_buf v;
            uint32_t charged; /* what it has added to the context's c_bytes */
        };
    };
} lbuf;

/* --- the collector ----------------------------------------------------------------- */

#define DEBT_STEP (256u << 10)
/* Blocks are collected after about this much of them has been made, or as much as the Lua heap is, if that is larger. */
#define DEBT_CYCLE_KB 4096

static void pay(lua_State *L, nl_lctx *lc)
{
    if (nl_likely(lc->io.debt < DEBT_STEP)) {
        return;
    }
    uint64_t kb = lc->io.debt >> 10, heap = (uint64_t)lua_gc(L, LUA_GCCOUNT, 0);
    lc->io.debt = 0;
    /* A step of n KB does the work that n KB of new Lua objects would have done. */
    if (heap < DEBT_CYCLE_KB) {
        kb = kb * heap / DEBT_CYCLE_KB;
    }
    lua_gc(L, LUA_GCSTEP, kb < (1u << 20) ? (int)kb : 1 << 20);
}

/* After b's block has changed: the context's books. */
static void account(nl_lctx *lc, lbuf *b)
{
    if (!b->full) {
        return;
    }
    uint32_t cap = b->v.block ? b->v.block->cap : 0;
    if (cap > b->charged) {
        lc->io.debt += cap - b->charged;
    }
    lc->c_bytes += cap;
    lc->c_bytes -= b->charged;
    b->charged = cap;
}

/* --- objects ----------------------------------------------------------------------- */

/* The module is opened on first use. */
static void open_module(lua_State *L)
{
    luaopen_nl_buffer(L);
    lua_pop(L, 1);
}

/* Pushes an empty buffer with that much room inside. */
static inline lbuf *push_small(lua_State *L, nl_lctx *lc, size_t room)
{
    if (nl_unlikely(!lc->io.buf_full)) {
        open_module(L);
    }
    size_t size = offsetof(lbuf, in) + room;
    lbuf *b = nl_lua_newuserdata(L, size < sizeof(lbuf) ? sizeof(lbuf) : size, lc->io.buf_small_ref);
    b->full = b->released = false;
    b->room = (uint16_t)room;
    b->off = b->len = 0;
    return b;
}

/* Pushes an empty buffer that is to have a block. */
static lbuf *push_full(lua_State *L, nl_lctx *lc)
{
    if (nl_unlikely(!lc->io.buf_full)) {
        open_module(L);
    }
    lbuf *b = nl_lua_newuserdata(L, sizeof(lbuf), lc->io.buf_full_ref);
    memset(b, 0, sizeof(*b));
    b->full = true;
    return b;
}

static inline lbuf *test(lua_State *L, const nl_lctx *lc, int idx)
{
    void *p = nl_lua_testudata(L, idx, lc->io.buf_small);
    return p ? p : nl_lua_testudata(L, idx, lc->io.buf_full);
}

static lbuf *check(lua_State *L, int arg)
{
    lbuf *b = test(L, nl_lctx_of(L), arg);
    if (nl_unlikely(!b)) {
        luaL_typerror(L, arg, "buffer");
    }
    return b;
}

static inline uint32_t length(const lbuf *b)
{
    return b->full ? b->v.len : b->len;
}

static inline const unsigned char *bytes(const lbuf *b)
{
    return b->full ? nl_buf_data(&b->v) : b->in + b->off;
}

/* Moves a small buffer's bytes to a block of their own.  0 or -ENOMEM. */
static int to_block(lua_State *L, int idx, lbuf *b)
{
    nl_buf v = nl_buf_empty();
    if (nl_buf_append(&v, bytes(b), b->len) < 0) {
        return -ENOMEM;
    }
    b->v = v;
    b->charged = 0;
    b->full = true;
    lua_pushvalue(L, idx);
    lua_rawgeti(L, LUA_REGISTRYINDEX, nl_lctx_of(L)->io.buf_full_ref);
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
    account(nl_lctx_of(L), b);
    return 0;
}

static int no_memory(lua_State *L)
{
    return luaL_error(L, "not enough memory for the buffer");
}

/* --- for the other libraries ---------------------------------------------------------- */

void nl_buffer_push(lua_State *L, nl_lctx *lc, const void *data, size_t n)
{
    if (nl_likely(n <= NL_BUFFER_SMALL)) {
        lbuf *b = push_small(L, lc, n);
        memcpy(b->in, data, n);
        b->len = (uint16_t)n;
        return;
    }
    lbuf *b = push_full(L, lc);
    if (nl_buf_append(&b->v, data, n) < 0) {
        no_memory(L);
    }
    account(lc, b);
    pay(L, lc);
}

void nl_buffer_push_buf(lua_State *L, nl_buf *b)
{
    nl_lctx *lc = nl_lctx_of(L);
    nl_buf_release(&lc->io.pushing); /* left over only if a push below has raised once */
    lc->io.pushing = *b;
    *b = nl_buf_empty();
    uint32_t n = lc->io.pushing.len;
    if (n <= NL_BUFFER_SMALL) {
        lbuf *o = push_small(L, lc, n);
        memcpy(o->in, nl_buf_data(&lc->io.pushing), n);
        o->len = (uint16_t)n;
        nl_buf_release(&lc->io.pushing);
        return;
    }
    lbuf *o = push_full(L, lc);
    o->v = lc->io.pushing;
    lc->io.pushing = nl_buf_empty();
    account(lc, o);
    pay(L, lc);
}

const nl_buf *nl_buffer_test(lua_State *L, int idx)
{
    static const nl_buf empty;
    lbuf *b = test(L, nl_lctx_of(L), idx);
    if (!b) {
        return NULL;
    }
    if (!b->full) {
        if (b->len == 0) {
            return &empty;
        }
        if (to_block(L, idx, b) < 0) {
            no_memory(L);
        }
    }
    return &b->v;
}

const char *nl_check_bytes(lua_State *L, int arg, size_t *len, nl_buf **buf)
{
    lbuf *b = test(L, nl_lctx_of(L), arg);
    if (b) {
        *len = length(b);
        *buf = b->full && b->v.block ? &b->v : NULL;
        return (const char *)bytes(b);
    }
    *buf = NULL;
    const char *s = nl_lua_tostr(L, arg, len);
    if (nl_unlikely(!s)) {
        s = lua_tolstring(L, arg, len); /* numbers too, as everywhere in Lua */
        if (!s) {
            luaL_typerror(L, arg, "string or buffer");
        }
    }
    return s;
}

/* --- the functions --------------------------------------------------------------------- */

/* A number of bytes: not negative, not NaN; a fraction is cut off. */
static size_t check_size(lua_State *L, int arg)
{
    lua_Number n = luaL_checknumber(L, arg);
    luaL_argcheck(L, n >= 0, arg, "number of bytes expected");
    return n < (lua_Number)((size_t)1 << 40) ? (size_t)n : (size_t)1 << 40;
}

/* buffer.new([string_or_buffer]), buffer.new(capacity[, string_or_buffer]) */
static int buffer_new(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    size_t cap = 0, n = 0;
    int arg = 1;
    if (lua_type(L, 1) == LUA_TNUMBER) {
        cap = check_size(L, 1);
        luaL_argcheck(L, cap <= NL_BUF_MAX, 1, "capacity too large");
        arg = 2;
    }
    const char *p = "";
    nl_buf *src = NULL;
    if (!lua_isnoneornil(L, arg)) {
        p = nl_check_bytes(L, arg, &n, &src);
    }
    size_t need = cap > n ? cap : n;
    bool small = need <= NL_BUFFER_SMALL;
    lbuf *b = small ? push_small(L, lc, need ? need : SMALL_ROOM) : push_full(L, lc);
    if (n) { /* making it may have run a finalizer of the script, which may have changed the source */
        p = nl_check_bytes(L, arg, &n, &src);
        n = n < need ? n : need;
    }
    if (small) {
        memcpy(b->in, p, n);
        b->len = (uint16_t)n;
        return 1;
    }
    if (src && cap <= n) {
        b->v = nl_buf_share(src);
    } else if (nl_buf_reserve(&b->v, need) < 0 || nl_buf_append(&b->v, p, n) < 0) {
        return no_memory(L);
    }
    account(lc, b);
    pay(L, lc);
    return 1;
}

static int buffer_append(lua_State *L)
{
    lbuf *b = check(L, 1);
    size_t n;
    nl_buf *src;
    const unsigned char *p = (const unsigned char *)nl_check_bytes(L, 2, &n, &src);
    bool ok = !b->released;
    if (ok && !b->full) {
        bool self = p == b->in + b->off;
        if (n <= (size_t)b->room - b->len) {
            if (n > (size_t)b->room - b->len - b->off) {
                memmove(b->in, b->in + b->off, b->len);
                b->off = 0;
                p = self ? b->in : p;
            }
            memcpy(b->in + b->off + b->len, p, n);
            b->len = (uint16_t)(b->len + n);
            lua_pushboolean(L, 1);
            return 1;
        }
        ok = to_block(L, 1, b) == 0;
        p = self && ok ? bytes(b) : p;
    }
    ok = ok && nl_buf_append(&b->v, p, n) == 0;
    nl_lctx *lc = nl_lctx_of(L);
    account(lc, b);
    lua_pushboolean(L, ok);
    pay(L, lc);
    return 1;
}

static void empty_out(nl_lctx *lc, lbuf *b)
{
    if (b->full) {
        nl_buf_clear(&b->v);
        account(lc, b);
    } else {
        b->off = b->len = 0;
    }
}

static int buffer_split(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    lbuf *b = check(L, 1);
    size_t n = lua_isnoneornil(L, 2) ? length(b) : check_size(L, 2);
    n = n < length(b) ? n : length(b);
    if (n <= NL_BUFFER_SMALL) {
        lbuf *front = push_small(L, lc, n);
        n = n < length(b) ? n : length(b); /* making it may have run a finalizer of the script */
        memcpy(front->in, bytes(b), n);
        front->len = (uint16_t)n;
        if (b->full) {
            b->v.off += (uint32_t)n;
            b->v.len -= (uint32_t)n;
        } else {
            b->off = (uint16_t)(b->off + n);
            b->len = (uint16_t)(b->len - n);
        }
        if (length(b) == 0) {
            empty_out(lc, b);
        }
        return 1;
    }
    lbuf *front = push_full(L, lc);
    front->v = nl_buf_split(&b->v, n);
    account(lc, b);
    account(lc, front);
    pay(L, lc);
    return 1;
}

static int buffer_clear(lua_State *L)
{
    empty_out(nl_lctx_of(L), check(L, 1));
    return 0;
}

static int buffer_length(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)length(check(L, 1)));
    return 1;
}

static int buffer_unfill(lua_State *L)
{
    lbuf *b = check(L, 1);
    size_t n = b->full ? nl_buf_unfill(&b->v) : (size_t)b->room - b->len;
    lua_pushinteger(L, b->released ? 0 : (lua_Integer)n);
    return 1;
}

/* buffer.find(b, string_or_buffer[, init]): as string.find with plain, but only the position. */
static int buffer_find(lua_State *L)
{
    lbuf *b = check(L, 1);
    size_t m;
    nl_buf *ignored;
    const char *what = nl_check_bytes(L, 2, &m, &ignored);
    lua_Number init = luaL_optnumber(L, 3, 1);
    luaL_argcheck(L, init == init, 3, "position expected");
    double from = init < 0 ? ceil(init) + length(b) : floor(init) - 1;
    from = from < 0 ? 0 : from;
    int64_t at = from > length(b) ? -1 : nl_bytes_find(bytes(b), length(b), what, m, (size_t)from);
    if (at < 0) {
        lua_pushnil(L);
    } else {
        lua_pushinteger(L, (lua_Integer)(at + 1));
    }
    return 1;
}

/* Pushes b's bytes as a string.  That may run finalizers of the script, which may change b. */
static void push_string(lua_State *L, const lbuf *b)
{
    if (b->full) {
        nl_buf held =
            nl_buf_share(&b->v); /* lost if there is no memory for the string, but then the context ends */
        lua_pushlstring(L, (const char *)nl_buf_data(&held), held.len);
        nl_buf_release(&held);
    } else {
        char copy[NL_BUFFER_SMALL];
        memcpy(copy, bytes(b), b->len);
        lua_pushlstring(L, copy, b->len);
    }
}

static int buffer_tostring(lua_State *L)
{
    push_string(L, check(L, 1));
    return 1;
}

static int buffer_valid(lua_State *L)
{
    lua_pushboolean(L, !check(L, 1)->released);
    return 1;
}

static int buffer_release(lua_State *L)
{
    lbuf *b = check(L, 1);
    if (b->full) {
        nl_buf_release(&b->v);
        account(nl_lctx_of(L), b);
    } else {
        b->room = b->off = b->len = 0;
    }
    b->released = true;
    return 0;
}

/* a .. b where either is a buffer: a string. */
static int buffer_concat(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    for (int arg = 1; arg <= 2; arg++) {
        const lbuf *b = test(L, lc, arg);
        if (b) {
            push_string(L, b);
        } else if (lua_isstring(L, arg)) {
            lua_pushvalue(L, arg);
        } else {
            return luaL_typerror(L, arg, "string or buffer");
        }
    }
    lua_concat(L, 2);
    return 1;
}

static int buffer_gc(lua_State *L)
{
    return test(L, nl_lctx_of(L), 1) ? buffer_release(L) : 0;
}

static const luaL_Reg functions[] = {
    {"new", buffer_new},
    {"append", buffer_append},
    {"split", buffer_split},
    {"clear", buffer_clear},
    {"length", buffer_length},
    {"unfill", buffer_unfill},
    {"find", buffer_find},
    {"tostring", buffer_tostring},
    {"valid", buffer_valid},
    {"release", buffer_release},
    {NULL, NULL},
};

static const luaL_Reg metamethods[] = {
    {"__len", buffer_length},
    {"__tostring", buffer_tostring},
    {"__concat", buffer_concat},
    {NULL, NULL},
};

/* Makes a metatable whose __index is the table on top; keeps it in the registry. */
static const void *make_metatable(lua_State *L, int *ref, bool gc)
{
    lua_createtable(L, 0, 8);
    luaL_register(L, NULL, metamethods);
    if (gc) {
        lua_pushcfunction(L, buffer_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, "__index");
    lua_pushliteral(L, "buffer");
    lua_setfield(L, -2, "__name");
    lua_pushliteral(L, "buffer"); /* what getmetatable answers: scripts leave ours alone */
    lua_setfield(L, -2, "__metatable");
    const void *mt = lua_topointer(L, -1);
    *ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return mt;
}

/* May be called more than once: by the first object, from a message, before the script has asked for the module. */
int luaopen_nl_buffer(lua_State *L)
{
    nl_lio *io = &nl_lctx_of(L)->io;
    if (io->buf_full) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, io->buf_full_ref);
        lua_getfield(L, -1, "__index");
        lua_remove(L, -2);
        return 1;
    }
    lua_createtable(L, 0, (int)nl_countof(functions));
    luaL_register(L, NULL, functions);
    io->buf_small = make_metatable(L, &io->buf_small_ref, false);
    io->buf_full = make_metatable(L, &io->buf_full_ref, true);
    return 1;
}

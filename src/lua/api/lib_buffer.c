/* lib_buffer.c - the module `buffer`; the objects are in msg/bufobj.h */
#include <math.h>
#include <string.h>

#include "lua/api/modules.h"
#include "lua/msg/bufobj.h"

/* Room of a buffer made empty: most are filled by and by. */
#define SMALL_ROOM 64

static nl_bufobj *check(lua_State *L, int arg)
{
    nl_bufobj *b = nl_bufobj_test(L, nl_lctx_of(L), arg);
    if (nl_unlikely(!b)) {
        luaL_typerror(L, arg, "buffer");
    }
    return b;
}

/* --- the functions ---------------------------------------------------------------------------- */

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
    nl_bufobj *b =
        small ? nl_bufobj_push_small(L, lc, need ? need : SMALL_ROOM) : nl_bufobj_push_block(L, lc);
    /* making it may have run a finalizer of the script, which may have changed the source */
    if (n) {
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
        return nl_bufobj_no_memory(L);
    }
    nl_bufobj_account(lc, b);
    nl_bufobj_pay(L, lc);
    return 1;
}

static int buffer_append(lua_State *L)
{
    nl_bufobj *b = check(L, 1);
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
        ok = nl_bufobj_to_block(L, 1, b) == 0;
        p = self && ok ? nl_bufobj_bytes(b) : p;
    }
    ok = ok && nl_buf_append(&b->v, p, n) == 0;
    nl_lctx *lc = nl_lctx_of(L);
    nl_bufobj_account(lc, b);
    lua_pushboolean(L, ok);
    nl_bufobj_pay(L, lc);
    return 1;
}

static void empty_out(nl_lctx *lc, nl_bufobj *b)
{
    if (b->full) {
        nl_buf_clear(&b->v);
        nl_bufobj_account(lc, b);
    } else {
        b->off = b->len = 0;
    }
}

static int buffer_split(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    nl_bufobj *b = check(L, 1);
    size_t n = lua_isnoneornil(L, 2) ? nl_bufobj_length(b) : check_size(L, 2);
    n = n < nl_bufobj_length(b) ? n : nl_bufobj_length(b);
    if (n <= NL_BUFFER_SMALL) {
        nl_bufobj *front = nl_bufobj_push_small(L, lc, n);
        n = n < nl_bufobj_length(b)
                ? n
                : nl_bufobj_length(b); /* making it may have run a finalizer of the script */
        memcpy(front->in, nl_bufobj_bytes(b), n);
        front->len = (uint16_t)n;
        if (b->full) {
            b->v.off += (uint32_t)n;
            b->v.len -= (uint32_t)n;
        } else {
            b->off = (uint16_t)(b->off + n);
            b->len = (uint16_t)(b->len - n);
        }
        if (nl_bufobj_length(b) == 0) {
            empty_out(lc, b);
        }
        return 1;
    }
    nl_bufobj *front = nl_bufobj_push_block(L, lc);
    front->v = nl_buf_split(&b->v, n);
    nl_bufobj_account(lc, b);
    nl_bufobj_account(lc, front);
    nl_bufobj_pay(L, lc);
    return 1;
}

static int buffer_clear(lua_State *L)
{
    empty_out(nl_lctx_of(L), check(L, 1));
    return 0;
}

static int buffer_length(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)nl_bufobj_length(check(L, 1)));
    return 1;
}

static int buffer_unfill(lua_State *L)
{
    nl_bufobj *b = check(L, 1);
    size_t n = b->full ? nl_buf_unfill(&b->v) : (size_t)b->room - b->len;
    lua_pushinteger(L, b->released ? 0 : (lua_Integer)n);
    return 1;
}

/* buffer.find(b, string_or_buffer[, init]): as string.find with plain, but only the position. */
static int buffer_find(lua_State *L)
{
    nl_bufobj *b = check(L, 1);
    size_t m;
    nl_buf *ignored;
    const char *what = nl_check_bytes(L, 2, &m, &ignored);
    lua_Number init = luaL_optnumber(L, 3, 1);
    luaL_argcheck(L, init == init, 3, "position expected");
    double from = init < 0 ? ceil(init) + nl_bufobj_length(b) : floor(init) - 1;
    from = from < 0 ? 0 : from;
    int64_t at = from > nl_bufobj_length(b)
                     ? -1
                     : nl_bytes_find(nl_bufobj_bytes(b), nl_bufobj_length(b), what, m, (size_t)from);
    if (at < 0) {
        lua_pushnil(L);
    } else {
        lua_pushinteger(L, (lua_Integer)(at + 1));
    }
    return 1;
}

/* Pushes b's bytes as a string.  That may run finalizers of the script, which may change b. */
static void push_string(lua_State *L, const nl_bufobj *b)
{
    if (b->full) {
        nl_buf held =
            /* lost if there is no memory for the string, but then the context ends */
            nl_buf_share(&b->v);
        lua_pushlstring(L, (const char *)nl_buf_data(&held), held.len);
        nl_buf_release(&held);
    } else {
        char copy[NL_BUFFER_SMALL];
        memcpy(copy, nl_bufobj_bytes(b), b->len);
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
    nl_bufobj *b = check(L, 1);
    if (b->full) {
        nl_buf_release(&b->v);
        nl_bufobj_account(nl_lctx_of(L), b);
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
        const nl_bufobj *b = nl_bufobj_test(L, lc, arg);
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
    return nl_bufobj_test(L, nl_lctx_of(L), 1) ? buffer_release(L) : 0;
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

/*
 * May be called more than once: by the first object, from a message, before the script has asked
 * for the module.
 */
int luaopen_nl_buffer(lua_State *L)
{
    nl_objects *io = &nl_lctx_of(L)->objects;
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

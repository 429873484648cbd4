/* bufobj.c - see bufobj.h */
#include "lua/msg/bufobj.h"

#include <string.h>

#include "base/alloc.h"

/* --- the collector ---------------------------------------------------------------------------- */

#define DEBT_STEP (256u << 10)
/*
 * Blocks are collected after about this much of them has been made, or as much as the Lua heap is,
 * if that is larger.
 */
#define DEBT_CYCLE_KB 4096

void nl_bufobj_pay(lua_State *L, nl_lctx *lc)
{
    if (nl_likely(lc->objects.debt < DEBT_STEP)) {
        return;
    }
    uint64_t kb = lc->objects.debt >> 10, heap = (uint64_t)lua_gc(L, LUA_GCCOUNT, 0);
    lc->objects.debt = 0;
    /* A step of n KB does the work that n KB of new Lua objects would have done. */
    if (heap < DEBT_CYCLE_KB) {
        kb = kb * heap / DEBT_CYCLE_KB;
    }
    lua_gc(L, LUA_GCSTEP, kb < (1u << 20) ? (int)kb : 1 << 20);
}

/* After b's block has changed: the context's books. */
void nl_bufobj_account(nl_lctx *lc, nl_bufobj *b)
{
    if (!b->full) {
        return;
    }
    uint32_t cap = b->v.block ? b->v.block->cap : 0;
    if (cap > b->charged) {
        lc->objects.debt += cap - b->charged;
    }
    lc->c_bytes += cap;
    lc->c_bytes -= b->charged;
    b->charged = cap;
}

/* --- objects ---------------------------------------------------------------------------------- */

static lua_CFunction open_module;

void nl_bufobj_set_opener(lua_CFunction open)
{
    open_module = open;
}

/* The metatables are made on first use. */
static __attribute__((noinline)) void make_metatables(lua_State *L)
{
    open_module(L);
    lua_pop(L, 1);
}

/* Pushes an empty buffer with that much room inside. */
nl_bufobj *nl_bufobj_push_small(lua_State *L, nl_lctx *lc, size_t room)
{
    if (nl_unlikely(!lc->objects.buf_full)) {
        make_metatables(L);
    }
    size_t size = offsetof(nl_bufobj, in) + room;
    nl_bufobj *b =
        nl_lua_newuserdata(L, size < sizeof(nl_bufobj) ? sizeof(nl_bufobj) : size, lc->objects.buf_small_ref);
    b->full = b->released = false;
    b->room = (uint16_t)room;
    b->off = b->len = 0;
    return b;
}

/* Pushes an empty buffer that is to have a block. */
nl_bufobj *nl_bufobj_push_block(lua_State *L, nl_lctx *lc)
{
    if (nl_unlikely(!lc->objects.buf_full)) {
        make_metatables(L);
    }
    nl_bufobj *b = nl_lua_newuserdata(L, sizeof(nl_bufobj), lc->objects.buf_full_ref);
    memset(b, 0, sizeof(*b));
    b->full = true;
    return b;
}

/* Moves a small buffer's bytes to a block of their own.  0 or -ENOMEM. */
int nl_bufobj_to_block(lua_State *L, int idx, nl_bufobj *b)
{
    nl_buf v = nl_buf_empty();
    if (nl_buf_append(&v, nl_bufobj_bytes(b), b->len) < 0) {
        return -ENOMEM;
    }
    b->v = v;
    b->charged = 0;
    b->full = true;
    lua_pushvalue(L, idx);
    lua_rawgeti(L, LUA_REGISTRYINDEX, nl_lctx_of(L)->objects.buf_full_ref);
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
    nl_bufobj_account(nl_lctx_of(L), b);
    return 0;
}

int nl_bufobj_no_memory(lua_State *L)
{
    return luaL_error(L, "not enough memory for the buffer");
}

/* --- for the other libraries ------------------------------------------------------------------ */

void nl_buffer_push(lua_State *L, nl_lctx *lc, const void *data, size_t n)
{
    if (nl_likely(n <= NL_BUFFER_SMALL)) {
        nl_bufobj *b = nl_bufobj_push_small(L, lc, n);
        memcpy(b->in, data, n);
        b->len = (uint16_t)n;
        return;
    }
    nl_bufobj *b = nl_bufobj_push_block(L, lc);
    if (nl_buf_append(&b->v, data, n) < 0) {
        nl_bufobj_no_memory(L);
    }
    nl_bufobj_account(lc, b);
    nl_bufobj_pay(L, lc);
}

void nl_buffer_push_buf(lua_State *L, nl_buf *b)
{
    nl_lctx *lc = nl_lctx_of(L);
    nl_buf_release(&lc->objects.pushing); /* left over only if a push below has raised once */
    lc->objects.pushing = *b;
    *b = nl_buf_empty();
    uint32_t n = lc->objects.pushing.len;
    if (n <= NL_BUFFER_SMALL) {
        nl_bufobj *o = nl_bufobj_push_small(L, lc, n);
        memcpy(o->in, nl_buf_data(&lc->objects.pushing), n);
        o->len = (uint16_t)n;
        nl_buf_release(&lc->objects.pushing);
        return;
    }
    nl_bufobj *o = nl_bufobj_push_block(L, lc);
    o->v = lc->objects.pushing;
    lc->objects.pushing = nl_buf_empty();
    nl_bufobj_account(lc, o);
    nl_bufobj_pay(L, lc);
}

const nl_buf *nl_buffer_test(lua_State *L, int idx)
{
    static const nl_buf empty;
    nl_bufobj *b = nl_bufobj_test(L, nl_lctx_of(L), idx);
    if (!b) {
        return NULL;
    }
    if (!b->full) {
        if (b->len == 0) {
            return &empty;
        }
        if (nl_bufobj_to_block(L, idx, b) < 0) {
            nl_bufobj_no_memory(L);
        }
    }
    return &b->v;
}

const char *nl_check_bytes(lua_State *L, int arg, size_t *len, nl_buf **buf)
{
    nl_bufobj *b = nl_bufobj_test(L, nl_lctx_of(L), arg);
    if (b) {
        *len = nl_bufobj_length(b);
        *buf = b->full && b->v.block ? &b->v : NULL;
        return (const char *)nl_bufobj_bytes(b);
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

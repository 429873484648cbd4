/* state.c - see state.h */
#include "lua/vm/state.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/os.h"
#include "lua/vm/jit.h"
#include "sched/shutdown.h"

nl_state *nl_state_of_slow(lua_State *L)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, NL_STATE_SELF);
    nl_state *s = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return s;
}

static int panic(lua_State *L)
{
    const char *text = lua_tostring(L, -1);
    nl_state *s = nl_state_of(L);
    if (s->abandon) {
        s->abandon(s, text ? text : "?");
    }
    /* LuaJIT calls exit: neither that nor the log may hang for ever */
    nl_shutdown_request(EXIT_FAILURE);
    nl_log(s->name ? s->name(s) : NULL, "error outside of any Lua function, the process cannot go on: %s",
           text ? text : "?");
    return 0;
}

/* (prepare, s) */
static int first_call(lua_State *L)
{
    lua_gc(L, LUA_GCSTOP, 0); /* until the main chunk starts: what is made so far stays */
    const nl_state *s = lua_touserdata(L, 2);
    if (s->heap) {
        lua_settop(L, 1);
    } else {
        lua_rawseti(L, LUA_REGISTRYINDEX, NL_STATE_SELF);
    }
    lua_call(L, 0, 0);
    return 0;
}

static void heap_drop(nl_state *s)
{
    if (s->heap) {
        nl_heap_free(s->heap);
        s->heap = NULL;
    }
}

int nl_state_open(nl_state *s, lua_CFunction prepare)
{
    s->heap = nl_heap_new(s, &s->use);
    s->L = s->heap ? lua_newstate(nl_heap_alloc, s->heap) : NULL;
    if (!s->L) {
        /* A LuaJIT whose pointers have 32 bits wants its own allocator. */
        heap_drop(s);
        s->L = luaL_newstate();
        if (!s->L) {
            return -ENOMEM;
        }
    }
    lua_atpanic(s->L, panic);
    lua_pushcfunction(s->L, first_call);
    lua_pushcfunction(s->L, prepare);
    lua_pushlightuserdata(s->L, s);
    if (lua_pcall(s->L, 2, 0, 0) != 0) {
        return -ENOMEM;
    }
    return 0;
}

/*
 * Whether closing the state does anything but give up its memory, which goes at once with the heap:
 * it runs finalizers. All userdata hang behind the main thread, or stand in line for theirs.
 */
static bool must_close(const nl_state *s, bool finalizers)
{
#if NL_LUAJIT_INSIDE
    return !s->heap || finalizers || s->jit_hidden || gcref(s->L->nextgc) || gcref(G(s->L)->gc.mmudata);
#else
    (void)s;
    (void)finalizers;
    return true;
#endif
}

void nl_state_close(nl_state *s, bool finalizers)
{
    s->closing_since = nl_now_ns();
    atomic_signal_fence(memory_order_seq_cst);
    s->closing = true;
    lua_State *L = s->L;
    if (L && must_close(s, finalizers)) {
        if (s->heap) {
            nl_heap_deny(s->heap, false);
            nl_heap_closing(s->heap); /* its memory stays for a while */
        } else {
            s->L = NULL;
            atomic_signal_fence(memory_order_seq_cst); /* no signal handler touches it any more */
        }
        lua_close(L);
    }
    s->L = NULL;
    atomic_signal_fence(memory_order_seq_cst);
    heap_drop(s);
    nl_jit_uncount(s);
}

void nl_state_push_ffi(lua_State *L)
{
    luaL_findtable(L, LUA_REGISTRYINDEX, "_LOADED", 16);
    lua_getfield(L, -1, LUA_FFILIBNAME);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_pushcfunction(L, luaopen_ffi);
        lua_pushstring(L, LUA_FFILIBNAME);
        nl_lua_call(L, 1, 1);
        lua_pushvalue(L, -1);
        lua_setfield(L, -3, LUA_FFILIBNAME);
    }
    lua_remove(L, -2);
}

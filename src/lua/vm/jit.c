/* jit.c - see jit.h */
#include "lua/vm/jit.h"

#include <luajit.h>

static atomic_int states_with_jit;
static lua_CFunction open_library;

static void set_mode(nl_state *s, int mode)
{
    atomic_store_explicit(&s->jit, (unsigned char)mode, memory_order_relaxed);
}

void nl_jit_set_opener(lua_CFunction open)
{
    open_library = open;
}

void nl_jit_leave_to_user(nl_state *s)
{
    set_mode(s, NL_JIT_USER);
}

void nl_jit_switch(lua_State *L, bool on)
{
    luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | (on ? LUAJIT_MODE_ON : LUAJIT_MODE_OFF));
}

static int turn_on(lua_State *L)
{
    lua_pushcfunction(L, open_library);
    nl_lua_call(L, 0, 0);
    nl_jit_switch(L, true);
    return 0;
}

void nl_jit_on(lua_State *L, nl_state *s)
{
    if (atomic_fetch_add(&states_with_jit, 1) >= NL_JIT_MAX) {
        atomic_fetch_sub(&states_with_jit, 1);
        set_mode(s, NL_JIT_CAPPED);
        return;
    }
    set_mode(s, NL_JIT_ON);
    s->jit_counted = true;
    if (lua_cpcall(L, turn_on, NULL) != 0) {
        lua_pop(L, 1);
    }
}

void nl_jit_uncount(nl_state *s)
{
    if (s->jit_counted) {
        s->jit_counted = false;
        atomic_fetch_sub(&states_with_jit, 1);
    }
}

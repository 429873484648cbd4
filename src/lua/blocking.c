/* blocking.c - library functions that sleep in the system: the other workers are told, see sched.h */
#include "lua/lctx.h"
#include "lua/libs.h"

/* (…): the function in the upvalue with the same arguments. */
static int call_blocking(lua_State *L)
{
    int nargs = lua_gettop(L);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    nl_sched_blocking_begin();
    int status = lua_pcall(L, nargs, LUA_MULTRET, 0);
    nl_sched_blocking_end();
    return status ? lua_error(L) : lua_gettop(L);
}

void nl_wrap_blocking(lua_State *L, const char *name)
{
    lua_getfield(L, -1, name);
    lua_pushcclosure(L, call_blocking, 1);
    lua_setfield(L, -2, name);
}

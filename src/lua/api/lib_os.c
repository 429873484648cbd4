/* lib_os.c - what of the library `os` is the runtime's own */
#include "lua/api/modules.h"
#include "lua/run/interrupt.h"

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

static int os_exit(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    int status = lua_isboolean(L, 1) ? !lua_toboolean(L, 1) : (int)luaL_optinteger(L, 1, 0);
    nl_sched_exit(status);
    nl_ctx_end(&lc->ctx, NULL);
    return lc->cur ? nl_leave(L) : luaL_error(L, "the process is exiting");
}

void nl_os_extend(lua_State *L)
{
    lua_pushcfunction(L, os_exit);
    lua_setfield(L, -2, "exit");
    lua_getfield(L, -1, "execute");
    lua_pushcclosure(L, call_blocking, 1);
    lua_setfield(L, -2, "execute");
}

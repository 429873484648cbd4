/* lib_string.c - what of the library `string` is the runtime's own */
#include "lua/api/modules.h"
#include "lua/run/co.h"

static _Atomic(lua_CFunction) stock_gsub; /* the same in every state */

/*
 * A level of recursion through its callback takes 8 KiB of C stack, more than any other function's,
 * so LuaJIT's limit on the Lua stack would come too late.
 */
static int gsub(lua_State *L)
{
    if (nl_unlikely(nl_stack_is_short())) {
        return luaL_error(L, "C stack overflow");
    }
    return atomic_load_explicit(&stock_gsub, memory_order_relaxed)(L);
}

void nl_string_extend(lua_State *L)
{
    lua_getfield(L, -1, "gsub");
    lua_CFunction f = lua_tocfunction(L, -1);
    lua_pop(L, 1);
    if (f) {
        atomic_store_explicit(&stock_gsub, f, memory_order_relaxed);
        lua_pushcfunction(L, gsub);
        lua_setfield(L, -2, "gsub");
    }
}

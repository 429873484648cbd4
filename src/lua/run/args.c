/* args.c - arguments and results that all libraries share; see lctx.h */
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "lua/run/lctx.h"

#define HUNDRED_YEARS (100 * 365.25 * 86400)

int nl_push_err(lua_State *L, int err)
{
    lua_pushboolean(L, 0);
    lua_pushinteger(L, nl_err_from_os(err));
    return 2;
}

double nl_check_seconds(lua_State *L, int arg)
{
    double s = luaL_checknumber(L, arg);
    luaL_argcheck(L, !isnan(s), arg, "seconds expected, got nan");
    return s <= 0 ? 0 : s < HUNDRED_YEARS ? s : HUNDRED_YEARS;
}

double nl_opt_seconds(lua_State *L, int arg)
{
    return lua_isnoneornil(L, arg) ? -1 : nl_check_seconds(L, arg);
}

void nl_push_function(lua_State *L, const luaL_Reg *functions, const char *name)
{
    while (functions->name && strcmp(functions->name, name) != 0) {
        functions++;
    }
    if (functions->name) {
        lua_pushcfunction(L, functions->func);
    } else {
        lua_pushnil(L);
    }
}

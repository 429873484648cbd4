/* lib_os.c - what of the library `os` is the runtime's own */
#include <string.h>

#include "lua/api/io_file.h"
#include "lua/api/modules.h"
#include "lua/run/leave.h"
#include "sched/shutdown.h"

static int os_exit(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    int status = lua_isboolean(L, 1) ? !lua_toboolean(L, 1) : (int)luaL_optinteger(L, 1, 0);
    nl_shutdown_request(status);
    nl_ctx_end(&lc->ctx, NULL);
    return lc->cur ? nl_leave(L) : luaL_error(L, "the process is exiting");
}

/*
 * ([locale[, category]]): a locale is the process's, and would change how the numbers of all
 * contexts are read and written.  So it stays "C"; "" asks for the one of the environment, and "C"
 * is what it gets.
 */
static int os_setlocale(lua_State *L)
{
    static const char *const categories[] = {"all", "collate", "ctype", "monetary", "numeric", "time", NULL};
    const char *locale = luaL_optstring(L, 1, "");
    luaL_checkoption(L, 2, "all", categories);
    luaL_argcheck(L, !*locale || strcmp(locale, "C") == 0 || strcmp(locale, "POSIX") == 0, 1,
                  "a locale is the whole process's: it can only be \"C\"");
    lua_pushliteral(L, "C");
    return 1;
}

void nl_os_extend(lua_State *L)
{
    lua_pushcfunction(L, os_setlocale);
    lua_setfield(L, -2, "setlocale");
    lua_pushcfunction(L, os_exit);
    lua_setfield(L, -2, "exit");
    lua_pushcfunction(L, nl_io_execute);
    lua_setfield(L, -2, "execute");
}

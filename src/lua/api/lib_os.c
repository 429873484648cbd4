/* lib_os.c - what of the library `os` is the runtime's own */
#include <stdlib.h>

#include "lua/api/io_file.h"
#include "lua/api/modules.h"
#include "lua/run/interrupt.h"
#include "sched/shutdown.h"

/* ([command]) */
static int os_execute(lua_State *L)
{
    const char *command = luaL_optstring(L, 1, NULL);
    nl_blocking_begin();
    int status = system(command);
    nl_blocking_end();
    if (!nl_io_is52(L)) {
        lua_pushinteger(L, status);
        return 1;
    }
    if (command) {
        return luaL_execresult(L, status);
    }
    lua_pushboolean(L, 1);
    return 1;
}

static int os_exit(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    int status = lua_isboolean(L, 1) ? !lua_toboolean(L, 1) : (int)luaL_optinteger(L, 1, 0);
    nl_shutdown_request(status);
    nl_ctx_end(&lc->ctx, NULL);
    return lc->cur ? nl_leave(L) : luaL_error(L, "the process is exiting");
}

void nl_os_extend(lua_State *L)
{
    lua_pushcfunction(L, os_exit);
    lua_setfield(L, -2, "exit");
    lua_pushcfunction(L, os_execute);
    lua_setfield(L, -2, "execute");
}

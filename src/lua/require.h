/* require.h - require, dofile and package.loaders of the runtime (lualib/require.lua): they let a module block. */
#ifndef NL_REQUIRE_H
#define NL_REQUIRE_H

#include <lua.h>

/* Replaces what luaopen_package has opened. */
void nl_require_open(lua_State *L);

#endif

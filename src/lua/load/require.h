/*
 * require.h - require and dofile of the runtime.
 *
 * Purpose: they have the stock meaning, and a module may block at its top level.  Under the stock
 *   require, a C function that calls the module, it could not.
 * Threads: the one that runs the state.
 * Ownership: none.
 */
#ifndef NL_REQUIRE_H
#define NL_REQUIRE_H

#include <lua.h>

/* Sets the globals require and dofile. */
void nl_require_open(lua_State *L);
/*
 * The library `package`, on top of the stack, as luaopen_package has made it: gets our paths and
 * loaders.
 */
void nl_package_open(lua_State *L);
/* The stub of `package`, on top of the stack, gets what most who name it are after: its path. */
void nl_package_stub(lua_State *L);

#endif

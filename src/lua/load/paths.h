/*
 * paths.h - package.path and package.cpath.
 *
 * Purpose: what they are in the first context, which the environment says, and in the others, which
 * inherit them.
 * Threads: the one that runs the state; nl_paths_set_environment before the first.
 * Ownership: nl_path_copy's result is the caller's, for nl_free.
 */
#ifndef NL_PATHS_H
#define NL_PATHS_H

#include <lua.h>
#include <stdbool.h>

enum { NL_PATH, NL_CPATH };

/* Whether LUA_PATH and LUA_CPATH count. */
void nl_paths_set_environment(bool use);
/* Pushes what a path is when the context begins: its creator's. */
void nl_path_push(lua_State *L, int which);
/* Pushes what it is now, or nil. */
void nl_path_push_current(lua_State *L, int which);
/* What it is now, for a context that is created; NULL: what it was in the first one. */
char *nl_path_copy(lua_State *L, int which);

#endif

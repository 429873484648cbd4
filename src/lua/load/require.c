/* require.c - loaders on the bytecode cache, require and dofile; see require.h */
#include "lua/load/require.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "lua/load/libs.h"
#include "lua/load/paths.h"
#include "lua/run/lctx.h"
#include "lua/vm/chunk.h"

void nl_package_stub(lua_State *L)
{
    nl_path_push(L, NL_PATH);
    lua_setfield(L, -2, "path");
}

/* --- loaders ---------------------------------------------------------------------------------- */

static bool readable(const char *path)
{
    FILE *f = fopen(path, "r");
    if (f) {
        fclose(f);
    }
    return f != NULL;
}

/*
 * Pushes the first file that a path's templates name for a module, or what was tried; true if
 * found.  *c: its chunk if that is cached, else NULL.
 */
static bool search(lua_State *L, const char *name, const char *path, nl_chunk **c)
{
    name = luaL_gsub(L, name, ".", LUA_DIRSEP);
    lua_pushliteral(L, ""); /* the message */
    while (*path) {
        size_t n = strcspn(path, ";");
        if (n > 0) {
            lua_pushlstring(L, path, n);
            const char *file = luaL_gsub(L, lua_tostring(L, -1), "?", name);
            lua_remove(L, -2);
            *c = nl_chunk_cached(file);
            if (*c || readable(file)) {
                return true;
            }
            lua_pushfstring(L, "\n\tno file " LUA_QS, file);
            lua_remove(L, -2);
            lua_concat(L, 2);
        }
        path += n + (path[n] == ';');
    }
    return false;
}

/*
 * Pushes the function of a module's file, whose name is on top, and its chunk c (the reference is
 * used up), or NULL.
 */
static int load_module(lua_State *L, const char *name, nl_chunk *c)
{
    const char *file = lua_tostring(L, -1);
    int err = c ? 0 : nl_chunk_get(&c, L, file);
    if (!err) {
        err = nl_libs_load_chunk(c, L) ? -NL_ESYNTAX : 0;
        nl_chunk_release(c);
        if (!err) {
            return 1;
        }
    }
    lua_pushfstring(L, "error loading module " LUA_QS " from file " LUA_QS ":\n\t%s", name, file,
                    err == -NL_ESYNTAX ? lua_tostring(L, -1) : nl_err_text(err));
    return lua_error(L);
}

/* package.loaders[2]; upvalue 1 is package */
static int loader_lua(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    lua_getfield(L, lua_upvalueindex(1), "path");
    const char *path = lua_tostring(L, -1);
    if (!path) {
        return luaL_error(L, LUA_QL("package.path") " must be a string");
    }
    nl_chunk *c;
    return search(L, name, path, &c) ? load_module(L, name, c) : 1;
}

/*
 * package.loaders[3] and [4]; upvalue 1 is the stock one.  What a module in C will look for is not
 * known.
 */
static int loader_c(lua_State *L)
{
    lua_settop(L, 1);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, 1, LUA_MULTRET);
    if (lua_isfunction(L, 1)) {
        nl_libs_open(L, NL_LIB_ALL);
    }
    return lua_gettop(L);
}

/* What a library that the loader has opened is loaded by. */
static int opened(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(1));
    return 1;
}

/*
 * A library that is not open since no text names it: opens it and pushes its loader; false if name
 * is none.
 */
static bool open_library(lua_State *L, const char *name)
{
    char top[16] = ""; /* "table.new" comes with `table` */
    size_t n = strcspn(name, ".");
    if (n < sizeof top) {
        memcpy(top, name, n);
        top[n] = 0;
    }
    uint32_t libs = nl_libs_of_name(top);
    if (!(libs & ~nl_lctx_of(L)->libs.open)) {
        return false;
    }
    nl_libs_open(L, libs);
    luaL_findtable(L, LUA_REGISTRYINDEX, "_LOADED", 16);
    lua_getfield(L, -1, name);
    if (!lua_isnil(L, -1)) {
        lua_pushcclosure(L, opened, 1);
        return true;
    }
    luaL_findtable(L, LUA_REGISTRYINDEX, "_PRELOAD", 4);
    lua_getfield(L, -1, name);
    return !lua_isnil(L, -1);
}

/*
 * Pushes the chunk of a module that comes with LuaJIT and lies in the program; false if name is
 * none.
 */
static bool load_embedded(lua_State *L, const char *name)
{
    nl_chunk *c = strncmp(name, "jit.", 4) == 0 ? nl_chunk_embedded(L, name) : NULL;
    if (!c) {
        return false;
    }
    int err = nl_libs_load_chunk(c, L);
    nl_chunk_release(c);
    return err ? lua_error(L) : true;
}

/*
 * While `package` is not open, no text has named its loaders or its preload.  So what they would do
 * is known, but for modules in C: pushes a module's chunk without opening it.  False: the loaders
 * are to be asked.
 */
static bool find_plainly(lua_State *L, const char *name)
{
    nl_lctx *lc = nl_lctx_of(L);
    if (lc->libs.open & NL_LIB_PACKAGE) {
        return false;
    }
    if (open_library(L, name) || load_embedded(L, name)) {
        return true;
    }
    nl_path_push_current(L, NL_PATH);
    const char *path = lua_tostring(L, -1);
    nl_chunk *c;
    return path && search(L, name, path, &c) && load_module(L, name, c);
}

/*
 * package.loaders[1]: package.preload, and the modules that come with LuaJIT and lie in the program
 */
static int loader_preload(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    lua_getfield(L, lua_upvalueindex(1), "preload");
    if (!lua_istable(L, -1)) {
        return luaL_error(L, LUA_QL("package.preload") " must be a table");
    }
    lua_getfield(L, -1, name);
    if (!lua_isnil(L, -1) || open_library(L, name)) {
        return 1;
    }
    if (!load_embedded(L, name)) {
        lua_pushfstring(L, "\n\tno field package.preload['%s']", name);
    }
    return 1;
}

static void replace_loaders(lua_State *L, int package)
{
    lua_getfield(L, package, "loaders");
    lua_pushvalue(L, package);
    lua_pushcclosure(L, loader_preload, 1);
    lua_rawseti(L, -2, 1);
    lua_pushvalue(L, package);
    lua_pushcclosure(L, loader_lua, 1);
    lua_rawseti(L, -2, 2);
    for (int i = 3; i <= 4; i++) {
        lua_rawgeti(L, -1, i);
        lua_pushcclosure(L, loader_c, 1);
        lua_rawseti(L, -2, i);
    }
    lua_pop(L, 1);
}

/* With the library `package` on top. */
void nl_package_open(lua_State *L)
{
    int package = lua_gettop(L);
    nl_path_push(L, NL_PATH);
    lua_setfield(L, package, "path");
    nl_path_push(L, NL_CPATH);
    lua_setfield(L, package, "cpath");
    replace_loaders(L, package);
}

/* --- require ---------------------------------------------------------------------------------- */

/*
 * All of it is here but the call of the module's chunk, which has to come from a Lua function, so
 * that the chunk can block:
 *
 *     begin(name) → nil, value: the module is loaded
 *                   function, name: its chunk; to be called with the name
 *                   true: somebody else is loading it and has let us wait for a while; ask again
 *     finish(name, value) → what require returns
 *     chunk(file) → the function of a file
 */
static const char glue[] = "local begin, finish, chunk = ...\n"
                           "return function(name)\n"
                           "  local f, value\n"
                           "  repeat f, value = begin(name) until f ~= true\n"
                           "  if not f then return value end\n"
                           "  return finish(value, f(value))\n"
                           "end, function(file) return chunk(file)() end\n";

static const char
    loading; /* its address stands in package.loaded while a chunk runs, and after it has failed */
/*
 * In the registry: by module name, {the coroutine that runs its chunk, its root, whether it is that
 * root's own}.
 */
#define LOADING "nl_loading"
/* In the registry: by root, the name of the module it waits for. */
#define WAITING "nl_waiting"

/* Raises with the position of who called require: that function calls ours. */
static int raise(lua_State *L)
{
    luaL_where(L, 2);
    lua_insert(L, -2);
    lua_concat(L, 2);
    return lua_error(L);
}

static bool is_loading(lua_State *L, int idx)
{
    return lua_islightuserdata(L, idx) && lua_touserdata(L, idx) == &loading;
}

/* Whether the function at level 1, require itself, also runs (maybe suspended) in co. */
static bool still_requires(lua_State *L, lua_State *co)
{
    lua_Debug ar;
    if (!lua_getstack(L, 1, &ar)) {
        return false;
    }
    lua_getinfo(L, "f", &ar);
    const void *require = lua_topointer(L, -1);
    lua_pop(L, 1);
    bool found = false;
    for (int level = 0; co && !found && lua_getstack(co, level, &ar); level++) {
        lua_getinfo(co, "f", &ar);
        found = lua_topointer(co, -1) == require;
        lua_pop(co, 1);
    }
    return found;
}

typedef struct loader {
    lua_State *co;
    nl_co *root;
    bool own; /* co is the root's own thread */
} loader;

/* Who runs the chunk of a module; all zero if nobody does. */
static loader loader_of(lua_State *L, const char *name)
{
    loader l = {NULL, NULL, false};
    luaL_findtable(L, LUA_REGISTRYINDEX, LOADING, 4);
    lua_getfield(L, -1, name);
    if (lua_istable(L, -1)) {
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        lua_rawgeti(L, -3, 3);
        l = (loader){lua_tothread(L, -3), lua_touserdata(L, -2), lua_toboolean(L, -1)};
        lua_pop(L, 3);
    }
    lua_pop(L, 2);
    return l;
}

/*
 * Notes that the running root waits for the module; with NULL, that it is back: a root that waits
 * asks again before all else.
 */
static void note_wait(lua_State *L, nl_lctx *lc, const char *name)
{
    lua_getfield(L, LUA_REGISTRYINDEX, WAITING);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        if (!name) {
            return; /* nobody has ever waited */
        }
        luaL_findtable(L, LUA_REGISTRYINDEX, WAITING, 1);
    }
    lua_pushlightuserdata(L, lc->cur);
    if (name) {
        lua_pushstring(L, name);
    } else {
        lua_pushnil(L);
    }
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

/*
 * Whether the running root would wait for itself: who loads the module waits for one that … the
 * running root loads.
 */
static bool in_circle(lua_State *L, nl_lctx *lc, nl_co *root)
{
    int top = lua_gettop(L);
    luaL_findtable(L, LUA_REGISTRYINDEX, WAITING, 0);
    while (root && root != lc->cur) {
        lua_pushlightuserdata(L, root);
        lua_rawget(L, top + 1);
        root = lua_isstring(L, -1) ? loader_of(L, lua_tostring(L, -1)).root : NULL;
        lua_pop(L, 1);
    }
    lua_settop(L, top);
    return root != NULL;
}

/*
 * A root that a plain yield has suspended is given up (nl_co_run): nobody will go on with its
 * chunk.
 */
static bool given_up(nl_lctx *lc, const loader *l)
{
    bool found = !l->own;
    for (nl_list *n = lc->all_co.next; !found && n != &lc->all_co; n = n->next) {
        found = nl_container_of(n, nl_co, all)->L == l->co;
    }
    return !found;
}

/*
 * The module's chunk has begun and not ended: by another root that is at it still?  Then waits a
 * little.
 */
static int wait_for(lua_State *L, const char *name)
{
    nl_lctx *lc = nl_lctx_of(L);
    loader l = loader_of(L, name);
    if (in_circle(L, lc, l.root) || given_up(lc, &l) || !still_requires(L, l.co)) {
        lua_pushfstring(L, "loop or previous error loading module " LUA_QS, name);
        return raise(L);
    }
    nl_block_check(L);
    note_wait(L, lc, name);
    nl_wait_arm(lc, nl_block_wait(L, NL_WAIT_SLEEP), 0.001);
    return nl_park(L);
}

/* Pushes the chunk that the first of package.loaders finds. */
static void find_chunk(lua_State *L, const char *name)
{
    luaL_findtable(L, LUA_REGISTRYINDEX, "_LOADED", 16);
    lua_getfield(L, -1, LUA_LOADLIBNAME);
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, "loaders");
    }
    if (!lua_istable(L, -1)) {
        lua_pushliteral(L, LUA_QL("package.loaders") " must be a table");
        raise(L);
    }
    int loaders = lua_gettop(L);
    lua_pushliteral(L, ""); /* what was tried */
    for (int i = 1;; i++) {
        lua_rawgeti(L, loaders, i);
        if (lua_isnil(L, -1)) {
            lua_pushfstring(L, "module " LUA_QS " not found:%s", name, lua_tostring(L, -2));
            raise(L);
        }
        lua_pushstring(L, name);
        lua_call(L, 1, 1);
        if (lua_isfunction(L, -1)) {
            return;
        }
        if (lua_isstring(L, -1)) {
            lua_concat(L, 2);
        } else {
            lua_pop(L, 1);
        }
    }
}

static int require_begin(lua_State *L)
{
    if (!lua_isstring(L, 1)) {
        lua_pushfstring(L, "bad argument #1 to " LUA_QL("require") " (string expected, got %s)",
                        lua_isnil(L, 1) ? "no value" : luaL_typename(L, 1));
        return raise(L);
    }
    const char *name = lua_tostring(L, 1);
    note_wait(L, nl_lctx_of(L), NULL);
    luaL_findtable(L, LUA_REGISTRYINDEX, "_LOADED", 16);
    lua_getfield(L, -1, name);
    if (is_loading(L, -1)) {
        return wait_for(L, name);
    }
    if (lua_toboolean(L, -1)) {
        nl_libs_open(L, nl_libs_of_name(name)); /* what was a stub until now */
        lua_pushnil(L);
        lua_insert(L, -2);
        return 2;
    }
    if (!find_plainly(L, name)) {
        nl_libs_open(L, NL_LIB_PACKAGE);
        find_chunk(L, name);
    }
    lua_pushlightuserdata(L, (void *)&loading);
    lua_setfield(L, 2, name);
    const nl_lctx *lc = nl_lctx_of(L);
    luaL_findtable(L, LUA_REGISTRYINDEX, LOADING, 4);
    lua_createtable(L, 3, 0);
    lua_pushthread(L);
    lua_rawseti(L, -2, 1);
    lua_pushlightuserdata(L, lc->cur);
    lua_rawseti(L, -2, 2);
    lua_pushboolean(L, lc->cur && lc->cur->L == L);
    lua_rawseti(L, -2, 3);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
    lua_pushvalue(L, 1);
    return 2;
}

static int require_finish(lua_State *L)
{
    const char *name = lua_tostring(L, 1);
    lua_settop(L, 2);
    luaL_findtable(L, LUA_REGISTRYINDEX, LOADING, 4);
    lua_pushnil(L);
    lua_setfield(L, -2, name);
    luaL_findtable(L, LUA_REGISTRYINDEX, "_LOADED", 16);
    if (!lua_isnil(L, 2)) {
        lua_pushvalue(L, 2);
        lua_setfield(L, -2, name);
    }
    lua_getfield(L, -1, name);
    if (is_loading(L, -1)) {
        lua_pushboolean(L, 1);
        lua_pushvalue(L, -1);
        lua_setfield(L, -4, name);
    }
    return 1;
}

/* --- dofile ----------------------------------------------------------------------------------- */

static int dofile_chunk(lua_State *L)
{
    nl_chunk *c = NULL;
    int err;
    if (lua_isnoneornil(L, 1)) {
        err = nl_chunk_from_stdin(&c, L);
    } else {
        err = nl_chunk_get(&c, L, luaL_checkstring(L, 1));
    }
    if (!err) {
        err = nl_libs_load_chunk(c, L) ? -NL_ESYNTAX : 0;
        nl_chunk_release(c);
    }
    if (err == -NL_ESYNTAX) {
        return lua_error(L);
    }
    if (err) {
        return luaL_error(L, "cannot open %s: %s", lua_tostring(L, 1), nl_err_text(err));
    }
    return 1;
}

/* Sets the globals require and dofile. */
void nl_require_open(lua_State *L)
{
    nl_chunk *c = nl_chunk_builtin(L, "require", glue, sizeof glue - 1);
    int err = nl_libs_load_chunk(c, L);
    nl_chunk_release(c);
    if (err) {
        lua_error(L);
    }
    lua_pushcfunction(L, require_begin);
    lua_pushcfunction(L, require_finish);
    lua_pushcfunction(L, dofile_chunk);
    lua_call(L, 3, 2);
    lua_setglobal(L, "dofile");
    lua_setglobal(L, "require");
}

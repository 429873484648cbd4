/*
 * require.c - the C half of require: where modules are looked for, and loaders that use the
 * bytecode cache.  The Lua half (lualib/require.lua) runs them and lets a module block.
 */
#include "lua/require.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "lua/chunk.h"
#include "lua/libs.h"
#include "lua/lctx.h"

/* ------------------------------------------------------------------ paths */

#ifdef _WIN32
#define DIRSEP "\\"
#define PATH_DEFAULT ".\\?.lua;!\\lua\\?.lua;!\\lua\\?\\init.lua"
#define CPATH_DEFAULT ".\\?.dll;!\\?.dll"
#define ROCKS_PATH ""
#define ROCKS_CPATH ""
#else
#define DIRSEP "/"
#define PATH_DEFAULT                                                                                         \
    "./?.lua;/usr/local/share/lua/5.1/?.lua;/usr/local/share/lua/5.1/?/init.lua;"                            \
    "/usr/share/lua/5.1/?.lua;/usr/share/lua/5.1/?/init.lua"
#if defined(__linux__) && defined(__x86_64__)
#define MULTIARCH ";/usr/lib/x86_64-linux-gnu/lua/5.1/?.so"
#elif defined(__linux__) && defined(__aarch64__)
#define MULTIARCH ";/usr/lib/aarch64-linux-gnu/lua/5.1/?.so"
#else
#define MULTIARCH ""
#endif
#define CPATH_DEFAULT                                                                                        \
    "./?.so;/usr/local/lib/lua/5.1/?.so" MULTIARCH ";/usr/lib/lua/5.1/?.so;/usr/local/lib/lua/5.1/loadall.so"
/* LuaRocks' tree of the user, below $HOME. */
#define ROCKS_PATH ";%s/.luarocks/share/lua/5.1/?.lua;%s/.luarocks/share/lua/5.1/?/init.lua"
#define ROCKS_CPATH ";%s/.luarocks/lib/lua/5.1/?.so"
#endif

/* Pushes what an environment variable says, with the default path where it has ";;", or the default path. */
static void push_path(lua_State *L, const char *env, const char *env51, const char *standard, const char *rocks)
{
    const char *home = getenv("HOME");
    lua_pushstring(L, standard);
    if (home && *rocks) {
        lua_pushfstring(L, rocks, home, home);
        lua_concat(L, 2);
    }
    const char *s = getenv(env51);
    s = s ? s : getenv(env);
    if (s) {
        luaL_gsub(L, s, ";;", ";\1;");
        luaL_gsub(L, lua_tostring(L, -1), "\1", lua_tostring(L, -2));
        lua_replace(L, -3);
        lua_pop(L, 1);
    }
}

/* ------------------------------------------------------------------ loaders */

static bool readable(const char *path)
{
    FILE *f = fopen(path, "r");
    if (f) {
        fclose(f);
    }
    return f != NULL;
}

/* Pushes the first file that a path's templates name for a module, or what was tried; true if found. */
static bool search(lua_State *L, const char *name, const char *path)
{
    name = luaL_gsub(L, name, ".", DIRSEP);
    lua_pushliteral(L, ""); /* the message */
    while (*path) {
        size_t n = strcspn(path, ";");
        if (n > 0) {
            lua_pushlstring(L, path, n);
            const char *file = luaL_gsub(L, lua_tostring(L, -1), "?", name);
            lua_remove(L, -2);
            if (readable(file)) {
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

/* package.loaders[2]; upvalue 1 is package */
static int loader_lua(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    lua_getfield(L, lua_upvalueindex(1), "path");
    const char *path = lua_tostring(L, -1);
    if (!path) {
        return luaL_error(L, LUA_QL("package.path") " must be a string");
    }
    if (!search(L, name, path)) {
        return 1;
    }
    const char *file = lua_tostring(L, -1);
    nl_chunk *c;
    int err = nl_chunk_get(&c, L, file);
    if (!err) {
        err = nl_chunk_load(c, L) ? -NL_ESYNTAX : 0;
        nl_chunk_release(c);
        if (!err) {
            return 1;
        }
    }
    return luaL_error(L, "error loading module " LUA_QS " from file " LUA_QS ":\n\t%s", name, file,
                      err == -NL_ESYNTAX ? lua_tostring(L, -1) : nl_strerror(-err));
}

/* package.loaders[3] and [4]; upvalue 1 is the stock one.  What a module in C will look for is not known. */
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

/* package.loaders[1]: package.preload, and the modules that come with LuaJIT and lie in the program */
static int loader_preload(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    lua_getfield(L, lua_upvalueindex(1), "preload");
    if (!lua_istable(L, -1)) {
        return luaL_error(L, LUA_QL("package.preload") " must be a table");
    }
    lua_getfield(L, -1, name);
    if (!lua_isnil(L, -1)) {
        return 1;
    }
    nl_chunk *c = strncmp(name, "jit.", 4) == 0 ? nl_chunk_embedded(L, name) : NULL;
    if (!c) {
        lua_pushfstring(L, "\n\tno field package.preload['%s']", name);
        return 1;
    }
    int err = nl_chunk_load(c, L);
    nl_chunk_release(c);
    return err ? lua_error(L) : 1;
}

/* (): names the root now running */
static int root(lua_State *L)
{
    lua_pushlightuserdata(L, nl_lctx_of(L)->cur);
    return 1;
}


/* (): the innermost coroutine; unlike coroutine.running this does not give it to the script */
static int running(lua_State *L)
{
    lua_pushthread(L);
    return 1;
}

/* (co, f): whether f is running, or suspended, in co */
static int runs(lua_State *L)
{
    lua_State *co = lua_tothread(L, 1);
    const void *f = lua_topointer(L, 2);
    lua_Debug ar;
    bool found = false;
    for (int level = 0; co && !found && lua_getstack(co, level, &ar); level++) {
        lua_getinfo(co, "f", &ar);
        found = lua_topointer(co, -1) == f;
        lua_pop(co, 1);
    }
    lua_pushboolean(L, found);
    return 1;
}

/* (seconds) */
static int nap(lua_State *L)
{
    double seconds = luaL_checknumber(L, 1);
    nl_block_check(L);
    nl_wait_arm(nl_lctx_of(L), nl_block_wait(L, NL_WAIT_SLEEP), seconds);
    return nl_park(L);
}

/* ------------------------------------------------------------------ opening */

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

void nl_require_open(lua_State *L)
{
    static const luaL_Reg helpers[] = {{"root", root}, {"running", running}, {"runs", runs}, {"sleep", nap}, {NULL, NULL}};
    lua_getglobal(L, LUA_LOADLIBNAME);
    int package = lua_gettop(L);
    push_path(L, "LUA_PATH", "LUA_PATH_5_1", PATH_DEFAULT, ROCKS_PATH);
    lua_setfield(L, package, "path");
    push_path(L, "LUA_CPATH", "LUA_CPATH_5_1", CPATH_DEFAULT, ROCKS_CPATH);
    lua_setfield(L, package, "cpath");
    replace_loaders(L, package);

    nl_chunk *c = nl_chunk_embedded(L, "require");
    int err = nl_chunk_load(c, L);
    nl_chunk_release(c);
    if (err) {
        lua_error(L);
    }
    lua_pushvalue(L, package);
    lua_createtable(L, 0, (int)nl_countof(helpers));
    luaL_register(L, NULL, helpers);
    lua_pushlightuserdata(L, (void *)&helpers); /* no table: `module` would take that for the module */
    lua_setfield(L, -2, "loading");
    lua_call(L, 2, 2);
    lua_setglobal(L, "dofile");
    lua_setglobal(L, "require");
    lua_pop(L, 1);
}

/* paths.c - see paths.h */
#include "lua/load/paths.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/os.h"
#include "base/process.h"
#include "lua/run/lctx.h"

#define LOCAL "/usr/local/share/lua/5.1/"
#define SHARE "/usr/share/lua/5.1/"
#define POSIX_PATH "./?.lua;" LOCAL "?.lua;" LOCAL "?/init.lua;" SHARE "?.lua;" SHARE "?/init.lua"
#define LIB(arch) ";/usr/lib" arch "/lua/5.1/?.so"
#define POSIX_CPATH                                                                                          \
    "./?.so;/usr/local/lib/lua/5.1/?.so" LIB(NL_MULTIARCH) LIB("") ";/usr/local/lib/lua/5.1/loadall.so"
/* LuaRocks' tree of the user, below $HOME. */
#define ROCKS_PATH ";%s/.luarocks/share/lua/5.1/?.lua;%s/.luarocks/share/lua/5.1/?/init.lua"
#define ROCKS_CPATH ";%s/.luarocks/lib/lua/5.1/?.so"

/* The two paths of package, and what they are at the start: on Windows what LuaJIT has. */
static const struct path {
    const char *field, *env51, *env, *standard, *rocks;
} paths[] = {
    {"path", "LUA_PATH_5_1", "LUA_PATH", NL_OS_WINDOWS ? LUA_PATH_DEFAULT : POSIX_PATH,
     NL_OS_WINDOWS ? "" : ROCKS_PATH},
    {"cpath", "LUA_CPATH_5_1", "LUA_CPATH", NL_OS_WINDOWS ? LUA_CPATH_DEFAULT : POSIX_CPATH,
     NL_OS_WINDOWS ? "" : ROCKS_CPATH},
};
_Static_assert(nl_countof(paths) == NL_PATHS, "a context keeps those it has inherited");

static bool use_environment = true;

void nl_paths_set_environment(bool use)
{
    use_environment = use;
}

/*
 * Pushes what an environment variable says, with the default path where it has ";;", or the default
 * path.
 */
static void push_environment_path(lua_State *L, const struct path *p)
{
    const char *home = getenv("HOME");
    lua_pushstring(L, p->standard);
    if (home && *p->rocks) {
        lua_pushfstring(L, p->rocks, home, home);
        lua_concat(L, 2);
    }
    const char *s = use_environment ? getenv(p->env51) : NULL;
    s = s || !use_environment ? s : getenv(p->env);
    if (s) {
        luaL_gsub(L, s, ";;", ";\1;");
        luaL_gsub(L, lua_tostring(L, -1), "\1", lua_tostring(L, -2));
        lua_replace(L, -3);
        lua_pop(L, 1);
    }
    if (nl_program_dir()) {
        luaL_gsub(L, lua_tostring(L, -1), LUA_EXECDIR, nl_program_dir());
        lua_remove(L, -2);
    }
}

/* What a path is in the first context, the same for all the time. */
static const char *first_path(lua_State *L, int which)
{
    static _Atomic(char *) kept[NL_PATHS];
    /* Acquire: with what the release below has stored. */
    char *path = atomic_load_explicit(&kept[which], memory_order_acquire);
    if (nl_likely(path != NULL)) {
        return path;
    }
    push_environment_path(L, &paths[which]);
    char *mine = nl_strdup(lua_tostring(L, -1));
    lua_pop(L, 1);
    if (atomic_compare_exchange_strong_explicit(&kept[which], &path, mine, memory_order_release,
                                                memory_order_acquire)) {
        return mine;
    }
    nl_free(mine);
    return path;
}

void nl_path_push(lua_State *L, int which)
{
    const char *inherited = nl_lctx_of(L)->paths[which];
    lua_pushstring(L, inherited ? inherited : first_path(L, which));
}

void nl_path_push_current(lua_State *L, int which)
{
    const nl_lctx *lc = nl_lctx_of(L);
    if (lc->libs.open & NL_LIB_PACKAGE) {
        luaL_findtable(L, LUA_REGISTRYINDEX, "_LOADED", 16);
        lua_pushliteral(L, LUA_LOADLIBNAME);
        lua_rawget(L, -2);
        lua_remove(L, -2);
    } else if ((lc->libs.stubs & NL_LIB_PACKAGE) && which == NL_PATH) {
        lua_pushliteral(L, LUA_LOADLIBNAME);
        lua_rawget(L, LUA_GLOBALSINDEX);
    } else {
        nl_path_push(L, which);
        return;
    }
    if (lua_istable(L, -1)) {
        lua_pushstring(L, paths[which].field);
        lua_rawget(L, -2);
        lua_remove(L, -2);
    }
}

char *nl_path_copy(lua_State *L, int which)
{
    nl_path_push_current(L, which);
    const char *path = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
    char *copy = path && strcmp(path, first_path(L, which)) != 0 ? nl_strdup(path) : NULL;
    lua_pop(L, 1);
    return copy;
}

/* jit_lib.c - see jit_lib.h */
#include "lua/load/jit_lib.h"

#include <luajit.h>
#include <string.h>

#include "lua/load/libs.h"
#include "lua/run/lctx.h"
#include "lua/vm/jit.h"

static char **options;
static int noptions;

#define HIDDEN "nl.jit" /* in the registry: the library, while only we use it */
/*
 * A trace that ends at a call of a C function, to go on behind it, costs about as much as
 * interpreting 50 instructions; shorter pieces between such calls, of which scripts that mostly
 * call the runtime consist, are better not compiled.
 */
#define MINSTITCH "minstitch=50"

/* jit.on() and jit.off() for all of the state: from now on the script decides. */
static int user_switch(lua_State *L)
{
    if (lua_gettop(L) == 0) {
        nl_jit_leave_to_user(nl_state_of(L));
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

/* luaopen_jit detects the processor, which is slow where cpuid traps, and turns the compiler on. */
static void open_jit_library(lua_State *L, nl_lctx *lc)
{
    lua_pushcfunction(L, luaopen_jit);
    lua_pushstring(L, LUA_JITLIBNAME);
    lua_call(L, 1, 0);
    luaL_findtable(L, LUA_REGISTRYINDEX, "_LOADED", 16);
    lua_getfield(L, -1, LUA_JITLIBNAME);
    static const char *const switches[] = {"on", "off"};
    for (int i = 0; i < 2; i++) {
        lua_getfield(L, -1, switches[i]);
        lua_pushcclosure(L, user_switch, 1);
        lua_setfield(L, -2, switches[i]);
    }
    lua_getfield(L, -1, "opt");
    lua_getfield(L, -1, "start");
    lua_pushliteral(L, MINSTITCH);
    lua_call(L, 1, 0);
    lua_pop(L, 3);
    if (nl_jit_mode(&lc->vm) != NL_JIT_ON) {
        nl_jit_switch(L, false);
    }
}

void nl_jit_lib_open(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    if (!lc->vm.jit_hidden) {
        open_jit_library(L, lc);
    } else {
        lua_getfield(L, LUA_REGISTRYINDEX, HIDDEN);
        nl_libs_install(L, LUA_JITLIBNAME);
    }
}

/*
 * The compiler needs luaopen_jit; if no text has named the library, the script does not get to see
 * it.
 */
int nl_jit_lib_open_hidden(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    if (lc->libs.stubs & NL_LIB_JIT) {
        nl_libs_open(L, NL_LIB_JIT);
    } else if (!(lc->libs.open & NL_LIB_JIT)) {
        open_jit_library(L, lc);
        lc->vm.jit_hidden = true;
        lua_getglobal(L, LUA_JITLIBNAME);
        lua_setfield(L, LUA_REGISTRYINDEX, HIDDEN);
        lua_pushnil(L);
        lua_setglobal(L, LUA_JITLIBNAME);
        luaL_findtable(L, LUA_REGISTRYINDEX, "_LOADED", 16);
        lua_pushnil(L);
        lua_setfield(L, -2, LUA_JITLIBNAME);
    }
    return 0;
}

/* --- -j and -O -------------------------------------------------------------------------------- */

void nl_jit_lib_set_options(char **o, int n)
{
    options = o;
    noptions = n;
}

/*
 * -O3, -Ohotloop=10,-fold: jit.opt.start("3") … with each piece; -Jv=file:
 * require("jit.v").start("file").
 */
static void call_with_pieces(lua_State *L, const char *s)
{
    int n = 0;
    while (*s) {
        size_t len = strcspn(s, ",");
        luaL_checkstack(L, 4, NULL);
        lua_pushlstring(L, s, len);
        n++;
        s += len + (s[len] == ',');
    }
    lua_call(L, n, 0);
}

static void apply(lua_State *L, nl_lctx *lc, const char *o)
{
    const char *s = o + 1;
    if (*o == 'O') {
        lua_getglobal(L, LUA_JITLIBNAME);
        lua_getfield(L, -1, "opt");
        lua_getfield(L, -1, "start");
        call_with_pieces(L, *s ? s : "3");
    } else if (strcmp(s, "on") == 0 || strcmp(s, "off") == 0) {
        nl_jit_leave_to_user(&lc->vm);
        nl_jit_switch(L, s[1] == 'n');
    } else if (strcmp(s, "flush") == 0) {
        luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_FLUSH);
    } else if (lc->first || s[0] != 'p' ||
               (s[1] && s[1] != '=')) { /* the profiler's signal is the process's */
        size_t len = strcspn(s, "=");
        lua_getglobal(L, "require");
        lua_pushliteral(L, "jit.");
        lua_pushlstring(L, s, len);
        lua_concat(L, 2);
        lua_call(L, 1, 1);
        lua_getfield(L, -1, "start");
        call_with_pieces(L, s[len] ? s + len + 1 : s + len);
    }
    lua_settop(L, 0);
}

static int apply_all(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    nl_libs_open(L, NL_LIB_ALL);
    for (int i = 0; i < noptions; i++) {
        apply(L, lc, options[i]);
    }
    return 0;
}

int nl_jit_lib_apply_options(lua_State *L)
{
    return noptions ? lua_cpcall(L, apply_all, NULL) : 0;
}

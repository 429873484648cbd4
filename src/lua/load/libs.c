/* libs.c - see libs.h */
#include "lua/load/libs.h"

#include <luajit.h>
#include <string.h>

#include "lua/load/jit_lib.h"
#include "lua/load/require.h"
#include "lua/run/co.h"

static const nl_module *modules;

void nl_libs_register(const nl_module *table)
{
    modules = table;
}

static const nl_module *module_of(uint32_t lib)
{
    const nl_module *m = modules;
    while (m && m->name && m->lib != lib) {
        m++;
    }
    return m && m->name ? m : NULL;
}

/* --- stubs ------------------------------------------------------------------------------------ */

#define STUB "nl.stub" /* in the registry: the metatable of all stubs */

static inline int index_of(uint32_t lib)
{
    return __builtin_ctz(lib);
}

static void push_all_loaded(lua_State *L)
{
    luaL_findtable(L, LUA_REGISTRYINDEX, "_LOADED", 16);
}

/* Pushes _LOADED[name]: the table that luaopen_* fills, if there is one. */
static void push_loaded(lua_State *L, const char *name)
{
    push_all_loaded(L);
    lua_getfield(L, -1, name);
    lua_remove(L, -2);
}

static uint32_t lib_of_stub(nl_lctx *lc, const void *stub)
{
    for (uint32_t left = lc->libs.stubs; left; left &= left - 1) {
        if (lc->libs.stub[index_of(left)] == stub) {
            return left & (~left + 1);
        }
    }
    return 0;
}

/* (stub, key) */
static int stub_index(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    uint32_t lib = lib_of_stub(lc, lua_topointer(L, 1));
    if ((lib & NL_LIB_BY_FIELD) && lua_type(L, 2) == LUA_TSTRING) {
        module_of(lib)->push_field(L, lua_tostring(L, 2));
        lua_pushvalue(L, 2);
        lua_pushvalue(L, 3);
        lua_rawset(L, 1);
        return 1;
    }
    nl_libs_open(L, lib);
    lua_settop(L, 2);
    lua_gettable(L, 1);
    return 1;
}

/* (stub, key, value) */
static int stub_newindex(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    nl_libs_open(L, lib_of_stub(lc, lua_topointer(L, 1)));
    lua_settop(L, 3);
    lua_settable(L, 1);
    return 0;
}

static void push_stub_metatable(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, STUB);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_createtable(L, 0, 2);
        lua_pushcfunction(L, stub_index);
        lua_setfield(L, -2, "__index");
        lua_pushcfunction(L, stub_newindex);
        lua_setfield(L, -2, "__newindex");
        lua_pushvalue(L, -1);
        lua_setfield(L, LUA_REGISTRYINDEX, STUB);
    }
}

/* With the stubs' metatable on top. */
static void make_stub(lua_State *L, nl_lctx *lc, uint32_t lib)
{
    lua_createtable(L, 0, lib == NL_LIB_PACKAGE ? 1 : 0);
    lc->libs.stubs |= lib;
    lc->libs.stub[index_of(lib)] = lua_topointer(L, -1);
    if (lib == NL_LIB_PACKAGE) {
        nl_package_stub(L);
    }
    lua_pushvalue(L, -2);
    lua_setmetatable(L, -2);
    lua_setglobal(L, nl_lib_name(lib));
}

/* The stub becomes the library's table, which is then filled. */
static void end_stub(lua_State *L, nl_lctx *lc, uint32_t lib)
{
    lc->libs.stubs &= ~lib;
    push_all_loaded(L);
    lua_getglobal(L, nl_lib_name(lib));
    if (lua_topointer(L, -1) == lc->libs.stub[index_of(lib)]) {
        lua_pushnil(L);
        lua_setmetatable(L, -2);
        lua_setfield(L, -2, nl_lib_name(lib));
    } else {
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* (string, key): somebody uses a method of strings, and no text has named the library. */
static int string_index(lua_State *L)
{
    nl_libs_open(L, NL_LIB_STRING);
    lua_settop(L, 2);
    lua_gettable(L, 1);
    return 1;
}

/* --- opening ---------------------------------------------------------------------------------- */

static void call_opener(lua_State *L, lua_CFunction f, const char *name)
{
    lua_pushcfunction(L, f);
    lua_pushstring(L, name);
    nl_lua_call(L, 1, 0);
}

void nl_libs_install(lua_State *L, const char *name)
{
    push_loaded(L, name);
    if (!lua_istable(L, -1)) {
        lua_pop(L, 1);
        luaL_findtable(L, LUA_REGISTRYINDEX, "_LOADED", 16);
        lua_pushvalue(L, -2);
        lua_setfield(L, -2, name);
        lua_pop(L, 1);
        lua_setglobal(L, name);
        return;
    }
    lua_pushnil(L);
    while (lua_next(L, -3)) {
        lua_pushvalue(L, -2);
        lua_rawget(L, -4);
        if (lua_isnil(L, -1)) { /* else somebody has got it already */
            lua_pushvalue(L, -3);
            lua_pushvalue(L, -3);
            lua_rawset(L, -6);
        }
        lua_pop(L, 2);
    }
    if (lua_getmetatable(L, -2)) {
        lua_setmetatable(L, -2);
    }
    lua_pop(L, 2);
}

static void open_ours(lua_State *L, const nl_module *m)
{
    lua_pushcfunction(L, m->open);
    lua_pushstring(L, m->name);
    nl_lua_call(L, 1, 1);
    nl_libs_install(L, m->name);
}

/* luaopen_string makes a new metatable for strings; one that debug.setmetatable has set stays. */
static void open_string(lua_State *L, nl_lctx *lc)
{
    lua_pushliteral(L, "");
    if (!lua_getmetatable(L, -1)) {
        lua_pushnil(L);
    }
    bool keep = lua_topointer(L, -1) != lc->libs.string_metatable;
    call_opener(L, luaopen_string, LUA_STRLIBNAME);
    if (keep) {
        lua_setmetatable(L, -2);
        lua_pop(L, 1);
    } else {
        lua_pop(L, 2);
    }
}

static void preload_ffi(lua_State *L)
{
    luaL_findtable(L, LUA_REGISTRYINDEX, "_PRELOAD", 1);
    lua_pushcfunction(L, luaopen_ffi);
    lua_setfield(L, -2, LUA_FFILIBNAME);
    lua_pop(L, 1);
}

/*
 * luaopen_package sets a global require of its own, and the path that a script may have changed in
 * the stub.
 */
static void open_package(lua_State *L)
{
    nl_libs_open(L, NL_LIB_REQUIRE);
    lua_getglobal(L, "require");
    push_loaded(L, LUA_LOADLIBNAME);
    bool stub = lua_istable(L, -1);
    if (stub) {
        lua_getfield(L, -1, "path");
        lua_replace(L, -2);
    }
    call_opener(L, luaopen_package, LUA_LOADLIBNAME);
    push_loaded(L, LUA_LOADLIBNAME);
    nl_package_open(L);
    if (stub) {
        lua_pushvalue(L, -2);
        lua_setfield(L, -2, "path");
    }
    lua_pop(L, 2);
    lua_setglobal(L, "require");
}

static void open_one(lua_State *L, nl_lctx *lc, uint32_t lib)
{
    const nl_module *m = module_of(lib);
    if (m && m->open) {
        open_ours(L, m);
        return;
    }
    switch (lib) {
    case NL_LIB_TABLE:
        call_opener(L, luaopen_table, LUA_TABLIBNAME);
        break;
    case NL_LIB_IO:
        call_opener(L, luaopen_io, LUA_IOLIBNAME);
        break;
    case NL_LIB_OS:
        call_opener(L, luaopen_os, LUA_OSLIBNAME);
        break;
    case NL_LIB_MATH:
        call_opener(L, luaopen_math, LUA_MATHLIBNAME);
        break;
    case NL_LIB_DEBUG:
        call_opener(L, luaopen_debug, LUA_DBLIBNAME);
        break;
    case NL_LIB_BIT:
        call_opener(L, luaopen_bit, LUA_BITLIBNAME);
        break;
    case NL_LIB_JIT:
        nl_jit_lib_open(L);
        break;
    case NL_LIB_STRING:
        open_string(L, lc);
        break;
    case NL_LIB_PACKAGE:
        open_package(L);
        break;
    case NL_LIB_COROUTINE:
        nl_colib_open(L);
        break;
    case NL_LIB_FFI:
        preload_ffi(L);
        break;
    case NL_LIB_REQUIRE:
        nl_require_open(L);
        break;
    default:
        break;
    }
    if (m && m->extend) {
        push_loaded(L, m->name);
        m->extend(L);
        lua_pop(L, 1);
    }
}

void nl_libs_open(lua_State *L, uint32_t mask)
{
    nl_lctx *lc = nl_lctx_of(L);
    while (nl_unlikely((mask &= ~lc->libs.open))) {
        uint32_t lib = mask & (~mask + 1);
        lc->libs.open |= lib;
        if (lc->libs.stubs & lib) {
            end_stub(L, lc, lib);
        }
        open_one(L, lc, lib);
    }
}

void nl_libs_prepare(lua_State *L, const nl_libs_needed *n)
{
    nl_lctx *lc = nl_lctx_of(L);
    nl_libs_open(L, n->open);
    uint32_t left = n->stubs & ~(lc->libs.open | lc->libs.stubs);
    if (left) {
        push_stub_metatable(L);
        for (; left; left &= left - 1) {
            make_stub(L, lc, left & (~left + 1));
        }
        lua_pop(L, 1);
    }
}

void nl_libs_open_base(lua_State *L)
{
    call_opener(L, luaopen_base, "");
    /* Strings have methods whatever the text says. */
    lua_pushliteral(L, "");
    lua_createtable(L, 0, 1);
    nl_lctx_of(L)->libs.string_metatable = lua_topointer(L, -1);
    lua_pushcfunction(L, string_index);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
}

static int prepare_needed(lua_State *L)
{
    nl_libs_prepare(L, lua_touserdata(L, 1));
    return 0;
}

int nl_libs_load_chunk(nl_chunk *c, lua_State *L)
{
    int err = lua_cpcall(L, prepare_needed, (void *)nl_chunk_libs(c));
    return err ? err : nl_chunk_push(c, L);
}

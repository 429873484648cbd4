/* libs.c - see libs.h */
#include "lua/libs.h"

#include <luajit.h>
#include <string.h>

#include "lua/co.h"
#include "lua/require.h"
#include "lua/state.h"

/* ------------------------------------------------------------------ words */

static const struct word {
    const char *text;
    uint32_t libs;
} words[] = {
    {"table", NL_LIB_TABLE},
    {"io", NL_LIB_IO},
    {"os", NL_LIB_OS},
    {"math", NL_LIB_MATH},
    {"debug", NL_LIB_DEBUG},
    {"bit", NL_LIB_BIT},
    {"jit", NL_LIB_JIT},
    {"ffi", NL_LIB_FFI | NL_LIB_PACKAGE},
    {"package", NL_LIB_PACKAGE},
    {"require", NL_LIB_PACKAGE},
    {"module", NL_LIB_PACKAGE},
    {"dofile", NL_LIB_PACKAGE},
    {"coroutine", NL_LIB_COROUTINE},
    {"context", NL_LIB_CONTEXT},
    {"tcp", NL_LIB_TCP},
    {"timer", NL_LIB_TIMER},
    {"buffer", NL_LIB_BUFFER},
    /* Ways to names that do not stand in the text. */
    {"_G", NL_LIB_ALL},
    {"getfenv", NL_LIB_ALL},
    {"setfenv", NL_LIB_ALL},
    {"getregistry", NL_LIB_ALL},
    {"load", NL_LIB_ALL},
    {"loadstring", NL_LIB_ALL},
    {"loadfile", NL_LIB_ALL},
    {"loaded", NL_LIB_ALL},
    {"loaders", NL_LIB_ALL},
    {"searchers", NL_LIB_ALL},
    {"preload", NL_LIB_ALL},
    {"loadlib", NL_LIB_ALL},
};

static inline bool is_word_char(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c >= '0' && c <= '9') || c >= 0x80;
}

static uint32_t libs_of_word(const char *p, size_t n)
{
    for (size_t i = 0; i < nl_countof(words); i++) {
        if (words[i].text[0] == *p && strlen(words[i].text) == n && memcmp(words[i].text, p, n) == 0) {
            return words[i].libs;
        }
    }
    return 0;
}

uint32_t nl_libs_of_text(const char *text, size_t len)
{
    uint32_t libs = 0;
    const char *p = text, *end = text + len;
    while (p < end) {
        const char *from = p;
        while (p < end && is_word_char((unsigned char)*p)) {
            p++;
        }
        if (p - from >= 2 && p - from <= 11) {
            libs |= libs_of_word(from, (size_t)(p - from));
        }
        if (p > from && p < end && *p == '\\') {
            return NL_LIB_ALL; /* "_\71": a name may be spelt in escapes */
        }
        p += p == from;
    }
    return libs;
}

/* ------------------------------------------------------------------ opening */

static void call_opener(lua_State *L, lua_CFunction f, const char *name)
{
    lua_pushcfunction(L, f);
    lua_pushstring(L, name);
    lua_call(L, 1, 0);
}

/* A module of the runtime: a global, and what require answers. */
static void open_ours(lua_State *L, lua_CFunction f, const char *name)
{
    lua_pushcfunction(L, f);
    lua_pushstring(L, name);
    lua_call(L, 1, 1);
    luaL_findtable(L, LUA_REGISTRYINDEX, "_LOADED", 16);
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
    lua_setglobal(L, name);
}

static void preload_ffi(lua_State *L)
{
    luaL_findtable(L, LUA_REGISTRYINDEX, "_PRELOAD", 1);
    lua_pushcfunction(L, luaopen_ffi);
    lua_setfield(L, -2, LUA_FFILIBNAME);
    lua_pop(L, 1);
}

static void open_one(lua_State *L, nl_lctx *lc, uint32_t lib)
{
    switch (lib) {
    case NL_LIB_TABLE:
        call_opener(L, luaopen_table, LUA_TABLIBNAME);
        break;
    case NL_LIB_IO:
        call_opener(L, luaopen_io, LUA_IOLIBNAME);
        break;
    case NL_LIB_OS:
        call_opener(L, luaopen_os, LUA_OSLIBNAME);
        nl_open_os_exit(L);
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
        nl_jit_open(L, lc);
        break;
    case NL_LIB_FFI:
        preload_ffi(L);
        break;
    case NL_LIB_PACKAGE:
        call_opener(L, luaopen_package, LUA_LOADLIBNAME);
        nl_require_open(L);
        break;
    case NL_LIB_COROUTINE:
        nl_colib_open(L);
        break;
    case NL_LIB_CONTEXT:
        open_ours(L, luaopen_nl_context, "context");
        break;
    case NL_LIB_TCP:
        open_ours(L, luaopen_nl_tcp, "tcp");
        break;
    case NL_LIB_TIMER:
        open_ours(L, luaopen_nl_timer, "timer");
        break;
    case NL_LIB_BUFFER:
        open_ours(L, luaopen_nl_buffer, "buffer");
        break;
    default:
        break;
    }
}

void nl_libs_open(lua_State *L, uint32_t mask)
{
    nl_lctx *lc = nl_lctx_of(L);
    mask &= ~lc->libs;
    while (nl_unlikely(mask)) {
        uint32_t lib = mask & (~mask + 1);
        lc->libs |= lib;
        mask &= mask - 1;
        open_one(L, lc, lib);
    }
}

void nl_libs_open_base(lua_State *L)
{
    call_opener(L, luaopen_base, "");
    call_opener(L, luaopen_string, LUA_STRLIBNAME);
}

void nl_require_ffi(lua_State *L)
{
    luaL_findtable(L, LUA_REGISTRYINDEX, "_LOADED", 16);
    lua_getfield(L, -1, LUA_FFILIBNAME);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_pushcfunction(L, luaopen_ffi);
        lua_pushstring(L, LUA_FFILIBNAME);
        lua_call(L, 1, 1);
        lua_pushvalue(L, -1);
        lua_setfield(L, -3, LUA_FFILIBNAME);
    }
    lua_remove(L, -2);
}

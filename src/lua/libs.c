/* libs.c - see libs.h */
#include "lua/libs.h"

#include <luajit.h>
#include <string.h>

#include "lua/co.h"
#include "lua/require.h"
#include "lua/state.h"

/* ------------------------------------------------------------------ words */

/* In the order of the bits, as far as those can be stubs. */
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
    {"string", NL_LIB_STRING},
    {"package", NL_LIB_PACKAGE | NL_LIB_REQUIRE},
    {"context", NL_LIB_CONTEXT},
    {"tcp", NL_LIB_TCP},
    {"timer", NL_LIB_TIMER},
    {"buffer", NL_LIB_BUFFER},
    {"coroutine", NL_LIB_COROUTINE},
    {"ffi", NL_LIB_FFI},
    {"require", NL_LIB_REQUIRE},
    {"dofile", NL_LIB_REQUIRE},
    {"module", NL_LIB_PACKAGE | NL_LIB_REQUIRE},
    /* Ways to names that do not stand in the text. */
    {"_G", NL_LIB_ALL},
    {"getfenv", NL_LIB_ALL},
    {"setfenv", NL_LIB_ALL},
    {"getregistry", NL_LIB_ALL},
    {"getmetatable", NL_LIB_STRING}, /* of a string: its __index is the library */
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
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c >= '0' && c <= '9') ||
           c >= 0x80;
}

/* The word at p of that length, if it is one of them. */
static const struct word *find_word(const char *p, size_t n)
{
    for (size_t i = 0; i < nl_countof(words); i++) {
        if (words[i].text[0] == *p && strlen(words[i].text) == n && memcmp(words[i].text, p, n) == 0) {
            return &words[i];
        }
    }
    return NULL;
}

/* A word from `from` to p: adds what it asks for. */
static void count_word(nl_libs_needed *n, const char *from, const char *p, const char *end)
{
    const struct word *w = p - from >= 2 && p - from <= 12 ? find_word(from, (size_t)(p - from)) : NULL;
    if (!w) {
        return;
    }
    if ((w->libs & NL_LIB_STUBS) && end - p > 1 && p[0] == '.' && is_word_char((unsigned char)p[1])) {
        n->stubs |= w->libs & NL_LIB_STUBS;
        n->open |= w->libs & ~NL_LIB_STUBS;
    } else {
        n->open |= w->libs;
    }
}

/* If a long bracket opens at p, "[[" or "[=[" …: the number of its "=", else -1. */
static int long_bracket(const char *p, const char *end)
{
    int n = 0;
    if (p == end || *p++ != '[') {
        return -1;
    }
    while (p < end && *p == '=') {
        n++;
        p++;
    }
    return p < end && *p == '[' ? n : -1;
}

/* Behind the long string or comment that opens at p with n "=". */
static const char *skip_long(const char *p, const char *end, int n)
{
    for (p += n + 2; p < end; p++) {
        if (*p == ']' && end - p > n + 1 && p[n + 1] == ']' && (int)strspn(p + 1, "=") == n) {
            return p + n + 2;
        }
    }
    return end;
}

/* Behind the quoted string that opens at p; it cannot go over the end of a line unless the break is escaped. */
static const char *skip_quoted(const char *p, const char *end)
{
    char quote = *p++;
    while (p < end && *p != quote && *p != '\n') {
        p += *p == '\\' ? 2 : 1;
    }
    return p < end ? p + 1 : end;
}

/* Comments and strings are skipped: a string becomes a name only through the words above, or through require, which opens
 * what it is asked for. */
nl_libs_needed nl_libs_of_text(const char *text, size_t len)
{
    nl_libs_needed needed = {0, 0};
    const char *p = text, *end = text + len;
    while (p < end) {
        const char *from = p;
        while (p < end && is_word_char((unsigned char)*p)) {
            p++;
        }
        if (p > from) {
            count_word(&needed, from, p, end);
            continue;
        }
        bool comment = *p == '-' && end - p > 1 && p[1] == '-';
        int n = long_bracket(comment ? p + 2 : p, end);
        if (n >= 0) {
            p = skip_long(comment ? p + 2 : p, end, n);
        } else if (comment) {
            const char *eol = memchr(p, '\n', (size_t)(end - p));
            p = eol ? eol : end;
        } else if (*p == '"' || *p == '\'') {
            p = skip_quoted(p, end);
        } else {
            p++;
        }
    }
    needed.stubs &= ~needed.open;
    return needed;
}

uint32_t nl_libs_of_name(const char *name)
{
    const struct word *w = find_word(name, strlen(name));
    return w && w->libs != NL_LIB_ALL ? w->libs : 0;
}

/* ------------------------------------------------------------------ stubs */

#define STUB "nl.stub" /* in the registry: the metatable of all stubs */

static inline const char *name_of(uint32_t lib)
{
    return words[__builtin_ctz(lib)].text;
}

/* Pushes _LOADED[name]: the table that luaopen_* fills, if there is one. */
static void push_loaded(lua_State *L, const char *name)
{
    luaL_findtable(L, LUA_REGISTRYINDEX, "_LOADED", 16);
    lua_getfield(L, -1, name);
    lua_remove(L, -2);
}

/* Fills the stub at index 1; from then on it is an ordinary table. */
static void fill(lua_State *L)
{
    for (uint32_t left = nl_lctx_of(L)->stubs; left; left &= left - 1) {
        uint32_t lib = left & (~left + 1);
        push_loaded(L, name_of(lib));
        bool found = lua_rawequal(L, 1, -1);
        lua_pop(L, 1);
        if (found) {
            nl_libs_open(L, lib);
            return;
        }
    }
    lua_pushnil(L);
    lua_setmetatable(L, 1);
}

/* (stub, key) */
static int stub_index(lua_State *L)
{
    fill(L);
    lua_settop(L, 2);
    lua_gettable(L, 1);
    return 1;
}

/* (stub, key, value) */
static int stub_newindex(lua_State *L)
{
    fill(L);
    lua_settop(L, 3);
    lua_settable(L, 1);
    return 0;
}

static void push_stub(lua_State *L)
{
    lua_createtable(L, 0, 0);
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
    lua_setmetatable(L, -2);
}

static void make_stub(lua_State *L, const char *name)
{
    luaL_findtable(L, LUA_REGISTRYINDEX, "_LOADED", 16);
    push_stub(L);
    lua_pushvalue(L, -1);
    lua_setglobal(L, name);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

/* ------------------------------------------------------------------ opening */

static void call_opener(lua_State *L, lua_CFunction f, const char *name)
{
    lua_pushcfunction(L, f);
    lua_pushstring(L, name);
    lua_call(L, 1, 0);
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
        lua_insert(L, -2);
        lua_rawset(L, -4);
    }
    if (lua_getmetatable(L, -2)) {
        lua_setmetatable(L, -2);
    }
    lua_pop(L, 2);
}

static void open_ours(lua_State *L, lua_CFunction f, const char *name)
{
    lua_pushcfunction(L, f);
    lua_pushstring(L, name);
    lua_call(L, 1, 1);
    nl_libs_install(L, name);
}

/* luaopen_string makes a new metatable for strings; what a script may have done to the old one stays. */
static void open_string(lua_State *L)
{
    lua_pushliteral(L, "");
    bool had = lua_getmetatable(L, -1);
    call_opener(L, luaopen_string, LUA_STRLIBNAME);
    if (had) {
        lua_setmetatable(L, -2);
    }
    lua_pop(L, 1);
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
        push_loaded(L, LUA_OSLIBNAME);
        nl_open_os_exit(L);
        nl_wrap_blocking(L, "execute");
        lua_pop(L, 1);
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
    case NL_LIB_STRING:
        open_string(L);
        break;
    case NL_LIB_PACKAGE:
        call_opener(L, luaopen_package, LUA_LOADLIBNAME);
        push_loaded(L, LUA_LOADLIBNAME);
        nl_package_open(L);
        lua_pop(L, 1);
        nl_require_open(L); /* luaopen_package has set its own */
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
        mask &= mask - 1;
        lc->libs |= lib;
        if (lc->stubs & lib) {
            lc->stubs &= ~lib;
            push_loaded(L, name_of(lib));
            lua_pushnil(L);
            lua_setmetatable(L, -2);
            lua_pop(L, 1);
        }
        open_one(L, lc, lib);
    }
}

void nl_libs_prepare(lua_State *L, const nl_libs_needed *n)
{
    nl_lctx *lc = nl_lctx_of(L);
    nl_libs_open(L,
                 n->open | (n->stubs & NL_LIB_CONTEXT)); /* who names that uses it, and a stub costs some */
    for (uint32_t left = n->stubs & ~(lc->libs | lc->stubs); left; left &= left - 1) {
        uint32_t lib = left & (~left + 1);
        make_stub(L, name_of(lib));
        lc->stubs |= lib;
    }
}

void nl_libs_open_base(lua_State *L)
{
    call_opener(L, luaopen_base, "");
    /* Strings have methods whatever the text says. */
    make_stub(L, LUA_STRLIBNAME);
    nl_lctx_of(L)->stubs |= NL_LIB_STRING;
    lua_pushliteral(L, "");
    lua_createtable(L, 0, 1);
    push_loaded(L, LUA_STRLIBNAME);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
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

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
    {"seeall", NL_LIB_ALL},
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

static inline bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
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

/* Whether what follows the "." at p is a field that is assigned to: such a table is to be what it seems from the start. */
static bool is_assigned(const char *p, const char *end)
{
    do {
        p++;
    } while (p < end && is_word_char((unsigned char)*p));
    while (p < end && is_space(*p)) {
        p++;
    }
    return end - p > 1 && p[0] == '=' && p[1] != '=';
}

/* A word from `from` to p: adds what it asks for. */
static void count_word(nl_libs_needed *n, const char *from, const char *p, const char *end)
{
    const struct word *w = p - from >= 2 && p - from <= 12 ? find_word(from, (size_t)(p - from)) : NULL;
    if (!w) {
        return;
    }
    bool field = end - p > 1 && p[0] == '.' && is_word_char((unsigned char)p[1]);
    if (field && (w->libs & NL_LIB_STUBS) && !((w->libs & NL_LIB_BY_FIELD) && is_assigned(p, end))) {
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

/* Behind the escape sequence that opens at p: of a line break both its characters, after "\\z" all blanks. */
static const char *skip_escape(const char *p, const char *end)
{
    if (end - p < 2) {
        return end;
    }
    if (p[1] == 'z') {
        for (p += 2; p < end && is_space(*p); p++) {
        }
        return p;
    }
    bool pair = end - p > 2 && ((p[1] == '\r' && p[2] == '\n') || (p[1] == '\n' && p[2] == '\r'));
    return p + (pair ? 3 : 2);
}

/* Behind the quoted string that opens at p; it cannot go over the end of a line unless the break is escaped. */
static const char *skip_quoted(const char *p, const char *end)
{
    char quote = *p++;
    while (p < end && *p != quote && *p != '\n') {
        p = *p == '\\' ? skip_escape(p, end) : p + 1;
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

static inline int index_of(uint32_t lib)
{
    return __builtin_ctz(lib);
}

static inline const char *name_of(uint32_t lib)
{
    return words[index_of(lib)].text;
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
    for (uint32_t left = lc->stubs; left; left &= left - 1) {
        if (lc->stub[index_of(left)] == stub) {
            return left & (~left + 1);
        }
    }
    return 0;
}

bool nl_push_function(lua_State *L, const luaL_Reg *functions, const char *name)
{
    while (functions->name && strcmp(functions->name, name) != 0) {
        functions++;
    }
    if (functions->name) {
        lua_pushcfunction(L, functions->func);
    }
    return functions->name != NULL;
}

/* Pushes the field of a module of ours whose other fields nobody has asked for. */
static void push_field(lua_State *L, uint32_t lib, const char *name)
{
    if (lib == NL_LIB_CONTEXT) {
        nl_context_push_field(L, name);
    } else {
        nl_timer_push_field(L, name);
    }
}

/* (stub, key) */
static int stub_index(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    uint32_t lib = lib_of_stub(lc, lua_topointer(L, 1));
    if ((lib & NL_LIB_BY_FIELD) && lua_type(L, 2) == LUA_TSTRING) {
        push_field(L, lib, lua_tostring(L, 2));
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
    lc->stubs |= lib;
    lc->stub[index_of(lib)] = lua_topointer(L, -1);
    if (lib == NL_LIB_PACKAGE) {
        nl_package_stub(L);
    }
    lua_pushvalue(L, -2);
    lua_setmetatable(L, -2);
    lua_setglobal(L, name_of(lib));
}

/* The stub becomes the library's table, which is then filled. */
static void end_stub(lua_State *L, nl_lctx *lc, uint32_t lib)
{
    lc->stubs &= ~lib;
    push_all_loaded(L);
    lua_getglobal(L, name_of(lib));
    if (lua_topointer(L, -1) == lc->stub[index_of(lib)]) {
        lua_pushnil(L);
        lua_setmetatable(L, -2);
        lua_setfield(L, -2, name_of(lib));
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

static void open_ours(lua_State *L, lua_CFunction f, const char *name)
{
    lua_pushcfunction(L, f);
    lua_pushstring(L, name);
    lua_call(L, 1, 1);
    nl_libs_install(L, name);
}

/* luaopen_string makes a new metatable for strings; one that debug.setmetatable has set stays. */
static void open_string(lua_State *L, nl_lctx *lc)
{
    lua_pushliteral(L, "");
    if (!lua_getmetatable(L, -1)) {
        lua_pushnil(L);
    }
    bool keep = lua_topointer(L, -1) != lc->string_metatable;
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

/* luaopen_package sets a global require of its own, and the path that a script may have changed in the stub. */
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
    while (nl_unlikely((mask &= ~lc->libs))) {
        uint32_t lib = mask & (~mask + 1);
        lc->libs |= lib;
        if (lc->stubs & lib) {
            end_stub(L, lc, lib);
        }
        open_one(L, lc, lib);
    }
}

void nl_libs_prepare(lua_State *L, const nl_libs_needed *n)
{
    nl_lctx *lc = nl_lctx_of(L);
    nl_libs_open(L, n->open);
    uint32_t left = n->stubs & ~(lc->libs | lc->stubs);
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
    nl_lctx_of(L)->string_metatable = lua_topointer(L, -1);
    lua_pushcfunction(L, string_index);
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

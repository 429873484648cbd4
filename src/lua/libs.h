/*
 * libs.h - which libraries a state has open.
 *
 * Opening all of LuaJIT's takes 30 µs and 20 KB, which is more than all the rest of a context.
 * So a state starts with `base` alone.  The text of a file is looked through for the
 * libraries' names when it is compiled, and before its chunk runs,
 *
 *  - one whose name stands there only in the form `math.floor` gets a stub, an empty table
 *    that is filled when a field is first asked for or set (`context` and `timer`, in which each
 *    context uses little: with that field alone, unless the text assigns to a field of theirs);
 *  - one whose name stands there otherwise (`local m = math`) is opened;
 *  - all are opened if there is a word through which names are made up at run time (_G, getfenv,
 *    load …), and before a module in C is loaded; require opens what it is asked for.
 *
 * So no script can tell the difference, and what it may need is known from its text alone.
 */
#ifndef NL_LIBS_H
#define NL_LIBS_H

#include <lauxlib.h>
#include <lua.h>

#include "base/base.h"

enum {
    NL_LIB_TABLE = 1 << 0,
    NL_LIB_IO = 1 << 1,
    NL_LIB_OS = 1 << 2,
    NL_LIB_MATH = 1 << 3,
    NL_LIB_DEBUG = 1 << 4,
    NL_LIB_BIT = 1 << 5,
    NL_LIB_JIT = 1 << 6,
    NL_LIB_STRING = 1 << 7,
    NL_LIB_PACKAGE = 1 << 8,
    NL_LIB_CONTEXT = 1 << 9,
    NL_LIB_TCP = 1 << 10,
    NL_LIB_TIMER = 1 << 11,
    NL_LIB_BUFFER = 1 << 12,
    NL_LIB_STUBS = (1 << 13) - 1, /* those above can be stubs */
    NL_LIB_BY_FIELD = NL_LIB_CONTEXT | NL_LIB_TIMER,
    NL_LIB_COROUTINE = 1 << 13, /* our functions in place of LuaJIT's */
    NL_LIB_FFI = 1 << 14,       /* in package.preload */
    NL_LIB_REQUIRE = 1 << 15,   /* the functions require and dofile */
    NL_LIB_ALL = (1 << 16) - 1
};

/* What a chunk may need: NL_LIB_* to be open, and to be there at least as stubs. */
typedef struct nl_libs_needed {
    uint32_t open, stubs;
} nl_libs_needed;

nl_libs_needed nl_libs_of_text(const char *text, size_t len);
/* What is behind require(name), 0 if it is none of ours. */
uint32_t nl_libs_of_name(const char *name);
/* Makes open what is not open yet, stubs what is neither.  May raise, for memory, as the next. */
void nl_libs_prepare(lua_State *L, const nl_libs_needed *n);
void nl_libs_open(lua_State *L, uint32_t mask);
/* Pops a module's table: it becomes the global of that name and what require answers, or its contents go into the stub. */
void nl_libs_install(lua_State *L, const char *name);
/* Opens what every state has: base, and what opens `string` when a method of strings is called. */
void nl_libs_open_base(lua_State *L);

/* lib_context.c, lib_timer.c: pushes one field of the module, nil if it has none of that name. */
void nl_context_push_field(lua_State *L, const char *name);
void nl_timer_push_field(lua_State *L, const char *name);
/* The same for a table of functions. */
bool nl_push_function(lua_State *L, const luaL_Reg *functions, const char *name);

/* blocking.c: the function `name` of the table on top of the stack may sleep in the system. */
void nl_wrap_blocking(lua_State *L, const char *name);

#endif

/*
 * libs.h - which libraries a state has open.
 *
 * Opening all of LuaJIT's takes 30 µs and 20 KB, which is more than all the rest of a context.
 * So a state starts with base and string, and before a chunk of a file runs, the libraries
 * whose names occur anywhere in its text are opened: what is not named cannot be
 * reached.  Words through which names could be made up at run time (_G, getfenv, load …) open
 * all of them, and so does a module in C.  No script can tell the difference.
 */
#ifndef NL_LIBS_H
#define NL_LIBS_H

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
    NL_LIB_FFI = 1 << 7,
    NL_LIB_PACKAGE = 1 << 8,
    NL_LIB_COROUTINE = 1 << 9,
    NL_LIB_CONTEXT = 1 << 10,
    NL_LIB_TCP = 1 << 11,
    NL_LIB_TIMER = 1 << 12,
    NL_LIB_BUFFER = 1 << 13,
    NL_LIB_ALL = (1 << 14) - 1
};

/* What a chunk of this text may need. */
uint32_t nl_libs_of_text(const char *text, size_t len);
/* Opens what of mask is not open yet.  May raise, for memory. */
void nl_libs_open(lua_State *L, uint32_t mask);
/* Opens base and string: what every state has. */
void nl_libs_open_base(lua_State *L);

#endif

/*
 * libscan.h - which libraries a Lua text may need, known from the text alone.
 *
 * Purpose: opening all libraries takes 30 µs; load/libs.h opens what the scan says.  Comments and
 * strings are skipped.
 * Threads: any; nothing is kept.
 * Ownership: none.
 */
#ifndef NL_LIBSCAN_H
#define NL_LIBSCAN_H

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
    NL_LIB_STUB_BITS = 13,
    NL_LIB_STUBS = (1 << NL_LIB_STUB_BITS) - 1, /* those above can be stubs */
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
/* The global name of one of NL_LIB_STUBS. */
const char *nl_lib_name(uint32_t lib);

#endif

/*
 * embedded.h - the modules that are written in Lua and embedded in the program.
 *
 * Purpose: lualib/ and the bundled LuaJIT's own jit.*; tools/embed.py writes the table at build
 * time.
 * Threads: any; it is constant.
 * Ownership: none.
 */
#ifndef NL_EMBEDDED_H
#define NL_EMBEDDED_H

#include <stddef.h>

typedef struct nl_embedded {
    const char *name; /* as `require` knows it: "context", "jit.v" */
    const char *data; /* source text; a zero follows the last byte */
    size_t size;      /* without that zero */
} nl_embedded;

/* Sorted by name (strcmp). A NULL name ends it. */
extern const nl_embedded nl_lualib[];
extern const size_t nl_lualib_count;

#endif

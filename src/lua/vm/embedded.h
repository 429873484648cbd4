// The modules that are written in Lua, embedded in the program: lualib/**.lua and the bundled LuaJIT's own jit.*.
// tools/embed.py writes the table at build time. Constant; any thread may read it.
#ifndef NL_LUA_LUALIB_H
#define NL_LUA_LUALIB_H

#include <stddef.h>

typedef struct nl_embedded {
    const char *name; // as `require` knows it: "context", "jit.v"
    const char *data; // source text; a zero follows the last byte
    size_t size;      // without that zero
} nl_embedded;

// Sorted by name (strcmp). A NULL name ends it.
extern const nl_embedded nl_lualib[];
extern const size_t nl_lualib_count;

#endif

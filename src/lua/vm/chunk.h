/*
 * chunk.h - Lua files, compiled once per process.
 *
 * Purpose: a file's bytecode (with its debug information) is kept under its path and used by every
 * context that loads it, as long as the file is as it was.  Its stamp (os.h) tells that, once the
 * stamp is older than a file system's clock is coarse (STAMP_AGE_NS); before that the text is read
 * and compared.
 * Threads: any; the cache has a lock of its own, not held while a file is read or compiled.
 * Ownership: chunks are counted; who gets one releases it.  The cache holds one reference of each
 * it keeps.
 */
#ifndef NL_CHUNK_H
#define NL_CHUNK_H

#include <lua.h>

#include "lua/vm/libscan.h"

typedef struct nl_chunk nl_chunk;

/*
 * The chunk of a file, with a reference for the caller.  0; -errno if it cannot be read;
 * -NL_ESYNTAX with the message on top of L's stack.  L is used to compile.  A file of bytecode is
 * taken as it is, with all libraries: LuaJIT does not check it, and a wrong one can end the
 * process.
 */
int nl_chunk_get(nl_chunk **out, lua_State *L, const char *path);
/* The same if the file is there and as it was when its chunk was cached, else NULL. */
nl_chunk *nl_chunk_cached(const char *path);
/* The same as nl_chunk_get for text that is no file; name as for luaL_loadbuffer.  Never cached. */
int nl_chunk_from_text(nl_chunk **out, lua_State *L, const char *text, size_t len, const char *name);
/* The same for all of standard input.  -errno. */
int nl_chunk_from_stdin(nl_chunk **out, lua_State *L);
/*
 * A module of nl_lualib (embedded.h): a reference, or NULL if there is none of that name.  Raises
 * if it does not compile.
 */
nl_chunk *nl_chunk_embedded(lua_State *L, const char *name);
/* The same for a text of our own; under a name that no module of nl_lualib has. */
nl_chunk *nl_chunk_builtin(lua_State *L, const char *name, const char *text, size_t len);
void nl_chunk_release(nl_chunk *c);
/* The libraries that it may need open. */
const nl_libs_needed *nl_chunk_libs(const nl_chunk *c);
/* Pushes its function on L, of any state.  0, or an error of lua_load with its message. */
int nl_chunk_push(const nl_chunk *c, lua_State *L);
/* At the end of the process. */
void nl_chunk_cache_free(void);

/*
 * Reads a whole file, or what comes from f if it is not NULL; -errno.  *text is nl_free'd by the
 * caller.
 */
int nl_read_file(const char *path, char **text, size_t *len);

#endif

/*
 * life.h - contexts that run Lua: the first one, and the end of what this layer keeps.
 *
 * Purpose: the top of src/lua.  It makes contexts, runs their main chunks and ends them, and hands
 *          the rooms below what they ask of those above.
 * Threads: the thread that calls nl_sched_run, before and after it.
 * Ownership: the options are main's, and stay until the process ends.
 */
#ifndef NL_LIFE_H
#define NL_LIFE_H

#include "lua/boot.h"

/* Starts the first context.  0, or 1 after a clear message on standard error. */
int nl_lua_start(const nl_lua_options *o);
/* After nl_sched_run: what this layer keeps per process (bytecode cache). */
void nl_lua_fini(void);

#endif

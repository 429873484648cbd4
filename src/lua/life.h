/*
 * life.h - contexts that run Lua: the first one, and the end of what this layer keeps.
 *
 * Purpose: the top of src/lua.  It makes contexts, runs their main chunks and ends them, and hands the rooms below
 *          what they ask of those above.
 * Threads: the main thread, before and after nl_sched_run.
 * Ownership: the options are main's, and stay until the process ends.
 */
#ifndef NL_LIFE_H
#define NL_LIFE_H

/* What main.c hands over for the first context. */
typedef struct nl_lua_options {
    int argc; /* the process's own arguments */
    char **argv;
    int script_index; /* of the script's name in argv ("-" = standard input); argc: none, only chunks */
    char **chunks;    /* -e and -l in order: 'e' or 'l' is the first character */
    int nchunks;
    char **jit; /* -j and -O options, first character 'j' or 'O' */
    int njit;
} nl_lua_options;
/* Starts the first context.  0, or 1 after a clear message on standard error. */
int nl_lua_start(const nl_lua_options *o);
/* After nl_sched_run: what this layer keeps per process (bytecode cache). */
void nl_lua_fini(void);

#endif

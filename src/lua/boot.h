/*
 * boot.h - what runs as a context's main chunk.
 *
 * Purpose: the command line's script and what stands before it; in every context the modules of
 * --each.
 * Threads: any, in a context's turn; nl_boot_set_options before the first context.
 * Ownership: the options are main's, and stay until the process ends.
 */
#ifndef NL_BOOT_H
#define NL_BOOT_H

#include <lua.h>

#include "lua/vm/chunk.h"

/* What main.c hands over. */
typedef struct nl_lua_options {
    int argc; /* the process's own arguments */
    char **argv;
    int script_index; /* in argv, of the script ("-": standard input) or of -b; argc: none */
    char **chunks;    /* -e and -l in order: 'e' or 'l' is the first character */
    int nchunks;
    char **jit; /* -j and -O options, first character 'j' or 'O' */
    int njit;
    char **each; /* modules that every context requires first */
    int neach;
    bool interactive; /* -i */
    bool bytecode;    /* -b: what stands there and behind it is for jit.bcsave */
    bool no_environment;
} nl_lua_options;

void nl_boot_set_options(const nl_lua_options *o);
/* The script's path; NULL: there is none. */
const char *nl_boot_script(void);

/*
 * Of the first context: pushes its main function, and sets arg.  0, or an error with the message on
 * top.  May raise.
 */
int nl_boot_push_first(lua_State *L);
/* Pushes the script's arguments; how many. */
int nl_boot_push_arguments(lua_State *L);

/* Of any other context: pushes the main function for its chunk.  May raise. */
void nl_boot_push_other(lua_State *L, nl_chunk *c);
/* Sets its arg: the file, and what stands on top of from, n values. */
void nl_boot_set_arg(lua_State *L, const char *file, lua_State *from, int n);

#endif

/*
 * jit_lib.h - the library jit in a state, and the options -j and -O.
 *
 * Purpose: the compiler needs the library open.  A script that does not name it does not see it.
 * Threads: the one that runs the state.
 * Ownership: the options are main's, and stay until the process ends.
 */
#ifndef NL_JIT_LIB_H
#define NL_JIT_LIB_H

#include "lua/vm/state.h"

/* Opens the library jit for the script. */
void nl_jit_lib_open(lua_State *L);
/* For nl_jit_set_opener. */
int nl_jit_lib_open_hidden(lua_State *L);

/* -j and -O of the command line, first character 'j' or 'O'; before the first state. */
void nl_jit_lib_set_options(char **o, int n);
/* Applies them; an error of lua_pcall with its message on L's top. */
int nl_jit_lib_apply_options(lua_State *L);

#endif

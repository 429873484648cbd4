/*
 * state.h - the Lua state of a context: making, closing it, and when its JIT compiler runs.
 *
 * Compiling costs a state tens of µs and 14 KB, so it has to pay: a state starts with the JIT
 * off, and it is turned on when the context has used some ms of processor time, looked at
 * between two runs (nl_jit_check) or, for those who compute in one long run, by the monitor's
 * thread (nl_lctx_slow).  No more than NL_JIT_MAX states have it on: each takes address
 * space near the program.  -j, -O, jit.on and jit.off overrule all this.
 */
#ifndef NL_STATE_H
#define NL_STATE_H

#include "lua/lctx.h"

enum { NL_JIT_OFF, NL_JIT_ON, NL_JIT_CAPPED, NL_JIT_USER /* the script or the command line decides */ };
#define NL_JIT_MAX 16000
#define NL_JIT_AFTER_NS 2000000

/* -j and -O of the command line, first character 'j' or 'O'; before the first state. */
void nl_jit_options(char **o, int n);

/* The context that calls from C are for while no worker runs one; NULL: none. */
void nl_state_booting(nl_lctx *lc);

/* Makes lc's state, with what every state has open.  0, or -ENOMEM. */
int nl_state_open(nl_lctx *lc);
/* Applies the options; an error of lua_pcall with its message on lc->L's top. */
int nl_state_apply_options(nl_lctx *lc);
/* Closes it; finalizers run.  The memory stays until the context's goes, because of nl_lctx_slow. */
void nl_state_close(nl_lctx *lc);

/* Turns the JIT on if it is time to. */
void nl_jit_check(nl_lctx *lc);
/* Opens the library `jit` for the script. */
void nl_jit_open(lua_State *L, nl_lctx *lc);
/* From any thread, inside a qsbr section: the context has been running for long without a stop. */
void nl_lctx_slow(nl_ctx *c);

/* The main chunk, or all of it, has failed: the context ends with that reason. */
void nl_lctx_main_failed(nl_lctx *lc, const char *reason);
/* Replaces os.exit in the table on top. */
void nl_open_os_exit(lua_State *L);

#endif

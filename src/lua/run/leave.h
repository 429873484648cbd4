/*
 * leave.h - ending Lua code that runs, whatever it is wrapped in.
 *
 * Purpose: a context that is dying must not go on in a script; one that computes for long gets the
 *          JIT compiler.
 * Threads: the one that runs the state.  nl_interrupt_wanted is the monitor's, nl_interrupted a
 *          signal handler's on the thread that runs the state.
 * Ownership: none.
 */
#ifndef NL_LEAVE_H
#define NL_LEAVE_H

#include "lua/run/lctx.h"

/* return nl_leave(L): the context is dying; the calling Lua code never goes on. */
int nl_leave(lua_State *L);
/* The code that was to leave has left. */
void nl_interrupt_over(nl_lctx *lc);
/*
 * The context has been running for long without a stop (nl_ctx_ops.slow): whether there is anything
 * to tell it.
 */
bool nl_interrupt_wanted(nl_ctx *c, bool limbo);
/* Tells it (nl_ctx_ops.interrupted). */
void nl_interrupted(nl_ctx *c);

#endif

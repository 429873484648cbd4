/*
 * jit.h - when the JIT compiler of a state runs.
 *
 * Purpose: compiling costs a state tens of µs and 14 KB, so it has to pay.  A state starts with the
 *          compiler off.  It is turned on when the owner has used NL_JIT_AFTER_NS of processor
 *          time.  No more than NL_JIT_MAX states have it on: each takes address space near the
 *          program.  -j, -O, jit.on and jit.off overrule all this.
 * Threads: the one that runs the state; nl_jit_mode may be called by any.
 * Ownership: the fields are nl_state's.
 */
#ifndef NL_JIT_H
#define NL_JIT_H

#include "lua/vm/state.h"

/* NL_JIT_USER: the script or the command line decides. */
enum { NL_JIT_OFF, NL_JIT_ON, NL_JIT_CAPPED, NL_JIT_USER };
#define NL_JIT_MAX 16000
#define NL_JIT_AFTER_NS 2000000

/*
 * Relaxed: the monitor's thread acts on what it sees, and the one that runs the state looks again
 * before it acts.
 */
static inline int nl_jit_mode(const nl_state *s)
{
    return atomic_load_explicit(&s->jit, memory_order_relaxed);
}

/*
 * What opens the library jit, which the compiler needs, once in a state; set before the first one.
 */
void nl_jit_set_opener(lua_CFunction open);
/* Turns the compiler on, unless NL_JIT_MAX states have it on.  L: of the state, running. */
void nl_jit_on(lua_State *L, nl_state *s);
/* From now on the script or the command line decides. */
void nl_jit_leave_to_user(nl_state *s);
/* Switches the compiler, and nothing else. */
void nl_jit_switch(lua_State *L, bool on);
/* The state no longer counts for NL_JIT_MAX. */
void nl_jit_uncount(nl_state *s);

#endif

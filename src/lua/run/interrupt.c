/* interrupt.c - see interrupt.h */
#include "lua/run/interrupt.h"

#include "lua/run/co.h"
#include "lua/vm/jit.h"

/* ------------------------------------------------------------------ leaving for good */

/* Every error that a script could catch would let it go on.  This one no handler sees, and the hook comes again. */
static int raise_unseen(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    if (lc->vm.heap) {
        nl_heap_deny(lc->vm.heap, true);
        lua_newuserdata(L, 64);
    }
    return luaL_error(L, "the context has ended");
}

static void leave_hook(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    nl_lctx *lc = nl_lctx_of(L);
    if (!lc->cur) {
        return; /* it has ended already, a finalizer runs */
    }
    lc->dying = true;
    nl_ctx_end_killed(&lc->ctx);
    if (lua_isyieldable(L)) {
        lua_yield(L, 0);
    } else {
        raise_unseen(L);
    }
}

int nl_leave(lua_State *L)
{
    nl_lctx_of(L)->dying = true;
    lua_sethook(L, leave_hook, LUA_MASKCOUNT, 1);
    return lua_isyieldable(L) ? lua_yield(L, 0) : raise_unseen(L);
}

void nl_interrupt_over(nl_lctx *lc)
{
    if (lc->vm.heap) {
        nl_heap_deny(lc->vm.heap, false);
    }
}

/* ------------------------------------------------------------------ a long dispatch */

static void slow_hook(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    lua_sethook(L, NULL, 0, 0);
    nl_ctx_checkpoint(); /* while Lua runs nobody below it holds a looked-up pointer (qsbr.h) */
    nl_lctx *lc = nl_lctx_of(L);
    /* The time is looked at: the interruption may have been meant for the one that ran here before. */
    if (nl_jit_mode(&lc->vm) == NL_JIT_OFF && nl_ctx_cpu_ns(&lc->ctx) >= NL_JIT_AFTER_NS) {
        nl_jit_on(L, &lc->vm);
    }
}

bool nl_interrupt_wanted(nl_ctx *c, bool limbo)
{
    return limbo || atomic_load(&c->kill_posted) || nl_jit_mode(&((nl_lctx *)c)->vm) == NL_JIT_OFF;
}

/*
 * LuaJIT allows lua_sethook in a signal handler of the thread that runs the state, and nowhere else: it changes bits
 * of a word that the same thread changes too, and rewrites the table by which instructions are dispatched.  What can be
 * lost is the setting itself, if the handler has come between two steps of another change of hooks or of the
 * compiler's state: then the table follows the older one.  The hook is set again at the next tick, and taken off
 * first: the table is rewritten only where it differs from what LuaJIT believes to be in it.
 */
static NL_NO_TSAN void set_hook(lua_State *L, lua_Hook hook)
{
    lua_sethook(L, NULL, 0, 0);
    lua_sethook(L, hook, LUA_MASKCOUNT, 1);
}

NL_NO_TSAN void nl_interrupted(nl_ctx *c)
{
    const nl_lctx *lc = (nl_lctx *)c;
    const volatile nl_state *s = &lc->vm; /* as it is at this moment */
    lua_State *L = s->L;
    if (!L || s->closing) {
        return;
    }
    if (atomic_load_explicit(&c->kill_posted, memory_order_acquire)) {
        set_hook(L, leave_hook);
    } else if (!lua_gethookmask(L)) {
        set_hook(L, slow_hook);
    }
}

/* leave.c - see leave.h */
#include "lua/run/leave.h"

#include "base/log.h"
#include "lua/run/co.h"
#include "lua/vm/jit.h"

/* --- leaving for good ------------------------------------------------------------------------- */

/*
 * Every error that a script could catch would let it go on.  This one no handler sees, and the hook
 * comes again.
 */
static int raise_unseen(lua_State *L)
{
#if NL_LUAJIT_INSIDE
    lua_pushliteral(L, "the context has ended");
    nl_lua_hooks_reach_all(L); /* a pcall inside of a hook does not take this one for over */
    return nl_lua_throw(L);
#else
    nl_lctx *lc = nl_lctx_of(L);
    if (lc->vm.heap) { /* an error for want of memory is such a one */
        nl_heap_deny(lc->vm.heap, true);
        lua_newuserdata(L, 64);
    }
    return luaL_error(L, "the context has ended");
#endif
}

static bool close_is_overdue(const volatile nl_state *s)
{
    return nl_now_ns() - s->closing_since > NL_CLOSE_NS;
}

static void leave_hook(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    nl_lctx *lc = nl_lctx_of(L);
    if (lc->vm.closing) { /* a finalizer runs */
        if (close_is_overdue(&lc->vm)) {
            if (!lc->leaving) {
                nl_log(lc->name, "a finalizer is cut off: at the end they have had %d s, all together",
                       (int)(NL_CLOSE_NS / 1000000000));
            }
            lc->leaving = true;
            raise_unseen(L);
        }
        return;
    }
    lc->dying = true;
    nl_ctx_end_killed(&lc->ctx);
    if (!lua_isyieldable(L)) {
        raise_unseen(L);
    }
    lc->leaving = true;
    /* from here on no signal handler takes this for no hook */
    atomic_signal_fence(memory_order_seq_cst);
    nl_lua_in_hook(L);
    lua_yield(L, 0);
}

int nl_leave(lua_State *L)
{
    nl_lctx_of(L)->dying = true;
    lua_sethook(L, leave_hook, LUA_MASKCOUNT, 1);
    if (!lua_isyieldable(L)) {
        return raise_unseen(L);
    }
    nl_lua_no_hook_runs(L);
    return lua_yield(L, 0);
}

void nl_interrupt_over(nl_lctx *lc)
{
    if (lc->vm.heap) {
        nl_heap_deny(lc->vm.heap, false);
    }
}

/* --- a long dispatch -------------------------------------------------------------------------- */

static void slow_hook(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    lua_sethook(L, NULL, 0, 0);
    nl_ctx_checkpoint(); /* while Lua runs nobody below it holds a looked-up pointer (qsbr.h) */
    nl_lctx *lc = nl_lctx_of(L);
    /*
     * The time is looked at: the interruption may have been meant for the one that ran here before.
     */
    if (nl_jit_mode(&lc->vm) == NL_JIT_OFF && nl_ctx_cpu_ns(&lc->ctx) >= NL_JIT_AFTER_NS) {
        nl_jit_on(L, &lc->vm);
    }
}

NL_NO_TSAN bool nl_interrupt_wanted(nl_ctx *c, bool limbo)
{
    const volatile nl_state *s = &((nl_lctx *)c)->vm;
    return limbo || s->closing || atomic_load_explicit(&c->kill_posted, memory_order_relaxed) ||
           nl_jit_mode(&((nl_lctx *)c)->vm) == NL_JIT_OFF;
}

/*
 * LuaJIT allows lua_sethook in a signal handler of the thread that runs the state, and nowhere
 * else: it changes bits of a word that the same thread changes too, and rewrites the table by which
 * instructions are dispatched.  What can be lost is the setting itself, if the handler has come
 * between two steps of another change of hooks or of the compiler's state: then the table follows
 * the older one.  The hook is set again at the next tick, and taken off first: the table is
 * rewritten only where it differs from what LuaJIT believes to be in it.
 */
static NL_NO_TSAN void set_hook(lua_State *L, lua_Hook hook)
{
    lua_sethook(L, NULL, 0, 0);
    lua_sethook(L, hook, LUA_MASKCOUNT, 1);
}

/*
 * One that is to end is reached in its own hooks, finalizers and __tostring, too, where LuaJIT
 * calls no hook: it is told that none of these runs.  So leave_hook may run inside of them; what it
 * raises ends at the protected call that LuaJIT makes them in.  A loop in C is not reached: a
 * string pattern that tries everything, a C module.
 */
static NL_NO_TSAN void reach(lua_State *L)
{
    nl_lua_hooks_reach_all(L);
    set_hook(L, leave_hook);
}

NL_NO_TSAN void nl_interrupted(nl_ctx *c)
{
    const volatile nl_lctx *lc = (nl_lctx *)c; /* as it is at this moment */
    lua_State *L = lc->vm.L;
    if (!L) {
        return;
    }
    if (lc->vm.closing) {
        if (close_is_overdue(&lc->vm)) {
            reach(L);
        }
    } else if (lc->leaving) {
        return;
    } else if (lc->dying || atomic_load_explicit(&c->kill_posted, memory_order_relaxed)) {
        reach(L);
    } else if (!lua_gethookmask(L)) {
        set_hook(L, slow_hook);
    }
}

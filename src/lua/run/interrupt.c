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

/* ------------------------------------------------------------------ the monitor's look */

static void slow_hook(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    lua_sethook(L, NULL, 0, 0);
    nl_ctx_checkpoint(); /* while Lua runs nobody below it holds a looked-up pointer (qsbr.h) */
    nl_lctx *lc = nl_lctx_of(L);
    if (nl_jit_mode(&lc->vm) == NL_JIT_OFF) {
        nl_jit_on(L, &lc->vm);
    }
}

void nl_interrupt_slow(nl_ctx *c, bool limbo)
{
    nl_lctx *lc = (nl_lctx *)c;
    /*
     * The state may be closed at this moment; its memory is still there.  LuaJIT's hook
     * settings are plain fields that it reads at each instruction once told to: a setting that
     * gets lost in a race is set again at the next tick.
     */
    lua_State *L = atomic_load_explicit(&lc->poke, memory_order_acquire);
    if (!L) {
        return;
    }
    if (atomic_load(&c->kill_posted)) {
        lua_sethook(L, leave_hook, LUA_MASKCOUNT, 1);
    } else if ((limbo || nl_jit_mode(&lc->vm) == NL_JIT_OFF) && !lua_gethook(L)) {
        lua_sethook(L, slow_hook, LUA_MASKCOUNT, 1);
    }
}

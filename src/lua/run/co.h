/*
 * co.h - coroutines below the roots.
 *
 * Purpose: what co.c (roots) and colib.c (coroutine.resume and wrap) share; nl_may_block and
 *   nl_park_of for the operations that every message makes.
 * Threads: the worker that runs the context.
 * Ownership: none; a coroutine belongs to its state.
 *
 * How a nested coroutine blocks.  Say root R has resumed P, and P has resumed C, each by
 * coroutine.resume, a C function that runs the one below by lua_resume on its own C stack.  C
 * calls a blocking function: nl_park yields it with a mark on top of its stack.  The two
 * coroutine.resume see lctx.parking and yield P and R as well; each leaves on the stack of
 * the coroutine it yields the one below and a mark that says whether it was resume or wrap.  So
 * the chain R → P → C can be read off the stacks, the collector sees it too, and whoever
 * looks at a suspended coroutine can tell that it is the runtime's (status "normal", not to be
 * resumed by others).
 *
 * When the result is there C is resumed with it straight from the runtime.  What C then yields
 * or returns is what P's coroutine.resume returns: P is resumed with that, and so on upwards.
 */
#ifndef NL_CO_H
#define NL_CO_H

#include "base/os.h"
#include "lua/run/lctx.h"

/* Addresses used as marks, on top of the stack of a suspended coroutine. */
extern const char nl_marks[3];
/* it blocked itself, or waits for one below that it resumed */
#define NL_MARK_LEAF ((void *)&nl_marks[0])
#define NL_MARK_WRAP ((void *)&nl_marks[1]) /* it waits for one below that it called through wrap */
#define NL_MARK_DEAD                                                                                         \
    ((void *)&nl_marks[2]) /* it can never go on; only a wrap whose coroutine failed leaves such */

/*
 * The mark of a suspended coroutine, or NULL if a yield of the script suspended it (or it is not
 * suspended).
 */
static inline const char *nl_co_mark(lua_State *co)
{
    int top = nl_lua_gettop(co);
    if (nl_likely(top == 0)) {
        return NULL;
    }
    const char *p = lua_touserdata(co, top);
    return p >= nl_marks && p < nl_marks + sizeof nl_marks ? p : NULL;
}

/*
 * What a coroutine leaves on the C stack when it resumes another.  LuaJIT bounds a coroutine's own
 * recursion by its Lua stack, of 65,500 slots; what C functions that call back (sort, print, load
 * with a reader, finalizers) take of the C stack until then was measured: 2 to 4 MiB.
 */
#define NL_STACK_RESERVE ((size_t)4 << 20)
static inline bool nl_stack_is_short(void)
{
    size_t left = nl_stack_left();
    return left && left < NL_STACK_RESERVE;
}

/*
 * colib.c: the call of a wrap function that P is parked in fails with the value on P's stack.
 * Resumes P so that it does; the status of that, as from lua_resume.  Where nothing of P is left
 * to run it is not resumed: NL_WRAP_ENDED with its results on its stack, or NL_WRAP_FAILED
 * with its error.
 */
enum { NL_WRAP_ENDED = 100, NL_WRAP_FAILED };
int nl_wrap_fail(nl_lctx *lc, lua_State *P);

/* What nl_block_check does when all is well, and that no coroutine of the script is in between. */
static inline bool nl_may_block(nl_lctx *lc, lua_State *L)
{
    return nl_likely(lc->cur && lc->link && lc->link->L == L && !lc->link->up) &&
           nl_likely(nl_lua_isyieldable(L));
}

static inline nl_wait *nl_block_wait_of(nl_lctx *lc, int kind)
{
    nl_wait *w = &lc->cur->wait;
    w->kind = (uint8_t)kind;
    w->timeout = NULL;
    return w;
}

static inline int nl_park_of(nl_lctx *lc, lua_State *L)
{
    nl_co *co = lc->cur;
    nl_lua_no_hook_runs(L); /* for nobody blocks in a hook: L can be suspended */
    lc->parking = true;
    co->leaf = L;
    if (nl_co_unseen(co, L)) {
        return lua_yield(L, 0);
    }
    lua_pushlightuserdata(L, NL_MARK_LEAF);
    return lua_yield(L, 1);
}

/* Opens coroutine.resume, wrap, status and running in place of LuaJIT's. */
void nl_colib_open(lua_State *L);

#endif

/* wait.c - waits: callbacks, time-outs, completion; see lctx.h */
#include <string.h>

#include "base/alloc.h"
#include "base/os.h"
#include "lua/run/co.h"

/* --- callbacks -------------------------------------------------------------------------------- */

nl_wait *nl_wait_callback(lua_State *L, int kind, int fn, int first, int nargs)
{
    nl_lctx *lc = nl_lctx_of(L);
    luaL_checkstack(L, nargs + 1, "too many arguments");
    nl_wait *w = nl_pool_alloc(sizeof *w);
    memset(w, 0, sizeof *w);
    nl_list_init(&w->node);
    nl_timer_init(&w->timed.timer);
    w->kind = (uint8_t)kind;
    w->nargs = (uint16_t)nargs;
    nl_list_push_back(&lc->callbacks, &w->all);
    lc->alive++;
    lua_pushvalue(L, fn);
    int top = lua_gettop(L);
    for (int i = first; i < first + nargs; i++) {
        if (i < top) {
            lua_pushvalue(L, i);
        } else {
            lua_pushnil(L);
        }
    }
    w->fn = nl_ref_n(lc, L, nargs + 1);
    return w;
}

void nl_wait_free(nl_lctx *lc, nl_wait *w)
{
    nl_list_remove(&w->node);
    nl_ctx_timer_remove(&lc->ctx, &w->timed.timer);
    nl_unref_n(lc, w->fn, w->nargs + 1);
    lc->alive--;
    nl_list_remove(&w->all);
    if (w->posted) {
        w->freed = true;
        nl_list_push_back(&lc->callbacks, &w->all);
    } else {
        nl_pool_free(w, sizeof *w);
    }
}

void nl_wait_free_all(nl_lctx *lc)
{
    nl_list *node;
    while ((node = nl_list_pop_front(&lc->callbacks))) {
        nl_pool_free(nl_container_of(node, nl_wait, all), sizeof(nl_wait));
    }
}

/* --- completion ------------------------------------------------------------------------------- */

lua_State *nl_wait_begin_slow(nl_lctx *lc, nl_wait *w)
{
    if (w->co) {
        lua_State *L = w->co->leaf;
        lua_settop(L, 0); /* the mark */
        return L;
    }
    nl_co *co = nl_co_get(lc);
    lc->callback_co = co;
    nl_ref_push(lc, co->L, w->fn);
    return co->L;
}

void nl_wait_end_callback(nl_lctx *lc, nl_wait *w, int n)
{
    nl_co *co = lc->callback_co;
    lc->callback_co = NULL;
    if (w->nargs) {
        lua_checkstack(co->L, w->nargs + 1);
        for (int i = 1; i <= w->nargs; i++) {
            nl_ref_push(lc, co->L, w->fn + i);
        }
        n += w->nargs;
    }
    if (!w->continuous) {
        nl_wait_free(lc, w);
    }
    nl_co_run(co, n);
}

void nl_wait_fail(nl_lctx *lc, nl_wait *w, int err)
{
    lua_State *L = nl_wait_begin(lc, w);
    int n = nl_push_err(L, err);
    if (w->kind == NL_WAIT_RECV && !w->co) {
        /* these two come before the handle as given: (result, err, from, session, handle) */
        lua_pushnumber(L, (lua_Number)w->key);
        lua_pushnumber(L, -1);
        n += 2;
    }
    nl_wait_end(lc, w, n);
}

static void later_run(nl_ctx *ctx, nl_msg *m)
{
    nl_lctx *lc = (nl_lctx *)ctx;
    nl_wait *w = nl_container_of(m, nl_wait, later);
    w->posted = false;
    if (w->freed) {
        nl_list_remove(&w->all);
        nl_pool_free(w, sizeof *w);
    } else if (w->err) {
        nl_wait_fail(lc, w, w->err);
    } else {
        lua_State *L = nl_wait_begin(lc, w);
        lua_pushboolean(L, 1);
        nl_wait_end(lc, w, 1);
    }
}

/* The memory goes with the context's. */
static void later_drop(nl_msg *m)
{
    (void)m;
}

static const nl_msg_ops later_ops = {later_run, later_drop};

void nl_wait_later(nl_lctx *lc, nl_wait *w, int err)
{
    nl_debug_assert(!w->posted, "a wait ends once");
    nl_wait_unhook(lc, w);
    w->err = err;
    w->posted = true;
    w->later.ops = &later_ops;
    nl_ctx_defer(&lc->ctx, &w->later);
}

int nl_wait_give_way(lua_State *L, nl_lctx *lc)
{
    nl_wait *w = nl_block_wait_of(lc, NL_WAIT_NONE);
    w->err = 0;
    w->posted = true;
    w->later.ops = &later_ops;
    nl_ctx_give_way(&lc->ctx, &w->later);
    return nl_park_of(lc, L);
}

/* --- time ------------------------------------------------------------------------------------- */

int64_t nl_deadline(double seconds)
{
    if (seconds <= 0) {
        return nl_now_ns();
    }
    double ns = seconds * 1e9;
    int64_t n = (int64_t)ns;
    return nl_now_ns() + n + ((double)n < ns);
}

static void wait_timeout(nl_lctx *lc, nl_timed *timed)
{
    nl_wait *w = nl_container_of(timed, nl_wait, timed);
    if (w->timeout) {
        w->timeout(lc, w);
    }
    if (w->kind == NL_WAIT_SLEEP) {
        lua_State *L = nl_wait_begin(lc, w);
        lua_pushboolean(L, 1);
        nl_wait_end(lc, w, 1);
    } else {
        nl_wait_fail(lc, w, NL_ETIMEOUT);
    }
}

void nl_wait_arm(nl_lctx *lc, nl_wait *w, double seconds)
{
    w->timed.due = wait_timeout;
    nl_ctx_timer_add(&lc->ctx, &w->timed.timer, nl_deadline(seconds));
}

void nl_lctx_on_timer(nl_ctx *c, nl_timer *t)
{
    nl_timed *timed = nl_container_of(t, nl_timed, timer);
    timed->due((nl_lctx *)c, timed);
}

/*
 * lib_timer.c - the module `timer`.
 *
 * A timer is a node in the context's heap with a reference to its callback and arguments; only
 * when it fires does it need a coroutine.  Closing one that has fired hits no other: its id
 * is no longer in the table (handles.h).
 */
#include "base/alloc.h"
#include "base/os.h"
#include "lua/api/modules.h"
#include "lua/run/lctx.h"

typedef struct ltimer {
    nl_timed timed; /* first */
    int fn;         /* 1 + nargs references: function, arguments */
    uint16_t nargs;
    bool loop;
    uint64_t id;
    int64_t repeat; /* ns, for a loop */
} ltimer;

/* --- ids -------------------------------------------------------------------------------------- */

static ltimer *find(const nl_lctx *lc, double id)
{
    if (!(id >= 1 && id < 9007199254740992.0) || (double)(uint64_t)id != id) {
        return NULL;
    }
    return nl_handles_get(&lc->timers, (uint64_t)id);
}

static void ltimer_free(nl_lctx *lc, ltimer *t)
{
    nl_handles_remove(&lc->timers, t->id);
    lc->ntimers--;
    lc->alive--;
    nl_pool_free(t, sizeof *t);
}

void nl_ltimers_free(nl_lctx *lc)
{
    for (uint32_t i = 1; i < lc->timers.used; i++) {
        if (lc->timers.slots[i].thing) {
            nl_pool_free(lc->timers.slots[i].thing, sizeof(ltimer));
        }
    }
    nl_handles_fini(&lc->timers);
}

/* --- firing ----------------------------------------------------------------------------------- */

/* The beat after now: those that were missed are skipped, and the rhythm is kept. */
static int64_t next_beat(const ltimer *t, int64_t now)
{
    int64_t next = t->timed.timer.deadline + t->repeat;
    if (next > now) {
        return next;
    }
    return t->repeat > 0 ? next + ((now - next) / t->repeat + 1) * t->repeat : now + 1;
}

static void timer_due(nl_lctx *lc, nl_timed *timed)
{
    ltimer *t = (ltimer *)timed;
    nl_co *co = nl_co_get(lc);
    int n = t->nargs, fn = t->fn;
    lua_checkstack(co->L, n + 1);
    for (int i = 0; i <= n; i++) {
        nl_ref_push(lc, co->L, fn + i);
    }
    /* Before the callback runs, which may close it. */
    if (t->loop) {
        nl_ctx_timer_add(&lc->ctx, &t->timed.timer, next_beat(t, nl_now_ns()));
    } else {
        nl_unref_n(lc, fn, n + 1);
        ltimer_free(lc, t);
    }
    nl_co_run(co, n);
}

/* --- the module ------------------------------------------------------------------------------- */

static int l_sleep(lua_State *L)
{
    double seconds = nl_check_seconds(L, 1);
    nl_block_check(L);
    nl_wait *w = nl_block_wait(L, NL_WAIT_SLEEP);
    nl_wait_arm(nl_lctx_of(L), w, seconds);
    return nl_park(L);
}

/* The callback is the last argument; what stands between it and the times are its arguments. */
static int arm(lua_State *L, int first_arg, double seconds, bool loop, double repeat)
{
    nl_lctx *lc = nl_lctx_of(L);
    int top = lua_gettop(L);
    luaL_checktype(L, top < first_arg ? first_arg : top, LUA_TFUNCTION);
    if (top - first_arg > UINT16_MAX) {
        return luaL_error(L, "too many arguments");
    }
    if (nl_handles_full(&lc->timers)) {
        return luaL_error(L, "too many timers (at most %d)", (int)NL_HANDLES_MAX);
    }
    lua_insert(L, first_arg);
    int fn = nl_ref_n(lc, L, top - first_arg + 1); /* may raise */
    ltimer *t = nl_pool_alloc(sizeof *t);
    t->id = nl_handles_add(&lc->timers, t);
    lc->alive++;
    lc->ntimers++;
    t->timed.due = timer_due;
    t->nargs = (uint16_t)(top - first_arg);
    t->fn = fn;
    t->loop = loop;
    t->repeat = (int64_t)(repeat * 1e9);
    nl_timer_init(&t->timed.timer);
    nl_ctx_timer_add(&lc->ctx, &t->timed.timer, nl_deadline(seconds));
    lua_pushnumber(L, (lua_Number)t->id);
    return 1;
}

static int l_timeout(lua_State *L)
{
    return arm(L, 2, nl_check_seconds(L, 1), false, 0);
}

static int l_loop(lua_State *L)
{
    double interval = nl_check_seconds(L, 1);
    return arm(L, 3, interval, true, nl_check_seconds(L, 2));
}

static int l_close(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    double id = luaL_checknumber(L, 1);
    ltimer *t = find(lc, id);
    if (t) {
        nl_ctx_timer_remove(&lc->ctx, &t->timed.timer);
        nl_unref_n(lc, t->fn, t->nargs + 1);
        ltimer_free(lc, t);
    }
    lua_pushboolean(L, t != NULL);
    return 1;
}

static int l_now(lua_State *L)
{
    lua_pushnumber(L, (double)nl_now_ns() / 1e9);
    return 1;
}

static const luaL_Reg functions[] = {
    {"sleep", l_sleep}, {"timeout", l_timeout}, {"loop", l_loop},
    {"close", l_close}, {"now", l_now},         {NULL, NULL},
};

void nl_timer_push_field(lua_State *L, const char *name)
{
    nl_push_function(L, functions, name);
}

int luaopen_nl_timer(lua_State *L)
{
    lua_createtable(L, 0, (int)nl_countof(functions) - 1);
    luaL_register(L, NULL, functions);
    return 1;
}

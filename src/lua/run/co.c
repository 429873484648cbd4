/* co.c - roots: making, running and suspending them; see lctx.h and co.h */
#include "lua/run/co.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "lua/run/leave.h"
#include "lua/vm/jit.h"
#include "sched/shutdown.h"

const char nl_marks[3];

/* Finished roots that a context keeps for its next callbacks. */
#define FREE_MAX 64

/* --- roots ------------------------------------------------------------------------------------ */

nl_co *nl_co_new(nl_lctx *lc)
{
    lua_State *L = lua_newthread(lc->vm.L);
    int ref = nl_ref(lc, lc->vm.L);
    nl_co *co = nl_pool_alloc(sizeof *co); /* last: the others may raise for want of memory */
    memset(co, 0, sizeof *co);
    co->lc = lc;
    co->L = co->leaf = L;
    co->ref = ref;
    co->wait.co = co;
    nl_list_init(&co->wait.node);
    nl_timer_init(&co->wait.timed.timer);
    nl_list_push_back(&lc->all_co, &co->all);
    lc->nco++;
    return co;
}

/* The root's thread is given up: it goes on as a coroutine of the script's, or is garbage. */
static __attribute__((noinline)) void co_drop(nl_co *co)
{
    nl_unref(co->lc, co->ref);
    co->lc->nco--;
    nl_list_remove(&co->all);
    nl_pool_free(co, sizeof *co);
}

/* The next dispatch may well run this root. */
static inline void warm(nl_lctx *lc, const nl_co *co)
{
    if (nl_unlikely(lc->warm != co->L)) {
        lc->warm = co->L;
        nl_ctx_warm(&lc->ctx, (const void *[NL_CTX_WARM]){lc->vm.L, co->L});
    }
}

static inline void co_done(nl_lctx *lc, nl_co *co, bool reusable)
{
    lc->alive--;
    if (nl_unlikely(!reusable || co->escaped || lc->nfree_co >= FREE_MAX)) {
        co_drop(co);
        return;
    }
    nl_lua_settop(co->L, 0);
    co->leaf = co->L;
    co->main = false;
    co->next = lc->free_co;
    lc->free_co = co;
    lc->nfree_co++;
    warm(lc, co); /* the next callback takes it */
}

void nl_co_free_all(nl_lctx *lc)
{
    nl_list *node;
    while ((node = nl_list_pop_front(&lc->all_co))) {
        nl_pool_free(nl_container_of(node, nl_co, all), sizeof(nl_co));
    }
}

/* --- errors ----------------------------------------------------------------------------------- */

/* Replaces the value at index 2 by what tostring would make of it. */
static void to_text(lua_State *L)
{
    if (luaL_callmeta(L, 2, "__tostring") && lua_isstring(L, -1)) {
        lua_replace(L, 2);
        return;
    }
    switch (lua_type(L, 2)) {
    case LUA_TSTRING:
    case LUA_TNUMBER:
        return;
    case LUA_TNIL:
        lua_pushliteral(L, "nil");
        break;
    case LUA_TBOOLEAN:
        lua_pushstring(L, lua_toboolean(L, 2) ? "true" : "false");
        break;
    default:
        lua_pushfstring(L, "%s: %p", luaL_typename(L, 2), lua_topointer(L, 2));
        break;
    }
    lua_replace(L, 2);
}

#define TRACEBACK "stack traceback:\n\t"

/*
 * Pushes the traceback of co, which an error with that text has ended.  Where the VM itself has
 * raised it, the line of the innermost function is lost with the C stack, but the text begins with
 * it: "file:line: …".
 */
static void push_traceback(lua_State *L, lua_State *co, const char *text)
{
    lua_Debug ar;
    luaL_traceback(L, co, NULL, 0);
    if (!lua_getstack(co, 0, &ar)) {
        return;
    }
    lua_getinfo(co, "Sl", &ar);
    size_t file = strlen(ar.short_src) + 1;
    if (ar.currentline >= 0 || strncmp(text, ar.short_src, file - 1) != 0 || text[file - 1] != ':') {
        return;
    }
    size_t line = strspn(text + file, "0123456789");
    const char *trace = lua_tostring(L, -1);
    size_t head = sizeof TRACEBACK - 1 + file;
    if (line > 0 && text[file + line] == ':' && strlen(trace) > head) {
        lua_pushlstring(L, trace, head);
        lua_pushlstring(L, text + file, line + 1);
        lua_pushstring(L, trace + head);
        lua_concat(L, 3);
        lua_replace(L, -2);
    }
}

/*
 * (thread): returns the error on top of it as text with its traceback, and as the reason for the
 * context's end.
 */
static int describe(lua_State *L)
{
    lua_State *co = lua_tothread(L, 1);
    lua_pushvalue(co, -1);
    lua_xmove(co, L, 1);
    to_text(L);
    lua_settop(L, 2);
    const char *text = lua_tostring(L, 2);
    lua_pushvalue(L, 2);
    lua_pushliteral(L, "\n");
    push_traceback(L, co, text);
    lua_concat(L, 3);
    lua_pushliteral(L, "error: ");
    lua_pushvalue(L, 2);
    lua_concat(L, 2);
    return 2;
}

void nl_lctx_main_failed(nl_lctx *lc, nl_reason *reason)
{
    if (lc->first) {
        nl_shutdown_set_status(1);
    }
    nl_ctx_end(&lc->ctx, reason);
}

/* Logs the error that ended co's thread.  A main chunk's ends the context. */
static void co_failed(nl_co *co)
{
    nl_lctx *lc = co->lc;
    lua_State *L = lc->vm.L;
    int top = lua_gettop(L);
    lua_pushcfunction(L, describe);
    nl_ref_push(lc, L, co->ref);
    static const char undescribed[] =
        "error: error in the error's __tostring, or no memory left to describe it";
    const char *reason = undescribed, *text = undescribed + sizeof "error: " - 1;
    size_t reason_len = sizeof undescribed - 1, len = strlen(text);
    if (nl_lua_pcall(L, 1, 2) == 0) {
        text = lua_tolstring(L, -2, &len);
        reason = lua_tolstring(L, -1, &reason_len);
    }
    /* error() in the main chunk ends it without a word, as luajit does. */
    if (!co->main || !lua_isnil(co->L, -1)) {
        nl_sched_blocking_begin(); /* standard error may find no reader */
        nl_log_text(lc->name, text, len);
        nl_sched_blocking_end();
    }
    if (co->main) {
        nl_lctx_main_failed(lc, nl_reason_new(reason, reason_len));
    }
    lua_settop(L, top);
}

/* --- running ---------------------------------------------------------------------------------- */

/* The coroutine that the suspended one p waits for. */
static inline lua_State *below_of(lua_State *p)
{
    return lua_tothread(p, 1);
}

/*
 * The coroutines from the root down to the one above leaf: their number, and they themselves in
 * *path, which holds n.
 */
static size_t path_to(lua_State *root, const lua_State *leaf, lua_State **path, size_t n)
{
    size_t i = 0;
    for (lua_State *p = root; p != leaf; p = below_of(p), i++) {
        if (i < n) {
            path[i] = p;
        }
    }
    return i;
}

#define PATH_SHORT 16

/*
 * The coroutine base->L, nested in co and resumed from here, has come to a stop with status st.
 * Gives the outcome to the one above it, which runs on, and so on until the root or until one
 * blocks.  Returns the root's status.
 */
static __attribute__((noinline)) int climb(nl_co *co, nl_colink *base, int st)
{
    nl_lctx *lc = co->lc;
    lua_State *some[PATH_SHORT], **path = some;
    size_t n_above = path_to(co->L, base->L, some, PATH_SHORT);
    if (nl_unlikely(n_above > PATH_SHORT)) {
        path = nl_malloc(n_above * sizeof(void *));
        path_to(co->L, base->L, path, n_above);
    }
    while (n_above > 0 && !lc->parking && !lc->dying) {
        lua_State *L = base->L, *P = path[--n_above];
        bool wrapped = nl_co_mark(P) == NL_MARK_WRAP,
             ok = st == LUA_OK || st == LUA_YIELD || st == NL_WRAP_ENDED;
        int n = ok ? lua_gettop(L) : 1;
        if (nl_unlikely(!lua_checkstack(P, n + 2))) {
            lua_settop(L, 0);
            lua_pushliteral(L, "too many results to resume");
            ok = false;
            n = 1;
        }
        lua_settop(P, 0);
        if (!wrapped) {
            lua_pushboolean(P, ok);
        }
        lua_xmove(L, P, n);
        if (st >= NL_WRAP_ENDED) {
            lua_settop(L, 0);
            lua_pushlightuserdata(L, NL_MARK_DEAD);
        }
        base->L = P;
        nl_lua_still_suspended(P);
        st = ok || !wrapped ? lua_resume(P, wrapped ? n : n + 1) : nl_wrap_fail(lc, P);
    }
    if (nl_unlikely(path != some)) {
        nl_free(path);
    }
    return st;
}

/* It has come to another end than having returned or blocked. */
static __attribute__((noinline)) void ended_otherwise(nl_lctx *lc, nl_co *co, int st)
{
    if (lc->dying) { /* parked for good */
        nl_interrupt_over(lc);
        return;
    }
    co->leaf = co->L;
    if (st == LUA_YIELD || st == NL_WRAP_ENDED) {
        lua_settop(co->L, 0);
    } else {
        co_failed(co);
        if (nl_unlikely(lc->dying)) { /* destroyed in the error's __tostring */
            nl_interrupt_over(lc);
        }
        if (st == LUA_ERRMEM) {
            nl_lctx_main_failed(lc, nl_reason_of("error: not enough memory"));
        }
    }
    co_done(lc, co, false);
}

void nl_co_run(nl_co *co, int nargs)
{
    nl_lctx *lc = co->lc;
    if (nl_unlikely(lc->ctx.ending)) {
        return; /* a finalizer has called os.exit while the arguments were pushed */
    }
    nl_colink base = {NULL, co->leaf};
    lc->cur = co;
    lc->link = &base;
    int st = nl_lua_resume(base.L, nargs);
    if (nl_unlikely(base.L != co->L)) {
        st = climb(co, &base, st);
    }
    lc->cur = NULL;
    lc->link = NULL;
    if (nl_unlikely(nl_jit_mode(&lc->vm) == NL_JIT_OFF) && (++lc->runs & 31) == 0 &&
        nl_ctx_cpu_ns(&lc->ctx) >= NL_JIT_AFTER_NS) {
        nl_jit_on(lc->vm.L, &lc->vm);
    }
    if (nl_likely(!lc->dying)) {
        if (st == LUA_OK) {
            co_done(lc, co, true);
            return;
        }
        if (nl_likely(lc->parking)) {
            lc->parking = false;
            warm(lc, co);
            return;
        }
    }
    ended_otherwise(lc, co, st);
}

/* --- blocking --------------------------------------------------------------------------------- */

bool nl_can_block(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    if (!lc->cur || !lc->link || lc->link->L != L) {
        return false;
    }
    for (nl_colink *l = lc->link; l; l = l->up) {
        if (nl_unlikely(!lua_isyieldable(l->L))) {
            return false;
        }
    }
    return true;
}

void nl_block_check(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    if (nl_likely(nl_can_block(L))) {
        return;
    }
    if (!lc->cur || !lc->link) {
        luaL_error(L, "cannot block here: the runtime is calling (a finalizer?), not a coroutine");
    }
    for (nl_colink *l = lc->link; l; l = l->up) {
        if (l->L == L) {
            luaL_error(L, "cannot block here: attempt to yield across C-call boundary (a comparator, a gsub "
                          "function, a metamethod called from C …)");
        }
    }
    luaL_error(
        L, "cannot block here: this coroutine was resumed by a C function, not by coroutine.resume or wrap");
}

nl_wait *nl_block_wait(lua_State *L, int kind)
{
    return nl_block_wait_of(nl_lctx_of(L), kind);
}

int nl_park(lua_State *L)
{
    return nl_park_of(nl_lctx_of(L), L);
}

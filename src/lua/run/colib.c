/*
 * colib.c - coroutine.resume, wrap, status and running, so that a suspension by the runtime
 * passes through the script's coroutines unseen (co.h).
 *
 * They are C functions that resume by lua_resume: 1.3 to 1.4 times the time of LuaJIT's own,
 * where versions in Lua that look at what was yielded take twice as long.
 */
#include <string.h>

#include "base/alloc.h"
#include "lua/run/co.h"
#include "lua/run/leave.h"

#define DEAD "cannot resume dead coroutine"
#define NOT_SUSPENDED "cannot resume non-suspended coroutine"

/* Why co cannot be resumed, or NULL. */
static inline const char *refusal(lua_State *L, lua_State *co)
{
    int st = lua_status(co);
    if (nl_likely(st == LUA_YIELD)) {
        const char *mark = nl_co_mark(co);
        return nl_likely(!mark) ? NULL : mark == NL_MARK_DEAD ? DEAD : NOT_SUSPENDED;
    }
    if (st != LUA_OK) {
        return DEAD;
    }
    if (co == L) {
        return NOT_SUSPENDED;
    }
    lua_Debug ar;
    if (nl_unlikely(lua_getstack(co, 0, &ar))) {
        return NOT_SUSPENDED; /* it runs, or waits for one that it has resumed */
    }
    return nl_likely(lua_gettop(co) > 0) ? NULL : DEAD;
}

/* Why co, which may be resumed, cannot run with n arguments, or NULL. */
static inline const char *cannot_run(lua_State *co, int n)
{
    return nl_unlikely(nl_stack_is_short())         ? "C stack overflow"
           : nl_unlikely(!nl_lua_checkstack(co, n)) ? "too many arguments to resume"
                                                    : NULL;
}

/* Moves n arguments from L's top to co and runs it, as the innermost coroutine. */
static inline int run(nl_lctx *lc, lua_State *L, lua_State *co, int n)
{
    if (n) {
        lua_xmove(L, co, n);
    }
    /*
     * A finalizer may have been called on a thread that stands in no link: what it resumes cannot
     * suspend through it.
     */
    nl_colink caller = {lc->link, L};
    nl_colink link = {nl_likely(lc->link && lc->link->L == L) ? lc->link : &caller, co};
    lc->link = &link;
    int st = lua_resume(co, n);
    lc->link = caller.up;
    return st;
}

/* The runtime has suspended co: suspend L too, leaving both facts on its stack. */
static int park_above(nl_lctx *lc, lua_State *L, lua_State *co, void *mark)
{
    if (nl_unlikely(lc->dying)) {
        return nl_leave(L);
    }
    lua_settop(L, 0);
    lua_pushthread(co);
    lua_xmove(co, L, 1);
    lua_pushlightuserdata(L, mark);
    return lua_yield(L, 2);
}

static int refuse(lua_State *L, const char *why)
{
    lua_pushboolean(L, 0);
    lua_pushstring(L, why);
    return 2;
}

static int co_resume(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    lua_State *co = lua_tothread(L, 1);
    if (nl_unlikely(!co)) {
        return luaL_argerror(L, 1, "coroutine expected");
    }
    const char *why = refusal(L, co);
    int n = lua_gettop(L) - 1;
    if (nl_unlikely(why || (why = cannot_run(co, n)))) {
        return refuse(L, why);
    }
    int st = run(lc, L, co, n);
    if (nl_unlikely(lc->parking || lc->dying)) {
        return park_above(lc, L, co, NL_MARK_LEAF);
    }
    if (nl_likely(st == LUA_YIELD || st == LUA_OK)) {
        n = lua_gettop(co);
        if (nl_unlikely(n > LUA_MINSTACK - 4 && !lua_checkstack(L, n + 1))) {
            lua_settop(co, 0);
            return refuse(L, "too many results to resume");
        }
        lua_pushboolean(L, 1);
        if (n) {
            lua_xmove(co, L, n);
        }
        return n + 1;
    }
    lua_pushboolean(L, 0);
    lua_xmove(co, L, 1);
    return 2;
}

/* --- wrap ------------------------------------------------------------------------------------- */

/*
 * Raises the value on top, a string with the caller's position in front, as the stock wrap does;
 * not without end, for there may be many thousands of callers.
 */
#define POSITIONS_MAX 8192 /* bytes */
static int raise_here(lua_State *L)
{
    if (lua_type(L, -1) == LUA_TSTRING && lua_objlen(L, -1) < POSITIONS_MAX) {
        luaL_where(L, 1);
        lua_insert(L, -2);
        lua_concat(L, 2);
    }
    return lua_error(L);
}

static int wrapped(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    lua_State *co = lua_tothread(L, lua_upvalueindex(1));
    const char *why = refusal(L, co);
    int n = lua_gettop(L);
    if (nl_unlikely(why || (why = cannot_run(co, n)))) {
        lua_pushstring(L, why);
        return raise_here(L);
    }
    int st = run(lc, L, co, n);
    if (nl_unlikely(lc->parking || lc->dying)) {
        return park_above(lc, L, co, NL_MARK_WRAP);
    }
    if (nl_likely(st == LUA_YIELD || st == LUA_OK)) {
        n = lua_gettop(co);
        if (nl_unlikely(n > LUA_MINSTACK - 4 && !lua_checkstack(L, n))) {
            return luaL_error(L, "too many results to resume");
        }
        if (n) {
            lua_xmove(co, L, n);
        }
        return n;
    }
    lua_xmove(co, L, 1);
    return raise_here(L);
}

static int co_wrap(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_State *co = lua_newthread(L);
    lua_pushvalue(L, 1);
    lua_xmove(L, co, 1);
    lua_pushcclosure(L, wrapped, 1);
    return 1;
}

/* --- a wrap that fails while it is parked ----------------------------------------------------- */

/*
 * P is suspended inside the C function of wrap, and LuaJIT can resume it only as if that had
 * returned.  To make it fail instead, P is resumed with a hook that comes before its next
 * instruction and raises the error there.
 *
 * When pcall or xpcall has called the wrap function, with no Lua function in between, that
 * instruction would lie outside of them.  Then P is resumed with the error as the one result,
 * which makes theirs "true, error", and the hook corrects the true to false.
 *
 * A wrap function in Lua, `return finish(step(co, ...))`, could fail by itself, in finish.  But
 * each of its calls, parked or not, would take 710 instructions and 65 ns, where the C function
 * takes 490 and 40.
 */
typedef struct injection {
    int ref;  /* the error, for the hook to raise; NL_NOREF: nothing */
    int slot; /* register of the Lua function to set to false, from 1; 0: none */
    lua_Hook hook;
    int mask, count; /* the script's own hook, to come back after ours */
} injection;

static void inject_hook(lua_State *L, lua_Debug *ar)
{
    nl_lctx *lc = nl_lctx_of(L);
    injection in = *lc->injection;
    nl_free(lc->injection);
    lc->injection = NULL;
    lua_sethook(L, in.hook, in.mask, in.count);
    if (in.ref != NL_NOREF) {
        nl_ref_push(lc, L, in.ref);
        nl_unref(lc, in.ref);
        lua_error(L);
    }
    if (lua_getstack(L, 0, ar)) {
        lua_pushboolean(L, 0);
        if (!lua_setlocal(L, ar, in.slot)) {
            lua_pop(L, 1);
        }
    }
}

static injection *arm(nl_lctx *lc, lua_State *P)
{
    injection *in = nl_malloc(sizeof *in);
    *in = (injection){NL_NOREF, 0, lua_gethook(P), lua_gethookmask(P), lua_gethookcount(P)};
    lc->injection = in;
    nl_lua_no_hook_runs(P); /* or ours would not be called */
    lua_sethook(P, inject_hook, LUA_MASKCOUNT, 1);
    return in;
}

/* Which protected call the frame at a level of P is. */
enum { NO_CALL, PCALL, XPCALL };
static int protected_call(nl_lctx *lc, lua_State *P, lua_Debug *ar)
{
    lua_getinfo(P, "f", ar);
    const void *f = lua_topointer(P, -1);
    lua_pop(P, 1);
    return f == lc->pcall ? PCALL : f == lc->xpcall ? XPCALL : NO_CALL;
}

/*
 * xpcall(f, handler) has f and handler swapped when it runs f: replaces the error on P's top by
 * what the handler makes of it.
 */
static void call_handler(nl_lctx *lc, lua_State *P, lua_Debug *ar)
{
    if (lua_getlocal(P, ar, 1)) {
        lua_insert(P, -2);
        lua_xmove(P, lc->vm.L, 2);
        lua_pcall(lc->vm.L, 1, 1, 0);
        lua_xmove(lc->vm.L, P, 1);
    }
}

int nl_wrap_fail(nl_lctx *lc, lua_State *P)
{
    lua_Debug ar;
    if (lua_type(P, 1) == LUA_TSTRING) {
        luaL_where(P, 1);
        lua_insert(P, 1);
        lua_concat(P, 2);
    }
    int calls = 0;
    while (lua_getstack(P, calls + 1, &ar)) {
        int call = protected_call(lc, P, &ar);
        if (call == NO_CALL) {
            break;
        }
        if (calls++ == 0 && call == XPCALL) {
            call_handler(lc, P, &ar);
            if (nl_unlikely(lc->dying)) {
                return LUA_YIELD; /* the handler has ended the context: nothing of P goes on */
            }
        }
    }
    if (!lua_getstack(P, calls + 1, &ar)) {
        /*
         * Nothing of P is left to run: with no protected call it fails itself, else these are its
         * results.
         */
        if (calls > 0) {
            luaL_checkstack(P, calls + 1, NULL);
            lua_pushboolean(P, 0);
            lua_insert(P, 1);
            for (int i = 1; i < calls; i++) {
                lua_pushboolean(P, 1);
                lua_insert(P, 1);
            }
        }
        return calls > 0 ? NL_WRAP_ENDED : NL_WRAP_FAILED;
    }
    injection *in = arm(lc, P);
    if (calls == 0) {
        lua_pushvalue(P, 1);
        in->ref = nl_ref(lc, P);
        lua_settop(P, 0);
        nl_lua_still_suspended(P);
        return lua_resume(P, 0);
    }
    /* The register of the call: one behind those that can be told from outside while it runs. */
    int n = 1;
    while (lua_getlocal(P, &ar, n)) {
        lua_pop(P, 1);
        n++;
    }
    in->slot = n + calls - 1;
    nl_lua_still_suspended(P);
    return lua_resume(P, 1);
}

/* --- the rest --------------------------------------------------------------------------------- */

static int co_status(lua_State *L)
{
    lua_State *co = lua_tothread(L, 1);
    if (nl_unlikely(!co)) {
        return luaL_argerror(L, 1, "coroutine expected");
    }
    const char *s = "dead";
    lua_Debug ar;
    if (co == L) {
        s = "running";
    } else if (lua_status(co) == LUA_YIELD) {
        const char *mark = nl_co_mark(co);
        s = !mark ? "suspended" : mark == NL_MARK_DEAD ? "dead" : "normal";
    } else if (lua_status(co) == LUA_OK) {
        if (lua_getstack(co, 0, &ar)) {
            s = "normal";
        } else if (lua_gettop(co) > 0) {
            s = "suspended";
        }
    }
    lua_pushstring(L, s);
    return 1;
}

/* The script gets to see thread L: if it is a root's, that has to be known. */
static void note_escape(nl_lctx *lc, const lua_State *L)
{
    if (nl_likely(lc->link && lc->link->L == L)) {
        if (lc->cur && lc->cur->L == L) {
            lc->cur->escaped = true;
        }
        return;
    }
    /*
     * A finalizer, on a thread that does not run: of a root that is just given its results, for
     * one.
     */
    for (nl_list *n = lc->all_co.next; n != &lc->all_co; n = n->next) {
        nl_co *co = nl_container_of(n, nl_co, all);
        co->escaped = co->escaped || co->L == L;
    }
}

static int co_running(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    if (lua_pushthread(L)) {
        lua_pushnil(L); /* a finalizer while the state is closed */
    } else {
        note_escape(lc, L);
    }
    return 1;
}

static const void *global_function(lua_State *L, const char *name)
{
    lua_getglobal(L, name);
    const void *p = lua_topointer(L, -1);
    lua_pop(L, 1);
    return p;
}

void nl_colib_open(lua_State *L)
{
    static const luaL_Reg functions[] = {{"resume", co_resume},
                                         {"wrap", co_wrap},
                                         {"status", co_status},
                                         {"running", co_running},
                                         {NULL, NULL}};
    nl_lctx *lc = nl_lctx_of(L);
    lc->pcall = global_function(L, "pcall");
    lc->xpcall = global_function(L, "xpcall");
    luaL_register(L, "coroutine", functions);
    lua_pop(L, 1);
}

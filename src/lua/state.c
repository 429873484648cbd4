/* state.c - see state.h */
#include "lua/state.h"

#include <luajit.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "lua/co.h"
#include "lua/lib_context.h"
#include "lua/libs.h"
#include "lua/lj.h"

static atomic_int states_with_jit;
static char **options;
static int noptions;
static nl_lctx *booting; /* the first context, while nl_lua_start works on it and there are no workers */

nl_lctx *nl_lctx_of_slow(lua_Alloc f, void *ud)
{
    (void)f;
    (void)ud;
    nl_ctx *c = nl_ctx_current();
    return c ? (nl_lctx *)c : booting;
}

void nl_state_booting(nl_lctx *lc)
{
    booting = lc;
}

/* ------------------------------------------------------------------ open and close */

static int panic(lua_State *L)
{
    const char *s = lua_tostring(L, -1);
    nl_log(nl_lctx_of(L)->name, "error outside of any Lua function, the process cannot go on: %s",
           s ? s : "?");
    return 0;
}

static int open_base(lua_State *L)
{
    lua_gc(L, LUA_GCSTOP, 0); /* until the main chunk starts: what is made so far stays */
    nl_libs_open_base(L);
    return 0;
}

int nl_state_open(nl_lctx *lc)
{
    lc->slab = lc->memory;
    lc->L = lua_newstate(nl_slab_alloc, lc->slab);
    if (!lc->L) {
        /* A LuaJIT whose pointers have 32 bits wants its own allocator. */
        lc->slab = NULL;
        lc->L = luaL_newstate();
        if (!lc->L) {
            return -ENOMEM;
        }
    }
    lua_atpanic(lc->L, panic);
    lc->refs = nl_refs_new(lc->L);
    if (lua_cpcall(lc->L, open_base, NULL) != 0) {
        return -ENOMEM;
    }
    if (!lc->first &&
        nl_state_apply_options(lc) != 0) { /* the first one's failure is nl_lua_start's to tell */
        nl_log(lc->name, "%s", lua_tostring(lc->L, -1));
        lua_settop(lc->L, 1);
    }
    atomic_store_explicit(&lc->slab_seen, lc->slab, memory_order_release);
    atomic_store_explicit(&lc->poke, lc->L, memory_order_release);
    return 0;
}

/*
 * Whether closing the state does anything but give up its memory, which goes at once with the slab: runs finalizers
 * (all userdata hang behind the main thread, or stand in line for theirs; what has one in C data needs `ffi`), frees
 * machine code.
 */
static bool must_close(const nl_lctx *lc)
{
#if NL_LUAJIT_INSIDE
    return !lc->slab || lc->jit_hidden || (lc->libs & (NL_LIB_FFI | NL_LIB_JIT)) || gcref(lc->L->nextgc) ||
           gcref(G(lc->L)->gc.mmudata);
#else
    (void)lc;
    return true;
#endif
}

void nl_state_close(nl_lctx *lc)
{
    atomic_store(&lc->poke, NULL);
    lc->closing = true;
    if (lc->L && must_close(lc)) {
        if (lc->slab) {
            nl_slab_deny(lc->slab, false);
            nl_slab_closing(lc->slab);
        }
        lua_close(lc->L);
    }
    if (lc->jit_counted) {
        atomic_fetch_sub(&states_with_jit, 1);
    }
    nl_refs_free(lc->refs);
    lc->refs = NULL;
}

/* ------------------------------------------------------------------ the JIT compiler */

#define HIDDEN "nl.jit" /* in the registry: the library, while only we use it */
/*
 * A trace that ends at a call of a C function, to go on behind it, costs about as much as
 * interpreting 50 instructions; shorter pieces between such calls, of which scripts that mostly
 * call the runtime consist, are better not compiled.
 */
#define MINSTITCH "minstitch=50"

/* Relaxed: the monitor's thread acts on what it sees, and whoever runs the state looks again before anything is done. */
static int mode_of(nl_lctx *lc)
{
    return atomic_load_explicit(&lc->jit, memory_order_relaxed);
}

static void set_mode(nl_lctx *lc, int mode)
{
    atomic_store_explicit(&lc->jit, (unsigned char)mode, memory_order_relaxed);
}

static void set_engine(lua_State *L, bool on)
{
    luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | (on ? LUAJIT_MODE_ON : LUAJIT_MODE_OFF));
}

/* jit.on() and jit.off() for all of the state: from now on the script decides. */
static int user_switch(lua_State *L)
{
    if (lua_gettop(L) == 0) {
        set_mode(nl_lctx_of(L), NL_JIT_USER);
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

/* luaopen_jit detects the processor, which is slow where cpuid traps, and turns the compiler on. */
static void open_jit_library(lua_State *L, nl_lctx *lc)
{
    lua_pushcfunction(L, luaopen_jit);
    lua_pushstring(L, LUA_JITLIBNAME);
    lua_call(L, 1, 0);
    luaL_findtable(L, LUA_REGISTRYINDEX, "_LOADED", 16);
    lua_getfield(L, -1, LUA_JITLIBNAME);
    static const char *const switches[] = {"on", "off"};
    for (int i = 0; i < 2; i++) {
        lua_getfield(L, -1, switches[i]);
        lua_pushcclosure(L, user_switch, 1);
        lua_setfield(L, -2, switches[i]);
    }
    lua_getfield(L, -1, "opt");
    lua_getfield(L, -1, "start");
    lua_pushliteral(L, MINSTITCH);
    lua_call(L, 1, 0);
    lua_pop(L, 3);
    if (mode_of(lc) != NL_JIT_ON) {
        set_engine(L, false);
    }
}

void nl_jit_open(lua_State *L, nl_lctx *lc)
{
    if (!lc->jit_hidden) {
        open_jit_library(L, lc);
    } else {
        lua_getfield(L, LUA_REGISTRYINDEX, HIDDEN);
        nl_libs_install(L, LUA_JITLIBNAME);
    }
}

/* The compiler needs luaopen_jit; if no text has named the library, the script does not get to see it. */
static int turn_on(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    if (lc->stubs & NL_LIB_JIT) {
        nl_libs_open(L, NL_LIB_JIT);
    } else if (!(lc->libs & NL_LIB_JIT)) {
        open_jit_library(L, lc);
        lc->jit_hidden = true;
        lua_getglobal(L, LUA_JITLIBNAME);
        lua_setfield(L, LUA_REGISTRYINDEX, HIDDEN);
        lua_pushnil(L);
        lua_setglobal(L, LUA_JITLIBNAME);
        luaL_findtable(L, LUA_REGISTRYINDEX, "_LOADED", 16);
        lua_pushnil(L);
        lua_setfield(L, -2, LUA_JITLIBNAME);
    }
    set_engine(L, true);
    return 0;
}

static void jit_on(lua_State *L, nl_lctx *lc)
{
    if (atomic_fetch_add(&states_with_jit, 1) >= NL_JIT_MAX) {
        atomic_fetch_sub(&states_with_jit, 1);
        set_mode(lc, NL_JIT_CAPPED);
        return;
    }
    set_mode(lc, NL_JIT_ON);
    lc->jit_counted = true;
    if (lua_cpcall(L, turn_on, NULL) != 0) {
        lua_pop(L, 1);
    }
}

void nl_jit_check(nl_lctx *lc)
{
    if (nl_ctx_cpu_ns(&lc->ctx) >= NL_JIT_AFTER_NS) {
        jit_on(lc->L, lc);
    }
}

static void slow_hook(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    lua_sethook(L, NULL, 0, 0);
    nl_lctx *lc = nl_lctx_of(L);
    if (mode_of(lc) == NL_JIT_OFF) {
        jit_on(L, lc);
    }
}

void nl_lctx_slow(nl_ctx *c)
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
        lua_sethook(L, nl_leave_hook, LUA_MASKCOUNT, 1);
    } else if (mode_of(lc) == NL_JIT_OFF && !lua_gethook(L)) {
        lua_sethook(L, slow_hook, LUA_MASKCOUNT, 1);
    }
}

/* ------------------------------------------------------------------ -j and -O */

void nl_jit_options(char **o, int n)
{
    options = o;
    noptions = n;
}

/* -O3, -Ohotloop=10,-fold: jit.opt.start("3") … with each piece; -Jv=file: require("jit.v").start("file"). */
static void call_with_pieces(lua_State *L, const char *s)
{
    int n = 0;
    while (*s) {
        size_t len = strcspn(s, ",");
        luaL_checkstack(L, 4, NULL);
        lua_pushlstring(L, s, len);
        n++;
        s += len + (s[len] == ',');
    }
    lua_call(L, n, 0);
}

static void apply(lua_State *L, nl_lctx *lc, const char *o)
{
    const char *s = o + 1;
    if (*o == 'O') {
        lua_getglobal(L, LUA_JITLIBNAME);
        lua_getfield(L, -1, "opt");
        lua_getfield(L, -1, "start");
        call_with_pieces(L, *s ? s : "3");
    } else if (strcmp(s, "on") == 0 || strcmp(s, "off") == 0) {
        set_mode(lc, NL_JIT_USER);
        set_engine(L, s[1] == 'n');
    } else if (strcmp(s, "flush") == 0) {
        luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_FLUSH);
    } else if (lc->first || s[0] != 'p' ||
               (s[1] && s[1] != '=')) { /* the profiler's signal is the process's */
        size_t len = strcspn(s, "=");
        lua_getglobal(L, "require");
        lua_pushliteral(L, "jit.");
        lua_pushlstring(L, s, len);
        lua_concat(L, 2);
        lua_call(L, 1, 1);
        lua_getfield(L, -1, "start");
        call_with_pieces(L, s[len] ? s + len + 1 : s + len);
    }
    lua_settop(L, 0);
}

static int apply_all(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    nl_libs_open(L, NL_LIB_ALL);
    for (int i = 0; i < noptions; i++) {
        apply(L, lc, options[i]);
    }
    return 0;
}

int nl_state_apply_options(nl_lctx *lc)
{
    return noptions ? lua_cpcall(lc->L, apply_all, NULL) : 0;
}

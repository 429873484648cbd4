/*
 * lj.h - the calls of Lua's C API that every message and every frame makes, without the call.
 *
 * Purpose: lua_pushnumber is two instructions of work inside some forty of a call through the stack
 *   index.  Here are inline replacements, made from the headers of the LuaJIT that the program is
 *   linked with.  Each does what the API's function of that name does, checks of stack room and
 *   barriers of the collector included, but takes only the indices said here: from 1 up, counted
 *   from the bottom.  With -Dluajit_inside=false, and with the system's LuaJIT, each is the API's.
 * Threads: the one that runs the state.
 * Ownership: none.
 *
 * What is taken from the inside, and why that is safe.  The headers are those of the source that
 * tools/luajit.sh has compiled into libluajit.a, known by its checksum, and they are read with the
 * same flags; so the layouts cannot differ.
 *
 *   lua_State        base, top, maxstack, status, cframe's low bit (lua_isyieldable), glref; in
 *   state.c nextgc
 *   global_State     hookmask's HOOK_ACTIVE; allocf, allocd, registrytv, gcroot; gc.total and
 *   gc.threshold; in pack_plain.c str.num, in state.c gc.mmudata
 *   TValue           the tags, by lj_obj.h's macros
 *   GCstr, GCudata   len, the bytes behind it (of a string, with zeros up to a whole word);
 *   metatable, udtype
 *   GCcdata          in pack_cdata.c ctypeid
 *   GCproto          in chunk.c the constants
 *   GCtab            array, asize, node, hmask, and how a key finds its node (lj_tab.h); in
 *   pack_plain.c nomm
 *   functions        lj_err_throw, lj_state_growstack, lj_vm_resume (as lua_resume calls it),
 *   lj_gc_barrierback; in pack_plain.c
 *                    lj_tab_new, lj_tab_newkey, lj_tab_getinth, lj_tab_setinth, lj_str_new,
 *                    lj_gc_step.  The library is one compilation unit: of its functions only those
 *                    that its assembler part calls can be linked with.
 *
 * tests/unit/test_lj.c compares every function here with the API's.
 */
#ifndef NL_LJ_H
#define NL_LJ_H

#include <lua.h>

#include "base/base.h"

#if NL_LUAJIT_INSIDE

#include <lj/lj_obj.h>
/* These want the above first. */
#include <lj/lj_frame.h>
#include <lj/lj_gc.h>
#include <lj/lj_state.h>
#include <lj/lj_tab.h>

#if !LJ_GC64
#error "lj.h knows only 64-bit references: build with -Dluajit_inside=false"
#endif

/* --- the stack's size ------------------------------------------------------------------------- */

static inline int nl_lua_gettop(lua_State *L)
{
    return (int)(L->top - L->base);
}

static inline void nl_lua_pop(lua_State *L, int n)
{
    L->top -= n;
}

/* n ≥ 0 */
static inline void nl_lua_settop(lua_State *L, int n)
{
    if (nl_likely(L->base + n <= L->top)) {
        L->top = L->base + n;
    } else {
        lua_settop(L, n);
    }
}

/* Whether lua_checkstack would find that n ≥ 0 values more have room as it is. */
static inline bool nl_lua_hasroom(lua_State *L, int n)
{
    return nl_likely(n <= tvref(L->maxstack) - L->top && L->top - L->base + n <= LUAI_MAXCSTACK);
}

/* n ≥ 0 */
static inline int nl_lua_checkstack(lua_State *L, int n)
{
    return nl_lua_hasroom(L, n) || lua_checkstack(L, n);
}

/* --- reading ---------------------------------------------------------------------------------- */

/* The slot of index i, NULL where there is none. */
static inline TValue *nl_lua_slot(lua_State *L, int i)
{
    TValue *o = L->base + (i - 1);
    return nl_likely(o < L->top) ? o : NULL;
}

/* lua_type of a slot: a nibble for each of LuaJIT's tags, from nil (0) to userdata (12). */
static inline int nl_lua_slot_type(const TValue *o)
{
    return tvisnumber(o) ? LUA_TNUMBER : (int)(UINT64_C(0x75a0698042110) >> 4 * ~itype(o) & 15);
}

static inline int nl_lua_type(lua_State *L, int i)
{
    const TValue *o = nl_lua_slot(L, i);
    return nl_likely(o != NULL) ? nl_lua_slot_type(o) : LUA_TNONE;
}

static inline lua_Number nl_lua_tonumber(lua_State *L, int i)
{
    const TValue *o = nl_lua_slot(L, i);
    return nl_likely(o && tvisnumber(o)) ? numberVnum(o) : lua_tonumber(L, i);
}

/* Whether the value is a number, which is *n then; a string that looks like one is none. */
static inline bool nl_lua_number(lua_State *L, int i, lua_Number *n)
{
    const TValue *o = L->base + (i - 1);
    if (nl_likely(o < L->top && tvisnumber(o))) {
        *n = numberVnum(o);
        return true;
    }
    return false;
}

static inline int nl_lua_toboolean(lua_State *L, int i)
{
    const TValue *o = nl_lua_slot(L, i);
    return o && tvistruecond(o);
}

/* The bytes of a string; NULL and length 0 for anything else, numbers too. */
static inline const char *nl_lua_tostr(lua_State *L, int i, size_t *len)
{
    const TValue *o = nl_lua_slot(L, i);
    if (nl_likely(o && tvisstr(o))) {
        const GCstr *s = strV(o);
        *len = s->len;
        return strdata(s);
    }
    *len = 0;
    return NULL;
}

static inline lua_State *nl_lua_tothread(lua_State *L, int i)
{
    const TValue *o = nl_lua_slot(L, i);
    return o && tvisthread(o) ? threadV(o) : NULL;
}

/* The full userdata whose metatable is mt (as lua_topointer tells it), else NULL. */
static inline void *nl_lua_testudata(lua_State *L, int i, const void *mt)
{
    const TValue *o = nl_lua_slot(L, i);
    return nl_likely(o && tvisudata(o)) && tabref(udataV(o)->metatable) == mt && mt ? uddata(udataV(o))
                                                                                    : NULL;
}

/* --- pushing ---------------------------------------------------------------------------------- */

/* The new top has a value. */
static inline void nl_lua_pushed(lua_State *L)
{
    if (nl_unlikely(++L->top >= tvref(L->maxstack))) {
        lj_state_growstack(L, 1);
    }
}

static inline void nl_lua_pushnil(lua_State *L)
{
    setnilV(L->top);
    nl_lua_pushed(L);
}

static inline void nl_lua_pushboolean(lua_State *L, int b)
{
    setboolV(L->top, (b != 0));
    nl_lua_pushed(L);
}

static inline void nl_lua_setnumber(TValue *o, lua_Number n)
{
    setnumV(o, n);
    if (nl_unlikely(tvisnan(o))) {
        setnanV(o); /* any other NaN could be taken for a tag */
    }
}

static inline void nl_lua_pushnumber(lua_State *L, lua_Number n)
{
    nl_lua_setnumber(L->top, n);
    nl_lua_pushed(L);
}

/*
 * The same where nl_lua_checkstack has made room, and nothing since may have given it back: the
 * collector does.
 */
static inline void nl_lua_putnumber(lua_State *L, lua_Number n)
{
    nl_lua_setnumber(L->top++, n);
}

/* A copy of the value at index i, which exists. */
static inline void nl_lua_pushvalue(lua_State *L, int i)
{
    *L->top = L->base[i - 1];
    nl_lua_pushed(L);
}

/* The topmost value goes from one stack to another of the same state. */
static inline void nl_lua_xmove1(lua_State *from, lua_State *to)
{
    if (nl_likely(from != to)) {
        *to->top = *--from->top;
        nl_lua_pushed(to);
    }
}

/* --- the registry ----------------------------------------------------------------------------- */

/* lua_rawgeti(L, LUA_REGISTRYINDEX, n) */
static inline void nl_lua_getref(lua_State *L, int n)
{
    const GCtab *t = tabV(registry(L));
    if (nl_likely((uint32_t)n < t->asize)) {
        *L->top = tvref(t->array)[n];
        nl_lua_pushed(L);
    } else {
        lua_rawgeti(L, LUA_REGISTRYINDEX, n);
    }
}

/* lua_rawseti(L, LUA_REGISTRYINDEX, n): pops the value */
static inline void nl_lua_setref(lua_State *L, int n)
{
    GCtab *t = tabV(registry(L));
    if (nl_likely((uint32_t)n < t->asize)) {
        TValue *v = --L->top;
        tvref(t->array)[n] = *v;
        lj_gc_barriert(L, t, v);
    } else {
        lua_rawseti(L, LUA_REGISTRYINDEX, n);
    }
}

/* Pushes on L element n of the table at index 1 of from, a stack of the same state. */
static inline void nl_lua_getfrom(lua_State *L, lua_State *from, int n)
{
    const GCtab *t = tabV(from->base);
    if (nl_likely((uint32_t)n < t->asize)) {
        *L->top = tvref(t->array)[n];
        nl_lua_pushed(L);
    } else {
        lua_rawgeti(from, 1, n);
        nl_lua_xmove1(from, L);
    }
}

/* --- userdata --------------------------------------------------------------------------------- */

/* A new userdata whose metatable is what the registry has at n. */
static inline void *nl_lua_newuserdata(lua_State *L, size_t size, int n)
{
    void *p = lua_newuserdata(L, size);
    const GCtab *t = tabV(registry(L));
    if (nl_likely((uint32_t)n < t->asize && tvistab(tvref(t->array) + n))) {
        /*
         * No barrier: the userdata is white, for the collector has had no turn since it was made.
         */
        setgcref(udataV(L->top - 1)->metatable, obj2gco(tabV(tvref(t->array) + n)));
    } else {
        lua_rawgeti(L, LUA_REGISTRYINDEX, n);
        lua_setmetatable(L, -2);
    }
    return p;
}

/*
 * Pushes the default input or output of the library `io`.  False: nothing pushed, io.input tells.
 */
static inline bool nl_lua_pushiofile(lua_State *L, bool output)
{
    setudataV(L, L->top, &gcref(G(L)->gcroot[output ? GCROOT_IO_OUTPUT : GCROOT_IO_INPUT])->ud);
    nl_lua_pushed(L);
    return true;
}

/*
 * Calls fn with each file object; all userdata hang behind the main thread.  False: there is no way
 * to.
 */
static inline bool nl_lua_each_file(lua_State *L, void (*fn)(void *file))
{
    for (GCobj *o = gcref(mainthread(G(L))->nextgc); o; o = gcnext(o)) {
        if (gco2ud(o)->udtype == UDTYPE_IO_FILE) {
            fn(uddata(gco2ud(o)));
        }
    }
    return true;
}

/*
 * Pushes the global whose name is the running C function's first upvalue, a string.  Whether it is
 * the function f.
 */
static inline bool nl_lua_pushglobal(lua_State *L, const void *f)
{
    const GCtab *t = tabref(L->env);
    const GCstr *name = strV(&curr_func(L)->c.upvalue[0]);
    for (const Node *n = hashstr(t, name); n; n = nextnode(n)) {
        if (tvisstr(&n->key) && strV(&n->key) == name && !tvisnil(&n->val)) {
            *L->top = n->val;
            nl_lua_pushed(L);
            return tvisfunc(&n->val) && gcV(&n->val) == f;
        }
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_gettable(L, LUA_GLOBALSINDEX);
    return false;
}

/* --- the state -------------------------------------------------------------------------------- */

static inline int nl_lua_status(lua_State *L)
{
    return L->status;
}

static inline int nl_lua_isyieldable(lua_State *L)
{
    return cframe_canyield(L->cframe) != 0;
}

int lj_vm_resume(lua_State *L, TValue *base, int nres1, ptrdiff_t ef);

/* lua_resume, for a thread that nobody is just running. */
static inline int nl_lua_resume(lua_State *L, int nargs)
{
    TValue *base = L->top - nargs;
    if (L->status !=
        LUA_YIELD) { /* a call, whose frame takes a slot between the function and its arguments */
        if (nl_unlikely(L->status != LUA_OK)) {
            /* dead: the debug library has given it to the script, say */
            return lua_resume(L, nargs);
        }
        TValue *o = L->top++;
        for (; o > base; o--) {
            *o = o[-1];
            /* no call of memmove, which would wait for the stores just made */
            __asm__("" : "+r"(o));
        }
        setnilV(base);
        base++;
    }
    return lj_vm_resume(L, base, 0, 0);
}

static inline lua_Alloc nl_lua_getallocf(lua_State *L, void **ud)
{
    *ud = G(L)->allocd;
    return G(L)->allocf;
}

/*
 * L is suspended and has been pushed on: that may have run finalizers on it, and LuaJIT takes a
 * thread on which an error was raised for one that runs.
 */
static inline void nl_lua_still_suspended(lua_State *L)
{
    L->status = LUA_YIELD;
}

/* --- hooks ------------------------------------------------------------------------------------ */

/* Between these two no hook of the script is called: LuaJIT takes it that one is running. */
typedef int nl_lua_hooks;
static inline nl_lua_hooks nl_lua_hooks_off(lua_State *L)
{
    int was = G(L)->hookmask & HOOK_ACTIVE;
    G(L)->hookmask |= HOOK_ACTIVE;
    return was;
}

static inline void nl_lua_hooks_back(lua_State *L, nl_lua_hooks was)
{
    if (!was) {
        hook_leave(G(L));
    }
}

/*
 * A hook or a finalizer runs, in which no hook is called: from now on one is.  In a signal handler.
 */
static inline void nl_lua_hooks_reach_all(lua_State *L)
{
    hook_leave(G(L));
}

/*
 * In a hook, in which nl_lua_hooks_reach_all may have been called: makes it one again, as lua_yield
 * wants.
 */
static inline void nl_lua_in_hook(lua_State *L)
{
    hook_enter(G(L));
}

_Noreturn void lj_err_throw(lua_State *L, int errcode);

/* Raises the value on top as an error for which no handler is called. */
static inline int nl_lua_throw(lua_State *L)
{
    lj_err_throw(L, LUA_ERRMEM);
}

/*
 * No hook is running: says so to LuaJIT, which believes it if one has raised an error in a reader
 * of load.  lua_yield would then leave the frame of a hook.
 */
static inline void nl_lua_no_hook_runs(lua_State *L)
{
    if (nl_unlikely(hook_active(G(L)))) {
        hook_leave(G(L));
    }
}

#else /* the same by the API */

#define nl_lua_gettop lua_gettop
#define nl_lua_pop(L, n) lua_pop(L, n)
#define nl_lua_settop lua_settop
#define nl_lua_hasroom lua_checkstack
#define nl_lua_checkstack lua_checkstack
#define nl_lua_type lua_type
#define nl_lua_tonumber lua_tonumber
#define nl_lua_toboolean lua_toboolean
#define nl_lua_tothread lua_tothread
#define nl_lua_pushnil lua_pushnil
#define nl_lua_pushboolean lua_pushboolean
#define nl_lua_pushnumber lua_pushnumber
#define nl_lua_putnumber lua_pushnumber
#define nl_lua_pushvalue lua_pushvalue
#define nl_lua_xmove1(from, to) lua_xmove(from, to, 1)
#define nl_lua_getref(L, n) lua_rawgeti(L, LUA_REGISTRYINDEX, n)
#define nl_lua_setref(L, n) lua_rawseti(L, LUA_REGISTRYINDEX, n)
#define nl_lua_status lua_status
#define nl_lua_isyieldable lua_isyieldable
#define nl_lua_resume lua_resume
#define nl_lua_getallocf lua_getallocf
#define nl_lua_pushiofile(L, output) false
#define nl_lua_each_file(L, fn) false

static inline bool nl_lua_pushglobal(lua_State *L, const void *f)
{
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_gettable(L, LUA_GLOBALSINDEX);
    return lua_topointer(L, -1) == f;
}

static inline bool nl_lua_number(lua_State *L, int i, lua_Number *n)
{
    *n = lua_tonumber(L, i);
    return lua_type(L, i) == LUA_TNUMBER;
}

static inline const char *nl_lua_tostr(lua_State *L, int i, size_t *len)
{
    *len = 0;
    return lua_type(L, i) == LUA_TSTRING ? lua_tolstring(L, i, len) : NULL;
}

static inline void *nl_lua_testudata(lua_State *L, int i, const void *mt)
{
    void *p = lua_type(L, i) == LUA_TUSERDATA ? lua_touserdata(L, i) : NULL;
    if (!p || !lua_getmetatable(L, i)) {
        return NULL;
    }
    const void *its = lua_topointer(L, -1);
    lua_pop(L, 1);
    return its == mt ? p : NULL;
}

static inline void nl_lua_getfrom(lua_State *L, lua_State *from, int n)
{
    lua_rawgeti(from, 1, n);
    if (from != L) {
        lua_xmove(from, L, 1);
    }
}

static inline void *nl_lua_newuserdata(lua_State *L, size_t size, int n)
{
    void *p = lua_newuserdata(L, size);
    lua_rawgeti(L, LUA_REGISTRYINDEX, n);
    lua_setmetatable(L, -2);
    return p;
}

typedef struct nl_lua_hooks {
    lua_Hook hook;
    int mask, count;
} nl_lua_hooks;

static inline nl_lua_hooks nl_lua_hooks_off(lua_State *L)
{
    nl_lua_hooks was = {lua_gethook(L), lua_gethookmask(L), lua_gethookcount(L)};
    if (was.mask) {
        lua_sethook(L, NULL, 0, 0);
    }
    return was;
}

static inline void nl_lua_hooks_back(lua_State *L, nl_lua_hooks was)
{
    if (was.mask) {
        lua_sethook(L, was.hook, was.mask, was.count);
    }
}

/* There is no way to: */
#define nl_lua_still_suspended(L) ((void)(L))
#define nl_lua_no_hook_runs(L) ((void)(L))
#define nl_lua_hooks_reach_all(L) ((void)(L))
#define nl_lua_in_hook(L) ((void)(L))

#endif

/*
 * lua_call and lua_pcall of what is the runtime's own: no hook of the script sees it or raises an
 * error in it.
 */
static inline void nl_lua_call(lua_State *L, int nargs, int nresults)
{
    nl_lua_hooks was = nl_lua_hooks_off(L);
    lua_call(L, nargs, nresults);
    nl_lua_hooks_back(L, was);
}

static inline int nl_lua_pcall(lua_State *L, int nargs, int nresults)
{
    nl_lua_hooks was = nl_lua_hooks_off(L);
    int st = lua_pcall(L, nargs, nresults, 0);
    nl_lua_hooks_back(L, was);
    return st;
}

#endif

/* test_lj.c - lj.h: each short cut into LuaJIT does what the API's function of that name does. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "lua/run/lctx.h"
#include "lua/vm/lj.h"

static lua_State *L;

static void open_state(void)
{
    L = luaL_newstate();
    luaL_openlibs(L);
}

static void close_state(void)
{
    lua_close(L);
}

/* One value of each type, and numbers that a tag could be taken for. */
static void push_all(void)
{
    static const char text[] =
        "local ud = newproxy(true)\n"
        "return nil, true, false, 0, -0.0, 1, -1, 2147483647, -2147483648, 2^53, 0.5, 1/0, -1/0, 0/0, "
        "-(0/0),\n"
        "  '', 'abc', '12', 'a\\0b', {}, print, function() end, coroutine.create(print), ud, io.stdout,\n"
        "  1LL, ('x'):rep(300)";
    cr_assert_eq(luaL_loadstring(L, text), 0);
    lua_call(L, 0, LUA_MULTRET);
    lua_pushlightuserdata(L, L);
}

Test(lj, reading, .init = open_state, .fini = close_state)
{
    push_all();
    int top = lua_gettop(L);
    cr_assert_eq(nl_lua_gettop(L), top);
    for (int i = 1; i <= top + 3; i++) {
        cr_assert_eq(nl_lua_type(L, i), lua_type(L, i));
        cr_assert_eq(nl_lua_toboolean(L, i), lua_toboolean(L, i));
        cr_assert(nl_lua_tothread(L, i) == lua_tothread(L, i));
        lua_Number mine = nl_lua_tonumber(L, i), its = lua_tonumber(L, i);
        cr_assert(memcmp(&mine, &its, sizeof mine) == 0);
        bool number = nl_lua_number(L, i, &mine);
        cr_assert(number == (lua_type(L, i) == LUA_TNUMBER) &&
                  (!number || memcmp(&mine, &its, sizeof mine) == 0));
        size_t n = 99, m = 99;
        const char *s = nl_lua_tostr(L, i, &n);
        cr_assert_eq(s != NULL, lua_type(L, i) == LUA_TSTRING);
        cr_assert(!s || (s == lua_tolstring(L, i, &m) && n == m));
    }
    cr_assert_eq(lua_gettop(L), top);
}

Test(lj, pushing, .init = open_state, .fini = close_state)
{
    static const double numbers[] = {0, -0.0, 1, -1, 1e300, 0x1p-1074, HUGE_VAL, -HUGE_VAL, 2147483648.0};
    push_all();
    int top = lua_gettop(L);
    for (int i = 1; i <= top; i++) {
        nl_lua_pushvalue(L, i);
        lua_pushvalue(L, i);
        cr_assert(lua_rawequal(L, -1, -2) || lua_tonumber(L, i) != lua_tonumber(L, i));
        lua_pop(L, 1);
        nl_lua_pop(L, 1);
    }
    for (size_t i = 0; i < nl_countof(numbers); i++) {
        nl_lua_pushnumber(L, numbers[i]);
        lua_Number n = lua_tonumber(L, -1);
        cr_assert(lua_type(L, -1) == LUA_TNUMBER && memcmp(&n, &numbers[i], sizeof n) == 0);
        nl_lua_putnumber(L, numbers[i]);
        cr_assert(lua_rawequal(L, -1, -2));
        lua_pop(L, 2);
    }
    /* Not any NaN is a number inside LuaJIT. */
    for (uint64_t bits = UINT64_C(0xfff8000000000001), i = 0; i < 2000; i++, bits += UINT64_C(0xffffffffff)) {
        double nan;
        memcpy(&nan, &bits, sizeof nan);
        nl_lua_pushnumber(L, nan);
        cr_assert(lua_type(L, -1) == LUA_TNUMBER && isnan(lua_tonumber(L, -1)));
        lua_pop(L, 1);
    }
    nl_lua_pushnil(L);
    nl_lua_pushboolean(L, 0);
    nl_lua_pushboolean(L, 8);
    cr_assert(lua_isnil(L, -3) && lua_isboolean(L, -2) && !lua_toboolean(L, -2) && lua_isboolean(L, -1) &&
              lua_toboolean(L, -1));
    nl_lua_settop(L, top);
    cr_assert_eq(lua_gettop(L), top);
    nl_lua_settop(L, top + 40);
    cr_assert_eq(lua_gettop(L), top + 40);
    cr_assert(lua_isnil(L, -1));
    nl_lua_settop(L, 0);
    cr_assert_eq(lua_gettop(L), 0);
}

Test(lj, stack_room, .init = open_state, .fini = close_state)
{
    for (int i = 0; i < 2000; i++) { /* nobody has made room: as with the API, each push does */
        nl_lua_pushnumber(L, i);
        nl_lua_pushboolean(L, 1);
        nl_lua_pushnil(L);
        nl_lua_pushvalue(L, 4 * i + 1);
    }
    lua_gc(L, LUA_GCCOLLECT, 0);
    for (int i = 0; i < 2000; i++) {
        cr_assert(nl_lua_tonumber(L, 4 * i + 1) == i && nl_lua_tonumber(L, 4 * i + 4) == i);
    }
    cr_assert(!nl_lua_checkstack(L, 1)); /* 8,000 is the end */
    nl_lua_settop(L, 10);
    lua_State *co = lua_newthread(L);
    cr_assert(nl_lua_checkstack(co, 0) && nl_lua_checkstack(co, 1) && nl_lua_checkstack(co, 7990));
    cr_assert(!nl_lua_checkstack(co, 8001));
    for (int i = 0; i < 5000; i++) {
        nl_lua_pushnumber(L, i);
        nl_lua_xmove1(L, co);
    }
    cr_assert(lua_gettop(L) == 11 && lua_gettop(co) == 5000 && lua_tonumber(co, 5000) == 4999);
    nl_lua_xmove1(co, co);
    cr_assert_eq(lua_gettop(co), 5000);
}

Test(lj, registry, .init = open_state, .fini = close_state)
{
    for (int i = 1; i <= 8; i++) {
        lua_pushnumber(L, i);
        lua_rawseti(L, LUA_REGISTRYINDEX, i);
    }
    for (int i = 1; i <= 40; i += 3) { /* in the array part and behind it */
        lua_pushnumber(L, 100 + i);
        nl_lua_setref(L, i);
        lua_rawgeti(L, LUA_REGISTRYINDEX, i);
        cr_assert_eq(lua_tonumber(L, -1), 100 + i);
        nl_lua_getref(L, i);
        cr_assert_eq(lua_tonumber(L, -1), 100 + i);
        lua_pop(L, 2);
    }
    nl_lua_getref(L, 1000);
    cr_assert(lua_isnil(L, -1));
    cr_assert_eq(lua_gettop(L), 1);
    lua_State *other = lua_newthread(L);
    lua_createtable(other, 4, 0);
    for (int i = 1; i <= 20; i += 3) {
        lua_pushnumber(other, i);
        lua_rawseti(other, 1, i);
        nl_lua_getfrom(L, other, i);
        nl_lua_getfrom(other, other, i);
        cr_assert(lua_tonumber(L, -1) == i && lua_tonumber(other, -1) == i);
        lua_pop(L, 1);
        lua_pop(other, 1);
    }
    nl_lua_getfrom(L, other, 1000);
    cr_assert(lua_isnil(L, -1) && lua_gettop(other) == 1);
    lua_pop(L, 2);
    /* What is only in the registry survives a collector that has passed the registry already. */
    lua_gc(L, LUA_GCSETPAUSE, 100);
    for (int i = 0; i < 20000; i++) {
        lua_newtable(L);
        lua_pushnumber(L, i);
        lua_rawseti(L, -2, 1);
        nl_lua_setref(L, 1 + i % 3);
        lua_gc(L, LUA_GCSTEP, 0);
        nl_lua_getref(L, 1 + i % 3);
        lua_rawgeti(L, -1, 1);
        cr_assert_eq(lua_tonumber(L, -1), i);
        lua_pop(L, 2);
    }
}

Test(lj, userdata, .init = open_state, .fini = close_state)
{
    const void *mt[2];
    int ref[2];
    for (int i = 0; i < 2; i++) {
        lua_newtable(L);
        lua_pushnumber(L, i);
        lua_setfield(L, -2, "number");
        mt[i] = lua_topointer(L, -1);
        ref[i] = i == 0 ? 1 : 70; /* one of them in the hash part */
        lua_rawseti(L, LUA_REGISTRYINDEX, ref[i]);
    }
    for (int i = 0; i < 2000; i++) {
        void *p = nl_lua_newuserdata(L, 40, ref[i & 1]);
        memset(p, 7, 40);
        cr_assert(lua_gettop(L) == 1 && lua_touserdata(L, 1) == p);
        cr_assert(lua_getmetatable(L, 1) && lua_topointer(L, -1) == mt[i & 1]);
        cr_assert(nl_lua_testudata(L, 1, mt[i & 1]) == p && !nl_lua_testudata(L, 1, mt[~i & 1]));
        lua_settop(L, 0);
    }
    push_all();
    for (int i = 1; i <= lua_gettop(L) + 1; i++) {
        cr_assert(!nl_lua_testudata(L, i, mt[0]) && !nl_lua_testudata(L, i, NULL));
    }
}

static int ask(lua_State *co)
{
    lua_pushboolean(L, nl_lua_isyieldable(co) == lua_isyieldable(co));
    lua_xmove(L, co, 1);
    return lua_yield(co, 1);
}

Test(lj, state, .init = open_state, .fini = close_state)
{
    void *mine, *its;
    cr_assert(nl_lua_getallocf(L, &mine) == lua_getallocf(L, &its) && mine == its);
    cr_assert_eq(nl_lua_isyieldable(L), lua_isyieldable(L));
    lua_State *co = lua_newthread(L);
    lua_pushcfunction(co, ask);
    cr_assert_eq(nl_lua_status(co), LUA_OK);
    cr_assert_eq(lua_resume(co, 0), LUA_YIELD);
    cr_assert(lua_toboolean(co, -1));
    cr_assert_eq(nl_lua_status(co), LUA_YIELD);
}

Test(lj, resume, .init = open_state, .fini = close_state)
{
    /* New, waiting, dead. */
    lua_State *co = lua_newthread(L);
    luaL_loadstring(co, "local a, b = ... coroutine.yield(a + b) error('dead')");
    lua_pushnumber(co, 1);
    lua_pushnumber(co, 2);
    cr_assert_eq(nl_lua_resume(co, 2), LUA_YIELD);
    cr_assert_eq(lua_tonumber(co, -1), 3);
    lua_settop(co, 0);
    cr_assert_eq(nl_lua_resume(co, 0), LUA_ERRRUN);
    cr_assert_not_null(strstr(lua_tostring(co, -1), "dead"));
    cr_assert_eq(nl_lua_resume(co, 0), LUA_ERRRUN);
    cr_assert_not_null(strstr(lua_tostring(co, -1), "cannot resume"));
    lua_pop(L, 1);
}

static int hook_calls;

static void count_hook(lua_State *co, lua_Debug *ar)
{
    (void)co;
    (void)ar;
    hook_calls++;
}

static int calls_for(const char *code, int (*call)(lua_State *, int))
{
    hook_calls = 0;
    cr_assert_eq(luaL_loadstring(L, code), 0);
    call(L, 0);
    lua_settop(L, 0);
    return hook_calls;
}

static int call_api(lua_State *l, int nargs)
{
    return lua_pcall(l, nargs, 0, 0);
}

static int call_unseen(lua_State *l, int nargs)
{
    return nl_lua_pcall(l, nargs, 0);
}

Test(lj, hooks, .init = open_state, .fini = close_state)
{
    const char *fine = "local n = 0 for i = 1, 10 do n = n + i end", *fails = "for i = 1, 10 do end error()";
    lua_sethook(L, count_hook, LUA_MASKCOUNT, 1);
    cr_assert_gt(calls_for(fine, call_api), 10);
    cr_assert_eq(calls_for(fine, call_unseen), 0);
    cr_assert_eq(calls_for(fails, call_unseen), 0);
    cr_assert_gt(calls_for(fine, call_api), 10);
    cr_assert(lua_gethook(L) == count_hook && lua_gethookmask(L) == LUA_MASKCOUNT);
    cr_assert_eq(lua_gethookcount(L), 1);
    lua_sethook(L, NULL, 0, 0);
    cr_assert_eq(calls_for(fine, call_unseen), 0);
    cr_assert_null(lua_gethook(L));
}

#if NL_LUAJIT_INSIDE

static int failing_finalizer(lua_State *l)
{
    return luaL_error(l, "finalizer");
}

/* A collection on a suspended thread runs a finalizer there, which fails. */
Test(lj, still_suspended, .init = open_state, .fini = close_state)
{
    lua_State *co = lua_newthread(L);
    cr_assert_eq(luaL_loadstring(co, "return 1 + coroutine.yield()"), 0);
    cr_assert_eq(lua_resume(co, 0), LUA_YIELD);
    lua_newuserdata(L, 8);
    lua_newtable(L);
    lua_pushcfunction(L, failing_finalizer);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
    lua_gc(co, LUA_GCCOLLECT, 0);
    lua_pushnumber(co, 2);
    nl_lua_still_suspended(co);
    cr_assert_eq(nl_lua_resume(co, 1), LUA_OK);
    cr_assert_eq(lua_tonumber(co, -1), 3);
}

static int throws(lua_State *l)
{
    lua_pushliteral(l, "thrown");
    return nl_lua_throw(l);
}

static int no_handler(lua_State *l)
{
    hook_calls++;
    return luaL_error(l, "not called");
}

Test(lj, throw, .init = open_state, .fini = close_state)
{
    hook_calls = 0;
    lua_pushcfunction(L, no_handler);
    lua_pushcfunction(L, throws);
    cr_assert_eq(lua_pcall(L, 0, 0, 1), LUA_ERRMEM);
    cr_assert_str_eq(lua_tostring(L, -1), "thrown");
    cr_assert_eq(hook_calls, 0);
}

#endif

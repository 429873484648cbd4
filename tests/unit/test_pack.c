/* test_pack.c - the serialiser: what goes in comes out in another state; what cannot is refused with its path. */
#include <criterion/criterion.h>
#include <string.h>

#include "base/alloc.h"
#include "lua/lctx.h"
#include "lua/pack.h"

/*
 * Two bare states are enough.  The packer asks lib_buffer.c whether a userdata is a buffer, and
 * that asks for the state's context, so each state gets one that holds nothing else.
 */
static nl_lctx *half_context(void)
{
    nl_lctx *lc = nl_calloc_aligned(sizeof *lc);
    lc->slab = nl_slab_new(lc);
    lc->L = lua_newstate(nl_slab_alloc, lc->slab);
    luaL_openlibs(lc->L);
    lua_pushcfunction(lc->L, luaopen_nl_buffer);
    lua_call(lc->L, 0, 1);
    lua_setglobal(lc->L, "buffer");
    return lc;
}

static void half_free(nl_lctx *lc)
{
    lua_close(lc->L);
    nl_slab_free(lc->slab);
    nl_free_aligned(lc);
}

static nl_lctx *A, *B;

static void open_states(void)
{
    A = half_context();
    B = half_context();
}

static void close_states(void)
{
    half_free(A);
    half_free(B);
}

/* Runs Lua text in a state; what it returns stays on the stack. */
static void eval(lua_State *L, const char *code)
{
    if (luaL_loadstring(L, code) || lua_pcall(L, 0, LUA_MULTRET, 0)) {
        cr_assert(false, "Lua text failed");
    }
}

/* Sends what `make` returns in A to B, and calls `check` (Lua text of a function) there with it. */
static void trip(const char *make, const char *check)
{
    lua_settop(A->L, 0);
    lua_settop(B->L, 0);
    eval(A->L, make);
    int n = lua_gettop(A->L);
    nl_umsg *m = nl_umsg_pack(A->L, 1, n, 1, NULL);
    cr_assert_eq(lua_gettop(A->L), n); /* the stack is as it was */
    eval(B->L, check);
    cr_assert_eq(nl_umsg_unpack(B->L, m), n);
    nl_umsg_free(m);
    if (lua_pcall(B->L, n, 0, 0)) {
        fprintf(stderr, "%s -> %s: %s\n", make, check, lua_tostring(B->L, -1));
        cr_assert(false, "check failed");
    }
}

static int protected_pack(lua_State *L)
{
    nl_umsg_free(nl_umsg_pack(L, 1, lua_gettop(L), 1, NULL));
    return 0;
}

static void refused(const char *make, const char *text)
{
    lua_settop(A->L, 0);
    lua_pushcfunction(A->L, protected_pack);
    eval(A->L, make);
    cr_assert_neq(lua_pcall(A->L, lua_gettop(A->L) - 1, 0, 0), 0);
    const char *got = lua_tostring(A->L, -1);
    if (!got || !strstr(got, text)) {
        fprintf(stderr, "%s: expected '%s', got '%s'\n", make, text, got ? got : "(nil)");
        cr_assert(false, "wrong refusal");
    }
}

Test(pack, scalars, .init = open_states, .fini = close_states)
{
    trip("return", "return function(...) assert(select('#', ...) == 0) end");
    trip("return nil, true, false, nil",
         "return function(...) assert(select('#', ...) == 4) local a, b, c, d = ... "
         "assert(a == nil and b == true and c == false and d == nil) end");
    trip("return 0, -0.0, 1.5, 2^53, -2^63, 1/0, 0/0",
         "return function(a, b, c, d, e, f, g) assert(a == 0 and 1/b == -1/0 and c == 1.5 and d == 2^53 and "
         "e == -2^63 and f == 1/0 and g ~= g) end");
    trip("return '', 'abc', ('x'):rep(255), ('y'):rep(256), ('z'):rep(1e6), 'a\\0b\\255'",
         "return function(a, b, c, d, e, f) assert(a == '' and b == 'abc' and c == ('x'):rep(255) and "
         "d == ('y'):rep(256) and e == ('z'):rep(1e6) and f == 'a\\0b\\255') end");
    trip("return 1LL, -5LL, 2ULL, 0xffffffffffffffffULL, {9007199254740993LL}",
         "return function(a, b, c, d, e) assert(tostring(a) == '1LL' and tostring(b) == '-5LL' and "
         "tostring(c) == '2ULL' and d == 0xffffffffffffffffULL and e[1] == 9007199254740993LL) end");
}

Test(pack, tables, .init = open_states, .fini = close_states)
{
    trip("return {id = 1, name = 'abc', pos = {1, 2, 3}}, {}",
         "return function(t, e) assert(t.id == 1 and t.name == 'abc' and #t.pos == 3 and t.pos[3] == 3 and "
         "next(e) == nil) end");
    trip("return {1, 2, nil, 4, [7] = 7, [true] = false, [0.5] = {{{}}}}",
         "return function(t) assert(t[1] == 1 and t[2] == 2 and t[3] == nil and t[4] == 4 and t[7] == 7 and "
         "t[true] == false and next(t[0.5][1][1]) == nil) end");
    /* List values of which some stand in the hash part. */
    trip("local t = {x = 1, y = 2, z = 3} t.x, t.y, t.z = nil for i = 1, 20 do t[i] = i end t[5] = nil "
         "return t",
         "return function(t) for i = 1, 20 do assert(t[i] == (i ~= 5 and i or nil)) end end");
    trip("return setmetatable({1}, {__index = function() error('asked') end})",
         "return function(t) assert(t[1] == 1 and getmetatable(t) == nil and t.x == nil) end");
    trip("local t = {} for i = 1, 100 do t = {t} end return t[1]",
         "return function(t) local n = 0 while t do n = n + 1 t = t[1] end assert(n == 100) end");
}

Test(pack, shared_references, .init = open_states, .fini = close_states)
{
    trip("local s = {1} return {s, s, k = s}, s",
         "return function(t, s) assert(t[1] == t[2] and t.k == t[1] and s == t[1] and s[1] == 1) end");
    trip("local t, s = {}, {} for i = 1, 500 do s[i] = {i} end for i = 1, 1000 do t[i] = s[(i * 7) % 500 + "
         "1] end return t, s",
         "return function(t, s) for i = 1, 1000 do assert(t[i] == s[(i * 7) % 500 + 1]) end end");
}

Test(pack, refusals, .init = open_states, .fini = close_states)
{
    refused("return 1, {on_hit = print}", "ETRANSTYPE: [2].on_hit is a function");
    refused("return print", "[1] is a function");
    refused("return {{a = {['b c'] = {[3] = coroutine.create(print)}}}}", "[1][1].a[\"b c\"][3] is a thread");
    refused("return io.stdout", "[1] is a userdata");
    refused("return {[{}] = 1}", "[1][a table] has as key a table");
    refused("local t = {} t.a = {b = t} return t", "[1].a.b is part of a cycle");
    refused("local t = {} t[1] = t return t", "[1][1] is part of a cycle");
    refused("local t = {} for i = 1, 100 do t = {t} end return t", "is nested more than 100 levels deep");
    refused("return require('ffi').new('int[2]')", "[1] is a cdata");
    refused("return {x = require('ffi').new('double', 1)}", "[1].x is a cdata");
    refused("return buffer.new(('x'):rep(1000)), {buffer.new('y'), {f = print}}", "[2][2].f is a function");
    refused("local t = {x = ('k'):rep(10)} for i = 1, 90 do t = {[('k'):rep(30)] = t} end "
            "local u = t while u.x == nil do u = u[('k'):rep(30)] end u.x = print return t",
            ".x is a function");
}

Test(pack, buffers_are_shared, .init = open_states, .fini = close_states)
{
    uint64_t before = nl_block_bytes();
    trip("big = buffer.new(('x'):rep(100000)) return big, {big, buffer.new('small')}, big",
         "return function(a, t, c) assert(#a == 100000 and tostring(t[2]) == 'small' and tostring(c) == "
         "('x'):rep(100000)) "
         "a:append('!') assert(#t[1] == 100000) end");
    eval(A->L, "assert(#big == 100000) big:release()");
    lua_settop(A->L, 0);
    lua_settop(B->L, 0);
    lua_gc(A->L, LUA_GCCOLLECT, 0);
    lua_gc(B->L, LUA_GCCOLLECT, 0);
    cr_assert_eq(nl_block_bytes(), before);
}

Test(pack, a_block_is_used_again, .init = open_states, .fini = close_states)
{
    lua_pushliteral(A->L, "0123456789");
    nl_umsg *m = nl_umsg_pack(A->L, 1, 1, 1, NULL);
    lua_pushnumber(A->L, 5);
    nl_umsg *again = nl_umsg_pack(A->L, 2, 2, 1, m);
    cr_assert_eq(again, m);
    lua_pushlstring(A->L, (char[3000]){0}, 3000);
    again = nl_umsg_pack(A->L, 3, 3, 1, again); /* does not fit: the old one is freed */
    cr_assert_eq(nl_umsg_unpack(B->L, again), 1);
    size_t n;
    lua_tolstring(B->L, -1, &n);
    cr_assert_eq(n, 3000);
    nl_umsg_free(again);
}

/* Random values, built the same way on both sides from a seed. */
Test(pack, random_values, .init = open_states, .fini = close_states)
{
    static const char code[] =
        "local seed = ...\n"
        "local r = seed\n"
        "local function rnd(n) r = (r * 1103515245 + 12345) % 2147483648 return math.floor(r / 65536) % n "
        "end\n"
        "local function make(d)\n"
        "  local k = rnd(d > 5 and 5 or 8)\n"
        "  if k == 0 then return true elseif k == 1 then return rnd(1000) / 7\n"
        "  elseif k == 2 then return ('s'):rep(rnd(400)) elseif k == 3 then return false\n"
        "  elseif k == 4 then return rnd(32768) end\n"
        "  local t = {}\n"
        "  for i = 1, rnd(12) do t[i] = make(d + 1) end\n"
        "  for i = 1, rnd(8) do t['k' .. rnd(100)] = make(d + 1) end\n"
        "  return t\n"
        "end\n"
        "local function same(a, b)\n"
        "  if type(a) ~= 'table' then return a == b end\n"
        "  for k, v in pairs(a) do if not same(v, b[k]) then return false end end\n"
        "  for k in pairs(b) do if a[k] == nil then return false end end\n"
        "  return true\n"
        "end\n"
        "return make(0), same\n";
    for (int seed = 1; seed <= 300; seed++) {
        lua_settop(A->L, 0);
        lua_settop(B->L, 0);
        for (int side = 0; side < 2; side++) {
            lua_State *L = side ? B->L : A->L;
            cr_assert_eq(luaL_loadstring(L, code), 0);
            lua_pushinteger(L, seed);
            lua_call(L, 1, 2);
        }
        nl_umsg *m = nl_umsg_pack(A->L, 1, 1, 1, NULL);
        lua_insert(B->L, 1); /* same, value */
        cr_assert_eq(nl_umsg_unpack(B->L, m), 1);
        nl_umsg_free(m);
        lua_call(B->L, 2, 1);
        cr_assert(lua_toboolean(B->L, -1));
    }
}

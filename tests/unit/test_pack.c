/* test_pack.c - the serialiser: what goes in comes out in another state; what cannot is refused with its path. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "lua/api/modules.h"
#include "lua/msg/pack_impl.h"
#include "rng.h"

/*
 * Two bare states are enough.  The packer asks lib_buffer.c whether a userdata is a buffer, and
 * that asks for the state's context, so each state gets one that holds nothing else.
 */
static int open_libraries(lua_State *L)
{
    luaL_openlibs(L);
    lua_pushcfunction(L, luaopen_nl_buffer);
    lua_call(L, 0, 1);
    lua_setglobal(L, "buffer");
    return 0;
}

static nl_lctx *half_context(void)
{
    nl_lctx *lc = nl_calloc_aligned(sizeof *lc);
    cr_assert_eq(nl_state_open(&lc->vm, open_libraries), 0);
    lua_gc(lc->vm.L, LUA_GCRESTART, -1);
    return lc;
}

static void half_free(nl_lctx *lc)
{
    nl_state_close(&lc->vm, true);
    nl_free_aligned(lc);
}

static nl_lctx *A, *B;

static nl_packet
    *spare; /* not on the stack: AddressSanitizer does not see that an error of Lua leaves a frame */

static nl_packet *pack(lua_State *L, int first, int last, int argbase, nl_packet *old)
{
    spare = old;
    nl_packet *m = nl_packet_pack(L, first, last, argbase, &spare);
    cr_assert_null(spare);
    return m;
}

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
    lua_settop(A->vm.L, 0);
    lua_settop(B->vm.L, 0);
    eval(A->vm.L, make);
    int n = lua_gettop(A->vm.L);
    nl_packet *m = pack(A->vm.L, 1, n, 1, NULL);
    cr_assert_eq(lua_gettop(A->vm.L), n); /* the stack is as it was */
    eval(B->vm.L, check);
    cr_assert_eq(nl_packet_unpack(B->vm.L, m), n);
    nl_packet_free(m);
    if (lua_pcall(B->vm.L, n, 0, 0)) {
        fprintf(stderr, "%s -> %s: %s\n", make, check, lua_tostring(B->vm.L, -1));
        cr_assert(false, "check failed");
    }
}

static int protected_pack(lua_State *L)
{
    nl_packet_free(pack(L, 1, lua_gettop(L), 1, NULL));
    return 0;
}

static void refused(const char *make, const char *text)
{
    lua_settop(A->vm.L, 0);
    lua_pushcfunction(A->vm.L, protected_pack);
    eval(A->vm.L, make);
    cr_assert_neq(lua_pcall(A->vm.L, lua_gettop(A->vm.L) - 1, 0, 0), 0);
    const char *got = lua_tostring(A->vm.L, -1);
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
    trip("return 0, -1/(1/0), 1.5, 2^53, -2^63, 1/0, 0/0",
         "return function(a, b, c, d, e, f, g) assert(a == 0 and 1/b == -1/0 and c == 1.5 and d == 2^53 and "
         "e == -2^63 and f == 1/0 and g ~= g) end");
    trip("return '', 'abc', ('x'):rep(255), ('y'):rep(256), ('z'):rep(1e6), 'a\\0b\\255'",
         "return function(a, b, c, d, e, f) assert(a == '' and b == 'abc' and c == ('x'):rep(255) and "
         "d == ('y'):rep(256) and e == ('z'):rep(1e6) and f == 'a\\0b\\255') end");
    trip("return 1LL, -5LL, 2ULL, 0xffffffffffffffffULL, {9007199254740993LL}",
         "return function(a, b, c, d, e) assert(tostring(a) == '1LL' and tostring(b) == '-5LL' and "
         "tostring(c) == '2ULL' and d == 0xffffffffffffffffULL and e[1] == 9007199254740993LL) end");
}

/* cjson.null, ngx.null and others; pure Lua has no way to make one. */
Test(pack, null_is_carried, .init = open_states, .fini = close_states)
{
    for (int side = 0; side < 2; side++) {
        lua_State *L = side ? B->vm.L : A->vm.L;
        lua_pushlightuserdata(L, &spare); /* others make LuaJIT give NULL another form inside */
        lua_pushlightuserdata(L, NULL);
        lua_setglobal(L, "null");
        lua_setglobal(L, "other");
    }
    trip("return null, {1, null, x = null}, {null, null}",
         "return function(a, b, c) assert(rawequal(a, null) and b[1] == 1 and rawequal(b[2], null) and "
         "rawequal(b.x, null) and rawequal(c[2], null)) end");
    refused("return {other}", "[1][1] is a userdata");
    refused("return {[null] = 1}", "has as key a userdata");
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

/* Both sides build the same value from the same text; B compares what has arrived with its own. */
static const char same[] =
    "local function same(a, b)\n"
    "  if type(a) ~= 'table' or type(b) ~= 'table' then return a == b end\n"
    "  for k, v in pairs(a) do if not same(v, b[k]) then return false end end\n"
    "  for k in pairs(b) do if a[k] == nil then return false end end\n"
    "  for k in pairs(a) do b[k] = nil end\n" /* and what was found by walking is found by asking */
    "  return next(b) == nil\n"
    "end\n";

static void trip_same(const char *body)
{
    char make[1000], check[3000];
    snprintf(make, sizeof make, "%s", body);
    snprintf(check, sizeof check,
             "%s local mine = (function() %s end)() return function(t) assert(same(mine, t)) end", same,
             body);
    trip(make, check);
}

Test(pack, shapes_of_tables, .init = open_states, .fini = close_states)
{
    static const char *const bodies[] = {
        "return {1}",
        "return {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}", /* the array lies inside the table */
        "return {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}",
        "return {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17}",
        "local t = {1, 2, 3} for i = 4, 40 do t[i] = i end return t", /* or has left it */
        "local t = {1, 2, 3} t[2] = nil return t",
        "local t = {1, 2, 3} t[1] = nil return t",
        "local t = {1, 2, 3} t[1], t[2], t[3] = nil return t",
        "local t = {} for i = 1, 100 do t[i] = i end for i = 1, 100, 3 do t[i] = nil end return t",
        "local t = {[0] = 'zero', 1, 2} return t",
        "local t = {} for i = 0, 10 do t[i] = {i} end return t",
        "local t = {} for i = 0, 10 do t[i] = {i} end t[1] = nil t[10] = nil return t",
        "local t = {} for i = -20, 20 do t[i] = i end return t",
        "local t = {} for i = 20, 1, -1 do t[i] = i end return t",
        "return {[1] = 1, [2] = 2}", /* list values in the hash part */
        "return {[2] = 2, [3] = 3, [7] = 7, [2^31] = 1, [-2^31] = 2, [2^31 - 1] = 3, [2^53] = 4, [-1] = 5}",
        "return {[0.5] = 1, [-0.5] = 2, [1e300] = 3, [-1e300] = 4, [1/0] = 5, [-1/0] = 6, [5e-324] = 7}",
        "return {[true] = 1, [false] = 2}, nil",
        "return {[1e9] = 'far', [3] = 'near', [2^40] = {}}",
        "local t = {} t[1] = 1 for i = 1, 30 do t[2^i] = i end return t",
        "local t = {} for i = 1, 300 do t['key ' .. i] = i end return t", /* many collisions */
        "local t = {} for i = 1, 300 do t[i / 8] = i end for i = 1, 300 do t[i * 2^32] = i end return t",
        "local t = {} for i = 1, 100 do t[i] = i t[-i] = -i t['s' .. i] = {} t[i + .5] = 'f' end return t",
        "local t = {} for i = 1, 50 do t[i] = i t['k' .. i] = i end for i = 1, 50, 2 do t['k' .. i] = nil "
        "end return t",
        "local t = require('table.new')(1000, 1000) t[999] = 'a' t.x = 'b' return t",
        "local t = {} for i = 1, 70 do t[('k'):rep(i)] = ('v'):rep(i) t[i] = ('w'):rep(i) end return t",
        "return {[''] = '', [('k'):rep(255)] = ('v'):rep(255), [('k'):rep(256)] = ('v'):rep(256), ['a\\0b'] "
        "= 'a\\0c'}",
        "local t = {} for i = 1, 200 do t[i] = {id = i, name = 'n' .. i, pos = {i, -i, i / 2}} end return t",
    };
    for (size_t i = 0; i < nl_countof(bodies); i++) {
        trip_same(bodies[i]);
    }
    trip("return {__index = function() end} and {__index = 7, __len = 1}",
         "return function(mt) mt.__index = {x = 5} assert(setmetatable({}, mt).x == 5) end");
    /* Its table was asked for metamethods before it had any. */
    trip("return {__index = {x = 5}}", "return function(mt) assert(setmetatable({}, mt).x == 5) end");
}

/* The values before it are packed already when the short way meets what it cannot carry. */
Test(pack, plain_and_other_values, .init = open_states, .fini = close_states)
{
    trip("return 1, 2, 'three', {4, {5}}, buffer.new('six'), {buffer.new('seven')}, 8LL, {n = 9ULL}, 10",
         "return function(a, b, c, d, e, f, g, h, i) assert(a == 1 and b == 2 and c == 'three' and d[2][1] "
         "== 5 and "
         "tostring(e) == 'six' and tostring(f[1]) == 'seven' and g == 8LL and h.n == 9ULL and i == 10) end");
    trip("local s = {'s'} return 1, 2, s, {s, {s}}, nil, s",
         "return function(a, b, s, t, n, u) assert(s[1] == 's' and t[1] == s and t[2][1] == s and n == nil "
         "and u == s) end");
    trip("local t = {} for i = 1, 40 do t[i] = {} end t[41] = t[1] return t, t[40]",
         "return function(t, u) assert(t[41] == t[1] and t[40] == u and t[39] ~= u) end");
    refused("return 1, 2, {3, {}, {x = {{print}}}}", "[3][3].x[1][1] is a function");
    refused("local t = {} for i = 1, 40 do t[i] = {} end t[40].up = t return 1, t",
            "[2][40].up is part of a cycle");
    refused("return {1, 2, [{}] = 3}", "[1][a table] has as key a table");
    refused("return {[print] = 3}", "has as key a function");
    refused("return {['x'] = 1, [3LL] = 3}", "has as key a cdata");
    refused("return {coroutine.create(print)}", "[1][1] is a thread");
    refused("return unpack({}, 1, 7901)", "too many values");
}

/* The strings that a state keeps, because they were keys, are found again and not mistaken. */
Test(pack, keys_again, .init = open_states, .fini = close_states)
{
    static const char make[] = "seed = (seed or 0) + 1 local t = {}\n"
                               "for i = 1, 40 do t['key' .. (i * seed) % 97] = i t[('x'):rep(i)] = seed end\n"
                               "return t, {abc = 1, abd = 2, ['ab\\0'] = 3, ab = 4, ['abc\\0'] = 5}";
    static const char check[] =
        "seed = (seed or 0) + 1 return function(t, u) for i = 1, 40 do\n"
        "  local k = 'key' .. (i * seed) % 97\n"
        "  assert(t[k] and 'key' .. (t[k] * seed) % 97 == k and t[('x'):rep(i)] == seed) end\n"
        "assert(u.abc == 1 and u.abd == 2 and u['ab\\0'] == 3 and u.ab == 4 and u['abc\\0'] == 5)\n"
        "if seed % 7 == 0 then collectgarbage() end end";
    lua_gc(B->vm.L, LUA_GCSETPAUSE, 100);
    for (int i = 0; i < 1000; i++) {
        if (i % 100 == 99) { /* a script that reaches into the registry harms nobody but itself */
            lua_pushnil(B->vm.L);
            while (lua_next(B->vm.L, LUA_REGISTRYINDEX)) {
                if (lua_istable(B->vm.L, -1) && lua_objlen(B->vm.L, -1) > 0 && lua_isnumber(B->vm.L, -2)) {
                    lua_pushvalue(B->vm.L, -2);
                    lua_pushboolean(B->vm.L, i % 200 == 99);
                    lua_rawset(B->vm.L, LUA_REGISTRYINDEX);
                }
                lua_pop(B->vm.L, 1);
            }
            lua_gc(B->vm.L, LUA_GCCOLLECT, 0);
        }
        trip(make, check);
    }
}

/* However large the messages are, the collector keeps up with what they leave behind. */
Test(pack, the_collector_keeps_up, .init = open_states, .fini = close_states)
{
    static const char *const makes[] = {
        "return {id = 1, name = 'abc', pos = {1, 2, 3}}",
        "local t = {} for i = 1, 3000 do t[i] = {i} end return t",
        "local t = {} for i = 1, 3000 do t[i] = 'string ' .. i end return t",
        "return ('s'):rep(100000)",
        "local t = {} for i = 1, 20000 do t[i] = true end return t", /* eight bytes for one */
    };
    for (size_t i = 0; i < nl_countof(makes); i++) {
        lua_settop(A->vm.L, 0);
        eval(A->vm.L, makes[i]);
        nl_packet *m = pack(A->vm.L, 1, 1, 1, NULL);
        lua_settop(B->vm.L, 0);
        lua_gc(B->vm.L, LUA_GCCOLLECT, 0);
        int before = lua_gc(B->vm.L, LUA_GCCOUNT, 0), most = 0;
        cr_assert_eq(nl_packet_unpack(B->vm.L, m), 1);
        int one = lua_gc(B->vm.L, LUA_GCCOUNT, 0) - before + 1;
        for (int k = 0; k < (one > 50 ? 100 : 20000); k++) {
            lua_settop(B->vm.L, 0);
            cr_assert_eq(nl_packet_unpack(B->vm.L, m), 1);
            int now = lua_gc(B->vm.L, LUA_GCCOUNT, 0);
            most = now > most ? now : most;
        }
        /* By the API it has one step for each table, however long. */
        cr_assert_lt(most, 3 * before + (NL_LUAJIT_INSIDE ? 6 : 60) * one);
        nl_packet_free(m);
    }
}

static int allocations_left;

static void *failing_alloc(void *ud, void *p, size_t osize, size_t nsize)
{
    if (nsize > osize && allocations_left-- <= 0) {
        return NULL;
    }
    return nl_heap_alloc(ud, p, osize, nsize);
}

static int protected_unpack(lua_State *L)
{
    return nl_packet_unpack(L, lua_touserdata(L, 1));
}

/* Memory that runs out in the middle leaves a state that goes on. */
Test(pack, memory_runs_out, .init = open_states, .fini = close_states)
{
    eval(A->vm.L, "return {id = 1, name = 'a name', pos = {1, 2, 3}, list = {{a = 'x'}, {b = 'y' .. 1}, "
                  "('z'):rep(50)}}");
    nl_packet *m = pack(A->vm.L, 1, 1, 1, NULL);
    lua_pushlightuserdata(B->vm.L, &B->vm); /* the allocator does not say whose the state is */
    lua_rawseti(B->vm.L, LUA_REGISTRYINDEX, NL_STATE_SELF);
    lua_setallocf(B->vm.L, failing_alloc, B->vm.heap);
    int failures = 0;
    for (int status = -1; status != 0; failures++) {
        allocations_left = 1000;
        lua_settop(B->vm.L, 0);
        lua_pushcfunction(B->vm.L, protected_unpack);
        lua_pushlightuserdata(B->vm.L, m);
        lua_gc(B->vm.L, LUA_GCCOLLECT, 0);
        allocations_left = failures;
        status = lua_pcall(B->vm.L, 1, 1, 0);
        allocations_left = 1000;
        lua_gc(B->vm.L, LUA_GCCOLLECT, 0);
        cr_assert(status == 0 || status == LUA_ERRMEM);
    }
    cr_assert_gt(failures, 10);
    lua_getfield(B->vm.L, -1, "name");
    cr_assert_str_eq(lua_tostring(B->vm.L, -1), "a name");
    lua_setallocf(B->vm.L, nl_heap_alloc, B->vm.heap);
    nl_packet_free(m);
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
    refused("return {x = require('ffi').new('struct {int a;}')}", "[1].x is a cdata");
    refused("return require('ffi').cast('int *', 0)", "[1] is a cdata");
    refused("return require('ffi').typeof('int')", "[1] is a cdata");
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
    eval(A->vm.L, "assert(#big == 100000) big:release()");
    lua_settop(A->vm.L, 0);
    lua_settop(B->vm.L, 0);
    lua_gc(A->vm.L, LUA_GCCOLLECT, 0);
    lua_gc(B->vm.L, LUA_GCCOLLECT, 0);
    cr_assert_eq(nl_block_bytes(), before);
}

Test(pack, a_block_is_used_again, .init = open_states, .fini = close_states)
{
    lua_pushliteral(A->vm.L, "0123456789");
    nl_packet *m = pack(A->vm.L, 1, 1, 1, NULL);
    lua_pushnumber(A->vm.L, 5);
    nl_packet *again = pack(A->vm.L, 2, 2, 1, m);
    cr_assert_eq(again, m);
    lua_pushlstring(A->vm.L, (char[3000]){0}, 3000);
    again = pack(A->vm.L, 3, 3, 1, again); /* does not fit: the old one is freed */
    cr_assert_eq(nl_packet_unpack(B->vm.L, again), 1);
    size_t n;
    lua_tolstring(B->vm.L, -1, &n);
    cr_assert_eq(n, 3000);
    nl_packet_free(again);
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
#ifdef NL_TEST_EMULATED
    const int seeds = 100;
#else
    const int seeds = 300;
#endif
    for (int seed = 1; seed <= seeds; seed++) {
        lua_settop(A->vm.L, 0);
        lua_settop(B->vm.L, 0);
        for (int side = 0; side < 2; side++) {
            lua_State *L = side ? B->vm.L : A->vm.L;
            cr_assert_eq(luaL_loadstring(L, code), 0);
            lua_pushinteger(L, seed);
            lua_call(L, 1, 2);
        }
        nl_packet *m = pack(A->vm.L, 1, 1, 1, NULL);
        lua_insert(B->vm.L, 1); /* same, value */
        cr_assert_eq(nl_packet_unpack(B->vm.L, m), 1);
        nl_packet_free(m);
        lua_call(B->vm.L, 2, 1);
        cr_assert(lua_toboolean(B->vm.L, -1));
    }
}

#if NL_LUAJIT_INSIDE

/* --- the short way against the long one ------------------------------------------------------- */

/* Arguments: a seed.  Leaves values, among them some that are refused. */
static const char any_values[] =
    "local seed = ...\n"
    "local r = seed\n"
    "local function rnd(n) r = (r * 1103515245 + 12345) % 2147483648 return math.floor(r / 65536) % n end\n"
    "local tables, last = {}, nil\n"
    "local odd = {0/0, 1/0, -0.0, 2^53, -2^31, 2^31, 0.1, '', 'a\\0b', ('x'):rep(255), ('y'):rep(256), true, "
    "false}\n"
    "local keys = {0, -1, 0.5, 2^31, 1e300, true, false, '', 'a\\0b', ('k'):rep(40), 7, 100, 4, 2}\n"
    "local function make(d)\n"
    "  local k = rnd(d > 3 and 5 or 8)\n"
    "  if k == 0 then return odd[rnd(#odd) + 1] elseif k == 1 then return rnd(1000) / 7\n"
    "  elseif k == 2 then return ('s'):rep(rnd(70)) elseif k == 3 then return rnd(32768)\n"
    "  elseif k == 4 then return #tables > 0 and rnd(3) == 0 and tables[rnd(#tables) + 1] or 'word' .. "
    "rnd(9) end\n"
    "  local t = {}\n"
    "  local n = rnd(8)\n"
    "  for i = 1, n do t[i] = make(d + 1) end\n"
    "  for i = 1, rnd(4) do t['k' .. rnd(100)] = make(d + 1) end\n"
    "  for i = 1, rnd(3) do t[keys[rnd(#keys) + 1]] = make(d + 1) end\n"
    "  for i = 1, rnd(4) do t[rnd(14)] = nil end\n"
    "  if rnd(150) == 0 then t[t] = 1 end\n"
    "  if rnd(150) == 0 then t.f = print end\n"
    "  if rnd(150) == 0 then t.cycle = {t} end\n"
    "  if rnd(20) == 0 then for i = 1, 90 + rnd(11) do t = {t} end end\n"
    "  tables[#tables + 1] = t\n"
    "  return t\n"
    "end\n"
    "local values = {}\n"
    "local n = rnd(6)\n"
    "for i = 1, n do values[i] = make(0) end\n"
    "return unpack(values, 1, n)\n";

/* (a1, a2, …, b1, b2, …): whether the second half is a copy of the first, and shares what that shares. */
static const char is_copy[] =
    "local function same(a, b, seen)\n"
    "  if type(a) ~= 'table' then return rawequal(a, b) and (a ~= 0 or 1 / a == 1 / b) or a ~= a and b ~= b "
    "end\n"
    "  if seen[a] or type(b) ~= 'table' then return seen[a] == b end\n"
    "  seen[a] = b\n"
    "  for k, v in pairs(a) do if not same(v, rawget(b, k), seen) then return false end end\n"
    "  for k in pairs(b) do if rawget(a, k) == nil then return false end end\n"
    "  return true\n"
    "end\n"
    "local values, n, seen = {...}, select('#', ...) / 2, {}\n"
    "for i = 1, n do if not same(values[i], values[n + i], seen) then return false end end\n"
    "return true\n";

static nl_packet *packed;

static int pack_long_way(lua_State *L)
{
    packed = nl_pack_any(L, 1, lua_gettop(L), 1, &spare);
    return 0;
}

static int pack_short_way(lua_State *L)
{
    packed = nl_pack_plain(L, 1, lua_gettop(L), 1, &spare, NULL);
    return 0;
}

/* Packs the values on A's stack; NULL if they are refused, why is on top then. */
static nl_packet *pack_by(lua_CFunction way)
{
    lua_State *L = A->vm.L;
    int n = lua_gettop(L);
    packed = spare = NULL;
    luaL_checkstack(L, n + 1, NULL);
    lua_pushcfunction(L, way);
    for (int i = 1; i <= n; i++) {
        lua_pushvalue(L, i);
    }
    return lua_pcall(L, n, 0, 0) == 0 ? packed : NULL;
}

/* Unpacks m twice in B, by its own way and by the long one, and compares both with the values on A's stack. */
static void check_copy(nl_packet *m, int n, const char *source, int seed)
{
    for (int way = 0; way < 2; way++) {
        lua_State *L = B->vm.L;
        lua_settop(L, 0);
        cr_assert_eq(luaL_loadstring(L, is_copy), 0);
        cr_assert_eq(luaL_loadstring(L, source), 0); /* the same values once more */
        lua_pushinteger(L, seed);
        lua_call(L, 1, n);
        if (way == 1 && m->body.kind <= NL_PACKED_TABLES) {
            m->body.kind = NL_PACKED_ANY;
        }
        cr_assert_eq(nl_packet_unpack(L, m), n);
        lua_call(L, 2 * n, 1);
        cr_assert(lua_toboolean(L, -1), "values of seed %d are not the same, way %d", seed, way);
    }
    nl_packet_free(m);
}

Test(pack, short_and_long_way_agree, .init = open_states, .fini = close_states)
{
    int refusals = 0, plain = 0;
    for (int seed = 1; seed <= RNG_ROUNDS(2000, 200); seed++) {
        lua_State *L = A->vm.L;
        lua_settop(L, 0);
        cr_assert_eq(luaL_loadstring(L, any_values), 0);
        lua_pushinteger(L, seed);
        lua_call(L, 1, LUA_MULTRET);
        int n = lua_gettop(L);
        nl_packet *any = pack_by(pack_long_way);
        lua_settop(L, any ? n : n + 1); /* with the refusal */
        const char *why = any ? NULL : lua_tostring(L, n + 1);
        char text[400] = "";
        snprintf(text, sizeof text, "%s", why ? why : "");
        lua_settop(L, n);
        nl_packet *short_one = pack_by(pack_short_way);
        cr_assert_eq(any != NULL, short_one != NULL, "seed %d: only one way refuses", seed);
        if (!any) {
            refusals++;
            cr_assert_str_eq(lua_tostring(L, -1), text);
            continue;
        }
        plain += short_one->body.kind != NL_PACKED_ANY;
        check_copy(any, n, any_values, seed);
        check_copy(short_one, n, any_values, seed);
    }
    cr_assert_gt(refusals, RNG_ROUNDS(100, 10));
    cr_assert_gt(plain, RNG_ROUNDS(1000, 100));
}

#endif

// The allocator of a Lua state: random traffic against a model, exact books, a whole state in it.
#include <criterion/criterion.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <string.h>

#include "lua/vm/heap.h"
#include "rng.h"

#define BLOCKS 2000

static nl_heap_use use;

typedef struct block {
    unsigned char *p;
    size_t n;
    unsigned char fill;
} block;

static void check_fill(const block *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        cr_assert_eq(b->p[i], b->fill, "byte %zu of %zu", i, b->n);
    }
}

static size_t random_size(rng *r)
{
    switch (rng_below(r, 8)) {
    case 0:
        return 1 + rng_below(r, 4 * NL_HEAP_BIG);
    case 1:
        return 1 + rng_below(r, 4096);
    default:
        return 1 + rng_below(r, 300);
    }
}

Test(heap, random_traffic)
{
    static block blocks[BLOCKS];
    memset(blocks, 0, sizeof blocks);
    int owner;
    nl_heap *s = nl_heap_new(&owner, &use);
    cr_assert_eq(nl_heap_owner(s), &owner);
    rng r0 = rng_seed(42);
    size_t sum = 0;
    for (int i = 0; i < RNG_ROUNDS(200000, 20000); i++) {
        block *b = &blocks[rng_below(&r0, BLOCKS)];
        size_t n = rng_below(&r0, 5) == 0 ? 0 : random_size(&r0);
        if (b->p) {
            check_fill(b, b->n < 16 ? b->n : 16);
        }
        unsigned char *p = nl_heap_alloc(s, b->p, b->p ? b->n : 0, n);
        sum += n - (b->p ? b->n : 0);
        cr_assert_eq(use.used, sum);
        if (n == 0) {
            cr_assert_null(p);
        } else {
            cr_assert_not_null(p);
            cr_assert_eq((uintptr_t)p % 8, 0);
            block old = {p, b->n, b->fill};
            if (b->p) {
                check_fill(&old, old.n < n ? old.n : n); // realloc keeps what fits
            }
            b->fill = (unsigned char)i;
            memset(p, b->fill, n);
        }
        b->p = p;
        b->n = n;
    }
    cr_assert_geq(use.held, sum);
    for (int i = 0; i < BLOCKS; i += 2) {
        if (blocks[i].p) {
            check_fill(&blocks[i], blocks[i].n);
            nl_heap_alloc(s, blocks[i].p, blocks[i].n, 0);
            sum -= blocks[i].n;
        }
    }
    cr_assert_eq(use.used, sum);
    nl_heap_free(s); // the other half goes with it: a leak otherwise
}

Test(heap, blocks_are_used_again)
{
    nl_heap *s = nl_heap_new(NULL, &use);
    size_t held = use.held;
    for (int i = 0; i < 100000; i++) {
        void *p = nl_heap_alloc(s, NULL, 0, 1000);
        void *q = nl_heap_alloc(s, NULL, 0, 40);
        nl_heap_alloc(s, p, 1000, 0);
        nl_heap_alloc(s, q, 40, 0);
    }
    cr_assert_leq(use.held, held + 4096);
    cr_assert_eq(use.used, 0);
    nl_heap_free(s);
}

#define MIB ((size_t)1 << 20)

// What blocks of one size have taken is there for those of another, and goes back when none is used.
Test(heap, memory_goes_back)
{
    static const size_t sizes[] = {12, 20, 36, 60, 100, 180, 300, 500, 900, 1700, 3000, 9000, 16384};
    static void *blocks[8 * MIB / 12 + 1];
    nl_heap *s = nl_heap_new(NULL, &use);
    rng r = rng_seed(7);
    for (unsigned k = 0; k < nl_countof(sizes); k++) {
        size_t n = sizes[k], count = RNG_ROUNDS(8 * MIB, MIB) / n;
        for (size_t i = 0; i < count; i++) {
            cr_assert_not_null(blocks[i] = nl_heap_alloc(s, NULL, 0, n));
            memset(blocks[i], (int)k, n);
        }
        cr_assert_leq(use.held, 14 * MIB, "%zu bytes held for blocks of %zu", (size_t)use.held, n);
        for (size_t i = count; i > 0; i--) { // in any order
            size_t j = rng_below(&r, i);
            nl_heap_alloc(s, blocks[j], n, 0);
            blocks[j] = blocks[i - 1];
        }
        cr_assert_eq(use.used, 0);
        cr_assert_leq(use.held, MIB + k * 131072, "%zu bytes held for nothing", (size_t)use.held);
    }
    nl_heap_free(s);
}

Test(heap, denial)
{
    nl_heap *s = nl_heap_new(NULL, &use);
    char *p = nl_heap_alloc(s, NULL, 0, 100);
    nl_heap_deny(s, true);
    cr_assert_null(nl_heap_alloc(s, NULL, 0, 10));
    cr_assert_null(nl_heap_alloc(s, p, 100, 1000));
    p = nl_heap_alloc(s, p, 100, 50); // smaller is always possible
    cr_assert_not_null(p);
    nl_heap_deny(s, false);
    cr_assert_not_null(nl_heap_alloc(s, NULL, 0, 10));
    cr_assert_eq(use.used, 60);
    nl_heap_free(s);
}

Test(heap, impossible_size)
{
    nl_heap *s = nl_heap_new(NULL, &use);
    cr_assert_null(nl_heap_alloc(s, NULL, 0, (size_t)-1));
    cr_assert_null(nl_heap_alloc(s, NULL, 0, (size_t)1 << 60));
    cr_assert_eq(use.used, 0);
    nl_heap_free(s);
}

Test(heap, a_whole_state)
{
    nl_heap *s = nl_heap_new(NULL, &use);
    lua_State *L = lua_newstate(nl_heap_alloc, s);
    cr_assert_not_null(L);
    luaL_openlibs(L);
    cr_assert_eq(luaL_dostring(L,
                               "local t = {} for i = 1, 20000 do t[i] = {i, ('x'):rep(i % 500)} end t = nil\n"
                               "collectgarbage() return collectgarbage('count')"),
                 0, "%s", lua_tostring(L, -1));
    double count = lua_tonumber(L, -1) * 1024;
    double used = (double)atomic_load(&use.used);
    cr_assert(used > count * 0.9 && used < count * 1.2 + 4096, "books: %f, LuaJIT's: %f", used, count);
    nl_heap_closing(s);
    lua_close(L);
    nl_heap_free(s);
}

/*
 * lib_math.c - what of the library `math` is the runtime's own: the seed of its random numbers
 *
 * LuaJIT seeds the generator of every state with the same number.  Here each context has a seed of
 * its own.  A script that seeds with a number gets the numbers that belong to it.  The time of day
 * is an exception: it is the same for all contexts that are made at that moment, so the context's
 * own seed takes its place.
 */
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "base/os.h"
#include "lua/api/modules.h"

#define NOW_SECONDS 2 /* a seed that is no further from the time of day is taken for it */

static _Atomic(lua_CFunction) stock_randomseed; /* the same in every state */

static uint64_t mix(uint64_t n)
{
    n = (n ^ n >> 30) * 0xbf58476d1ce4e5b9u; /* splitmix64 */
    n = (n ^ n >> 27) * 0x94d049bb133111ebu;
    return n ^ n >> 31;
}

/* For the next context.  NLJIT_SEED in the environment makes them the same in every run. */
static uint64_t new_seed(void)
{
    static atomic_uint_fast64_t base, count;
    uint64_t b = atomic_load(&base);
    if (nl_unlikely(!b)) {
        const char *fixed = getenv("NLJIT_SEED");
        uint64_t none = 0;
        b = (fixed && *fixed ? mix(strtoull(fixed, NULL, 0)) : nl_os_random()) | 1;
        b = atomic_compare_exchange_strong(&base, &none, b) ? b : none;
    }
    return mix(b + 0x9e3779b97f4a7c15u * atomic_fetch_add(&count, 1));
}

/* As a number, with as many bits as one keeps. */
static void push_seed(lua_State *L, uint64_t seed)
{
    lua_pushnumber(L, (lua_Number)(seed >> 11));
}

/* ([seed]); the generator is the upvalue, as in the stock function. */
static int randomseed(lua_State *L)
{
    if (lua_isnumber(L, 1) && fabs(lua_tonumber(L, 1) - (lua_Number)time(NULL)) <= NOW_SECONDS) {
        push_seed(L, nl_lctx_of(L)->seed);
        lua_replace(L, 1);
    }
    return atomic_load_explicit(&stock_randomseed, memory_order_relaxed)(L);
}

void nl_math_extend(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    lua_getfield(L, -1, "randomseed");
    lua_CFunction f = lua_tocfunction(L, -1);
    if (f && lua_getupvalue(L, -1, 1)) {
        atomic_store_explicit(&stock_randomseed, f, memory_order_relaxed);
        lua_pushcclosure(L, randomseed, 1);
        lua_setfield(L, -3, "randomseed");
        lc->seed = new_seed();
        push_seed(L, mix(lc->seed));
        nl_lua_call(L, 1, 0);
    } else {
        lua_pop(L, 1);
    }
}

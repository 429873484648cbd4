/*
 * refs.c - values of a state that C holds on to.
 *
 * The first few, which is all that most contexts have, stand in the registry, from where they are
 * pushed on any stack by one call; the others in a table at index 1 of a stack of its own, on which
 * nothing ever runs, since luaL_ref goes on behind the first few in the registry.  Runs of 1, 2, 4
 * … references side by side are handed out, so that a callback and the arguments of its call need
 * no table of their own.  A freed place holds false, not nil: the tables' array parts stay arrays.
 */
#include "base/alloc.h"
#include "lua/run/lctx.h"

#define LOW NL_REFS_LOW
#define ANCHOR 1 /* the reference that keeps the stack of the others */

static unsigned size_index(int n)
{
    return n <= 1 ? 0 : 32u - (unsigned)__builtin_clz((unsigned)n - 1);
}

void nl_refs_new(nl_refs **place, lua_State *L)
{
    nl_refs *r = nl_calloc(sizeof *r);
    *place = r;
    r->R = lua_newthread(L);
    lua_rawseti(L, LUA_REGISTRYINDEX, ANCHOR);
    lua_createtable(r->R, 0, 0);
    for (int i = ANCHOR + 1; i < LOW; i++) {
        lua_pushboolean(L, 0);
        lua_rawseti(L, LUA_REGISTRYINDEX, i);
    }
    r->top = ANCHOR + 1;
}

void nl_refs_free(nl_refs *r)
{
    if (r) {
        nl_free(r->next);
        nl_free(r);
    }
}

/* Pops n values into the places from ref on. */
static void store(nl_lctx *lc, lua_State *L, int ref, int n)
{
    if (nl_likely(ref < LOW)) {
        while (n > 0) {
            lua_rawseti(L, LUA_REGISTRYINDEX, ref + --n);
        }
        return;
    }
    lua_State *M = lc->refs->R;
    if (L != M) {
        lua_xmove(L, M, n);
    }
    while (n > 0) {
        lua_rawseti(M, 1, ref - LOW + 1 + --n);
    }
}

static int take(nl_refs *r, unsigned size_index)
{
    int ref = r->free[size_index], n = 1 << size_index;
    if (nl_likely(ref)) {
        r->free[size_index] = r->next[ref];
        return ref;
    }
    if (r->top < LOW && r->top + n > LOW) {
        r->top = LOW;
    }
    ref = r->top;
    r->top += n;
    return ref;
}

int nl_ref_n(nl_lctx *lc, lua_State *L, int n)
{
    if (nl_unlikely(lc->vm.closing)) {
        lua_pop(L, n);
        return NL_NOREF;
    }
    int ref = take(lc->refs, size_index(n));
    store(lc, L, ref, n);
    return ref;
}

void nl_unref_n(nl_lctx *lc, int ref, int n)
{
    if (nl_unlikely(ref < 0 || lc->vm.closing)) {
        return;
    }
    nl_refs *r = lc->refs;
    if (nl_unlikely(ref >= r->cap)) {
        r->cap = ref + 1 > 2 * r->cap ? ref + 8 : 2 * r->cap;
        r->next = nl_realloc(r->next, (size_t)r->cap * sizeof *r->next);
    }
    unsigned i = size_index(n);
    r->next[ref] = r->free[i];
    r->free[i] = ref;
    for (int k = 0; k < n; k++) {
        lua_pushboolean(r->R, 0);
    }
    store(lc, r->R, ref, n);
}

int nl_ref(nl_lctx *lc, lua_State *L)
{
    return nl_ref_n(lc, L, 1);
}

void nl_unref(nl_lctx *lc, int ref)
{
    nl_unref_n(lc, ref, 1);
}

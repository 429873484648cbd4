/*
 * refs.c - values of a state that C holds on to.
 *
 * They stand in one table, at index 1 of the main state's stack, where it is reached without a
 * lookup.  Runs of 1, 2, 4 … references side by side are handed out, so that a callback and the
 * arguments of its call need no table of their own.  A freed place holds false, not nil: the
 * table's array part stays an array.
 */
#include "base/alloc.h"
#include "lua/lctx.h"

#define NSIZES 16

struct nl_refs {
    int top, cap;
    int *next;        /* free list: by reference, the next free one of its size, 0 = none */
    int free[NSIZES]; /* by size 1 << i */
};

static unsigned size_index(int n)
{
    return n <= 1 ? 0 : 32u - (unsigned)__builtin_clz((unsigned)n - 1);
}

nl_refs *nl_refs_new(lua_State *L)
{
    nl_refs *r = nl_calloc(sizeof *r);
    lua_settop(L, 0);
    lua_createtable(L, 4, 0);
    r->top = 1;
    return r;
}

void nl_refs_free(nl_refs *r)
{
    if (r) {
        nl_free(r->next);
        nl_free(r);
    }
}

int nl_ref_n(nl_lctx *lc, lua_State *L, int n)
{
    if (nl_unlikely(lc->closing)) {
        lua_pop(L, n);
        return NL_NOREF;
    }
    nl_refs *r = lc->refs;
    unsigned i = size_index(n);
    int ref = r->free[i];
    if (ref) {
        r->free[i] = r->next[ref];
    } else {
        ref = r->top;
        r->top += 1 << i;
    }
    lua_State *M = lc->L;
    if (L != M) {
        lua_xmove(L, M, n);
    }
    while (n > 0) {
        lua_rawseti(M, 1, ref + --n);
    }
    return ref;
}

void nl_unref_n(nl_lctx *lc, int ref, int n)
{
    if (nl_unlikely(ref < 0 || lc->closing)) {
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
    lua_State *M = lc->L;
    while (n > 0) {
        lua_pushboolean(M, 0);
        lua_rawseti(M, 1, ref + --n);
    }
}

int nl_ref(nl_lctx *lc, lua_State *L)
{
    return nl_ref_n(lc, L, 1);
}

void nl_unref(nl_lctx *lc, int ref)
{
    nl_unref_n(lc, ref, 1);
}

void nl_ref_push(nl_lctx *lc, lua_State *L, int ref)
{
    if (nl_unlikely(ref < 0 || lc->closing)) {
        lua_pushnil(L);
        return;
    }
    lua_State *M = lc->L;
    lua_rawgeti(M, 1, ref);
    if (L != M) {
        lua_xmove(M, L, 1);
    }
}

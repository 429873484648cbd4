/* test_libs.c - loading a chunk and the libraries that it needs, where memory runs out. */
#include <criterion/criterion.h>

#include "base/alloc.h"
#include "lua/load/libs.h"
#include "lua/run/lctx.h"

static int allowed; /* allocations until memory runs out */

static void *scarce_alloc(void *heap, void *p, size_t old, size_t size)
{
    return size > old && allowed-- <= 0 ? NULL : nl_heap_alloc(heap, p, old, size);
}

static int open_base(lua_State *L)
{
    static const nl_module none = {0};
    nl_libs_register(&none);
    nl_libs_open_base(L);
    /* How the owner of a state is found that has another allocator. */
    lua_pushlightuserdata(L, nl_state_of(L));
    lua_rawseti(L, LUA_REGISTRYINDEX, NL_STATE_SELF);
    return 0;
}

/* Loads in a fresh state in which so many allocations succeed. */
static int load(nl_chunk *c, int allocations)
{
    nl_lctx *lc = nl_calloc_aligned(sizeof *lc);
    cr_assert_eq(nl_state_open(&lc->vm, open_base), 0);
    lua_State *L = lc->vm.L;
    lua_setallocf(L, scarce_alloc, lc->vm.heap);
    allowed = allocations;
    int err = nl_libs_load_chunk(c, L);
    lua_setallocf(L, nl_heap_alloc, lc->vm.heap);
    cr_assert_eq(lua_gettop(L), 1, "a function or a message");
    cr_assert_eq(lua_type(L, 1), err ? LUA_TSTRING : LUA_TFUNCTION);
    nl_state_close(&lc->vm, false);
    nl_free_aligned(lc);
    return err;
}

Test(libs, loading_raises_nothing_wherever_memory_runs_out)
{
    static const char text[] = "return table.concat { string.rep('x', 3) }";
    nl_chunk *c;
    nl_alloc_init();
    lua_State *L = luaL_newstate();
    cr_assert_eq(nl_chunk_from_text(&c, L, text, sizeof text - 1, "=text"), 0);
    lua_close(L);
    int n = 0;
    while (load(c, n) == LUA_ERRMEM) {
        n++;
    }
    cr_assert_gt(n, 5, "the libraries take more than %d allocations", n);
    cr_assert_eq(load(c, n + 1000), 0);
    nl_chunk_release(c);
}

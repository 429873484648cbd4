/* pack.c - values between states: packed into a message, and unpacked in another state. */
#include "lua/msg/pack.h"
#include "base/alloc.h"
#include "lua/run/lctx.h"
#include "micro.h"

static int open_libraries(lua_State *L)
{
    luaL_openlibs(L);
    lua_gc(L, LUA_GCRESTART, -1);
    return 0;
}

/* A state of its own, in as much of a context as the serialiser asks for. */
static nl_lctx *context_new(void)
{
    nl_lctx *lc = nl_calloc_aligned(sizeof(*lc));
    nl_assert(nl_state_open(&lc->vm, open_libraries) == 0, "a state can be made");
    return lc;
}

static void context_free(nl_lctx *lc)
{
    nl_state_close(&lc->vm, true);
    nl_free_aligned(lc);
}

static nl_lctx *from, *to;
static nl_packet *message, *spare; /* there is no spare one */

/* The values that Lua text returns, on the stack of one state and in a message for the other. */
static void with(const char *text)
{
    from = context_new();
    to = context_new();
    bool ok = luaL_loadstring(from->vm.L, text) == 0 && lua_pcall(from->vm.L, 0, LUA_MULTRET, 0) == 0;
    nl_assert(ok, "the value can be made");
    message = nl_packet_pack(from->vm.L, 1, lua_gettop(from->vm.L), 1, &spare);
}

static void teardown(void)
{
    nl_packet_free(message);
    context_free(from);
    context_free(to);
}

static void number(void)
{
    with("return 42");
}

static void string(void)
{
    with("return 'a short string'");
}

static void long_string(void)
{
    with("return string.rep('x', 4096)");
}

static void table(void)
{
    with("return {id = 1, name = 'abc', pos = {1, 2, 3}}");
}

static void list(void)
{
    with("local t = {} for i = 1, 100 do t[i] = i end return t");
}

static void pack(uint64_t n)
{
    int top = lua_gettop(from->vm.L);
    for (uint64_t i = 0; i < n; i++) {
        nl_packet_free(nl_packet_pack(from->vm.L, 1, top, 1, &spare));
    }
}

static void unpack(uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        nl_packet_unpack(to->vm.L, message);
        lua_settop(to->vm.L, 0);
    }
}

const micro micro_pack[] = {
    {"pack.number", "a number packed into a message, and the message freed", pack, number, teardown, 1},
    {"unpack.number", "a number unpacked", unpack, number, teardown, 1},
    {"pack.string", "a short string packed and freed", pack, string, teardown, 1},
    {"unpack.string", "a short string unpacked", unpack, string, teardown, 1},
    {"pack.string.4k", "a string of 4 KiB packed and freed", pack, long_string, teardown, 1},
    {"unpack.string.4k", "a string of 4 KiB unpacked, that exists already in the receiving state", unpack,
     long_string, teardown, 1},
    {"pack.table", "{id=1, name='abc', pos={1,2,3}} packed and freed", pack, table, teardown, 1},
    {"unpack.table", "the same unpacked", unpack, table, teardown, 1},
    {"pack.list", "a list of 100 numbers packed and freed", pack, list, teardown, 1},
    {"unpack.list", "the same unpacked", unpack, list, teardown, 1},
    {NULL, NULL, NULL, NULL, NULL, 0},
};

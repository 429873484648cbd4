/*
 * lib_io.c - the library `io`: puts the functions that may sleep in the place of LuaJIT's; see
 * io_file.h
 */
#include "lua/api/io_file.h"

#include "base/spin.h"
#include "lua/api/modules.h"

nl_io_stock nl_io;

#if !NL_LUAJIT_INSIDE
bool nl_io_is52(lua_State *L)
{
    static atomic_int known; /* 1: no, 2: yes; relaxed, whoever asks gets the same answer */
    int is = atomic_load_explicit(&known, memory_order_relaxed);
    if (is == 0) {
        is = luaL_loadstring(L, "goto = 1") == 0 ? 1 : 2; /* a name in 5.1 */
        lua_pop(L, 1);
        atomic_store_explicit(&known, is, memory_order_relaxed);
    }
    return is == 2;
}
#endif

/* Pushes the default file by the stock function; nil if that has been taken away. */
static nl_noinline void push_default_slow(lua_State *L, bool output)
{
    lua_pushcfunction(L, output ? nl_io.output : nl_io.input);
    lua_call(L, 0, 1);
}

nl_file *nl_file_push_default(lua_State *L, bool output)
{
    if (!nl_lua_pushiofile(L, output)) {
        push_default_slow(L, output);
    }
    return nl_file_test(L, nl_lctx_of(L), lua_gettop(L));
}

/* --- results ---------------------------------------------------------------------------------- */

typedef struct results {
    int (*push)(lua_State *L, void *arg);
    void *arg;
    lua_State *to;
    int n;
} results;

/* (results): not on the stack of the suspended coroutine, on which nothing may raise. */
static int push_protected(lua_State *M)
{
    results *r = lua_touserdata(M, 1);
    lua_settop(M, 0);
    r->n = r->push(M, r->arg);
    if (!lua_checkstack(r->to, r->n + 1)) {
        return luaL_error(M, "too many results");
    }
    lua_xmove(M, r->to, r->n);
    return 0;
}

int nl_io_push(nl_lctx *lc, lua_State *to, int (*push)(lua_State *L, void *arg), void *arg)
{
    results r = {push, arg, to, 0};
    nl_lua_hooks was = nl_lua_hooks_off(lc->vm.L);
    int err = lua_cpcall(lc->vm.L, push_protected, &r);
    nl_lua_hooks_back(lc->vm.L, was);
    if (err) {
        lua_pop(lc->vm.L, 1);
        nl_lctx_main_failed(lc, nl_reason_of("error: not enough memory"));
        return -1;
    }
    return r.n;
}

/* --- opening ---------------------------------------------------------------------------------- */

typedef struct replacement {
    const char *name;
    lua_CFunction ours;
    size_t stock; /* where the stock one stands in a nl_io_stock */
} replacement;

#define STOCK(field) offsetof(nl_io_stock, field)
static const replacement of_io[] = {
    {"open", nl_io_open, STOCK(open)},       {"popen", nl_io_popen, STOCK(popen)},
    {"close", nl_io_close, STOCK(close)},    {"input", nl_io_input, STOCK(input)},
    {"output", nl_io_output, STOCK(output)}, {"lines", nl_io_lines, STOCK(lines)},
    {"read", nl_io_read, STOCK(read)},       {"write", nl_io_write, STOCK(write)},
    {"flush", nl_io_flush, STOCK(flush)},    {NULL, NULL, 0}};
static const replacement of_file[] = {{"lines", nl_io_file_lines, STOCK(file_lines)},
                                      {"read", nl_io_file_read, STOCK(file_read)},
                                      {"write", nl_io_file_write, STOCK(file_write)},
                                      {"flush", nl_io_file_flush, STOCK(file_flush)},
                                      {"close", nl_io_file_close, STOCK(file_close)},
                                      {"__gc", nl_io_file_gc, STOCK(file_gc)},
                                      {NULL, NULL, 0}};

/* Writes down the stock functions of the table on top. */
static void note_stock(lua_State *L, const replacement *r, nl_io_stock *stock)
{
    for (; r->name; r++) {
        lua_getfield(L, -1, r->name);
        *(lua_CFunction *)(void *)((char *)stock + r->stock) = lua_tocfunction(L, -1);
        lua_pop(L, 1);
    }
}

/*
 * In the table on top.  Each of ours keeps the environment that LuaJIT's library expects of its
 * functions.
 */
static void replace(lua_State *L, const replacement *r)
{
    for (; r->name; r++) {
        lua_getfield(L, -1, r->name);
        lua_pushcfunction(L, r->ours);
        lua_getfenv(L, -2);
        lua_setfenv(L, -2);
        lua_setfield(L, -3, r->name);
        lua_pop(L, 1);
    }
}

/*
 * They are the same in every state: the first one notes them, and the lock shows them to all that
 * come after.
 */
static void publish(const nl_io_stock *stock)
{
    static nl_spin lock = NL_SPIN_INIT;
    nl_spin_lock(&lock);
    if (!nl_io.open) {
        nl_io = *stock;
    }
    nl_spin_unlock(&lock);
}

void nl_io_extend(lua_State *L)
{
    nl_io_stock stock;
    luaL_checkstack(L, 8, NULL);
    note_stock(L, of_io, &stock);
    lua_getfield(L, LUA_REGISTRYINDEX, LUA_FILEHANDLE);
    nl_lctx_of(L)->objects.file = lua_topointer(L, -1);
    note_stock(L, of_file, &stock);
    publish(&stock);
    replace(L, of_file);
    lua_pop(L, 1);
    replace(L, of_io);
}

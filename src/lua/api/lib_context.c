/* lib_context.c - the module `context`: everything but messages; see inbox.h */
#include "lua/msg/inbox.h"

#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/log.h"
#include "base/os.h"
#include "lua/api/io_file.h"
#include "lua/api/modules.h"
#include "lua/run/leave.h"
#include "sched/names.h"

/* --- create, destroy, run --------------------------------------------------------------------- */

/* Pushes the file's name with the arguments 2..top behind it, as far as they are short. */
static const char *push_name(lua_State *L, int top)
{
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    lua_pushvalue(L, 1);
    luaL_addvalue(&b);
    for (int i = 2; i <= top; i++) {
        luaL_addchar(&b, ' ');
        if (lua_type(L, i) == LUA_TNUMBER || (lua_type(L, i) == LUA_TSTRING && lua_objlen(L, i) <= 80)) {
            lua_pushvalue(L, i);
            luaL_addvalue(&b);
        } else if (lua_type(L, i) == LUA_TBOOLEAN) {
            luaL_addstring(&b, lua_toboolean(L, i) ? "true" : "false");
        } else {
            luaL_addstring(&b, luaL_typename(L, i));
        }
    }
    luaL_pushresult(&b);
    return lua_tostring(L, -1);
}

static nl_context_creator *create_context;

void nl_context_set_creator(nl_context_creator *create)
{
    create_context = create;
}

static int context_create(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    const char *file = luaL_checkstring(L, 1);
    int top = lua_gettop(L);
    const char *name = push_name(L, top);
    nl_packet *none = NULL, *args = top > 1 ? nl_packet_pack(L, 2, top, 2, &none) : NULL;
    uint64_t handle;
    int err = create_context(&handle, L, lc, file, name, args);
    if (err) {
        return nl_push_err(L, -err);
    }
    lua_pushnumber(L, (lua_Number)handle);
    return 1;
}

static int context_destroy(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    uint64_t handle = lc->ctx.slot.id;
    int err = lua_isnoneornil(L, 1) ? 0 : nl_check_handle(L, 1, &handle);
    size_t len = 0;
    const char *message = luaL_optlstring(L, 2, NULL, &len);
    nl_reason *reason = message ? nl_reason_new(message, len) : NULL;
    if (handle == lc->ctx.slot.id) {
        nl_ctx_end(&lc->ctx, reason);
        if (lc->cur) {
            return nl_leave(L);
        }
    } else if (err) {
        nl_free(reason);
        return nl_push_err(L, err);
    } else if ((err = -nl_ctx_kill(handle, reason))) {
        return nl_push_err(L, err);
    }
    lua_pushboolean(L, 1);
    return 1;
}

static void run_run(nl_ctx *c, nl_msg *m)
{
    (void)c;
    nl_wait *w = nl_container_of(m, nl_wait, later);
    w->posted = false;
    nl_co_run(w->co, lua_gettop(w->co->L) - 1);
}

static void run_drop(nl_msg *m)
{
    (void)m;
}

static const nl_msg_ops run_ops = {run_run, run_drop};

static int context_run(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    luaL_checktype(L, 1, LUA_TFUNCTION);
    int n = lua_gettop(L);
    if (!lc->vm.closing) {
        nl_co *co = nl_co_get(lc);
        lua_xmove(L, co->L, n);
        co->wait.posted = true;
        co->wait.later.ops = &run_ops;
        nl_ctx_defer(&lc->ctx, &co->wait.later);
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* --- names ------------------------------------------------------------------------------------ */

static int context_register(lua_State *L)
{
    size_t len;
    const char *name = luaL_checklstring(L, 1, &len);
    int err = nl_name_register(name, len, nl_lctx_of(L)->ctx.slot.id);
    if (err) {
        return nl_push_err(L, -err);
    }
    lua_pushboolean(L, 1);
    return 1;
}

static int context_lookup(lua_State *L)
{
    size_t len;
    const char *name = luaL_checklstring(L, 1, &len);
    uint64_t handle = nl_name_lookup(name, len);
    if (!handle) {
        return nl_push_err(L, NL_ENOCONTEXT);
    }
    lua_pushnumber(L, (lua_Number)handle);
    return 1;
}

/* --- log, errors, thread ---------------------------------------------------------------------- */

static int context_log(lua_State *L)
{
    int top = lua_gettop(L);
    luaL_Buffer b;
    lua_getglobal(L, "tostring");
    luaL_buffinit(L, &b);
    for (int i = 1; i <= top; i++) {
        if (i > 1) {
            luaL_addchar(&b, '\t');
        }
        lua_pushvalue(L, top + 1);
        lua_pushvalue(L, i);
        lua_call(L, 1, 1);
        if (!lua_isstring(L, -1)) {
            return luaL_error(L, LUA_QL("tostring") " must return a string to " LUA_QL("log"));
        }
        luaL_addvalue(&b);
    }
    luaL_pushresult(&b);
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    bool sleeps = nl_cfile_std_kind(stderr) != NL_CFILE_PLAIN && !nl_cfile_can_write(stderr);
    if (sleeps) {
        nl_blocking_begin();
    }
    nl_log_text(nl_lctx_of(L)->name, text, len);
    if (sleeps) {
        nl_blocking_end();
    }
    return 0;
}

static int context_strerror(lua_State *L)
{
    lua_pushstring(L, nl_strerror((int)luaL_checkinteger(L, 1)));
    return 1;
}

static int context_errname(lua_State *L)
{
    const char *name = nl_errname((int)luaL_checkinteger(L, 1));
    if (name) {
        lua_pushstring(L, name);
    } else {
        lua_pushnil(L);
    }
    return 1;
}

static int context_thread(lua_State *L)
{
    lua_pushinteger(L, nl_worker_index());
    return 1;
}

static void push_errno(lua_State *L)
{
    int err;
    const char *name;
    lua_newtable(L);
    for (int i = 0; (name = nl_err_at(i, &err)); i++) {
        lua_pushinteger(L, err);
        lua_setfield(L, -2, name);
    }
}

/* context.errno, made when first asked for: it is larger than the rest of the module. */
static int lazy_field(lua_State *L)
{
    if (lua_type(L, 2) != LUA_TSTRING || strcmp(lua_tostring(L, 2), "errno") != 0) {
        return 0;
    }
    push_errno(L);
    lua_pushvalue(L, -1);
    lua_setfield(L, 1, "errno");
    return 1;
}

/* --- stats ------------------------------------------------------------------------------------ */

static void set_number(lua_State *L, const char *name, double n)
{
    lua_pushnumber(L, n);
    lua_setfield(L, -2, name);
}

enum { MAILBOX, HANDLED, LUA_BYTES, HELD, C_BYTES, CPU, COROUTINES, SOCKETS, TIMERS, FIGURES };
static const char *const figure_names[FIGURES] = {"mailbox", "handled",    "lua_bytes", "held",  "c_bytes",
                                                  "cpu",     "coroutines", "sockets",   "timers"};

/*
 * Another context may be running on another worker meanwhile: its counters are read as they
 * are at some moment, which is all that figures can be.  All of them before anything is pushed,
 * which may run finalizers: a looked-up context is not good after that (qsbr.h).
 */
NL_NO_TSAN static void read_figures(double *f, nl_lctx *lc)
{
    const volatile nl_lctx *v = lc;
    const volatile nl_inbox *inbox = lc->inbox;
    uint32_t nfree = v->nfree_co, nco = v->nco;
    f[MAILBOX] = (double)nl_ctx_mailbox_len(&lc->ctx) + inbox->pending.count;
    f[HANDLED] = (double)v->ctx.handled;
    f[LUA_BYTES] = (double)atomic_load_explicit(&lc->vm.use.used, memory_order_relaxed);
    f[HELD] = (double)atomic_load_explicit(&lc->vm.use.held, memory_order_relaxed);
    f[C_BYTES] = (double)v->c_bytes;
    f[CPU] = (double)nl_ctx_cpu_ns(&lc->ctx) / 1e9;
    f[COROUTINES] = nco > nfree ? nco - nfree : 0;
    f[SOCKETS] = v->objects.nsockets;
    f[TIMERS] = v->ntimers;
}

static int context_stats(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    nl_ctx *c = &lc->ctx;
    if (!lua_isnoneornil(L, 1)) {
        uint64_t handle;
        int err = nl_check_handle(L, 1, &handle);
        if (!err && handle != lc->ctx.slot.id && !(c = nl_ctx_find(handle))) {
            err = NL_ENOCONTEXT;
        }
        if (err) {
            return nl_push_err(L, err);
        }
    }
    double figures[FIGURES];
    read_figures(figures, (nl_lctx *)c);
    if (!lc->vm.heap) { /* LuaJIT's own allocator */
        figures[LUA_BYTES] = figures[HELD] = lua_gc(L, LUA_GCCOUNT, 0) * 1024.0;
    }
    lua_createtable(L, 0, FIGURES);
    for (int i = 0; i < FIGURES; i++) {
        set_number(L, figure_names[i], figures[i]);
    }
    return 1;
}

/* --- the module ------------------------------------------------------------------------------- */

static const luaL_Reg functions[] = {
    {"create", context_create},
    {"destroy", context_destroy},
    {"send", nl_context_send},
    {"query", nl_context_query},
    {"timed_query", nl_context_timed_query},
    {"reply", nl_context_reply},
    {"recv", nl_context_recv},
    {"wait", nl_context_wait},
    {"register", context_register},
    {"lookup", context_lookup},
    {"run", context_run},
    {"log", context_log},
    {"strerror", context_strerror},
    {"errname", context_errname},
    {"thread", context_thread},
    {"stats", context_stats},
    {NULL, NULL},
};

void nl_context_set_self(lua_State *L)
{
    lua_getglobal(L, "context");
    if (lua_istable(L, -1) && nl_lctx_of(L)->libs.open & NL_LIB_CONTEXT) {
        set_number(L, "self", (double)nl_lctx_of(L)->ctx.slot.id);
    }
    lua_pop(L, 1);
}

static void push_self(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)nl_lctx_of(L)->ctx.slot.id);
}

static void push_parent(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)nl_lctx_of(L)->parent);
}

static void push_own_name(lua_State *L)
{
    lua_pushstring(L, nl_lctx_of(L)->name);
}

static void push_ncpu(lua_State *L)
{
    lua_pushinteger(L, nl_ncpu());
}

static void push_winos(lua_State *L)
{
    lua_pushboolean(L, NL_OS_WINDOWS);
}

static const struct field {
    const char *name;
    void (*push)(lua_State *L);
} fields[] = {
    {"self", push_self}, {"parent", push_parent}, {"name", push_own_name},
    {"ncpu", push_ncpu}, {"winos", push_winos},   {"errno", push_errno}, /* last: lazy_field */
};
#define EARLY_FIELDS (nl_countof(fields) - 1)

void nl_context_push_field(lua_State *L, const char *name)
{
    for (size_t i = 0; i < nl_countof(fields); i++) {
        if (strcmp(fields[i].name, name) == 0) {
            fields[i].push(L);
            return;
        }
    }
    nl_push_function(L, functions, name);
}

int luaopen_nl_context(lua_State *L)
{
    lua_createtable(L, 0, (int)(nl_countof(functions) + EARLY_FIELDS));
    luaL_register(L, NULL, functions);
    for (size_t i = 0; i < EARLY_FIELDS; i++) {
        fields[i].push(L);
        lua_setfield(L, -2, fields[i].name);
    }
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, lazy_field);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    return 1;
}

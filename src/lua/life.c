/* life.c - life of a context that runs Lua: creation, main chunk, end; see life.h */
#include "lua/life.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/log.h"
#include "base/os.h"
#include "lua/api/io_file.h"
#include "lua/api/lsock.h"
#include "lua/api/modules.h"
#include "lua/load/jit_lib.h"
#include "lua/load/libs.h"
#include "lua/load/paths.h"
#include "lua/msg/bufobj.h"
#include "lua/msg/inbox.h"
#include "lua/run/leave.h"
#include "lua/vm/chunk.h"
#include "lua/vm/jit.h"
#include "net/tcp.h"

#define MAIN "nl.main" /* in the registry of the first state: its main function, until it starts */

/* What a context needs until it starts. */
struct nl_start {
    nl_chunk *chunk;
    nl_packet *args;
};

static void start_free(nl_lctx *lc)
{
    struct nl_start *s = lc->start;
    if (s) {
        nl_chunk_release(s->chunk);
        if (s->args) {
            nl_packet_free(s->args);
        }
        nl_free(s);
        lc->start = NULL;
    }
}

/* --- start ------------------------------------------------------------------------------------ */

/* (lctx, co): pushes the main function and its arguments on co's stack. */
static int prepare(lua_State *M)
{
    nl_lctx *lc = lua_touserdata(M, 1);
    lua_State *L = lua_tothread(M, 2);
    struct nl_start *s = lc->start;
    if (lc->first) {
        nl_context_set_self(M);
        lua_getfield(M, LUA_REGISTRYINDEX, MAIN); /* from nl_lua_start */
        lua_xmove(M, L, 1);
        lua_pushnil(M);
        lua_setfield(M, LUA_REGISTRYINDEX, MAIN);
        nl_boot_push_arguments(L);
        return 0;
    }
    nl_boot_push_other(M, s->chunk);
    lua_xmove(M, L, 1);
    nl_boot_set_arg(M, lc->file, L, s->args ? nl_packet_unpack(L, s->args) : 0);
    return 0;
}

static int prepare_state(lua_State *L)
{
    nl_refs_new(&nl_lctx_of(L)->refs, L);
    nl_libs_open_base(L);
    nl_print_open(L);
    return 0;
}

/* Logs the message on top of L. */
static void log_top(const char *who, lua_State *L)
{
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    nl_log_text(who, text ? text : "?", text ? len : 1);
}

static int open_state(nl_lctx *lc)
{
    int err = nl_state_open(&lc->vm, prepare_state);
    /* The first one's failure is nl_lua_start's to tell. */
    if (!err && !lc->first && nl_jit_lib_apply_options(lc->vm.L) != 0) {
        log_top(lc->name, lc->vm.L);
        lua_settop(lc->vm.L, 0);
    }
    return err;
}

/* Libraries in which finalizers may hang that no userdata shows: of C data, of machine code. */
static void close_state(nl_lctx *lc)
{
    nl_state_close(&lc->vm, lc->libs.open & (NL_LIB_FFI | NL_LIB_JIT));
    nl_refs_free(lc->refs);
    lc->refs = NULL;
}

static void lctx_start(nl_ctx *c)
{
    nl_lctx *lc = (nl_lctx *)c;
    if (!lc->vm.L && open_state(lc) != 0) {
        nl_log(lc->name, "no memory for a Lua state");
        nl_lctx_main_failed(lc, nl_reason_of("error: not enough memory"));
        return;
    }
    lua_State *M = lc->vm.L;
    nl_co *co = nl_co_get(lc);
    co->main = true;
    lua_pushcfunction(M, prepare);
    lua_pushlightuserdata(M, lc);
    nl_ref_push(lc, M, co->ref);
    if (lua_pcall(M, 2, 0, 0) != 0) {
        log_top(lc->name, M);
        nl_lctx_main_failed(lc, nl_reason_of("error: cannot start"));
        return;
    }
    start_free(lc);
    lua_gc(M, LUA_GCRESTART, -1);
    nl_co_run(co, lua_gettop(co->L) - 1);
}

/* --- end -------------------------------------------------------------------------------------- */

static bool lctx_idle(nl_ctx *c)
{
    return ((nl_lctx *)c)->alive > 0;
}

static void lctx_fini(nl_ctx *c, const nl_reason *reason)
{
    nl_lctx *lc = (nl_lctx *)c;
    lc->dying = true;
    nl_ltcp_close_all(lc);
    close_state(lc);
    nl_file_forget_all(lc);
    nl_inbox_end(lc, reason);
}

static void lctx_release(nl_ctx *c)
{
    nl_lctx *lc = (nl_lctx *)c;
    start_free(lc);
    nl_ltimers_free(lc);
    nl_wait_free_all(lc);
    nl_co_free_all(lc);
    nl_inbox_release(lc);
}

static void lctx_free(nl_ctx *c)
{
    nl_lctx *lc = (nl_lctx *)c;
    nl_inbox_free(lc);
    nl_free(lc->name);
    for (int i = 0; i < NL_PATHS; i++) {
        nl_free(lc->paths[i]);
    }
    nl_pool_free(lc, sizeof *lc);
}

static const char *lctx_name(const nl_ctx *c)
{
    return ((const nl_lctx *)c)->name;
}

static const char *state_name(const nl_state *s)
{
    return nl_container_of((nl_state *)s, nl_lctx, vm)->name;
}

static void lctx_given_up(nl_ctx *c, const nl_reason *reason)
{
    nl_tcp_cut_all(c->slot.id);
    nl_inbox_given_up(c, reason);
}

/* nl_state.abandon: memory has run out while the runtime itself pushed something, say. */
static void abandon(nl_state *s, const char *text)
{
    nl_lctx *lc = nl_container_of(s, nl_lctx, vm);
    if (nl_ctx_current() != &lc->ctx || s->closing) {
        return;
    }
    nl_log(lc->name, "%s", text);
    char reason[256];
    snprintf(reason, sizeof reason, "error: %s", text);
    nl_lctx_main_failed(lc, nl_reason_of(reason));
    lc->cur = NULL;
    lc->link = NULL;
    nl_ctx_abandon(&lc->ctx);
}

static const nl_ctx_ops lctx_ops = {
    .start = lctx_start,
    .idle = lctx_idle,
    .fini = lctx_fini,
    .release = lctx_release,
    .free = lctx_free,
    .name = lctx_name,
    .timer = nl_lctx_on_timer,
    .slow = nl_interrupt_wanted,
    .interrupted = nl_interrupted,
    .given_up = lctx_given_up,
};

/* --- creation --------------------------------------------------------------------------------- */

static nl_lctx *lctx_new(const char *name, const char *file)
{
    nl_lctx *lc = nl_pool_alloc(sizeof *lc);
    memset(lc, 0, sizeof *lc);
    lc->vm.name = state_name;
    lc->vm.abandon = abandon;
    nl_ctx_init(&lc->ctx, &lctx_ops);
    nl_list_init(&lc->all_co);
    nl_list_init(&lc->callbacks);
    nl_list_init(&lc->objects.sockets);
    nl_list_init(&lc->objects.connects);
    nl_list_init(&lc->objects.streams);
    nl_list_init(&lc->objects.readings);
    size_t n = strlen(name) + 1, m = file ? strlen(file) + 1 : 0;
    lc->name = nl_malloc(n + m);
    memcpy(lc->name, name, n);
    lc->file = file ? memcpy(lc->name + n, file, m) : NULL;
    lc->start = nl_calloc(sizeof *lc->start);
    nl_inbox_init(lc);
    return lc;
}

static bool is_absolute(const char *path)
{
    return path[0] == '/' || (NL_OS_WINDOWS && (path[0] == '\\' || (path[0] && path[1] == ':')));
}

/* file beside the parent's own, or NULL. */
static char *beside(const nl_lctx *parent, const char *file)
{
    if (is_absolute(file) || !parent->file) {
        return NULL;
    }
    const char *slash = strrchr(parent->file, '/');
    const char *back = NL_OS_WINDOWS ? strrchr(parent->file, '\\') : NULL;
    slash = back > slash ? back : slash;
    if (!slash) {
        return NULL; /* that is the working directory */
    }
    size_t dir = (size_t)(slash - parent->file) + 1, n = strlen(file);
    char *path = nl_malloc(dir + n + 1);
    memcpy(path, parent->file, dir);
    memcpy(path + dir, file, n + 1);
    return path;
}

static int create(uint64_t *handle, lua_State *L, nl_lctx *parent, const char *file, const char *name,
                  nl_packet *args)
{
    nl_chunk *chunk = NULL;
    char *other = NULL;
    int err = nl_chunk_get(&chunk, L, file);
    if (err == -ENOENT && (other = beside(parent, file))) {
        err = nl_chunk_get(&chunk, L, other);
    }
    if (err == -NL_ESYNTAX) {
        log_top(parent->name, L);
        lua_pop(L, 1);
    }
    if (!err) {
        nl_lctx *lc = lctx_new(name, other ? other : file);
        lc->parent = parent->ctx.slot.id;
        lc->start->chunk = chunk;
        lc->start->args = args;
        for (int i = 0; i < NL_PATHS; i++) {
            lc->paths[i] = nl_path_copy(L, i);
        }
        err = nl_ctx_start(&lc->ctx);
        if (!err) {
            *handle = lc->ctx.slot.id;
        } else {
            lctx_release(&lc->ctx);
            lctx_free(&lc->ctx);
        }
    } else {
        nl_chunk_release(chunk);
        if (args) {
            nl_packet_free(args);
        }
    }
    nl_free(other);
    return err;
}

/* --- the first context ------------------------------------------------------------------------ */

/* Leaves the main function in the registry. */
static int load_first(lua_State *L)
{
    if (nl_jit_lib_apply_options(L) != 0) {
        return lua_error(L);
    }
    lua_settop(L, 0);
    if (nl_boot_push_first(L) != 0) {
        return lua_error(L);
    }
    lua_setfield(L, LUA_REGISTRYINDEX, MAIN);
    return 0;
}

static char *first_name(const nl_lua_options *o)
{
    size_t n = 1;
    for (int i = o->script_index; i < o->argc; i++) {
        n += strlen(o->argv[i]) + 1;
    }
    char *name = nl_calloc(n);
    size_t at = 0;
    for (int i = o->script_index; i < o->argc; i++) {
        at += (size_t)snprintf(name + at, n - at, "%s%s", i > o->script_index ? " " : "", o->argv[i]);
    }
    return name;
}

static const nl_module modules[] = {
    {NL_LIB_CONTEXT, "context", luaopen_nl_context, nl_context_push_field, NULL},
    {NL_LIB_TCP, "tcp", luaopen_nl_tcp, NULL, NULL},
    {NL_LIB_TIMER, "timer", luaopen_nl_timer, nl_timer_push_field, NULL},
    {NL_LIB_BUFFER, "buffer", luaopen_nl_buffer, NULL, NULL},
    {NL_LIB_IO, "io", NULL, NULL, nl_io_extend},
    {NL_LIB_OS, "os", NULL, NULL, nl_os_extend},
    {NL_LIB_MATH, "math", NULL, NULL, nl_math_extend},
    {NL_LIB_STRING, "string", NULL, NULL, nl_string_extend},
    {0, NULL, NULL, NULL, NULL},
};

/* Hands the rooms below what they call in those above. */
static void register_rooms(void)
{
    nl_jit_set_opener(nl_jit_lib_open_hidden);
    nl_bufobj_set_opener(luaopen_nl_buffer);
    nl_context_set_creator(create);
    nl_libs_register(modules);
}

int nl_lua_start(const nl_lua_options *o)
{
    register_rooms();
    nl_jit_lib_set_options(o->jit, o->njit);
    nl_boot_set_options(o);
    const char *script = nl_boot_script();
    char *name = script ? first_name(o) : nl_strdup("(command line)");
    nl_lctx *lc = lctx_new(name, script && strcmp(script, "-") != 0 ? script : NULL);
    nl_free(name);
    lc->first = true;
    const char *why = "no memory for a Lua state";
    int err = open_state(lc);
    if (!err) {
        err = lua_cpcall(lc->vm.L, load_first, NULL);
        why = lua_tostring(lc->vm.L, -1);
    }
    if (!err) {
        err = nl_ctx_start(&lc->ctx);
        why = nl_err_text(err);
    }
    if (err) {
        fprintf(stderr, "nl-jit: %s\n", why ? why : "?");
        close_state(lc);
        lctx_release(&lc->ctx);
        lctx_free(&lc->ctx);
        return 1;
    }
    return 0;
}

void nl_lua_fini(void)
{
    nl_chunk_cache_free();
}

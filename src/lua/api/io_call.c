/*
 * io_call.c - os.execute, and files whose opening or closing waits for another process: pipes of
 * popen, FIFOs.
 *
 * libc does it, on a thread of its own (sched/offload.h), while the coroutine is suspended.  Where
 * it cannot be, the worker's thread does, in a blocking section.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/os.h"
#include "lua/api/io_file.h"
#include "lua/api/modules.h"
#include "lua/run/co.h"
#include "sched/offload.h"

typedef struct call {
    nl_job job;                            /* first */
    int (*push)(lua_State *L, void *call); /* pushes the results; their number */
    nl_wait *w;
    FILE *fp;         /* to close; opened */
    bool process;     /* closing: it is popen's */
    nl_file *file;    /* opening: the file object … */
    int ref;          /* … anchored */
    int status, err;  /* what libc has answered, errno */
    const char *mode; /* opening: behind text */
    char text[];      /* the command, the path */
} call;

static call *call_new(void (*work)(nl_job *), int (*push)(lua_State *, void *), const char *text,
                      const char *mode)
{
    size_t n = strlen(text) + 1, m = strlen(mode) + 1;
    call *c = nl_calloc(sizeof *c + n + m);
    c->job.work = work;
    c->push = push;
    c->ref = NL_NOREF;
    memcpy(c->text, text, n);
    c->mode = memcpy(c->text + n, mode, m);
    return c;
}

static void returned(nl_ctx *ctx, nl_msg *m)
{
    nl_lctx *lc = (nl_lctx *)ctx;
    call *c = nl_container_of(m, call, job.msg);
    nl_wait *w = c->w;
    lua_State *L = nl_wait_begin(lc, w);
    int n = nl_io_push(lc, L, c->push, c);
    nl_unref(lc, c->ref);
    nl_free(c);
    if (n >= 0) {
        nl_wait_end(lc, w, n);
    }
}

/* The context has ended, or the process does. */
static void forgotten(nl_msg *m)
{
    call *c = nl_container_of(m, call, job.msg);
    if (c->file && c->fp) {
        fclose(c->fp);
    }
    nl_free(c);
}

static const nl_msg_ops call_ops = {returned, forgotten};

static void work_here(call *c)
{
    nl_blocking_begin();
    c->job.work(&c->job);
    nl_blocking_end();
}

/* Does it; returns its results. */
static int call_run(lua_State *L, call *c)
{
    nl_lctx *lc = nl_lctx_of(L);
    c->job.msg.ops = &call_ops;
    c->job.ctx = lc->ctx.slot.id;
    if (nl_can_block(L)) {
        c->w = nl_block_wait_of(lc, NL_WAIT_IO);
        if (nl_offload(&c->job) == 0) {
            return nl_park_of(lc, L);
        }
    }
    work_here(c);
    int n = c->push(L, c);
    nl_unref(lc, c->ref);
    nl_free(c);
    return n;
}

/* --- os.execute ------------------------------------------------------------------------------- */

static void do_execute(nl_job *job)
{
    call *c = nl_container_of(job, call, job);
    c->status = system(c->text);
    c->err = errno;
}

static int push_status(lua_State *L, void *of)
{
    const call *c = of;
    if (nl_io_is52(L)) {
        errno = c->err;
        return luaL_execresult(L, c->status);
    }
    lua_pushinteger(L, c->status);
    return 1;
}

/* ([command]) */
int nl_io_execute(lua_State *L)
{
    const char *command = luaL_optstring(L, 1, NULL);
    if (command) {
        return call_run(L, call_new(do_execute, push_status, command, ""));
    }
    if (nl_io_is52(L)) {
        lua_pushboolean(L, 1);
    } else {
        lua_pushinteger(L, system(NULL));
    }
    return 1;
}

/* --- closing ---------------------------------------------------------------------------------- */

static void do_close(nl_job *job)
{
    call *c = nl_container_of(job, call, job);
    c->status = c->process ? nl_cfile_pclose(c->fp) : fclose(c->fp);
    c->err = errno;
}

static int push_closed(lua_State *L, void *of)
{
    const call *c = of;
    errno = c->err;
    if (c->process && nl_io_is52(L)) {
        return luaL_execresult(L, c->status);
    }
    return luaL_fileresult(L, c->status != -1, NULL);
}

/* Whether closing it may sleep: it waits for the process, or writes what is left. */
static bool close_sleeps(nl_file *f)
{
    int type = f->type & NL_FILE_TYPE;
    return type == NL_FILE_PIPE ||
           (type != NL_FILE_STD && nl_file_kind(f) != NL_CFILE_PLAIN && nl_cfile_pending(f->fp) > 0);
}

/* The object gives its stream up. */
static call *call_close(nl_lctx *lc, nl_file *f)
{
    call *c = call_new(do_close, push_closed, "", "");
    c->fp = f->fp;
    c->process = (f->type & NL_FILE_TYPE) == NL_FILE_PIPE;
    nl_file_end_reads(lc, f);
    nl_file_forget_stream(lc, f->fp);
    f->fp = NULL;
    return c;
}

/* The file object at index 1 or, without an argument, the default output. */
static int close_file(lua_State *L, lua_CFunction stock)
{
    nl_lctx *lc = nl_lctx_of(L);
    int n = lua_gettop(L);
    nl_file *f = n > 0 ? nl_file_test(L, lc, 1) : nl_file_push_default(L, true);
    if (f && f->fp && close_sleeps(f)) {
        return call_run(L, call_close(lc, f));
    }
    if (f && f->fp && (f->type & NL_FILE_TYPE) != NL_FILE_STD) {
        nl_file_end_reads(lc, f);
        nl_file_forget_stream(lc, f->fp);
    }
    lua_settop(L, n);
    return stock(L);
}

int nl_io_close(lua_State *L)
{
    return close_file(L, nl_io.close);
}

int nl_io_file_close(lua_State *L)
{
    return close_file(L, nl_io.file_close);
}

/*
 * A finalizer cannot be suspended, and nobody waits for the results: the thread does it alone.
 * At the end of the context its children are waited for, as LuaJIT does.
 */
int nl_io_file_gc(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    nl_file *f = nl_file_test(L, lc, 1);
    if (f && f->fp && close_sleeps(f)) {
        call *c = call_close(lc, f);
        c->job.msg.ops = &call_ops;
        if (lc->vm.closing || nl_offload(&c->job) != 0) {
            work_here(c);
            nl_free(c);
        }
        return 0;
    }
    if (f && f->fp) {
        nl_file_forget_stream(lc, f->fp);
    }
    return nl_io.file_gc(L);
}

/* --- opening ---------------------------------------------------------------------------------- */

/*
 * Pushes a file object that is closed: by the stock function, as only LuaJIT can make one.  NULL:
 * descriptors are out, or the like, and errno says what.
 */
static nl_file *push_file(lua_State *L)
{
    lua_pushcfunction(L, nl_io.open);
    lua_pushvalue(L, LUA_ENVIRONINDEX); /* where it finds the metatable */
    lua_setfenv(L, -2);
    lua_pushliteral(L, NL_NULL_FILE);
    lua_call(L, 1, 3); /* a file, or nil, a text and the error */
    nl_file *f = nl_file_test(L, nl_lctx_of(L), lua_gettop(L) - 2);
    if (!f || !f->fp) {
        errno = (int)lua_tointeger(L, -1);
        return NULL;
    }
    lua_pop(L, 2);
    fclose(f->fp);
    f->fp = NULL;
    return f;
}

static void do_open(nl_job *job)
{
    call *c = nl_container_of(job, call, job);
    c->fp = fopen(c->text, c->mode);
    c->err = errno;
}

static int push_opened(lua_State *L, void *of)
{
    call *c = of;
    if (!c->fp) {
        errno = c->err;
        return luaL_fileresult(L, 0, c->text);
    }
    c->file->fp = c->fp;
    c->fp = NULL;
    nl_ref_push(nl_lctx_of(L), L, c->ref);
    return 1;
}

/* (name[, mode]) */
int nl_io_open(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1), *mode = luaL_optstring(L, 2, "r");
    if (nl_likely(!nl_cfile_is_fifo(name))) {
        return nl_io.open(L);
    }
    nl_file *f = push_file(L);
    if (!f) {
        return luaL_fileresult(L, 0, name);
    }
    int ref = nl_ref(nl_lctx_of(L), L);
    call *c = call_new(do_open, push_opened, name, mode);
    c->file = f;
    c->ref = ref;
    return call_run(L, c);
}

nl_file *nl_file_open_fifo(lua_State *L, const char *mode)
{
    const char *name = lua_type(L, 1) == LUA_TSTRING ? lua_tostring(L, 1) : NULL;
    if (nl_likely(!name || !nl_cfile_is_fifo(name))) {
        return NULL;
    }
    nl_file *f = push_file(L);
    int err = errno;
    if (f) {
        nl_blocking_begin();
        f->fp = fopen(name, mode);
        err = errno;
        nl_blocking_end();
    }
    if (!f || !f->fp) {
        luaL_argerror(L, 1, lua_pushfstring(L, "%s: %s", name, strerror(err)));
    }
    lua_replace(L, 1);
    return f;
}

int nl_io_input(lua_State *L)
{
    nl_file_open_fifo(L, "r");
    return nl_io.input(L);
}

int nl_io_output(lua_State *L)
{
    nl_file_open_fifo(L, "w");
    return nl_io.output(L);
}

static void flush_file(void *of)
{
    nl_file *f = of;
    if (f && f->fp && (f->type & NL_FILE_TYPE) != NL_FILE_STD && nl_cfile_pending(f->fp) > 0) {
        nl_file_flush(f->fp, nl_file_kind(f));
    }
}

/*
 * (command[, mode]).  What the context has written so far leaves first, so that it comes before
 * what the child writes.  LuaJIT does that by fflush(NULL), which goes through the streams of all
 * contexts.  Where one has a slow reader it would sleep, and until it wakes up nobody can open or
 * close a file.
 */
int nl_io_popen(lua_State *L)
{
    const char *command = luaL_checkstring(L, 1), *mode = luaL_optstring(L, 2, "r");
    nl_file *f = push_file(L);
    if (!f) {
        return luaL_fileresult(L, 0, command);
    }
    nl_file_flush(stdout, nl_cfile_std_kind(stdout));
    if (!nl_lua_each_file(L, flush_file)) {
        flush_file(nl_file_push_default(L, true));
        lua_pop(L, 1);
    }
    nl_blocking_begin();
    f->fp = nl_cfile_popen(command, mode);
    int err = errno;
    nl_blocking_end();
    f->type = NL_FILE_PIPE;
    errno = err;
    return f->fp ? 1 : luaL_fileresult(L, 0, command);
}

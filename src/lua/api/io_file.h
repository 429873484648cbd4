/*
 * io_file.h - file objects of the library `io`, shared by lib_io.c (the library: open, close,
 * popen), io_write.c (print, write, flush) and io_read.c (read, lines).
 *
 * Purpose:   calls on files that can sleep do not hold up other contexts.  The library and its
 *            objects are LuaJIT's own; only the functions that may sleep have others in front of
 *            them, which hand over to the stock ones where nothing can sleep.
 * Threads:   the worker that runs the context.  The streams stdin, stdout and stderr are shared by
 *            all contexts: see cfile.h.
 * Ownership: a file object owns its stream; a standard stream is the process's.
 */
#ifndef NL_IO_FILE_H
#define NL_IO_FILE_H

#include "base/cfile.h"
#include "lua/run/lctx.h"

/* What stands in the userdata of LuaJIT's file objects. */
typedef struct nl_file {
    FILE *fp; /* NULL: closed */
    uint32_t type;
} nl_file;
enum {
    NL_FILE_PIPE = 1, /* of popen */
    NL_FILE_STD = 2,
    NL_FILE_TYPE = 3,
    NL_FILE_LINES = 4,      /* of io.lines: closed at its end */
    NL_FILE_KIND_SHIFT = 16 /* two bits that LuaJIT does not use: enum nl_cfile_kind */
};

/* The stock functions, the same in every state. */
typedef struct nl_io_stock {
    /* of io */
    lua_CFunction open, popen, close, input, output, lines, read, write, flush;
    /* of files */
    lua_CFunction file_lines, file_read, file_write, file_flush, file_close, file_gc;
} nl_io_stock;
extern nl_io_stock nl_io;

static inline enum nl_cfile_kind nl_file_kind(nl_file *f)
{
    uint32_t kind = f->type >> NL_FILE_KIND_SHIFT;
    if (nl_unlikely(kind == NL_CFILE_UNKNOWN)) {
        kind = (uint32_t)nl_cfile_kind(f->fp);
        f->type |= kind << NL_FILE_KIND_SHIFT;
    }
    return (enum nl_cfile_kind)kind;
}

/*
 * Whether LuaJIT was built with the results of 5.2: write returns the file; execute, and closing a
 * pipe, three values.
 */
#if NL_LUAJIT_INSIDE
static inline bool nl_io_is52(lua_State *L)
{
    (void)L;
    return LJ_52;
}
#else
bool nl_io_is52(lua_State *L);
#endif

/* lib_io.c: the file object at idx (not a pseudo-index), NULL for anything else. */
static inline nl_file *nl_file_test(lua_State *L, const nl_lctx *lc, int idx)
{
    return nl_lua_testudata(L, idx, lc->objects.file);
}
/* Pushes the default input or output. */
nl_file *nl_file_push_default(lua_State *L, bool output);

/*
 * Bracket a bare call that may sleep, as nl_sched_blocking_begin says; -e and -l run before the
 * workers do.
 */
static inline void nl_blocking_begin(void)
{
    if (nl_worker_index() >= 0) {
        nl_sched_blocking_begin();
    }
}
static inline void nl_blocking_end(void)
{
    if (nl_worker_index() >= 0) {
        nl_sched_blocking_end();
    }
}

/*
 * lib_io.c: pushes results on to, which is suspended, by push(L, arg), in protection; their number.
 * -1: memory is out, and the context ends.
 */
int nl_io_push(nl_lctx *lc, lua_State *to, int (*push)(lua_State *L, void *arg), void *arg);

/* io_call.c */
int nl_io_execute(lua_State *L);
int nl_io_open(lua_State *L);
int nl_io_popen(lua_State *L);
int nl_io_input(lua_State *L);
int nl_io_output(lua_State *L);
int nl_io_close(lua_State *L);
int nl_io_file_close(lua_State *L);
int nl_io_file_gc(lua_State *L);
/*
 * If the argument at index 1 names a FIFO: opens it, without suspending, and puts the file object
 * in its place.  NULL: it does not.  Raises if that fails.
 */
nl_file *nl_file_open_fifo(lua_State *L, const char *mode);

/* io_read.c */
int nl_io_read(lua_State *L);
int nl_io_file_read(lua_State *L);
int nl_io_lines(lua_State *L);
int nl_io_file_lines(lua_State *L);
/* The file is about to be closed: reads of this context that wait for it end with EBADF. */
void nl_file_end_reads(nl_lctx *lc, const nl_file *f);
/* The stream is about to be closed. */
void nl_file_forget_stream(nl_lctx *lc, FILE *fp);
/* The context has ended. */
void nl_file_forget_all(nl_lctx *lc);

/* io_write.c */
int nl_io_write(lua_State *L);
int nl_io_file_write(lua_State *L);
int nl_io_flush(lua_State *L);
int nl_io_file_flush(lua_State *L);
/* What stdio has in its buffer leaves, as flush does it.  False: failed, errno says why. */
bool nl_file_flush(FILE *fp, enum nl_cfile_kind kind);

#endif

/*
 * io_write.c - print, io.write, file:write and flush.
 *
 * Whole.  What one call writes is put together first and handed to stdio in one piece, under
 * stdio's lock or, where the stream can sleep, in the stream's turn (cfile.h).  So calls of several
 * contexts follow each other.
 *
 * Without holding up the neighbours.  These calls do not suspend the coroutine, unlike those that
 * read: a script may print in the middle of anything.  A pipe whose reader is slow blocks the
 * thread, inside a blocking section, and without a lock of stdio.  Pieces that poll has found room
 * for are written without more ado.
 *
 * Nothing here raises between the beginning of the output and its end.
 */
#include <string.h>

#include "base/number.h"
#include "lua/api/io_file.h"
#include "lua/api/modules.h"

/* --- streams that can sleep ------------------------------------------------------------------- */

/* Afterwards a pipe takes NL_CFILE_PIPE_BUF bytes at once. */
static void wait_for_room(FILE *fp)
{
    if (!nl_cfile_can_write(fp)) {
        nl_blocking_begin();
        nl_cfile_wait_write(fp);
        nl_blocking_end();
    }
}

static bool flush_pending(FILE *fp, enum nl_cfile_kind kind)
{
    size_t n = nl_cfile_pending(fp);
    if (kind == NL_CFILE_PLAIN || n == 0) {
        return fflush(fp) == 0;
    }
    wait_for_room(fp);
    if (kind == NL_CFILE_PIPE && n <= NL_CFILE_PIPE_BUF) {
        return fflush(fp) == 0;
    }
    nl_blocking_begin();
    int result = fflush(fp), err = errno;
    nl_blocking_end();
    errno = err;
    return result == 0;
}

/* A piece that is written at once, as the buffer is empty and has no room for it. */
static bool put_piece(FILE *fp, enum nl_cfile_kind kind, const char *p, size_t n)
{
    wait_for_room(fp);
    if (kind == NL_CFILE_PIPE) {
        return fwrite(p, 1, n, fp) == n;
    }
    nl_blocking_begin();
    bool ok = fwrite(p, 1, n, fp) == n;
    int err = errno;
    nl_blocking_end();
    errno = err;
    return ok;
}

static bool put_sleepy(FILE *fp, enum nl_cfile_kind kind, const char *p, size_t n)
{
    bool ok = true;
    while (n > 0 && ok) {
        if (n <= nl_cfile_room(fp)) {
            return fwrite(p, 1, n, fp) == n;
        }
        size_t pending = nl_cfile_pending(fp);
        if (pending > 0 && (!nl_cfile_by_lines(fp) || pending + n > NL_CFILE_PIPE_BUF)) {
            ok = flush_pending(fp, kind);
            continue;
        }
        size_t piece = n < NL_CFILE_PIPE_BUF ? n : NL_CFILE_PIPE_BUF;
        ok = put_piece(fp, kind, p, piece);
        p += piece;
        n -= piece;
    }
    return ok;
}

/* --- one call's output ------------------------------------------------------------------------ */

typedef struct output {
    FILE *fp;
    enum nl_cfile_kind kind;
    bool locked; /* stdio's lock is ours, or the turn */
    bool failed;
    int err; /* errno of the failure */
    size_t n;
    char bytes[2048];
} output;

static inline void output_init(output *o, FILE *fp, enum nl_cfile_kind kind)
{
    o->fp = fp;
    o->kind = kind;
    o->locked = o->failed = false;
    o->err = 0;
    o->n = 0;
}

static nl_noinline void output_lock(output *o)
{
    bool plain = o->kind == NL_CFILE_PLAIN;
    o->locked = true;
    if (!(plain ? nl_cfile_try_lock(o->fp) : nl_cfile_try_turn(o->fp))) {
        nl_blocking_begin();
        if (plain) {
            nl_cfile_lock(o->fp);
        } else {
            nl_cfile_turn(o->fp);
        }
        nl_blocking_end();
    }
}

static nl_noinline void output_put(output *o, const char *p, size_t n)
{
    if (!o->locked) {
        output_lock(o);
    }
    if (!o->failed && n > 0) {
        bool ok =
            o->kind == NL_CFILE_PLAIN ? nl_cfile_put(o->fp, p, n) == n : put_sleepy(o->fp, o->kind, p, n);
        o->failed = !ok;
        o->err = errno;
    }
}

static inline void output_add(output *o, const char *p, size_t n)
{
    if (nl_unlikely(n > sizeof o->bytes - o->n)) {
        output_put(o, o->bytes, o->n);
        o->n = 0;
        if (n > sizeof o->bytes) {
            output_put(o, p, n);
            return;
        }
    }
    memcpy(o->bytes + o->n, p, n);
    o->n += n;
}

static inline void output_add_char(output *o, char c)
{
    if (nl_unlikely(o->n == sizeof o->bytes)) {
        output_put(o, o->bytes, o->n);
        o->n = 0;
    }
    o->bytes[o->n++] = c;
}

static inline void output_unlock(output *o)
{
    if (o->locked) {
        if (o->kind == NL_CFILE_PLAIN) {
            nl_cfile_unlock(o->fp);
        } else {
            nl_cfile_end_turn(o->fp);
        }
    }
}

/* False: it has failed, and errno says why. */
static inline bool output_end(output *o)
{
    if (nl_likely(o->kind == NL_CFILE_PLAIN && !o->locked)) { /* fwrite takes the lock itself */
        return fwrite(o->bytes, 1, o->n, o->fp) == o->n;
    }
    output_put(o, o->bytes, o->n);
    output_unlock(o);
    errno = o->err;
    return !o->failed;
}

/* --- values ----------------------------------------------------------------------------------- */

/* Adds the string or number at i, after prepare_value. */
static inline void output_add_value(output *o, lua_State *L, int i)
{
    char text[NL_NUMBER_TEXT];
    lua_Number n;
    size_t len;
    const char *p;
    if (nl_lua_number(L, i, &n)) {
        len = nl_number_text(n, text);
        p = text;
    } else {
        p = nl_lua_tostr(L, i, &len);
    }
    output_add(o, p, len);
}

/*
 * Before the output begins: a number that nl_number_text cannot write becomes a string, in its
 * place.
 */
static inline void prepare_value(lua_State *L, int i)
{
    lua_Number n;
    if (nl_lua_number(L, i, &n) && !nl_number_is_plain(n)) {
        lua_tolstring(L, i, NULL);
    }
}

/* --- print ------------------------------------------------------------------------------------ */

/* Replaces the value at i by what the global tostring, at index f, makes of it. */
static nl_noinline void call_tostring(lua_State *L, int i, int f)
{
    lua_pushvalue(L, f);
    lua_pushvalue(L, i);
    lua_call(L, 1, 1);
    if (!lua_tostring(L, -1)) {
        luaL_error(L, LUA_QL("tostring") " must return a string to " LUA_QL("print"));
    }
    lua_replace(L, i);
}

/* Strings, and numbers without a metatable of their own, need no call of the stock tostring. */
static inline bool is_text(lua_State *L, int i)
{
    int type = nl_lua_type(L, i);
    if (type == LUA_TNUMBER && lua_getmetatable(L, i)) {
        lua_pop(L, 1);
        return false;
    }
    return type == LUA_TSTRING || type == LUA_TNUMBER;
}

static int print(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    int n = nl_lua_gettop(L), f = n + 1;
    bool stock = nl_lua_pushglobal(L, lc->tostring); /* "tostring" */
    for (int i = 1; i <= n; i++) {
        if (!stock || !is_text(L, i)) {
            call_tostring(L, i, f);
        }
        prepare_value(L, i);
    }
    output o;
    output_init(&o, stdout, nl_cfile_std_kind(stdout));
    for (int i = 1; i <= n; i++) {
        if (i > 1) {
            output_add_char(&o, '\t');
        }
        output_add_value(&o, L, i);
    }
    output_add_char(&o, '\n');
    output_end(&o);
    return 0;
}

void nl_print_open(lua_State *L)
{
    lua_getglobal(L, "tostring");
    nl_lctx_of(L)->tostring = lua_topointer(L, -1);
    lua_pop(L, 1);
    lua_pushliteral(L, "tostring");
    lua_pushcclosure(L, print, 1);
    lua_setglobal(L, "print");
}

/* --- write, flush ----------------------------------------------------------------------------- */

/* Writes the arguments from index first on; self: the file object's index, for 5.2's result. */
static int write_to(lua_State *L, nl_file *f, int first, int last, int self)
{
    int bad = 0;
    for (int i = first; i <= last; i++) {
        int type = nl_lua_type(L, i);
        if (nl_unlikely(type != LUA_TSTRING && type != LUA_TNUMBER)) {
            bad = i;
            last = i - 1;
        } else {
            prepare_value(L, i);
        }
    }
    output o;
    output_init(&o, f->fp, nl_file_kind(f));
    for (int i = first; i <= last; i++) {
        output_add_value(&o, L, i);
    }
    bool ok = output_end(&o);
    if (nl_unlikely(bad)) {
        luaL_checklstring(L, bad, NULL); /* raises, as the stock function */
    }
    if (!ok) {
        return luaL_fileresult(L, 0, NULL);
    }
    if (nl_io_is52(L)) {
        lua_pushvalue(L, self);
    } else {
        lua_pushboolean(L, 1);
    }
    return 1;
}

int nl_io_write(lua_State *L)
{
    int n = lua_gettop(L);
    nl_file *f = nl_file_push_default(L, true);
    if (nl_unlikely(!f || !f->fp)) {
        lua_settop(L, n);
        return nl_io.write(L);
    }
    return write_to(L, f, 1, n, n + 1);
}

int nl_io_file_write(lua_State *L)
{
    nl_file *f = nl_file_test(L, nl_lctx_of(L), 1);
    if (nl_unlikely(!f || !f->fp)) {
        return nl_io.file_write(L);
    }
    return write_to(L, f, 2, lua_gettop(L), 1);
}

bool nl_file_flush(FILE *fp, enum nl_cfile_kind kind)
{
    output o;
    output_init(&o, fp, kind);
    output_lock(&o);
    bool ok = flush_pending(fp, kind);
    int err = errno;
    output_unlock(&o);
    errno = err;
    return ok;
}

int nl_io_flush(lua_State *L)
{
    nl_file *f = nl_file_push_default(L, true);
    if (nl_unlikely(!f || !f->fp)) {
        lua_settop(L, 0);
        return nl_io.flush(L);
    }
    return luaL_fileresult(L, nl_file_flush(f->fp, nl_file_kind(f)), NULL);
}

int nl_io_file_flush(lua_State *L)
{
    nl_file *f = nl_file_test(L, nl_lctx_of(L), 1);
    if (nl_unlikely(!f || !f->fp)) {
        return nl_io.file_flush(L);
    }
    return luaL_fileresult(L, nl_file_flush(f->fp, nl_file_kind(f)), NULL);
}

/*
 * io_read.c - read and lines of files that can sleep: formats, results, waiting; see io_reading.h.
 */
#include <string.h>

#include "base/alloc.h"
#include "lua/api/io_reading.h"
#include "lua/run/co.h"
#include "net/watch.h"

/*
 * How often a stream is looked at that cannot be watched: after 1 ms, 2, 4 and so on, and then each
 * 16 ms.
 */
#define LOOK_FIRST_NS ((int64_t)1000000)
#define LOOK_DOUBLED 4

/* --- formats and results ---------------------------------------------------------------------- */

/* The format at index i; raises as the stock function does. */
static nl_read_item check_format(lua_State *L, int i)
{
    nl_read_item it = {.format = NL_READ_BYTES};
    if (lua_type(L, i) == LUA_TNUMBER) {
        it.n = (size_t)luaL_checkint(L, i) & UINT32_MAX;
        return it;
    }
    if (lua_type(L, i) != LUA_TSTRING) {
        luaL_argerror(L, i, "invalid option");
    }
    const char *p = lua_tostring(L, i);
    p += *p == '*';
    switch (*p) {
    case 'n':
        it.format = NL_READ_NUMBER;
        break;
    case 'l':
        it.format = NL_READ_LINE;
        break;
    case 'L':
        it.format = NL_READ_LINE_WITH_END;
        break;
    case 'a':
        it.format = NL_READ_ALL;
        break;
    default:
        luaL_argerror(L, i, "invalid format");
    }
    return it;
}

/* Pushes the results; their number. */
static int push_results(lua_State *L, void *of)
{
    const nl_reading *r = of;
    luaL_checkstack(L, r->at + 3, "too many results");
    if (r->err) {
        errno = r->err;
        return luaL_fileresult(L, 0, NULL);
    }
    size_t from = 0;
    for (int i = 0; i < r->at; i++) {
        const nl_read_item *it = &r->items[i];
        if (r->at_end && i == r->at - 1) {
            lua_pushnil(L);
        } else if (it->is_number) {
            lua_pushnumber(L, it->number);
        } else {
            lua_pushlstring(L, r->text ? r->text + from : "", it->n - from);
        }
        from = it->n;
    }
    return r->at;
}

/* The results are about to be told: a file of io.lines that has nothing more is closed. */
static bool ends_lines(nl_lctx *lc, nl_reading *r)
{
    if (!r->lines || r->err || !r->at_end || r->at != 1 || !(r->file->type & NL_FILE_LINES) || !r->file->fp) {
        return false;
    }
    FILE *fp = r->file->fp;
    r->file->fp = NULL;
    nl_file_forget_stream(lc, fp);
    fclose(fp);
    return true;
}

/* --- parked ----------------------------------------------------------------------------------- */

/* The read of this stream that is to be served first, of those parked; NULL: none is. */
static nl_reading *first_parked(nl_lctx *lc, const FILE *fp)
{
    for (nl_list *n = lc->objects.readings.next; n != &lc->objects.readings; n = n->next) {
        nl_reading *r = nl_container_of(n, nl_reading, all);
        if (r->fp == fp && r->parked) {
            return r;
        }
    }
    return NULL;
}

/* On a turn to come it looks once more. */
static void look_again(nl_reading *r)
{
    if (r->watch) {
        nl_tcp_again(r->watch);
    } else {
        nl_ctx_timer_remove(&r->lc->ctx, &r->look.timer);
        nl_ctx_timer_add(&r->lc->ctx, &r->look.timer, nl_now_ns());
    }
}

/* It has found nothing.  1: it will look again; 0: something has come meanwhile; or -errno. */
static int look_later(nl_reading *r)
{
    if (r->watch) {
        return nl_watch_again(r->watch);
    }
    int64_t ns = LOOK_FIRST_NS << (r->looks < LOOK_DOUBLED ? r->looks++ : LOOK_DOUBLED);
    nl_ctx_timer_add(&r->lc->ctx, &r->look.timer, nl_now_ns() + ns);
    return 1;
}

static void end_looking(nl_reading *r)
{
    if (r->watch) {
        nl_tcp_set_user(r->watch, NULL);
        nl_tcp_close(r->watch);
    }
    nl_ctx_timer_remove(&r->lc->ctx, &r->look.timer);
}

static void complete(nl_lctx *lc, nl_reading *r)
{
    nl_wait *w = r->w;
    end_looking(r);
    FILE *fp = r->fp;
    lua_State *L = nl_wait_begin(lc, w);
    int n = ends_lines(lc, r) ? 0 : nl_io_push(lc, L, push_results, r);
    nl_unref(lc, r->ref);
    nl_reading_free(r);
    nl_reading *next = first_parked(lc, fp);
    if (next) {
        look_again(next);
    }
    if (n >= 0) {
        nl_wait_end(lc, w, n);
    }
}

static void serve(nl_reading *r)
{
    if (!r->closed && first_parked(r->lc, r->fp) != r) {
        return;
    }
    int armed = 0;
    while (armed == 0 && !r->closed && !nl_reading_gather(r)) {
        if (r->share_used) {
            r->share_used = false;
            r->looks = 0;
            look_again(r);
            return;
        }
        armed = look_later(r);
    }
    if (armed > 0) {
        return;
    }
    if (armed < 0 || r->closed) {
        r->err = armed < 0 ? -armed : EBADF;
    }
    complete(r->lc, r);
}

static void ready(nl_ctx *ctx, nl_tcp *t)
{
    (void)ctx;
    nl_reading *r = nl_tcp_user(t);
    if (r) {
        serve(r);
    }
}

static void due(nl_lctx *lc, nl_timed *timed)
{
    (void)lc;
    serve(nl_container_of(timed, nl_reading, look));
}

static const nl_tcp_ops watch_ops = NL_TCP_OPS(ready);

/* What a script has printed as a question is to be seen before the answer is waited for. */
static void flush_question(void)
{
    if (nl_cfile_by_lines(stdout) && nl_cfile_pending(stdout) > 0) {
        nl_file_flush(stdout, NL_CFILE_TTY);
    }
}

static void anchor(lua_State *L, nl_lctx *lc, nl_reading *r, int self)
{
    lua_pushvalue(L, self);
    r->ref = nl_ref(lc, L);
}

static void watch(lua_State *L, nl_lctx *lc, nl_reading *r, int self)
{
    anchor(L, lc, r, self);
    r->parked = true;
    r->look.due = due;
    int copy = nl_cfile_dup(r->fp);
    if (copy < 0 || nl_watch_new(&r->watch, &lc->ctx, &watch_ops, copy) != 0) {
        r->watch = NULL;
        look_later(r);
    } else {
        nl_tcp_set_user(r->watch, r);
    }
}

/* --- giving way: the results are there, but others are to have their turn --------------------- */

static void give_way_run(nl_ctx *ctx, nl_msg *m)
{
    nl_reading *r = nl_container_of(m, nl_reading, msg);
    r->posted = false;
    complete((nl_lctx *)ctx, r);
}

static void give_way_drop(nl_msg *m)
{
    nl_reading_free(nl_container_of(m, nl_reading, msg));
}

static const nl_msg_ops give_way_ops = {give_way_run, give_way_drop};

static int park(lua_State *L, nl_lctx *lc, nl_reading *r)
{
    r->w = nl_block_wait_of(lc, NL_WAIT_IO);
    r->w->owner = r;
    return nl_park_of(lc, L);
}

static int give_way(lua_State *L, nl_lctx *lc, nl_reading *r, int self)
{
    anchor(L, lc, r, self);
    r->posted = true;
    r->msg.ops = &give_way_ops;
    nl_ctx_give_way(&lc->ctx, &r->msg);
    return park(L, lc, r);
}

/* --- the calls -------------------------------------------------------------------------------- */

/* Waits until there may be more.  True: parked. */
static bool wait_for_more(lua_State *L, nl_lctx *lc, nl_reading *r, int self)
{
    flush_question();
    if (r->may_park) {
        watch(L, lc, r, self);
        if (r->share_used) {
            r->share_used = false;
            look_again(r);
        }
        return true;
    }
    r->may_park = r->share_used = false;
    nl_blocking_begin();
    nl_cfile_wait_read(r->fp);
    nl_blocking_end();
    return false;
}

/*
 * Reads what the formats at the indices first to last ask for, none: a line.  self: the file
 * object's index.
 */
static int read_sleepy(lua_State *L, nl_file *f, int first, int last, int self, bool lines)
{
    nl_lctx *lc = nl_lctx_of(L);
    int count = last - first + 1, len = -1;
    char buf[512];
    for (int i = first; i <= last; i++) {
        check_format(L, i);
    }
    if (count == 0 || (count == 1 && check_format(L, first).format == NL_READ_LINE)) {
        len = first_parked(lc, f->fp) ? -1 : nl_reading_short_line(lc, f->fp, buf, sizeof buf);
        nl_ctx_charge(&lc->ctx, 1, len > 0 ? (unsigned)len : 0);
        if (nl_likely(len >= 0 && !nl_ctx_should_yield(&lc->ctx))) {
            lua_pushlstring(L, buf, (size_t)len);
            return 1;
        }
    }
    nl_reading *r = nl_reading_new(lc, f, count > 0 ? count : 1);
    r->lines = lines;
    r->may_park = nl_can_block(L);
    for (int i = 0; i < count; i++) {
        r->items[i] = check_format(L, first + i);
    }
    if (len >= 0) {
        nl_reading_put(r, buf, (size_t)len);
        r->at = 1;
    }
    bool behind = r->may_park && first_parked(lc, r->fp);
    while (behind || !nl_reading_gather(r)) {
        behind = false;
        if (wait_for_more(L, lc, r, self)) {
            return park(L, lc, r);
        }
    }
    if (r->may_park && nl_ctx_should_yield(&lc->ctx)) {
        return give_way(L, lc, r, self);
    }
    if (r->lines && r->err) {
        int err = r->err;
        nl_reading_free(r);
        return luaL_error(L, "%s", strerror(err));
    }
    int n = ends_lines(lc, r) ? 0 : push_results(L, r);
    nl_reading_free(r);
    return n;
}

/* Else LuaJIT's own function reads. */
static bool can_sleep(nl_file *f)
{
    bool can = nl_file_kind(f) != NL_CFILE_PLAIN && nl_cfile_reads(f->fp);
    errno = EBADF; /* musl's stdio names no error for a file that is not for reading */
    return can;
}

int nl_io_read(lua_State *L)
{
    int n = lua_gettop(L);
    nl_file *f = nl_file_push_default(L, false);
    if (!f || !f->fp || !can_sleep(f)) {
        lua_settop(L, n);
        return nl_io.read(L);
    }
    return read_sleepy(L, f, 1, n, n + 1, false);
}

int nl_io_file_read(lua_State *L)
{
    nl_file *f = nl_file_test(L, nl_lctx_of(L), 1);
    if (!f || !f->fp || !can_sleep(f)) {
        return nl_io.file_read(L);
    }
    return read_sleepy(L, f, 2, lua_gettop(L), 1, false);
}

/* The iterator; upvalues: the file object, formats. */
static int next_line(lua_State *L)
{
    nl_file *f = lua_touserdata(L, lua_upvalueindex(1));
    if (!f->fp) {
        return luaL_error(L, "attempt to use a closed file");
    }
    lua_settop(L, 0);
    lua_pushvalue(L, lua_upvalueindex(1));
    for (int i = 2; lua_type(L, lua_upvalueindex(i)) != LUA_TNONE; i++) {
        luaL_checkstack(L, 1, "too many arguments");
        lua_pushvalue(L, lua_upvalueindex(i));
    }
    return read_sleepy(L, f, 2, lua_gettop(L), 1, true);
}

/* The stock iterator on top becomes ours, if its file can sleep. */
static int replace_iterator(lua_State *L)
{
    int n = 0, top = lua_gettop(L);
    lua_getupvalue(L, top, 1);
    nl_file *f = nl_file_test(L, nl_lctx_of(L), top + 1);
    if (!f || !f->fp || !can_sleep(f)) {
        lua_settop(L, top);
        return 1;
    }
    lua_settop(L, top);
    luaL_checkstack(L, 255, "too many arguments");
    while (lua_getupvalue(L, top, n + 1)) {
        n++;
    }
    lua_pushcclosure(L, next_line, n);
    return 1;
}

int nl_io_lines(lua_State *L)
{
    nl_file *fifo = nl_file_open_fifo(L, "r");
    if (fifo) {
        fifo->type |= NL_FILE_LINES;
        nl_io.file_lines(L);
    } else {
        nl_io.lines(L);
    }
    return replace_iterator(L);
}

int nl_io_file_lines(lua_State *L)
{
    nl_io.file_lines(L);
    return replace_iterator(L);
}

/* --- closing ---------------------------------------------------------------------------------- */

void nl_file_end_reads(nl_lctx *lc, const nl_file *f)
{
    for (nl_list *n = lc->objects.readings.next; n != &lc->objects.readings; n = n->next) {
        nl_reading *r = nl_container_of(n, nl_reading, all);
        if (r->file == f && r->parked) {
            r->closed = true;
            look_again(r);
        }
    }
}

void nl_file_forget_all(nl_lctx *lc)
{
    nl_list *node;
    while ((node = nl_list_pop_front(&lc->objects.readings))) {
        nl_reading *r = nl_container_of(node, nl_reading, all);
        end_looking(r);
        if (!r->posted) {
            nl_reading_free(r);
        }
    }
    nl_reading_forget_streams(lc);
}

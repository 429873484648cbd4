/*
 * io_gather.c - how a read gathers its results; see io_reading.h.
 */
#include <ctype.h>
#include <string.h>

#include "base/alloc.h"
#include "lua/api/io_reading.h"

/* A buffer longer than this is not kept when it is empty. */
#define KEEP_MAX 4096

/* --- streams ---------------------------------------------------------------------------------- */

struct nl_stream {
    nl_list all; /* in nl_objects.streams; not that of stdin */
    FILE *fp;
    char *partial;
    size_t len, size;
    size_t no_end; /* so many bytes at the front of partial hold no end of a line */
};

/* Shared by all contexts: in the turn of stdin. */
static nl_stream of_stdin;

static nl_stream *find_stream(nl_lctx *lc, FILE *fp)
{
    if (fp == stdin) {
        return &of_stdin;
    }
    for (nl_list *n = lc->objects.streams.next; n != &lc->objects.streams; n = n->next) {
        nl_stream *s = nl_container_of(n, nl_stream, all);
        if (s->fp == fp) {
            return s;
        }
    }
    return NULL;
}

static nl_stream *get_stream(nl_lctx *lc, FILE *fp)
{
    nl_stream *s = find_stream(lc, fp);
    if (!s) {
        s = nl_calloc(sizeof *s);
        s->fp = fp;
        nl_list_push_back(&lc->objects.streams, &s->all);
    }
    return s;
}

static void free_stream(nl_stream *s)
{
    nl_list_remove(&s->all);
    nl_free(s->partial);
    nl_free(s);
}

/*
 * The stream's turn, which guards what is kept of stdin, and stdio's lock, for C code that reads it
 * too.
 */
static void lock(FILE *fp)
{
    if (nl_unlikely(!nl_cfile_try_turn(fp))) {
        nl_blocking_begin();
        nl_cfile_turn(fp);
        nl_blocking_end();
    }
    if (nl_unlikely(!nl_cfile_try_lock(fp))) {
        nl_blocking_begin();
        nl_cfile_lock(fp);
        nl_blocking_end();
    }
}

static void unlock(FILE *fp)
{
    nl_cfile_unlock(fp);
    nl_cfile_end_turn(fp);
}

enum outcome {
    GOT,   /* there is more than before */
    EMPTY, /* nothing can be read now */
    END,
    FAILED /* errno says why */
};

/* Stdio's buffer is empty: lets it read, if that does not sleep. */
static enum outcome refill(FILE *fp)
{
    if (!nl_cfile_can_read(fp)) {
        return EMPTY;
    }
    int result = nl_cfile_fill(fp);
    if (result >= 0) {
        return result ? GOT : END;
    }
    errno = -result;
    /*
     * Somebody who shares the descriptor has made it non-blocking and was faster, or a signal came.
     */
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? EMPTY : FAILED;
}

/*
 * Moves up to n bytes, and none behind an end of a line if `line`, from stdio's buffer to partial.
 */
static enum outcome pull(nl_reading *r, size_t n, bool line)
{
    nl_stream *s = r->s;
    FILE *fp = r->fp;
    size_t there;
    if (r->may_park && nl_ctx_should_yield(&r->lc->ctx)) {
        r->share_used = true;
        return EMPTY;
    }
    const char *p = nl_cfile_peek(fp, &there);
    if (!p) {
        enum outcome o = refill(fp);
        if (o != GOT) {
            return o;
        }
        p = nl_cfile_peek(fp, &there);
    }
    n = n < there ? n : there;
    if (line) {
        const char *end = memchr(p, '\n', n);
        n = end ? (size_t)(end - p) + 1 : n;
    }
    if (s->size - s->len < n) {
        s->size = s->size ? s->size : 256;
        while (s->size - s->len < n) {
            s->size *= 2;
        }
        s->partial = nl_realloc(s->partial, s->size);
    }
    s->len += fread(s->partial + s->len, 1, n, fp);
    nl_ctx_charge(&r->lc->ctx, 0, (unsigned)n);
    return GOT;
}

static void drop(nl_stream *s, size_t n)
{
    s->len -= n;
    s->no_end = 0;
    if (s->len > 0) {
        memmove(s->partial, s->partial + n, s->len);
    } else if (s->size > KEEP_MAX) {
        nl_free(s->partial);
        s->partial = NULL;
        s->size = 0;
    }
}

/* --- one read --------------------------------------------------------------------------------- */

/* The result of the item at hand. */
void nl_reading_put(nl_reading *r, const char *p, size_t n)
{
    if (r->size - r->len < n) {
        r->size = r->len + n;
        r->text = nl_realloc(r->text, r->size);
    }
    if (n > 0) {
        memcpy(r->text + r->len, p, n);
    }
    r->len += n;
    r->items[r->at].n = r->len;
}

/*
 * The stream has come to an end or failed in the item at hand; what is there of it is the result.
 */
static void put_end(nl_reading *r, enum outcome o)
{
    if (o == FAILED) {
        r->err = errno;
        return;
    }
    r->at_end = r->s->len == 0 && r->items[r->at].format != NL_READ_ALL;
    nl_reading_put(r, r->s->partial, r->s->len);
    drop(r->s, r->s->len);
}

static bool gather_line(nl_reading *r, bool with_end)
{
    nl_stream *s = r->s;
    for (;;) {
        const char *from = s->partial + s->no_end,
                   *end = s->len > s->no_end ? memchr(from, '\n', s->len - s->no_end) : NULL;
        if (end) {
            size_t n = (size_t)(end - s->partial);
            nl_reading_put(r, s->partial, n + with_end);
            drop(s, n + 1);
            return true;
        }
        s->no_end = s->len;
        enum outcome o = pull(r, SIZE_MAX, true);
        if (o == EMPTY) {
            return false;
        }
        if (o != GOT) {
            put_end(r, o);
            return true;
        }
    }
}

static bool gather_bytes(nl_reading *r, size_t n)
{
    nl_stream *s = r->s;
    while (s->len < n) {
        enum outcome o = pull(r, n - s->len, false);
        if (o == EMPTY) {
            return false;
        }
        if (o != GOT) {
            put_end(r, o);
            return true;
        }
    }
    nl_reading_put(r, s->partial, n);
    drop(s, n);
    return true;
}

/* read(0): whether there is more. */
static bool gather_none(nl_reading *r)
{
    size_t n;
    enum outcome o = GOT;
    if (r->s->len == 0 && !nl_cfile_peek(r->fp, &n)) {
        o = refill(r->fp);
    }
    if (o == EMPTY) {
        return false;
    }
    if (o == GOT) {
        nl_reading_put(r, "", 0);
    } else {
        put_end(r, o);
    }
    return true;
}

static bool is_number_char(unsigned char c)
{
    return isalnum(c) || c == '+' || c == '-' || c == '.' || c == '_';
}

/*
 * Whether partial holds all that a number may be made of, and the byte behind it.  at: so far it
 * has been looked at.
 */
static bool number_is_complete(const nl_stream *s, size_t *at)
{
    size_t i = *at;
    if (i == 0 || isspace((unsigned char)s->partial[i - 1])) {
        while (i < s->len && isspace((unsigned char)s->partial[i])) {
            i++;
        }
    }
    while (i < s->len && is_number_char((unsigned char)s->partial[i])) {
        i++;
    }
    *at = i;
    return i < s->len;
}

/*
 * As the stock function does it: with scanf, which tells how far it has come.  Without the lock of
 * the stream: fmemopen and fclose take that of stdio's list of streams, which comes before those of
 * the streams in it (fflush(NULL) in a C module).
 */
static void scan_number(nl_reading *r)
{
    nl_stream *s = r->s;
    nl_read_item *it = &r->items[r->at];
    nl_cfile_unlock(r->fp);
    size_t used;
    it->is_number = nl_cfile_scan_number(s->partial, s->len, &it->number, &used);
    it->n = r->len;
    r->at_end = !it->is_number;
    if (used > 0) {
        drop(s, used);
    }
    nl_cfile_lock(r->fp);
    if (s->len == 1) { /* the byte behind it: better there, for C code that reads the same FILE */
        ungetc((unsigned char)s->partial[0], r->fp);
        drop(s, 1);
    }
}

static bool gather_number(nl_reading *r)
{
    while (!number_is_complete(r->s, &r->items[r->at].n)) {
        enum outcome o = pull(r, 1, false);
        if (o == EMPTY) {
            return false;
        }
        if (o == FAILED) {
            put_end(r, o);
            return true;
        }
        if (o == END) {
            break;
        }
    }
    scan_number(r);
    return true;
}

static bool gather_one(nl_reading *r)
{
    nl_read_item *it = &r->items[r->at];
    switch (it->format) {
    case NL_READ_LINE:
    case NL_READ_LINE_WITH_END:
        return gather_line(r, it->format == NL_READ_LINE_WITH_END);
    case NL_READ_NUMBER:
        return gather_number(r);
    case NL_READ_ALL:
        return gather_bytes(r, SIZE_MAX);
    default:
        return it->n > 0 ? gather_bytes(r, it->n) : gather_none(r);
    }
}

/* True: it has all its results.  False: nothing more can be read now. */
bool nl_reading_gather(nl_reading *r)
{
    bool done = true;
    lock(r->fp);
    while (done && r->at < r->count && !r->at_end && !r->err) {
        done = gather_one(r);
        r->at += done;
    }
    unlock(r->fp);
    return done;
}

/* --- the rest --------------------------------------------------------------------------------- */

/* A short line that stdio has in its buffer, without more ado: its length, or -1. */
int nl_reading_short_line(nl_lctx *lc, FILE *fp, char *buf, size_t size)
{
    int len = -1;
    size_t n;
    lock(fp);
    const nl_stream *s = find_stream(lc, fp);
    const char *p = !s || s->len == 0 ? nl_cfile_peek(fp, &n) : NULL;
    const char *end = p ? memchr(p, '\n', n < size ? n : size) : NULL;
    if (end) {
        len = (int)fread(buf, 1, (size_t)(end - p) + 1, fp) - 1;
    }
    unlock(fp);
    return len;
}

nl_reading *nl_reading_new(nl_lctx *lc, nl_file *f, int count)
{
    nl_reading *r = nl_calloc(sizeof *r + (size_t)count * sizeof r->items[0]);
    r->lc = lc;
    r->s = get_stream(lc, f->fp);
    r->fp = f->fp;
    r->file = f;
    r->count = count;
    r->ref = NL_NOREF;
    nl_timer_init(&r->look.timer);
    /* From here on it is found and freed, if something raises, at the end of the context. */
    nl_list_push_back(&lc->objects.readings, &r->all);
    return r;
}

void nl_reading_free(nl_reading *r)
{
    nl_list_remove(&r->all);
    nl_free(r->text);
    nl_free(r);
}

void nl_file_forget_stream(nl_lctx *lc, FILE *fp)
{
    nl_stream *s = find_stream(lc, fp);
    if (s && s != &of_stdin) {
        free_stream(s);
    }
}

void nl_reading_forget_streams(nl_lctx *lc)
{
    while (!nl_list_empty(&lc->objects.streams)) {
        free_stream(nl_container_of(lc->objects.streams.next, nl_stream, all));
    }
}

/*
 * io_reading.h - a read of a file that can sleep: standard input, a pipe, a terminal.
 *
 * Purpose:   what io_gather.c (taking bytes from stdio) and io_read.c (calls, waiting) share.
 * Threads:   the worker that runs the context; what stdin has left over is in stdin's turn.
 * Ownership: a nl_reading is in nl_objects.readings from its making to its end, so that it is freed
 *            with the context if something raises.
 *
 * Stdio is never asked for more than poll has found to be there, so no call sleeps.  What a read
 * wants and is not complete yet, half a line, is taken out of stdio's buffer into the stream's own
 * (`partial`).  All else stays with stdio, where C code that reads the same FILE finds it.
 *
 *     gather ── nothing more to read ──→ parked, a watch on the descriptor ── ready ──→ gather …
 *        └───── complete, or the end ──→ results
 *
 * Several reads of one stream: those of one context are served in their order, the first gathers
 * and the others wait for it.  Contexts gather in the stream's turn, and the first to find in
 * `partial` and stdio's buffer all that it wants takes it.  Half a line is nobody's as long as it
 * is half, so a read that is given up loses nothing.  A context that waits has found the descriptor
 * empty after its watch was armed, so what is new makes an event for each of them.
 *
 * A stream that no reactor can watch is looked at from time to time (Windows).  Where the coroutine
 * cannot be suspended the thread waits, in a blocking section.
 */
#ifndef NL_IO_READING_H
#define NL_IO_READING_H

#include "lua/api/io_file.h"
#include "net/tcp.h"

typedef struct nl_stream nl_stream; /* io_gather.c: what is kept of a stream */

enum nl_read_format { NL_READ_LINE, NL_READ_LINE_WITH_END, NL_READ_NUMBER, NL_READ_ALL, NL_READ_BYTES };

/* One format, then its result. */
typedef struct nl_read_item {
    enum nl_read_format format;
    bool is_number;
    size_t n; /* NL_READ_BYTES: how many; then, of a string, where it ends in text */
    double number;
} nl_read_item;

typedef struct nl_reading {
    nl_list all; /* in nl_objects.readings */
    nl_lctx *lc;
    nl_stream *s;
    FILE *fp;
    nl_file *file;
    nl_wait *w;    /* parked */
    int ref;       /* parked: the file object, anchored */
    bool parked;   /* for more to read; not while it gives way */
    nl_tcp *watch; /* parked; NULL: the stream cannot be watched */
    nl_timed look; /* parked without a watch: when to look again */
    int looks;     /* that have found nothing, one after the other */
    nl_msg msg;    /* it gives way, see give_way */
    bool posted;   /* that is on its way; it frees the memory if the context has ended meanwhile */
    bool may_park;
    bool share_used; /* there is more to read, but others are to have their turn */
    bool lines;      /* for an iterator: of a file of io.lines, which closes itself */
    bool closed;     /* the file was, while the read was parked */
    bool at_end;     /* the last result is nil */
    int err;         /* instead of results */
    int count, at;   /* items; the next one to do */
    size_t len, size;
    char *text; /* of the string results, one after the other */
    nl_read_item items[];
} nl_reading;

nl_reading *nl_reading_new(nl_lctx *lc, nl_file *f, int count);
void nl_reading_free(nl_reading *r);
/* True: it has all its results.  False: nothing more can be read now, or share_used. */
bool nl_reading_gather(nl_reading *r);
/* The result of the item at hand. */
void nl_reading_put(nl_reading *r, const char *p, size_t n);
/* A short line that stdio has in its buffer, without more ado: its length, or -1. */
int nl_reading_short_line(nl_lctx *lc, FILE *fp, char *buf, size_t size);
/* The context has ended. */
void nl_reading_forget_streams(nl_lctx *lc);

#endif

/*
 * cfile.h - C streams (FILE) without sleeping: what stdio does not tell about them.
 *
 * Purpose:   to find out, before stdio is called, whether the call would sleep in the system; and
 *            to let whole pieces of output of several threads follow each other in one stream.
 * Threads:   any.  The caller has the stream's turn, if it is one that threads share
 *            (nl_cfile_turn), and for nl_cfile_peek and _fill stdio's own lock too (nl_cfile_lock).
 *            For nl_cfile_wait_* it has neither.
 * Ownership: none; the stream stays the caller's.
 *
 * Why a turn beside stdio's lock.  A writer that waits for room in a pipe keeps its turn, so that
 * nothing comes into the middle of what it writes, but it holds no lock of stdio: fflush and exit
 * in another thread go on.
 *
 * The kind of a stream is asked for once and then kept by the caller: fstat for each line would
 * cost more than the line.  If the descriptor is replaced later (dup2), a wrong kind does no harm
 * but that a call may sleep unannounced.
 */
#ifndef NL_CFILE_H
#define NL_CFILE_H

#include <stdio.h>

#include "base/base.h"

enum nl_cfile_kind {
    NL_CFILE_UNKNOWN,
    NL_CFILE_PLAIN, /* a file on a disk, /dev/null: never sleeps in the sense meant here */
    NL_CFILE_PIPE,  /* a pipe or socket: where poll reports room are NL_CFILE_PIPE_BUF bytes */
    NL_CFILE_TTY    /* a terminal: poll reports room even for one byte; on Windows a pipe, too */
};
#define NL_CFILE_PIPE_BUF 4096

/* Never NL_CFILE_UNKNOWN.  A stream that is not open is plain. */
enum nl_cfile_kind nl_cfile_kind(FILE *f);
/* Whether opening that path may wait for somebody who opens the other end. */
bool nl_cfile_is_fifo(const char *path);

/*
 * popen.  No other child inherits our end of the pipe: it would keep the pipe open, and the reader
 * of what we write would not see its end.
 */
FILE *nl_cfile_popen(const char *command, const char *mode);
int nl_cfile_pclose(FILE *f);

/* stdio's lock.  False from try: another thread has it, maybe for long. */
bool nl_cfile_try_lock(FILE *f);
void nl_cfile_lock(FILE *f);
void nl_cfile_unlock(FILE *f);
/* fwrite for the holder of stdio's lock: how many of the n bytes were taken. */
size_t nl_cfile_put(FILE *f, const char *p, size_t n);

/* The turn of stdin, stdout or stderr; other streams have none, and then these do nothing. */
bool nl_cfile_try_turn(FILE *f);
void nl_cfile_turn(FILE *f);
void nl_cfile_end_turn(FILE *f);

/* The kind of stdout or stderr, asked for once in the process. */
static inline enum nl_cfile_kind nl_cfile_std_kind(FILE *f);
/*
 * For whole pieces of output to stdout or stderr: stdio's lock or, where the stream can sleep, the
 * turn.
 */
void nl_cfile_whole(FILE *f);
void nl_cfile_end_whole(FILE *f);

/*
 * Whether reading (writing) would go on at once; an error or the end of the stream counts.  Where
 * the system cannot tell it is true.  A console of Windows has nothing before somebody reads: a
 * thread is sent to do so.
 */
bool nl_cfile_can_read(FILE *f);
bool nl_cfile_can_write(FILE *f);
/* Sleeps until it would. */
void nl_cfile_wait_read(FILE *f);
void nl_cfile_wait_write(FILE *f);

/* Bytes pass as they are; elsewhere than on Windows they do so anyway. */
void nl_cfile_set_binary(FILE *f);

/*
 * Stdio's buffer is empty, and nl_cfile_can_read: has stdio fill it.  1: it has something; 0: the
 * end of the stream; or -errno.
 */
int nl_cfile_fill(FILE *f);

/* A duplicate of its descriptor, closed in children, that a reactor can watch, or -1. */
int nl_cfile_dup(FILE *f);

/* Opened for reading. */
bool nl_cfile_reads(FILE *f);
/* Input that stdio has in its buffer: the bytes, which fread takes; NULL and 0 for none. */
const char *nl_cfile_peek(FILE *f, size_t *n);
/* Output that stdio has in its buffer. */
size_t nl_cfile_pending(FILE *f);
/*
 * How many bytes fwrite would only put into the buffer; 0 for a stream without one, or that is
 * written by lines.
 */
size_t nl_cfile_room(FILE *f);
bool nl_cfile_by_lines(FILE *f);

/* What scanf would read as a number: how many bytes it would take, and whether it is one. */
bool nl_cfile_scan_number(const char *p, size_t n, double *number, size_t *used);

/* The inside of nl_cfile_std_kind; relaxed: each thread that asks gets the same answer. */
extern atomic_int nl_cfile_std_kinds[2];

static inline enum nl_cfile_kind nl_cfile_std_kind(FILE *f)
{
    atomic_int *kind = &nl_cfile_std_kinds[f == stderr];
    int k = atomic_load_explicit(kind, memory_order_relaxed);
    if (nl_unlikely(k == NL_CFILE_UNKNOWN)) {
        k = (int)nl_cfile_kind(f);
        atomic_store_explicit(kind, k, memory_order_relaxed);
    }
    return (enum nl_cfile_kind)k;
}

#endif

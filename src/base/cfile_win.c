/*
 * cfile_win.c - see cfile.h.  The buffer's inside is msvcrt's.
 *
 * What Windows does not tell: whether a write to a pipe would sleep, so every write counts as one
 * that may; and when a console has a line, since it makes one, and shows what is typed, only while
 * somebody reads.  So a wait for the console is the read: the line is kept until stdio asks for it.
 */
#include "base/cfile.h"

#include <ctype.h>
#include <fcntl.h>
#include <io.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>

#include "base/alloc.h"
#include "base/os.h"
#include "base/wide.h"

#ifdef _UCRT
#error "the inside of a FILE is known for msvcrt only"
#endif

/* Whether a pipe that had nothing has something now; Windows has no call that waits for that. */
#define PIPE_LOOK_MAX_MS 16

/* --- Kinds ------------------------------------------------------------------------------------ */

static HANDLE handle_of(FILE *f)
{
    return (HANDLE)_get_osfhandle(_fileno(f));
}

static bool is_console(HANDLE h)
{
    DWORD mode;
    return GetFileType(h) == FILE_TYPE_CHAR && GetConsoleMode(h, &mode);
}

enum nl_cfile_kind nl_cfile_kind(FILE *f)
{
    HANDLE h = handle_of(f);
    return is_console(h) || GetFileType(h) == FILE_TYPE_PIPE ? NL_CFILE_TTY : NL_CFILE_PLAIN;
}

bool nl_cfile_is_fifo(const char *path)
{
    (void)path;
    return false; /* a named pipe has its server, or cannot be opened */
}

/* --- Locks and turns -------------------------------------------------------------------------- */

bool nl_cfile_try_lock(FILE *f)
{
    nl_cfile_lock(f); /* msvcrt has no other way; who sleeps with it has said so by the turn */
    return true;
}

void nl_cfile_lock(FILE *f)
{
    _lock_file(f);
}

void nl_cfile_unlock(FILE *f)
{
    _unlock_file(f);
}

size_t nl_cfile_put(FILE *f, const char *p, size_t n)
{
    return fwrite(p, 1, n, f);
}

static SRWLOCK *turn_of(const FILE *f)
{
    static SRWLOCK in = SRWLOCK_INIT, out = SRWLOCK_INIT, err = SRWLOCK_INIT;
    return f == stdin ? &in : f == stdout ? &out : f == stderr ? &err : NULL;
}

bool nl_cfile_try_turn(FILE *f)
{
    SRWLOCK *m = turn_of(f);
    return !m || TryAcquireSRWLockExclusive(m);
}

void nl_cfile_turn(FILE *f)
{
    SRWLOCK *m = turn_of(f);
    if (m) {
        AcquireSRWLockExclusive(m);
    }
}

void nl_cfile_end_turn(FILE *f)
{
    SRWLOCK *m = turn_of(f);
    if (m) {
        ReleaseSRWLockExclusive(m);
    }
}

atomic_int nl_cfile_std_kinds[2];

void nl_cfile_whole(FILE *f)
{
    if (nl_cfile_std_kind(f) == NL_CFILE_PLAIN) {
        nl_cfile_lock(f);
    } else {
        nl_cfile_turn(f);
    }
}

void nl_cfile_end_whole(FILE *f)
{
    if (nl_cfile_std_kind(f) == NL_CFILE_PLAIN) {
        nl_cfile_unlock(f);
    } else {
        nl_cfile_end_turn(f);
    }
}

/* --- The console ------------------------------------------------------------------------------ */

/* The line that was read and not yet taken.  A thread that reads has the lock meanwhile. */
static struct {
    SRWLOCK lock;
    char *text;
    size_t n, at;
    bool ended;     /* Ctrl-Z and Enter, or the console has gone */
    bool is_waited; /* a thread reads, or is about to */
} console = {.lock = SRWLOCK_INIT};

static bool console_has_input(void)
{
    return console.at < console.n || console.ended;
}

/* As stdio's text mode hands it on: with "\n" as the end. */
static void keep_line(const wchar_t *line)
{
    nl_free(console.text);
    console.text = nl_to_utf8(line);
    console.n = strlen(console.text);
    console.at = 0;
    if (console.n > 1 && memcmp(console.text + console.n - 2, "\r\n", 2) == 0) {
        console.text[--console.n - 1] = '\n';
    }
}

static void console_wait(void *of)
{
    HANDLE h = of;
    wchar_t line[4096];
    DWORD n = 0;
    AcquireSRWLockExclusive(&console.lock);
    while (!console_has_input()) {
        SetLastError(0);
        if (!ReadConsoleW(h, line, nl_countof(line) - 1, &n, NULL)) {
            console.ended = true;
        } else if (n > 0) {
            line[n] = 0;
            console.ended = line[0] == 26;
            if (!console.ended) {
                keep_line(line);
            }
        } else if (GetLastError() != ERROR_OPERATION_ABORTED) { /* that is Ctrl-C */
            console.ended = true;
        }
    }
    console.is_waited = false;
    ReleaseSRWLockExclusive(&console.lock);
}

/* Nothing is there before somebody reads, so a thread is sent to read. */
static bool console_is_ready(HANDLE h)
{
    bool ready = TryAcquireSRWLockExclusive(&console.lock);
    if (ready) {
        ready = console_has_input();
        if (!ready && !console.is_waited) {
            console.is_waited = nl_thread_start(NULL, "nl-console", console_wait, h) == 0;
            ready = !console.is_waited; /* then the read itself sleeps */
        }
        ReleaseSRWLockExclusive(&console.lock);
    }
    return ready;
}

/* Moves what was read into stdio's buffer. */
static int console_fill(FILE *f)
{
    int result = -EAGAIN;
    console_wait(handle_of(f)); /* has a line, as a rule */
    if (!f->_base) {
        setvbuf(f, NULL, _IOFBF, BUFSIZ);
    }
    AcquireSRWLockExclusive(&console.lock);
    if (console.at < console.n) {
        size_t n = console.n - console.at, room = (size_t)f->_bufsiz;
        n = n < room ? n : room;
        memcpy(f->_base, console.text + console.at, n);
        console.at += n;
        f->_ptr = f->_base;
        f->_cnt = (int)n;
        f->_flag |= _IOREAD;
        result = 1;
    } else if (console.ended) {
        console.ended = false;
        result = 0;
    }
    ReleaseSRWLockExclusive(&console.lock);
    return result;
}

/* --- Readiness -------------------------------------------------------------------------------- */

bool nl_cfile_can_read(FILE *f)
{
    HANDLE h = handle_of(f);
    DWORD there = 0;
    if (is_console(h)) {
        return console_is_ready(h);
    }
    /* Fails at the end of the pipe's input. */
    return GetFileType(h) != FILE_TYPE_PIPE || !PeekNamedPipe(h, NULL, 0, NULL, &there, NULL) || there > 0;
}

bool nl_cfile_can_write(FILE *f)
{
    (void)f;
    return true;
}

void nl_cfile_wait_read(FILE *f)
{
    HANDLE h = handle_of(f);
    if (is_console(h)) {
        console_wait(h);
        return;
    }
    /* A read of zero bytes would sleep, and with it each other call for the handle. */
    for (DWORD ms = 1; !nl_cfile_can_read(f); ms = ms < PIPE_LOOK_MAX_MS ? 2 * ms : ms) {
        Sleep(ms);
    }
}

void nl_cfile_wait_write(FILE *f)
{
    (void)f;
}

void nl_cfile_set_binary(FILE *f)
{
    _setmode(_fileno(f), _O_BINARY);
}

int nl_cfile_fill(FILE *f)
{
    if (is_console(handle_of(f))) {
        return console_fill(f);
    }
    clearerr(f);
    errno = 0;
    int c = getc(f);
    if (c == EOF) {
        return ferror(f) ? -errno : 0;
    }
    ungetc(c, f);
    return 1;
}

int nl_cfile_dup(FILE *f)
{
    (void)f;
    return -1; /* no port can watch a handle that was opened without FILE_FLAG_OVERLAPPED */
}

/* --- Buffers ---------------------------------------------------------------------------------- */

bool nl_cfile_reads(FILE *f)
{
    return (f->_flag & (_IOREAD | _IORW)) != 0;
}

const char *nl_cfile_peek(FILE *f, size_t *n)
{
    *n = f->_flag & _IOREAD && f->_cnt > 0 ? (size_t)f->_cnt : 0;
    return *n ? f->_ptr : NULL;
}

size_t nl_cfile_pending(FILE *f)
{
    return f->_flag & _IOWRT && f->_base && f->_ptr > f->_base ? (size_t)(f->_ptr - f->_base) : 0;
}

bool nl_cfile_by_lines(FILE *f)
{
    (void)f;
    return false; /* msvcrt has no such streams */
}

size_t nl_cfile_room(FILE *f)
{
    return f->_flag & _IOWRT && f->_base && !(f->_flag & _IONBF) && f->_cnt > 0 ? (size_t)f->_cnt : 0;
}

/*
 * How much mingw's scanf, which LuaJIT reads files with, takes of what is no number: what one may
 * begin with; of a word the first wrong letter, too.
 */
static size_t taken_in_vain(const char *text)
{
    size_t n = strspn(text, " \t\n\v\f\r");
    n += text[n] == '+' || text[n] == '-';
    int c = tolower((unsigned char)text[n]);
    const char *word = c == 'n' ? "nan" : c == 'i' ? "infinity" : NULL;
    if (word) {
        while (*word && tolower((unsigned char)text[n]) == *word) {
            n++;
            word++;
        }
        return n + (text[n] != 0);
    }
    return c == '0' ? n + 2 : n + (c == '.'); /* "0x" and no digit */
}

bool nl_cfile_scan_number(const char *p, size_t n, double *number, size_t *used)
{
    char *text = nl_calloc(n + 1);
    int taken = 0;
    memcpy(text, p, n);
    bool is_number = sscanf(text, "%lf%n", number, &taken) == 1;
    *used = is_number ? (size_t)taken : taken_in_vain(text);
    nl_free(text);
    return is_number;
}

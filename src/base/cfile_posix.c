/*
 * cfile_posix.c - see cfile.h.  The buffer's inside is glibc's, musl's, OpenBSD's, or that of
 * the other BSDs and of macOS.
 */
#include "base/cfile.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>
#if defined(__linux__) || defined(__OpenBSD__)
#include <stdio_ext.h>
#endif

/* --- Kinds ------------------------------------------------------------------------------------ */

enum nl_cfile_kind nl_cfile_kind(FILE *f)
{
    struct stat st;
    int fd = fileno(f);
    if (fd < 0 || fstat(fd, &st) != 0) {
        return NL_CFILE_PLAIN;
    }
    if (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)) {
        return NL_CFILE_PIPE;
    }
    return S_ISCHR(st.st_mode) && isatty(fd) ? NL_CFILE_TTY : NL_CFILE_PLAIN;
}

bool nl_cfile_is_fifo(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISFIFO(st.st_mode);
}

FILE *nl_cfile_popen(const char *command, const char *mode)
{
    return popen(command, mode); /* process_posix.c's */
}

int nl_cfile_pclose(FILE *f)
{
    return pclose(f);
}

/* --- Locks and turns -------------------------------------------------------------------------- */

bool nl_cfile_try_lock(FILE *f)
{
    return ftrylockfile(f) == 0;
}

void nl_cfile_lock(FILE *f)
{
    flockfile(f);
}

void nl_cfile_unlock(FILE *f)
{
    funlockfile(f);
}

size_t nl_cfile_put(FILE *f, const char *p, size_t n)
{
#ifdef __linux__
    return fwrite_unlocked(p, 1, n, f);
#else
    return fwrite(p, 1, n, f);
#endif
}

static pthread_mutex_t *turn_of(const FILE *f)
{
    static pthread_mutex_t in = PTHREAD_MUTEX_INITIALIZER, out = PTHREAD_MUTEX_INITIALIZER,
                           err = PTHREAD_MUTEX_INITIALIZER;
    return f == stdin ? &in : f == stdout ? &out : f == stderr ? &err : NULL;
}

bool nl_cfile_try_turn(FILE *f)
{
    pthread_mutex_t *m = turn_of(f);
    return !m || pthread_mutex_trylock(m) == 0;
}

void nl_cfile_turn(FILE *f)
{
    pthread_mutex_t *m = turn_of(f);
    if (m) {
        pthread_mutex_lock(m);
    }
}

void nl_cfile_end_turn(FILE *f)
{
    pthread_mutex_t *m = turn_of(f);
    if (m) {
        pthread_mutex_unlock(m);
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

/* --- Readiness -------------------------------------------------------------------------------- */

static bool poll_one(FILE *f, short events, int timeout)
{
    struct pollfd p = {fileno(f), events, 0};
    int n;
    do {
        n = poll(&p, 1, timeout);
    } while (n < 0 && errno == EINTR);
    return n != 0;
}

bool nl_cfile_can_read(FILE *f)
{
    return poll_one(f, POLLIN, 0);
}

bool nl_cfile_can_write(FILE *f)
{
    return poll_one(f, POLLOUT, 0);
}

void nl_cfile_wait_read(FILE *f)
{
    poll_one(f, POLLIN, -1);
}

void nl_cfile_wait_write(FILE *f)
{
    poll_one(f, POLLOUT, -1);
}

void nl_cfile_set_binary(FILE *f)
{
    (void)f;
}

int nl_cfile_fill(FILE *f)
{
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
    return fcntl(fileno(f), F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
}

/* --- Buffers ---------------------------------------------------------------------------------- */

bool nl_cfile_reads(FILE *f)
{
    int flags = fcntl(fileno(f), F_GETFL);
    return flags >= 0 && (flags & O_ACCMODE) != O_WRONLY;
}

#if defined(__GLIBC__)

const char *nl_cfile_peek(FILE *f, size_t *n)
{
    *n = (size_t)(f->_IO_read_end - f->_IO_read_ptr);
    return *n ? f->_IO_read_ptr : NULL;
}

#elif defined(__linux__) || defined(__OpenBSD__)

const char *__freadptr(FILE *f, size_t *n); /* musl has it, but in no header */

const char *nl_cfile_peek(FILE *f, size_t *n)
{
    const char *p = __freadptr(f, n);
    *n = p ? *n : 0;
    return p;
}

#else

const char *nl_cfile_peek(FILE *f, size_t *n)
{
    *n = f->_r > 0 ? (size_t)f->_r : 0;
    return *n ? (const char *)f->_p : NULL;
}

#endif

#ifdef __linux__

size_t nl_cfile_pending(FILE *f)
{
    return __fpending(f);
}

bool nl_cfile_by_lines(FILE *f)
{
    return __flbf(f) != 0;
}

size_t nl_cfile_room(FILE *f)
{
    size_t size = __fbufsize(f), used = __fpending(f);
    return !__flbf(f) && size > 1 && size > used ? size - used : 0;
}

#elif defined(__OpenBSD__)

size_t nl_cfile_pending(FILE *f)
{
    return __fpending(f);
}

/* It tells no more.  Unless a script has asked for something else, terminals are. */
bool nl_cfile_by_lines(FILE *f)
{
    return isatty(fileno(f)) == 1;
}

size_t nl_cfile_room(FILE *f)
{
    (void)f;
    return 0;
}

#else

size_t nl_cfile_pending(FILE *f)
{
    return f->_flags & __SWR && f->_bf._base ? (size_t)(f->_p - f->_bf._base) : 0;
}

bool nl_cfile_by_lines(FILE *f)
{
    return (f->_flags & __SLBF) != 0;
}

size_t nl_cfile_room(FILE *f)
{
    return f->_flags & __SWR && !(f->_flags & (__SLBF | __SNBF)) && f->_w > 0 ? (size_t)f->_w : 0;
}

#endif

/* --- Numbers ---------------------------------------------------------------------------------- */

bool nl_cfile_scan_number(const char *p, size_t n, double *number, size_t *used)
{
    FILE *f = n > 0 ? fmemopen((void *)(uintptr_t)p, n, "r") : NULL;
    bool is_number = f && fscanf(f, "%lf", number) == 1;
    long taken = f ? ftell(f) : 0;
    if (f) {
        fclose(f);
    }
    *used = taken > 0 ? (size_t)taken : 0;
    return is_number;
}

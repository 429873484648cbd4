/*
 * os.h - threads, clocks, processors, memory and files of the system.
 *
 * Purpose:   what every layer needs of the system; one implementation per system (os_posix.c,
 *            os_win.c).  A platform also needs cfile.h, interrupt.h, process.h and signals.h, and
 *            in reactor/ addr.h, sock.h and reactor.h.
 * Threads:   any thread may call any of it.
 * Ownership: what a _new or _start function returns is the caller's, until _free or _join.
 */
#ifndef NL_OS_H
#define NL_OS_H

#include "base/base.h"

/* What differs in names; all text is UTF-8. */
#ifdef _WIN32
#define NL_OS_WINDOWS true
#define NL_NULL_FILE "NUL"
#else
#define NL_OS_WINDOWS false
#define NL_NULL_FILE "/dev/null"
#endif
/* Debian's folder for libraries of this kind of machine, with a "/" in front; "": there is none. */
#if defined(__linux__) && defined(__x86_64__)
#define NL_MULTIARCH "/x86_64-linux-gnu"
#elif defined(__linux__) && defined(__aarch64__)
#define NL_MULTIARCH "/aarch64-linux-gnu"
#else
#define NL_MULTIARCH ""
#endif

/*
 * Nanoseconds of a monotonic clock with an arbitrary start; never goes back.  All deadlines are its
 * times.  nl_cond_wait and nl_reactor_poll must count by the same clock.
 */
int64_t nl_now_ns(void);

/* Wall clock for log lines: seconds and microseconds since 1970. */
void nl_wall_clock(int64_t *sec, int *usec);

/* Processors this process may run on (its affinity mask where there is one); at least 1. */
int nl_ncpu(void);

/*
 * Threads.  A stack is twice as long as the main thread's (RLIMIT_STACK, between 8 and 64 MiB; 8 on
 * Windows) and 8 MiB, with a guard page below: pages that are not touched cost nothing.  name is
 * cut to 15 bytes.
 */
typedef struct nl_thread nl_thread;
/* Starts fn(arg).  0 and *out, or -errno.  out NULL: nobody waits for its end. */
int nl_thread_start(nl_thread **out, const char *name, void (*fn)(void *), void *arg);
/* Waits for its end and frees it. */
void nl_thread_join(nl_thread *t);
/*
 * Binds the calling thread to the i-th processor of the process's own set.  0 or -errno (-EINVAL:
 * there is no such processor).
 */
int nl_thread_pin(int cpu_index);
/* Undoes it, around the start of a child, which would be bound as well.  The index, or -1. */
int nl_thread_unpin(void);
/*
 * Where nl_thread_sleeps looks for the calling thread, until nl_thread_unwatch; it may hold a
 * descriptor.  -1: the system cannot tell.
 */
int64_t nl_thread_watch(void);
void nl_thread_unwatch(int64_t watch);
/*
 * That thread sleeps in the system at the moment; waiting for a processor does not count.  False
 * where the system cannot tell, and after the thread's end.
 */
bool nl_thread_sleeps(int64_t watch);
/* Gives up the rest of the time slice. */
void nl_thread_yield(void);
/* Bytes left on the calling thread's stack; 0: not known.  A thread's first call is slow. */
size_t nl_stack_left(void);

/*
 * Writes all of it to standard error, in one system call where the system takes it at once.  What
 * other threads write this way does not come between.
 */
void nl_stderr_write(const void *p, size_t n);

/* 64 bits from the system's generator of random numbers. */
uint64_t nl_os_random(void);

/*
 * Memory of the system: n bytes (a power of two, at least a page), aligned to n, zeroed.  NULL when
 * there is none.
 */
void *nl_region_map(size_t n);
void nl_region_unmap(void *p, size_t n);
/*
 * Whole pages of it are not wanted for now: the system takes them back. Touched again they are
 * zeroed.
 */
void nl_region_release(void *p, size_t n);
size_t nl_page_size(void);
/* Whole pages of it will soon be written to: takes them at once where the system can. */
void nl_region_populate(void *p, size_t n);

/* Where needle is in hay, or NULL; an empty one is nowhere. */
const void *nl_memmem(const void *hay, size_t n, const void *needle, size_t m);

/*
 * What tells one state of a file from another.  changed_ns is the time at which the system has
 * last seen it change, which no program can set; mtime_ns where a system keeps none.  Both are
 * wall-clock time, as coarse as the file system's.
 */
typedef struct nl_file_stamp {
    int64_t mtime_ns, changed_ns, size;
    uint64_t ino, dev;
} nl_file_stamp;
/* 0 or -errno; -EISDIR for a directory. */
int nl_file_stamp_get(const char *path, nl_file_stamp *out);

/* Mutex and condition: for slow paths only. */
typedef struct nl_mutex nl_mutex;
nl_mutex *nl_mutex_new(void);
void nl_mutex_free(nl_mutex *m);
void nl_mutex_lock(nl_mutex *m);
void nl_mutex_unlock(nl_mutex *m);
typedef struct nl_cond nl_cond;
nl_cond *nl_cond_new(void);
void nl_cond_free(nl_cond *c);
/* Waits until signalled or timeout_ns has passed (< 0: for ever); spurious returns happen. */
void nl_cond_wait(nl_cond *c, nl_mutex *m, int64_t timeout_ns);
void nl_cond_signal(nl_cond *c);
void nl_cond_broadcast(nl_cond *c);

#endif

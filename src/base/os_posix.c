/*
 * os_posix.c - os.h on Linux, the BSDs and macOS.
 */
#include "base/alloc.h"
#include "base/cfile.h"
#include "base/os.h"
#include "base/process.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif
#ifdef __APPLE__
#include <sys/random.h>
#endif
#if defined(__FreeBSD__) || defined(__OpenBSD__)
#include <pthread_np.h>
#endif

#define STACK_MIN ((size_t)8 << 20)
#define STACK_MAX ((size_t)64 << 20)
/* A sanitizer keeps a few hundred KiB at the upper end of a stack, and its frames are longer. */
#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__) || __has_feature(thread_sanitizer) ||      \
    __has_feature(address_sanitizer)
#define STACK_FACTOR 4
#else
#define STACK_FACTOR 1
#endif
#define NS_PER_S 1000000000

/* --- Clocks ----------------------------------------------------------------------------------- */

/* On macOS the clock by which kevent and conditions count; CLOCK_MONOTONIC is another one there. */
#ifdef __APPLE__
#define CLOCK CLOCK_UPTIME_RAW
#else
#define CLOCK CLOCK_MONOTONIC
#endif

int64_t nl_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK, &ts);
    return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

void nl_wall_clock(int64_t *sec, int *usec)
{
    struct timeval tv;
    gettimeofday(&tv, NULL);
    *sec = tv.tv_sec;
    *usec = (int)tv.tv_usec;
}

/* --- Files ------------------------------------------------------------------------------------ */

static int64_t timespec_ns(struct timespec t)
{
    return (int64_t)t.tv_sec * NS_PER_S + t.tv_nsec;
}

int nl_file_stamp_get(const char *path, nl_file_stamp *out)
{
    struct stat st;
    if (stat(path, &st) < 0) {
        return -errno;
    }
    if (S_ISDIR(st.st_mode)) {
        return -EISDIR;
    }
#ifdef __APPLE__
    const struct timespec modified = st.st_mtimespec, changed = st.st_ctimespec;
#else
    const struct timespec modified = st.st_mtim, changed = st.st_ctim;
#endif
    *out = (nl_file_stamp){timespec_ns(modified), timespec_ns(changed), (int64_t)st.st_size,
                           (uint64_t)st.st_ino, (uint64_t)st.st_dev};
    return 0;
}

/* --- Memory ----------------------------------------------------------------------------------- */

static void *map(size_t n)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void *nl_region_map(size_t n)
{
    char *p = map(n);
    if (p && ((uintptr_t)p & (n - 1))) {
        munmap(p, n);
        p = map(2 * n);
        if (p) {
            size_t before = (size_t)(-(uintptr_t)p & (n - 1));
            if (before) {
                munmap(p, before);
            }
            munmap(p + before + n, n - before);
            p += before;
        }
    }
    return p;
}

void nl_region_populate(void *p, size_t n)
{
#ifdef MADV_POPULATE_WRITE
    /* Linux from 5.14 on; without it each page comes when it is touched. */
    madvise(p, n, MADV_POPULATE_WRITE);
#else
    (void)p;
    (void)n;
#endif
}

void nl_region_release(void *p, size_t n)
{
#ifdef __linux__
    madvise(p, n, MADV_DONTNEED);
#else
    /* Elsewhere that may keep what is in them. */
    if (mmap(p, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) {
        memset(p, 0, n);
    }
#endif
}

size_t nl_page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

void nl_region_unmap(void *p, size_t n)
{
    munmap(p, n);
}

const void *nl_memmem(const void *hay, size_t n, const void *needle, size_t m)
{
    return memmem(hay, n, needle, m); /* linear in all cases */
}

/* --- Processors ------------------------------------------------------------------------------- */

#ifdef __linux__

/*
 * The mask as it was when first asked for: later a worker may have bound itself, and the
 * kernel then tells that thread only of the one processor it is bound to.  Never freed.
 */
static pthread_once_t cpu_once = PTHREAD_ONCE_INIT;
static cpu_set_t *cpu_all;
static size_t cpu_size; /* of a mask in bytes; 0: the kernel does not tell */
static int cpu_count;
static _Thread_local int pinned_to = -1;

static void cpu_init(void)
{
    /* The kernel refuses a mask shorter than its own (EINVAL): try longer ones. */
    for (int max = 1024; max <= 1024 * 1024; max *= 2) {
        cpu_set_t *set = CPU_ALLOC((size_t)max);
        size_t size = CPU_ALLOC_SIZE((size_t)max);
        if (set && sched_getaffinity(getpid(), size, set) == 0) {
            cpu_all = set;
            cpu_size = size;
            cpu_count = CPU_COUNT_S(size, set);
            return;
        }
        CPU_FREE(set);
        if (errno != EINVAL) {
            return;
        }
    }
}

int nl_ncpu(void)
{
    pthread_once(&cpu_once, cpu_init);
    return cpu_count > 0 ? cpu_count : 1;
}

int nl_thread_pin(int cpu_index)
{
    pthread_once(&cpu_once, cpu_init);
    if (cpu_index < 0 || cpu_index >= cpu_count) {
        return -EINVAL;
    }
    size_t cpu = 0;
    for (int before = cpu_index; !CPU_ISSET_S(cpu, cpu_size, cpu_all) || before-- > 0; cpu++) {
    }
    cpu_set_t *one = (cpu_set_t *)nl_calloc(cpu_size);
    CPU_SET_S(cpu, cpu_size, one);
    int err = pthread_setaffinity_np(pthread_self(), cpu_size, one);
    nl_free(one);
    if (!err) {
        pinned_to = cpu_index;
    }
    return -err;
}

int nl_thread_unpin(void)
{
    int was = pinned_to;
    if (was >= 0 && pthread_setaffinity_np(pthread_self(), cpu_size, cpu_all) == 0) {
        pinned_to = -1;
    }
    return was;
}

#else

int nl_ncpu(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 && n < INT_MAX ? (int)n : 1;
}

int nl_thread_pin(int cpu_index)
{
    return cpu_index < 0 || cpu_index >= nl_ncpu() ? -EINVAL : -ENOTSUP;
}

int nl_thread_unpin(void)
{
    return -1;
}

#endif

uint64_t nl_os_random(void)
{
    uint64_t n = 0;
    if (getentropy(&n, sizeof(n))) { /* there is none: at least not the same in each process */
        n = (uint64_t)nl_now_ns() * 0x9e3779b97f4a7c15u ^ (uint64_t)getpid();
    }
    return n;
}

/* --- Threads ---------------------------------------------------------------------------------- */

struct nl_thread {
    pthread_t id;
    bool detached;
    void (*fn)(void *);
    void *arg;
    int starter_pinned_to; /* the new thread has inherited that; -1: not pinned */
    char name[16];
};

static void *thread_main(void *arg)
{
    nl_thread *t = (nl_thread *)arg;
#ifdef __linux__
    pinned_to = t->starter_pinned_to;
    nl_thread_unpin();
#endif
#if defined(__linux__) || defined(__NetBSD__)
#ifdef __NetBSD__
    pthread_setname_np(pthread_self(), "%s", t->name);
#else
    pthread_setname_np(pthread_self(), t->name);
#endif
#elif defined(__APPLE__)
    pthread_setname_np(t->name);
#elif defined(__FreeBSD__) || defined(__OpenBSD__)
    pthread_set_name_np(pthread_self(), t->name);
#endif
    t->fn(t->arg);
    if (t->detached) {
        nl_free(t);
    }
    return NULL;
}

/*
 * Twice as much as the main thread can have, and STACK_MIN: what recurses on the main thread of a
 * plain interpreter does so on every thread here, where frames may be longer and a reserve is kept
 * (lua/run/co.h).
 */
static size_t stack_size(void)
{
    struct rlimit lim;
    size_t n = STACK_MIN;
    if (getrlimit(RLIMIT_STACK, &lim) == 0 && (uint64_t)lim.rlim_cur > n) { /* or RLIM_INFINITY */
        n = (uint64_t)lim.rlim_cur < STACK_MAX ? (size_t)lim.rlim_cur & ~(size_t)0xffff : STACK_MAX;
    }
    return (2 * n + STACK_MIN) * STACK_FACTOR;
}

int nl_thread_start(nl_thread **out, const char *name, void (*fn)(void *), void *arg)
{
    pthread_attr_t attr;
    nl_thread *t = (nl_thread *)nl_calloc(sizeof(*t));
    t->fn = fn;
    t->arg = arg;
#ifdef __linux__
    t->starter_pinned_to = pinned_to;
#endif
    t->detached = !out;
    snprintf(t->name, sizeof(t->name), "%s", name);

    int err = pthread_attr_init(&attr);
    if (err) {
        goto fail;
    }
    if (!out) {
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    }
    /* Where address space is short, a thread with a short stack is better than none. */
    for (size_t size = stack_size(); size >= STACK_MIN; size /= 2) {
        err = pthread_attr_setstacksize(&attr, size);
        err = err ? err : pthread_create(&t->id, &attr, thread_main, t);
        if (err != EAGAIN) {
            break;
        }
    }
    pthread_attr_destroy(&attr);
    if (err) {
        goto fail;
    }
    if (out) {
        *out = t;
    }
    return 0;

fail:
    nl_free(t);
    return -err;
}

void nl_thread_join(nl_thread *t)
{
    pthread_join(t->id, NULL);
    nl_free(t);
}

#ifdef __linux__

int64_t nl_thread_watch(void)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%lld/stat", (long long)syscall(SYS_gettid));
    return nl_fd_up(open(path, O_RDONLY | O_CLOEXEC));
}

void nl_thread_unwatch(int64_t watch)
{
    if (watch >= 0) {
        close((int)watch);
    }
}

bool nl_thread_sleeps(int64_t watch)
{
    /* "1234 (name) S …": the name may have parentheses of its own.  -1 is no descriptor. */
    char text[128];
    ssize_t n = pread((int)watch, text, sizeof text - 1, 0); /* made anew for each read from 0 */
    text[n > 0 ? n : 0] = 0;
    const char *end = strrchr(text, ')');
    return end && end[1] == ' ' && (end[2] == 'S' || end[2] == 'D');
}

#else

int64_t nl_thread_watch(void)
{
    return -1;
}

void nl_thread_unwatch(int64_t watch)
{
    (void)watch;
}

bool nl_thread_sleeps(int64_t watch)
{
    (void)watch;
    return false;
}

#endif

void nl_thread_yield(void)
{
    sched_yield();
}

/* The lowest address of the calling thread's stack; the frame where the system cannot tell. */
static uintptr_t stack_end(uintptr_t frame)
{
#ifdef __APPLE__
    (void)frame;
    return (uintptr_t)pthread_get_stackaddr_np(pthread_self()) - pthread_get_stacksize_np(pthread_self());
#elif defined(__linux__) || defined(__FreeBSD__)
    void *low = (void *)frame;
    size_t size;
    pthread_attr_t attr;
#ifdef __linux__
    int err = pthread_getattr_np(pthread_self(), &attr);
#else
    int err = pthread_attr_init(&attr);
    err = err ? err : pthread_attr_get_np(pthread_self(), &attr);
#endif
    if (!err) {
        pthread_attr_getstack(&attr, &low, &size);
        pthread_attr_destroy(&attr);
    }
    return (uintptr_t)low;
#else
    return frame;
#endif
}

size_t nl_stack_left(void)
{
    static _Thread_local uintptr_t end; /* 0: not asked for yet */
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    if (nl_unlikely(end == 0)) {
        end = stack_end(here);
    }
    return here > end ? here - end : 0;
}

/* --- Standard error --------------------------------------------------------------------------- */

void nl_stderr_write(const void *p, size_t n)
{
    const char *s = (const char *)p;
    /* The lock that io.stderr:write takes: neither comes between what the other writes. */
    nl_cfile_whole(stderr);
    while (n > 0) {
        ssize_t done = write(STDERR_FILENO, s, n);
        if (done >= 0) {
            s += done;
            n -= (size_t)done;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            /* Another process that shares the terminal or pipe has made it non-blocking. */
            struct pollfd pfd = {STDERR_FILENO, POLLOUT, 0};
            poll(&pfd, 1, -1);
        } else if (errno != EINTR) {
            break; /* closed, or a full disk: a log line is not worth more */
        }
    }
    nl_cfile_end_whole(stderr);
}

/* --- Mutex and condition ---------------------------------------------------------------------- */

struct nl_mutex {
    pthread_mutex_t m;
};

struct nl_cond {
    pthread_cond_t c;
};

/* These fail only on a misuse, which would otherwise go unnoticed until something else breaks. */
#define MUST(call) nl_assert((call) == 0, "a thread primitive was misused")

nl_mutex *nl_mutex_new(void)
{
    nl_mutex *m = (nl_mutex *)nl_malloc(sizeof(*m));
#ifdef PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP
    /* Spins a little before it sleeps: the sections are short, and a sleep costs 35 µs and more. */
    pthread_mutexattr_t attr;
    MUST(pthread_mutexattr_init(&attr));
    MUST(pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP));
    MUST(pthread_mutex_init(&m->m, &attr));
    MUST(pthread_mutexattr_destroy(&attr));
#else
    MUST(pthread_mutex_init(&m->m, NULL));
#endif
    return m;
}

void nl_mutex_free(nl_mutex *m)
{
    MUST(pthread_mutex_destroy(&m->m));
    nl_free(m);
}

void nl_mutex_lock(nl_mutex *m)
{
    MUST(pthread_mutex_lock(&m->m));
}

void nl_mutex_unlock(nl_mutex *m)
{
    MUST(pthread_mutex_unlock(&m->m));
}

nl_cond *nl_cond_new(void)
{
    nl_cond *c = (nl_cond *)nl_malloc(sizeof(*c));
#ifdef __APPLE__
    MUST(pthread_cond_init(&c->c, NULL)); /* has a relative wait instead of a choice of clocks */
#else
    pthread_condattr_t attr;
    MUST(pthread_condattr_init(&attr));
    MUST(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC));
    MUST(pthread_cond_init(&c->c, &attr));
    MUST(pthread_condattr_destroy(&attr));
#endif
    return c;
}

void nl_cond_free(nl_cond *c)
{
    MUST(pthread_cond_destroy(&c->c));
    nl_free(c);
}

void nl_cond_wait(nl_cond *c, nl_mutex *m, int64_t timeout_ns)
{
    if (timeout_ns < 0) {
        MUST(pthread_cond_wait(&c->c, &m->m));
        return;
    }
    int err;
#ifdef __APPLE__
    struct timespec ts = {(time_t)(timeout_ns / NS_PER_S), (long)(timeout_ns % NS_PER_S)};
    err = pthread_cond_timedwait_relative_np(&c->c, &m->m, &ts);
#else
    int64_t now = nl_now_ns();
    int64_t at = timeout_ns < INT64_MAX - now ? now + timeout_ns : INT64_MAX;
    struct timespec ts = {(time_t)(at / NS_PER_S), (long)(at % NS_PER_S)};
    err = pthread_cond_timedwait(&c->c, &m->m, &ts);
#endif
    nl_assert(err == 0 || err == ETIMEDOUT, "a condition was misused");
}

void nl_cond_signal(nl_cond *c)
{
    MUST(pthread_cond_signal(&c->c));
}

void nl_cond_broadcast(nl_cond *c)
{
    MUST(pthread_cond_broadcast(&c->c));
}

/* trim.c - see trim.h */
#include "base/trim.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "base/alloc.h"
#include "base/os.h"
#include "base/span.h"

/* It pays if so much has come free, and a quarter of the most that was in use. */
#define WORTHWHILE ((int64_t)32 << 20)

_Thread_local int64_t nl_trim_counted;

/* Relaxed throughout: they publish nothing, and a late look only delays the trimming. */
static nl_alignas_line atomic_int_fast64_t in_use;
static atomic_int_fast64_t most;  /* since the last time */
static atomic_int_fast64_t since; /* when trimming was first seen to pay; 0: it does not */
static atomic_bool running;       /* a thread trims */

int64_t nl_trim_in_use(void)
{
    return atomic_load_explicit(&in_use, memory_order_relaxed);
}

void nl_trim_add(void)
{
    int64_t n = nl_trim_counted;
    nl_trim_counted = 0;
    int64_t now = atomic_fetch_add_explicit(&in_use, n, memory_order_relaxed) + n;
    int_fast64_t top = atomic_load_explicit(&most, memory_order_relaxed);
    while (now > top && !atomic_compare_exchange_weak_explicit(&most, &top, now, memory_order_relaxed,
                                                               memory_order_relaxed)) {
    }
}

static void trim(void *arg)
{
    (void)arg;
    nl_pool_trim();
#ifdef __GLIBC__
    malloc_trim(0);
#endif
    nl_span_trim();
    nl_trim_add();
    atomic_store_explicit(&most, nl_trim_in_use(), memory_order_relaxed);
    atomic_store(&running, false);
}

void nl_trim_wait(void)
{
    while (atomic_load(&running)) {
        nl_thread_yield();
    }
}

int64_t nl_trim_when_quiet(void)
{
    int64_t top = atomic_load_explicit(&most, memory_order_relaxed), freed = top - nl_trim_in_use();
    int_fast64_t start = atomic_load_explicit(&since, memory_order_relaxed);
    if (freed < WORTHWHILE || freed < top / 4) {
        if (start) {
            atomic_store_explicit(&since, 0, memory_order_relaxed);
        }
        return -1;
    }
    int64_t now = nl_now_ns();
    if (start == 0) {
        atomic_store_explicit(&since, now, memory_order_relaxed);
        return NL_TRIM_QUIET_NS;
    }
    if (now - start < NL_TRIM_QUIET_NS) {
        return start + NL_TRIM_QUIET_NS - now;
    }
    /*
     * One of the threads that have waited for it starts one; what the last one did is seen by this
     * one.
     */
    if (!atomic_exchange(&running, true)) {
        atomic_store_explicit(&since, 0, memory_order_relaxed);
        if (nl_thread_start(NULL, "nl-trim", trim, NULL)) {
            atomic_store(&running, false); /* no thread is to be had: another time */
        }
    }
    return -1;
}

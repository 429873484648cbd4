/* Large memory: counted, and given back to the system when it was not wanted for a while. */
#include "base/alloc.h"
#include "base/os.h"
#include "base/span.h"
#include "base/trim.h"

#include <criterion/criterion.h>
#include <string.h>
#ifdef __linux__
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
#define BLOCK ((size_t)64 << 10)
#define BLOCKS (128 * MIB / BLOCK)

static void *blocks[BLOCKS];

static void take_all(void)
{
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = nl_malloc(BLOCK);
        memset(blocks[i], 1, BLOCK);
    }
}

static void free_rest(void)
{
    for (size_t i = 0; i < BLOCKS; i++) {
        nl_free(blocks[i]);
        blocks[i] = NULL;
    }
}

Test(trim, large_blocks_are_counted)
{
    int64_t before = nl_trim_in_use(), slack = 2 * NL_TRIM_STEP;
    take_all();
    int64_t taken = nl_trim_in_use() - before, all = (int64_t)(BLOCKS * BLOCK);
    cr_assert(taken > all - slack && taken < all + all / 10, "%lld", (long long)taken);
    free_rest();
    int64_t left = nl_trim_in_use() - before;
    cr_assert(left < slack && left > -slack, "%lld", (long long)left);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

static void wait_ns(int64_t ns)
{
    nanosleep(&(struct timespec){ns / 1000000000, ns % 1000000000}, NULL);
}

/* All but every 64th: what is left keeps the ends of malloc's heap apart from what is free. */
static void free_most(void)
{
    for (size_t i = 0; i < BLOCKS; i++) {
        if (i % 64) {
            nl_free(blocks[i]);
            blocks[i] = NULL;
        }
    }
}

static size_t resident(void)
{
    unsigned long total = 0, pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    cr_assert_eq(fscanf(f, "%lu %lu", &total, &pages), 2);
    fclose(f);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

Test(trim, memory_that_is_not_wanted_goes_back_after_a_while)
{
    nl_alloc_init();
    cr_assert_eq(nl_trim_when_quiet(), -1, "nothing has been freed");
    take_all();
    size_t most = resident();
    free_most();
    int64_t wait = nl_trim_when_quiet();
    cr_assert(wait > 0 && wait <= NL_TRIM_QUIET_NS);
#ifdef __GLIBC__ /* musl's malloc gives each back at once */
    cr_assert_gt(resident(), most - 40 * MIB, "not at once: it may be wanted again");
#endif
    int64_t start = nl_now_ns();
    while ((wait = nl_trim_when_quiet()) > 0) {
        wait_ns(wait);
    }
    nl_trim_wait();
    cr_assert_geq(nl_now_ns() - start, NL_TRIM_QUIET_NS - 1000000);
    cr_assert_lt(resident(), most - 100 * MIB);
    cr_assert_eq(nl_trim_when_quiet(), -1, "once");
    free_rest();
}

Test(trim, memory_that_is_wanted_again_stays)
{
    nl_alloc_init();
    take_all();
    free_most();
    cr_assert_gt(nl_trim_when_quiet(), 0);
    free_rest();
    take_all();
    cr_assert_eq(nl_trim_when_quiet(), -1);
    free_most();
    int64_t wait = nl_trim_when_quiet();
    cr_assert_gt(wait, NL_TRIM_QUIET_NS / 2, "the time begins anew");
    free_rest();
}

#endif

/* --- Spans ------------------------------------------------------------------------------------ */

#ifndef NL_POOL_IS_MALLOC

/* Pages of a span that are in memory. */
static size_t pages_of(void *p, size_t size)
{
    size_t page = nl_page_size(), n = 0;
    unsigned char in[NL_SPAN_MAX / 4096];
    cr_assert_eq(mincore(p, size, in), 0);
    for (size_t i = 0; i < size / page; i++) {
        n += in[i] & 1;
    }
    return n;
}

Test(trim, free_spans_give_their_pages_back_and_the_others_keep_them)
{
    enum { N = 300 };
    static unsigned char *span[N];
    for (size_t size = nl_page_size(); size <= NL_SPAN_MAX; size *= 2) {
        for (int i = 0; i < N; i++) {
            span[i] = nl_span_alloc(size);
            memset(span[i], i, size);
        }
        for (int i = 0; i < N; i += 2) {
            nl_span_free(span[i]);
        }
        nl_span_trim();
        for (int i = 0; i < N; i++) {
            cr_assert_eq(pages_of(span[i], size), i % 2 ? size / nl_page_size() : 0);
            for (size_t at = 0; i % 2 && at < size; at += 1021) {
                cr_assert_eq(span[i][at], i & 0xff);
            }
        }
        for (int i = 0; i < N; i += 2) {
            span[i] = nl_span_alloc(size);
            memset(span[i], i, size);
        }
        nl_span_trim();
        for (int i = 0; i < N; i++) {
            cr_assert_eq(span[i][size - 1], i & 0xff, "taken again");
            nl_span_free(span[i]);
        }
    }
}

/* One thread trims while others take, write, check and give back. */
static atomic_bool over;

static void trim_all_the_time(void *arg)
{
    (void)arg;
    while (!atomic_load(&over)) {
        nl_span_trim();
    }
}

static void use_spans(void *arg)
{
    static _Thread_local unsigned char *span[50];
    uint32_t seed = (uint32_t)(uintptr_t)arg;
    for (int i = 0; i < 20000; i++) {
        seed = seed * 1664525 + 1013904223;
        unsigned char **p = &span[(seed >> 8) % 50];
        size_t size = (size_t)4096 << (seed >> 8) % 50 % 3;
        if (*p) {
            cr_assert_eq((*p)[0], (unsigned char)(uintptr_t)arg);
            cr_assert_eq((*p)[size - 1], (unsigned char)(uintptr_t)arg);
            nl_span_free(*p);
            *p = NULL;
        } else {
            *p = nl_span_alloc(size);
            (*p)[0] = (*p)[size - 1] = (unsigned char)(uintptr_t)arg;
        }
    }
    for (int i = 0; i < 50; i++) {
        if (span[i]) {
            nl_span_free(span[i]);
        }
    }
}

Test(trim, spans_are_trimmed_while_others_use_them)
{
    nl_thread *t[4];
    atomic_store(&over, false);
    for (uintptr_t i = 0; i < 3; i++) {
        cr_assert_eq(nl_thread_start(&t[i], "uses", use_spans, (void *)(i + 1)), 0);
    }
    cr_assert_eq(nl_thread_start(&t[3], "trims", trim_all_the_time, NULL), 0);
    for (int i = 0; i < 3; i++) {
        nl_thread_join(t[i]);
    }
    atomic_store(&over, true);
    nl_thread_join(t[3]);
}

/* --- The pool --------------------------------------------------------------------------------- */

enum { MESSAGES = 60000 };
static struct message {
    unsigned char *p;
    uint32_t size;
} message[MESSAGES];

static bool in_memory(const unsigned char *p)
{
    unsigned char in;
    void *page = (void *)((uintptr_t)p & ~(uintptr_t)(nl_page_size() - 1));
    return mincore(page, 1, &in) == 0 && in & 1; /* else it is not mapped */
}

static void give_odd_ones(void *arg)
{
    (void)arg;
    for (int i = 1; i < MESSAGES; i += 2) {
        nl_pool_free(message[i].p, message[i].size);
    }
    nl_pool_thread_exit();
}

static void fill_messages(int from, int to)
{
    for (int i = from; i < to; i++) {
        message[i].size = 16 + (uint32_t)i * 7919 % 700;
        message[i].p = nl_pool_alloc(message[i].size);
        memset(message[i].p, i & 0xff, message[i].size);
    }
}

Test(trim, the_pool_gives_back_what_is_not_in_use)
{
    nl_thread *t;
    fill_messages(0, MESSAGES);
    cr_assert_eq(nl_thread_start(&t, "gives", give_odd_ones, NULL), 0);
    nl_thread_join(t);
    for (int i = 0; i < MESSAGES - 1000; i += 2) {
        nl_pool_free(message[i].p, message[i].size);
    }
    nl_pool_thread_exit();
    nl_pool_trim();
    nl_span_trim();
    int left = 0;
    for (int i = 0; i < MESSAGES - 1000; i++) {
        left += in_memory(message[i].p);
    }
    cr_assert_lt(left, MESSAGES / 10, "%d blocks are still in memory", left);
    for (int round = 0; round < 2; round++) {
        for (int i = MESSAGES - 1000; i < MESSAGES; i += 2) {
            cr_assert_eq(message[i].p[0], i & 0xff);
            cr_assert_eq(message[i].p[message[i].size - 1], i & 0xff);
        }
        fill_messages(0, MESSAGES - 1000); /* all of it can be used again */
    }
}

static void use_the_pool(void *arg)
{
    static _Thread_local struct message own[500];
    uint32_t seed = (uint32_t)(uintptr_t)arg;
    for (int i = 0; i < 100000; i++) {
        seed = seed * 1664525 + 1013904223;
        struct message *m = &own[(seed >> 8) % 500];
        if (m->p) {
            cr_assert_eq(m->p[0], (unsigned char)(uintptr_t)arg);
            cr_assert_eq(m->p[m->size - 1], (unsigned char)(uintptr_t)arg);
            nl_pool_free(m->p, m->size);
            m->p = NULL;
        } else {
            m->size = 16 + (seed >> 16) % 1500;
            m->p = nl_pool_alloc(m->size);
            m->p[0] = m->p[m->size - 1] = (unsigned char)(uintptr_t)arg;
        }
    }
    for (int i = 0; i < 500; i++) {
        if (own[i].p) {
            nl_pool_free(own[i].p, own[i].size);
        }
    }
    nl_pool_thread_exit();
}

static void trim_the_pool(void *arg)
{
    (void)arg;
    while (!atomic_load(&over)) {
        nl_pool_trim();
    }
}

Test(trim, the_pool_is_trimmed_while_others_use_it)
{
    nl_thread *t[4];
    atomic_store(&over, false);
    for (uintptr_t i = 0; i < 3; i++) {
        cr_assert_eq(nl_thread_start(&t[i], "uses", use_the_pool, (void *)(i + 1)), 0);
    }
    cr_assert_eq(nl_thread_start(&t[3], "trims", trim_the_pool, NULL), 0);
    for (int i = 0; i < 3; i++) {
        nl_thread_join(t[i]);
    }
    atomic_store(&over, true);
    nl_thread_join(t[3]);
    nl_pool_fini();
}

#endif
#else

Test(trim, memory_goes_back)
{
    cr_skip_test("only on Linux: what is resident is asked of /proc and mincore");
}

#endif

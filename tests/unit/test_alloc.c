/* Memory: what alloc.h promises, and the pool between threads. */
#include "base/alloc.h"
#include "base/os.h"
#include "rng.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define OPS RNG_ROUNDS(300000, 20000)

Test(alloc, plain)
{
    unsigned char *p = nl_calloc(1000);
    for (int i = 0; i < 1000; i++) {
        cr_assert_eq(p[i], 0);
    }
    memset(p, 7, 1000);
    p = nl_realloc(p, 100000);
    cr_assert(p[0] == 7 && p[999] == 7);
    nl_free(p);

    char *s = nl_strdup("text");
    cr_assert_str_eq(s, "text");
    nl_free(s);

    void *none = nl_malloc(0), *again = nl_realloc(NULL, 0);
    cr_assert(none && again);
    nl_free(none);
    nl_free(again);
    nl_free(NULL);
}

Test(alloc, pool_try)
{
    cr_assert_null(nl_pool_try(0));
    cr_assert_null(nl_pool_try(NL_POOL_MAX + 1));
    void *p = nl_pool_alloc(100);
    nl_pool_free(p, 100);
    void *q = nl_pool_try(100); /* under AddressSanitizer there is no stock */
    cr_assert(!q || q == p);
    if (q) {
        nl_pool_free(q, 100);
    }
}

Test(alloc, aligned)
{
    for (size_t n = 0; n < 300; n += 7) {
        unsigned char *p = nl_calloc_aligned(n);
        cr_assert_eq((uintptr_t)p % NL_CACHELINE, 0);
        for (size_t i = 0; i < n; i++) {
            cr_assert_eq(p[i], 0);
        }
        memset(p, 1, n);
        nl_free_aligned(p);
    }
}

Test(alloc, try_returns_null)
{
    volatile size_t too_much = SIZE_MAX;
    cr_assert_null(nl_try_malloc(too_much));
    cr_assert_null(nl_try_malloc(too_much / 2 + 1));
    void *p = nl_try_malloc(0);
    cr_assert_not_null(p);
    nl_free(p);
}

#ifndef _WIN32
Test(alloc, out_of_memory_ends_the_process, .signal = SIGABRT)
{
    volatile size_t too_much = SIZE_MAX;
    void *volatile p = nl_malloc(too_much);
    (void)p;
}
#endif

/* A block of n bytes is filled with what its address and n say; nothing else may change it. */
static void fill(unsigned char *p, size_t n)
{
    memset(p, (int)((uintptr_t)p / 16 + n) & 0xff, n);
}

static bool intact(const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] != (((uintptr_t)p / 16 + n) & 0xff)) {
            return false;
        }
    }
    return true;
}

Test(pool, every_size)
{
    enum { MAX = NL_POOL_MAX + 100 };
    static unsigned char *p[MAX];
    for (int round = 0; round < 3; round++) {
        for (size_t n = 0; n < MAX; n++) {
            p[n] = nl_pool_alloc(n);
            cr_assert_eq((uintptr_t)p[n] % 16, 0, "%d bytes are not aligned", (int)n);
            fill(p[n], n);
        }
        for (size_t n = 0; n < MAX; n++) {
            cr_assert(intact(p[n], n), "%d bytes", (int)n);
            nl_pool_free(p[n], n);
        }
    }
}

#ifndef NL_POOL_IS_MALLOC
Test(pool, blocks_of_whole_lines_are_aligned)
{
    rng r = rng_seed(9);
    for (int i = 0; i < 5000; i++) {
        size_t n = 1 + rng_below(&r, NL_POOL_MAX);
        void *p = nl_pool_alloc(n);
        size_t size = (n + NL_POOL_STEP - 1) / NL_POOL_STEP * NL_POOL_STEP;
        cr_assert_eq((uintptr_t)p % (size % NL_CACHELINE ? NL_POOL_STEP : NL_CACHELINE), 0);
    }
    nl_pool_thread_exit();
    nl_pool_fini();
}
#endif

Test(pool, random_against_patterns)
{
    enum { LIVE = 5000 };
    static struct {
        unsigned char *p;
        size_t n;
    } b[LIVE];
    rng r = rng_seed(1);
    for (int i = 0; i < OPS; i++) {
        uint32_t k = rng_below(&r, LIVE);
        if (b[k].p) {
            cr_assert(intact(b[k].p, b[k].n));
            nl_pool_free(b[k].p, b[k].n);
            b[k].p = NULL;
        } else {
            b[k].n = rng_below(&r, rng_below(&r, 8) ? 100 : NL_POOL_MAX + 50);
            b[k].p = nl_pool_alloc(b[k].n);
            fill(b[k].p, b[k].n);
        }
    }
    for (int k = 0; k < LIVE; k++) {
        if (b[k].p) {
            cr_assert(intact(b[k].p, b[k].n));
            nl_pool_free(b[k].p, b[k].n);
        }
    }
}

/*
 * Threads swap blocks of all sizes through a few shared places, so that nearly every block
 * is freed by another thread than made it, while others still use its neighbours.
 */
enum { PLACES = 64, THREADS = 4 };
static _Atomic(unsigned char *) place[PLACES];
static atomic_int broken;

static void swapper(void *arg)
{
    rng r = rng_seed((uint64_t)(uintptr_t)arg + 100);
    for (int i = 0; i < OPS; i++) {
        uint32_t n = 8 + rng_below(&r, rng_below(&r, 4) ? 56 : NL_POOL_MAX);
        unsigned char *p = nl_pool_alloc(n);
        memset(p, (int)(n & 0xff), n);
        memcpy(p, &n, sizeof(n));
        /* Release: p's bytes; acquire: the bytes of what was there. */
        p = atomic_exchange_explicit(&place[rng_below(&r, PLACES)], p, memory_order_acq_rel);
        if (!p) {
            continue;
        }
        memcpy(&n, p, sizeof(n));
        for (size_t k = sizeof(n); k < n; k++) {
            if (p[k] != (n & 0xff)) {
                atomic_fetch_add(&broken, 1);
                break;
            }
        }
        nl_pool_free(p, n);
    }
    nl_pool_thread_exit();
}

Test(pool, blocks_travel_between_threads, .timeout = 120)
{
    nl_thread *t[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) {
        cr_assert_eq(nl_thread_start(&t[i], "swapper", swapper, (void *)i), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        nl_thread_join(t[i]);
    }
    cr_assert_eq(broken, 0, "%d blocks were changed by somebody else", (int)broken);
    for (int i = 0; i < PLACES; i++) {
        unsigned char *p = place[i];
        if (p) {
            uint32_t n;
            memcpy(&n, p, sizeof(n));
            nl_pool_free(p, n);
        }
    }
    nl_pool_thread_exit();
    nl_pool_fini();
}

#ifndef NL_POOL_IS_MALLOC

static int by_address(const void *a, const void *b)
{
    uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
    return (x > y) - (x < y);
}

static int distinct(uintptr_t *a, int n)
{
    int count = n > 0;
    qsort(a, (size_t)n, sizeof(*a), by_address);
    for (int i = 1; i < n; i++) {
        count += a[i] != a[i - 1];
    }
    return count;
}

Test(pool, last_freed_is_first_reused)
{
    void *a = nl_pool_alloc(64), *b = nl_pool_alloc(64);
    nl_pool_free(a, 64);
    nl_pool_free(b, 60); /* any size of the class */
    cr_assert_eq(nl_pool_alloc(49), b);
    cr_assert_eq(nl_pool_alloc(64), a);
}

/* One thread only makes, the other only frees: what is freed must find its way back. */
enum { WINDOW = 256, SENT = 50000 };
static _Atomic(void *) ring[WINDOW];
static uintptr_t made[SENT];

static void maker(void *arg)
{
    (void)arg;
    for (int i = 0; i < SENT; i++) {
        while (atomic_load_explicit(&ring[i % WINDOW], memory_order_acquire)) {
            nl_thread_yield();
        }
        void *p = nl_pool_alloc(48);
        made[i] = (uintptr_t)p;
        memset(p, 1, 48);
        atomic_store_explicit(&ring[i % WINDOW], p, memory_order_release);
    }
    nl_pool_thread_exit();
}

Test(pool, producer_and_consumer_need_bounded_memory, .timeout = 120)
{
    nl_thread *t;
    cr_assert_eq(nl_thread_start(&t, "maker", maker, NULL), 0);
    for (int i = 0; i < SENT; i++) {
        void *p;
        while (!(p = atomic_load_explicit(&ring[i % WINDOW], memory_order_acquire))) {
            nl_thread_yield();
        }
        nl_pool_free(p, 48);
        atomic_store_explicit(&ring[i % WINDOW], NULL, memory_order_release);
    }
    nl_thread_join(t);
    /* Under way, two batches in either stock, one in the depot, and one being cut. */
    int most = WINDOW + 6 * NL_POOL_BATCH, n = distinct(made, SENT);
    cr_assert_leq(n, most, "%d blocks were made for at most %d in use", n, most);
}

enum { LEFT = 1000 };
static void *left[LEFT];

static void leaver(void *arg)
{
    (void)arg;
    for (int i = 0; i < LEFT; i++) {
        left[i] = nl_pool_alloc(80);
    }
    for (int i = 0; i < LEFT; i++) {
        nl_pool_free(left[i], 80);
    }
    nl_pool_thread_exit();
}

Test(pool, an_ended_threads_stock_is_used_again)
{
    static uintptr_t all[4 * LEFT];
    int n = 0;
    for (int round = 0; round < 4; round++) {
        nl_thread *t;
        cr_assert_eq(nl_thread_start(&t, "leaver", leaver, NULL), 0);
        nl_thread_join(t);
        for (int i = 0; i < LEFT; i++) {
            all[n++] = (uintptr_t)left[i];
        }
    }
    n = distinct(all, n);
    cr_assert_leq(n, LEFT + NL_POOL_BATCH, "%d different blocks", n);
}

/* A thread that ends early must not keep the rest of its heap: it is cut up and handed on. */
enum { TAIL = 60 * 1024 / NL_POOL_MAX };
static uintptr_t first_block, tail_block[TAIL];

static void one_small_block(void *arg)
{
    (void)arg;
    void *p = nl_pool_alloc(16);
    first_block = (uintptr_t)p;
    nl_pool_free(p, 16);
    nl_pool_thread_exit();
}

static void many_long_blocks(void *arg)
{
    (void)arg;
    for (int i = 0; i < TAIL; i++) {
        tail_block[i] = (uintptr_t)nl_pool_alloc(NL_POOL_MAX);
    }
    nl_pool_thread_exit();
}

Test(pool, an_ended_threads_span_is_used_again)
{
    nl_thread *t;
    cr_assert_eq(nl_thread_start(&t, "small", one_small_block, NULL), 0);
    nl_thread_join(t);
    cr_assert_eq(nl_thread_start(&t, "long", many_long_blocks, NULL), 0);
    nl_thread_join(t);
    for (int i = 0; i < TAIL; i++) {
        uintptr_t away =
            tail_block[i] > first_block ? tail_block[i] - first_block : first_block - tail_block[i];
        cr_assert_lt(away, 64 * 1024, "block %d is of another heap", i);
    }
}

Test(pool, usable_after_fini)
{
    for (int round = 0; round < 3; round++) {
        static void *p[500];
        /* Likely the very memory that the pool has just given back, which it must have forgotten. */
        void *foreign = nl_malloc(64 * 1024);
        for (int i = 0; i < 500; i++) {
            p[i] = nl_pool_alloc(200);
            fill(p[i], 200);
        }
        memset(foreign, 0xee, 64 * 1024);
        for (int i = 0; i < 500; i++) {
            cr_assert(intact(p[i], 200));
            nl_pool_free(p[i], 200);
        }
        nl_pool_fini();
        nl_free(foreign);
    }
}

#endif

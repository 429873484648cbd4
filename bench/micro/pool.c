/* pool.c - small blocks of memory, and malloc's beside them. */
#include "base/alloc.h"
#include "base/os.h"
#include "micro.h"

#define SIZE 64
#define BURST 256

static void *blocks[BURST];

/*
 * The thread's stock is filled up to a batch and used up again at every NL_POOL_BATCH-th block, so what a pair of calls
 * costs depends on how full it is.  From an empty stock, the first call gets a batch; the calls below then stay
 * away from both its ends, or cross one each time.
 */
static void in_the_middle(void)
{
    nl_pool_thread_exit();
    for (unsigned i = 0; i < NL_POOL_BATCH / 2; i++) {
        blocks[i] = nl_pool_alloc(SIZE);
    }
}

static void give_back(void)
{
    for (unsigned i = 0; i < NL_POOL_BATCH / 2; i++) {
        nl_pool_free(blocks[i], SIZE);
    }
}

static void at_the_edge(void)
{
    nl_pool_thread_exit();
}

static void alloc_free(uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        void *p = nl_pool_alloc(SIZE);
        micro_keep(p);
        nl_pool_free(p, SIZE);
    }
}

static void burst(uint64_t n)
{
    for (uint64_t done = 0; done < n; done += BURST) {
        for (unsigned i = 0; i < BURST; i++) {
            blocks[i] = nl_pool_alloc(SIZE);
        }
        for (unsigned i = 0; i < BURST; i++) {
            nl_pool_free(blocks[i], SIZE);
        }
    }
}

static void malloc_burst(uint64_t n)
{
    for (uint64_t done = 0; done < n; done += BURST) {
        for (unsigned i = 0; i < BURST; i++) {
            blocks[i] = nl_malloc(SIZE);
        }
        for (unsigned i = 0; i < BURST; i++) {
            nl_free(blocks[i]);
        }
    }
}

/* --- Made by one thread, given back by another, through a ring -------------------------------- */

static _Atomic(void *) ring[BURST * 4];
static uint64_t total;
static bool use_malloc;

static void make(void *arg)
{
    (void)arg;
    for (uint64_t i = 0; i < total; i++) {
        _Atomic(void *) *place = &ring[i % nl_countof(ring)];
        void *p = use_malloc ? nl_malloc(SIZE) : nl_pool_alloc(SIZE);
        while (atomic_load_explicit(place, memory_order_acquire)) {
            nl_thread_yield();
        }
        atomic_store_explicit(place, p, memory_order_release);
    }
    nl_pool_thread_exit();
}

static void across(uint64_t n)
{
    total = n;
    struct nl_thread *t = micro_thread(make, NULL);
    for (uint64_t i = 0; i < n; i++) {
        _Atomic(void *) *place = &ring[i % nl_countof(ring)];
        void *p;
        while (!(p = atomic_load_explicit(place, memory_order_acquire))) {
            nl_thread_yield();
        }
        atomic_store_explicit(place, NULL, memory_order_release);
        if (use_malloc) {
            nl_free(p);
        } else {
            nl_pool_free(p, SIZE);
        }
    }
    nl_thread_join(t);
}

static void of_pool(void)
{
    use_malloc = false;
}

static void of_malloc(void)
{
    use_malloc = true;
}

const micro micro_pool[] = {
    {"pool.alloc-free", "64 bytes taken and given back", alloc_free, in_the_middle, give_back, 1},
    {"pool.edge", "the same, when that uses up and fills up the thread's stock", alloc_free, at_the_edge,
     NULL, 1},
    {"pool.burst", "one of 256 blocks: taken, given back", burst, NULL, NULL, 1},
    {"pool.across", "taken by one thread, given back by another", across, of_pool, NULL, 2},
    {"malloc.burst", "for comparison: one of 256 blocks of the C library", malloc_burst, NULL, NULL, 1},
    {"malloc.across", "for comparison: taken by one thread, given back by another", across, of_malloc, NULL,
     2},
    {NULL, NULL, NULL, NULL, NULL, 0},
};

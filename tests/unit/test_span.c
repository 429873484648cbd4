// Spans: sizes, contents, memory given back from another thread than the one that took it.
#include <criterion/criterion.h>
#include <string.h>

#include "base/os.h"
#include "base/span.h"
#include "rng.h"

Test(span, sizes)
{
    cr_assert_eq(nl_span_size(1), NL_SPAN_MIN);
    cr_assert_eq(nl_span_size(NL_SPAN_MIN), NL_SPAN_MIN);
    cr_assert_eq(nl_span_size(NL_SPAN_MIN + 1), 2 * NL_SPAN_MIN);
    cr_assert_eq(nl_span_size(NL_SPAN_MAX), NL_SPAN_MAX);
}

#define HELD 300

typedef struct held {
    unsigned char *p;
    size_t size;
    unsigned char fill;
} held;

static void check(const held *h)
{
    for (size_t i = 0; i < h->size; i += 61) {
        cr_assert_eq(h->p[i], h->fill, "byte %zu of %zu", i, h->size);
    }
}

static void traffic(held *all, uint64_t seed, int rounds)
{
    rng r = rng_seed(seed);
    for (int i = 0; i < rounds; i++) {
        held *h = &all[rng_below(&r, HELD)];
        if (h->p) {
            check(h);
            nl_span_free(h->p);
            h->p = NULL;
        } else {
            h->size = nl_span_size(1 + rng_below(&r, NL_SPAN_MAX));
            h->fill = (unsigned char)rng_below(&r, 256);
            h->p = nl_span_alloc(h->size);
            cr_assert_not_null(h->p);
            cr_assert_eq((uintptr_t)h->p % NL_CACHELINE, 0);
            memset(h->p, h->fill, h->size);
        }
    }
}

static void give_all(held *all)
{
    for (int i = 0; i < HELD; i++) {
        if (all[i].p) {
            check(&all[i]);
            nl_span_free(all[i].p);
            all[i].p = NULL;
        }
    }
}

Test(span, random_traffic)
{
    static held all[HELD];
    traffic(all, 1, RNG_ROUNDS(20000, 4000));
    give_all(all);
    traffic(all, 2, RNG_ROUNDS(20000, 4000));
    give_all(all);
}

#define THREADS 4
static held theirs[THREADS][HELD];

static void take_some(void *arg)
{
    held *all = arg;
    traffic(all, (uint64_t)(all - theirs[0]) + 3, RNG_ROUNDS(5000, 1000));
}

static void give_some(void *arg)
{
    give_all(arg);
}

// Each thread's spans are given back by another one, while a third goes on taking.
Test(span, threads)
{
    for (int round = 0; round < 3; round++) {
        nl_thread *t[2 * THREADS];
        for (int i = 0; i < THREADS; i++) {
            cr_assert_eq(nl_thread_start(&t[i], "take", take_some, theirs[i]), 0);
        }
        for (int i = 0; i < THREADS; i++) {
            nl_thread_join(t[i]);
        }
        for (int i = 0; i < THREADS; i += 2) {
            cr_assert_eq(nl_thread_start(&t[i], "give", give_some, theirs[i]), 0);
            cr_assert_eq(nl_thread_start(&t[i + 1], "take", take_some, theirs[i + 1]), 0);
        }
        for (int i = 0; i < THREADS; i++) {
            nl_thread_join(t[i]);
        }
    }
    for (int i = 0; i < THREADS; i++) {
        give_all(theirs[i]);
    }
}

/*
 * rng.h - pseudo-random numbers for tests: the same ones in every run, on every platform; and
 * how long to go on with them.
 */
#ifndef NL_TEST_RNG_H
#define NL_TEST_RNG_H

#include <stdint.h>

/*
 * Sanitizers and emulators make everything many times dearer; what they look for shows in fewer
 * rounds, too.
 */
#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__) || __has_feature(thread_sanitizer) ||      \
    __has_feature(address_sanitizer) || defined(NL_TEST_EMULATED)
#define RNG_ROUNDS(plain, dear) (dear)
#else
#define RNG_ROUNDS(plain, dear) (plain)
#endif

typedef struct rng {
    uint64_t x;
} rng;

static inline rng rng_seed(uint64_t seed)
{
    return (rng){seed * 2 + 1};
}

/* 0..n-1 */
static inline uint32_t rng_below(rng *r, uint32_t n)
{
    r->x = r->x * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((r->x >> 32) * n >> 32);
}

#endif

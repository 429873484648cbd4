/*
 * rng.h - pseudo-random numbers for tests: the same ones in every run, on every platform.
 */
#ifndef NL_TEST_RNG_H
#define NL_TEST_RNG_H

#include <stdint.h>

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

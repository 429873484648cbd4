/*
 * ticks.h - a clock for durations that is cheap enough to be read at every dispatch.
 *
 * Purpose:   the processor's time-stamp counter where there is one, else nl_now_ns.  Deadlines are
 *            nl_now_ns's times, never ticks.
 * Threads:   any; counters of different processors may differ by some ticks.
 * Ownership: no state.
 */
#ifndef NL_TICKS_H
#define NL_TICKS_H

#include "base/os.h"

static inline uint64_t nl_ticks(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t t;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(t));
    return t;
#else
    return (uint64_t)nl_now_ns();
#endif
}

/* Measures the rate against nl_now_ns; takes about 50 µs.  Ticks per microsecond, at least 1. */
uint64_t nl_ticks_calibrate(void);

#endif

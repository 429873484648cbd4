/*
 * hist.h - a histogram of durations with a fixed relative error: 128 equal steps in every
 * power of two, so a reported value is at most 0.8 % off, from 1 ns to centuries.
 *
 * Not thread safe: each thread fills its own, hist_merge puts them together at the end.
 */
#ifndef NL_LOAD_HIST_H
#define NL_LOAD_HIST_H

#include <stdint.h>

#define HIST_STEP_BITS 7
#define HIST_STEPS (1u << HIST_STEP_BITS)
#define HIST_CELLS ((64 - HIST_STEP_BITS + 1) * HIST_STEPS)

typedef struct hist {
    uint64_t count, max;
    double sum;
    uint64_t cell[HIST_CELLS];
} hist;

/* Zeroed memory is an empty histogram. */
void hist_reset(hist *h);
void hist_add(hist *h, uint64_t ns);
void hist_merge(hist *into, const hist *from);
/* The value below or at which the share q (0..1) of all values lies; 0 when there is none. */
uint64_t hist_at(const hist *h, double q);
double hist_mean(const hist *h);

#endif

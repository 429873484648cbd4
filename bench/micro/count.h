/*
 * count.h - instructions retired by this process and the threads it starts from now on, where
 * the processor and the kernel let one count (perf_event_open); user mode only.
 */
#ifndef NL_MICRO_COUNT_H
#define NL_MICRO_COUNT_H

#include <stdbool.h>
#include <stdint.h>

/* False: there is no such counter here. */
bool count_open(void);
/* Counts from 0. */
void count_start(void);
/* What has been counted; threads count once they have ended. */
uint64_t count_stop(void);

#endif

/*
 * proc.h - what the processes under test use: CPU time, memory, context switches.
 *
 * From the outside, by process id, in sum over all that were named.
 */
#ifndef NL_LOAD_PROC_H
#define NL_LOAD_PROC_H

#include <stdbool.h>
#include <stdint.h>

#define PROC_MAX 64

/* Takes a list like "12,34"; false: it is malformed, or there is no such process. */
bool proc_watch(const char *pids);
bool proc_watched(void);

/* User and system time so far, in nanoseconds, of all threads, living and ended. */
int64_t proc_cpu_ns(void);

/* Resident memory in bytes: all of it, and the part that no file backs. */
typedef struct proc_mem {
    int64_t resident, anonymous;
} proc_mem;
proc_mem proc_memory(void);

/* How often the living threads gave the processor up by themselves: the number of times they went to sleep. */
int64_t proc_sleeps(void);

/* The same clock for this process. */
int64_t proc_own_cpu_ns(void);

#endif

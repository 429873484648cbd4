/*
 * micro.h - benchmarks of single parts of the runtime, linked against its own libraries.
 *
 * Each file has a table of them, ended by a NULL name; main.c lists the tables, runs what is
 * asked for, and measures.  run(n) does the operation n times; what it needs beforehand is
 * made in setup, which is not measured.
 */
#ifndef NL_MICRO_H
#define NL_MICRO_H

#include "base/base.h"

typedef struct micro {
    const char *name; /* part.operation */
    const char *what; /* one operation, in a few words */
    void (*run)(uint64_t n);
    void (*setup)(void);    /* may be NULL */
    void (*teardown)(void); /* may be NULL */
    unsigned threads;       /* that run works with, its own included; 0 stands for 1 */
} micro;

extern const micro micro_frame[], micro_mailbox[], micro_pack[], micro_pool[], micro_runq[], micro_slots[],
    micro_timers[], micro_chain[];

/* The compiler must assume that p is read and what it points to changed. */
static inline void micro_keep(const void *p)
{
    __asm__ volatile("" : : "r"(p) : "memory");
}

/* Cheap numbers without a pattern (xorshift); *state must not be 0. */
static inline uint64_t micro_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

/* Runs fn(arg) in a thread of its own; ends the process if that cannot be. Joined with nl_thread_join. */
struct nl_thread *micro_thread(void (*fn)(void *), void *arg);

#endif

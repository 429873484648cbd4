/*
 * offload.h - C calls that sleep and that no reactor can wait for, on threads of their own.
 *
 * Purpose:   a context waits for a child process, or for the other end of a FIFO, without holding
 *            up a worker.
 * Threads:   nl_offload: any.  work runs on a thread of its own; to start it costs little beside
 *            what such a call costs.
 * Ownership: the caller gives the job away.  The thread has it until work has returned, then the
 *            message, whose run or drop frees it.  It must not lie in the pool or in a Lua state: a
 *            job that still sleeps when the process ends is left behind.
 */
#ifndef NL_OFFLOAD_H
#define NL_OFFLOAD_H

#include "sched/msg.h"

typedef struct nl_job {
    nl_msg msg;   /* posted to ctx when work has returned; dropped if ctx is gone */
    uint64_t ctx; /* handle; 0: dropped in any case */
    void (*work)(struct nl_job *job);
} nl_job;

/* 0, or -errno where no thread can be started: the job is still the caller's. */
int nl_offload(nl_job *job);
/* What still runs is left behind, and tells nobody; after nl_sched_run. */
void nl_offload_fini(void);

#endif

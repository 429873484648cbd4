/*
 * msg.h - a message: what a mailbox holds.
 *
 * Purpose: intrusive, embedded at the start of what is sent.
 * Threads: run and drop are called by the worker that has popped it.
 * Ownership: from push to run it belongs to the mailbox; run() gets it back, and may free it or
 *   push it again.
 */
#ifndef NL_MSG_H
#define NL_MSG_H

#include "base/base.h"

struct nl_ctx;
typedef struct nl_msg nl_msg;

typedef struct nl_msg_ops {
    /* On the context's turn, on whichever worker runs it. */
    void (*run)(struct nl_ctx *ctx, nl_msg *m);
    /* Instead of run, when the context ended first; may run on any worker, in no context. */
    void (*drop)(nl_msg *m);
} nl_msg_ops;

struct nl_msg {
    _Atomic(nl_msg *) next; /* in its queue; meaningless while it is in none */
    const nl_msg_ops *ops;
};

#endif

/*
 * sched.h - the runtime: workers, start, stop, and what the layers above hook into.
 *
 * Purpose: one per process at a time.  nl_sched_init → hooks → first context → nl_sched_run
 *   (blocks in the calling thread, which becomes worker 0) → nl_sched_fini.
 * Threads: the calls of nl_worker_* and nl_wtimer_* are for workers only; the others say.
 * Ownership: workers, their reactors, timers and scratch memory live from init to fini.
 */
#ifndef NL_SCHED_H
#define NL_SCHED_H

#include "reactor/reactor.h"
#include "sched/ctx.h"

enum nl_pin { NL_PIN_AUTO, NL_PIN_ON, NL_PIN_OFF };

typedef struct nl_sched_config {
    int workers;     /* 0: as many as processors; at most NL_WORKERS_MAX */
    enum nl_pin pin; /* auto: off up to 8 processors */
    uint64_t chaos;  /* not 0: seed of the test mode that perturbs order, steals and wake-ups */
} nl_sched_config;

#define NL_WORKERS_MAX 256

typedef struct nl_sched_hooks {
    /*
     * An event of a reactor, on a worker (maybe not the reactor's own), inside a qsbr section.
     * Two workers may be told events of one socket at once, and in either order.
     */
    void (*io)(uint64_t tag, unsigned events);
    /*
     * Sends what was corked on this worker; called only after nl_sched_want_flush.  end false:
     * after one message (a small fan-out may leave at once, a large one had better wait and
     * gather); end true: after the dispatch or a batch of io, everything must leave.
     */
    void (*flush)(int worker, bool end);
    /*
     * Every 10 ms, once no context is left: how many things of the layer above (lingering sockets)
     * still keep the process.
     */
    int (*holding)(void);
    /* The process was asked to end (shutdown.h): what lingers has 1 s from now. */
    void (*hurry)(void);
    /* The process ends now, while sockets still send: last chance to tell the peers. Any thread. */
    void (*reset_unsent)(void);
} nl_sched_hooks;

/* 0 or -errno. */
int nl_sched_init(const nl_sched_config *cfg);
void nl_sched_set_hooks(const nl_sched_hooks *h);
/* Runs until no context is left; returns the exit status. */
int nl_sched_run(void);
void nl_sched_fini(void);

/* How many workers were asked for; sockets live in their reactors. */
int nl_sched_workers(void);
/* How many times a parked worker was woken for work; for tests and statistics. */
uint64_t nl_sched_wakes(void);
/*
 * Index of the calling worker, below NL_WORKERS_MAX (spares come behind nl_sched_workers); -1 on
 * any other thread.
 */
int nl_worker_index(void);
/*
 * Bracket a bare system call of the running context that may sleep for long: no memory in limbo
 * waits for it (qsbr.h).  In between nothing is looked up, nothing retired, no Lua runs, and
 * neither the caller nor its callers hold a looked-up pointer.  It costs two stores.
 * (Other workers look after this worker's sockets, timers and contexts in any case: monitor.c.)
 * On a thread that is no worker they do nothing.
 */
void nl_sched_blocking_begin(void);
void nl_sched_blocking_end(void);
/* That worker's reactor. */
nl_reactor *nl_worker_reactor(int worker);
/* From a worker: the flush hook is to be called after this message and after this dispatch. */
void nl_sched_want_flush(void);

/*
 * A timer of a layer (not of a context) on the calling worker's heap, under its timer lock; fires
 * fn(t) on a worker, in no context.
 */
typedef struct nl_wtimer {
    nl_timer t;
    atomic_int worker; /* -1: not armed */
    void (*fn)(struct nl_wtimer *t);
} nl_wtimer;
void nl_wtimer_init(nl_wtimer *t, void (*fn)(nl_wtimer *));
void nl_wtimer_arm(nl_wtimer *t, int64_t deadline);
/* True if it was armed and will not fire. */
bool nl_wtimer_disarm(nl_wtimer *t);

/*
 * Pseudo-random bits of the chaos mode: true with probability 1/n; always false when chaos is off.
 */
bool nl_chaos(unsigned n);

#endif

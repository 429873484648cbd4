/*
 * worker.h - the inside of the scheduler, shared by worker.c, ctx.c, wake.c, monitor.c and
 * sched.c; nobody else includes it.
 */
#ifndef NL_WORKER_H
#define NL_WORKER_H

#include "base/os.h"
#include "base/spin.h"
#include "base/ticks.h"
#include "sched/idle.h"
#include "sched/injq.h"
#include "sched/runq.h"
#include "sched/sched.h"

/* Shares of a dispatch, see nl_ctx_should_yield. */
#define NL_DISPATCH_MESSAGES 64
#define NL_DISPATCH_BYTES (256 * 1024)
#define NL_DISPATCH_US 1000
/* How often the global queue and the own reactor get a look while there is local work. */
#define NL_GLOBAL_EVERY 61
#define NL_POLL_US 100
#define NL_NEXT_STREAK 3
#define NL_SOON_NS 10000000
#define NL_POLL_EVENTS 256

typedef struct nl_worker {
    /* Looked at by others. */
    nl_runq runq;
    nl_alignas_line _Atomic(nl_ctx *)
        next;                        /* woken by a message just sent: run first, while it is in cache */
    _Atomic(nl_ctx *) current;       /* what is being run; written by the owner */
    atomic_uint_fast64_t dispatches; /* written by the owner; the monitor sees whether it moves */
    atomic_uint homes;               /* contexts whose nl_ctx_home this is */
    atomic_bool stuck;  /* the monitor: current has been running for a tick; next may be stolen */
    nl_spin poll_lock;  /* polls reactor; the owner holds it while parked, others only ever try it */
    nl_spin timer_lock; /* ctx_timers, layer_timers */
    nl_timers ctx_timers;
    nl_timers layer_timers;
    nl_reactor *reactor;

    /* The owner's alone. */
    nl_alignas_line int index;
    nl_qsbr *qsbr;
    bool searching;
    bool harvesting; /* contexts made ready now came from the reactor, not from a message */
    bool want_flush;
    int budget;
    int byte_budget;
    unsigned looks;          /* of nl_ctx_should_yield */
    uint64_t dispatch_start; /* ticks */
    uint64_t last_poll;      /* ticks */
    unsigned next_streak;
    unsigned global_in;   /* looks for work until it is the global queue's turn */
    unsigned global_left; /* dispatches to come from the global queue before the next local one */
    uint64_t rng;
    unsigned char *scratch;
    nl_event *events;
    nl_thread *thread;
} nl_worker;

typedef struct nl_sched {
    int nworkers;
    enum nl_pin pin;
    uint64_t chaos;
    uint64_t ticks_per_us;
    nl_worker *worker[NL_WORKERS_MAX];
    nl_idle idle;
    nl_injq injq;
    nl_slots *contexts;
    nl_sched_hooks hooks;
    nl_mutex *start_lock; /* reserve and the live count go together */
    atomic_uint_fast64_t live;
    atomic_int status;
    atomic_int blocked;  /* workers asleep in a system call of a script */
    atomic_bool exiting; /* nl_sched_exit was called */
    atomic_bool stop;    /* workers leave their loops */
    uint64_t mailbox_max;
} nl_sched;

extern nl_sched nl_the_sched;
extern _Thread_local nl_worker *nl_self __attribute__((tls_model("initial-exec")));

/* wake.c */
void nl_ready(nl_ctx *c);                 /* makes an idle context runnable; any thread */
void nl_requeue(nl_worker *w, nl_ctx *c); /* the context just run goes to the end of the queue */
void nl_wake_one(void);                   /* the producer's half of idle.h */
void nl_wake_for_rescue(void);            /* wakes a parked worker though somebody may be searching */
void nl_wake_all(void);
bool nl_work_visible(void); /* something stands in some queue */
void nl_search_begin(nl_worker *w);
void nl_search_found(nl_worker *w); /* stops searching because of a find; passes the torch on */

/* worker.c */
void nl_worker_loop(nl_worker *w);
void nl_harvest(nl_worker *w, nl_worker *from, int64_t timeout_ns); /* caller holds from->poll_lock */
void nl_fire_timers(nl_worker *from);

/* ctx.c */
void nl_dispatch(nl_worker *w, nl_ctx *c);

/* monitor.c */
void nl_monitor_start(void);
void nl_monitor_stop(void);

/* Chaos mode: widens the gap between two steps of idle.h's protocol. */
static inline void nl_chaos_pause(void)
{
    if (nl_unlikely(nl_the_sched.chaos) && nl_chaos(8)) {
        for (int i = 0; i < 20; i++) {
            nl_thread_yield();
        }
    }
}

static inline uint64_t nl_random(nl_worker *w)
{
    /* xorshift64: enough to choose victims and to perturb. */
    w->rng ^= w->rng << 13;
    w->rng ^= w->rng >> 7;
    w->rng ^= w->rng << 17;
    return w->rng;
}

#endif

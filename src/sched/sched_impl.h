/*
 * sched_impl.h - the inside of the scheduler, shared by the files of this folder; nobody else
 * includes it.
 *
 * Purpose: what a worker is, and what the files of this folder call of each other.
 * Threads: stated at each field and function; what is not is the owner's alone.
 * Ownership: sched.c makes and frees the workers.
 */
#ifndef NL_SCHED_IMPL_H
#define NL_SCHED_IMPL_H

#include "base/interrupt.h"
#include "base/jump.h"
#include "base/os.h"
#include "base/spin.h"
#include "base/ticks.h"
#include "sched/idle.h"
#include "sched/injq.h"
#include "sched/names.h"
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
    /* The next slot: woken by a message just sent, run first while it is in cache. */
    nl_alignas_line _Atomic(nl_ctx *) next;
    _Atomic(nl_ctx *) current; /* what is being run; written by the owner */
    /* written by the owner; the monitor sees whether it moves */
    atomic_uint_fast64_t dispatches;
    atomic_uint homes;    /* contexts whose nl_ctx_home this is */
    atomic_bool stuck;    /* the monitor: current has been running for a tick */
    atomic_bool off_duty; /* the monitor: a spare that is not needed (spare.c) */
    /* off duty: in whose reactor it sleeps; NULL: in its own */
    _Atomic(struct nl_worker *) attends;
    nl_spin poll_lock;  /* polls reactor; see lock_own_reactor in worker.c */
    nl_spin timer_lock; /* ctx_timers, layer_timers */
    nl_timers ctx_timers;
    nl_timers layer_timers;
    nl_reactor *reactor;

    /* The owner's alone. */
    nl_alignas_line int index;
    nl_qsbr *qsbr;
    bool searching;
    /* contexts made ready now came from a reactor or a timer, not from a message */
    bool delivering;
    /* the first one of a delivery: this worker runs it at once, nobody need be woken */
    bool first_is_mine;
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
    nl_event *events;
    bool lost; /* the monitor's own: current was given up */
    nl_thread *thread;
    jmp_buf escape; /* to nl_worker_loop, out of a dispatch: nl_ctx_abandon */
    /* written before `current` first is; NULL: it cannot be interrupted */
    nl_interruptible *interruptible;
    int64_t watch; /* for nl_thread_sleeps */
} nl_worker;

typedef struct nl_sched {
    int nworkers;               /* as many as were asked for */
    atomic_int nall;            /* these and the spare ones behind them; grows */
    atomic_bool monitor_asleep; /* until nl_monitor_wake */
    /* the monitor: a stuck worker's reactor and timers are to be looked at */
    atomic_bool rescue;
    enum nl_pin pin;
    uint64_t chaos;
    uint64_t ticks_per_us;
    nl_worker *worker[NL_WORKERS_MAX];
    nl_idle idle;
    atomic_uint_fast64_t wakes; /* workers that were claimed and woken */
    nl_injq injq;
    nl_slots *contexts;
    nl_sched_hooks hooks;
    nl_mutex *start_lock;      /* reserve and the live count go together */
    atomic_uint_fast64_t live; /* contexts that keep the process */
    atomic_bool given_up;      /* some context was: its worker will not come back */
    atomic_bool broken;        /* a reactor has failed, and that was logged */
    atomic_bool stop;          /* workers leave their loops */
    uint64_t mailbox_max;
} nl_sched;

extern nl_sched nl_the_sched;
extern _Thread_local nl_worker *nl_self __attribute__((tls_model("initial-exec")));

/* wake.c */
void nl_ready(nl_ctx *c);                 /* makes an idle context runnable; any thread */
void nl_requeue(nl_worker *w, nl_ctx *c); /* the context just run goes to the end of the queue */
void nl_wake_one(void);                   /* the producer's half of idle.h */
/* wakes a parked worker though somebody may be searching */
void nl_wake_for_rescue(void);
void nl_wake_all(void);
bool nl_work_visible(void); /* something stands in some queue */
void nl_search_begin(nl_worker *w);
void nl_search_found(nl_worker *w); /* w has found work; see idle.h for the last searcher */

/* worker.c */
void nl_worker_loop(nl_worker *w);

/* sched.c */
nl_worker *nl_worker_new(int index, int *err);
void nl_worker_free(nl_worker *w);
void nl_worker_main(void *arg);

/* ctx.c */
void nl_dispatch(nl_worker *w, nl_ctx *c);
/* The dispatch under way has been left by nl_ctx_abandon: does what has to be done at its end. */
void nl_dispatch_abandoned(nl_worker *w);
/*
 * By the monitor's thread, in a qsbr section: c is running and was told to end, and does not come
 * to it.  For all others it has ended from now on: its handle is gone, its names are free, who
 * waits for it is told, and it does not keep the process.  If it ends later it is released as ever.
 */
void nl_ctx_give_up(nl_ctx *c);
/* It is running, and was told to end or is just ending. */
bool nl_ctx_is_to_end(const nl_ctx *c);

/* names.c */
void nl_names_init(void);
void nl_names_fini(void);
/* Frees every name c bears; by the worker that ends it. */
void nl_names_release(nl_ctx *c);
/* The same; by another thread, while it runs. */
void nl_names_take_away(nl_ctx *c);

/* reason.c */
void nl_obituaries_init(void);
void nl_obituaries_fini(void);
/* Remembers why handle has ended; copied.  What was remembered before is replaced. */
void nl_obituary_store(uint64_t handle, const nl_reason *reason);

/* monitor.c */
void nl_monitor_start(void);
void nl_monitor_stop(void);
void nl_monitor_wake(void);

/* spare.c: for the monitor's thread only; stuck[0..n): which of the first n workers are. */
/* The thread of w, which is stuck, is asleep in the system. */
bool nl_worker_sleeps(const nl_worker *w);
void nl_spares_init(void);
void nl_spares_adjust(const bool *stuck, int n);
/* A spare sleeps in the reactor of v, which is stuck, until it is not. */
void nl_spares_attend(nl_worker *v, int n);
/* When the monitor has stopped. */
void nl_spares_join(void);

static inline int nl_workers_all(void)
{
    return atomic_load(
        &nl_the_sched.nall); /* seq_cst: a spare that does not see stop is woken by nl_wake_all */
}

/* Neither parked nor resting. */
static inline bool nl_worker_active(nl_worker *w)
{
    return !nl_idle_is_parked(&nl_the_sched.idle, w->index) &&
           (!atomic_load(&w->off_duty) || atomic_load_explicit(&w->current, memory_order_relaxed));
}

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

/*
 * monitor.c - a thread that sees to it that one long dispatch does not hold up the others.
 *
 * Every 10 ms it looks for workers whose dispatch counter has not moved since the last tick,
 * whether their context computes or sleeps in the system.  Such a worker is called stuck:
 *   - its ready contexts are moved to the global queue;
 *   - if it is home to sockets, a spare worker sleeps in its reactor meanwhile (spare.c);
 *   - its reactor and timers are looked at by another worker: by a parked one, which is woken, or
 *     by the first busy one that looks at its own (worker.c: look);
 *   - if no worker is left that is not stuck, a spare one steps in (spare.c).
 * A context that runs on for seconds is named on standard error.  One that was told to end, and
 * has not for some seconds, is given up (nl_ctx_give_up).
 *
 * The clock is the wall's, as a process that only sleeps uses no processor time.  It stands still
 * while all workers are parked, so an idle process makes no system call.  It is started again by
 * the first worker that leaves its reactor; so that a server with little to do does not pay a
 * wake-up for each request, it only stops after some ticks that found everybody parked.
 *
 *   Worker:  (1) clear the parked bit        Monitor:  (a) set asleep
 *            (2) load asleep: wake it                  (b) look at the parked bits: all set?
 *                                                      (c) sleep until asleep is cleared
 *
 * All of 1, 2, a, b are seq_cst.  If b sees the worker's bit still set, 1 comes after b, so 2
 * comes after a and sees it.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "sched/sched_impl.h"

#define TICK_NS 10000000
#define QUIET_TICKS 3 /* that find everybody parked, then the clock stops */
#define WARN_NS ((int64_t)2000000000)
#define GIVE_UP_NS ((int64_t)3000000000)

/* What a worker was found at. */
typedef struct seen {
    uint64_t dispatches;
    int64_t since; /* when it was first seen in this dispatch */
    bool warned;
    int64_t told; /* when its context was first seen to have been told to end; 0: it was not */
} seen;

static struct {
    nl_thread *thread;
    nl_mutex *lock;
    nl_cond *changed;
    bool stop;      /* under the lock */
    nl_runq *moved; /* on their way from a stuck worker to the global queue */
    seen last[NL_WORKERS_MAX];
} mon;

/* --- a tick ----------------------------------------------------------------------------------- */

/* Its ready contexts get to run elsewhere. */
static void move_ready(nl_worker *w)
{
    nl_injq *q = &nl_the_sched.injq;
    nl_ctx *c = atomic_exchange_explicit(&w->next, NULL, memory_order_acq_rel);
    if (c) {
        nl_injq_push(q, c);
    }
    while (nl_runq_steal(mon.moved, &w->runq)) {
        while ((c = nl_runq_pop(mon.moved))) {
            nl_injq_push(q, c);
        }
    }
}

/* Nothing ends C code from outside, nor a loop in a finalizer: the others go on without it. */
static void look_at_end(nl_worker *w, nl_ctx *c, seen *s, int64_t now)
{
    if (w->lost || !nl_ctx_is_to_end(c)) {
        return;
    }
    if (!s->told) {
        s->told = now;
    } else if (now - s->told > GIVE_UP_NS) {
        w->lost = true;
        nl_log_async(c->ops->name(c), "context %llu was told to end and does not",
                     (unsigned long long)c->slot.id);
        nl_ctx_give_up(c);
    }
}

/* True if w is stuck. */
static bool look_at(nl_worker *w, seen *s, int64_t now)
{
    uint64_t d = atomic_load_explicit(&w->dispatches, memory_order_relaxed);
    nl_qsbr_enter();
    nl_ctx *c = atomic_load_explicit(&w->current, memory_order_acquire);
    bool stuck = c && d == s->dispatches;
    if (!stuck) {
        atomic_store(&w->stuck, false);
        s->dispatches = d;
        s->since = now;
        s->warned = w->lost = false;
        s->told = 0;
    } else {
        atomic_store(&w->stuck, true);
        if (c->ops->slow && c->ops->slow(c, nl_qsbr_behind(w->qsbr)) && w->interruptible &&
            (atomic_load(&c->kill_posted) || !nl_worker_sleeps(w))) {
            /* a call that sleeps is cut short by it: only for the end */
            nl_interrupt(w->interruptible);
        }
        if (now - s->since > WARN_NS && !s->warned) {
            s->warned = true;
            nl_log_async(c->ops->name(c), "context %llu has been running for %.1f s without giving way",
                         (unsigned long long)c->slot.id, (double)(now - s->since) / 1e9);
        }
        look_at_end(w, c, s, now);
    }
    nl_qsbr_leave();
    return stuck;
}

/* False: everybody is parked. */
static bool tick(void)
{
    nl_sched *s = &nl_the_sched;
    int64_t now = nl_now_ns();
    int n = nl_workers_all();
    bool stuck[NL_WORKERS_MAX], any = false, active = false;
    for (int i = 0; i < n; i++) {
        nl_worker *w = s->worker[i];
        stuck[i] = look_at(w, &mon.last[i], now);
        if (stuck[i]) {
            any = true;
            move_ready(w);
            if (atomic_load_explicit(&w->homes, memory_order_relaxed)) {
                nl_spares_attend(w, n);
            }
        }
        active |= nl_worker_active(w);
    }
    if (any) {
        atomic_store(&s->rescue, true);
        nl_wake_for_rescue();
    }
    nl_spares_adjust(stuck, n);
    return active;
}

/* --- the clock -------------------------------------------------------------------------------- */

static bool anybody_active(void)
{
    for (int i = 0, n = nl_workers_all(); i < n; i++) {
        if (nl_worker_active(nl_the_sched.worker[i])) {
            return true;
        }
    }
    return false;
}

/* Lock held.  Until a worker leaves its reactor. */
static void sleep_while_idle(void)
{
    atomic_bool *asleep = &nl_the_sched.monitor_asleep;
    atomic_store(asleep, true);
    if (anybody_active()) {
        atomic_store(asleep, false);
    }
    while (atomic_load(asleep) && !mon.stop) {
        nl_cond_wait(mon.changed, mon.lock, -1);
    }
}

void nl_monitor_wake(void)
{
    if (atomic_exchange(&nl_the_sched.monitor_asleep, false)) {
        nl_mutex_lock(mon.lock); /* from here on it waits, or sees asleep when it looks */
        nl_mutex_unlock(mon.lock);
        nl_cond_signal(mon.changed);
    }
}

static void monitor_main(void *arg)
{
    (void)arg;
    int quiet = 0;
    nl_mutex_lock(mon.lock);
    while (!mon.stop) {
        int64_t until = nl_now_ns() + TICK_NS, now;
        while (!mon.stop && (now = nl_now_ns()) < until) {
            nl_cond_wait(mon.changed, mon.lock, until - now);
        }
        nl_mutex_unlock(mon.lock);
        quiet = tick() ? 0 : quiet + 1;
        nl_mutex_lock(mon.lock);
        if (quiet == QUIET_TICKS) {
            sleep_while_idle();
            quiet = 0;
        }
    }
    nl_mutex_unlock(mon.lock);
    nl_pool_thread_exit();
}

void nl_monitor_start(void)
{
    mon.lock = nl_mutex_new();
    mon.changed = nl_cond_new();
    mon.moved = nl_calloc_aligned(sizeof *mon.moved);
    mon.stop = false;
    memset(mon.last, 0, sizeof mon.last);
    nl_spares_init();
    if (nl_thread_start(&mon.thread, "nl-monitor", monitor_main, NULL)) {
        mon.thread = NULL; /* works without, only less fair */
    }
}

void nl_monitor_stop(void)
{
    if (mon.thread) {
        nl_mutex_lock(mon.lock);
        mon.stop = true;
        nl_cond_signal(mon.changed);
        nl_mutex_unlock(mon.lock);
        nl_thread_join(mon.thread);
        mon.thread = NULL;
    }
    nl_free_aligned(mon.moved);
    nl_cond_free(mon.changed);
    nl_mutex_free(mon.lock);
}

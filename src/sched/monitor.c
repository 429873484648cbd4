/*
 * monitor.c - a thread that sees to it that one long dispatch does not hold up the others.
 *
 * It ticks every 10 ms of the process's processor time (busy.h), so an idle process does not
 * wake it, but not twice within 5 ms, however many cores are at work.  A worker whose dispatch counter has not moved since the last tick is called
 * stuck: what stands in its next slot may be stolen then, and a parked worker, if there is
 * one, is woken as a searcher; before it parks again it also looks at the reactors and
 * timers of busy workers.  A context that runs on for seconds is named on standard error.
 */
#include "base/busy.h"
#include "base/log.h"
#include "sched/sched_impl.h"

#define TICK_NS 10000000
#define APART_NS 5000000 /* ticks that come faster, because many cores are at work, are one */
#define WARN_NS ((int64_t)2000000000)

static struct {
    nl_thread *thread;
    nl_busy *busy;
    nl_mutex *lock;
    nl_cond *changed; /* ready, stop */
    bool ready;
    atomic_bool stop;
} mon;

typedef struct {
    uint64_t dispatches;
    int64_t since; /* when it was first seen in this dispatch */
    bool warned;
} seen;

static void look_at(nl_worker *w, seen *s, int64_t now)
{
    uint64_t d = atomic_load_explicit(&w->dispatches, memory_order_relaxed);
    nl_qsbr_enter();
    nl_ctx *c = atomic_load_explicit(&w->current, memory_order_acquire);
    if (!c || d != s->dispatches) {
        s->dispatches = d;
        s->since = now;
        s->warned = false;
    } else {
        atomic_store(&w->stuck, true);
        nl_wake_for_rescue();
        if (c->ops->slow && c->ops->slow(c, nl_qsbr_behind(w->qsbr)) && w->interruptible) {
            nl_interrupt(w->interruptible);
        }
        if (now - s->since > WARN_NS && !s->warned) {
            s->warned = true;
            nl_log_async(c->ops->name(c),
                         "context %llu has been running for %.1f s without giving way; its worker serves "
                         "nobody else",
                         (unsigned long long)c->slot.id, (double)(now - s->since) / 1e9);
        }
    }
    nl_qsbr_leave();
}

/* Lets a while pass; a stop cuts it short. */
static void pause_for(int64_t ns)
{
    nl_mutex_lock(mon.lock);
    if (!atomic_load(&mon.stop)) {
        nl_cond_wait(mon.changed, mon.lock, ns);
    }
    nl_mutex_unlock(mon.lock);
}

static void monitor_main(void *arg)
{
    (void)arg;
    nl_sched *s = &nl_the_sched;
    static seen last[NL_WORKERS_MAX];
    nl_mutex_lock(mon.lock);
    mon.busy = nl_busy_new(TICK_NS);
    mon.ready = true;
    nl_cond_signal(mon.changed);
    nl_mutex_unlock(mon.lock);
    while (mon.busy) {
        nl_busy_wait(mon.busy);
        if (atomic_load(&mon.stop)) {
            break;
        }
        int64_t now = nl_now_ns();
        for (int i = 0; i < s->nworkers; i++) {
            look_at(s->worker[i], &last[i], now);
        }
        pause_for(APART_NS);
    }
}

void nl_monitor_start(void)
{
    mon.lock = nl_mutex_new();
    mon.changed = nl_cond_new();
    mon.ready = false;
    mon.busy = NULL;
    atomic_store(&mon.stop, false);
    if (nl_thread_start(&mon.thread, "nl-monitor", monitor_main, NULL)) {
        mon.thread = NULL; /* works without, only less fair */
        return;
    }
    nl_mutex_lock(mon.lock);
    while (!mon.ready) {
        nl_cond_wait(mon.changed, mon.lock, -1);
    }
    nl_mutex_unlock(mon.lock);
}

void nl_monitor_stop(void)
{
    if (mon.thread) {
        nl_mutex_lock(mon.lock);
        atomic_store(&mon.stop, true);
        nl_cond_signal(mon.changed);
        nl_mutex_unlock(mon.lock);
        if (mon.busy) {
            nl_busy_stop(mon.busy);
        }
        nl_thread_join(mon.thread);
        mon.thread = NULL;
    }
    if (mon.busy) {
        nl_busy_free(mon.busy);
    }
    nl_cond_free(mon.changed);
    nl_mutex_free(mon.lock);
}

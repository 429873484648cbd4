/* sched.c - start and stop of the runtime; see sched.h */
#include "sched/sched.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/log.h"
#include "base/trim.h"
#include "sched/sched_impl.h"
#include "sched/shutdown.h"

nl_sched nl_the_sched;
_Thread_local nl_worker *nl_self __attribute__((tls_model("initial-exec")));

static void no_io(uint64_t tag, unsigned events)
{
    (void)tag;
    (void)events;
}

static void no_flush(int worker, bool end)
{
    (void)worker;
    (void)end;
}

/* --- init, fini ------------------------------------------------------------------------------- */

nl_worker *nl_worker_new(int index, int *err)
{
    nl_worker *w = nl_calloc_aligned(sizeof *w);
    *err = nl_reactor_new(&w->reactor);
    if (*err) {
        nl_free_aligned(w);
        return NULL;
    }
    nl_runq_init(&w->runq);
    nl_timers_init(&w->ctx_timers);
    nl_timers_init(&w->layer_timers);
    w->index = index;
    w->watch = -1;
    w->global_in = 1;
    w->events = nl_malloc(NL_POLL_EVENTS * sizeof *w->events);
    w->rng = (nl_the_sched.chaos ? nl_the_sched.chaos : 0x9e3779b97f4a7c15u) * (2 * (uint64_t)index + 1) | 1;
    return w;
}

void nl_worker_free(nl_worker *w)
{
    nl_reactor_free(w->reactor);
    nl_timers_fini(&w->ctx_timers);
    nl_timers_fini(&w->layer_timers);
    nl_free(w->events);
    nl_thread_unwatch(w->watch);
    if (w->interruptible) {
        nl_interruptible_free(w->interruptible);
    }
    nl_free_aligned(w);
}

int nl_sched_init(const nl_sched_config *cfg)
{
    nl_sched *s = &nl_the_sched;
    memset(s, 0, sizeof *s);
    int n = cfg->workers > 0 ? cfg->workers : nl_ncpu();
    n = n < NL_WORKERS_MAX ? n : NL_WORKERS_MAX;
    s->pin = cfg->pin;
    s->chaos = cfg->chaos;
    s->hooks.io = no_io;
    s->hooks.flush = no_flush;
    s->mailbox_max = NL_MAILBOX_MAX;
    s->ticks_per_us = nl_ticks_calibrate();
    nl_alloc_init();
    int err = 0;
    for (; !err && s->nworkers < n; s->nworkers++) {
        s->worker[s->nworkers] = nl_worker_new(s->nworkers, &err);
        if (err) {
            break;
        }
    }
    if (err) {
        while (s->nworkers) {
            nl_worker_free(s->worker[--s->nworkers]);
        }
        return err;
    }
    atomic_store(&s->nall, s->nworkers);
    s->contexts = nl_slots_new();
    s->start_lock = nl_mutex_new();
    nl_injq_init(&s->injq);
    nl_names_init();
    nl_obituaries_init();
    nl_shutdown_init();
    return 0;
}

void nl_sched_fini(void)
{
    nl_sched *s = &nl_the_sched;
    nl_qsbr_fini();
    nl_names_fini();
    nl_obituaries_fini();
    nl_injq_fini(&s->injq);
    nl_slots_free(s->contexts);
    nl_mutex_free(s->start_lock);
    for (int i = 0; i < nl_workers_all(); i++) {
        nl_worker_free(s->worker[i]);
    }
    nl_pool_thread_exit();
    nl_trim_wait();
    nl_pool_fini();
}

void nl_sched_set_hooks(const nl_sched_hooks *h)
{
    nl_the_sched.hooks = *h;
}

/* --- run -------------------------------------------------------------------------------------- */

/* In a signal handler of the worker's thread, or while that is stopped. */
static NL_NO_TSAN void on_interrupt(void *worker)
{
    nl_worker *w = worker;
    nl_ctx *c = atomic_load_explicit(&w->current, memory_order_relaxed);
    if (c && c->ops->interrupted) {
        c->ops->interrupted(c);
    }
}

void nl_worker_main(void *arg)
{
    nl_worker *w = arg;
    nl_sched *s = &nl_the_sched;
    /*
     * No worker runs before all are started: the number of workers does not change under its eyes.
     */
    nl_mutex_lock(s->start_lock);
    nl_mutex_unlock(s->start_lock);
    nl_self = w;
    w->watch = nl_thread_watch();
    w->qsbr = nl_calloc_aligned(sizeof *w->qsbr);
    nl_qsbr_register(w->qsbr);
    w->interruptible = nl_interruptible_new(on_interrupt, w);
    /*
     * auto: measured on few processors, keeping a worker away from its waker's core costs more than
     * it gains.
     */
    if (s->pin == NL_PIN_ON || (s->pin == NL_PIN_AUTO && nl_ncpu() > 8 && s->nworkers == nl_ncpu())) {
        nl_thread_pin(w->index);
    }
    nl_worker_loop(w);
    nl_self = NULL;
    if (w->thread) {
        nl_pool_thread_exit();
    }
}

/* Starts all but the first, which is the calling thread; nworkers becomes how many there are. */
static void start_workers(void)
{
    nl_sched *s = &nl_the_sched;
    int wanted = s->nworkers, n = 1, failed = 0;
    nl_mutex_lock(s->start_lock); /* see nl_worker_main */
    for (int i = 1; i < wanted; i++) {
        char name[32];
        snprintf(name, sizeof name, "nl-worker-%d", n);
        int err = nl_thread_start(&s->worker[n]->thread, name, nl_worker_main, s->worker[n]);
        n += err == 0;
        failed = err ? err : failed;
    }
    for (int i = n; i < wanted; i++) {
        nl_worker_free(s->worker[i]);
    }
    s->nworkers = n;
    atomic_store(&s->nall, n);
    nl_mutex_unlock(s->start_lock);
    if (n < wanted) {
        nl_log(NULL, "only %d of %d workers could be started: %s", n, wanted, nl_err_text(failed));
    }
}

int nl_sched_run(void)
{
    nl_sched *s = &nl_the_sched;
    start_workers();
    nl_monitor_start();
    nl_worker_main(s->worker[0]);
    for (int i = 1; i < s->nworkers; i++) {
        nl_thread_join(s->worker[i]->thread);
    }
    nl_monitor_stop();
    nl_spares_join();
    nl_shutdown_settle();
    return nl_shutdown_status();
}

/* --- workers, seen from above ----------------------------------------------------------------- */

int nl_sched_workers(void)
{
    return nl_the_sched.nworkers;
}

int nl_worker_index(void)
{
    return nl_self ? nl_self->index : -1;
}

void nl_sched_blocking_begin(void)
{
    if (nl_self) {
        nl_qsbr_offline(nl_self->qsbr);
    }
}

void nl_sched_blocking_end(void)
{
    if (nl_self) {
        nl_qsbr_online(nl_self->qsbr);
    }
}

nl_reactor *nl_worker_reactor(int worker)
{
    return nl_the_sched.worker[worker]->reactor;
}

void nl_sched_want_flush(void)
{
    nl_self->want_flush = true;
}

bool nl_chaos(unsigned n)
{
    return nl_unlikely(nl_the_sched.chaos) && nl_self && nl_random(nl_self) % n == 0;
}

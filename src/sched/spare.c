/*
 * spare.c - workers beyond the number asked for, which step in when all the others are stuck.
 *
 * A spare is a worker with an index of nworkers or more.  It has a queue, a reactor to sleep in,
 * and timers, but is home to no sockets: those stay with the stuck workers, whose reactors it
 * polls as any searching worker does.  The context that sleeps keeps its thread.
 *
 * Off duty it may attend a stuck worker: sleep in that one's reactor, under its poll lock, so that
 * what arrives there is delivered at once.  The owner gets its reactor back by ringing its bell
 * until the lock is free (worker.c: lock_own_reactor).
 *
 * On duty a spare is like any worker.  Off duty it hands on what it has and rests, out of sight
 * of producers (worker.c: rest).  Only the monitor moves it from one to the other:
 *
 *   - a worker of the number asked for has not been stuck for 100 ms: all spares are off duty;
 *   - all workers on duty are stuck, and more of them sleep in the system than spares are among
 *     them: more are put on duty, up to that difference.  One whose context was given up
 *     (nl_ctx_give_up) counts as asleep.
 *
 * So no more threads compute for long than workers were asked for, however many sleep; and as long
 * as one sleeps there is one that serves the others.
 */
#include <stdio.h>

#include "base/err.h"
#include "base/log.h"
#include "sched/sched_impl.h"

#define CALM_TICKS 10   /* until spares are sent off duty */
#define PAUSE_TICKS 100 /* after a failure: descriptors or threads were out */

static struct {
    int calm;  /* ticks in a row that found a worker not stuck */
    int pause; /* ticks until the next attempt to start one */
    bool told; /* that none can be started */
} spares;

bool nl_worker_sleeps(const nl_worker *w)
{
    return nl_qsbr_is_offline(w->qsbr) || nl_thread_sleeps(w->watch);
}

/* On duty, or to attend a worker. */
static void start_one(nl_worker *attends)
{
    nl_sched *s = &nl_the_sched;
    int i = nl_workers_all(), err;
    if (i == NL_WORKERS_MAX || spares.pause) {
        return;
    }
    nl_worker *w = nl_worker_new(i, &err);
    if (w) {
        char name[32];
        snprintf(name, sizeof name, "nl-spare-%d", i - s->nworkers);
        atomic_store(&w->off_duty, attends != NULL);
        atomic_store(&w->attends, attends);
        nl_mutex_lock(s->start_lock); /* nl_worker_main waits until all is written */
        s->worker[i] = w;
        err = nl_thread_start(&w->thread, name, nl_worker_main, w);
        if (!err) {
            atomic_store(&s->nall, i + 1); /* from here on others look through it */
        }
        nl_mutex_unlock(s->start_lock);
        if (err) {
            nl_worker_free(w);
        }
    }
    spares.pause = err ? PAUSE_TICKS : 0;
    if (err && !spares.told) {
        nl_log_async(NULL,
                     "no spare worker can be started (%s): contexts wait for those that sleep in the system",
                     nl_err_text(err));
    }
    spares.told = err;
}

/* Off duty, and free for either work. */
static bool rests(nl_worker *w)
{
    return atomic_load(&w->off_duty) && !atomic_load(&w->attends) &&
           !atomic_load_explicit(&w->current, memory_order_relaxed);
}

/* Puts a spare on duty: one that rests, else a new one. */
static void call_one(int n)
{
    nl_sched *s = &nl_the_sched;
    for (int i = s->nworkers; i < n; i++) {
        nl_worker *w = s->worker[i];
        if (rests(w)) {
            atomic_store(&w->off_duty, false);
            nl_reactor_wake(w->reactor);
            return;
        }
    }
    start_one(NULL);
}

void nl_spares_attend(nl_worker *v, int n)
{
    nl_sched *s = &nl_the_sched;
    nl_worker *free_one = NULL;
    for (int i = s->nworkers; i < n; i++) {
        nl_worker *w = s->worker[i];
        if (atomic_load(&w->attends) == v) {
            return;
        }
        free_one = rests(w) ? w : free_one;
    }
    if (free_one) {
        atomic_store(&free_one->attends, v);
        nl_reactor_wake(free_one->reactor);
    } else {
        start_one(v);
    }
}

static void send_all_off(int n)
{
    nl_sched *s = &nl_the_sched;
    for (int i = s->nworkers; i < n; i++) {
        nl_worker *w = s->worker[i];
        if (!atomic_exchange(&w->off_duty, true)) {
            /* it may be parked, and is not to be found there any more */
            nl_reactor_wake(w->reactor);
        }
    }
}

void nl_spares_adjust(const bool *stuck, int n)
{
    nl_sched *s = &nl_the_sched;
    bool free_worker = false, free_spare = false;
    for (int i = 0; i < n; i++) {
        if (!stuck[i] && i < s->nworkers) {
            free_worker = true;
        } else if (!stuck[i] && !atomic_load(&s->worker[i]->off_duty)) {
            free_spare = true;
        }
    }
    spares.calm = free_worker ? spares.calm + 1 : 0;
    spares.pause -= spares.pause > 0;
    if (spares.calm == CALM_TICKS) {
        send_all_off(n);
    }
    if (free_worker || free_spare) {
        return;
    }
    int missing = 0; /* asleep, and no spare computes in its place */
    for (int i = 0; i < n; i++) {
        missing += stuck[i] && (s->worker[i]->lost || nl_worker_sleeps(s->worker[i]));
        missing -= stuck[i] && i >= s->nworkers;
    }
    /* As many as find something to do, but one in any case: events come in too. */
    size_t ready = nl_injq_len(&s->injq);
    for (size_t called = 0; missing > 0 && (called == 0 || called < ready); called++, missing--) {
        call_one(n);
    }
}

void nl_spares_init(void)
{
    spares.calm = spares.pause = 0;
    spares.told = false;
}

void nl_spares_join(void)
{
    nl_sched *s = &nl_the_sched;
    for (int i = s->nworkers; i < nl_workers_all(); i++) {
        nl_thread_join(s->worker[i]->thread);
    }
}

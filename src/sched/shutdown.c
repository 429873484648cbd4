/* shutdown.c - see shutdown.h */
#include "sched/shutdown.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/signals.h"
#include "sched/sched_impl.h"

static struct {
    nl_mutex *lock;    /* one request at a time */
    atomic_bool begun; /* written under the lock */
    bool settled;      /* under the lock: no context is left, nor the table to find one in */
    bool guarded;      /* written before there is another thread */
    atomic_int status;
    atomic_bool unasked; /* only contexts that were given up are left */
    atomic_int signal;
    /* When the rest is cut off; 0: nobody has asked.  Status and signal stand before it. */
    atomic_int_fast64_t deadline;
} end;

/* --- the watchdog ----------------------------------------------------------------------------- */

static struct {
    nl_mutex *lock;
    nl_cond *ended;
    bool over;
} last_flush;

/* Not after the layers above are gone, which follows nl_shutdown_settle. */
static void reset_unsent(void)
{
    nl_mutex_lock(end.lock);
    if (!end.settled && nl_the_sched.hooks.reset_unsent) {
        nl_qsbr_enter();
        nl_the_sched.hooks.reset_unsent();
        nl_qsbr_leave();
    }
    nl_mutex_unlock(end.lock);
}

static void flush_output(void *arg)
{
    (void)arg;
    reset_unsent();
    fflush(stdout); /* the first: a stuck file is no reason to lose it */
    fflush(NULL);
    nl_log_finish();
    nl_mutex_lock(last_flush.lock);
    last_flush.over = true;
    nl_cond_signal(last_flush.ended);
    nl_mutex_unlock(last_flush.lock);
}

/*
 * What was printed is still to go out.  But a worker that sleeps in a write holds the stream's
 * lock, and maybe nobody reads what we write.  So another thread writes, and is waited for so long.
 */
static void flush_within(int64_t ns)
{
    int64_t until = nl_now_ns() + ns, now;
    nl_thread *t;
    last_flush.lock = nl_mutex_new();
    last_flush.ended = nl_cond_new();
    if (nl_thread_start(&t, "nl-flush", flush_output, NULL)) {
        return;
    }
    nl_mutex_lock(last_flush.lock);
    while (!last_flush.over && (now = nl_now_ns()) < until) {
        nl_cond_wait(last_flush.ended, last_flush.lock, until - now);
    }
    nl_mutex_unlock(last_flush.lock);
}

static _Noreturn void cut_off(void)
{
    flush_within(atomic_load(&end.unasked) ? NL_SHUTDOWN_UNASKED_FLUSH_NS : NL_SHUTDOWN_FLUSH_NS);
    if (nl_shutdown_signal()) {
        nl_end_by_signal(nl_shutdown_signal());
    }
    nl_end_at_once(nl_shutdown_status());
}

/* --- the request ------------------------------------------------------------------------------ */

static void tell(nl_ctx *c, void *arg)
{
    (void)arg;
    nl_ctx_kill(c->slot.id, NULL);
}

static void tell_all(void)
{
    nl_sched *s = &nl_the_sched;
    /* nl_ctx_start looks at begun under this lock: a context is refused, or in the table. */
    nl_mutex_lock(s->start_lock);
    atomic_store(&end.begun, true);
    nl_mutex_unlock(s->start_lock);
    if (s->hooks.hurry) {
        s->hooks.hurry();
    }
    nl_qsbr_enter();
    nl_ctx_each(tell, NULL);
    nl_qsbr_leave();
}

static void request(int status, int sig)
{
    nl_mutex_lock(end.lock);
    if (!nl_shutdown_begun()) {
        atomic_store(&end.status, status);
        atomic_store(&end.signal, sig);
        atomic_store(&end.deadline, nl_now_ns() + NL_SHUTDOWN_GRACE_NS);
        if (end.guarded) {
            nl_signals_wake();
        }
        if (end.settled) {
            atomic_store(&end.begun, true);
        } else {
            tell_all();
        }
    }
    nl_mutex_unlock(end.lock);
}

/* --- the main thread -------------------------------------------------------------------------- */

static _Noreturn void watch(void)
{
    for (int signals = 0;;) {
        int64_t deadline = atomic_load(&end.deadline), left = deadline ? deadline - nl_now_ns() : -1;
        if (deadline && left <= 0) {
            cut_off();
        }
        int sig = nl_signals_wait(left);
        if (sig && signals++ > 0) {
            reset_unsent();
            nl_end_by_signal(sig);
        } else if (sig) {
            request(128 + sig, sig);
        }
    }
}

static struct {
    int (*fn)(void *arg);
    void *arg;
} program;

static _Noreturn void run_program(void)
{
    int status = program.fn(program.arg);
    if (nl_shutdown_begun()) { /* so the watchdog ends it, if nobody reads standard error */
        nl_log_finish();
    }
    if (nl_shutdown_signal()) {
        fflush(NULL);
        nl_end_by_signal(nl_shutdown_signal());
    }
    exit(status);
}

static void program_thread(void *arg)
{
    (void)arg;
    run_program();
}

void nl_shutdown_guard(int (*fn)(void *arg), void *arg)
{
    program.fn = fn;
    program.arg = arg;
    end.lock = nl_mutex_new();
    end.guarded = nl_signals_init() == 0;
    if (end.guarded && nl_thread_start(NULL, "nl-worker-0", program_thread, NULL) == 0) {
        watch();
    }
    end.guarded = false;
    run_program();
}

void nl_shutdown_catch_signals(void)
{
    if (end.guarded) { /* else they end the process at once, as they do by default */
        nl_signals_catch();
    }
}

void nl_shutdown_request(int status)
{
    request(status, 0);
}

void nl_shutdown_if_over(void)
{
    nl_sched *s = &nl_the_sched;
    if (atomic_load(&s->live) == 0 && (!s->hooks.holding || s->hooks.holding() == 0) &&
        !atomic_exchange(&s->stop, true)) {
        nl_wake_all();
        if (atomic_load(&s->given_up)) {
            atomic_store(&end.unasked, !nl_shutdown_begun());
            request(nl_shutdown_status(), 0); /* its worker cannot be waited for */
        }
    }
}

/* --- state ------------------------------------------------------------------------------------ */

bool nl_shutdown_begun(void)
{
    return atomic_load_explicit(&end.begun, memory_order_relaxed);
}

int nl_shutdown_signal(void)
{
    return atomic_load(&end.signal);
}

int nl_shutdown_status(void)
{
    return atomic_load(&end.status);
}

void nl_shutdown_set_status(int status)
{
    nl_mutex_lock(end.lock);
    if (!nl_shutdown_begun()) {
        atomic_store(&end.status, status);
    }
    nl_mutex_unlock(end.lock);
}

void nl_shutdown_init(void)
{
    if (!end.lock) {
        end.lock = nl_mutex_new();
    }
    atomic_store(&end.begun, false);
    end.settled = false;
    atomic_store(&end.status, 0);
    atomic_store(&end.signal, 0);
    atomic_store(&end.unasked, false);
    atomic_store(&end.deadline, 0);
}

void nl_shutdown_settle(void)
{
    nl_mutex_lock(end.lock);
    end.settled = true;
    nl_mutex_unlock(end.lock);
}

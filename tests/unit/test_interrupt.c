// A context that computes for long is interrupted on the thread that runs it, and only while it computes.
#include <pthread.h>
#include <time.h>

#include "base/interrupt.h"
#include "sched_kit.h"

#define TIMES 3

static _Thread_local nl_ctx *running_here;
static atomic_int interrupts, elsewhere;

static bool ask(nl_ctx *c, bool limbo)
{
    (void)c;
    (void)limbo;
    return true;
}

static NL_NO_TSAN void interrupted(nl_ctx *c)
{
    atomic_fetch_add_explicit(&elsewhere, running_here != c, memory_order_relaxed);
    atomic_fetch_add_explicit(&interrupts, 1, memory_order_relaxed);
}

static nl_ctx_ops slow_ops;

static void compute(actor *a)
{
    running_here = &a->ctx;
    int until = atomic_load(&interrupts) + TIMES;
    while (atomic_load(&interrupts) < until) {
        nl_cpu_relax();
    }
    running_here = NULL;
}

static void boot_compute(void)
{
    for (int i = 0; i < 8; i++) {
        actor *a = actor_new(compute, NULL);
        a->stay = false;
        slow_ops = *a->ctx.ops;
        slow_ops.slow = ask;
        slow_ops.interrupted = interrupted;
        a->ctx.ops = &slow_ops;
        actor_start(a);
    }
}

Test(interrupt, comes_on_the_thread_that_runs_the_context)
{
    for (int w = 1; w <= 3; w++) {
        atomic_store(&interrupts, 0);
        run(w, 0, boot_compute);
        cr_assert_geq(atomic_load(&interrupts), TIMES);
        cr_assert_eq(atomic_load(&elsewhere), 0);
    }
}

#ifdef __linux__ // elsewhere it cannot be told whether a thread sleeps

static atomic_int count;

static void counted(void)
{
    atomic_fetch_add(&count, 1);
}

static void *ask_all_the_time(void *arg)
{
    for (int i = 0; i < 200; i++) {
        nl_interrupt(arg);
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    return NULL;
}

Test(interrupt, cuts_no_sleep_short)
{
    nl_interruptible *me = nl_interruptible_new(counted);
    cr_assert_not_null(me);
    pthread_t other;
    cr_assert_eq(pthread_create(&other, NULL, ask_all_the_time, me), 0);
    for (int i = 0; i < 10; i++) {
        cr_assert_eq(nanosleep(&(struct timespec){0, 20000000}, NULL), 0);
    }
    pthread_join(other, NULL);
    nl_interrupt(me);
    int before = atomic_load(&count);
    while (atomic_load(&count) == before) {
    }
    nl_interruptible_free(me);
}

#endif

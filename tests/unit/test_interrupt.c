// A context that computes for long is interrupted between two of its instructions, and no sleep is cut short.
#include <pthread.h>
#include <time.h>

#include "base/interrupt.h"
#include "sched_kit.h"

#define TIMES 3

static atomic_int interrupts, beside;

static bool ask(nl_ctx *c, bool limbo)
{
    (void)c;
    (void)limbo;
    return true;
}

static NL_NO_TSAN int64_t steps_of(const actor *a)
{
    return *(const volatile int64_t *)&a->count;
}

/* Between two instructions of compute: that makes no step meanwhile. */
static NL_NO_TSAN void interrupted(nl_ctx *c)
{
    actor *a = (actor *)c;
    int64_t steps = steps_of(a);
    for (int i = 0; i < 10000; i++) {
        nl_cpu_relax();
    }
    atomic_fetch_add_explicit(&beside, steps_of(a) != steps, memory_order_relaxed);
    atomic_fetch_add_explicit(&interrupts, 1, memory_order_relaxed);
}

static nl_ctx_ops slow_ops;

static NL_NO_TSAN void compute(actor *a)
{
    int until = atomic_load(&interrupts) + TIMES;
    while (atomic_load(&interrupts) < until) {
        ++*(volatile int64_t *)&a->count;
    }
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

Test(interrupt, comes_between_two_steps_of_the_context)
{
    for (int w = 1; w <= 3; w++) {
        atomic_store(&interrupts, 0);
        run(w, 0, boot_compute);
        cr_assert_geq(atomic_load(&interrupts), TIMES);
        cr_assert_eq(atomic_load(&beside), 0);
    }
}

#if defined(__linux__) || defined(_WIN32) // elsewhere a signal ends a sleep

static atomic_int count;

static void counted(void *arg)
{
    (void)arg;
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
    nl_interruptible *me = nl_interruptible_new(counted, NULL);
    cr_assert_not_null(me);
    pthread_t other;
    cr_assert_eq(pthread_create(&other, NULL, ask_all_the_time, me), 0);
    for (int i = 0; i < 10; i++) {
        cr_assert_eq(nanosleep(&(struct timespec){0, 20000000}, NULL), 0);
    }
    pthread_join(other, NULL);
    int before = atomic_load(&count);
    nl_interrupt(me);
    while (atomic_load(&count) == before) {
    }
    nl_interruptible_free(me);
}

#endif

/*
 * busy_linux.c - see busy.h: a POSIX timer on the process's CPU clock signals the monitor's
 * thread, which takes the signal with sigtimedwait.  Between two ticks there is no system call.
 */
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/busy.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

struct nl_busy {
    timer_t timer;
    pid_t tid;
    sigset_t set;
    atomic_bool stop;
};

static int tick_signal(void)
{
    return SIGRTMIN + 3;
}

nl_busy *nl_busy_new(int64_t period_ns)
{
    nl_busy *b = nl_calloc(sizeof *b);
    b->tid = (pid_t)syscall(SYS_gettid);
    sigemptyset(&b->set);
    sigaddset(&b->set, tick_signal());
    /* Only this thread can get the signal (SIGEV_THREAD_ID), so only it needs to block it. */
    pthread_sigmask(SIG_BLOCK, &b->set, NULL);
    struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = tick_signal()};
    ev.sigev_notify_thread_id = b->tid;
    if (timer_create(CLOCK_PROCESS_CPUTIME_ID, &ev, &b->timer)) {
        nl_free(b);
        return NULL;
    }
    struct itimerspec its = {.it_interval = {period_ns / 1000000000, period_ns % 1000000000}};
    its.it_value = its.it_interval;
    timer_settime(b->timer, 0, &its, NULL);
    return b;
}

void nl_busy_wait(nl_busy *b)
{
    while (!atomic_load(&b->stop)) {
        siginfo_t info;
        if (sigwaitinfo(&b->set, &info) > 0) {
            return;
        }
    }
}

void nl_busy_poke(nl_busy *b)
{
    syscall(SYS_tgkill, getpid(), b->tid, tick_signal());
}

void nl_busy_stop(nl_busy *b)
{
    atomic_store(&b->stop, true);
    nl_busy_poke(b);
}

void nl_busy_free(nl_busy *b)
{
    timer_delete(b->timer);
    nl_free(b);
}

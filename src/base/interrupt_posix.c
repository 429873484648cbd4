/*
 * interrupt_posix.c - see interrupt.h
 *
 * On Linux the signal comes from a timer on the thread's own processor time, and the kernel gives
 * it to that thread.  A thread that sleeps uses no processor time, so the signal does not find it
 * in a system call that waits.  Elsewhere it is sent, and may cut a call short that the system does
 * not restart.
 */
#include "base/interrupt.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "base/alloc.h"

#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif
#endif
#if NL_TSAN
#include <dlfcn.h>
#endif

/* Ignored by default: one that comes late, or to a child, does no harm. */
#define SIGNAL SIGURG
#define SOON_NS 100000 /* of processor time */

struct nl_interruptible {
#ifdef __linux__
    timer_t timer;
#else
    pthread_t thread;
#endif
};

static _Atomic(void (*)(void *)) call;
static _Thread_local void *own_arg;

static NL_NO_TSAN void on_signal(int sig)
{
    (void)sig;
    int saved = errno;
    atomic_load_explicit(&call, memory_order_relaxed)(own_arg);
    errno = saved;
}

static void catch_signal(void)
{
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART | SA_ONSTACK};
    sigemptyset(&sa.sa_mask);
    int (*set)(int, const struct sigaction *, struct sigaction *) = sigaction;
#if NL_TSAN
    /* TSan's sigaction keeps a signal until the next call of libc, which a loop may never make. */
    void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    *(void **)&set = libc ? dlsym(libc, "sigaction") : (void *)set;
#endif
    set(SIGNAL, &sa, NULL);
}

nl_interruptible *nl_interruptible_new(void (*fn)(void *arg), void *arg)
{
    nl_interruptible *t = nl_malloc(sizeof *t);
    own_arg = arg;
    atomic_store(&call, fn);
    catch_signal();
#ifdef __linux__
    struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGNAL};
    ev.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    if (timer_create(CLOCK_THREAD_CPUTIME_ID, &ev, &t->timer)) {
        nl_free(t);
        return NULL;
    }
#else
    t->thread = pthread_self();
#endif
    return t;
}

void nl_interruptible_free(nl_interruptible *t)
{
#ifdef __linux__
    timer_delete(t->timer);
#endif
    nl_free(t);
}

void nl_interrupt(nl_interruptible *t)
{
#ifdef __linux__
    static const struct itimerspec soon = {.it_value = {0, SOON_NS}};
    timer_settime(t->timer, 0, &soon, NULL);
#else
    pthread_kill(t->thread, SIGNAL);
#endif
}

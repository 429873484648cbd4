/*
 * interrupt_win.c - see interrupt.h and stop.h
 *
 * Windows has no signals that reach one thread.  The one that asks stops the other, calls fn itself
 * and lets the other go on:
 *
 *   Asks:   (1) SuspendThread           Thread:  (a) stores to its state
 *           (2) GetThreadContext                 … stopped between two instructions
 *           (3) fn                               (b) loads from its state
 *           (4) ResumeThread
 *
 * SuspendThread only orders the stop; GetThreadContext returns once the thread has stopped.  The
 * thread gets there, and on from there, by way of the kernel on its own processor, which is a full
 * barrier: 3 sees all of a, and b sees all of 3.  So fn finds what a signal handler of the thread
 * would find, and may do what that may do.
 *
 * It may not do more.  The thread can have been stopped anywhere, so it may hold any lock: that of
 * malloc, of stdio, of the loader.  Between 1 and 4 no lock is taken: the three calls are system
 * calls, and fn takes none.  There are two: sched.c's on_interrupt, which loads the worker's
 * context and by nl_interrupted stores into its Lua state (lua_sethook); and os_win.c's look at
 * where the thread is.
 *
 * Two threads that stop each other would stop for ever, so only the holder of `stopping` stops one.
 * A thread that waits for it does not hold it, and may be stopped.
 *
 * A system call that the thread sleeps in is not cut short: the thread sleeps on, and counts as
 * stopped where it left for the kernel.
 */
#include "base/interrupt.h"

#include <windows.h>

#include "base/alloc.h"
#include "base/stop.h"

struct nl_interruptible {
    HANDLE thread;
    DWORD id;
    void (*fn)(void *arg);
    void *arg;
};

static SRWLOCK stopping = SRWLOCK_INIT;

bool nl_stop_thread(void *thread, void (*fn)(void *arg, uintptr_t pc), void *arg)
{
    CONTEXT where = {.ContextFlags = CONTEXT_CONTROL};
    AcquireSRWLockExclusive(&stopping);
    bool stopped = SuspendThread(thread) != (DWORD)-1;
    if (stopped) {
        if (GetThreadContext(thread, &where)) {
            fn(arg, where.Rip);
        }
        ResumeThread(thread);
    }
    ReleaseSRWLockExclusive(&stopping);
    return stopped;
}

nl_interruptible *nl_interruptible_new(void (*fn)(void *arg), void *arg)
{
    HANDLE self = GetCurrentProcess(), thread;
    if (!DuplicateHandle(self, GetCurrentThread(), self, &thread, NL_STOP_ACCESS, FALSE, 0)) {
        return NULL;
    }
    nl_interruptible *t = nl_malloc(sizeof *t);
    *t = (nl_interruptible){thread, GetCurrentThreadId(), fn, arg};
    return t;
}

void nl_interruptible_free(nl_interruptible *t)
{
    CloseHandle(t->thread);
    nl_free(t);
}

static void call(void *arg, uintptr_t pc)
{
    (void)pc;
    const nl_interruptible *t = arg;
    t->fn(t->arg);
}

void nl_interrupt(nl_interruptible *t)
{
    if (t->id == GetCurrentThreadId()) {
        t->fn(t->arg);
    } else {
        nl_stop_thread(t->thread, call, t);
    }
}

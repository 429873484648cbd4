/*
 * spin.h - a lock of one byte for critical sections of a few dozen instructions.
 *
 * Purpose:   guards what is touched so shortly that sleeping would cost more than waiting.  A
 *            waiter spins, then yields its time slice, so that a holder that was preempted runs.
 * Threads:   any.  Under it nothing is called back and nothing sleeps, with one exception: a worker
 *            sleeps in a reactor under its poll lock.  Others only try the lock, the owner rings.
 * Ownership: the structure that contains it.
 */
#ifndef NL_SPIN_H
#define NL_SPIN_H

#include "base/os.h"

typedef struct nl_spin {
    atomic_bool held;
} nl_spin;

#define NL_SPIN_INIT                                                                                         \
    {                                                                                                        \
        false                                                                                                \
    }

/* In builds with debug assertions: how many the calling thread holds. */
extern _Thread_local int nl_spins_held;
#ifdef NDEBUG
#define nl_spin_count(n) ((void)0)
#else
#define nl_spin_count(n) ((void)(nl_spins_held += (n)))
#endif
/* Before memory is taken from the system or from other threads: no spin lock may be held. */
#define nl_spin_assert_none()                                                                                \
    nl_debug_assert(nl_spins_held == 0, "no spin lock is held while memory is taken")

static inline bool nl_spin_trylock(nl_spin *s)
{
    /* Acquire pairs with the release in nl_spin_unlock: the last holder's writes are seen. */
    bool taken = !atomic_load_explicit(&s->held, memory_order_relaxed) &&
                 !atomic_exchange_explicit(&s->held, true, memory_order_acquire);
    if (taken) {
        nl_spin_count(1);
    }
    return taken;
}

static inline void nl_spin_lock(nl_spin *s)
{
    int spins = 0;
    while (!nl_spin_trylock(s)) {
        if (++spins < 64) {
            nl_cpu_relax();
        } else {
            nl_thread_yield();
        }
    }
}

static inline void nl_spin_unlock(nl_spin *s)
{
    nl_spin_count(-1);
    atomic_store_explicit(&s->held, false, memory_order_release);
}

#endif

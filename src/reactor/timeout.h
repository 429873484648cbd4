/*
 * timeout.h - the time that is left of a wait which goes on after an interruption.
 *
 * Purpose:   what nl_reactor_poll of each back end does with its timeout_ns.
 * Threads:   no state; any thread.
 * Ownership: nothing.
 */
#ifndef NL_TIMEOUT_H
#define NL_TIMEOUT_H

#include "base/os.h"

/* When the wait is over.  A time-out beyond what the clock can count becomes -1: for ever. */
static inline int64_t nl_timeout_begin(int64_t *timeout_ns)
{
    int64_t now = *timeout_ns > 0 ? nl_now_ns() : 0;
    if (*timeout_ns >= INT64_MAX - now) {
        *timeout_ns = -1;
    }
    return now + *timeout_ns;
}

/* Sets *timeout_ns to what is left; true: nothing is. */
static inline bool nl_timeout_is_over(int64_t *timeout_ns, int64_t deadline)
{
    if (*timeout_ns > 0) {
        int64_t left = deadline - nl_now_ns();
        *timeout_ns = left > 0 ? left : 0;
    }
    return *timeout_ns == 0;
}

#endif

/*
 * posix.h - what the POSIX implementations of reactor.h and sock.h share.
 *
 * Purpose:   errno as a result.
 * Threads:   no state; any thread.
 * Ownership: nothing.
 */
#ifndef NL_REACTOR_POSIX_H
#define NL_REACTOR_POSIX_H

#include "base/base.h"

/* errno as a result; EWOULDBLOCK, where it is a number of its own, as EAGAIN. */
static inline int nl_neg_errno(void)
{
#if EWOULDBLOCK != EAGAIN
    if (errno == EWOULDBLOCK) {
        return -EAGAIN;
    }
#endif
    return -errno;
}

#endif

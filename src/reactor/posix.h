/*
 * posix.h - what the POSIX implementations of addr.h and sock.h share.
 *
 * Purpose:   an nl_addr as the system's struct sockaddr; errno as a result.
 * Threads:   no state; any thread.
 * Ownership: nothing.
 */
#ifndef NL_REACTOR_POSIX_H
#define NL_REACTOR_POSIX_H

#include "reactor/addr.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

static inline struct sockaddr *nl_sockaddr(nl_addr *a)
{
    return (struct sockaddr *)(void *)a->u.bytes;
}

static inline const struct sockaddr *nl_csockaddr(const nl_addr *a)
{
    return (const struct sockaddr *)(const void *)a->u.bytes;
}

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

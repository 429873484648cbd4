/*
 * reactor.h - readiness of sockets, one reactor per worker.
 *
 * Purpose:   the contract of the back ends: epoll.c (Linux), kqueue.c (macOS, the BSDs), iocp.c
 *            (Windows) and poll.c (any POSIX system).  tests/unit/test_reactor*.c test it; each
 *            back end passes.
 * Threads:   attach, detach, arm_* and wake may be called by any thread; poll by one thread at
 *            a time (it holds the worker's poll lock).
 * Ownership: the caller owns the descriptors.  A reactor names a socket by a tag (its id in the
 *            socket table, slots.h), never by a pointer, so it holds no memory of others.  An
 *            event of a socket that was detached meanwhile is stale: the tag is not found.
 *
 * Readiness with credit.  nl_reactor_attach arms READ and HUP.  WRITE is armed by who has found no
 * room, so a socket that only reads costs one request; a connect under way has neither end yet:
 * its caller arms WRITE, and READ once it is connected.  An event takes away the credit of its
 * direction and says "try again": the receiver uses the socket until the non-blocking call says
 * NL_AGAIN, then calls the arm function.  What is ready then, or becomes ready later, is reported
 * again.  So:
 *
 *   - A direction that is not armed may never be reported (poll.c, which is one-shot).
 *   - Events may be spurious or doubled: epoll reports both directions with each edge, kqueue
 *     room to write with each acknowledgement.  But without a change and without arming, events
 *     come to an end.
 *   - A short count of a read or write is as good as NL_AGAIN, except after HUP: epoll may have
 *     reported the last bytes and the end of the stream as one edge.
 */
#ifndef NL_REACTOR_H
#define NL_REACTOR_H

#include "base/base.h"
#include "reactor/sock.h"

typedef struct nl_reactor nl_reactor;

enum {
    NL_EV_READ = 1,  /* data, a connection to accept, or the end of the stream */
    NL_EV_WRITE = 2, /* room in the send buffer, or a connect that has finished either way */
    NL_EV_HUP = 4    /* the peer has shut down (if the system tells) or an error is pending */
};

typedef struct nl_event {
    uint64_t tag;
    unsigned events; /* NL_EV_* */
} nl_event;

/* The back end's name, for nl-jit -v. */
const char *nl_reactor_backend(void);

/* 0 and *out, or -errno. */
int nl_reactor_new(nl_reactor **out);
void nl_reactor_free(nl_reactor *r);

/*
 * Starts to watch fd, which no reactor watches yet, under tag (not 0).  After a detach the same
 * reactor can watch it again; Windows binds it to its first one.  0 or -errno (EBADF, EMFILE,
 * ENOSPC, ENOMEM).
 */
int nl_reactor_attach(nl_reactor *r, nl_fd fd, uint64_t tag);
/*
 * Stops watching; must be called before the descriptor is closed.  An event already harvested
 * may still be seen.  On return no poll keeps the socket open: a close ends the connection,
 * and frees the port, at once.
 */
void nl_reactor_detach(nl_reactor *r, nl_fd fd, uint64_t tag);
/*
 * Arms READ, after the socket was drained or its connect has succeeded.  Does nothing if tag is
 * detached.  0 or -errno.
 */
int nl_reactor_arm_read(nl_reactor *r, nl_fd fd, uint64_t tag);
/* Arms WRITE, after a short write, or while a connect is under way. */
int nl_reactor_arm_write(nl_reactor *r, nl_fd fd, uint64_t tag);

/*
 * Waits up to timeout_ns (0: only looks; < 0: for ever) and fills ev[0..max).  Returns the
 * number of events (0 after a time-out or a wake), or -errno.  Precision is that of the
 * system, nanoseconds where it has them; never returns 0 before the time-out unless woken.
 */
int nl_reactor_poll(nl_reactor *r, nl_event *ev, int max, int64_t timeout_ns);

/*
 * Makes the poll now under way, or the next one, return at once; the caller of that poll sees
 * what was written before the wake.  Async-signal-safe.
 */
void nl_reactor_wake(nl_reactor *r);

#endif

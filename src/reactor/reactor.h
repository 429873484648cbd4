/*
 * reactor.h - readiness of sockets, one reactor per worker; the contract every back end
 * (epoll.c, kqueue.c, iocp.c) fulfils.
 *
 * Readiness with credit: after nl_reactor_attach a READ and a WRITE edge are armed.  An
 * event says "try again"; whoever got it uses the socket until the non-blocking call says
 * NL_AGAIN (or a short count), then calls the arm function, after which the next change is
 * reported once.  Events may be spurious or doubled.  epoll is edge triggered, so its arm
 * functions have nothing to do; kqueue arms WRITE on demand; IOCP posts its overlapped
 * operations there.
 *
 * A socket is named by a tag (its id in the socket table, slots.h), never by a pointer: an
 * event harvested for a socket that was detached meanwhile is recognised as stale by
 * whoever looks the tag up, so the reactor holds no memory of others.
 *
 * Threads: attach, detach, arm_* and wake may be called by any thread; poll by one thread at
 * a time (the worker's poll lock sees to it).
 */
#ifndef NL_REACTOR_H
#define NL_REACTOR_H

#include "base/base.h"
#include "reactor/sock.h"

typedef struct nl_reactor nl_reactor;

enum {
    NL_EV_READ = 1,  /* data, a connection to accept, or the end of the stream */
    NL_EV_WRITE = 2, /* room in the send buffer, or a connect that has finished either way */
    NL_EV_HUP = 4    /* the peer has shut down or an error is pending: a short read is not the end */
};

typedef struct nl_event {
    uint64_t tag;
    unsigned events; /* NL_EV_* */
} nl_event;

/* "epoll", "kqueue", "iocp": for nl-jit -v. */
const char *nl_reactor_backend(void);

/* 0 and *out, or -errno. */
int nl_reactor_new(nl_reactor **out);
void nl_reactor_free(nl_reactor *r);

/* Starts to watch fd under tag (not 0).  0 or -errno (EMFILE, ENOSPC, ENOMEM). */
int nl_reactor_attach(nl_reactor *r, nl_fd fd, uint64_t tag);
/* Stops watching; to be called before the descriptor is closed.  An event already harvested may still be seen. */
void nl_reactor_detach(nl_reactor *r, nl_fd fd, uint64_t tag);
/* Asks for the next READ edge, after the socket was drained. */
int nl_reactor_arm_read(nl_reactor *r, nl_fd fd, uint64_t tag);
/* Asks for the next WRITE edge, after a short write. */
int nl_reactor_arm_write(nl_reactor *r, nl_fd fd, uint64_t tag);

/*
 * Waits up to timeout_ns (0: only looks; < 0: for ever) and fills ev[0..max).  Returns the
 * number of events (0 after a time-out or a wake), or -errno.  Precision is that of the
 * system, nanoseconds where it has them; never returns 0 before the time-out unless woken.
 */
int nl_reactor_poll(nl_reactor *r, nl_event *ev, int max, int64_t timeout_ns);

/* Makes the poll now under way, or the next one, return at once.  Async-signal-safe. */
void nl_reactor_wake(nl_reactor *r);

#endif

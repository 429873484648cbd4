/*
 * poll.c - the reactor on poll(2), for any POSIX system.
 *
 * poll(2) is level triggered and keeps nothing between two calls.  So a table says, by
 * descriptor, which directions are armed; each call of nl_reactor_poll makes its set from it,
 * and a direction that was reported is armed no longer.  A poll costs as much as there are
 * descriptors: this back end is for systems that have nothing better, and for tests.
 *
 * Changes during a poll.  The set of a poll that sleeps in the system does not change.  A
 * thread that arms or attaches then rings the bell, a pipe that is in every set, and the poller
 * makes a new set.  A thread that detaches rings as well and waits until the poller has left
 * poll(2), which holds the socket open: a close that follows must reach the peer and must free
 * the port at once.
 *
 * No wake-up is lost.
 *
 *     nl_reactor_wake                       poller
 *     rung = true (exchange)                poll(2) returns: a byte is in the pipe
 *     a byte into the pipe, if it           take the bytes out of the pipe
 *     was false                             rung = false (exchange): was it true, return
 *
 * The exchanges stand in one order.  A wake that finds true stands before the exchange that
 * ends that ring, which reads from it: release to acquire, the caller of poll sees what was
 * written before the wake.  A wake that finds false puts in its byte after the last exchange,
 * so either that byte is there for a later poll(2), or it was taken out together with others
 * and then the poller's exchange, which comes after it, finds true.
 */
#include "base/alloc.h"
#include "base/os.h"
#include "base/process.h"
#include "reactor/reactor.h"
#include "reactor/timeout.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000
#ifndef POLLRDHUP
#define POLLRDHUP 0 /* a Linux extension; without it the end of the stream is READ alone */
#endif

typedef struct watch {
    uint64_t tag; /* 0: not attached */
    short armed;  /* POLLIN, POLLOUT; POLLRDHUP until it has been reported */
} watch;

struct nl_reactor {
    int bell[2];
    atomic_bool rung; /* by nl_reactor_wake, and not answered yet */

    nl_mutex *lock;     /* guards the rest */
    nl_cond *left_poll; /* a poll has ended */
    unsigned polls;     /* how many have */
    bool polling;       /* a thread is in poll(2) */
    bool bell_rung;     /* for the poll under way, because its set is out of date */
    watch *watches;     /* by descriptor */
    int nwatches;

    struct pollfd *set; /* the poller's own; [0] is the bell */
    int set_size, first;
};

const char *nl_reactor_backend(void)
{
    return "poll";
}

int nl_reactor_new(nl_reactor **out)
{
    nl_reactor *r = (nl_reactor *)nl_calloc(sizeof(*r));
    if (pipe(r->bell) != 0) {
        int err = -errno;
        nl_free(r);
        return err;
    }
    for (int i = 0; i < 2; i++) {
        r->bell[i] = nl_fd_up(r->bell[i]);
        if (r->bell[i] < 0) {
            int err = -errno;
            close(r->bell[1 - i]);
            nl_free(r);
            return err;
        }
        fcntl(r->bell[i], F_SETFD, FD_CLOEXEC);
        fcntl(r->bell[i], F_SETFL, O_NONBLOCK);
    }
    r->lock = nl_mutex_new();
    r->left_poll = nl_cond_new();
    *out = r;
    return 0;
}

void nl_reactor_free(nl_reactor *r)
{
    close(r->bell[0]);
    close(r->bell[1]);
    nl_cond_free(r->left_poll);
    nl_mutex_free(r->lock);
    nl_free(r->watches);
    nl_free(r->set);
    nl_free(r);
}

/* Async-signal-safe.  A pipe that is full is readable as well. */
static void ring(nl_reactor *r)
{
    int saved = errno;
    while (write(r->bell[1], "", 1) < 0 && errno == EINTR) {
    }
    errno = saved;
}

static void ring_locked(nl_reactor *r)
{
    if (r->polling && !r->bell_rung) {
        r->bell_rung = true;
        ring(r);
    }
}

int nl_reactor_attach(nl_reactor *r, nl_fd fd, uint64_t tag)
{
    nl_assert(tag != 0, "tag 0 is the reactor's own");
    if (fcntl((int)fd, F_GETFD) < 0) {
        return -errno;
    }
    nl_mutex_lock(r->lock);
    if (fd >= r->nwatches) {
        int n = (int)fd + 64;
        r->watches = (watch *)nl_realloc(r->watches, (size_t)n * sizeof(watch));
        memset(r->watches + r->nwatches, 0, (size_t)(n - r->nwatches) * sizeof(watch));
        r->nwatches = n;
    }
    r->watches[fd] = (watch){tag, POLLIN | POLLRDHUP};
    ring_locked(r);
    nl_mutex_unlock(r->lock);
    return 0;
}

/* NULL: detached. */
static watch *watch_locked(nl_reactor *r, nl_fd fd, uint64_t tag)
{
    return fd >= 0 && fd < r->nwatches && r->watches[fd].tag == tag ? &r->watches[fd] : NULL;
}

void nl_reactor_detach(nl_reactor *r, nl_fd fd, uint64_t tag)
{
    nl_mutex_lock(r->lock);
    watch *w = watch_locked(r, fd, tag);
    if (w) {
        *w = (watch){0, 0};
        ring_locked(r);
        for (unsigned now = r->polls; r->polling && r->polls == now;) {
            nl_cond_wait(r->left_poll, r->lock, -1);
        }
    }
    nl_mutex_unlock(r->lock);
}

static int arm(nl_reactor *r, nl_fd fd, uint64_t tag, short direction)
{
    nl_mutex_lock(r->lock);
    watch *w = watch_locked(r, fd, tag);
    if (w && !(w->armed & direction)) {
        w->armed |= direction;
        ring_locked(r);
    }
    nl_mutex_unlock(r->lock);
    return 0;
}

int nl_reactor_arm_read(nl_reactor *r, nl_fd fd, uint64_t tag)
{
    return arm(r, fd, tag, POLLIN);
}

int nl_reactor_arm_write(nl_reactor *r, nl_fd fd, uint64_t tag)
{
    return arm(r, fd, tag, POLLOUT);
}

/* The bell and what is armed; the rest must not be there, poll(2) reports errors unasked. */
static int make_set_locked(nl_reactor *r)
{
    int n = 1;
    if (r->set_size < r->nwatches + 1) {
        r->set_size = r->nwatches + 1;
        r->set = (struct pollfd *)nl_realloc(r->set, (size_t)r->set_size * sizeof(*r->set));
    }
    r->set[0] = (struct pollfd){.fd = r->bell[0], .events = POLLIN};
    for (int fd = 0; fd < r->nwatches; fd++) {
        if (r->watches[fd].armed) {
            r->set[n++] = (struct pollfd){.fd = fd, .events = r->watches[fd].armed};
        }
    }
    return n;
}

static int wait_once(struct pollfd *set, int n, int64_t timeout_ns)
{
#ifdef __APPLE__ /* has no ppoll: milliseconds, rounded up */
    int64_t ms = timeout_ns / 1000000 + (timeout_ns % 1000000 > 0);
    return poll(set, (nfds_t)n, timeout_ns < 0 ? -1 : ms < INT_MAX ? (int)ms : INT_MAX);
#else
    struct timespec ts = {(time_t)(timeout_ns / NS_PER_S), (long)(timeout_ns % NS_PER_S)};
    return ppoll(set, (nfds_t)n, timeout_ns < 0 ? NULL : &ts, NULL);
#endif
}

/* Reports what is ready, and takes its arming away. */
static unsigned fire(watch *w, short ready)
{
    /* An error: both directions learn of it from their next call. */
    if (ready & (POLLERR | POLLHUP | POLLNVAL)) {
        w->armed = 0;
        return NL_EV_READ | NL_EV_WRITE | NL_EV_HUP;
    }
    if (ready & POLLRDHUP) {
        ready |= POLLIN;
    }
    w->armed &= (short)~ready;
    return (ready & POLLIN ? NL_EV_READ : 0u) | (ready & POLLOUT ? NL_EV_WRITE : 0u) |
           (ready & POLLRDHUP ? NL_EV_HUP : 0u);
}

/* Each harvest begins where the last one ended: the first of the set must not hide the others. */
static int harvest_locked(nl_reactor *r, int n, nl_event *ev, int max)
{
    int count = 0, sockets = n - 1, i = 0;
    for (; i < sockets && count < max; i++) {
        const struct pollfd *p = &r->set[1 + (r->first + i) % sockets];
        watch *w = &r->watches[p->fd];
        /* Tag 0: detached meanwhile.  It is not attached again, detach waits for this poll. */
        if (p->revents && w->tag) {
            unsigned events = fire(w, p->revents);
            ev[count++] = (nl_event){w->tag, events};
        }
    }
    r->first = sockets ? (r->first + i) % sockets : 0;
    return count;
}

/* Did nl_reactor_wake ring, or only a change? */
static bool answer_bell(nl_reactor *r)
{
    char trash[64];
    while (read(r->bell[0], trash, sizeof(trash)) > 0) {
    }
    return atomic_exchange_explicit(&r->rung, false, memory_order_acq_rel);
}

int nl_reactor_poll(nl_reactor *r, nl_event *ev, int max, int64_t timeout_ns)
{
    int64_t deadline = nl_timeout_begin(&timeout_ns);
    nl_assert(max > 0, "poll needs room for an event");
    for (;;) {
        nl_mutex_lock(r->lock);
        int n = make_set_locked(r);
        r->polling = true;
        r->bell_rung = false;
        nl_mutex_unlock(r->lock);

        int ready = wait_once(r->set, n, timeout_ns);
        int err = ready < 0 && errno != EINTR ? -errno : 0;
        if (ready > 0 && r->set[0].revents & POLLNVAL) {
            err = -EBADF; /* the bell was closed behind our back */
        }
        bool woken = ready > 0 && r->set[0].revents && answer_bell(r);

        nl_mutex_lock(r->lock);
        r->polling = false;
        r->polls++;
        nl_cond_broadcast(r->left_poll);
        int count = ready > 0 ? harvest_locked(r, n, ev, max) : 0;
        nl_mutex_unlock(r->lock);
        if (err || count || woken) {
            return err ? err : count;
        }
        /* A signal, or a new set: the rest of the time. */
        if (nl_timeout_is_over(&timeout_ns, deadline)) {
            return 0;
        }
    }
}

void nl_reactor_wake(nl_reactor *r)
{
    if (!atomic_exchange_explicit(&r->rung, true, memory_order_acq_rel)) {
        ring(r);
    }
}

/*
 * kqueue.c - the reactor on macOS and the BSDs.
 *
 * A socket is added once, with EV_CLEAR, under each of the two filters: arming costs nothing, and
 * the kernel is never asked again.  EV_CLEAR is fixed when a filter is added.  An EVFILT_USER
 * under ident 0 is the bell.
 *
 * What the systems do not agree on is not used: the field data, and whether the end of a stream
 * comes with its last bytes or after them.  Each change has the tag as its udata, because each
 * change sets it.  Filters are deleted before the descriptor is closed: a close would do the same,
 * but an event of the old socket must not meet the new owner of the number.
 *
 * No wake-up is lost.  `rung` says that the bell was rung and no poll has answered yet.
 * nl_reactor_wake exchanges it to true and rings only if it was false; poll exchanges it to
 * false after it has taken the bell's event from the kqueue, and then returns.  Both are
 * read-modify-writes, so they stand in one order.  A wake that finds true stands before the
 * answer that ends that ring (a poll still under way or to come will return), and that
 * answer reads from it or from a later wake: release to acquire, so the caller of poll sees
 * all that was written before the wake.  A wake that finds false stands after the last answer,
 * hence after the kernel has cleared the bell (EV_CLEAR), and its NOTE_TRIGGER makes a new event.
 */
#include "base/alloc.h"
#include "base/process.h"
#include "reactor/reactor.h"
#include "reactor/timeout.h"

#include <fcntl.h>
#include <sys/types.h>

#include <sys/event.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define BATCH 256
#define BELL ((uint64_t)0)
#define NS_PER_S 1000000000
#define WAIT_MAX_S 86400 /* a system may refuse a time-out of some years */

_Static_assert(sizeof(((struct kevent *)0)->udata) >= sizeof(uint64_t), "a tag fits into udata");

struct nl_reactor { /* on a cache line of its own */
    int kq;
    atomic_bool rung;
};

const char *nl_reactor_backend(void)
{
    return "kqueue";
}

/* Makes one change.  After EINTR it may have been made: once more does no harm. */
static int change(int kq, struct kevent *c)
{
    static const struct timespec at_once = {0, 0};
    int rc;
    do {
        rc = kevent(kq, c, 1, NULL, 0, &at_once);
    } while (rc < 0 && errno == EINTR);
    return rc < 0 ? -errno : 0;
}

static int change_socket(nl_reactor *r, nl_fd fd, uint64_t tag, int filter, int flags)
{
    struct kevent c;
    EV_SET(&c, (uintptr_t)fd, (short)filter, (unsigned short)flags, 0, 0, (void *)(uintptr_t)tag);
    return change(r->kq, &c);
}

static int change_bell(nl_reactor *r, int flags, unsigned fflags)
{
    struct kevent c;
    EV_SET(&c, 0, EVFILT_USER, (unsigned short)flags, fflags, 0, (void *)(uintptr_t)BELL);
    return change(r->kq, &c);
}

int nl_reactor_new(nl_reactor **out)
{
    int err;
    nl_reactor *r = (nl_reactor *)nl_calloc_aligned(sizeof(*r));
    atomic_init(&r->rung, false);
    r->kq = nl_fd_up(kqueue());
    if (r->kq < 0) {
        err = -errno;
        goto no_kqueue;
    }
    fcntl(r->kq, F_SETFD, FD_CLOEXEC);
    err = change_bell(r, EV_ADD | EV_CLEAR, 0);
    if (err) {
        goto no_bell;
    }
    *out = r;
    return 0;

no_bell:
    close(r->kq);
no_kqueue:
    nl_free_aligned(r);
    return err;
}

void nl_reactor_free(nl_reactor *r)
{
    close(r->kq);
    nl_free_aligned(r);
}

int nl_reactor_attach(nl_reactor *r, nl_fd fd, uint64_t tag)
{
    nl_assert(tag != BELL, "tag 0 is the reactor's own");
    int err = change_socket(r, fd, tag, EVFILT_READ, EV_ADD | EV_CLEAR);
    if (err) {
        return err;
    }
    err = change_socket(r, fd, tag, EVFILT_WRITE, EV_ADD | EV_CLEAR);
    if (err == -EPIPE) {
        return 0; /* a pipe whose other end has gone: READ will tell */
    }
    if (err) {
        change_socket(r, fd, tag, EVFILT_READ, EV_DELETE);
    }
    return err;
}

void nl_reactor_detach(nl_reactor *r, nl_fd fd, uint64_t tag)
{
    change_socket(r, fd, tag, EVFILT_READ, EV_DELETE);
    change_socket(r, fd, tag, EVFILT_WRITE, EV_DELETE);
}

int nl_reactor_arm_read(nl_reactor *r, nl_fd fd, uint64_t tag)
{
    (void)r;
    (void)fd;
    (void)tag;
    return 0;
}

int nl_reactor_arm_write(nl_reactor *r, nl_fd fd, uint64_t tag)
{
    (void)r;
    (void)fd;
    (void)tag;
    return 0;
}

static int wait_once(int kq, struct kevent *ev, int max, int64_t timeout_ns)
{
    int64_t sec = timeout_ns / NS_PER_S;
    struct timespec ts = {(time_t)(sec < WAIT_MAX_S ? sec : WAIT_MAX_S), (long)(timeout_ns % NS_PER_S)};
    return kevent(kq, NULL, 0, ev, max, timeout_ns < 0 ? NULL : &ts);
}

/* Each filter tells its own direction of an error. */
static unsigned translate(const struct kevent *e)
{
    if (e->filter == EVFILT_WRITE) { /* EV_EOF: this end has shut down, or READ tells as well */
        return NL_EV_WRITE;
    }
    return e->flags & EV_EOF ? NL_EV_READ | NL_EV_HUP : NL_EV_READ;
}

int nl_reactor_poll(nl_reactor *r, nl_event *ev, int max, int64_t timeout_ns)
{
    struct kevent raw[BATCH];
    int64_t deadline = nl_timeout_begin(&timeout_ns);
    nl_assert(max > 0, "poll needs room for an event");
    if (max > BATCH) {
        max = BATCH;
    }
    for (;;) {
        int n = wait_once(r->kq, raw, max, timeout_ns);
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        if (n > 0) {
            int count = 0;
            for (int i = 0; i < n; i++) {
                if (raw[i].filter == EVFILT_USER) {
                    /* Pairs with the exchange in nl_reactor_wake: see the head of this file. */
                    atomic_exchange_explicit(&r->rung, false, memory_order_acq_rel);
                } else {
                    ev[count++] = (nl_event){(uint64_t)(uintptr_t)raw[i].udata, translate(&raw[i])};
                }
            }
            return count;
        }
        /* A signal, or a wait that was cut to WAIT_MAX_S: the rest of the time. */
        if (nl_timeout_is_over(&timeout_ns, deadline)) {
            return 0;
        }
    }
}

void nl_reactor_wake(nl_reactor *r)
{
    /* Pairs with the exchange in nl_reactor_poll: see the head of this file. */
    if (atomic_exchange_explicit(&r->rung, true, memory_order_acq_rel)) {
        return;
    }
    int saved = errno; /* a signal handler may be the caller */
    int err = change_bell(r, 0, NOTE_TRIGGER);
    nl_assert(err == 0, "a bell that was added takes every trigger");
    errno = saved;
}

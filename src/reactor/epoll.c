/*
 * epoll.c - the reactor on Linux.
 *
 * A socket is added once, edge triggered, for both directions: arming costs nothing, and
 * the kernel is never asked again.  An eventfd under tag 0 is the bell.
 *
 * No wake-up is lost.  `rung` says that the bell was rung and no poll has answered yet.
 * nl_reactor_wake exchanges it to true and rings only if it was false; poll exchanges it to
 * false after it has taken the bell's edge from epoll, and then returns.  Both are
 * read-modify-writes, so they stand in one order.  A wake that finds true stands before the
 * answer that ends that ring (a poll still under way or to come will return), and that
 * answer reads from it or from a later wake: release to acquire, so the caller of poll sees
 * all that was written before the wake.  A wake that finds false stands after the
 * last answer, hence after the last edge was taken, and makes a new edge.  A plain load
 * instead of the first exchange would save some nanoseconds, but would need a full fence
 * before it to have this proof.
 *
 * The eventfd is edge triggered like everything else: each write to it is an edge, whatever
 * its counter says, so it is never read.  The counter lasts for 2^64 wakes.
 */
#include "base/alloc.h"
#include "base/process.h"
#include "reactor/reactor.h"
#include "reactor/timeout.h"

#include <limits.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BATCH 256
#define BELL ((uint64_t)0)
#define NS_PER_MS 1000000

/* The number is the same on every architecture; older headers do not have it. */
#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

struct nl_reactor { /* on a cache line of its own */
    int epfd, bell;
    atomic_bool rung;
};

const char *nl_reactor_backend(void)
{
    return "epoll";
}

int nl_reactor_new(nl_reactor **out)
{
    int err;
    nl_reactor *r = (nl_reactor *)nl_calloc_aligned(sizeof(*r));
    atomic_init(&r->rung, false);
    r->epfd = nl_fd_up(epoll_create1(EPOLL_CLOEXEC));
    if (r->epfd < 0) {
        err = -errno;
        goto no_epoll;
    }
    r->bell = nl_fd_up(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (r->bell < 0) {
        err = -errno;
        goto no_bell;
    }
    struct epoll_event ev = {.events = EPOLLIN | EPOLLET, .data.u64 = BELL};
    if (epoll_ctl(r->epfd, EPOLL_CTL_ADD, r->bell, &ev) != 0) {
        err = -errno;
        goto no_add;
    }
    *out = r;
    return 0;

no_add:
    close(r->bell);
no_bell:
    close(r->epfd);
no_epoll:
    nl_free_aligned(r);
    return err;
}

void nl_reactor_free(nl_reactor *r)
{
    close(r->bell);
    close(r->epfd);
    nl_free_aligned(r);
}

int nl_reactor_attach(nl_reactor *r, nl_fd fd, uint64_t tag)
{
    nl_assert(tag != BELL, "tag 0 is the reactor's own");
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.u64 = tag};
    return epoll_ctl(r->epfd, EPOLL_CTL_ADD, (int)fd, &ev) == 0 ? 0 : -errno;
}

void nl_reactor_detach(nl_reactor *r, nl_fd fd, uint64_t tag)
{
    (void)tag;
    /* A close would do the same, unless a child or a duplicate keeps the socket itself open. */
    epoll_ctl(r->epfd, EPOLL_CTL_DEL, (int)fd, NULL);
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

/*
 * One wait.  epoll_pwait2 takes nanoseconds; kernels before 5.11 do not have it (ENOSYS), and
 * some containers' filters do not know it (EPERM).  Then milliseconds, rounded up.
 */
static int wait_once(int epfd, struct epoll_event *ev, int max, int64_t timeout_ns)
{
    /* Relaxed: it only becomes true; a thread that sees it late asks once more in vain. */
    static atomic_bool only_ms;
    if (timeout_ns <= 0) {
        return epoll_wait(epfd, ev, max, timeout_ns < 0 ? -1 : 0);
    }
    if (!atomic_load_explicit(&only_ms, memory_order_relaxed)) {
        struct {
            int64_t sec, nsec;
        } ts = {timeout_ns / 1000000000, timeout_ns % 1000000000};
        int n = (int)syscall(SYS_epoll_pwait2, epfd, ev, max, &ts, NULL, (size_t)0);
        if (n >= 0 || (errno != ENOSYS && errno != EPERM)) {
            return n;
        }
        atomic_store_explicit(&only_ms, true, memory_order_relaxed);
    }
    int64_t ms = timeout_ns / NS_PER_MS + (timeout_ns % NS_PER_MS != 0);
    return epoll_wait(epfd, ev, max, ms < INT_MAX ? (int)ms : INT_MAX);
}

static unsigned translate(uint32_t e)
{
    unsigned out = 0;
    if (e & EPOLLIN) {
        out |= NL_EV_READ;
    }
    if (e & EPOLLOUT) {
        out |= NL_EV_WRITE;
    }
    if (e & EPOLLRDHUP) {
        out |= NL_EV_READ | NL_EV_HUP;
    }
    if (e & (EPOLLERR | EPOLLHUP)) { /* both directions learn of it from their next call */
        out |= NL_EV_READ | NL_EV_WRITE | NL_EV_HUP;
    }
    return out;
}

int nl_reactor_poll(nl_reactor *r, nl_event *ev, int max, int64_t timeout_ns)
{
    struct epoll_event raw[BATCH];
    int64_t deadline = nl_timeout_begin(&timeout_ns);
    nl_assert(max > 0, "poll needs room for an event");
    if (max > BATCH) {
        max = BATCH;
    }
    for (;;) {
        int n = wait_once(r->epfd, raw, max, timeout_ns);
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        if (n > 0) {
            int count = 0;
            for (int i = 0; i < n; i++) {
                if (raw[i].data.u64 == BELL) {
                    /* Pairs with the exchange in nl_reactor_wake: see the head of this file. */
                    atomic_exchange_explicit(&r->rung, false, memory_order_acq_rel);
                } else {
                    ev[count++] = (nl_event){raw[i].data.u64, translate(raw[i].events)};
                }
            }
            return count;
        }
        /* A signal, or a wait that was cut to INT_MAX milliseconds: the rest of the time. */
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
    const uint64_t one = 1;
    ssize_t n;
    do {
        n = write(r->bell, &one, sizeof(one));
    } while (n < 0 && errno == EINTR);
    nl_assert(n == sizeof(one), "an eventfd takes every write");
    errno = saved;
}

/*
 * iocp.c - the reactor on Windows: a completion port.
 *
 * A port does not tell what is ready but what has been done.  So an armed direction is an operation
 * that does nothing and is done when the socket is ready; each puts one packet into the port:
 *
 *     a connection's READ      a receive of no bytes, or a read of no bytes from a pipe
 *     WRITE, a connect         a request to AFD (afd.h); of a pipe: its write that is under way
 *     a listener's READ        a request to AFD; on a pipe's name: a connect of each instance
 *
 * Each looks first whether the socket is ready already, so nothing is lost between NL_AGAIN and the
 * arming.  A receive costs the same however many there are, and wine's AFD does not: so what idle
 * connections wait for is a receive.  AFD is asked for one thing per socket at a time.
 *
 * pending says that an operation's packet has not been harvested.  Arming exchanges it to true, and
 * starts the operation only if it was false.  The poller exchanges it to false, then reports the
 * packet, whatever it says, under the tag of that moment.  An arming that finds true stands before
 * the poller's exchange, so an event follows it: that of a cancelled operation of the time before a
 * detach is spurious, but it is the answer to the arming.
 *
 *     nl_reactor_detach             arm
 *     tag = 0                       pending = true, the operation is started
 *     pending? cancel it            tag other than armed for? cancel it
 *
 * All four are sequentially consistent: either detach finds the operation, or arm sees the detach.
 *
 * No wake-up is lost.  `rung` says that the bell, a packet without an operation, is in the port and
 * no poll has answered it yet.  nl_reactor_wake exchanges it to true and posts only if it was
 * false; poll exchanges it to false after it has taken the packet out, and then returns.  Both are
 * read-modify-writes, so they stand in one order.  A wake that finds true stands before the answer
 * to the packet that is there or is just being posted: a poll under way or to come will return,
 * and its answer reads from that wake or a later one (release to acquire), so the caller of poll
 * sees all that was written before.  A wake that finds false stands after the last answer, hence
 * after the last packet was taken out, and posts a new one.
 */
#include "base/alloc.h"
#include "reactor/timeout.h"
#include "reactor/win.h"

#include <mswsock.h>

#define BATCH 256
#define NS_PER_TICK 100 /* of a waitable timer */

/* AFD says CONNECT for as long as a socket is connected: who waits for room does not ask for it. */
#define ROOM (AFD_POLL_SEND | AFD_POLL_ABORT)
#define OUTCOME (ROOM | AFD_POLL_CONNECT | AFD_POLL_CONNECT_FAIL)

/*
 * No limit to the threads that are given packets: with one per processor, Windows holds back the
 * packets of a worker's port from the neighbour that looks at it.
 */
#define CONCURRENCY 0x7fffffff

/* Since Windows 10 1803; headers of mingw do not have it. */
#ifndef CREATE_WAITABLE_TIMER_HIGH_RESOLUTION
#define CREATE_WAITABLE_TIMER_HIGH_RESOLUTION 2
#endif

struct nl_reactor { /* on a cache line of its own */
    HANDLE port, afd, timer;
    atomic_bool rung;
};

const char *nl_reactor_backend(void)
{
    return "iocp";
}

static int last_error(void)
{
    return -nl_win_errno(GetLastError());
}

int nl_reactor_new(nl_reactor **out)
{
    int err;
    nl_reactor *r = (nl_reactor *)nl_calloc_aligned(sizeof(*r));
    atomic_init(&r->rung, false);
    r->port = CreateIoCompletionPort(INVALID_HANDLE_VALUE, NULL, 0, CONCURRENCY);
    if (!r->port) {
        err = last_error();
        goto no_port;
    }
    err = nl_afd_open(&r->afd);
    if (err) {
        goto no_afd;
    }
    r->timer = CreateWaitableTimerExW(NULL, NULL, CREATE_WAITABLE_TIMER_HIGH_RESOLUTION, TIMER_ALL_ACCESS);
    if (!r->timer) {
        r->timer = CreateWaitableTimerExW(NULL, NULL, 0, TIMER_ALL_ACCESS);
    }
    if (!r->timer || !CreateIoCompletionPort(r->afd, r->port, 0, 0)) {
        err = last_error();
        goto no_timer;
    }
    *out = r;
    return 0;

no_timer:
    if (r->timer) {
        CloseHandle(r->timer);
    }
    CloseHandle(r->afd);
no_afd:
    CloseHandle(r->port);
no_port:
    nl_free_aligned(r);
    return err;
}

/* --- Operations ------------------------------------------------------------------------------- */

/* Puts the packet of an operation into the port that the system will not put there. */
static void complete(nl_reactor *r, nl_win_op *op)
{
    BOOL posted = PostQueuedCompletionStatus(r->port, 0, 0, &op->ov);
    nl_assert(posted, "a port takes every packet");
}

static bool asks_afd(const nl_winfd *w, const nl_win_op *op)
{
    return w->kind == NL_WIN_LISTENER || (w->kind == NL_WIN_SOCKET && op == &w->write);
}

/* The socket below what filters have put in front of it: AFD knows no other. */
static HANDLE base_of(nl_winfd *w)
{
    DWORD n;
    SOCKET s = nl_win_socket(w), base;
    if (!w->base) {
        bool found = WSAIoctl(s, SIO_BASE_HANDLE, NULL, 0, &base, sizeof(base), &n, NULL, NULL) == 0 ||
                     WSAIoctl(s, SIO_BSP_HANDLE_POLL, NULL, 0, &base, sizeof(base), &n, NULL, NULL) == 0;
        w->base = (HANDLE)(found ? base : s);
    }
    return w->base;
}

static bool ask(nl_reactor *r, nl_winfd *w, ULONG events, nl_win_op *op)
{
    nl_assert(!w->asking, "AFD is asked one thing at a time of a socket");
    w->asking = true; /* until the packet is harvested, which may be soon */
    return nl_afd_ask(r->afd, base_of(w), events, &w->poll, &op->ov);
}

static bool receive_nothing(nl_winfd *w)
{
    WSABUF none = {0, NULL};
    DWORD flags = 0;
    if (WSARecv(nl_win_socket(w), &none, 1, NULL, &flags, &w->read.ov, NULL) == 0 ||
        WSAGetLastError() == WSA_IO_PENDING) {
        return true;
    }
    w->read.ov.Internal = NL_WIN_FAILED;
    return false;
}

static bool ask_listener(nl_reactor *r, nl_winfd *w)
{
    nl_mutex_lock(w->lock); /* keeps the socket open */
    bool asked = ask(r, w, AFD_POLL_ACCEPT, &w->read);
    nl_mutex_unlock(w->lock);
    return asked;
}

/* False: the system will put no packet into the port, because the socket is ready or has failed. */
static bool start(nl_reactor *r, nl_winfd *w, nl_win_op *op)
{
    switch (w->kind) {
    case NL_WIN_SOCKET:
        return op == &w->read ? receive_nothing(w) : ask(r, w, w->connecting ? OUTCOME : ROOM, op);
    case NL_WIN_LISTENER:
        return op == &w->read && ask_listener(r, w);
    default:
        return op == &w->read && nl_pipe_start_read(w);
    }
}

static void cancel(nl_reactor *r, nl_winfd *w, nl_win_op *op)
{
    if (atomic_load(&op->pending)) {
        CancelIoEx(asks_afd(w, op) ? r->afd : w->handle, &op->ov);
    }
}

static int arm(nl_reactor *r, nl_winfd *w, uint64_t tag, nl_win_op *op)
{
    if (atomic_load(&w->tag) != tag || atomic_exchange(&op->pending, true)) {
        return 0;
    }
    atomic_fetch_add_explicit(&w->refs, 1, memory_order_relaxed);
    op->ov = (OVERLAPPED){.Internal = 0};
    if (!start(r, w, op)) {
        complete(r, op);
    }
    if (atomic_load(&w->tag) != tag) { /* detached meanwhile: see the head of this file */
        cancel(r, w, op);
    }
    return 0;
}

/* --- Sockets ---------------------------------------------------------------------------------- */

int nl_reactor_attach(nl_reactor *r, nl_fd fd, uint64_t tag)
{
    nl_winfd *w = nl_winfd_of(fd);
    nl_assert(tag != 0, "tag 0 means detached");
    if (fd == NL_FD_NONE) {
        return -EBADF;
    }
    if (w->kind == NL_WIN_PIPE_LISTENER) {
        w->reactor = r; /* for the instances that it will have */
        atomic_store(&w->tag, tag);
        return nl_pipe_each(w, nl_reactor_attach, r, tag);
    }
    if (!w->reactor) {
        if (!CreateIoCompletionPort(w->handle, r->port, 0, 0)) {
            return last_error();
        }
        w->reactor = r;
    }
    nl_assert(w->reactor == r, "a handle stays with its first port");
    atomic_store(&w->tag, tag);
    return w->connecting ? 0 : arm(r, w, tag, &w->read);
}

static int detach(nl_reactor *r, nl_fd fd, uint64_t tag)
{
    nl_winfd *w = nl_winfd_of(fd);
    if (atomic_load(&w->tag) == tag) {
        atomic_store(&w->tag, 0);
        cancel(r, w, &w->read);
        if (w->kind == NL_WIN_SOCKET) { /* what a pipe is writing was taken from the caller */
            cancel(r, w, &w->write);
        }
        if (w->kind == NL_WIN_PIPE_LISTENER) {
            nl_pipe_each(w, detach, r, tag);
        }
    }
    return 0;
}

void nl_reactor_detach(nl_reactor *r, nl_fd fd, uint64_t tag)
{
    detach(r, fd, tag);
}

int nl_reactor_arm_read(nl_reactor *r, nl_fd fd, uint64_t tag)
{
    nl_winfd *w = nl_winfd_of(fd);
    return w->kind == NL_WIN_PIPE_LISTENER ? nl_pipe_each(w, nl_reactor_arm_read, r, tag)
                                           : arm(r, w, tag, &w->read);
}

int nl_reactor_arm_write(nl_reactor *r, nl_fd fd, uint64_t tag)
{
    nl_winfd *w = nl_winfd_of(fd);
    return arm(r, w, tag, &w->write);
}

/* --- Waiting ---------------------------------------------------------------------------------- */

static void CALLBACK on_time(void *arg, DWORD low, DWORD high)
{
    (void)arg; /* the wait that it ends is all it is for */
    (void)low;
    (void)high;
}

/*
 * One wait.  A port counts time in ticks of the system, of up to 16 ms.  A waitable timer is as
 * exact as the system can be: it ends a wait that lets it (alertable).  One that is not used up is
 * set anew for the next wait, or runs off during one that does not let it.
 */
static int wait_once(nl_reactor *r, OVERLAPPED_ENTRY *packets, int max, int64_t timeout_ns)
{
    ULONG n;
    bool timed = timeout_ns > 0;
    if (timed) {
        LARGE_INTEGER due = {.QuadPart = -(timeout_ns / NS_PER_TICK + (timeout_ns % NS_PER_TICK != 0))};
        BOOL set = SetWaitableTimer(r->timer, &due, 0, on_time, NULL, FALSE);
        nl_assert(set, "a timer can be set");
    }
    DWORD ms = timeout_ns == 0 ? 0 : INFINITE;
    if (GetQueuedCompletionStatusEx(r->port, packets, (ULONG)max, &n, ms, timed)) {
        return (int)n;
    }
    DWORD err = GetLastError();
    return err == WAIT_TIMEOUT || err == WAIT_IO_COMPLETION ? 0 : -nl_win_errno(err);
}

/* An operation is over.  1 and the event, or 0: its socket is detached. */
static int harvest(nl_win_op *op, nl_event *ev)
{
    nl_winfd *w = op->fd;
    /* A failed read or receive: the end of a pipe, a reset.  AFD's answers do not fail. */
    bool failed = (LONG)op->ov.Internal < 0;
    unsigned events = op == &w->write ? NL_EV_WRITE : failed ? NL_EV_READ | NL_EV_HUP : NL_EV_READ;
    if (asks_afd(w, op)) {
        w->asking = false;
    } else if (w->kind == NL_WIN_PIPE && op == &w->write) {
        nl_pipe_written(w);
    }
    atomic_exchange(&op->pending, false);
    *ev = (nl_event){atomic_load(&w->tag), events};
    nl_winfd_unref(w);
    return ev->tag != 0;
}

/* The number of events; *woken, if the bell is among the packets. */
static int harvest_all(nl_reactor *r, const OVERLAPPED_ENTRY *packets, int n, nl_event *ev, bool *woken)
{
    int count = 0;
    for (int i = 0; i < n; i++) {
        if (packets[i].lpOverlapped) {
            count += harvest(nl_container_of(packets[i].lpOverlapped, nl_win_op, ov), &ev[count]);
        } else {
            /* Pairs with the exchange in nl_reactor_wake: see the head of this file. */
            atomic_exchange_explicit(&r->rung, false, memory_order_acq_rel);
            *woken = true;
        }
    }
    return count;
}

int nl_reactor_poll(nl_reactor *r, nl_event *ev, int max, int64_t timeout_ns)
{
    OVERLAPPED_ENTRY packets[BATCH];
    int64_t deadline = nl_timeout_begin(&timeout_ns);
    nl_assert(max > 0, "poll needs room for an event");
    if (max > BATCH) {
        max = BATCH;
    }
    for (;;) {
        bool woken = false;
        int n = wait_once(r, packets, max, timeout_ns);
        if (n < 0) {
            return n;
        }
        int count = harvest_all(r, packets, n, ev, &woken);
        if (count || woken) {
            return count;
        }
        /* Packets of detached sockets, or a timer that was early: the rest of the time. */
        if (nl_timeout_is_over(&timeout_ns, deadline) && n == 0) {
            return 0;
        }
    }
}

void nl_reactor_wake(nl_reactor *r)
{
    /* Pairs with the exchange in harvest_all: see the head of this file. */
    if (atomic_exchange_explicit(&r->rung, true, memory_order_acq_rel)) {
        return;
    }
    BOOL posted = PostQueuedCompletionStatus(r->port, 0, 0, NULL);
    nl_assert(posted, "a port takes every packet");
}

void nl_reactor_free(nl_reactor *r)
{
    /* A socket that was detached is closed with its last packet, and these have come by now. */
    nl_event ev[BATCH];
    OVERLAPPED_ENTRY packets[BATCH];
    bool woken;
    int n;
    while ((n = wait_once(r, packets, BATCH, 0)) > 0) {
        harvest_all(r, packets, n, ev, &woken);
    }
    CloseHandle(r->timer);
    CloseHandle(r->afd);
    CloseHandle(r->port);
    nl_free_aligned(r);
}

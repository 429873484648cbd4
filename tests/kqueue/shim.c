/*
 * shim.c - kqueue and kevent on Linux, for tests only.
 *
 * A kqueue is an epoll of three descriptors: an epoll of what EVFILT_READ watches, one of what
 * EVFILT_WRITE watches (an epoll takes a descriptor only once), and an eventfd, the user event.
 * kevent moves what they report into the list of active knotes, as in the kernel of a BSD, and
 * hands out from that list.
 *
 * Kept as the systems have it:
 *   - EV_CLEAR counts in the EV_ADD that makes the knote, and in no later one.
 *   - Each change of a knote sets its udata; an EV_ADD looks again whether it is ready.
 *   - After EV_DELETE, or the close of the descriptor, no event is handed out.
 *   - An EV_ADD does not trigger a user event, whatever its fflags say.
 *   - EVFILT_WRITE is refused with EPIPE on a pipe whose other end is closed.
 *   - EV_EOF is on EVFILT_WRITE after a shutdown of this end, too.
 *   - data says nothing, and neither does fflags: SO_ERROR would tell, but only once.
 *
 * NL_KQUEUE_ROUGH=seed in the environment: as no single system is, but any may be at times.  Events
 * come in any order and few at a time, some twice.  The end of a stream comes after its last bytes.
 * With real events come some that report nothing.  A wait is interrupted now and then.
 */
#include "base/alloc.h"
#include "base/process.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/event.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define QUEUES_MAX 65536 /* by descriptor */
#define PULL 64

enum { READ, WRITE, FILTERS };

typedef struct knote {
    void *udata;
    bool there;
    bool active; /* in the list */
    bool eof;
} knote;

typedef struct active {
    int filter, fd;
} active;

typedef struct queue {
    int all, bell, ready[FILTERS]; /* descriptors; all is the kqueue's own */
    pthread_mutex_t lock;          /* guards the rest, except user */
    knote *knotes[FILTERS];        /* by descriptor */
    int size;
    active *list; /* active knotes, oldest first */
    int count, room;
    unsigned seed; /* 0: plain */

    atomic_bool user_there; /* read by signal handlers */
    bool user_active;
    void *user_udata;
} queue;

static _Atomic(queue *) queues[QUEUES_MAX];

static queue *queue_of(int kq)
{
    queue *q = kq >= 0 && kq < QUEUES_MAX ? atomic_load(&queues[kq]) : NULL;
    if (!q) {
        errno = EBADF;
    }
    return q;
}

static void free_queue(queue *q)
{
    (close)(q->all);
    (close)(q->bell);
    for (int i = 0; i < FILTERS; i++) {
        (close)(q->ready[i]);
        nl_free(q->knotes[i]);
    }
    nl_free(q->list);
    pthread_mutex_destroy(&q->lock);
    nl_free(q);
}

static bool add_to_all(queue *q, int fd, unsigned events)
{
    struct epoll_event ev = {.events = events, .data.fd = fd};
    return fd >= 0 && epoll_ctl(q->all, EPOLL_CTL_ADD, fd, &ev) == 0;
}

int kqueue(void)
{
    const char *rough = getenv("NL_KQUEUE_ROUGH");
    int kq = nl_fd_up(epoll_create1(0));
    if (kq < 0) {
        return -1;
    }
    if (kq >= QUEUES_MAX) {
        (close)(kq);
        errno = EMFILE;
        return -1;
    }
    queue *q = nl_calloc(sizeof(*q));
    pthread_mutex_init(&q->lock, NULL);
    q->seed = rough ? (unsigned)atoi(rough) * 2654435761u | 1u : 0;
    q->all = kq;
    q->bell = nl_fd_up(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    bool ok = q->bell >= 0;
    for (int i = 0; i < FILTERS; i++) {
        q->ready[i] = nl_fd_up(epoll_create1(EPOLL_CLOEXEC));
        ok = ok && add_to_all(q, q->ready[i], EPOLLIN);
    }
    if (!ok) {
        int err = errno;
        free_queue(q);
        errno = err;
        return -1;
    }
    atomic_store(&queues[kq], q);
    return kq;
}

int kqueue_close(int kq)
{
    queue *q = queue_of(kq);
    if (!q) {
        return -1;
    }
    atomic_store(&queues[kq], NULL);
    free_queue(q);
    return 0;
}

static unsigned roll(queue *q, unsigned sides)
{
    q->seed ^= q->seed << 13;
    q->seed ^= q->seed >> 17;
    q->seed ^= q->seed << 5;
    return q->seed % sides;
}

/* --- Changes ---------------------------------------------------------------------------------- */

static knote *knote_of(queue *q, int filter, int fd)
{
    return fd >= 0 && fd < q->size && q->knotes[filter][fd].there ? &q->knotes[filter][fd] : NULL;
}

static void activate(queue *q, int filter, int fd)
{
    knote *k = &q->knotes[filter][fd];
    if (!k->active) {
        if (q->count == q->room) {
            q->room = q->room * 2 + PULL;
            q->list = nl_realloc(q->list, (size_t)q->room * sizeof(*q->list));
        }
        q->list[q->count++] = (active){filter, fd};
        k->active = true;
    }
}

/* Takes the i-th out of the list. */
static active take(queue *q, int i)
{
    active a = q->list[i];
    memmove(&q->list[i], &q->list[i + 1], (size_t)(--q->count - i) * sizeof(a));
    q->knotes[a.filter][a.fd].active = false;
    return a;
}

static void forget(queue *q, int filter, int fd)
{
    for (int i = 0; i < q->count; i++) {
        if (q->list[i].filter == filter && q->list[i].fd == fd) {
            take(q, i--);
        }
    }
    q->knotes[filter][fd] = (knote){0};
}

static bool is_broken_pipe(int fd)
{
    struct stat st;
    struct pollfd p = {fd, 0, 0};
    return fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode) && poll(&p, 1, 0) == 1 &&
           p.revents & (POLLHUP | POLLERR);
}

static int add_knote(queue *q, int filter, int fd, const struct kevent *c)
{
    if (filter == WRITE && is_broken_pipe(fd)) {
        return EPIPE;
    }
    if (fd >= q->size) {
        int size = fd + 64;
        for (int i = 0; i < FILTERS; i++) {
            q->knotes[i] = nl_realloc(q->knotes[i], (size_t)size * sizeof(knote));
            memset(q->knotes[i] + q->size, 0, (size_t)(size - q->size) * sizeof(knote));
        }
        q->size = size;
    }
    struct epoll_event ev = {.events = filter == READ ? EPOLLIN | EPOLLRDHUP : EPOLLOUT, .data.fd = fd};
    ev.events |= c->flags & EV_CLEAR ? (unsigned)EPOLLET : 0u;
    if (epoll_ctl(q->ready[filter], EPOLL_CTL_ADD, fd, &ev) == 0) {
        if (q->knotes[filter][fd].there) {
            forget(q, filter, fd); /* it was of an earlier descriptor */
        }
        q->knotes[filter][fd] = (knote){.there = true};
    } else if (errno == EEXIST && q->knotes[filter][fd].there) {
        activate(q, filter, fd);
    } else {
        return errno;
    }
    q->knotes[filter][fd].udata = c->udata;
    return 0;
}

static int delete_knote(queue *q, int filter, int fd)
{
    if (!knote_of(q, filter, fd)) {
        return fcntl(fd, F_GETFD) < 0 ? EBADF : ENOENT;
    }
    forget(q, filter, fd);
    return epoll_ctl(q->ready[filter], EPOLL_CTL_DEL, fd, NULL) == 0 ? 0 : errno;
}

/* Async-signal-safe for a trigger. */
static int change_user(queue *q, const struct kevent *c)
{
    const uint64_t one = 1;
    if (c->flags & EV_ADD) {
        if (!atomic_exchange(&q->user_there, true)) {
            q->user_udata = c->udata;
            add_to_all(q, q->bell, c->flags & EV_CLEAR ? EPOLLIN | (unsigned)EPOLLET : EPOLLIN);
        }
        return 0;
    }
    if (!atomic_load(&q->user_there) || c->flags & EV_DELETE) {
        return c->flags & EV_DELETE ? EINVAL : ENOENT;
    }
    if (c->fflags & NOTE_TRIGGER) {
        while (write(q->bell, &one, sizeof(one)) < 0 && errno == EINTR) {
        }
    }
    return 0;
}

static int change(queue *q, const struct kevent *c)
{
    if (c->filter == EVFILT_USER) {
        return change_user(q, c);
    }
    if (c->filter != EVFILT_READ && c->filter != EVFILT_WRITE) {
        return EINVAL;
    }
    int filter = c->filter == EVFILT_READ ? READ : WRITE, err = EINVAL;
    pthread_mutex_lock(&q->lock);
    if (c->flags & EV_DELETE) {
        err = delete_knote(q, filter, (int)c->ident);
    } else if (c->flags & EV_ADD) {
        err = add_knote(q, filter, (int)c->ident, c);
    }
    pthread_mutex_unlock(&q->lock);
    return err;
}

/* --- Events ----------------------------------------------------------------------------------- */

/* Moves what the descriptors report into the list.  False: somebody has closed the kqueue. */
static bool pull_locked(queue *q)
{
    struct epoll_event ev[PULL];
    int n = epoll_wait(q->all, ev, FILTERS + 1, 0);
    if (n < 0 && errno == EBADF) {
        return false;
    }
    for (int i = 0; i < n; i++) {
        q->user_active |= ev[i].data.fd == q->bell;
    }
    for (int filter = 0; filter < FILTERS; filter++) {
        do {
            n = epoll_wait(q->ready[filter], ev, PULL, 0);
            for (int i = 0; i < n; i++) {
                knote *k = knote_of(q, filter, ev[i].data.fd);
                if (k) {
                    k->eof |= (ev[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
                    activate(q, filter, ev[i].data.fd);
                }
            }
        } while (n == PULL && q->count < PULL);
    }
    return true;
}

static bool is_shut_down(int fd)
{
    struct tcp_info info;
    socklen_t len = sizeof(info);
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0) {
        return false;
    }
    return info.tcpi_state >= TCP_FIN_WAIT1 && info.tcpi_state != TCP_CLOSE_WAIT &&
           info.tcpi_state != TCP_LISTEN;
}

/* Hands out the i-th of the list, unless its descriptor was closed meanwhile. */
static bool hand_out(queue *q, int i, struct kevent *out)
{
    active a = take(q, i);
    knote *k = &q->knotes[a.filter][a.fd];
    if (fcntl(a.fd, F_GETFD) < 0) {
        return false;
    }
    bool eof = k->eof || (a.filter == WRITE && is_shut_down(a.fd));
    if (eof && a.filter == READ && q->seed && roll(q, 2)) { /* the last bytes now, the end later */
        activate(q, a.filter, a.fd);
        eof = false;
    } else if (q->seed && roll(q, 8) == 0) { /* once more */
        activate(q, a.filter, a.fd);
    } else {
        k->eof = false;
    }
    EV_SET(out, (uintptr_t)a.fd, a.filter == READ ? EVFILT_READ : EVFILT_WRITE, EV_CLEAR | (eof ? EV_EOF : 0),
           0, 0, k->udata);
    return true;
}

/* One knote that has nothing to report. */
static void add_spurious(queue *q)
{
    int filter = (int)roll(q, FILTERS), fd = q->size ? (int)roll(q, (unsigned)q->size) : 0;
    if (knote_of(q, filter, fd)) {
        activate(q, filter, fd);
    }
}

static int hand_out_all(queue *q, struct kevent *out, int max)
{
    int n = 0;
    pthread_mutex_lock(&q->lock);
    if (!pull_locked(q)) {
        pthread_mutex_unlock(&q->lock);
        errno = EBADF;
        return -1;
    }
    if (q->seed) {
        max = (int)roll(q, (unsigned)(max < 4 ? max : 4)) + 1;
    }
    while (n == 0 && (q->user_active || q->count > 0)) {
        int at_hand = q->count; /* what is put into the list meanwhile comes next time */
        if (q->user_active && (!q->seed || at_hand == 0 || roll(q, 2))) {
            q->user_active = false;
            EV_SET(&out[n++], 0, EVFILT_USER, EV_CLEAR, 0, 0, q->user_udata);
        }
        for (; n < max && at_hand > 0; at_hand--) {
            n += hand_out(q, q->seed ? (int)roll(q, (unsigned)at_hand) : 0, &out[n]);
        }
    }
    if (q->seed && n > 0 && roll(q, 4) == 0) {
        add_spurious(q);
    }
    pthread_mutex_unlock(&q->lock);
    return n;
}

int kevent(int kq, const struct kevent *changes, int nchanges, struct kevent *events, int nevents,
           const struct timespec *timeout)
{
    queue *q = queue_of(kq);
    if (!q) {
        return -1;
    }
    for (int i = 0; i < nchanges; i++) {
        int err = change(q, &changes[i]);
        if (err) {
            errno = err;
            return -1;
        }
    }
    if (nevents == 0) {
        return 0;
    }
    int n = hand_out_all(q, events, nevents);
    if (n != 0 || (timeout && timeout->tv_sec == 0 && timeout->tv_nsec == 0)) {
        return n;
    }
    if (q->seed && roll(q, 16) == 0) {
        errno = EINTR;
        return -1;
    }
    struct pollfd p = {q->all, POLLIN, 0};
    n = ppoll(&p, 1, timeout, NULL);
    return n > 0 ? hand_out_all(q, events, nevents) : n;
}

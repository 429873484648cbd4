/*
 * sock_posix.c - sock.h on Linux, the BSDs and macOS.
 */
#include "reactor/sock.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/process.h"
#include "reactor/posix.h"
#include "reactor/sockaddr.h"

#define ACCEPT_TRIES 16 /* a filter of system calls may refuse each of them */

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* SO_NOSIGPIPE at birth instead, see fresh_socket */
#endif

/* Linux's and the BSDs' way to a non-blocking, close-on-exec socket in one call; macOS has none. */
#if defined(SOCK_NONBLOCK) && defined(SOCK_CLOEXEC)
#define BORN_NONBLOCK (SOCK_NONBLOCK | SOCK_CLOEXEC)
#endif

_Static_assert(sizeof(nl_iov) == sizeof(struct iovec) &&
                   offsetof(nl_iov, base) == offsetof(struct iovec, iov_base) &&
                   offsetof(nl_iov, len) == offsetof(struct iovec, iov_len),
               "an nl_iov is a struct iovec");

int64_t nl_sock_limit(void)
{
    struct rlimit lim;
    bool known = getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur <= INT64_MAX;
    return known ? (int64_t)lim.rlim_cur : INT64_MAX;
}

/* --- Opening ---------------------------------------------------------------------------------- */

static int set_int(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value)) == 0 ? 0 : nl_neg_errno();
}

/*
 * Without it what is written while something is still unacknowledged waits for the acknowledgement,
 * which the other end delays by 40 ms. (A Unix socket delays nothing.)
 */
static void set_nodelay(int fd, const nl_addr *a)
{
    if (nl_addr_family(a) != 1) {
        set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    }
}

/* What a new descriptor must be made where the call that creates it cannot. */
static int fresh_socket(int fd)
{
#ifndef BORN_NONBLOCK
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        return nl_neg_errno();
    }
#endif
#ifdef SO_NOSIGPIPE
    /* macOS refuses it where the peer has gone already; process.h catches the signal anyway. */
    set_int(fd, SOL_SOCKET, SO_NOSIGPIPE, 1);
#endif
    (void)fd;
    return 0;
}

static int open_socket(int *out, const nl_addr *a)
{
#ifdef BORN_NONBLOCK
    int fd = nl_fd_up(socket(nl_csockaddr(a)->sa_family, SOCK_STREAM | BORN_NONBLOCK, 0));
#else
    int fd = nl_fd_up(socket(nl_csockaddr(a)->sa_family, SOCK_STREAM, 0));
#endif
    if (fd < 0) {
        return nl_neg_errno();
    }
    int err = fresh_socket(fd);
    if (err) {
        close(fd);
        return err;
    }
    *out = fd;
    return 0;
}

/*
 * Is the path that bind found taken the socket file of a process that has gone?  One that still
 * listens accepts a connection (or has a full backlog); a stale file refuses it.  Two
 * processes that start at the same moment may both see it stale: the later one then owns
 * the name, as with any lock file that is removed by hand.
 */
static bool unix_is_stale(const nl_addr *a)
{
    const struct sockaddr_un *un = (const struct sockaddr_un *)(const void *)a->u.bytes;
    struct stat st;
    int fd = -1;
    if (un->sun_path[0] == '\0' || lstat(un->sun_path, &st) != 0 || !S_ISSOCK(st.st_mode) ||
        open_socket(&fd, a) != 0) {
        return false;
    }
    bool stale = connect(fd, nl_csockaddr(a), a->len) != 0 && errno == ECONNREFUSED;
    close(fd);
    return stale;
}

int nl_sock_listen(nl_fd *out, const nl_addr *a, const struct nl_listen_opts *o)
{
    int fd = -1;
    int family = nl_addr_family(a);
    *out = NL_FD_NONE;
    if (family == 0) {
        return -EINVAL;
    }
    int err = open_socket(&fd, a);
    if (err) {
        return err;
    }
    if (family != 1) {
        /* Connections of an earlier process in TIME_WAIT do not keep the port. */
        err = set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
        if (!err && family == 6) {
            err = set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
        }
        if (!err && o->reuseport) {
#if defined(SO_REUSEPORT_LB)
            err = set_int(fd, SOL_SOCKET, SO_REUSEPORT_LB, 1); /* FreeBSD: the one that shares */
#elif defined(SO_REUSEPORT)
            err = set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
#else
            err = -EOPNOTSUPP;
#endif
        }
        if (err) {
            goto fail;
        }
    }
    if (bind(fd, nl_csockaddr(a), a->len) != 0) {
        err = nl_neg_errno();
        if (err != -EADDRINUSE || family != 1 || !unix_is_stale(a)) {
            goto fail;
        }
        unlink(((const struct sockaddr_un *)(const void *)a->u.bytes)->sun_path);
        if (bind(fd, nl_csockaddr(a), a->len) != 0) {
            err = nl_neg_errno();
            goto fail;
        }
    }
    set_nodelay(fd, a); /* for those that are accepted, see inherit_nodelay */
    /* Every system cuts a backlog that is too long to what it allows. */
    if (listen(fd, o->backlog > 0 ? o->backlog : 65535) != 0) {
        err = nl_neg_errno();
        goto fail;
    }
    *out = fd;
    return 0;

fail:
    close(fd);
    return err;
}

/*
 * Errors of accept that concern the one connection it took from the queue, not the listener: the
 * peer has gone, the network too, or a filter forbids it.
 */
static bool only_this_one(int err)
{
    switch (err) {
    case EINTR:
    case ECONNABORTED:
    case ECONNRESET:
    case ETIMEDOUT:
    case EPERM:
    case EPROTO:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENOPROTOOPT:
#ifdef EHOSTDOWN
    case EHOSTDOWN:
#endif
#ifdef ENONET
    case ENONET:
#endif
        return true;
    default:
        return false;
    }
}

/*
 * On most systems an accepted socket has the listener's TCP_NODELAY: the first one shows whether on
 * this one.
 */
static void inherit_nodelay(int fd, const nl_addr *a)
{
    static atomic_bool inherited; /* relaxed: a thread that does not see it yet asks for itself */
    if (atomic_load_explicit(&inherited, memory_order_relaxed) || nl_addr_family(a) == 1) {
        return;
    }
    int on = 0;
    socklen_t len = sizeof(on);
    if (getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &len) == 0 && on) {
        atomic_store_explicit(&inherited, true, memory_order_relaxed);
    } else {
        set_nodelay(fd, a);
    }
}

int nl_sock_accept(nl_fd *out, nl_fd listener, nl_addr *peer)
{
    int fd = -1;
    nl_addr a = {0};
    socklen_t len;
    int tries = 0;
    *out = NL_FD_NONE;
    do {
        len = sizeof(a.u.bytes);
#ifdef BORN_NONBLOCK
        fd = nl_fd_up(accept4((int)listener, nl_sockaddr(&a), &len, BORN_NONBLOCK));
#else
        fd = nl_fd_up(accept((int)listener, nl_sockaddr(&a), &len));
#endif
    } while (fd < 0 && only_this_one(errno) && ++tries < ACCEPT_TRIES);
    if (fd < 0) {
        return nl_neg_errno();
    }
    int err = fresh_socket(fd);
    if (err) {
        close(fd);
        return err;
    }
    a.len = (unsigned)len;
    inherit_nodelay(fd, &a);
    if (peer) {
        *peer = a;
    }
    *out = fd;
    return 0;
}

/*
 * A connect to a local port without a listener, while the system picks that very port
 * for this end, connects the socket to itself.  To the caller that port is closed.
 */
static bool is_own_peer(int fd)
{
    nl_addr local, remote;
    return nl_sock_local(fd, &local) == 0 && nl_addr_family(&local) != 1 &&
           nl_sock_remote(fd, &remote) == 0 && local.len == remote.len &&
           memcmp(local.u.bytes, remote.u.bytes, local.len) == 0;
}

int nl_sock_connect(nl_fd *out, const nl_addr *a)
{
    int fd = -1;
    *out = NL_FD_NONE;
    if (nl_addr_family(a) == 0) {
        return -EINVAL;
    }
    int err = open_socket(&fd, a);
    if (err) {
        return err;
    }
    set_nodelay(fd, a);
    if (connect(fd, nl_csockaddr(a), a->len) != 0) {
        if (errno == EINPROGRESS || errno == EINTR) { /* a signal does not stop it */
            *out = fd;
            return -EINPROGRESS;
        }
        err = nl_neg_errno();
        goto fail;
    }
    if (is_own_peer(fd)) {
        err = -ECONNREFUSED;
        goto fail;
    }
    *out = fd;
    return 0;

fail:
    close(fd);
    return err;
}

int nl_sock_connect_result(nl_fd fd)
{
    for (bool over = false;; over = true) {
        int err = 0;
        socklen_t len = sizeof(err);
        if (getsockopt((int)fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0) {
            return nl_neg_errno();
        }
        if (err) {
            return -err;
        }
        nl_addr peer;
        err = nl_sock_remote(fd, &peer);
        if (err == 0) {
            return is_own_peer((int)fd) ? -ECONNREFUSED : 0;
        }
        if (err != -ENOTCONN || over) {
            return err; /* failed, and the error was fetched before */
        }
        /* Neither failed nor connected: still under way, unless it came to an end just now. */
        struct pollfd pfd = {(int)fd, POLLOUT, 0};
        if (poll(&pfd, 1, 0) <= 0) {
            return -EINPROGRESS;
        }
    }
}

/* --- Bytes ------------------------------------------------------------------------------------ */

intptr_t nl_sock_read(nl_fd fd, void *buf, size_t n)
{
    ssize_t got;
    do {
        got = recv((int)fd, buf, n, 0);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? nl_neg_errno() : got;
}

intptr_t nl_sock_writev(nl_fd fd, const nl_iov *iov, int n)
{
    struct msghdr msg;
    ssize_t put;
    memset(&msg, 0, sizeof(msg));
    msg.msg_iov = (struct iovec *)(uintptr_t)iov; /* same layout, asserted above; not written to */
    msg.msg_iovlen = (unsigned)n;
    do {
        put = sendmsg((int)fd, &msg, MSG_NOSIGNAL);
    } while (put < 0 && errno == EINTR);
    return put < 0 ? nl_neg_errno() : put;
}

intptr_t nl_sock_write(nl_fd fd, const void *buf, size_t n)
{
    ssize_t put;
    do {
        put = send((int)fd, buf, n, MSG_NOSIGNAL);
    } while (put < 0 && errno == EINTR);
    return put < 0 ? nl_neg_errno() : put;
}

/* --- The rest --------------------------------------------------------------------------------- */

int nl_sock_nodelay(nl_fd fd, bool on)
{
    int err = set_int((int)fd, IPPROTO_TCP, TCP_NODELAY, on);
    nl_addr local;
    if (err && nl_sock_local(fd, &local) == 0 && nl_addr_family(&local) == 1) {
        return 0; /* a Unix socket delays nothing */
    }
    return err;
}

int nl_sock_shutdown_write(nl_fd fd)
{
    return shutdown((int)fd, SHUT_WR) == 0 ? 0 : nl_neg_errno();
}

void nl_sock_reset(nl_fd fd)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt((int)fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
}

void nl_sock_cut(nl_fd fd, bool reset)
{
    if (reset) {
        struct sockaddr nobody = {.sa_family = AF_UNSPEC};
        /* where it fails, the shutdown is all there is */
        (void)connect((int)fd, &nobody, sizeof(nobody));
    }
    shutdown((int)fd, SHUT_RDWR);
}

int64_t nl_sock_unsent(nl_fd fd)
{
    nl_addr local;
    if (nl_sock_local(fd, &local) == 0 && nl_addr_family(&local) == 1) {
        return 0; /* what a Unix socket has taken is the other end's already */
    }
    int n = 0;
#if defined(SO_NWRITE)
    socklen_t len = sizeof(n);
    return getsockopt((int)fd, SOL_SOCKET, SO_NWRITE, &n, &len) == 0 ? n : nl_neg_errno();
#elif defined(FIONWRITE)
    return ioctl((int)fd, FIONWRITE, &n) == 0 ? n : nl_neg_errno();
#elif defined(__linux__)
    return ioctl((int)fd, TIOCOUTQ, &n) == 0 ? n : nl_neg_errno();
#else
    (void)n;
    return -EOPNOTSUPP;
#endif
}

int nl_sock_local(nl_fd fd, nl_addr *out)
{
    socklen_t len = sizeof(out->u.bytes);
    memset(out, 0, sizeof(*out));
    if (getsockname((int)fd, nl_sockaddr(out), &len) != 0) {
        return nl_neg_errno();
    }
    out->len = (unsigned)len;
    return 0;
}

int nl_sock_remote(nl_fd fd, nl_addr *out)
{
    socklen_t len = sizeof(out->u.bytes);
    memset(out, 0, sizeof(*out));
    if (getpeername((int)fd, nl_sockaddr(out), &len) != 0) {
        return nl_neg_errno();
    }
    out->len = (unsigned)len;
    return 0;
}

void nl_sock_close(nl_fd fd)
{
    close((int)fd); /* after EINTR it is closed, or closing, all the same */
}

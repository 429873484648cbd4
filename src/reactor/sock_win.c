/*
 * sock_win.c - sock.h on Windows: sockets by Winsock; pipe_win.c has the named pipes.
 *
 * An address of family 1 whose path begins with \\.\pipe\ is a named pipe.  Other paths are those
 * of Unix sockets, which Windows has since version 10 (1803), for streams only; a stale file is not
 * replaced there.
 */
#include "base/alloc.h"
#include "base/log.h"
#include "reactor/win.h"

#include <limits.h>
#include <mstcpip.h>
#include <mswsock.h>
#include <string.h>

/*
 * SOMAXCONN_HINT(65535), which headers of mingw do not have.  SOMAXCONN itself is 200 there, and a
 * connection that finds no room is refused.
 */
#define LONGEST_BACKLOG (-65535)
#define ACCEPT_TRIES 16 /* as many connections may have gone while they waited */

/* Winsock is there before any other call, in programs and in tests. */
__attribute__((constructor)) static void start_winsock(void)
{
    WSADATA data;
    WSAStartup(MAKEWORD(2, 2), &data);
}

/* A SOCKET that is none was closed: of a listener that another thread has cut. */
static int sock_error(void)
{
    int err = WSAGetLastError();
    return err == WSAENOTSOCK ? -EBADF : -nl_win_errno((unsigned long)err);
}

int64_t nl_sock_limit(void)
{
    return INT64_MAX; /* memory is the limit */
}

static nl_winfd *socket_new(nl_win_kind kind, SOCKET s)
{
    nl_winfd *w = (nl_winfd *)nl_calloc(sizeof(*w));
    nl_winfd_init(w, kind, (HANDLE)s);
    return w;
}

/*
 * Windows resets a connection that is closed while a receive is under way, and a cancelled one is
 * under way until its packet is harvested.  So the last packet closes it; the peer gets the end of
 * the stream at once.  Where a reset is wanted, or a port is to be free again, the close comes now.
 */
void nl_sock_close(nl_fd fd)
{
    nl_winfd *w = nl_winfd_of(fd);
    if (fd == NL_FD_NONE) {
        return;
    }
    if (nl_winfd_is_pipe(w)) {
        nl_pipe_close(w);
    } else if (w->reset || w->kind == NL_WIN_LISTENER) {
        nl_winfd_close_handle(w);
    } else if (atomic_load(&w->refs) > 1) {
        shutdown(nl_win_socket(w), SD_SEND);
    }
    nl_winfd_unref(w);
}

/* --- Opening ---------------------------------------------------------------------------------- */

static int set_int(SOCKET s, int level, int name, int value)
{
    return setsockopt(s, level, name, (const char *)&value, sizeof(value)) == 0 ? 0 : sock_error();
}

/*
 * Without it what is written while something is still unacknowledged waits for the acknowledgement,
 * which the other end delays by up to 200 ms.
 */
static void set_nodelay(SOCKET s, const nl_addr *a)
{
    if (nl_addr_family(a) != 1) {
        set_int(s, IPPROTO_TCP, TCP_NODELAY, 1);
    }
}

static int set_nonblocking(SOCKET s)
{
    u_long on = 1;
    return ioctlsocket(s, (long)FIONBIO, &on) == 0 ? 0 : sock_error();
}

static int open_socket(SOCKET *out, const nl_addr *a)
{
    SOCKET s = WSASocketW(nl_csockaddr(a)->sa_family, SOCK_STREAM, 0, NULL, 0,
                          WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT);
    if (s == INVALID_SOCKET) {
        static atomic_flag told = ATOMIC_FLAG_INIT;
        int err = sock_error();
        if (nl_addr_family(a) == 1 && !atomic_flag_test_and_set(&told)) {
            nl_log(NULL,
                   "this Windows has no Unix sockets (%s); a path may be \\\\.\\pipe\\NAME, a named pipe",
                   nl_unix_path(a));
        }
        return err;
    }
    int err = set_nonblocking(s);
    if (err) {
        closesocket(s);
        return err;
    }
    *out = s;
    return 0;
}

int nl_sock_listen(nl_fd *out, const nl_addr *a, const struct nl_listen_opts *o)
{
    SOCKET s = INVALID_SOCKET;
    int family = nl_addr_family(a);
    *out = NL_FD_NONE;
    if (family == 0) {
        return -EINVAL;
    }
    if (nl_pipe_named(a)) {
        return nl_pipe_listen(out, a);
    }
    if (o->reuseport && family != 1) {
        return -EOPNOTSUPP; /* SO_REUSEADDR would let any process take the port */
    }
    int err = open_socket(&s, a);
    if (err) {
        return err;
    }
    if (family != 1) {
        /* Else another process could bind the port too, with SO_REUSEADDR. */
        err = set_int(s, SOL_SOCKET, SO_EXCLUSIVEADDRUSE, 1);
        if (!err && family == 6) {
            err = set_int(s, IPPROTO_IPV6, IPV6_V6ONLY, 1);
        }
    }
    set_nodelay(s, a); /* for those that are accepted, see inherit_nodelay */
    if (!err && (bind(s, nl_csockaddr(a), (int)a->len) != 0 ||
                 listen(s, o->backlog > 0 ? o->backlog : LONGEST_BACKLOG) != 0)) {
        err = sock_error();
    }
    if (err) {
        closesocket(s);
        return err;
    }
    *out = (nl_fd)socket_new(NL_WIN_LISTENER, s);
    return 0;
}

/* Errors of accept that concern the one connection it took from the queue, not the listener. */
static bool only_this_one(int err)
{
    return err == -ECONNRESET || err == -ECONNABORTED || err == -ETIMEDOUT || err == -ENETDOWN ||
           err == -ENOTCONN; /* wine says so of one that has been reset */
}

/*
 * An accepted socket has the listener's TCP_NODELAY, as a rule: the first one shows whether on this
 * system.
 */
static void inherit_nodelay(SOCKET s, const nl_addr *a)
{
    static atomic_bool inherited; /* relaxed: a thread that does not see it yet asks for itself */
    if (atomic_load_explicit(&inherited, memory_order_relaxed) || nl_addr_family(a) == 1) {
        return;
    }
    int on = 0, len = sizeof(on);
    if (getsockopt(s, IPPROTO_TCP, TCP_NODELAY, (char *)&on, &len) == 0 && on) {
        atomic_store_explicit(&inherited, true, memory_order_relaxed);
    } else {
        set_nodelay(s, a);
    }
}

int nl_sock_accept(nl_fd *out, nl_fd listener, nl_addr *peer)
{
    nl_winfd *l = nl_winfd_of(listener);
    SOCKET s;
    nl_addr a = {0};
    int err, len, tries = 0;
    *out = NL_FD_NONE;
    if (listener == NL_FD_NONE) {
        return -EBADF;
    }
    if (l->kind == NL_WIN_PIPE_LISTENER) {
        return nl_pipe_accept(out, l, peer);
    }
    do {
        len = sizeof(a.u.bytes);
        nl_mutex_lock(l->lock); /* keeps the socket open */
        s = accept(nl_win_socket(l), nl_sockaddr(&a), &len);
        err = s == INVALID_SOCKET ? sock_error() : 0;
        nl_mutex_unlock(l->lock);
    } while (err && only_this_one(err) && ++tries < ACCEPT_TRIES);
    if (err) {
        return err;
    }
    /* It has not the listener's "not inherited by children". */
    SetHandleInformation((HANDLE)s, HANDLE_FLAG_INHERIT, 0);
    err = set_nonblocking(s);
    if (err) {
        closesocket(s);
        return err;
    }
    a.len = (unsigned)len;
    inherit_nodelay(s, &a);
    if (peer) {
        *peer = a;
    }
    *out = (nl_fd)socket_new(NL_WIN_SOCKET, s);
    return 0;
}

static bool is_loopback(const nl_addr *a)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)a->u.bytes;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)a->u.bytes;
    int family = nl_addr_family(a);
    return family == 4   ? (ntohl(in->sin_addr.s_addr) >> 24) == 127
           : family == 6 ? IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr)
                         : false;
}

/*
 * Windows asks a port that has refused it again for 2 s.  On this machine a port that refuses means
 * it.  Where the system does not know the call, nothing is lost.
 */
static void refuse_at_once(SOCKET s)
{
    TCP_INITIAL_RTO_PARAMETERS once = {.Rtt = TCP_INITIAL_RTO_UNSPECIFIED_RTT,
                                       .MaxSynRetransmissions = TCP_INITIAL_RTO_NO_SYN_RETRANSMISSIONS};
    DWORD n;
    WSAIoctl(s, SIO_TCP_INITIAL_RTO, &once, sizeof(once), NULL, 0, &n, NULL, NULL);
}

/*
 * A connect to a local port without a listener, while the system picks that very port
 * for this end, connects the socket to itself.  To the caller that port is closed.
 */
static bool is_own_peer(nl_fd fd)
{
    nl_addr local, remote;
    return nl_sock_local(fd, &local) == 0 && nl_addr_family(&local) != 1 &&
           nl_sock_remote(fd, &remote) == 0 && local.len == remote.len &&
           memcmp(local.u.bytes, remote.u.bytes, local.len) == 0;
}

int nl_sock_connect(nl_fd *out, const nl_addr *a)
{
    SOCKET s = INVALID_SOCKET;
    *out = NL_FD_NONE;
    if (nl_addr_family(a) == 0) {
        return -EINVAL;
    }
    if (nl_pipe_named(a)) {
        return nl_pipe_connect(out, a);
    }
    int err = open_socket(&s, a);
    if (err) {
        return err;
    }
    set_nodelay(s, a);
    if (is_loopback(a)) {
        refuse_at_once(s);
    }
    if (connect(s, nl_csockaddr(a), (int)a->len) != 0) {
        err = sock_error();
        if (err != NL_AGAIN) {
            closesocket(s);
            return err;
        }
    }
    nl_winfd *w = socket_new(NL_WIN_SOCKET, s);
    w->connecting = true;
    err = nl_sock_connect_result((nl_fd)w);
    if (err && err != -EINPROGRESS) {
        nl_sock_close((nl_fd)w);
        return err;
    }
    *out = (nl_fd)w;
    return err;
}

int nl_sock_connect_result(nl_fd fd)
{
    nl_winfd *w = nl_winfd_of(fd);
    if (w->kind != NL_WIN_SOCKET || !w->connecting) {
        return 0;
    }
    int err = 0, len = sizeof(err);
    DWORD seconds = 0;
    if (getsockopt(nl_win_socket(w), SOL_SOCKET, SO_ERROR, (char *)&err, &len) != 0) {
        return sock_error();
    }
    if (err) {
        return -nl_win_errno((unsigned long)err);
    }
    /* Not getpeername, which knows the address as soon as the connect has begun. */
    len = sizeof(seconds);
    if (getsockopt(nl_win_socket(w), SOL_SOCKET, SO_CONNECT_TIME, (char *)&seconds, &len) != 0) {
        return sock_error();
    }
    if (seconds == UINT32_MAX) {
        return -EINPROGRESS;
    }
    if (is_own_peer(fd)) {
        return -ECONNREFUSED;
    }
    w->connecting = false;
    return 0;
}

/* --- Bytes ------------------------------------------------------------------------------------ */

intptr_t nl_sock_read(nl_fd fd, void *buf, size_t n)
{
    nl_winfd *w = nl_winfd_of(fd);
    if (w->kind != NL_WIN_SOCKET) {
        return nl_pipe_read(w, buf, n);
    }
    SOCKET s = nl_win_socket(w);
    int got = recv(s, (char *)buf, n < INT_MAX ? (int)n : INT_MAX, 0);
    if (got < 0) {
        return sock_error();
    }
    /* wine reads a reset as the end of the stream, and tells it to who sends. */
    return got == 0 && send(s, "", 0, 0) < 0 && WSAGetLastError() == WSAECONNRESET ? -ECONNRESET : got;
}

intptr_t nl_sock_writev(nl_fd fd, const nl_iov *iov, int n)
{
    nl_winfd *w = nl_winfd_of(fd);
    if (w->kind != NL_WIN_SOCKET) {
        return nl_pipe_writev(w, iov, n);
    }
    WSABUF bufs[NL_IOV_MAX];
    DWORD put;
    int count = n < NL_IOV_MAX ? n : NL_IOV_MAX;
    for (int i = 0; i < count; i++) {
        bufs[i] = (WSABUF){iov[i].len < INT_MAX ? (ULONG)iov[i].len : INT_MAX, (CHAR *)iov[i].base};
    }
    return WSASend(nl_win_socket(w), bufs, (DWORD)count, &put, 0, NULL, NULL) == 0 ? (intptr_t)put
                                                                                   : sock_error();
}

intptr_t nl_sock_write(nl_fd fd, const void *buf, size_t n)
{
    nl_winfd *w = nl_winfd_of(fd);
    if (w->kind != NL_WIN_SOCKET) {
        nl_iov one = {(void *)(uintptr_t)buf, n}; /* not written to */
        return nl_pipe_writev(w, &one, 1);
    }
    int put = send(nl_win_socket(w), (const char *)buf, n < INT_MAX ? (int)n : INT_MAX, 0);
    return put < 0 ? sock_error() : put;
}

/* --- The rest --------------------------------------------------------------------------------- */

int nl_sock_nodelay(nl_fd fd, bool on)
{
    nl_winfd *w = nl_winfd_of(fd);
    if (nl_winfd_is_pipe(w)) {
        return 0; /* a pipe delays nothing */
    }
    int err = set_int(nl_win_socket(w), IPPROTO_TCP, TCP_NODELAY, on);
    nl_addr local;
    return err && nl_sock_local(fd, &local) == 0 && nl_addr_family(&local) == 1 ? 0 : err;
}

int nl_sock_shutdown_write(nl_fd fd)
{
    nl_winfd *w = nl_winfd_of(fd);
    if (w->kind != NL_WIN_SOCKET) {
        return nl_pipe_shutdown_write(w);
    }
    return shutdown(nl_win_socket(w), SD_SEND) == 0 ? 0 : sock_error();
}

void nl_sock_reset(nl_fd fd)
{
    nl_winfd *w = nl_winfd_of(fd);
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    w->reset = true;
    if (w->kind == NL_WIN_SOCKET) {
        setsockopt(nl_win_socket(w), SOL_SOCKET, SO_LINGER, (const char *)&at_once, sizeof(at_once));
    }
}

void nl_sock_cut(nl_fd fd, bool reset)
{
    nl_winfd *w = nl_winfd_of(fd);
    switch (w->kind) {
    case NL_WIN_SOCKET:
        if (reset) {
            nl_sock_reset(fd);
        }
        shutdown(nl_win_socket(w), SD_BOTH);
        break;
    case NL_WIN_LISTENER: /* only a close ends it; who uses it takes the lock */
        nl_mutex_lock(w->lock);
        nl_winfd_close_handle(w);
        nl_mutex_unlock(w->lock);
        break;
    default:
        nl_pipe_cut(w);
    }
}

int64_t nl_sock_unsent(nl_fd fd)
{
    nl_winfd *w = nl_winfd_of(fd);
    nl_addr local;
    /* What a pipe or a Unix socket has taken is the other end's already. */
    return w->kind != NL_WIN_SOCKET || (nl_sock_local(fd, &local) == 0 && nl_addr_family(&local) == 1)
               ? 0
               : -EOPNOTSUPP;
}

static int ask_name(const nl_winfd *w, int(WSAAPI *ask)(SOCKET, struct sockaddr *, int *), nl_addr *out)
{
    int len = sizeof(out->u.bytes);
    memset(out, 0, sizeof(*out));
    if (ask(nl_win_socket(w), nl_sockaddr(out), &len) != 0) {
        return sock_error();
    }
    out->len = (unsigned)len;
    return 0;
}

int nl_sock_local(nl_fd fd, nl_addr *out)
{
    nl_winfd *w = nl_winfd_of(fd);
    return nl_winfd_is_pipe(w) ? nl_pipe_local(w, out) : ask_name(w, getsockname, out);
}

int nl_sock_remote(nl_fd fd, nl_addr *out)
{
    nl_winfd *w = nl_winfd_of(fd);
    return nl_winfd_is_pipe(w) ? nl_pipe_remote(w, out) : ask_name(w, getpeername, out);
}

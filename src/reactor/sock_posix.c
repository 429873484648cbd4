/*
 * sock_posix.c - sock.h on Linux, the BSDs and macOS.
 */
#include "reactor/sock.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>
#ifdef __APPLE__
#include <sys/syslimits.h>
#endif

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
_Static_assert(sizeof(((nl_addr *)0)->u) >= sizeof(struct sockaddr_storage) ||
                   (sizeof(((nl_addr *)0)->u) >= sizeof(struct sockaddr_un) &&
                    sizeof(((nl_addr *)0)->u) >= sizeof(struct sockaddr_in6)),
               "an nl_addr holds every address");

static int neg_errno(void)
{
#if EWOULDBLOCK != EAGAIN
    if (errno == EWOULDBLOCK) {
        return NL_AGAIN;
    }
#endif
    return -errno;
}

int nl_sock_init(void)
{
    struct rlimit lim;
    signal(SIGPIPE, SIG_IGN);
    if (getrlimit(RLIMIT_NOFILE, &lim) == 0) {
        lim.rlim_cur = lim.rlim_max;
#ifdef __APPLE__
        if (lim.rlim_cur > OPEN_MAX) {
            lim.rlim_cur = OPEN_MAX; /* the hard value says infinity, but more than this is refused */
        }
#endif
        setrlimit(RLIMIT_NOFILE, &lim); /* refused: then with fewer */
    }
    return 0;
}

/* --- Addresses --------------------------------------------------------------------------- */

static struct sockaddr *sa(nl_addr *a)
{
    return (struct sockaddr *)(void *)a->u.bytes;
}

static const struct sockaddr *csa(const nl_addr *a)
{
    return (const struct sockaddr *)(const void *)a->u.bytes;
}

/* The BSDs keep an address's length in it, too. */
static void set_len(nl_addr *a, size_t len)
{
    a->len = (unsigned)len;
#if defined(__APPLE__) || defined(__FreeBSD__) || defined(__OpenBSD__) || defined(__NetBSD__) ||             \
    defined(__DragonFly__)
    sa(a)->sa_len = (unsigned char)len;
#endif
}

/* "fe80::1%eth0": the interface, by name or number; 0 if there is no such one. */
static uint32_t scope_of(const char *text)
{
    char *end;
    unsigned index = if_nametoindex(text);
    if (index) {
        return index;
    }
    unsigned long n = strtoul(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0' && n <= UINT32_MAX ? (uint32_t)n : 0;
}

int nl_addr_ip(nl_addr *out, int family, const char *text, int port)
{
    memset(out, 0, sizeof(*out));
    if (port < 0 || port > 65535) {
        return -EINVAL;
    }
    if (family == 4) {
        struct sockaddr_in *in = (struct sockaddr_in *)(void *)out->u.bytes;
        if (inet_pton(AF_INET, text, &in->sin_addr) != 1) {
            return -EINVAL;
        }
        in->sin_family = AF_INET;
        in->sin_port = htons((uint16_t)port);
        set_len(out, sizeof(*in));
        return 0;
    }
    if (family == 6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)out->u.bytes;
        char host[INET6_ADDRSTRLEN];
        const char *percent = strchr(text, '%');
        size_t n = percent ? (size_t)(percent - text) : strlen(text);
        if (n >= sizeof(host)) {
            return -EINVAL;
        }
        memcpy(host, text, n);
        host[n] = '\0';
        if (inet_pton(AF_INET6, host, &in6->sin6_addr) != 1) {
            return -EINVAL;
        }
        if (percent) {
            in6->sin6_scope_id = scope_of(percent + 1);
            if (in6->sin6_scope_id == 0) {
                return -EINVAL;
            }
        }
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons((uint16_t)port);
        set_len(out, sizeof(*in6));
        return 0;
    }
    return -EINVAL;
}

int nl_addr_unix(nl_addr *out, const char *path)
{
    struct sockaddr_un *un = (struct sockaddr_un *)(void *)out->u.bytes;
    size_t n = strlen(path);
    memset(out, 0, sizeof(*out));
    if (n == 0) {
        return -EINVAL;
    }
    if (n >= sizeof(un->sun_path)) {
        return -ENAMETOOLONG;
    }
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, n);
#ifdef __linux__
    if (path[0] == '@') { /* abstract: every byte counts, and there is no end mark */
        un->sun_path[0] = '\0';
        set_len(out, offsetof(struct sockaddr_un, sun_path) + n);
        return 0;
    }
#endif
    set_len(out, offsetof(struct sockaddr_un, sun_path) + n + 1);
    return 0;
}

void nl_addr_set_port(nl_addr *a, int port)
{
    if (csa(a)->sa_family == AF_INET) {
        ((struct sockaddr_in *)(void *)a->u.bytes)->sin_port = htons((uint16_t)port);
    } else if (csa(a)->sa_family == AF_INET6) {
        ((struct sockaddr_in6 *)(void *)a->u.bytes)->sin6_port = htons((uint16_t)port);
    }
}

int nl_addr_family(const nl_addr *a)
{
    if (a->len == 0) {
        return 0;
    }
    switch (csa(a)->sa_family) {
    case AF_INET:
        return 4;
    case AF_INET6:
        return 6;
    case AF_UNIX:
        return 1;
    default:
        return 0;
    }
}

int nl_addr_port(const nl_addr *a)
{
    switch (nl_addr_family(a)) {
    case 4:
        return ntohs(((const struct sockaddr_in *)(const void *)a->u.bytes)->sin_port);
    case 6:
        return ntohs(((const struct sockaddr_in6 *)(const void *)a->u.bytes)->sin6_port);
    default:
        return 0;
    }
}

static void unix_text(const nl_addr *a, char *buf, size_t size)
{
    const struct sockaddr_un *un = (const struct sockaddr_un *)(const void *)a->u.bytes;
    size_t at = offsetof(struct sockaddr_un, sun_path);
    size_t n = a->len > at ? a->len - at : 0; /* 0: the unnamed end of a connection */
    if (n > 0 && un->sun_path[0] == '\0') {
        snprintf(buf, size, "@%.*s", (int)n - 1, un->sun_path + 1);
    } else {
        snprintf(buf, size, "%.*s", (int)n, un->sun_path);
    }
}

void nl_addr_text(const nl_addr *a, char *buf, size_t size)
{
    buf[0] = '\0';
    switch (nl_addr_family(a)) {
    case 4:
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)a->u.bytes)->sin_addr, buf,
                  (socklen_t)size);
        break;
    case 6: {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)a->u.bytes;
        inet_ntop(AF_INET6, &in6->sin6_addr, buf, (socklen_t)size);
        if (in6->sin6_scope_id) {
            size_t n = strlen(buf);
            snprintf(buf + n, size - n, "%%%u", (unsigned)in6->sin6_scope_id);
        }
        break;
    }
    case 1:
        unix_text(a, buf, size);
        break;
    default:
        break;
    }
}

static int resolve_error(int rc)
{
    switch (rc) {
    case EAI_SYSTEM:
        return errno ? neg_errno() : -NL_EHOST;
    case EAI_MEMORY:
        return -ENOMEM;
    default:
        /* Also when no name server answers (EAI_AGAIN): -EAGAIN would read as NL_AGAIN, and the name is not found. */
        return -NL_EHOST;
    }
}

static bool among(const nl_addr *list, int n, const nl_addr *a)
{
    for (int i = 0; i < n; i++) {
        if (list[i].len == a->len && memcmp(list[i].u.bytes, a->u.bytes, a->len) == 0) {
            return true;
        }
    }
    return false;
}

int nl_addr_resolve(nl_addr *out, int max, int family, const char *host, int port)
{
    struct addrinfo hints, *list = NULL;
    if ((family != 4 && family != 6) || port < 0 || port > 65535) {
        return -EINVAL;
    }
    memset(&hints, 0, sizeof(hints));
    hints.ai_family = family == 4 ? AF_INET : AF_INET6;
    hints.ai_socktype = SOCK_STREAM;
    errno = 0;
    int rc = getaddrinfo(host, NULL, &hints, &list);
    if (rc != 0) {
        return resolve_error(rc);
    }
    int n = 0;
    for (struct addrinfo *ai = list; ai && n < max; ai = ai->ai_next) {
        nl_addr *a = &out[n];
        if (ai->ai_family != hints.ai_family || ai->ai_addrlen > sizeof(a->u.bytes)) {
            continue;
        }
        memset(a, 0, sizeof(*a));
        memcpy(a->u.bytes, ai->ai_addr, ai->ai_addrlen);
        a->len = (unsigned)ai->ai_addrlen;
        nl_addr_set_port(a, port);
        if (!among(out, n, a)) {
            n++;
        }
    }
    freeaddrinfo(list);
    return n > 0 ? n : -NL_EHOST;
}

/* --- Opening ----------------------------------------------------------------------------- */

static int set_int(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value)) == 0 ? 0 : neg_errno();
}

/* What a new descriptor must be made where the call that creates it cannot. */
static int fresh_socket(int fd)
{
#ifndef BORN_NONBLOCK
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        return neg_errno();
    }
#endif
#ifdef SO_NOSIGPIPE
    return set_int(fd, SOL_SOCKET, SO_NOSIGPIPE, 1);
#else
    (void)fd;
    return 0;
#endif
}

static int open_socket(int *out, const nl_addr *a)
{
#ifdef BORN_NONBLOCK
    int fd = socket(csa(a)->sa_family, SOCK_STREAM | BORN_NONBLOCK, 0);
#else
    int fd = socket(csa(a)->sa_family, SOCK_STREAM, 0);
#endif
    if (fd < 0) {
        return neg_errno();
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
 * Is the path that bind found taken the socket file of somebody who has gone?  Whoever
 * still listens accepts a connection (or has a full backlog); a stale file refuses it.  Two
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
    bool stale = connect(fd, csa(a), a->len) != 0 && errno == ECONNREFUSED;
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
            err = set_int(fd, SOL_SOCKET, SO_REUSEPORT_LB, 1); /* FreeBSD's name for the kind that shares */
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
    if (bind(fd, csa(a), a->len) != 0) {
        err = neg_errno();
        if (err != -EADDRINUSE || family != 1 || !unix_is_stale(a)) {
            goto fail;
        }
        unlink(((const struct sockaddr_un *)(const void *)a->u.bytes)->sun_path);
        if (bind(fd, csa(a), a->len) != 0) {
            err = neg_errno();
            goto fail;
        }
    }
    /* Every system cuts a backlog that is too long to what it allows. */
    if (listen(fd, o->backlog > 0 ? o->backlog : 65535) != 0) {
        err = neg_errno();
        goto fail;
    }
    *out = fd;
    return 0;

fail:
    close(fd);
    return err;
}

/* Errors of accept that speak of the one connection it took from the queue, not of the listener. */
static bool accept_again(int err)
{
    switch (err) {
    case EINTR:
    case ECONNABORTED:
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

int nl_sock_accept(nl_fd *out, nl_fd listener)
{
    int fd = -1;
    *out = NL_FD_NONE;
    do {
#ifdef BORN_NONBLOCK
        fd = accept4((int)listener, NULL, NULL, BORN_NONBLOCK);
#else
        fd = accept((int)listener, NULL, NULL);
#endif
    } while (fd < 0 && accept_again(errno));
    if (fd < 0) {
        return neg_errno();
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
 * A connect to a local port that nobody listens on, while the system picks that very port
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
    if (connect(fd, csa(a), a->len) != 0) {
        if (errno == EINPROGRESS || errno == EINTR) { /* after a signal, too, it goes on by itself */
            *out = fd;
            return -EINPROGRESS;
        }
        err = neg_errno();
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
            return neg_errno();
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

/* --- Bytes ------------------------------------------------------------------------------- */

intptr_t nl_sock_read(nl_fd fd, void *buf, size_t n)
{
    ssize_t got;
    do {
        got = recv((int)fd, buf, n, 0);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? neg_errno() : got;
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
    return put < 0 ? neg_errno() : put;
}

intptr_t nl_sock_write(nl_fd fd, const void *buf, size_t n)
{
    ssize_t put;
    do {
        put = send((int)fd, buf, n, MSG_NOSIGNAL);
    } while (put < 0 && errno == EINTR);
    return put < 0 ? neg_errno() : put;
}

/* --- The rest ---------------------------------------------------------------------------- */

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
    return shutdown((int)fd, SHUT_WR) == 0 ? 0 : neg_errno();
}

int nl_sock_local(nl_fd fd, nl_addr *out)
{
    socklen_t len = sizeof(out->u.bytes);
    memset(out, 0, sizeof(*out));
    if (getsockname((int)fd, sa(out), &len) != 0) {
        return neg_errno();
    }
    out->len = (unsigned)len;
    return 0;
}

int nl_sock_remote(nl_fd fd, nl_addr *out)
{
    socklen_t len = sizeof(out->u.bytes);
    memset(out, 0, sizeof(*out));
    if (getpeername((int)fd, sa(out), &len) != 0) {
        return neg_errno();
    }
    out->len = (unsigned)len;
    return 0;
}

void nl_sock_close(nl_fd fd)
{
    close((int)fd); /* after EINTR it is closed, or closing, all the same */
}

/*
 * sock.h - non-blocking stream sockets.
 *
 * Purpose:   opens, reads, writes and closes sockets; one implementation per system
 *            (sock_posix.c, sock_win.c with pipe_win.c).  Every function returns 0 or a count, or a
 *            negated error number (base.h); NL_AGAIN where the call would block.  No call raises a
 *            signal.
 * Threads:   no state; any thread, but one socket by one thread at a time and direction.
 * Ownership: the caller owns each descriptor it was given, until nl_sock_close.
 */
#ifndef NL_SOCK_H
#define NL_SOCK_H

#include "reactor/addr.h"

typedef intptr_t nl_fd; /* a descriptor, on Windows an nl_winfd (win.h) */
#define NL_FD_NONE ((nl_fd)-1)
#define NL_AGAIN (-EAGAIN)

typedef struct nl_iov {
    void *base;
    size_t len;
} nl_iov;

/* The same layout as struct iovec where there is one (sock_posix.c asserts it). */
#define NL_IOV_MAX 64

/* How many descriptors the process may have open, at most INT64_MAX. */
int64_t nl_sock_limit(void);

struct nl_listen_opts {
    int backlog;    /* <= 0: what the system allows */
    bool reuseport; /* several listeners on one port share the load */
};

/*
 * Bound, listening, non-blocking, close-on-exec.  A listener on IPv6 takes no IPv4.  A stale Unix
 * socket file is replaced.
 */
int nl_sock_listen(nl_fd *out, const nl_addr *a, const struct nl_listen_opts *o);
/*
 * Accepts one connection, non-blocking, close-on-exec.  NL_AGAIN when there is none.  peer, if not
 * NULL, gets the address of the other end, also of one that has gone; peer->len is 0 where the
 * system does not tell it.
 */
int nl_sock_accept(nl_fd *out, nl_fd listener, nl_addr *peer);
/*
 * Starts a connection: 0 connected at once, -EINPROGRESS under way (WRITE will be ready), or -errno
 * and *out is NL_FD_NONE.
 */
int nl_sock_connect(nl_fd *out, const nl_addr *a);
/* Outcome of a connection under way: 0, -EINPROGRESS, or its error. */
int nl_sock_connect_result(nl_fd fd);

/* Bytes read, 0 at the end of the stream, NL_AGAIN, -errno. */
intptr_t nl_sock_read(nl_fd fd, void *buf, size_t n);
/* Gathered write: bytes taken (maybe fewer than given), NL_AGAIN, -errno (EPIPE, ECONNRESET…). */
intptr_t nl_sock_writev(nl_fd fd, const nl_iov *iov, int n);
/* Plain send of one run of bytes, the same results; cheaper than writev. */
intptr_t nl_sock_write(nl_fd fd, const void *buf, size_t n);

/* On from the start, for listeners' connections too. */
int nl_sock_nodelay(nl_fd fd, bool on);
/*
 * Ends the output.  NL_AGAIN where the system must take what was written first: WRITE will be ready
 * then.  -EOPNOTSUPP for a named pipe: its close is the end, and loses nothing.
 */
int nl_sock_shutdown_write(nl_fd fd);
/*
 * The close that follows resets the connection, where there is such a thing (TCP, the server's end
 * of a named pipe): the peer sees no end in order.
 */
void nl_sock_reset(nl_fd fd);
/*
 * Ends the connection, or the listening, while fd stays open; for another thread than the one that
 * uses it.  reset: the peer sees a reset, where the system can do that.  The client's end of a
 * named pipe stays open: only its close ends it.
 */
void nl_sock_cut(nl_fd fd, bool reset);
/*
 * Bytes, the stream's end among them, that the other end's system has not acknowledged: a reset
 * would destroy them.  -EOPNOTSUPP where the system does not tell.
 */
int64_t nl_sock_unsent(nl_fd fd);
int nl_sock_local(nl_fd fd, nl_addr *out);
int nl_sock_remote(nl_fd fd, nl_addr *out);
void nl_sock_close(nl_fd fd);

#endif

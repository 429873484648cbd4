/*
 * win.h - what the Windows implementations of reactor.h and sock.h share: the struct behind an
 * nl_fd.
 *
 * Purpose:   a socket, one end of a named pipe, or a listener on either, with the operations that
 *            iocp.c starts for it.
 * Threads:   as in sock.h and reactor.h; each field says what else.
 * Ownership: one reference is the caller's, until nl_sock_close.  Each operation has another, from
 *            its start until its packet is harvested: what the system writes into stays in memory,
 *            and a packet always finds its struct.  The last reference closes and frees.
 */
#ifndef NL_REACTOR_WIN_H
#define NL_REACTOR_WIN_H

#include "base/os.h"
#include "reactor/afd.h"
#include "reactor/reactor.h"

typedef enum nl_win_kind {
    NL_WIN_SOCKET,       /* a connection, or one under way */
    NL_WIN_LISTENER,     /* a socket that listens */
    NL_WIN_PIPE,         /* either end of a connection, or an instance that waits for one */
    NL_WIN_PIPE_LISTENER /* instances of one name; has no handle of its own */
} nl_win_kind;

/* The status of an operation that could not even start: STATUS_UNSUCCESSFUL. */
#define NL_WIN_FAILED ((ULONG_PTR)0xC0000001)

/* A request to the system that is answered by one packet on the reactor's port. */
typedef struct nl_win_op {
    OVERLAPPED ov; /* first: the packet names it */
    struct nl_winfd *fd;
    atomic_bool pending; /* from its start until its packet is harvested */
} nl_win_op;

typedef struct nl_winfd {
    nl_win_kind kind;
    bool connecting; /* no outcome was fetched yet */
    bool reset;      /* the close is to reset the connection */
    HANDLE handle;   /* a SOCKET, or a pipe's */
    HANDLE base;     /* the SOCKET below all filters, for AFD; NULL: not asked for yet */
    atomic_uint refs;
    nl_reactor *reactor;  /* whose port has the handle, for good; NULL: none yet */
    _Atomic uint64_t tag; /* 0: not attached */
    nl_win_op read, write;
    nl_afd_poll poll; /* of the one operation at a time that asks AFD */
    bool asking;      /* it is under way */
    nl_mutex *lock;   /* of a listener, which another thread may cut */
} nl_winfd;

/* Of NL_FD_NONE: calls with its socket fail. */
extern nl_winfd nl_winfd_none;

static inline nl_winfd *nl_winfd_of(nl_fd fd)
{
    return nl_likely(fd != NL_FD_NONE) ? (nl_winfd *)fd : &nl_winfd_none;
}

static inline SOCKET nl_win_socket(const nl_winfd *w)
{
    return (SOCKET)w->handle;
}

static inline bool nl_winfd_is_pipe(const nl_winfd *w)
{
    return w->kind == NL_WIN_PIPE || w->kind == NL_WIN_PIPE_LISTENER;
}

/* winfd.c: sets up the fields of w, which is zeroed and comes from nl_calloc. */
void nl_winfd_init(nl_winfd *w, nl_win_kind kind, HANDLE handle);
void nl_winfd_unref(nl_winfd *w);
/* At once; does nothing if it is closed. */
void nl_winfd_close_handle(nl_winfd *w);

/* pipe_win.c: sock.h's functions for pipes, by the same names and rules. */
bool nl_pipe_named(const nl_addr *a);
int nl_pipe_listen(nl_fd *out, const nl_addr *a);
int nl_pipe_accept(nl_fd *out, nl_winfd *listener, nl_addr *peer);
int nl_pipe_connect(nl_fd *out, const nl_addr *a);
intptr_t nl_pipe_read(nl_winfd *w, void *buf, size_t n);
intptr_t nl_pipe_writev(nl_winfd *w, const nl_iov *iov, int n);
int nl_pipe_shutdown_write(nl_winfd *w);
void nl_pipe_cut(nl_winfd *w);
int nl_pipe_local(nl_winfd *w, nl_addr *out);
int nl_pipe_remote(nl_winfd *w, nl_addr *out);
/* Closes the handle now, or after the write under way, unless the close is to reset. */
void nl_pipe_close(nl_winfd *w);

/* pipe_win.c, for iocp.c. */
/* Starts the operation that ends when w can be read, or has its connection.  False: it can now. */
bool nl_pipe_start_read(nl_winfd *w);
/* The packet of w's write, if there was one, is harvested. */
void nl_pipe_written(nl_winfd *w);
/* Calls fn for each instance of a listener, until one fails. */
int nl_pipe_each(nl_winfd *listener, int (*fn)(nl_reactor *, nl_fd, uint64_t), nl_reactor *r, uint64_t tag);

#endif

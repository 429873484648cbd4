/*
 * connect.h - one outgoing connection: from a name or an address to a connected socket.
 *
 * Purpose:   resolves the name and tries its addresses.  Attempts overlap (RFC 8305): the next one
 *            begins NL_CONNECT_DELAY_NS after the one before, or at once when one has failed; the
 *            first to succeed wins, the others are closed.  So an address that does not answer
 *            costs a moment and not the whole time-out.  A Unix socket whose backlog is full is
 *            tried again until there is room, as a blocking connect(2) would wait.
 * Threads:   everything on the owner's turns.  The time-out is the caller's: it cancels.
 * Ownership: an nl_connect is valid from nl_connect_start until done is called or
 *            nl_connect_cancel.
 */
#ifndef NL_CONNECT_H
#define NL_CONNECT_H

#include "net/tcp.h"

#define NL_CONNECT_DELAY_NS ((int64_t)250000000)

typedef struct nl_connect nl_connect;

typedef struct nl_connect_to {
    int family;       /* 4 or 6: host is a name or an address; 1: host is a path */
    const char *host; /* copied */
    int port;
    const nl_tcp_ops *ops; /* of the socket, once it is connected */
    nl_timer *timer;       /* the owner's: when it fires the owner calls nl_connect_due */
    /* Once, in a later turn: s is the owner's, without a user; or s is NULL, and err > 0. */
    void (*done)(nl_ctx *owner, void *user, nl_tcp *s, int err);
    void *user;
} nl_connect_to;

/* 0; or -NL_EHOST, -ENAMETOOLONG, -EINVAL: *out is NULL, and done will not be called. */
int nl_connect_start(nl_connect **out, nl_ctx *owner, const nl_connect_to *to);
void nl_connect_due(nl_connect *c);
/* Closes what is under way; done will not be called. */
void nl_connect_cancel(nl_connect *c);

#endif

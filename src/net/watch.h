/*
 * watch.h - waiting until a descriptor that is no socket of ours is readable: standard input, a
 * pipe, a terminal.
 *
 * Purpose:   an operation that finds nothing to read waits in the reactor, not on its thread.
 * Threads:   the owner's turns; ready is called on one, like a socket's.
 * Ownership: a watch has a descriptor of its own, a duplicate, and the owner ends it by
 *            nl_tcp_close. So several contexts watch one pipe, and the script may close its
 *            descriptor meanwhile. The flags of the descriptor stay as they are: they are shared
 *            with other processes.
 *
 * A watch is a socket (tcp.h) that is neither read nor written; nl_tcp_set_user, nl_tcp_user,
 * nl_tcp_again and nl_tcp_close serve it too.
 */
#ifndef NL_WATCH_H
#define NL_WATCH_H

#include "net/tcp.h"

/*
 * Watches copy, and takes it over, also if it fails. ops->ready is called once it may be readable.
 * 0 or -errno (EPERM: a file that is always readable).
 */
int nl_watch_new(nl_tcp **out, nl_ctx *owner, const nl_tcp_ops *ops, nl_fd copy);
/*
 * After ready was called and the owner has found nothing to read.  1: ready will be called again.
 * 0: something has come meanwhile, look again.  -errno.
 */
int nl_watch_again(nl_tcp *s);

#endif

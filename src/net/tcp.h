/*
 * tcp.h - stream sockets (TCP, Unix).
 *
 * Purpose:   listeners, connections, framing, output. All functions return 0 (or what they say) or
 *            a negated error number.
 * Threads:   a socket belongs to one context, its owner, on whose turns everything here is called,
 *            except nl_tcp_write_shared and nl_tcp_refuse.
 * Ownership: from nl_tcp_close on the pointer is dead for the owner. Others know a socket by its id
 *            only; what they look up stays readable until the end of their dispatch (qsbr.h).
 *
 * Events come from the reactor of the owner's home worker: a READ or connect event posts the
 * socket's embedded message to the owner, whose turn then calls ops->ready; a WRITE event resumes
 * the output on the worker that got the event, without waking the owner.
 *
 * A function that returns NL_AGAIN or -EINPROGRESS promises one call of `ready`. That call may be
 * spurious. A caller that stops before NL_AGAIN is not called: it goes on when it likes.
 *
 * Reading: input is received into the worker's scratch memory and handed out from there;
 * what is left when the scratch is wanted for another socket or the dispatch ends is kept
 * with the socket.  Nothing is received while nobody asks for it.
 */
#ifndef NL_TCP_H
#define NL_TCP_H

#include "net/buffer.h"
#include "net/frame.h"
#include "net/out.h"
#include "reactor/sock.h"
#include "sched/sched.h"

typedef struct nl_tcp nl_tcp;

typedef struct nl_tcp_ops {
    nl_msg_ops msg; /* of the message that brings the event to the owner; tcp.c */
    /*
     * On the owner's turn: something may be readable / acceptable, or the connect has an outcome.
     * May be spurious.
     */
    void (*ready)(nl_ctx *owner, nl_tcp *s);
} nl_tcp_ops;
/* static const nl_tcp_ops my_ops = NL_TCP_OPS(my_ready); */
#define NL_TCP_OPS(ready)                                                                                    \
    {                                                                                                        \
        {nl_tcp_ready_run, nl_tcp_ready_drop}, ready                                                         \
    }
void nl_tcp_ready_run(nl_ctx *owner, nl_msg *m);
void nl_tcp_ready_drop(nl_msg *m);

/*
 * Once per process, after nl_sched_init: installs the io and flush hooks.  nl_tcp_fini after
 * nl_sched_run, before nl_sched_fini.
 */
int nl_tcp_init(void);
void nl_tcp_fini(void);

/* Runs in the current context's turn, as its owner. */
int nl_tcp_listen(nl_tcp **out, nl_ctx *owner, const nl_tcp_ops *ops, const nl_addr *a,
                  const struct nl_listen_opts *o);
/*
 * One waiting connection, or NL_AGAIN (then ready will be called). -EMFILE and the like leave the
 * listener usable: the runtime tries again after 100 ms (ready is called).
 */
int nl_tcp_accept(nl_tcp **out, nl_tcp *listener, const nl_tcp_ops *ops);
/*
 * 0 connected, -EINPROGRESS (ready will be called; ask nl_tcp_connect_result), or -errno (*out
 * NULL).
 */
int nl_tcp_connect(nl_tcp **out, nl_ctx *owner, const nl_tcp_ops *ops, const nl_addr *a);
int nl_tcp_connect_result(nl_tcp *s);
/*
 * Has ready called in a later turn, behind what waits in the owner's mailbox, whether or not
 * anything has happened.
 */
void nl_tcp_again(nl_tcp *s);

/* What ready leads to from now on. */
void nl_tcp_set_ops(nl_tcp *s, const nl_tcp_ops *ops);
void nl_tcp_set_user(nl_tcp *s, void *user);
void *nl_tcp_user(const nl_tcp *s);
/* The number that names it process wide (its tag). */
uint64_t nl_tcp_id(const nl_tcp *s);
bool nl_tcp_is_listener(const nl_tcp *s);

/*
 * Next piece of input: one frame's payload, or without framing all that has arrived (≥ 1 byte). 1:
 * *data, *len are valid until a socket is asked for input on this worker next, and at most to the
 * end of the turn, also if the socket is closed; the caller copies. NL_AGAIN: nothing yet, ready
 * will be called. -NL_EEOF, -NL_ETCPREADOVERFLOW, -ECONNRESET…: sticky.
 */
int nl_tcp_read(nl_tcp *s, const unsigned char **data, uint32_t *len);
/*
 * Like nl_tcp_read, but a payload longer than NL_TCP_BLOCK_MIN comes as a block the caller
 * owns (*out, one reference, no copy where it was received in place); then *data is NULL.
 */
#define NL_TCP_BLOCK_MIN 1024
int nl_tcp_read_buf(nl_tcp *s, const unsigned char **data, uint32_t *len, nl_buf *out);

/*
 * Options, for the caller to read and to write; lib_tcp.c checks the values.  Those of reading hold
 * for all bytes not yet handed out.
 */
nl_frame_opt *nl_tcp_read_opt(nl_tcp *s);
/* Under no lock: constant once the socket is write-shared. */
nl_frame_opt *nl_tcp_write_opt(nl_tcp *s);
uint64_t nl_tcp_write_queue_max(nl_tcp *s);
void nl_tcp_set_write_queue_max(nl_tcp *s, uint64_t bytes);
#define NL_TCP_WRITE_QUEUE_MAX (64u << 20)

/*
 * Queues a head (if the write options say so) and n bytes; buf NULL: copies p, else shares
 * *buf (p, n ignored).  It leaves with everything else of this dispatch.  req may be NULL;
 * else it is told when the kernel has taken all of it (or the socket has failed).
 * -NL_ETCPWRITELONG, -NL_EWQUEUEFULL (queue full before it), -NL_ETCPSCLOSED, -EPIPE /
 * -ECONNRESET (sticky), -ENOMEM; on an error req is not used.
 */
int nl_tcp_write(nl_tcp *s, const void *p, size_t n, const nl_buf *buf, nl_wreq *req);
/*
 * The same by id from any context.  -NL_ETCPSCLOSED for an id of no open connection,
 * -NL_ETCPNOWSHARED if caller is not the owner and the socket is not write-shared.
 */
int nl_tcp_write_shared(uint64_t id, uint64_t caller, const void *p, size_t n, const nl_buf *buf,
                        nl_wreq *req);
/*
 * A write of req->ctx to that socket was refused with err (negated): req is told of it behind those
 * written before, and is taken over. False: req is still the caller's, who tells of it. By then the
 * socket has posted all that it had to tell this context.
 */
bool nl_tcp_refuse(uint64_t id, nl_wreq *req, int err);
void nl_tcp_set_wshared(nl_tcp *s, bool on);
bool nl_tcp_wshared(nl_tcp *s);
/*
 * Cuts all open sockets of an owner that was given up (nl_ctx_ops.given_up): it may still use them,
 * but they are of no use. Peers see the end, ports are free.
 */
void nl_tcp_cut_all(uint64_t owner);
/* Owner's handle of a live socket, or 0. */
uint64_t nl_tcp_owner(uint64_t id);
/*
 * The live connection that an id names, if it has these ops and this owner, who calls; else NULL.
 */
nl_tcp *nl_tcp_own(uint64_t id, uint64_t owner, const nl_tcp_ops *ops);

int nl_tcp_nodelay(nl_tcp *s, bool on);
int nl_tcp_local(nl_tcp *s, nl_addr *out);
/* Also when the connection has ended; of a connect under way: where it goes. */
int nl_tcp_remote(nl_tcp *s, nl_addr *out);

/*
 * Ends the owner's use of s (the pointer is dead for the caller). What was written is sent in the
 * background, as long as the kernel takes some of it every NL_TCP_LINGER_NS; after
 * nl_shutdown_request for at most NL_TCP_LINGER_EXIT_NS. When that is over, or where descriptors
 * run out, the rest is dropped, its requests end with ETCPSCLOSED, and the stream ends in a reset.
 * See linger.c.
 */
void nl_tcp_close(nl_tcp *s);
#define NL_TCP_LINGER_NS ((int64_t)5000000000)
#define NL_TCP_LINGER_EXIT_NS ((int64_t)1000000000)

#endif

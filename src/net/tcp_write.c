/*
 * tcp_write.c - output: from a writer's turn into the chain, from the chain into the kernel.
 *
 * A write only appends, and puts the socket on the list of the worker it runs on (dirty).  The flush
 * hook, after the message or the dispatch, sends what has come together.  At any time at most one
 * thread sends: the one that has set `flushing`.
 *
 * When the kernel takes no more, the rest waits for the reactor's WRITE edge, which resumes on
 * whichever worker harvests it; the owner sleeps on.  No edge is lost between the kernel's "no
 * more" and the setting of `blocked`: the io hook that finds `flushing` sets `again` instead, and the
 * flusher, which clears it before it calls the kernel, looks at it in the very step (under the lock)
 * in which it would stop.  Arming happens inside flushing too, so that the descriptor is
 * still this socket's.
 */
#include "net/tcp_impl.h"

#include <string.h>

/* Sent in one go before other sockets have their turn. */
#define SEND_SHARE (1u << 20)
/* More than this is not kept back for the end of the message: it would only get out of the cache. */
#define CORK_MAX ((size_t)256 * 1024)

/* --- Sending ------------------------------------------------------------------------------- */

void nl_wreq_finish(nl_wreq *list, int err)
{
    while (list) {
        nl_wreq *r = list;
        list = r->next;
        r->err = err;
        nl_ctx *c = nl_ctx_find(r->ctx);
        if (c) {
            nl_ctx_post(c, &r->msg);
        } else {
            r->msg.ops->drop(&r->msg);
        }
    }
}

/* One system call: bytes taken, NL_AGAIN, or -errno. */
static intptr_t send_some(nl_tcp *s, nl_iov *iov, int n, size_t *asked)
{
    if (nl_unlikely(nl_chaos(4))) {
        size_t few = 1u + nl_chaos(2) + 2 * nl_chaos(2) + 3 * nl_chaos(2);
        n = 1;
        iov[0].len = few < iov[0].len ? few : iov[0].len;
    }
    *asked = 0;
    for (int i = 0; i < n; i++) {
        *asked += iov[i].len;
    }
    return n == 1 ? nl_sock_write(s->fd, iov[0].base, iov[0].len) : nl_sock_writev(s->fd, iov, n);
}

/* Ends writing; lock held, given up in between. */
static int broken(nl_tcp *s, int err, nl_chunk **done)
{
    nl_chain *c = &s->chain;
    c->err = (uint16_t)-err;
    nl_wreq *told = nl_chain_clear(c, done);
    nl_spin_unlock(&c->lock);
    nl_wreq_finish(told, -err);
    nl_tcp_signal(s, NL_TCP_READ | NL_TCP_HUP); /* whoever reads finds out in its own way */
    nl_spin_lock(&c->lock);
    return NL_FLUSH_FAILED;
}

int nl_tcp_send(nl_tcp *s, nl_chunk **done)
{
    nl_chain *c = &s->chain;
    for (size_t sent = 0;;) {
        nl_iov iov[NL_IOV_MAX];
        int n = nl_chain_iov(c, iov, NL_IOV_MAX);
        if (n == 0) {
            return NL_FLUSH_EMPTY;
        }
        if (sent >= SEND_SHARE) {
            return NL_FLUSH_SHARE;
        }
        nl_spin_unlock(&c->lock);
        size_t asked;
        intptr_t r = send_some(s, iov, n, &asked);
        nl_spin_lock(&c->lock);
        if (r < 0) {
            return r == NL_AGAIN ? NL_FLUSH_FULL : broken(s, (int)r, done);
        }
        sent += (size_t)r;
        nl_wreq *told = nl_chain_advance(c, (size_t)r, done);
        if (told) {
            nl_spin_unlock(&c->lock);
            nl_wreq_finish(told, 0);
            nl_spin_lock(&c->lock);
        }
        /*
         * A short count means "full" as NL_AGAIN does: the kernel has noted that somebody waits for room (a second
         * call would only hear so once more), and reports when there is some.
         */
        if ((size_t)r < asked) {
            return NL_FLUSH_FULL;
        }
    }
}

/* The reactor has the rest of s.  Lock held, given up in between; false: no, something has happened meanwhile. */
static bool leave_to_reactor(nl_tcp *s, nl_chunk **done)
{
    nl_chain *c = &s->chain;
    if (c->again) {
        return false;
    }
    nl_spin_unlock(&c->lock);
    int err = nl_reactor_arm_write(nl_tcp_reactor(s), s->fd, s->slot.id);
    nl_spin_lock(&c->lock);
    if (err) {
        broken(s, err, done);
        return true;
    }
    c->blocked = !c->again;
    return c->blocked;
}

void nl_tcp_flush(nl_tcp *s)
{
    nl_chain *c = &s->chain;
    if (c->flushing || c->blocked) {
        nl_spin_unlock(&c->lock); /* the flusher goes on until the chain is empty */
        return;
    }
    nl_chunk *done = NULL;
    c->flushing = true;
    int result;
    do {
        c->again = false;
        result = nl_tcp_send(s, &done);
    } while (result == NL_FLUSH_FULL && !c->shut && !leave_to_reactor(s, &done));
    if (result == NL_FLUSH_SHARE) {
        nl_tcp_dirty(s);
    }
    c->flushing = false;
    if (c->shut) {
        nl_linger_pump(s);
    } else {
        nl_spin_unlock(&c->lock);
    }
    nl_chunks_free(done);
}

/* --- The worker's list --------------------------------------------------------------------- */

void nl_tcp_dirty(nl_tcp *s)
{
    if (s->chain.dirty) {
        return;
    }
    nl_tcp_worker *w = nl_tcp_self();
    s->chain.dirty = true;
    s->dirty_next = NULL;
    if (w->dirty_last) {
        w->dirty_last->dirty_next = s;
    } else {
        w->dirty_first = s;
    }
    w->dirty_last = s;
    w->dirty_count++;
    nl_sched_want_flush();
}

void nl_tcp_flush_dirty(nl_tcp_worker *w)
{
    nl_tcp *s = w->dirty_first;
    w->dirty_first = w->dirty_last = NULL; /* what is added meanwhile waits for the next round */
    w->dirty_count = w->dirty_before = 0;
    w->fan_out = false;
    while (s) {
        nl_tcp *next = s->dirty_next;
        nl_chain *c = &s->chain;
        nl_spin_lock(&c->lock);
        c->dirty = false;
        if (s->chain.done) {
            nl_spin_unlock(&c->lock);
            nl_tcp_unref(s); /* finish() has counted it */
        } else if (c->shut) {
            nl_linger_pump(s);
        } else {
            nl_tcp_flush(s);
        }
        s = next;
    }
}

/* --- Writing ------------------------------------------------------------------------------- */

/* Lock held.  0, or why nothing is appended. */
static inline int refused(const nl_tcp *s, uint64_t caller)
{
    const nl_chain *c = &s->chain;
    if (nl_unlikely(c->shut)) {
        return -NL_ETCPSCLOSED;
    }
    if (nl_unlikely(caller != s->owner && !c->wshared)) {
        return -NL_ETCPNOWSHARED;
    }
    return -c->err;
}

/* Lock held.  The queue is full, but of what the kernel did not take, if it was ever offered? */
static nl_noinline int full(nl_tcp *s, uint64_t caller)
{
    nl_chain *c = &s->chain;
    int err = 0;
    if (!c->blocked && !c->flushing) {
        nl_tcp_flush(s);
        nl_spin_lock(&c->lock);
        err = refused(s, caller);
    }
    return err ? err : nl_chain_queued(c) >= s->write_queue_max ? -NL_EWQUEUEFULL : 0;
}

/* Lock held.  The same as refused, or the queue is full. */
static inline int refused_or_full(nl_tcp *s, uint64_t caller)
{
    int err = refused(s, caller);
    return nl_likely(nl_chain_queued(&s->chain) < s->write_queue_max) || err ? err : full(s, caller);
}

typedef struct head_of_frame {
    unsigned n;
    unsigned char bytes[4];
} head_of_frame;

/* The payload as a view, made before the lock is taken: it may take long, and it may fail. */
static int view_of(nl_buf *out, const void *p, size_t n, const nl_buf *buf)
{
    if (buf) {
        *out = nl_buf_share(buf);
        return 0;
    }
    nl_block *b = nl_block_new(n);
    if (!b) {
        return -ENOMEM;
    }
    memcpy(b->data, p, n);
    *out = (nl_buf){b, 0, (uint32_t)n};
    return 0;
}

/* Something was appended.  Lock held, returned without. */
static nl_noinline void appended(nl_tcp *s, nl_wreq *req)
{
    nl_chain *c = &s->chain;
    bool told_later = req && nl_chain_request(c, req);
    uint64_t queued = nl_chain_queued(c);
    if (c->flushing || c->blocked || queued == 0) {
        nl_spin_unlock(&c->lock); /* it leaves with what is under way */
    } else if (queued < CORK_MAX) {
        nl_tcp_dirty(s);
        nl_spin_unlock(&c->lock);
    } else {
        nl_tcp_flush(s);
    }
    if (req && !told_later) { /* an empty write, and nothing before it is waiting */
        req->next = NULL;
        nl_wreq_finish(req, 0);
    }
}

static nl_noinline int queue_view(nl_tcp *s, uint64_t caller, const head_of_frame *head, const void *p,
                                  size_t n, const nl_buf *buf, nl_wreq *req)
{
    nl_buf view;
    int err = view_of(&view, p, n, buf);
    if (err) {
        return err;
    }
    nl_spin_lock(&s->chain.lock);
    err = refused_or_full(s, caller);
    if (err) {
        nl_spin_unlock(&s->chain.lock);
        nl_buf_release(&view);
        return err;
    }
    nl_chain_add_buf(&s->chain, head->bytes, head->n, view);
    appended(s, req);
    return 0;
}

static inline int queue(nl_tcp *s, uint64_t caller, const void *p, size_t n, const nl_buf *buf, nl_wreq *req)
{
    const nl_frame_opt *opt = &s->wopt;
    if (buf) {
        p = nl_buf_data(buf);
        n = buf->len;
    }
    head_of_frame head = {.n = 0};
    if (opt->head_bytes) {
        if (nl_unlikely(n > nl_frame_max(opt))) {
            return -NL_ETCPWRITELONG;
        }
        head.n = nl_frame_put(head.bytes, opt, (uint32_t)n);
    }
    if (nl_unlikely(n > NL_CHAIN_INLINE)) {
        return queue_view(s, caller, &head, p, n, buf, req);
    }
    nl_chain *c = &s->chain;
    nl_spin_lock(&c->lock);
    int err = refused_or_full(s, caller);
    if (nl_unlikely(err)) {
        nl_spin_unlock(&c->lock);
        return err;
    }
    nl_chain_add_copy(c, head.bytes, head.n, p, n);
    if (nl_likely(!req && c->dirty && nl_chain_queued(c) < CORK_MAX)) {
        nl_spin_unlock(&c->lock); /* it leaves with what is waiting */
        return 0;
    }
    appended(s, req);
    return 0;
}

int nl_tcp_write(nl_tcp *s, const void *p, size_t n, const nl_buf *buf, nl_wreq *req)
{
    return queue(s, s->owner, p, n, buf, req);
}

int nl_tcp_write_shared(uint64_t id, uint64_t caller, const void *p, size_t n, const nl_buf *buf,
                        nl_wreq *req)
{
    nl_tcp *s = nl_tcp_find(id);
    if (!s || s->kind != NL_TCP_KIND_CONN) {
        return -NL_ETCPSCLOSED;
    }
    if (caller == s->owner) {
        return nl_tcp_write(s, p, n, buf, req);
    }
    nl_spin_lock(&s->chain.lock); /* orders the reading of the options after wshared was set */
    int err = refused(s, caller);
    nl_spin_unlock(&s->chain.lock);
    return err ? err : queue(s, caller, p, n, buf, req);
}

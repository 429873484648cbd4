/*
 * tcp_write.c - output: from a writer's turn into the chain, from the chain into the kernel.
 *
 * A write only appends, and puts the socket on the list of the worker it runs on (dirty). The flush
 * hook, after the message or the dispatch, sends what has come together. At any time at most one
 * thread sends: the one that has set `flushing`.
 *
 * When the kernel takes no more, the rest waits for the reactor's WRITE edge, which resumes on the
 * worker that gets the event; the owner sleeps on. No edge is lost between the kernel's "no more"
 * and the setting of `blocked`: the io hook that finds `flushing` sets `again` instead, and the
 * flusher, which clears it before it calls the kernel, looks at it in the very step (under the
 * lock) in which it would stop. Arming happens inside flushing too, so that the descriptor is still
 * this socket's.
 */
#include "net/tcp_impl.h"

#include <string.h>

/* Sent in one go before other sockets have their turn. */
#define SEND_SHARE (1u << 20)
/*
 * More than this is not kept back for the end of the message: it would only get out of the cache.
 */
#define CORK_MAX ((size_t)256 * 1024)

/* --- Sending ---------------------------------------------------------------------------------- */

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

/* Ends writing. Lock held, given up in between. */
static int broken_locked(nl_tcp *s, int err, nl_segment **done)
{
    nl_out *o = &s->out;
    o->err = (uint16_t)-err;
    nl_out_drop_locked(o, -err, done);
    nl_out_post_locked(o);
    nl_spin_unlock(&o->lock);
    nl_tcp_signal(s, NL_TCP_READ | NL_TCP_HUP); /* a reader finds out in its own way */
    nl_spin_lock(&o->lock);
    return NL_FLUSH_FAILED;
}

int nl_tcp_send_locked(nl_tcp *s, nl_segment **done)
{
    nl_out *o = &s->out;
    for (size_t sent = 0;;) {
        nl_iov iov[NL_IOV_MAX];
        int n = nl_chain_iov(&o->chain, iov, NL_IOV_MAX);
        if (n == 0) {
            return NL_FLUSH_EMPTY;
        }
        if (sent >= SEND_SHARE) {
            return NL_FLUSH_SHARE;
        }
        nl_spin_unlock(&o->lock);
        size_t asked;
        intptr_t r = send_some(s, iov, n, &asked);
        nl_spin_lock(&o->lock);
        if (r < 0) {
            return r == NL_AGAIN ? NL_FLUSH_FULL : broken_locked(s, (int)r, done);
        }
        sent += (size_t)r;
        nl_out_advance_locked(o, (size_t)r, done);
        nl_out_post_locked(o);
        /*
         * A short count means "full" as NL_AGAIN does: the kernel has noted that a thread waits for
         * room (a second call would only hear so once more), and reports when there is some.
         */
        if ((size_t)r < asked) {
            return NL_FLUSH_FULL;
        }
    }
}

/*
 * The reactor has the rest of s. Lock held, given up in between; false: no, something has happened
 * meanwhile.
 */
static bool leave_to_reactor_locked(nl_tcp *s, nl_segment **done)
{
    nl_out *o = &s->out;
    if (o->again) {
        return false;
    }
    nl_spin_unlock(&o->lock);
    int err = nl_reactor_arm_write(nl_tcp_reactor(s), s->fd, s->slot.id);
    nl_spin_lock(&o->lock);
    if (err) {
        broken_locked(s, err, done);
        return true;
    }
    o->blocked = !o->again;
    return o->blocked;
}

void nl_tcp_flush_unlocks(nl_tcp *s)
{
    nl_out *o = &s->out;
    if (o->flushing || o->blocked) {
        nl_spin_unlock(&o->lock); /* the flusher goes on until the chain is empty */
        return;
    }
    nl_segment *done = NULL;
    o->flushing = true;
    int result;
    do {
        o->again = false;
        result = nl_tcp_send_locked(s, &done);
    } while (result == NL_FLUSH_FULL && !o->shut && !leave_to_reactor_locked(s, &done));
    if (result == NL_FLUSH_SHARE) {
        nl_tcp_dirty_locked(s);
    }
    o->flushing = false;
    if (o->shut) {
        nl_linger_pump_unlocks(s);
    } else {
        nl_spin_unlock(&o->lock);
    }
    nl_segments_free(done);
}

/* --- The worker's list ------------------------------------------------------------------------ */

void nl_tcp_dirty_locked(nl_tcp *s)
{
    if (s->out.dirty) {
        return;
    }
    nl_tcp_worker *w = nl_tcp_self();
    s->out.dirty = true;
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
        nl_out *o = &s->out;
        nl_spin_lock(&o->lock);
        o->dirty = false;
        if (o->fd_closed) {
            nl_spin_unlock(&o->lock);
            nl_tcp_unref(s); /* finish() has counted it */
        } else if (o->shut) {
            nl_linger_pump_unlocks(s);
        } else {
            nl_tcp_flush_unlocks(s);
        }
        s = next;
    }
}

/* --- Writing ---------------------------------------------------------------------------------- */

/* 0, or why nothing is appended. */
static inline int refused_locked(const nl_tcp *s, uint64_t caller)
{
    const nl_out *o = &s->out;
    if (nl_unlikely(o->shut)) {
        return -NL_ETCPSCLOSED;
    }
    if (nl_unlikely(caller != s->owner && !o->wshared)) {
        return -NL_ETCPNOWSHARED;
    }
    return -o->err;
}

/*
 * The queue is full, but of what the kernel did not take, if it was ever offered? Lock held, given
 * up in between.
 */
static nl_noinline int full_locked(nl_tcp *s, uint64_t caller)
{
    nl_out *o = &s->out;
    int err = 0;
    if (!o->blocked && !o->flushing) {
        nl_tcp_flush_unlocks(s);
        nl_spin_lock(&o->lock);
        err = refused_locked(s, caller);
    }
    return err ? err : nl_chain_queued(&o->chain) >= s->write_queue_max ? -NL_EWQUEUEFULL : 0;
}

static inline int refused_or_full_locked(nl_tcp *s, uint64_t caller)
{
    int err = refused_locked(s, caller);
    return nl_likely(nl_chain_queued(&s->out.chain) < s->write_queue_max) || err ? err
                                                                                 : full_locked(s, caller);
}

typedef struct head_of_frame {
    unsigned n;
    unsigned char bytes[4];
} head_of_frame;

/* The payload as a view. */
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

/* Something was appended. Lock held, returned without. */
static nl_noinline void appended_unlocks(nl_tcp *s, nl_wreq *req)
{
    nl_out *o = &s->out;
    if (req) {
        nl_out_request_locked(o, req, 0);
    }
    uint64_t queued = nl_chain_queued(&o->chain);
    if (o->flushing || o->blocked || queued == 0) {
        nl_out_post_locked(o);    /* of an empty write, if nothing before it is waiting */
        nl_spin_unlock(&o->lock); /* it leaves with what is under way */
    } else if (queued < CORK_MAX) {
        nl_tcp_dirty_locked(s);
        nl_spin_unlock(&o->lock);
    } else {
        nl_tcp_flush_unlocks(s);
    }
}

/* The memory is made before the lock is taken: that may take long, and it may fail. */
static nl_noinline int queue_view(nl_tcp *s, uint64_t caller, const head_of_frame *head, const void *p,
                                  size_t n, const nl_buf *buf, nl_wreq *req)
{
    nl_buf view;
    int err = view_of(&view, p, n, buf);
    if (err) {
        return err;
    }
    nl_segment *fresh = nl_segment_new(NL_SEGMENT_VIEW);
    nl_spin_lock(&s->out.lock);
    err = refused_or_full_locked(s, caller);
    if (err) {
        nl_spin_unlock(&s->out.lock);
        nl_buf_release(&view);
    } else {
        fresh = nl_chain_put_view(&s->out.chain, head->bytes, head->n, view, fresh);
        appended_unlocks(s, req);
    }
    nl_segments_free(fresh);
    return err;
}

/*
 * The chain has no room. A segment of this thread's own stock costs no lock and no system call;
 * where there is none, the lock is given up meanwhile. Lock held, returned without.
 */
static nl_noinline int queue_in_fresh_unlocks(nl_tcp *s, uint64_t caller, const head_of_frame *head,
                                              const void *p, size_t n, nl_wreq *req)
{
    nl_out *o = &s->out;
    size_t room = nl_chain_room(&o->chain, head->n + n, o->burst);
    nl_segment *fresh = nl_segment_try(room);
    int err = 0;
    if (nl_unlikely(!fresh)) {
        nl_spin_unlock(&o->lock);
        fresh = nl_segment_new(room);
        nl_spin_lock(&o->lock);
        err = refused_or_full_locked(s, caller);
    }
    if (err) {
        nl_spin_unlock(&o->lock);
    } else {
        fresh = nl_chain_put_fresh(&o->chain, head->bytes, head->n, p, n, fresh);
        appended_unlocks(s, req);
    }
    nl_segments_free(fresh);
    return err;
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
    nl_out *o = &s->out;
    nl_spin_lock(&o->lock);
    int err = refused_or_full_locked(s, caller);
    if (nl_unlikely(err)) {
        nl_spin_unlock(&o->lock);
        return err;
    }
    if (!nl_chain_put(&o->chain, head.bytes, head.n, p, n)) {
        return queue_in_fresh_unlocks(s, caller, &head, p, n, req);
    }
    if (nl_likely(!req && o->dirty && nl_chain_queued(&o->chain) < CORK_MAX)) {
        nl_spin_unlock(&o->lock); /* it leaves with what is waiting */
        return 0;
    }
    appended_unlocks(s, req);
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
    nl_spin_lock(&s->out.lock); /* orders the reading of the options after wshared was set */
    int err = refused_locked(s, caller);
    nl_spin_unlock(&s->out.lock);
    return err ? err : queue(s, caller, p, n, buf, req);
}

bool nl_tcp_refuse(uint64_t id, nl_wreq *req, int err)
{
    nl_tcp *s = nl_tcp_find(id);
    if (!s || s->kind != NL_TCP_KIND_CONN) {
        return false;
    }
    nl_spin_lock(&s->out.lock);
    bool by_socket = req->ctx != s->owner || !s->out.shut;
    if (by_socket) {
        nl_out_request_locked(&s->out, req, -err);
        nl_out_post_locked(&s->out);
    }
    nl_spin_unlock(&s->out.lock);
    return by_socket;
}

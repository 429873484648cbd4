/*
 * linger.c - sockets that their owner has closed.
 *
 * nl_tcp_close does not wait. A closed socket goes on by itself, pushed by events:
 *
 *     draining ── all taken, shut down for writing ──→ awaiting the peer's end
 *        │ an error; no progress for 5 s: reset             │ the end; 5 s
 *        └──────────────────────────────────────────────────┴──→ finished
 *
 * Draining: each byte that the kernel takes starts the time anew. When it is over, the rest is
 * dropped, and the stream ends in a reset: an end in order would tell the peer that it has got all
 * of it.
 *
 * Awaiting the peer's end (and throwing away what it says): to close a descriptor with unread
 * input, or one for which input comes later, makes the kernel reset the connection, and the reset
 * destroys output that is still in the send queue, and on some systems what the peer has received
 * and not read. A server that answers "too large" in the middle of a request would never be
 * understood. Without output, or when the peer has ended already, a socket is closed at once.
 *
 * What the process waits for before it ends: draining, and a send queue that is not empty. Once the
 * peer has acknowledged all of it, its end included, a reset can destroy nothing there.
 *
 * Closed sockets give way: there are so many of each kind at most, and where descriptors run out,
 * those that only await the peer's end go first, then those that drain.
 *
 * All of it runs under `flushing`: the thread that has set it owns the descriptor (tcp_impl.h), and
 * finish() never gives it back. Events that find it taken leave `again`.
 */
#include "net/tcp_impl.h"

/*
 * nl_tcp.state; for the thread that has set flushing, except that nl_linger_begin_unlocks sets the
 * first ones.
 */
enum {
    DEAF = 1u << 0,     /* no more input can come, or it is of no concern */
    DRAINING = 1u << 1, /* is or was in `draining` */
    AWAITING = 1u << 2  /* our side of the stream is shut down; is or was in `awaiting` */
};

/* Input thrown away in one go before others have their turn. */
#define READ_SHARE ((size_t)256 * 1024)
/* Those that await the peer's end are few, those that drain are as many as descriptors allow. */
#define AWAITING_MAX 1024
#define DRAINING_SHARE 4

static nl_deadlines draining, awaiting;

/* Closes the descriptor and gives up the closing's share. The caller has flushing, not the lock. */
static void finish(nl_tcp *s)
{
    nl_out *o = &s->out;
    nl_segment *left = NULL;
    if (s->kind == NL_TCP_KIND_LISTENER) {
        nl_listener_forget(s);
    } else if (s->state & (DRAINING | AWAITING)) {
        nl_deadlines_remove(s->state & AWAITING ? &awaiting : &draining, s);
    }
    nl_spin_lock(&o->lock);
    o->shut = true; /* the time may be over before the owner has got to it */
    nl_out_drop_locked(o, NL_ETCPSCLOSED, &left);
    bool reset = o->lost;
    nl_out_post_locked(o);
    while (o->posting) {
        /*
         * Another thread is posting a few messages. A write that finds no socket any more is told
         * at once: so the id leaves the table after the last of those written before.
         */
        nl_spin_unlock(&o->lock);
        nl_thread_yield();
        nl_spin_lock(&o->lock);
    }
    o->fd_closed = true;
    if (o->dirty) {
        /* Given up in nl_tcp_flush_dirty. */
        atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    }
    nl_spin_unlock(&o->lock);
    nl_slots_remove(nl_tcp_table, &s->slot);
    nl_reactor_detach(nl_tcp_reactor(s), s->fd, s->slot.id);
    if (reset) {
        nl_sock_reset(s->fd);
    }
    nl_sock_close(s->fd);
    nl_segments_free(left);
    nl_tcp_unref(s);
}

/* Throws input away. True: there is more, but others are to have their turn. */
static bool discard(nl_tcp *s)
{
    /* Not the scratch: it may hold the input of a socket that is being read. */
    unsigned char trash[8192];
    for (size_t sum = 0; !(s->state & DEAF);) {
        if (!s->maybe_readable &&
            !(atomic_fetch_and_explicit(&s->flags, ~(unsigned)NL_TCP_READ, memory_order_acq_rel) &
              NL_TCP_READ)) {
            break;
        }
        s->maybe_readable = true;
        if (sum >= READ_SHARE) {
            return true;
        }
        intptr_t n = nl_sock_read(s->fd, trash, sizeof(trash));
        if (n > 0) {
            sum += (size_t)n;
        } else if (n == NL_AGAIN) {
            s->maybe_readable = false;
            if (nl_reactor_arm_read(nl_tcp_reactor(s), s->fd, s->slot.id)) {
                s->state |= DEAF;
            }
        } else {
            s->state |= DEAF;
        }
    }
    return false;
}

static void drain_begin(nl_tcp *s)
{
    s->state |= DRAINING;
    nl_deadlines_add(&draining, s);
}

/* blocked: the next round waits for room. */
static bool keep_draining(nl_tcp *s, bool progress, bool blocked)
{
    if (!(s->state & DRAINING)) {
        drain_begin(s);
    } else if (progress) {
        nl_deadlines_renew(&draining, s);
    }
    return !blocked || nl_reactor_arm_write(nl_tcp_reactor(s), s->fd, s->slot.id) == 0;
}

/* What remains to be done once output and input have gone as far as they go; false: nothing. */
static bool proceed(nl_tcp *s, int sent, bool progress)
{
    if (sent == NL_FLUSH_FAILED) {
        return false;
    }
    if (sent != NL_FLUSH_EMPTY) {
        return keep_draining(s, progress, sent == NL_FLUSH_FULL);
    }
    if (s->state & DEAF) {
        return false;
    }
    if (!(s->state & AWAITING)) {
        int err = nl_sock_shutdown_write(s->fd);
        if (err == NL_AGAIN) { /* a named pipe is still taking it */
            return keep_draining(s, progress, true);
        }
        if (err) {
            return false;
        }
        if (s->state & DRAINING) {
            nl_deadlines_remove(&draining, s);
        }
        s->state |= AWAITING;
        nl_deadlines_add(&awaiting, s);
    }
    return true;
}

/*
 * One round. Called with the lock and flushing, returns with both; false: nothing is left to be
 * done for s.
 */
static bool pump_once_locked(nl_tcp *s, nl_segment **done)
{
    nl_out *o = &s->out;
    uint64_t taken = o->chain.taken;
    int sent = o->cut ? NL_FLUSH_FAILED : nl_tcp_send_locked(s, done);
    bool progress = o->chain.taken != taken;
    nl_spin_unlock(&o->lock);
    bool unread = sent != NL_FLUSH_FAILED && discard(s);
    bool going = proceed(s, sent, progress);
    nl_spin_lock(&o->lock);
    if (going && (unread || sent == NL_FLUSH_SHARE)) {
        nl_tcp_dirty_locked(s);
    }
    return going;
}

void nl_linger_pump_unlocks(nl_tcp *s)
{
    nl_out *o = &s->out;
    if (o->flushing) {
        o->again = true; /* also if it is done, where nobody looks at it */
        nl_spin_unlock(&o->lock);
        return;
    }
    nl_segment *done = NULL;
    bool going;
    o->flushing = true;
    do {
        o->again = false;
        going = pump_once_locked(s, &done);
    } while (going && (o->again || o->cut));
    if (going) {
        o->flushing = false;
    }
    nl_spin_unlock(&o->lock);
    if (!going) {
        finish(s);
    }
    nl_segments_free(done);
}

void nl_linger_begin_unlocks(nl_tcp *s)
{
    nl_out *o = &s->out;
    if (s->kind == NL_TCP_KIND_CONN) {
        nl_list_init(&s->u.due.node);
    }
    /* Nothing was sent that a reset could destroy, or no input can come. */
    if (o->chain.added == 0 || o->err || (s->rerr && s->rerr != NL_ETCPREADOVERFLOW)) {
        s->state |= DEAF;
    }
    if (o->flushing) {
        /*
         * Another worker is sending, and will see to the rest. Until it does, the list holds the
         * process; state is the owner's as long as shut is not set.
         */
        nl_spin_unlock(&o->lock);
        drain_begin(s);
        nl_spin_lock(&o->lock);
    }
    o->shut = true;
    nl_linger_pump_unlocks(s);
}

static void cut(nl_tcp *s)
{
    nl_spin_lock(&s->out.lock);
    s->out.cut = true;
    nl_linger_pump_unlocks(s);
}

bool nl_linger_give_way(void)
{
    return nl_deadlines_expire_first(&awaiting) || nl_deadlines_expire_first(&draining);
}

/* --- The end of the process ------------------------------------------------------------------- */

/*
 * A reset would destroy something, or may: the system does not tell, and it is closed since a short
 * time only.
 */
static bool unacknowledged(const nl_tcp *s, int64_t now)
{
    int64_t n = nl_sock_unsent(s->fd);
    return n > 0 || (n == -EOPNOTSUPP && now - s->u.due.since < NL_TCP_LINGER_EXIT_NS);
}

int nl_linger_holding(void)
{
    /* After nl_linger_hurry the timers may be set too late. */
    nl_deadlines_serve(&draining);
    nl_deadlines_serve(&awaiting);
    nl_mutex_lock(draining.lock);
    int n = (int)draining.count;
    nl_mutex_unlock(draining.lock);
    int64_t now = nl_now_ns();
    /* finish() takes a socket out of the list before it closes the descriptor. */
    nl_mutex_lock(awaiting.lock);
    for (nl_list *i = awaiting.list.next; n == 0 && i != &awaiting.list; i = i->next) {
        n += unacknowledged(nl_container_of(i, nl_tcp, u.due.node), now);
    }
    nl_mutex_unlock(awaiting.lock);
    return n;
}

void nl_linger_hurry(void)
{
    nl_deadlines_hurry(&draining, NL_TCP_LINGER_EXIT_NS);
    nl_deadlines_hurry(&awaiting, NL_TCP_LINGER_EXIT_NS);
}

/* Whatever the descriptor's end is, it is a reset if output is left. */
static void reset_unsent(nl_slot_obj *slot, void *arg)
{
    nl_tcp *s = nl_container_of(slot, nl_tcp, slot);
    (void)arg;
    nl_spin_lock(&s->out.lock);
    if (!s->out.fd_closed && (s->out.lost || nl_chain_queued(&s->out.chain))) {
        /* The lock keeps the descriptor open; nothing need be fast any more. */
        nl_sock_reset(s->fd);
    }
    nl_spin_unlock(&s->out.lock);
}

void nl_linger_reset_unsent(void)
{
    nl_slots_each(nl_tcp_table, reset_unsent, NULL);
}

static void cut_owned(nl_slot_obj *slot, void *owner)
{
    nl_tcp *s = nl_container_of(slot, nl_tcp, slot);
    nl_spin_lock(&s->out.lock); /* keeps the descriptor open */
    if (s->owner == *(const uint64_t *)owner && !s->out.shut && !s->out.fd_closed) {
        nl_sock_cut(s->fd, nl_chain_queued(&s->out.chain));
    }
    nl_spin_unlock(&s->out.lock);
}

void nl_tcp_cut_all(uint64_t owner)
{
    nl_slots_each(nl_tcp_table, cut_owned, &owner);
}

void nl_linger_init(void)
{
    int64_t descriptors = nl_sock_limit();
    int64_t share = descriptors / DRAINING_SHARE < UINT32_MAX ? descriptors / DRAINING_SHARE : UINT32_MAX;
    unsigned most = share > 1 ? (unsigned)share : 1;
    nl_deadlines_init(&draining, NL_TCP_LINGER_NS, most, cut);
    nl_deadlines_init(&awaiting, NL_TCP_LINGER_NS, most < AWAITING_MAX ? most : AWAITING_MAX, cut);
}

void nl_linger_fini(void)
{
    while (nl_linger_give_way()) {
    }
    nl_deadlines_fini(&draining);
    nl_deadlines_fini(&awaiting);
}

/*
 * linger.c - sockets that their owner has closed while output was on its way, and other matters of time.
 *
 * nl_tcp_close does not wait.  A closed socket goes on by itself, pushed by events, until
 *
 *     sending ── all taken ──┬── nothing unread ──────────────────────────────→ finished
 *        │                   └── unread input: half-closed, reading to the end ──→ finished
 *        └── an error, the peer's reset, or the deadline ──────────────────────→ finished
 *
 * Why input is read and thrown away meanwhile: closing a descriptor with unread input, or input that comes
 * after, makes the kernel reset the connection, and the reset would destroy output that
 * the peer has not read yet.  (And a peer that blocks in its own write would never read ours.)
 *
 * All of it runs under `flushing`: whoever has set it owns the descriptor (tcp_impl.h), and finish() never
 * gives it back.  Events that find it taken leave `again`.
 *
 * Deadlines: each list holds one span of time only, so it is in order by itself, and one timer for its
 * first entry is enough.  Its lock is a mutex: all this is off the common road, on which a
 * socket's output fits into the kernel's buffer and nl_tcp_close closes at once.
 */
#include "net/tcp_impl.h"

#include "base/alloc.h"

/* nl_tcp.state; for the holder of flushing, except that nl_linger_begin sets the first ones under the lock. */
enum {
    DEAF = 1u << 0,   /* no more input can come, or it is of no concern */
    UNREAD = 1u << 1, /* there was input that nobody had read */
    HALF = 1u << 2,   /* our side of the stream is shut down */
    LISTED = 1u << 3  /* is or was in a list below */
};

/* Input thrown away in one go before others have their turn. */
#define READ_SHARE (256 * 1024)
#define PAUSE_NS ((int64_t)100000000)

/* --- Deadlines ----------------------------------------------------------------------------- */

typedef struct deadlines {
    nl_mutex *lock;
    nl_list list; /* nl_tcp.u.due, earliest first */
    unsigned count;
    bool armed; /* timer is, or is about to call sweep */
    nl_wtimer timer;
    void (*expired)(nl_tcp *s);
} deadlines;

static deadlines closing, paused;

static nl_tcp *first_of(deadlines *d)
{
    return nl_list_empty(&d->list) ? NULL : nl_container_of(d->list.next, nl_tcp, u.due.node);
}

static void add(deadlines *d, nl_tcp *s, int64_t at)
{
    nl_mutex_lock(d->lock);
    s->u.due.at = at;
    nl_list_push_back(&d->list, &s->u.due.node);
    d->count++;
    if (!d->armed) {
        d->armed = true;
        nl_wtimer_arm(&d->timer, first_of(d)->u.due.at);
    }
    nl_mutex_unlock(d->lock);
}

/* Harmless if s is not in it any more. */
static void forget(deadlines *d, nl_tcp *s)
{
    nl_mutex_lock(d->lock);
    if (!nl_list_empty(&s->u.due.node)) {
        nl_list_remove(&s->u.due.node);
        d->count--;
    }
    nl_mutex_unlock(d->lock);
}

/* Deals with what is due. */
static void sweep(deadlines *d)
{
    int64_t now = nl_now_ns();
    nl_mutex_lock(d->lock);
    for (;;) {
        nl_tcp *s = first_of(d);
        if (!s || s->u.due.at > now) {
            break;
        }
        nl_list_remove(&s->u.due.node);
        d->count--;
        /* Whoever drops the share that counts as yet comes through forget() first, so there is one to add to. */
        atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
        nl_mutex_unlock(d->lock);
        d->expired(s);
        nl_tcp_unref(s);
        nl_mutex_lock(d->lock);
    }
    if (!d->armed && first_of(d)) {
        d->armed = true;
        nl_wtimer_arm(&d->timer, first_of(d)->u.due.at);
    }
    nl_mutex_unlock(d->lock);
}

static void fired(nl_wtimer *t)
{
    deadlines *d = nl_container_of(t, deadlines, timer);
    nl_mutex_lock(d->lock);
    d->armed = false;
    nl_mutex_unlock(d->lock);
    sweep(d);
}

static void init_deadlines(deadlines *d, void (*expired)(nl_tcp *))
{
    d->lock = nl_mutex_new();
    nl_list_init(&d->list);
    d->count = 0;
    d->armed = false;
    nl_wtimer_init(&d->timer, fired);
    d->expired = expired;
}

/* --- Closing ------------------------------------------------------------------------------- */

/* Closes the descriptor and gives up the closing's share.  The caller has flushing, not the lock. */
static void finish(nl_tcp *s)
{
    nl_chain *c = &s->chain;
    nl_chunk *left = NULL;
    if (s->state & LISTED) {
        forget(s->kind == NL_TCP_KIND_LISTENER ? &paused : &closing, s);
    }
    nl_slots_remove(nl_tcp_table, &s->slot);
    nl_reactor_detach(nl_tcp_reactor(s), s->fd, s->slot.id);
    nl_sock_close(s->fd);
    nl_spin_lock(&c->lock);
    s->done = true;
    if (c->dirty) {
        atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed); /* given up in nl_tcp_flush_dirty */
    }
    nl_wreq *told = nl_chain_clear(c, &left);
    nl_spin_unlock(&c->lock);
    nl_wreq_finish(told, NL_ETCPSCLOSED);
    nl_chunks_free(left);
    nl_tcp_unref(s);
}

/* Throws input away.  True: there is more, but others are to have their turn. */
static bool discard(nl_tcp *s)
{
    unsigned char trash[8192]; /* not the scratch: it may hold the input of a socket that is being read */
    for (size_t sum = 0; !(s->state & DEAF);) {
        if (!s->more && !(atomic_fetch_and_explicit(&s->flags, ~(unsigned)NL_TCP_READ, memory_order_acq_rel) &
                          NL_TCP_READ)) {
            break;
        }
        s->more = true;
        if (sum >= READ_SHARE) {
            return true;
        }
        intptr_t n = nl_sock_read(s->fd, trash, sizeof(trash));
        if (n > 0) {
            s->state |= UNREAD;
            sum += (size_t)n;
        } else if (n == NL_AGAIN) {
            s->more = false;
            if (nl_reactor_arm_read(nl_tcp_reactor(s), s->fd, s->slot.id)) {
                s->state |= DEAF;
            }
        } else {
            s->state |= DEAF;
        }
    }
    return false;
}

/* One round.  Called with the lock and flushing, returns with both; false: nothing is left to be done for s. */
static bool pump_once(nl_tcp *s, nl_chunk **done)
{
    nl_chain *c = &s->chain;
    int sent = s->abort ? NL_FLUSH_FAILED : nl_tcp_send(s, done);
    nl_spin_unlock(&c->lock);
    bool share = sent != NL_FLUSH_FAILED && discard(s);
    bool over = sent == NL_FLUSH_FAILED;
    if (sent == NL_FLUSH_EMPTY) {
        over = s->state & DEAF || !(s->state & UNREAD);
        if (!over && !(s->state & HALF)) {
            s->state |= HALF;
            over = nl_sock_shutdown_write(s->fd) != 0;
        }
    }
    if (!over && !(s->state & LISTED)) {
        s->state |= LISTED;
        add(&closing, s, nl_now_ns() + (nl_sched_stopping() ? NL_TCP_LINGER_EXIT_NS : NL_TCP_LINGER_NS));
    }
    if (!over && sent == NL_FLUSH_FULL) {
        over = nl_reactor_arm_write(nl_tcp_reactor(s), s->fd, s->slot.id) != 0;
    }
    nl_spin_lock(&c->lock);
    if (!over && (share || sent == NL_FLUSH_SHARE)) {
        nl_tcp_dirty(s);
    }
    return !over;
}

void nl_linger_pump(nl_tcp *s)
{
    nl_chain *c = &s->chain;
    if (c->flushing) {
        c->again = true; /* also if it is done, which nobody minds */
        nl_spin_unlock(&c->lock);
        return;
    }
    nl_chunk *done = NULL;
    bool going;
    c->flushing = true;
    do {
        c->again = false;
        going = pump_once(s, &done);
    } while (going && (c->again || s->abort));
    if (going) {
        c->flushing = false;
    }
    nl_spin_unlock(&c->lock);
    if (!going) {
        finish(s);
    }
    nl_chunks_free(done);
}

void nl_linger_begin(nl_tcp *s, bool unread)
{
    nl_chain *c = &s->chain;
    c->shut = true;
    s->state |= unread || s->rerr == NL_ETCPREADOVERFLOW ? UNREAD : 0;
    /* Nothing was sent that a reset could destroy, or no input can come. */
    if (c->added == 0 || c->err || (s->rerr && s->rerr != NL_ETCPREADOVERFLOW)) {
        s->state |= DEAF;
    }
    nl_linger_pump(s);
}

static void too_late(nl_tcp *s)
{
    nl_spin_lock(&s->chain.lock);
    s->abort = true;
    nl_linger_pump(s);
}

int nl_linger_holding(void)
{
    sweep(&closing); /* after nl_linger_hurry the timer may be set too late */
    nl_mutex_lock(closing.lock);
    int n = (int)closing.count;
    nl_mutex_unlock(closing.lock);
    return n;
}

void nl_linger_hurry(void)
{
    int64_t latest = nl_now_ns() + NL_TCP_LINGER_EXIT_NS;
    nl_mutex_lock(closing.lock);
    for (nl_list *n = closing.list.next; n != &closing.list; n = n->next) {
        nl_tcp *s = nl_container_of(n, nl_tcp, u.due.node);
        s->u.due.at = s->u.due.at < latest ? s->u.due.at : latest; /* the order stays */
    }
    nl_mutex_unlock(closing.lock);
}

/* --- Listeners ----------------------------------------------------------------------------- */

void nl_linger_pause(nl_tcp *s)
{
    atomic_fetch_or_explicit(&s->flags, NL_TCP_PAUSED | NL_TCP_WANT, memory_order_acq_rel);
    s->state |= LISTED;
    add(&paused, s, nl_now_ns() + PAUSE_NS);
}

static void resume(nl_tcp *s)
{
    atomic_fetch_and_explicit(&s->flags, ~(unsigned)NL_TCP_PAUSED, memory_order_acq_rel);
    nl_tcp_signal(s, NL_TCP_READ);
}

/* --- Start and end ------------------------------------------------------------------------- */

void nl_linger_init(void)
{
    init_deadlines(&closing, too_late);
    init_deadlines(&paused, resume);
}

void nl_linger_fini(void)
{
    for (nl_tcp *s; (s = first_of(&closing));) {
        too_late(s); /* takes it out of the list */
    }
    nl_mutex_free(closing.lock);
    nl_mutex_free(paused.lock);
}

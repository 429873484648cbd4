/*
 * linger.c - sockets that their owner has closed, and other matters of time.
 *
 * nl_tcp_close does not wait.  A closed socket goes on by itself, pushed by events:
 *
 *     sending ── all taken, shut down for writing ──→ listening ── the peer has ended too ──→ finished
 *        └───────────── an error, a reset, or the deadline ─────────────┴───────────────────→ finished
 *
 * Why it goes on listening (and throws away what it hears): to close a descriptor with unread input, or
 * one for which input comes later, makes the kernel reset the connection, and the reset destroys output
 * that the peer has not read yet.  A server that answers "too large" in the middle of a request
 * would never be understood.  (And a peer that blocks in its own write would never read at all.)
 * Without output, or when the peer has ended already, a socket is closed at once.
 *
 * A socket that still has output, or has heard something since the close, is lingering in earnest: the process
 * waits for it.  For one that only listens in case something comes it waits SHORT_NS, and no more
 * than LISTENERS_MAX of those are kept.
 *
 * All of it runs under `flushing`: whoever has set it owns the descriptor (tcp_impl.h), and finish() never
 * gives it back.  Events that find it taken leave `again`.
 *
 * Deadlines: what was put into a list earlier is due no later, so it is in order by itself, and one timer for its
 * first entry is enough.  Its lock is a mutex: one close in the life of a socket goes through it.
 */
#include "net/tcp_impl.h"

#include "base/alloc.h"

/* nl_tcp.state; for the holder of flushing, except that nl_linger_begin sets the first ones under the lock. */
enum {
    DEAF = 1u << 0,    /* no more input can come, or it is of no concern */
    EARNEST = 1u << 1, /* output has had to wait, or input was thrown away */
    HALF = 1u << 2,    /* our side of the stream is shut down */
    LISTED = 1u << 3   /* is or was in a list below */
};

/* Input thrown away in one go before others have their turn. */
#define READ_SHARE ((size_t)256 * 1024)
#define PAUSE_NS ((int64_t)100000000)
#define SHORT_NS ((int64_t)100000000)
#define LISTENERS_MAX 1024

/* --- Deadlines ----------------------------------------------------------------------------- */

typedef struct deadlines {
    nl_mutex *lock;
    nl_list list; /* nl_tcp.u.due, earliest first */
    int64_t span; /* from entry to deadline */
    int64_t
        hurried; /* when the process began to end: only NL_TCP_LINGER_EXIT_NS are left from then on; 0: not yet */
    unsigned in_case; /* how many are not in earnest */
    bool armed;       /* timer is, or is about to call sweep */
    nl_wtimer timer;
    void (*expired)(nl_tcp *s);
} deadlines;

static deadlines closing, paused;

static nl_tcp *first_of(deadlines *d)
{
    return nl_list_empty(&d->list) ? NULL : nl_container_of(d->list.next, nl_tcp, u.due.node);
}

/* Under the lock. */
static int64_t deadline(const deadlines *d, const nl_tcp *s)
{
    int64_t since = s->u.due.since, at = since + d->span;
    if (d->hurried) {
        int64_t latest = (since > d->hurried ? since : d->hurried) + NL_TCP_LINGER_EXIT_NS;
        return at < latest ? at : latest;
    }
    return at;
}

/* False: there are enough of those that are not in earnest. */
static bool add(deadlines *d, nl_tcp *s, bool earnest)
{
    nl_mutex_lock(d->lock);
    bool taken = earnest || d->in_case < LISTENERS_MAX;
    nl_list_init(&s->u.due.node);
    s->earnest = earnest;
    if (taken) {
        s->u.due.since = nl_now_ns();
        d->in_case += !earnest;
        nl_list_push_back(&d->list, &s->u.due.node);
        if (!d->armed) {
            d->armed = true;
            nl_wtimer_arm(&d->timer, deadline(d, first_of(d)));
        }
    }
    nl_mutex_unlock(d->lock);
    return taken;
}

static void become_earnest(deadlines *d, nl_tcp *s)
{
    nl_mutex_lock(d->lock);
    if (!nl_list_empty(&s->u.due.node) && !s->earnest) {
        s->earnest = true;
        d->in_case--;
    }
    nl_mutex_unlock(d->lock);
}

/* Takes it out, if it is in.  Under the lock. */
static void take_out(deadlines *d, nl_tcp *s)
{
    if (!nl_list_empty(&s->u.due.node)) {
        nl_list_remove(&s->u.due.node);
        d->in_case -= !s->earnest;
    }
}

/* Deals with what is due. */
static void sweep(deadlines *d)
{
    int64_t now = nl_now_ns();
    nl_mutex_lock(d->lock);
    for (;;) {
        nl_tcp *s = first_of(d);
        if (!s || deadline(d, s) > now) {
            break;
        }
        take_out(d, s);
        /* Whoever gives the closing's share up comes through take_out first: there is one to add to. */
        atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
        nl_mutex_unlock(d->lock);
        d->expired(s);
        nl_tcp_unref(s);
        nl_mutex_lock(d->lock);
    }
    if (!d->armed && first_of(d)) {
        d->armed = true;
        nl_wtimer_arm(&d->timer, deadline(d, first_of(d)));
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

static void init_deadlines(deadlines *d, int64_t span, void (*expired)(nl_tcp *))
{
    d->span = span;
    d->hurried = 0;
    d->lock = nl_mutex_new();
    nl_list_init(&d->list);
    d->in_case = 0;
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
        deadlines *d = s->kind == NL_TCP_KIND_LISTENER ? &paused : &closing;
        nl_mutex_lock(d->lock);
        take_out(d, s);
        nl_mutex_unlock(d->lock);
    }
    nl_slots_remove(nl_tcp_table, &s->slot);
    nl_reactor_detach(nl_tcp_reactor(s), s->fd, s->slot.id);
    nl_sock_close(s->fd);
    nl_spin_lock(&c->lock);
    s->chain.done = true;
    if (c->dirty) {
        atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed); /* given up in nl_tcp_flush_dirty */
    }
    nl_wreq *told = nl_chain_clear(c, &left);
    nl_spin_unlock(&c->lock);
    nl_wreq_finish(told, NL_ETCPSCLOSED);
    nl_chunks_free(left);
    nl_tcp_unref(s);
}

static void in_earnest(nl_tcp *s)
{
    if (!(s->state & EARNEST)) {
        s->state |= EARNEST;
        if (s->state & LISTED) {
            become_earnest(&closing, s);
        }
    }
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
            in_earnest(s);
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

static bool enlist(nl_tcp *s)
{
    if (!(s->state & LISTED)) {
        s->state |= LISTED;
        return add(&closing, s, s->state & EARNEST);
    }
    return true;
}

/* What remains to be done once output and input have gone as far as they go; false: nothing. */
static bool proceed(nl_tcp *s, int sent)
{
    if (sent == NL_FLUSH_FAILED) {
        return false;
    }
    if (sent == NL_FLUSH_EMPTY) {
        if (s->state & DEAF) {
            return false;
        }
        if (!(s->state & HALF)) {
            s->state |= HALF;
            if (nl_sock_shutdown_write(s->fd)) {
                return false;
            }
        }
    } else {
        in_earnest(s);
    }
    return enlist(s) &&
           (sent != NL_FLUSH_FULL || nl_reactor_arm_write(nl_tcp_reactor(s), s->fd, s->slot.id) == 0);
}

/* One round.  Called with the lock and flushing, returns with both; false: nothing is left to be done for s. */
static bool pump_once(nl_tcp *s, nl_chunk **done)
{
    nl_chain *c = &s->chain;
    int sent = s->chain.abort ? NL_FLUSH_FAILED : nl_tcp_send(s, done);
    nl_spin_unlock(&c->lock);
    bool more = sent != NL_FLUSH_FAILED && discard(s);
    bool going = proceed(s, sent);
    nl_spin_lock(&c->lock);
    if (going && (more || sent == NL_FLUSH_SHARE)) {
        nl_tcp_dirty(s);
    }
    return going;
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
    } while (going && (c->again || s->chain.abort));
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
    s->state |= unread || s->rerr == NL_ETCPREADOVERFLOW ? EARNEST : 0;
    /* Nothing was sent that a reset could destroy, or no input can come. */
    if (c->added == 0 || c->err || (s->rerr && s->rerr != NL_ETCPREADOVERFLOW)) {
        s->state |= DEAF;
    }
    if (c->flushing) {
        /*
         * Another worker is sending, and will see to the rest.  Until it does, the list holds the process;
         * state is ours as long as shut is not set.
         */
        nl_spin_unlock(&c->lock);
        in_earnest(s);
        enlist(s);
        nl_spin_lock(&c->lock);
    }
    c->shut = true;
    nl_linger_pump(s);
}

static void too_late(nl_tcp *s)
{
    nl_spin_lock(&s->chain.lock);
    s->chain.abort = true;
    nl_linger_pump(s);
}

int nl_linger_holding(void)
{
    sweep(&closing); /* after nl_linger_hurry the timer may be set too late */
    int64_t now = nl_now_ns();
    int n = 0;
    nl_mutex_lock(closing.lock);
    for (nl_list *i = closing.list.next; i != &closing.list; i = i->next) {
        nl_tcp *s = nl_container_of(i, nl_tcp, u.due.node);
        n += s->earnest || now - s->u.due.since < SHORT_NS;
    }
    nl_mutex_unlock(closing.lock);
    return n;
}

void nl_linger_hurry(void)
{
    nl_mutex_lock(closing.lock);
    if (!closing.hurried) {
        closing.hurried = nl_now_ns();
    }
    nl_mutex_unlock(closing.lock);
}

/* --- Listeners ----------------------------------------------------------------------------- */

void nl_linger_pause(nl_tcp *s)
{
    atomic_fetch_or_explicit(&s->flags, NL_TCP_PAUSED | NL_TCP_WANT, memory_order_acq_rel);
    s->state |= LISTED;
    add(&paused, s, true);
}

static void resume(nl_tcp *s)
{
    atomic_fetch_and_explicit(&s->flags, ~(unsigned)NL_TCP_PAUSED, memory_order_acq_rel);
    nl_tcp_signal(s, NL_TCP_READ);
}

/* --- Start and end ------------------------------------------------------------------------- */

void nl_linger_init(void)
{
    init_deadlines(&closing, NL_TCP_LINGER_NS, too_late);
    init_deadlines(&paused, PAUSE_NS, resume);
}

void nl_linger_fini(void)
{
    for (nl_tcp *s; (s = first_of(&closing));) {
        too_late(s); /* takes it out of the list */
    }
    nl_mutex_free(closing.lock);
    nl_mutex_free(paused.lock);
}

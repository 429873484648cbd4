/*
 * tcp.c - sockets: their life, events, small questions.
 *
 * The road of an event: reactor → io() → for input, the flags word and perhaps the embedded message
 * to the owner (nl_tcp_signal) → nl_tcp_ready_run → ops->ready; for output,
 * nl_tcp_flush_unlocks right here; for a socket that its owner has closed, nl_linger_pump_unlocks.
 */
#include "net/tcp_impl.h"

#include "base/alloc.h"

#include <string.h>

nl_tcp_worker *nl_tcp_workers;
nl_slots *nl_tcp_table;

/* An idle connection costs this, the Lua side's share and what the kernel has. */
_Static_assert(sizeof(nl_tcp) <= 176, "a socket stays small");

/* --- References ------------------------------------------------------------------------------- */

static void free_peer(nl_tcp *s)
{
    if (s->peer_len > NL_TCP_PEER_SHORT) {
        nl_pool_free(s->peer.apart, s->peer_len);
    }
}

static void free_socket(nl_tcp *s)
{
    free_peer(s);
    nl_pool_free(s, sizeof(*s));
}

static void free_now(nl_limbo *g)
{
    free_socket(nl_container_of(g, nl_tcp, u.limbo));
}

void nl_tcp_unref(nl_tcp *s)
{
    /* acq_rel: what every holder did with s comes before it is retired. */
    if (atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1) {
        nl_retire(&s->u.limbo, free_now);
    }
}

/* --- The message to the owner ----------------------------------------------------------------- */

/* The message has come back.  True: the socket is still the owner's. */
static bool returned(nl_tcp *s)
{
    unsigned old = atomic_fetch_and_explicit(&s->flags, ~(unsigned)NL_TCP_POSTED, memory_order_acq_rel);
    if (old & NL_TCP_CLOSED) {
        nl_tcp_unref(s); /* nl_tcp_close has counted it */
        return false;
    }
    return true;
}

void nl_tcp_ready_run(nl_ctx *owner, nl_msg *m)
{
    nl_tcp *s = nl_container_of(m, nl_tcp, msg);
    if (returned(s)) {
        nl_container_of(m->ops, nl_tcp_ops, msg)->ready(owner, s);
    }
}

void nl_tcp_ready_drop(nl_msg *m)
{
    returned(nl_container_of(m, nl_tcp, msg));
}

/* POSTED has just been set. */
static void post(nl_tcp *s)
{
    nl_ctx *c = nl_ctx_find(s->owner);
    if (c) {
        nl_ctx_post(c, &s->msg);
    } else {
        nl_tcp_ready_drop(&s->msg);
    }
}

unsigned nl_tcp_signal(nl_tcp *s, unsigned bits)
{
    unsigned spurious = nl_chaos(8) ? NL_TCP_WANT : 0;
    unsigned old = atomic_load_explicit(&s->flags, memory_order_relaxed), now;
    bool wanted;
    do {
        now = old | bits;
        wanted = (old | spurious) & NL_TCP_WANT && !(old & (NL_TCP_POSTED | NL_TCP_CLOSED | NL_TCP_PAUSED));
        if (wanted) {
            now = (now & ~(unsigned)NL_TCP_WANT) | NL_TCP_POSTED;
        }
    } while (!atomic_compare_exchange_weak_explicit(&s->flags, &old, now, memory_order_acq_rel,
                                                    memory_order_relaxed));
    if (wanted) {
        post(s);
    }
    return old;
}

void nl_tcp_again(nl_tcp *s)
{
    /*
     * acq_rel as in nl_tcp_signal; WANT stays: readiness that comes before the message is run finds
     * POSTED.
     */
    if (!(atomic_fetch_or_explicit(&s->flags, NL_TCP_POSTED, memory_order_acq_rel) & NL_TCP_POSTED)) {
        post(s);
    }
}

bool nl_tcp_want(nl_tcp *s, unsigned bits)
{
    unsigned old = atomic_load_explicit(&s->flags, memory_order_relaxed);
    for (;;) {
        if (old & bits && !(old & NL_TCP_PAUSED)) {
            atomic_fetch_and_explicit(&s->flags, ~bits, memory_order_acq_rel);
            return false;
        }
        if (atomic_compare_exchange_weak_explicit(&s->flags, &old, old | NL_TCP_WANT, memory_order_acq_rel,
                                                  memory_order_relaxed)) {
            return true;
        }
    }
}

/* --- Hooks ------------------------------------------------------------------------------------ */

static void io(uint64_t tag, unsigned events)
{
    nl_tcp *s = nl_tcp_find(tag);
    if (!s) {
        return; /* detached since it was harvested */
    }
    unsigned old = atomic_load_explicit(&s->flags, memory_order_relaxed);
    if (events & (NL_EV_READ | NL_EV_HUP) || old & NL_TCP_CONNECTING) {
        unsigned bits = old & NL_TCP_CONNECTING ? NL_TCP_CONN : 0u;
        bits |= events & (NL_EV_READ | NL_EV_HUP) ? NL_TCP_READ : 0u;
        bits |= events & NL_EV_HUP ? NL_TCP_HUP : 0u;
        old = nl_tcp_signal(s, bits);
    }
    if (!(events & (NL_EV_WRITE | NL_EV_HUP)) && !(old & NL_TCP_CLOSED)) {
        return;
    }
    nl_out *o = &s->out;
    nl_spin_lock(&o->lock);
    if (o->flushing) {
        /*
         * The flusher may just have been told that there is no room, before there was, and may not
         * yet have said so. It looks at `again` in the step in which it would stop.
         */
        o->again = true;
        nl_spin_unlock(&o->lock);
    } else if (o->shut) {
        nl_linger_pump_unlocks(s);
    } else if (o->blocked) {
        o->blocked = false;
        nl_tcp_flush_unlocks(s);
    } else {
        nl_spin_unlock(&o->lock); /* epoll says WRITE with every event */
    }
}

/*
 * A message that has dirtied more sockets than this sends at the end of the dispatch: the next may
 * add to them.
 */
#define FEW 4
/*
 * What short messages of one dispatch have written leaves for so many sockets at a time: where the
 * peers are on the same machine, each send may wake one that then sleeps again at once, so sends
 * that follow each other closely cost less.
 */
#define TOGETHER 8
#define SHORT_NS 50000

static void flush(int worker, bool end)
{
    nl_tcp_worker *w = &nl_tcp_workers[worker];
    w->fan_out |= w->dirty_count - w->dirty_before > FEW;
    w->dirty_before = w->dirty_count;
    if (!end && !w->fan_out) {
        int64_t now = nl_now_ns();
        if (w->dirty_count >= TOGETHER || now - w->flush_asked > SHORT_NS) {
            nl_tcp_flush_dirty(w);
        }
        w->flush_asked = now;
    } else if (end) {
        nl_tcp_flush_dirty(w);
        nl_tcp_vacate(w);
        if (w->dirty_first) {
            /* Sockets that have had their share: a worker does not sleep before this call. */
            nl_sched_want_flush();
        }
    }
}

int nl_tcp_init(void)
{
    nl_tcp_table = nl_slots_new();
    nl_listeners_init();
    nl_tcp_workers = nl_calloc_aligned(NL_WORKERS_MAX * sizeof(nl_tcp_worker));
    nl_linger_init();
    nl_sched_set_hooks(&(nl_sched_hooks){
        .io = io,
        .flush = flush,
        .holding = nl_linger_holding,
        .hurry = nl_linger_hurry,
        .reset_unsent = nl_linger_reset_unsent,
    });
    return 0;
}

void nl_tcp_fini(void)
{
    nl_linger_fini();
    nl_listeners_fini();
    for (int i = 0; i < NL_WORKERS_MAX; i++) {
        nl_tcp_worker *w = &nl_tcp_workers[i];
        nl_tcp_flush_dirty(w);
        nl_block_unref(w->spent_block);
        nl_free(w->scratch);
    }
    nl_free_aligned(nl_tcp_workers);
    nl_tcp_workers = NULL;
    nl_slots_free(nl_tcp_table);
    nl_tcp_table = NULL;
}

/* --- Making them ------------------------------------------------------------------------------ */

static void keep_peer(nl_tcp *s, const nl_addr *a)
{
    free_peer(s);
    s->peer_len = (uint8_t)a->len;
    if (a->len <= NL_TCP_PEER_SHORT) {
        memcpy(s->peer.here, a->u.bytes, NL_TCP_PEER_HERE);
    } else {
        s->peer.apart = nl_pool_alloc(a->len);
        memcpy(s->peer.apart, a->u.bytes, a->len);
    }
}

/*
 * The connect has succeeded.  The system may know better where it went: 0.0.0.0 leads to 127.0.0.1.
 */
static void learn_peer(nl_tcp *s)
{
    nl_addr a;
    if (nl_sock_remote(s->fd, &a) == 0) { /* else the connection has ended meanwhile */
        keep_peer(s, &a);
    }
}

int nl_tcp_new(nl_tcp **out, nl_fd fd, uint8_t kind, unsigned flags, uint64_t owner, int home,
               const nl_tcp_ops *ops, const nl_addr *peer)
{
    nl_tcp *s = nl_pool_alloc(sizeof(*s));
    memset(s, 0, sizeof(*s));
    s->msg.ops = &ops->msg;
    s->owner = owner;
    s->fd = fd;
    s->home = (uint16_t)home;
    s->kind = kind;
    atomic_init(&s->flags, flags);
    atomic_init(&s->refs, 1);
    s->write_queue_max = NL_TCP_WRITE_QUEUE_MAX;
    nl_out_init(&s->out);
    if (kind == NL_TCP_KIND_LISTENER) {
        nl_list_init(&s->u.due.node);
    }
    if (peer) {
        keep_peer(s, peer);
    }
    /*
     * From here on events and writers of other contexts may find it, though nobody knows its id
     * yet.
     */
    int err = nl_slots_insert(nl_tcp_table, &s->slot);
    if (err) {
        free_socket(s);
        return err;
    }
    err = nl_reactor_attach(nl_tcp_reactor(s), fd, s->slot.id);
    if (err) {
        nl_slots_remove(nl_tcp_table, &s->slot);
        nl_tcp_unref(s);
        return err;
    }
    *out = s;
    return 0;
}

int nl_tcp_connect(nl_tcp **out, nl_ctx *owner, const nl_tcp_ops *ops, const nl_addr *a)
{
    nl_fd fd;
    *out = NULL;
    int result;
    do {
        result = nl_sock_connect(&fd, a);
    } while (nl_linger_freed(result));
    if (result && result != -EINPROGRESS) {
        return result;
    }
    /*
     * Attached after the connect has begun: a socket that has not would report a hang-up. An
     * outcome that came first is not lost, attaching reports what is ready by then.
     */
    unsigned flags = result ? NL_TCP_CONNECTING | NL_TCP_WANT : 0u;
    int err = nl_tcp_new(out, fd, NL_TCP_KIND_CONN, flags, owner->slot.id, nl_ctx_home(owner), ops, a);
    if (err) {
        nl_sock_close(fd);
        return err;
    }
    if (result == 0) {
        learn_peer(*out);
        return 0;
    }
    err = nl_reactor_arm_write(nl_tcp_reactor(*out), fd, (*out)->slot.id);
    if (err) {
        nl_tcp_close(*out);
        *out = NULL;
        return err;
    }
    return -EINPROGRESS;
}

int nl_tcp_connect_result(nl_tcp *s)
{
    if (!(atomic_load_explicit(&s->flags, memory_order_relaxed) & NL_TCP_CONNECTING)) {
        return -s->rerr;
    }
    int err;
    do {
        /* Taken away before the question, as with READ. */
        atomic_fetch_and_explicit(&s->flags, ~(unsigned)NL_TCP_CONN, memory_order_acq_rel);
        err = nl_sock_connect_result(s->fd);
        if (err == -EINPROGRESS) {
            /* Armed after the question: an outcome that comes from here on makes an event. */
            int armed = nl_reactor_arm_write(nl_tcp_reactor(s), s->fd, s->slot.id);
            if (armed == 0 && nl_tcp_want(s, NL_TCP_CONN)) {
                return -EINPROGRESS;
            }
            err = armed ? armed : -EINPROGRESS;
        }
    } while (err == -EINPROGRESS);
    if (err == 0) {
        learn_peer(s);
        err = nl_reactor_arm_read(nl_tcp_reactor(s), s->fd, s->slot.id);
    }
    s->rerr = (uint16_t)-err;
    atomic_fetch_and_explicit(&s->flags, ~(unsigned)(NL_TCP_CONNECTING | NL_TCP_WANT), memory_order_acq_rel);
    return err;
}

/* --- Closing ---------------------------------------------------------------------------------- */

void nl_tcp_close(nl_tcp *s)
{
    /*
     * For the message, given up in returned(). Counted first: when the owner has left its table,
     * the io hook of another worker drops the message itself, perhaps right after the next step.
     */
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    unsigned old = atomic_fetch_or_explicit(&s->flags, NL_TCP_CLOSED, memory_order_acq_rel);
    if (!(old & NL_TCP_POSTED)) {
        /* The owner's is still there. */
        atomic_fetch_sub_explicit(&s->refs, 1, memory_order_relaxed);
    }
    if (s->kind == NL_TCP_KIND_CONN) {
        nl_tcp_drop_input(s);
    }
    nl_spin_lock(&s->out.lock);
    s->out.cut = (old & NL_TCP_CONNECTING) != 0; /* nothing can be on its way */
    nl_linger_begin_unlocks(s);
}

/* --- Small questions -------------------------------------------------------------------------- */

void nl_tcp_set_ops(nl_tcp *s, const nl_tcp_ops *ops)
{
    s->msg.ops = &ops->msg; /* also while it is posted: only the owner's turns look at it */
}

void nl_tcp_set_user(nl_tcp *s, void *user)
{
    s->user = user;
}

void *nl_tcp_user(const nl_tcp *s)
{
    return s->user;
}

uint64_t nl_tcp_id(const nl_tcp *s)
{
    return s->slot.id;
}

bool nl_tcp_is_listener(const nl_tcp *s)
{
    return s->kind == NL_TCP_KIND_LISTENER;
}

uint64_t nl_tcp_owner(uint64_t id)
{
    nl_tcp *s = nl_tcp_find(id);
    return s && !(atomic_load_explicit(&s->flags, memory_order_relaxed) & NL_TCP_CLOSED) ? s->owner : 0;
}

nl_tcp *nl_tcp_own(uint64_t id, uint64_t owner, const nl_tcp_ops *ops)
{
    nl_tcp *s = nl_tcp_find(id);
    bool own = s && s->owner == owner && s->kind == NL_TCP_KIND_CONN && s->msg.ops == &ops->msg &&
               !(atomic_load_explicit(&s->flags, memory_order_relaxed) & NL_TCP_CLOSED);
    return own ? s : NULL;
}

nl_frame_opt *nl_tcp_read_opt(nl_tcp *s)
{
    return &s->u.in.opt;
}

nl_frame_opt *nl_tcp_write_opt(nl_tcp *s)
{
    return &s->wopt;
}

uint64_t nl_tcp_write_queue_max(nl_tcp *s)
{
    return s->write_queue_max;
}

void nl_tcp_set_write_queue_max(nl_tcp *s, uint64_t bytes)
{
    nl_spin_lock(&s->out.lock); /* writers of other contexts read it */
    s->write_queue_max = bytes;
    nl_spin_unlock(&s->out.lock);
}

void nl_tcp_set_wshared(nl_tcp *s, bool on)
{
    nl_spin_lock(&s->out.lock); /* publishes the write options with it */
    s->out.wshared = on;
    nl_spin_unlock(&s->out.lock);
}

bool nl_tcp_wshared(nl_tcp *s)
{
    nl_spin_lock(&s->out.lock); /* the bits beside it are not the owner's */
    bool on = s->out.wshared;
    nl_spin_unlock(&s->out.lock);
    return on;
}

int nl_tcp_nodelay(nl_tcp *s, bool on)
{
    return nl_sock_nodelay(s->fd, on);
}

int nl_tcp_local(nl_tcp *s, nl_addr *out)
{
    return nl_sock_local(s->fd, out);
}

int nl_tcp_remote(nl_tcp *s, nl_addr *out)
{
    if (s->peer_len == 0) {
        return nl_sock_remote(s->fd, out);
    }
    memset(out, 0, sizeof(*out));
    out->len = s->peer_len;
    if (s->peer_len > NL_TCP_PEER_SHORT) {
        memcpy(out->u.bytes, s->peer.apart, s->peer_len);
    } else {
        memcpy(out->u.bytes, s->peer.here, NL_TCP_PEER_HERE);
    }
    return 0;
}

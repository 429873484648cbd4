/*
 * The reactor's contract all at once: threads with a reactor each, which also look at each other's;
 * connections that are made, read late, reset and closed all the time. Every byte is compared, and
 * a round comes to its end only if no event is lost.
 */
#include "base/spin.h"
#include "rng.h"

#include "reactor_kit.h"

enum { THREADS = 3, PAIRS = 40, CHUNK = 16 * 1024, LATE_MAX = 64, BATCH = 8 };

#define ROUNDS RNG_ROUNDS(400, 80) /* of all pairs together */
#define GOAL_MAX (64 * 1024)
#define GOAL_BIG (12 * 1024 * 1024) /* more than all buffers on the way */
#define BIG_ROUNDS 4                /* the first ones */

typedef struct pair_of_ends pair_of_ends;

/* One end of a connection; what follows lock is under it. */
typedef struct end {
    pair_of_ends *pair;
    uint32_t goal;     /* so much it writes; constant for a round */
    uint32_t reset_at; /* it resets the connection when it has got so much; 0: never */
    nl_mutex *lock;
    uint64_t tag; /* 0: not open */
    nl_fd fd;
    nl_reactor *home;
    bool connecting, readable, blocked, shut, eof;
    uint32_t put, got;
    rng random;
} end;

struct pair_of_ends {
    end ends[2];       /* [0] connects */
    atomic_bool reset; /* by one end: the other may find an error anywhere */
    atomic_int open;
    int port; /* of ends[0], until the other end is accepted; under joining */
};

/* A thread, its reactor, and the ends whose input it looks at later. */
typedef struct looker {
    nl_reactor *reactor;
    nl_spin polling; /* a reactor is polled by one thread at a time */
    nl_thread *thread;
    rng random;
    struct {
        uint64_t tag;
        unsigned events;
    } late[LATE_MAX];
    int nlate;
} looker;

static looker lookers[THREADS];
static pair_of_ends pairs[PAIRS];
static nl_mutex *joining;
static nl_fd the_listener;
static nl_addr the_addr;
static atomic_int begun, over, stale, resets, waits_for_room, late_reads, looks_at_others;
static atomic_uint_fast64_t last_tag;

#define LISTENER_TAG ((uint64_t)2 * PAIRS)

static unsigned char byte_at(const end *writer, uint32_t i)
{
    return (unsigned char)((i * 7 + (i >> 8) + writer->goal) % 253);
}

static end *other_end(const end *e)
{
    return &e->pair->ends[e == &e->pair->ends[0]];
}

/* --- One end, under its lock ------------------------------------------------------------------ */

static void open_end(end *e, nl_fd fd, bool connecting)
{
    uint64_t index = (uint64_t)(e->pair - pairs) * 2 + (uint64_t)(e - e->pair->ends);
    e->fd = fd;
    e->tag = (atomic_fetch_add(&last_tag, 1) + 1) << 16 | index;
    e->home = lookers[rng_below(&e->random, THREADS)].reactor;
    e->connecting = connecting;
    e->blocked = true; /* until the first event */
    e->readable = e->shut = e->eof = false;
    e->put = e->got = 0;
    cr_assert_eq(nl_reactor_attach(e->home, fd, e->tag), 0);
    cr_assert_eq(nl_reactor_arm_write(e->home, fd, e->tag), 0);
}

static void close_end(end *e, bool reset)
{
    nl_reactor_detach(e->home, e->fd, e->tag);
    if (reset) {
        atomic_store(&e->pair->reset, true);
        atomic_fetch_add(&resets, 1);
        nl_sock_reset(e->fd);
    }
    nl_sock_close(e->fd);
    e->tag = 0;
}

/* An error, or the end of the stream too early: only a reset explains it. */
static void fail_end(end *e, intptr_t result)
{
    cr_assert(atomic_load(&e->pair->reset), "%d after %u bytes in, %u out", (int)result, e->got, e->put);
    close_end(e, false);
}

static void read_some(end *e)
{
    static _Thread_local unsigned char buf[CHUNK];
    const end *writer = other_end(e);
    while (e->tag && e->readable) {
        intptr_t n = nl_sock_read(e->fd, buf, 1 + rng_below(&e->random, CHUNK));
        if (n > 0) {
            for (intptr_t i = 0; i < n; i++) {
                cr_assert_eq(buf[i], byte_at(writer, e->got + (uint32_t)i), "byte %u", e->got + (unsigned)i);
            }
            e->got += (uint32_t)n;
            if (e->reset_at && e->got >= e->reset_at) {
                close_end(e, true);
            }
        } else if (n == NL_AGAIN) {
            e->readable = false;
            cr_assert_eq(nl_reactor_arm_read(e->home, e->fd, e->tag), 0);
        } else if (n == 0 && e->got == writer->goal) {
            e->readable = false;
            e->eof = true;
        } else {
            fail_end(e, n);
        }
    }
}

static void write_some(end *e)
{
    static _Thread_local unsigned char buf[CHUNK];
    while (e->tag && !e->blocked && e->put < e->goal) {
        uint32_t n = 1 + rng_below(&e->random, CHUNK);
        n = n < e->goal - e->put ? n : e->goal - e->put;
        for (uint32_t i = 0; i < n; i++) {
            buf[i] = byte_at(e, e->put + i);
        }
        intptr_t put = nl_sock_write(e->fd, buf, n);
        e->put += put > 0 ? (uint32_t)put : 0;
        if (put == NL_AGAIN || (put > 0 && (uint32_t)put < n)) {
            e->blocked = true;
            atomic_fetch_add(&waits_for_room, 1);
            cr_assert_eq(nl_reactor_arm_write(e->home, e->fd, e->tag), 0);
        } else if (put < 0) {
            fail_end(e, put);
        }
    }
    if (e->tag && !e->shut && !e->blocked && e->put == e->goal) {
        e->shut = true;
        int err = nl_sock_shutdown_write(e->fd);
        if (err) {
            fail_end(e, err);
        }
    }
}

static void use_end(end *e, unsigned events)
{
    if (e->connecting) {
        int err = nl_sock_connect_result(e->fd);
        if (err == -EINPROGRESS) {
            cr_assert_eq(nl_reactor_arm_write(e->home, e->fd, e->tag), 0);
            return;
        }
        cr_assert_eq(err, 0);
        e->connecting = false;
        cr_assert_eq(nl_reactor_arm_read(e->home, e->fd, e->tag), 0);
    }
    e->readable |= (events & (NL_EV_READ | NL_EV_HUP)) && !e->eof;
    e->blocked &= !(events & (NL_EV_WRITE | NL_EV_HUP));
    read_some(e);
    write_some(e);
    if (e->tag && e->eof && e->shut) {
        close_end(e, false);
    }
}

/* --- Pairs ------------------------------------------------------------------------------------ */

/* The next round of a pair, if there is one. */
static void begin(pair_of_ends *p)
{
    int round = atomic_fetch_add(&begun, 1);
    if (round >= ROUNDS) {
        return;
    }
    rng *random = &p->ends[0].random;
    for (int i = 0; i < 2; i++) {
        bool big = round < BIG_ROUNDS || rng_below(random, 24) == 0;
        p->ends[i].goal = big ? GOAL_BIG : rng_below(random, GOAL_MAX);
        p->ends[i].reset_at = 0;
    }
    if (round >= BIG_ROUNDS &&
        rng_below(random, 4) == 0) { /* not before it has got something: it was accepted then */
        int i = (int)rng_below(random, 2);
        p->ends[i].reset_at = 1 + rng_below(random, p->ends[1 - i].goal + 1);
    }
    atomic_store(&p->reset, false);
    atomic_store(&p->open, 2);
    nl_fd fd;
    nl_addr here;
    nl_mutex_lock(joining); /* the port is known before the other end is accepted */
    int err = nl_sock_connect(&fd, &the_addr);
    cr_assert(err == 0 || err == -EINPROGRESS, "connect: %d", err);
    cr_assert_eq(nl_sock_local(fd, &here), 0);
    p->port = nl_addr_port(&here);
    nl_mutex_unlock(joining);
    end *e = &p->ends[0];
    nl_mutex_lock(e->lock);
    open_end(e, fd, err != 0);
    nl_mutex_unlock(e->lock);
}

static void accept_all(void)
{
    nl_fd fd;
    nl_addr peer;
    int err;
    nl_mutex_lock(joining);
    while ((err = nl_sock_accept(&fd, the_listener, &peer)) == 0) {
        int i = 0;
        while (i < PAIRS && pairs[i].port != nl_addr_port(&peer)) {
            i++;
        }
        cr_assert_lt(i, PAIRS, "somebody else has connected");
        pairs[i].port = 0;
        end *e = &pairs[i].ends[1];
        nl_mutex_lock(e->lock);
        open_end(e, fd, false);
        nl_mutex_unlock(e->lock);
    }
    cr_assert_eq(err, NL_AGAIN);
    cr_assert_eq(nl_reactor_arm_read(lookers[0].reactor, the_listener, LISTENER_TAG), 0);
    nl_mutex_unlock(joining);
}

static void serve(uint64_t tag, unsigned events)
{
    if (tag == LISTENER_TAG) {
        accept_all();
        return;
    }
    pair_of_ends *p = &pairs[(tag & 0xffff) / 2];
    end *e = &p->ends[tag & 1];
    nl_mutex_lock(e->lock);
    bool current = e->tag == tag;
    if (current) {
        use_end(e, events);
    } else {
        atomic_fetch_add(&stale, 1);
    }
    bool closed = current && e->tag == 0;
    nl_mutex_unlock(e->lock);
    if (closed && atomic_fetch_sub(&p->open, 1) == 1) {
        if (atomic_fetch_add(&over, 1) + 1 == ROUNDS) {
            for (int i = 0; i < THREADS; i++) {
                nl_reactor_wake(lookers[i].reactor);
            }
        }
        begin(p);
    }
}

/* --- Threads ---------------------------------------------------------------------------------- */

/* Looks at a reactor that nobody else polls; some of what has come waits a while. */
static void look(looker *self, looker *at, int64_t timeout)
{
    nl_event ev[BATCH];
    if (!nl_spin_trylock(&at->polling)) {
        return;
    }
    int n = nl_reactor_poll(at->reactor, ev, 1 + (int)rng_below(&self->random, BATCH), timeout);
    nl_spin_unlock(&at->polling);
    cr_assert_geq(n, 0);
    atomic_fetch_add(&looks_at_others, self != at && n > 0);
    for (int i = 0; i < n; i++) {
        if (self->nlate < LATE_MAX && rng_below(&self->random, 3) == 0) {
            self->late[self->nlate].tag = ev[i].tag;
            self->late[self->nlate++].events = ev[i].events;
            atomic_fetch_add(&late_reads, 1);
        } else {
            serve(ev[i].tag, ev[i].events);
        }
    }
}

static void look_late(looker *self)
{
    int i = (int)rng_below(&self->random, LATE_MAX);
    if (i < self->nlate) {
        uint64_t tag = self->late[i].tag;
        unsigned events = self->late[i].events;
        self->late[i] = self->late[--self->nlate];
        serve(tag, events);
    }
}

static void run(void *arg)
{
    looker *self = (looker *)arg;
    while (atomic_load(&over) < ROUNDS) {
        if (rng_below(&self->random, 4)) {
            look(self, self, self->nlate ? 0 : -1);
        }
        look(self, &lookers[rng_below(&self->random, THREADS)], 0);
        look_late(self);
    }
}

RTest(stress)
{
    joining = nl_mutex_new();
    the_listener = listen_tcp(&the_addr);
    for (int i = 0; i < THREADS; i++) {
        lookers[i].random = rng_seed((uint64_t)i + 1);
        cr_assert_eq(nl_reactor_new(&lookers[i].reactor), 0);
    }
    for (int i = 0; i < PAIRS; i++) {
        for (int k = 0; k < 2; k++) {
            pairs[i].ends[k] =
                (end){.pair = &pairs[i], .lock = nl_mutex_new(), .random = rng_seed((uint64_t)(2 * i + k))};
        }
    }
    cr_assert_eq(nl_reactor_attach(lookers[0].reactor, the_listener, LISTENER_TAG), 0);
    for (int i = 0; i < PAIRS; i++) {
        begin(&pairs[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        cr_assert_eq(nl_thread_start(&lookers[i].thread, "looker", run, &lookers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        nl_thread_join(lookers[i].thread);
    }
    cr_assert(resets > 0 && waits_for_room > 0 && late_reads > 0 && looks_at_others > 0);
    cr_log_info("%d resets, %d waits for room, %d late reads, %d looks at others, %d stale events", resets,
                waits_for_room, late_reads, looks_at_others, stale);
    nl_reactor_detach(lookers[0].reactor, the_listener, LISTENER_TAG);
    nl_sock_close(the_listener);
    for (int i = 0; i < THREADS; i++) {
        nl_reactor_free(lookers[i].reactor);
    }
    for (int i = 0; i < PAIRS; i++) {
        nl_mutex_free(pairs[i].ends[0].lock);
        nl_mutex_free(pairs[i].ends[1].lock);
    }
    nl_mutex_free(joining);
}

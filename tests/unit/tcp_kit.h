/*
 * tcp_kit.h - what the tests of sockets share: contexts in C on the real scheduler, and
 * peers: threads that talk to them over plain sockets.
 */
#ifndef NL_TEST_TCP_KIT_H
#define NL_TEST_TCP_KIT_H

#include "base/alloc.h"
#include "base/os.h"
#include "net/tcp.h"
#include "rng.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#ifdef _WIN32
#include <windows.h>
#else
#include <time.h>
#endif

#define SLOW RNG_ROUNDS(1, 8)
#define MS ((int64_t)1000000)

static inline void nap(int64_t ns)
{
#ifdef _WIN32
    Sleep((DWORD)((ns + 999999) / 1000000));
#else
    nanosleep(&(struct timespec){ns / 1000000000, ns % 1000000000}, NULL);
#endif
}

/* --- Contexts --------------------------------------------------------------------------------- */

typedef struct actor actor;
typedef struct conn conn;

/* What an actor makes of its sockets; NULL: nothing. */
typedef struct plan {
    void (*begin)(actor *a);
    void (*ready)(actor *a, conn *k);
    void (*timer)(actor *a);
    void (*note)(actor *a, uint64_t value);
} plan;

struct conn {
    nl_tcp *tcp;
    actor *owner;
    conn *next, **prev;
    void *data;
    uint64_t n, m;
};

struct actor {
    nl_ctx ctx; /* first */
    const plan *plan;
    void *arg;
    conn *conns;
    bool over; /* ends when idle */
    nl_timer timer;
    uint64_t n;
};

static atomic_int actors_alive;

static inline void kit_ready(nl_ctx *c, nl_tcp *s)
{
    actor *a = (actor *)c;
    conn *k = nl_tcp_user(s);
    cr_assert_eq(k->owner, a);
    if (a->plan->ready) {
        a->plan->ready(a, k);
    }
}

static const nl_tcp_ops kit_ops = NL_TCP_OPS(kit_ready);

static inline conn *kit_conn(actor *a, nl_tcp *s)
{
    conn *k = nl_calloc(sizeof(*k));
    k->tcp = s;
    k->owner = a;
    k->next = a->conns;
    k->prev = &a->conns;
    if (a->conns) {
        a->conns->prev = &k->next;
    }
    a->conns = k;
    nl_tcp_set_user(s, k);
    return k;
}

static inline void kit_close(conn *k)
{
    nl_tcp_close(k->tcp);
    *k->prev = k->next;
    if (k->next) {
        k->next->prev = k->prev;
    }
    nl_free(k);
}

static inline conn *kit_listen(actor *a, int *port)
{
    nl_addr at;
    nl_tcp *s;
    cr_assert_eq(nl_addr_ip(&at, 4, "127.0.0.1", 0), 0);
    cr_assert_eq(nl_tcp_listen(&s, &a->ctx, &kit_ops, &at, &(struct nl_listen_opts){0}), 0);
    cr_assert(nl_tcp_is_listener(s));
    cr_assert_eq(nl_tcp_local(s, &at), 0);
    conn *k = kit_conn(a, s);
    nl_tcp *none;
    cr_assert_eq(nl_tcp_accept(&none, s, &kit_ops), NL_AGAIN);
    *port = nl_addr_port(&at);
    return k;
}

/* The next waiting connection, or NULL. */
static inline conn *kit_accept(conn *l)
{
    nl_tcp *s;
    int err = nl_tcp_accept(&s, l->tcp, &kit_ops);
    cr_assert(err == 0 || err == NL_AGAIN, "accept: %d", err);
    return err ? NULL : kit_conn(l->owner, s);
}

static inline conn *kit_connect(actor *a, int port)
{
    nl_addr to;
    nl_tcp *s;
    cr_assert_eq(nl_addr_ip(&to, 4, "127.0.0.1", port), 0);
    int err = nl_tcp_connect(&s, &a->ctx, &kit_ops, &to);
    cr_assert(err == 0 || err == -EINPROGRESS, "connect: %d", err);
    return kit_conn(a, s);
}

static inline void actor_start(nl_ctx *c)
{
    actor *a = (actor *)c;
    if (a->plan->begin) {
        a->plan->begin(a);
    }
}

static inline bool actor_idle(nl_ctx *c)
{
    return !((actor *)c)->over;
}

static inline void actor_fini(nl_ctx *c, const nl_reason *reason)
{
    (void)reason;
    actor *a = (actor *)c;
    while (a->conns) {
        kit_close(a->conns);
    }
    nl_ctx_timer_remove(c, &a->timer);
}

static inline void actor_free(nl_ctx *c)
{
    nl_free_aligned(c);
    atomic_fetch_sub(&actors_alive, 1);
}

static inline const char *actor_name(const nl_ctx *c)
{
    (void)c;
    return "actor";
}

static inline void actor_timer(nl_ctx *c, nl_timer *t)
{
    (void)t;
    actor *a = (actor *)c;
    a->plan->timer(a);
}

static const nl_ctx_ops actor_ops = {
    .start = actor_start,
    .idle = actor_idle,
    .fini = actor_fini,
    .free = actor_free,
    .name = actor_name,
    .timer = actor_timer,
};

static inline void actor_after(actor *a, int64_t ns)
{
    nl_ctx_timer_remove(&a->ctx, &a->timer);
    nl_ctx_timer_add(&a->ctx, &a->timer, nl_now_ns() + ns);
}

static inline actor *actor_new(const plan *p, void *arg)
{
    actor *a = nl_calloc_aligned(sizeof(*a));
    a->plan = p;
    a->arg = arg;
    nl_ctx_init(&a->ctx, &actor_ops);
    nl_timer_init(&a->timer);
    atomic_fetch_add(&actors_alive, 1);
    cr_assert_eq(nl_ctx_start(&a->ctx), 0);
    return a;
}

/* A number sent to an actor. */
typedef struct note {
    nl_msg msg;
    uint64_t value;
} note;

static inline void note_run(nl_ctx *c, nl_msg *m)
{
    actor *a = (actor *)c;
    note *n = nl_container_of(m, note, msg);
    uint64_t value = n->value;
    nl_free(n);
    a->plan->note(a, value);
}

static inline void note_drop(nl_msg *m)
{
    nl_free(nl_container_of(m, note, msg));
}

static inline void note_send(uint64_t handle, uint64_t value)
{
    static const nl_msg_ops ops = {note_run, note_drop};
    note *n = nl_calloc(sizeof(*n));
    n->msg.ops = &ops;
    n->value = value;
    if (nl_ctx_send(handle, &n->msg)) {
        nl_free(n);
    }
}

/* Runs actors made by make(arg) on that many workers until all have ended; nothing may be left. */
static inline int64_t kit_run(int workers, uint64_t chaos, void (*make)(void *arg), void *arg)
{
    int64_t t0 = nl_now_ns();
    nl_sched_config cfg = {.workers = workers, .pin = NL_PIN_OFF, .chaos = chaos};
    cr_assert_eq(nl_sched_init(&cfg), 0);
    cr_assert_eq(nl_tcp_init(), 0);
    make(arg);
    nl_sched_run();
    int64_t took = nl_now_ns() - t0;
    nl_tcp_fini();
    nl_sched_fini();
    cr_assert_eq(atomic_load(&actors_alive), 0);
    cr_assert_eq(nl_block_bytes(), 0, "%llu bytes are left in blocks", (unsigned long long)nl_block_bytes());
    return took;
}

/* --- Peers ------------------------------------------------------------------------------------ */

static inline nl_fd peer_connect(int port)
{
    nl_addr to;
    nl_fd fd;
    cr_assert_eq(nl_addr_ip(&to, 4, "127.0.0.1", port), 0);
    int err = nl_sock_connect(&fd, &to);
    cr_assert(err == 0 || err == -EINPROGRESS, "connect: %d", err);
    while (err == -EINPROGRESS) {
        nap(50000);
        err = nl_sock_connect_result(fd);
    }
    cr_assert_eq(err, 0);
    return fd;
}

/* Bytes written: all n, or fewer if the connection has failed. */
static inline size_t peer_write(nl_fd fd, const void *p, size_t n)
{
    size_t done = 0;
    while (done < n) {
        intptr_t r = nl_sock_write(fd, (const char *)p + done, n - done);
        if (r == NL_AGAIN) {
            nap(50000);
        } else if (r < 0) {
            break;
        } else {
            done += (size_t)r;
        }
    }
    return done;
}

/* Bytes read: all n, or fewer at the end of the stream (*err 0) or after an error. */
static inline size_t peer_read(nl_fd fd, void *p, size_t n, int *err)
{
    size_t done = 0;
    *err = 0;
    while (done < n) {
        intptr_t r = nl_sock_read(fd, (char *)p + done, n - done);
        if (r == NL_AGAIN) {
            nap(50000);
        } else if (r <= 0) {
            *err = (int)r;
            break;
        } else {
            done += (size_t)r;
        }
    }
    return done;
}

static inline nl_thread *peer_start(void (*fn)(void *), void *arg)
{
    nl_thread *t;
    cr_assert_eq(nl_thread_start(&t, "peer", fn, arg), 0);
    return t;
}

/* --- One server, one peer with a script ------------------------------------------------------- */

typedef struct script {
    const plan *server;
    void (*peer)(struct script *t);
    int port;
    nl_thread *thread;
    int workers;
    uint64_t chaos;
    atomic_int stage; /* for the two to keep step */
} script;

static inline void script_peer(void *arg)
{
    script *t = arg;
    t->peer(t);
}

static inline void script_listen(actor *a)
{
    script *t = a->arg;
    kit_listen(a, &t->port);
    t->thread = peer_start(script_peer, t);
}

static inline void script_make(void *arg)
{
    script *t = arg;
    actor_new(t->server, t);
}

static inline int64_t play(script *t, const plan *server, void (*peer)(script *))
{
    plan p = *server;
    p.begin = p.begin ? p.begin : script_listen;
    t->server = &p;
    t->peer = peer;
    t->workers = t->workers ? t->workers : 2;
    int64_t took = kit_run(t->workers, t->chaos, script_make, t);
    if (t->thread) {
        nl_thread_join(t->thread);
    }
    return took;
}

static inline void await(script *t, int stage)
{
    while (atomic_load(&t->stage) < stage) {
        nap(100000);
    }
}

/* Reads one piece into a string of the test's; the result of the read. */
static inline int take(conn *k, char *out, size_t size)
{
    const unsigned char *p;
    uint32_t n;
    int r = nl_tcp_read(k->tcp, &p, &n);
    if (r == 1) {
        cr_assert_lt(n, size);
        memcpy(out, p, n);
        out[n] = '\0';
    }
    return r;
}

/* --- Requests --------------------------------------------------------------------------------- */

/* Written after what they count: told_next is the number told, a->plan->note hears of each. */
typedef struct told {
    nl_wreq req;
    uint64_t number;
} told;

static uint64_t told_next, told_errors;
static int told_error;

static inline void told_run(nl_ctx *c, nl_msg *m)
{
    told *w = (told *)nl_container_of(m, nl_wreq, msg);
    actor *a = (actor *)c;
    cr_assert_eq(w->number, told_next, "in the order written");
    told_next++;
    told_errors += w->req.err != 0;
    told_error = w->req.err;
    nl_free(w);
    if (a->plan->note) {
        a->plan->note(a, told_next);
    }
}

static inline void told_drop(nl_msg *m)
{
    told_next++;
    nl_free(nl_container_of(m, nl_wreq, msg));
}

static const nl_msg_ops told_ops = {told_run, told_drop};

static inline nl_wreq *told_new(actor *a, uint64_t number)
{
    told *w = nl_calloc(sizeof(*w));
    w->req.msg.ops = &told_ops;
    w->req.ctx = a->ctx.slot.id;
    w->number = number;
    return &w->req;
}

#endif

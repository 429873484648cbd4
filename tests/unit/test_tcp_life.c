/* Connecting, accepting, closing: what is sent before the end arrives, and nothing is left behind. */
#include "tcp_kit.h"

#include "sched/shutdown.h"

#ifndef _WIN32
#include <dirent.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#endif

/* --- Connecting, accepting -------------------------------------------------------------------- */

static void refused_ready(actor *a, conn *k)
{
    int r = nl_tcp_connect_result(k->tcp);
    if (r == -EINPROGRESS) {
        return;
    }
    cr_assert_eq(r, -ECONNREFUSED);
    cr_assert_eq(nl_tcp_connect_result(k->tcp), -ECONNREFUSED, "asked twice");
    kit_close(k);
    a->over = true;
}

static void refused_begin(actor *a)
{
    int port;
    conn *l = kit_listen(a, &port); /* a port that nobody listens on any more */
    kit_close(l);
    nl_addr to;
    nl_tcp *s;
    nl_addr_ip(&to, 4, "127.0.0.1", port);
    int err = nl_tcp_connect(&s, &a->ctx, &kit_ops, &to);
    if (err == -ECONNREFUSED) {
        cr_assert_null(s);
        a->over = true;
        return;
    }
    cr_assert_eq(err, -EINPROGRESS);
    refused_ready(a, kit_conn(a, s));
}

Test(tcp_life, connect_refused)
{
    for (uint64_t seed = 0; seed < 10; seed++) {
        play(&(script){.chaos = seed}, &(plan){.begin = refused_begin, .ready = refused_ready}, NULL);
    }
}

/* A connection under way is given up. */
static void give_up_begin(actor *a)
{
    script *t = a->arg;
    conn *l = kit_listen(a, &t->port);
    for (int i = 0; i < 20; i++) {
        kit_close(kit_connect(a, t->port));
        conn *k = kit_connect(a, t->port);
        nl_tcp_write(k->tcp, "never seen", 10, NULL, told_new(a, (uint64_t)i));
    }
    (void)l;
    a->over = true;
}

Test(tcp_life, connect_given_up)
{
    told_next = told_errors = 0;
    play(&(script){0}, &(plan){.begin = give_up_begin}, NULL);
    cr_assert_eq(told_next, 20, "each is told or dropped");
}

#ifndef _WIN32

/* Descriptors run out: the listener pauses, and goes on when there are some. */
static int scarce_tries;
static nl_fd scarce_hold = NL_FD_NONE;

static void scarce_ready(actor *a, conn *k)
{
    script *t = a->arg;
    if (!nl_tcp_is_listener(k->tcp)) {
        return;
    }
    nl_tcp *s;
    int err = nl_tcp_accept(&s, k->tcp, &kit_ops);
    if (err == NL_AGAIN) {
        return;
    }
    scarce_tries++;
    if (err == -EMFILE) {
        cr_assert_eq(nl_tcp_accept(&s, k->tcp, &kit_ops), NL_AGAIN, "it is told when to ask again");
        if (scarce_tries == 3) {
            nl_sock_close(scarce_hold);
        }
        return;
    }
    cr_assert_eq(err, 0);
    kit_conn(a, s);
    cr_assert_eq(scarce_tries, 4);
    atomic_store(&t->stage, 1);
    a->over = true;
}

static void scarce_peer(script *t)
{
    nl_fd fd = peer_connect(t->port);
    /* Now nothing is free any more; connect was the last to get one. */
    await(t, 1);
    nl_sock_close(fd);
}

static void scarce_begin(actor *a)
{
    script *t = a->arg;
    kit_listen(a, &t->port);
    int hold = dup(2), peer = dup(2); /* the one that is given free later, and the peer's */
    scarce_hold = hold;
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){(rlim_t)peer + 1, 20000});
    close(peer);
    t->thread = peer_start(script_peer, t);
}

Test(tcp_life, accept_pauses_when_descriptors_run_out)
{
    script t = {.workers = 1};
    struct rlimit old;
    getrlimit(RLIMIT_NOFILE, &old);
    int64_t took = play(&t, &(plan){.begin = scarce_begin, .ready = scarce_ready}, scarce_peer);
    cr_assert_geq(took, 280 * MS, "three pauses, not a busy loop");
    setrlimit(RLIMIT_NOFILE, &old);
}

#endif

/* --- Closing ---------------------------------------------------------------------------------- */

/* Everything written before the close arrives, however slowly it is read; the context is gone by then. */
static char tail_bytes[6 << 20];

static void tail_ready(actor *a, conn *k)
{
    if (!nl_tcp_is_listener(k->tcp) || !(k = kit_accept(k))) {
        return;
    }
    for (size_t i = 0; i < sizeof(tail_bytes); i++) {
        tail_bytes[i] = (char)(i * 7 >> 3);
    }
    told_next = told_errors = 0;
    cr_assert_eq(nl_tcp_write(k->tcp, tail_bytes, sizeof(tail_bytes), NULL, told_new(a, 0)), 0);
    cr_assert_eq(nl_tcp_write(k->tcp, "end", 3, NULL, told_new(a, 1)), 0);
    kit_close(k);
    a->over = true;
}

static void tail_peer(script *t)
{
    static char p[sizeof(tail_bytes) + 4];
    int err;
    nl_fd fd = peer_connect(t->port);
    size_t have = 0, n;
    do {
        size_t want = sizeof(p) - have < 500000 ? sizeof(p) - have : 500000;
        n = peer_read(fd, p + have, want, &err);
        have += n;
        nap(10 * MS);
    } while (n && have < sizeof(p));
    cr_assert_eq(err, 0, "%d", err);
    cr_assert_eq(have, sizeof(tail_bytes) + 3, "%zu", have);
    cr_assert_eq(memcmp(p, tail_bytes, sizeof(tail_bytes)), 0);
    nl_sock_close(fd);
}

Test(tcp_life, what_was_written_before_the_close_arrives)
{
    for (uint64_t seed = 0; seed < 3; seed++) {
        script t = {.chaos = SLOW == 1 ? 0 : seed, .workers = (int)seed + 1};
        play(&t, &(plan){.ready = tail_ready}, tail_peer);
        cr_assert_eq(told_next, 2);
    }
}

/* But not for ever. */
static void stuck_peer(script *t)
{
    nl_fd fd = peer_connect(t->port);
    await(t, 1);
    nl_sock_close(fd);
}

Test(tcp_life, a_peer_that_does_not_read_is_left_after_five_seconds, .timeout = 30)
{
    script t = {0};
    plan p = {.begin = script_listen, .ready = tail_ready};
    t.server = &p;
    t.peer = stuck_peer;
    int64_t took = kit_run(2, 0, script_make, &t);
    atomic_store(&t.stage, 1);
    nl_thread_join(t.thread);
    cr_assert_geq(took, 4900 * MS);
    cr_assert_lt(took, 6000 * MS);
    cr_assert_eq(told_next, 2, "the requests were told or dropped");
}

static void exit_ready(actor *a, conn *k)
{
    conn *fresh;
    while (nl_tcp_is_listener(k->tcp) && (fresh = kit_accept(k))) {
        nl_tcp_write(fresh->tcp, tail_bytes, sizeof(tail_bytes), NULL, NULL);
        if (a->n++) { /* one that lingers before the exit, one that is closed by it */
            kit_close(fresh);
            nl_shutdown_request(0);
        }
    }
}

static void exit_peer(script *t)
{
    nl_fd fd = peer_connect(t->port), fd2 = peer_connect(t->port);
    await(t, 1);
    nl_sock_close(fd);
    nl_sock_close(fd2);
}

Test(tcp_life, an_exit_waits_one_second)
{
    script t = {0};
    plan p = {.begin = script_listen, .ready = exit_ready};
    t.server = &p;
    t.peer = exit_peer;
    int64_t took = kit_run(2, 0, script_make, &t);
    atomic_store(&t.stage, 1);
    nl_thread_join(t.thread);
    cr_assert_geq(took, 900 * MS);
    cr_assert_lt(took, 1500 * MS);
}

/* A reply to a request that was not read to its end: no reset may destroy it. */
static bool reply_ends; /* the process, right after the reply; else when the peer is done */

static void reply_timer(actor *a)
{
    script *t = a->arg;
    a->over = a->over || atomic_load(&t->stage);
    if (!a->over) {
        actor_after(a, MS);
    }
}

static void reply_ready(actor *a, conn *k)
{
    if (nl_tcp_is_listener(k->tcp)) {
        if ((k = kit_accept(k))) {
            reply_ready(a, k);
        }
        return;
    }
    const unsigned char *p;
    uint32_t n;
    int r = nl_tcp_read(k->tcp, &p, &n);
    if (r == 1) {
        cr_assert_eq(nl_tcp_write(k->tcp, "413 too large", 13, NULL, NULL), 0);
        kit_close(k);
        a->over = reply_ends;
        reply_timer(a);
    } else {
        cr_assert_eq(r, NL_AGAIN);
    }
}

static void reply_peer(script *t)
{
    static char body[4 << 20];
    char text[20];
    int err;
    nl_fd fd = peer_connect(t->port);
    size_t n = peer_write(fd, body, sizeof(body));
    cr_assert(reply_ends || n == sizeof(body), "all of it is received, if only to be thrown away");
    nap(20 * MS);
    cr_assert_eq(peer_read(fd, text, sizeof(text), &err), 13, "error %d", err);
    cr_assert_eq(err, 0);
    cr_assert_eq(memcmp(text, "413", 3), 0);
    atomic_store(&t->stage, 1);
    nl_sock_close(fd);
}

Test(tcp_life, a_reply_survives_unread_input)
{
    for (uint64_t seed = 0; seed < 12; seed++) {
        reply_ends = seed >= 6;
        play(&(script){.chaos = seed, .workers = 1 + (int)seed % 2},
             &(plan){.ready = reply_ready, .timer = reply_timer}, reply_peer);
    }
}

/* --- Churn ------------------------------------------------------------------------------------ */

/*
 * Several contexts open, use and close connections to each other at random moments, some from other contexts'
 * writes; at the end nothing is left: no descriptor, no block, no actor.
 */
enum { CHURNERS = 3, CHURN_CONNS = 400 / SLOW };

typedef struct churn {
    int port;
    uint64_t server;
    atomic_uint_fast64_t some_id;
    atomic_int done;
} churn;

static atomic_int requests;

static void request_over(nl_msg *m)
{
    nl_free(nl_container_of(m, nl_wreq, msg));
    atomic_fetch_sub(&requests, 1);
}

static void request_run(nl_ctx *c, nl_msg *m)
{
    (void)c;
    request_over(m);
}

static const nl_msg_ops request_ops = {request_run, request_over};

static nl_wreq *request_new(actor *a)
{
    nl_wreq *r = nl_calloc(sizeof(*r));
    r->msg.ops = &request_ops;
    r->ctx = a->ctx.slot.id;
    atomic_fetch_add(&requests, 1);
    return r;
}

static rng churn_rng(const actor *a)
{
    static atomic_uint calls;
    return rng_seed(a->ctx.slot.id * 7919 + atomic_fetch_add(&calls, 1));
}

static void churn_use(actor *a, conn *k, rng *r)
{
    static const char text[30000];
    const unsigned char *p;
    uint32_t n;
    nl_buf b = nl_buf_empty();
    if (rng_below(r, 2)) {
        uint32_t len = rng_below(r, 4) ? rng_below(r, 600) : rng_below(r, sizeof(text));
        nl_wreq *req = rng_below(r, 4) ? NULL : request_new(a);
        if (nl_tcp_write(k->tcp, text, len, NULL, req) && req) {
            request_over(&req->msg); /* still ours */
        }
    }
    while (rng_below(r, 6) && nl_tcp_read_buf(k->tcp, &p, &n, &b) == 1) {
        nl_buf_release(&b);
    }
}

static void churn_more(actor *a)
{
    churn *c = a->arg;
    rng r = churn_rng(a);
    while (a->n < CHURN_CONNS && rng_below(&r, 3)) {
        conn *k = kit_connect(a, c->port);
        *nl_tcp_write_opt(k->tcp) = (nl_frame_opt){.head_bytes = 2};
        if (rng_below(&r, 2)) {
            nl_tcp_set_wshared(k->tcp, true);
            atomic_store(&c->some_id, nl_tcp_id(k->tcp));
        }
        a->n++;
    }
    nl_tcp_write_shared(atomic_load(&c->some_id), a->ctx.slot.id, "from elsewhere", 14, NULL, NULL);
    if (a->n < CHURN_CONNS) {
        note_send(a->ctx.slot.id, 0);
    } else if (!a->conns) {
        a->over = true;
        if (atomic_fetch_add(&c->done, 1) + 1 == CHURNERS) {
            note_send(c->server, 1);
        }
    }
}

static void churn_ready(actor *a, conn *k)
{
    rng r = churn_rng(a);
    int err = nl_tcp_connect_result(k->tcp);
    if (err == 0) {
        churn_use(a, k, &r);
    }
    if (err != -EINPROGRESS && rng_below(&r, 3) == 0) {
        kit_close(k);
    }
    if (!a->over && a->n >= CHURN_CONNS && !a->conns) {
        churn_more(a);
    }
}

static void churn_note(actor *a, uint64_t value)
{
    (void)value;
    churn_more(a);
}

/* The last ones are not left to chance. */
static void churn_timer(actor *a)
{
    while (a->conns && a->n >= CHURN_CONNS) {
        kit_close(a->conns);
    }
    if (!a->over && a->n >= CHURN_CONNS) {
        churn_more(a);
    }
    if (!a->over) {
        actor_after(a, 20 * MS);
    }
}

static void churn_begin(actor *a)
{
    actor_after(a, 20 * MS);
    churn_more(a);
}

static const plan churn_plan = {
    .begin = churn_begin, .ready = churn_ready, .note = churn_note, .timer = churn_timer};

static void host_ready(actor *a, conn *k)
{
    rng r = churn_rng(a);
    a->n++;
    if (nl_tcp_is_listener(k->tcp)) {
        conn *fresh;
        while ((fresh = kit_accept(k))) {
            *nl_tcp_read_opt(fresh->tcp) = (nl_frame_opt){.head_bytes = 2};
            host_ready(a, fresh);
        }
        return;
    }
    churn_use(a, k, &r);
    if (rng_below(&r, 4) == 0) {
        kit_close(k);
    }
}

static void host_note(actor *a, uint64_t value)
{
    (void)value;
    a->over = true; /* what is open is closed by its end */
}

static void host_begin(actor *a)
{
    churn *c = a->arg;
    c->server = a->ctx.slot.id;
    kit_listen(a, &c->port);
    for (int i = 0; i < CHURNERS; i++) {
        actor_new(&churn_plan, c);
    }
}

static const plan host_plan = {.begin = host_begin, .ready = host_ready, .note = host_note};

static void churn_make(void *arg)
{
    actor_new(&host_plan, arg);
}

static int open_descriptors(void)
{
    int n = 0;
#ifndef _WIN32
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d)) {
        n++;
    }
    if (d) {
        closedir(d);
    }
#endif
    return n;
}

Test(tcp_life, churn, .timeout = 120)
{
    churn first = {0};
    kit_run(2, 0, churn_make, &first);
    int before = open_descriptors();
    for (uint64_t seed = 0; seed < 8; seed++) {
        churn c = {0};
        kit_run(1 + (int)(seed % 3), seed, churn_make, &c);
    }
    cr_assert_eq(open_descriptors(), before);
    cr_assert_eq(requests, 0, "each was told, dropped or refused");
}

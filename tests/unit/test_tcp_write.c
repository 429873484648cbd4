/* Output of sockets: floods, limits, requests, writers in other contexts, resets. */
#include "net/tcp_impl.h"
#include "tcp_kit.h"

#ifndef _WIN32
#include <sys/socket.h>
#endif

/* --- Writing ---------------------------------------------------------------------------------- */

/* Much more than the kernel takes at once, to a peer that reads in fits and starts. */
enum { FLOOD = 3000 };

static void flood_note(actor *a, uint64_t n)
{
    if (n == FLOOD + 1) {
        cr_assert_eq(told_errors, 0);
        kit_close(a->conns);
        a->over = true;
    }
}

static void flood_ready(actor *a, conn *k)
{
    if (!nl_tcp_is_listener(k->tcp) || !(k = kit_accept(k))) {
        return;
    }
    static unsigned char bytes[60000];
    rng r = rng_seed(1);
    told_next = told_errors = 0;
    uint64_t sum = 0;
    cr_assert_eq(nl_tcp_write(k->tcp, NULL, 0, NULL, told_new(a, 0)), 0, "an empty write succeeds");
    for (uint32_t i = 0; i < FLOOD; i++) {
        uint32_t n = rng_below(&r, rng_below(&r, 2) ? 50 : sizeof(bytes) / SLOW);
        for (uint32_t j = 0; j < n; j++) {
            bytes[j] = (unsigned char)(sum + j);
        }
        sum += n;
        nl_buf b = nl_buf_empty();
        bool shared = rng_below(&r, 2) && n;
        if (shared) {
            cr_assert_eq(nl_buf_append(&b, bytes, n), 0);
        }
        nl_tcp_set_write_queue_max(k->tcp, 1u << 30);
        cr_assert_eq(nl_tcp_write(k->tcp, bytes, n, shared ? &b : NULL, told_new(a, i + 1)), 0);
        nl_buf_release(&b);
    }
    k->n = sum;
}

static void flood_peer(script *t)
{
    static unsigned char p[1 << 20];
    rng r = rng_seed(2);
    uint64_t sum = 0;
    nl_fd fd = peer_connect(t->port);
    for (;;) {
        int err;
        size_t n = peer_read(fd, p, 1 + rng_below(&r, sizeof(p)), &err);
        for (size_t i = 0; i < n; i++) {
            cr_assert_eq(p[i], (sum + i) & 0xff);
        }
        sum += n;
        if (n == 0) {
            cr_assert_eq(err, 0);
            break;
        }
        nap(rng_below(&r, 4) ? 0 : MS);
    }
    cr_assert_gt(sum, 1 << 20);
    nl_sock_close(fd);
}

Test(tcp_write, flood)
{
    for (uint64_t seed = 0; seed < 3; seed++) {
        play(&(script){.chaos = SLOW == 1 ? 0 : seed, .workers = (int)seed + 1},
             &(plan){.ready = flood_ready, .note = flood_note}, flood_peer);
    }
}

/* The limits of a write. */
static void limits_ready(actor *a, conn *k)
{
    script *t = a->arg;
    if (!nl_tcp_is_listener(k->tcp) || !(k = kit_accept(k))) {
        return;
    }
    static char big[70000];
    *nl_tcp_write_opt(k->tcp) = (nl_frame_opt){.head_bytes = 2};
    cr_assert_eq(nl_tcp_write(k->tcp, big, 65536, NULL, NULL), -NL_ETCPWRITELONG);
    *nl_tcp_write_opt(k->tcp) = (nl_frame_opt){.head_bytes = 2, .head_max = 10};
    cr_assert_eq(nl_tcp_write(k->tcp, big, 11, NULL, NULL), -NL_ETCPWRITELONG);
    cr_assert_eq(nl_tcp_write(k->tcp, "0123456789", 10, NULL, NULL), 0);
    cr_assert_eq(nl_tcp_write(k->tcp, "", 0, NULL, NULL), 0);
    *nl_tcp_write_opt(k->tcp) = (nl_frame_opt){0};
    cr_assert_eq(nl_tcp_write_queue_max(k->tcp), NL_TCP_WRITE_QUEUE_MAX);
    nl_tcp_set_write_queue_max(k->tcp, 1 << 20);
    int err;
    uint64_t sum = 0;
    while (!(err = nl_tcp_write(k->tcp, big, sizeof(big), NULL, NULL))) {
        sum += sizeof(big);
        cr_assert_lt(sum, 1u << 30);
    }
    cr_assert_eq(err, -NL_EWQUEUEFULL);
    cr_assert_eq(nl_tcp_write(k->tcp, "x", 1, NULL, NULL), -NL_EWQUEUEFULL);
    cr_assert_gt(sum, 1 << 20);
    kit_close(k);
    a->over = true;
    atomic_store(&t->stage, (int)(sum / sizeof(big)));
}

static void limits_peer(script *t)
{
    static char p[100000];
    int err;
    nl_fd fd = peer_connect(t->port);
    await(t, 1);
    cr_expect_eq(peer_read(fd, p, 14, &err), 14);
    cr_expect_eq(memcmp(p,
                        "\12\0"
                        "0123456789\0\0",
                        14),
                 0);
    size_t n, sum = 0;
    while ((n = peer_read(fd, p, sizeof(p), &err))) {
        sum += n;
    }
    cr_expect_eq(err, 0);
    cr_expect_eq(sum, (size_t)atomic_load(&t->stage) * 70000);
    nl_sock_close(fd);
}

Test(tcp_write, limits_of_a_write)
{
    play(&(script){0}, &(plan){.ready = limits_ready}, limits_peer);
}

/* --- Writing from other contexts -------------------------------------------------------------- */

enum { SHARERS = 4, RECORDS = 3000 / SLOW };

typedef struct sharing {
    script script; /* first */
    uint64_t id, owner;
    bool tight;
} sharing;

static void sharer_go(actor *a)
{
    sharing *sh = a->arg;
    unsigned char record[900];
    rng r = rng_seed(a->ctx.slot.id);
    while (a->n < RECORDS) {
        uint32_t n = rng_below(&r, 3) ? rng_below(&r, 100) : rng_below(&r, sizeof(record) - 8);
        uint32_t me = (uint32_t)a->ctx.slot.id, number = (uint32_t)a->n;
        memcpy(record, &me, 4);
        memcpy(record + 4, &number, 4);
        memset(record + 8, (int)(number & 0xff), n);
        int err = nl_tcp_write_shared(sh->id, a->ctx.slot.id, record, n + 8, NULL, NULL);
        if (err == -NL_EWQUEUEFULL) {
            break;
        }
        cr_assert_eq(err, 0);
        a->n++;
        if (nl_ctx_should_yield(&a->ctx) || rng_below(&r, 8) == 0) {
            break;
        }
    }
    if (a->n < RECORDS) {
        note_send(a->ctx.slot.id, 0);
    } else {
        note_send(sh->owner, 0);
        a->over = true;
    }
}

static void sharer_note(actor *a, uint64_t value)
{
    (void)value;
    sharer_go(a);
}

static const plan sharer_plan = {.begin = sharer_go, .note = sharer_note};

static void share_try(actor *a)
{
    /* Not shared yet, and ids that name nothing. */
    sharing *sh = a->arg;
    uint64_t me = a->ctx.slot.id;
    cr_assert_eq(nl_tcp_write_shared(sh->id, me, "x", 1, NULL, NULL), -NL_ETCPNOWSHARED);
    cr_assert_eq(nl_tcp_write_shared(sh->id + ((uint64_t)1 << 30), me, "x", 1, NULL, NULL), -NL_ETCPSCLOSED);
    cr_assert_eq(nl_tcp_write_shared(0, me, "x", 1, NULL, NULL), -NL_ETCPSCLOSED);
    cr_assert_eq(nl_tcp_owner(sh->id), sh->owner);
    cr_assert_eq(nl_tcp_owner(12345678), 0);
    note_send(sh->owner, 1);
    a->over = true;
}

static const plan try_plan = {.begin = share_try};

static void share_ready(actor *a, conn *k)
{
    sharing *sh = a->arg;
    if (!nl_tcp_is_listener(k->tcp) || !(k = kit_accept(k))) {
        return;
    }
    *nl_tcp_write_opt(k->tcp) = (nl_frame_opt){.head_bytes = 2};
    sh->id = nl_tcp_id(k->tcp);
    sh->owner = a->ctx.slot.id;
    a->n = (uintptr_t)k;
    cr_assert_eq(nl_tcp_write_shared(sh->id, sh->owner, "own", 3, NULL, NULL), 0, "the owner always may");
    actor_new(&try_plan, sh);
}

static void share_note(actor *a, uint64_t value)
{
    sharing *sh = a->arg;
    conn *k = (conn *)(uintptr_t)a->n;
    if (value == 1) {
        cr_assert_not(nl_tcp_wshared(k->tcp));
        nl_tcp_set_wshared(k->tcp, true);
        nl_tcp_set_write_queue_max(k->tcp, sh->tight ? 30000 : 100000);
#ifndef _WIN32
        if (sh->tight) { /* the kernel's buffer is full nearly all the time: many a WRITE edge may be missed */
            int few = 8192;
            setsockopt((int)k->tcp->fd, SOL_SOCKET, SO_SNDBUF, &few, sizeof(few));
            nl_tcp_nodelay(k->tcp, true);
        }
#endif
        for (int i = 0; i < SHARERS; i++) {
            actor_new(&sharer_plan, sh);
        }
    } else if (++k->n == SHARERS) {
        kit_close(k);
        cr_assert_eq(nl_tcp_write_shared(sh->id, sh->owner, "x", 1, NULL, NULL), -NL_ETCPSCLOSED);
        cr_assert_eq(nl_tcp_owner(sh->id), 0);
        a->over = true;
    }
}

static void share_peer(script *t)
{
    static unsigned char p[65536];
    uint32_t senders[SHARERS + 1] = {0}, next[SHARERS + 1] = {0};
    rng r = rng_seed(4);
    int err;
    nl_fd fd = peer_connect(t->port);
    cr_assert_eq(peer_read(fd, p, 5, &err), 5);
    for (int total = 0; total < SHARERS * RECORDS; total++) {
        uint16_t len;
        uint32_t who, number;
        cr_assert_eq(peer_read(fd, &len, 2, &err), 2, "err %d", err);
        cr_assert_geq(len, 8);
        cr_assert_leq(len, 900);
        cr_assert_eq(peer_read(fd, p, len, &err), len);
        memcpy(&who, p, 4);
        memcpy(&number, p + 4, 4);
        int i = 0;
        while (senders[i] && senders[i] != who) {
            i++;
        }
        cr_assert_lt(i, SHARERS);
        senders[i] = who;
        cr_assert_eq(number, next[i]);
        next[i]++;
        for (int j = 8; j < len; j++) {
            cr_assert_eq(p[j], number & 0xff);
        }
        if (rng_below(&r, 500) == 0) {
            nap(2 * MS); /* let it fill */
        }
    }
    cr_assert_eq(peer_read(fd, p, 1, &err), 0);
    cr_assert_eq(err, 0);
    nl_sock_close(fd);
}

Test(tcp_write, shared_writes)
{
    for (int workers = 1; workers <= 3; workers++) {
        for (uint64_t chaos = 0; chaos < 3; chaos++) {
            sharing sh = {.script = {.workers = workers, .chaos = chaos}};
            play(&sh.script, &(plan){.ready = share_ready, .note = share_note}, share_peer);
        }
        /* Not both: the many small segments of the short writes would fill the small buffer for seconds. */
        sharing sh = {.script = {.workers = workers}, .tight = true};
        play(&sh.script, &(plan){.ready = share_ready, .note = share_note}, share_peer);
    }
}

/* --- Resets ----------------------------------------------------------------------------------- */

#ifndef _WIN32
/* The peer resets the connection. */
static void reset_ready(actor *a, conn *k)
{
    if (nl_tcp_is_listener(k->tcp)) {
        if ((k = kit_accept(k))) {
            reset_ready(a, k);
        }
        return;
    }
    char text[100];
    int r;
    while ((r = take(k, text, sizeof(text))) == 1) {
        k->n += strlen(text);
    }
    if (r == NL_AGAIN) {
        return;
    }
    cr_assert_eq(k->n, 2, "what came before it is read first");
    cr_assert_eq(r, -ECONNRESET);
    cr_assert_eq(take(k, text, sizeof(text)), -ECONNRESET, "sticky");
    if (a->n) {
        return; /* a spurious call */
    }
    a->n = (uintptr_t)k;
    told_next = told_errors = 0;
    cr_assert_eq(nl_tcp_write(k->tcp, "anybody there?", 14, NULL, told_new(a, 0)), 0);
}

static void reset_note(actor *a, uint64_t n)
{
    conn *k = (conn *)(uintptr_t)a->n;
    cr_assert_eq(n, 1);
    cr_assert(told_error == EPIPE || told_error == ECONNRESET);
    int err = nl_tcp_write(k->tcp, "x", 1, NULL, NULL);
    cr_assert_eq(err, -told_error, "sticky");
    a->over = true;
}

static void reset_fd(nl_fd fd)
{
    setsockopt((int)fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
    nl_sock_close(fd);
}

static void reset_peer(script *t)
{
    nl_fd fd = peer_connect(t->port);
    peer_write(fd, "hi", 2);
    nap(20 * MS);
    reset_fd(fd);
}

Test(tcp_write, reset_while_reading)
{
    for (uint64_t seed = 0; seed < 5; seed++) {
        play(&(script){.chaos = seed}, &(plan){.ready = reset_ready, .note = reset_note}, reset_peer);
    }
}

/* A reset while output waits: requests end with it, and the reader hears of it too. */
static void reset2_ready(actor *a, conn *k)
{
    script *t = a->arg;
    if (nl_tcp_is_listener(k->tcp)) {
        if ((k = kit_accept(k))) {
            static char big[8 << 20];
            told_next = told_errors = 0;
            for (int i = 0; i < 5; i++) {
                cr_assert_eq(nl_tcp_write(k->tcp, big, sizeof(big), NULL, told_new(a, (uint64_t)i)), 0);
            }
            reset2_ready(a, k);
            atomic_store(&t->stage, 1);
        }
        return;
    }
    char text[100];
    int r = take(k, text, sizeof(text));
    if (r != NL_AGAIN) {
        cr_assert_eq(r, -ECONNRESET, "%d", r);
        k->m = 1;
        a->over = a->n == 5;
    }
}

static void reset2_note(actor *a, uint64_t n)
{
    a->n = n;
    conn *k = a->conns;
    while (nl_tcp_is_listener(k->tcp)) {
        k = k->next;
    }
    a->over = n == 5 && k->m;
    if (n == 5) {
        cr_assert(told_error == ECONNRESET || told_error == EPIPE); /* the reader may have been told first */
        cr_assert_geq(told_errors, 4);
    }
}

static void reset2_peer(script *t)
{
    nl_fd fd = peer_connect(t->port);
    await(t, 1);
    nap(20 * MS);
    reset_fd(fd);
}

Test(tcp_write, reset_while_output_waits)
{
    for (uint64_t seed = 0; seed < 5; seed++) {
        play(&(script){.chaos = seed}, &(plan){.ready = reset2_ready, .note = reset2_note}, reset2_peer);
    }
}
#endif

/* Sockets of contexts on the real scheduler: reading, framing, writing, sharing, connecting, accepting. */
#include "tcp_kit.h"

/* --- Echo ---------------------------------------------------------------------------------- */

typedef struct echo_case {
    nl_frame_opt opt;
    uint32_t longest; /* payload */
    int frames;       /* a connection */
    int window;       /* frames outstanding */
    int conns;
    bool blocks; /* nl_tcp_read_buf, and shared writes of what it gives */
    /* in between */
    int port;
    atomic_int left;
} echo_case;

/* 1: sent back; else what the read came to. */
static int echo_one(const echo_case *e, conn *k)
{
    const unsigned char *p;
    uint32_t n;
    if (!e->blocks) {
        int r = nl_tcp_read(k->tcp, &p, &n);
        if (r == 1) {
            cr_assert_eq(nl_tcp_write(k->tcp, p, n, NULL, NULL), 0);
        }
        return r;
    }
    nl_buf b = nl_buf_empty();
    int r = nl_tcp_read_buf(k->tcp, &p, &n, &b);
    if (r == 1) {
        cr_assert_eq(n > NL_TCP_BLOCK_MIN, b.block != NULL);
        cr_assert(b.block ? !p && b.len == n : p != NULL);
        cr_assert_eq(nl_tcp_write(k->tcp, p, n, b.block ? &b : NULL, NULL), 0);
        nl_buf_release(&b);
    }
    return r;
}

static void echo_ready(actor *a, conn *k)
{
    echo_case *e = a->arg;
    if (nl_tcp_is_listener(k->tcp)) {
        conn *fresh;
        while ((fresh = kit_accept(k))) {
            *nl_tcp_read_opt(fresh->tcp) = *nl_tcp_write_opt(fresh->tcp) = e->opt;
            nl_tcp_nodelay(fresh->tcp, true);
            echo_ready(a, fresh);
        }
        return;
    }
    int r;
    while ((r = echo_one(e, k)) == 1) {
    }
    if (r != NL_AGAIN) {
        cr_assert_eq(r, -NL_EEOF);
        const unsigned char *p;
        uint32_t n;
        cr_assert_eq(nl_tcp_read(k->tcp, &p, &n), -NL_EEOF, "sticky");
        kit_close(k);
        a->over = ++a->n == (uint64_t)e->conns;
    }
}

static void client_begin(actor *a);
static void client_ready(actor *a, conn *k);
static const plan client_plan = {.begin = client_begin, .ready = client_ready};

static void echo_begin(actor *a)
{
    echo_case *e = a->arg;
    kit_listen(a, &e->port);
    for (int i = 0; i < 2; i++) {
        actor_new(&client_plan, e);
    }
}

static const plan echo_plan = {.begin = echo_begin, .ready = echo_ready};

/* The i-th payload of connection k, the same for who sends and who checks. */
static uint32_t payload(const echo_case *e, const conn *k, uint64_t i, unsigned char *out)
{
    rng r = rng_seed((uintptr_t)k->data * 1000003 + i);
    uint32_t n = rng_below(&r, 3) ? rng_below(&r, 100) : rng_below(&r, e->longest + 1);
    n = n > e->longest ? e->longest : n;
    n = !e->opt.head_bytes && n == 0 ? 1 : n;
    unsigned char x = (unsigned char)rng_below(&r, 256);
    for (uint32_t j = 0; j < n; j++) {
        out[j] = x = (unsigned char)(x * 5 + 17);
    }
    return n;
}

typedef struct client {
    uintptr_t seed;
    bool connected;
    uint32_t part; /* unframed: bytes already seen of the next payload */
    unsigned char *buf;
} client;

static void client_send(echo_case *e, conn *k)
{
    while (k->n < (uint64_t)e->frames && k->n - k->m < (uint64_t)e->window) {
        unsigned char *buf = nl_malloc(e->longest + 1);
        uint32_t n = payload(e, k, k->n, buf);
        cr_assert_eq(nl_tcp_write(k->tcp, buf, n, NULL, NULL), 0);
        nl_free(buf);
        k->n++;
    }
}

static uint32_t client_part[64];

/* Compares what has come with what was sent. */
static void client_check(echo_case *e, conn *k, const unsigned char *p, uint32_t n)
{
    unsigned char *buf = nl_malloc(e->longest + 1);
    uint32_t *part = &client_part[(uintptr_t)k->data];
    do {
        cr_assert_lt(k->m, k->n, "more came than was sent");
        uint32_t len = payload(e, k, k->m, buf);
        if (e->opt.head_bytes) {
            cr_assert_eq(n, len, "frame %llu", (unsigned long long)k->m);
        }
        uint32_t some = len - *part < n ? len - *part : n;
        cr_assert_eq(memcmp(p, buf + *part, some), 0, "payload %llu", (unsigned long long)k->m);
        p += some;
        n -= some;
        *part += some;
        if (*part == len) {
            *part = 0;
            k->m++;
        }
    } while (n);
    nl_free(buf);
}

static void client_ready(actor *a, conn *k)
{
    echo_case *e = a->arg;
    int r = nl_tcp_connect_result(k->tcp);
    if (r == -EINPROGRESS) {
        return;
    }
    cr_assert_eq(r, 0);
    client_send(e, k);
    const unsigned char *p;
    uint32_t n;
    nl_buf b = nl_buf_empty();
    while ((r = nl_tcp_read_buf(k->tcp, &p, &n, &b)) == 1) {
        client_check(e, k, p ? p : nl_buf_data(&b), n);
        nl_buf_release(&b);
        if (k->m == (uint64_t)e->frames) {
            kit_close(k);
            a->over = !a->conns;
            return;
        }
        client_send(e, k);
    }
    cr_assert_eq(r, NL_AGAIN, "client reads: %d", r);
}

static void client_begin(actor *a)
{
    echo_case *e = a->arg;
    for (int i = 0; i < e->conns / 2; i++) {
        conn *k = kit_connect(a, e->port);
        k->data = (void *)(uintptr_t)atomic_fetch_add(&e->left, 1);
        client_part[(uintptr_t)k->data] = 0;
        *nl_tcp_read_opt(k->tcp) = *nl_tcp_write_opt(k->tcp) = e->opt;
        nl_tcp_nodelay(k->tcp, true);
        client_ready(a, k);
    }
}

static void echo_make(void *arg)
{
    actor_new(&echo_plan, arg);
}

static void echo(echo_case e, int workers, uint64_t chaos)
{
    kit_run(workers, chaos, echo_make, &e);
}

Test(tcp, echo_without_framing)
{
    for (int workers = 1; workers <= 3; workers++) {
        echo((echo_case){.longest = 3000, .frames = 2000 / SLOW, .window = 10, .conns = 8}, workers, 0);
    }
    echo((echo_case){.longest = 300000, .frames = 200 / SLOW, .window = 3, .conns = 4, .blocks = true}, 2, 0);
}

Test(tcp, echo_of_frames)
{
    for (int w = 0; w < 6; w++) {
        nl_frame_opt opt = {.head_bytes = (uint8_t)(1u << w / 2), .big_endian = w % 2};
        echo_case e = {
            .opt = opt, .longest = w < 2 ? 255 : 3000, .frames = 2000 / SLOW, .window = 16, .conns = 8};
        e.blocks = w % 2;
        echo(e, 1 + w % 3, 0);
    }
}

Test(tcp, echo_of_long_frames)
{
    nl_frame_opt opt = {.head_bytes = 4, .big_endian = true};
    echo_case e = {.opt = opt, .longest = 400000, .frames = 200 / SLOW, .window = 3, .conns = 4};
    echo(e, 1, 0);
    e.blocks = true;
    echo(e, 2, 0);
    e = (echo_case){
        .opt = opt, .longest = 3 << 20, .frames = 16 / SLOW, .window = 2, .conns = 2, .blocks = true};
    echo(e, 2, 0);
}

Test(tcp, echo_under_chaos)
{
    for (uint64_t seed = 1; seed <= 12; seed++) {
        nl_frame_opt opt = {.head_bytes = (uint8_t)(seed % 3 == 0 ? 0 : seed % 3 == 1 ? 2 : 4)};
        echo_case e = {.opt = opt, .longest = 3000, .frames = 400 / SLOW, .window = 8, .conns = 6};
        e.blocks = seed % 2;
        echo(e, 1 + (int)(seed % 3), seed * 7919);
        e.longest = opt.head_bytes == 2 ? 65535 : 100000;
        e.frames = 24 / SLOW;
        echo(e, 2, seed);
    }
}

/* --- One server, one peer with a script ---------------------------------------------------- */

typedef struct script {
    const plan *server;
    void (*peer)(struct script *t);
    int port;
    nl_thread *thread;
    int workers;
    uint64_t chaos;
    atomic_int stage; /* for the two to keep step */
} script;

static void script_peer(void *arg)
{
    script *t = arg;
    t->peer(t);
}

static void script_listen(actor *a)
{
    script *t = a->arg;
    kit_listen(a, &t->port);
    t->thread = peer_start(script_peer, t);
}

static void script_make(void *arg)
{
    script *t = arg;
    actor_new(t->server, t);
}

static int64_t play(script *t, const plan *server, void (*peer)(script *))
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

static void await(script *t, int stage)
{
    while (atomic_load(&t->stage) < stage) {
        nap(100000);
    }
}

/* Reads one piece into a string of the test's; the result of the read. */
static int take(conn *k, char *out, size_t size)
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

/* Options may change between reads; what has arrived already is cut by the new ones. */
static void options_ready(actor *a, conn *k)
{
    char text[100];
    if (nl_tcp_is_listener(k->tcp)) {
        if ((k = kit_accept(k))) {
            options_ready(a, k);
        }
        return;
    }
    int r;
    for (;;) {
        switch (k->n) {
        case 0: /* a line first, cut by hand: read one byte at a time with frames of 1 byte heads: "\5hello" */
            *nl_tcp_read_opt(k->tcp) = (nl_frame_opt){.head_bytes = 1};
            if ((r = take(k, text, sizeof(text))) == 1) {
                cr_assert_str_eq(text, "hello");
            }
            break;
        case 1:
            *nl_tcp_read_opt(k->tcp) = (nl_frame_opt){.head_bytes = 2, .big_endian = true};
            if ((r = take(k, text, sizeof(text))) == 1) {
                cr_assert_str_eq(text, "world!");
            }
            break;
        case 2: /* zero-length frames are frames */
            if ((r = take(k, text, sizeof(text))) == 1) {
                cr_assert_str_eq(text, "");
            }
            break;
        case 3: /* an incomplete frame stands there: as bytes it is all there */
            cr_assert_eq(take(k, text, sizeof(text)), NL_AGAIN);
            *nl_tcp_read_opt(k->tcp) = (nl_frame_opt){0};
            if ((r = take(k, text, sizeof(text))) == 1) {
                cr_assert_eq(memcmp(text, "\0\7bye", 5), 0);
                atomic_store(&((script *)a->arg)->stage, 1);
            }
            break;
        default:
            r = take(k, text, sizeof(text));
            cr_assert(r == NL_AGAIN || r == -NL_EEOF);
            if (r == -NL_EEOF) {
                a->over = true;
                return;
            }
        }
        if (r != 1) {
            cr_assert_eq(r, NL_AGAIN);
            return;
        }
        k->n++;
    }
}

static void options_peer(script *t)
{
    nl_fd fd = peer_connect(t->port);
    peer_write(fd, "\5hello\0\6world!\0\0\0\7bye", 21);
    char c;
    int err;
    await(t, 1);
    nl_sock_shutdown_write(fd);
    cr_assert_eq(peer_read(fd, &c, 1, &err), 0);
    cr_assert_eq(err, 0);
    nl_sock_close(fd);
}

Test(tcp, options_change_between_reads)
{
    play(&(script){.workers = 1}, &(plan){.ready = options_ready}, options_peer);
}

/* The end of the stream comes after the data; writing is still possible. */
static void eof_ready(actor *a, conn *k)
{
    char text[100];
    if (nl_tcp_is_listener(k->tcp)) {
        if ((k = kit_accept(k))) {
            eof_ready(a, k);
        }
        return;
    }
    int r;
    while ((r = take(k, text, sizeof(text))) == 1) {
        k->n += strlen(text);
    }
    if (r == -NL_EEOF) {
        cr_assert_eq(k->n, 11);
        cr_assert_eq(nl_tcp_write(k->tcp, "still here", 10, NULL, NULL), 0);
        kit_close(k);
        a->over = true;
    }
}

static void eof_peer(script *t)
{
    char text[20];
    int err;
    nl_fd fd = peer_connect(t->port);
    peer_write(fd, "last words.", 11);
    nl_sock_shutdown_write(fd);
    cr_assert_eq(peer_read(fd, text, sizeof(text), &err), 10);
    cr_assert_eq(err, 0);
    cr_assert_eq(memcmp(text, "still here", 10), 0);
    nl_sock_close(fd);
}

Test(tcp, end_of_stream_after_data)
{
    for (uint64_t seed = 0; seed < 10; seed++) {
        play(&(script){.chaos = seed}, &(plan){.ready = eof_ready}, eof_peer);
    }
}

/* A frame that is too long ends reading, sets nothing aside, and leaves writing alone. */
static void over_ready(actor *a, conn *k)
{
    char text[100];
    if (nl_tcp_is_listener(k->tcp)) {
        if ((k = kit_accept(k))) {
            *nl_tcp_read_opt(k->tcp) = (nl_frame_opt){.head_bytes = 4, .head_max = 1000};
            over_ready(a, k);
        }
        return;
    }
    int r;
    while ((r = take(k, text, sizeof(text))) == 1) {
        cr_assert_str_eq(text, "ok");
        k->n++;
    }
    if (r != NL_AGAIN) {
        cr_assert_eq(r, -NL_ETCPREADOVERFLOW);
        cr_assert_eq(k->n, 1);
        cr_assert_eq(take(k, text, sizeof(text)), -NL_ETCPREADOVERFLOW, "sticky");
        cr_assert_eq(nl_block_bytes(), 0);
        cr_assert_eq(nl_tcp_write(k->tcp, "too long", 8, NULL, NULL), 0);
        kit_close(k);
        a->over = true;
    }
}

static void over_peer(script *t)
{
    static char more[100000];
    char text[20];
    int err;
    nl_fd fd = peer_connect(t->port);
    peer_write(fd, "\2\0\0\0ok\351\3\0\0", 10);
    peer_write(fd, more, sizeof(more));
    nap(20 * MS);
    /* Unread input: were the descriptor just closed, a reset would destroy the answer. */
    peer_write(fd, more, sizeof(more));
    cr_assert_eq(peer_read(fd, text, sizeof(text), &err), 8, "err %d", err);
    cr_assert_eq(err, 0);
    cr_assert_eq(memcmp(text, "too long", 8), 0);
    nl_sock_close(fd);
}

Test(tcp, overflow)
{
    for (uint64_t seed = 0; seed < 4; seed++) {
        play(&(script){.chaos = seed}, &(plan){.ready = over_ready}, over_peer);
    }
}

/* A head that claims much costs what has arrived, not what it claims. */
static void claim_ready(actor *a, conn *k)
{
    char text[100];
    if (nl_tcp_is_listener(k->tcp)) {
        conn *fresh;
        while ((fresh = kit_accept(k))) {
            *nl_tcp_read_opt(fresh->tcp) = (nl_frame_opt){.head_bytes = 4, .big_endian = true};
            claim_ready(a, fresh);
        }
        return;
    }
    int r = take(k, text, sizeof(text));
    if (r == -NL_EEOF) {
        a->over = true;
        return;
    }
    cr_assert_eq(r, NL_AGAIN);
}

static void claim_peer(script *t)
{
    enum { N = 50 };
    static char part[3000];
    nl_fd fd[N];
    for (int i = 0; i < N; i++) {
        fd[i] = peer_connect(t->port);
        peer_write(fd[i], "\0\377\377\377abc", 7);
    }
    nap(100 * MS);
    cr_expect_leq(nl_block_bytes(), N * 8192);
    for (int i = 0; i < N; i++) {
        peer_write(fd[i], part, sizeof(part));
    }
    nap(100 * MS);
    cr_expect_geq(nl_block_bytes(), N * 3000);
    cr_expect_leq(nl_block_bytes(), N * 3 * 4096);
    for (int i = 0; i < N; i++) {
        nl_sock_close(fd[i]);
    }
}

Test(tcp, a_claimed_length_sets_nothing_aside)
{
    play(&(script){0}, &(plan){.ready = claim_ready}, claim_peer);
}

/* While nobody reads, nothing is received, and the peer has to wait. */
static void deaf_ready(actor *a, conn *k)
{
    script *t = a->arg;
    if (nl_tcp_is_listener(k->tcp)) {
        if ((k = kit_accept(k))) {
            a->arg = t;
            a->n = (uintptr_t)k;
            actor_after(a, 300 * MS);
        }
        return;
    }
    const unsigned char *p;
    uint32_t n;
    int r;
    while ((r = nl_tcp_read(k->tcp, &p, &n)) == 1) {
        k->n += n;
    }
    if (r != NL_AGAIN) {
        cr_assert_eq(r, -NL_EEOF);
        cr_assert_eq(k->n, 64u << 20);
        a->over = true;
    }
}

static void deaf_timer(actor *a)
{
    script *t = a->arg;
    conn *k = (conn *)(uintptr_t)a->n;
    cr_assert_eq(nl_block_bytes(), 0, "no input is kept");
    cr_assert_eq(atomic_load(&t->stage), 0, "the peer waits");
    deaf_ready(a, k);
}

static void deaf_peer(script *t)
{
    enum { N = 64 << 20 };
    char *p = nl_calloc(N);
    nl_fd fd = peer_connect(t->port);
    cr_expect_eq(peer_write(fd, p, N), N);
    atomic_store(&t->stage, 1);
    nl_sock_close(fd);
    nl_free(p);
}

Test(tcp, nothing_is_received_while_nobody_reads)
{
    play(&(script){0}, &(plan){.ready = deaf_ready, .timer = deaf_timer}, deaf_peer);
}

/* --- Writing ------------------------------------------------------------------------------- */

typedef struct told {
    nl_wreq req;
    uint64_t number;
} told;

static uint64_t told_next, told_errors;
static int told_error;

static void told_run(nl_ctx *c, nl_msg *m)
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

static void told_drop(nl_msg *m)
{
    told_next++;
    nl_free(nl_container_of(m, nl_wreq, msg));
}

static const nl_msg_ops told_ops = {told_run, told_drop};

static nl_wreq *told_new(actor *a, uint64_t number)
{
    told *w = nl_calloc(sizeof(*w));
    w->req.msg.ops = &told_ops;
    w->req.ctx = a->ctx.slot.id;
    w->number = number;
    return &w->req;
}

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

Test(tcp, flood)
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

Test(tcp, limits_of_a_write)
{
    play(&(script){0}, &(plan){.ready = limits_ready}, limits_peer);
}

/* --- Writing from other contexts ----------------------------------------------------------- */

enum { SHARERS = 4, RECORDS = 3000 / SLOW };

typedef struct sharing {
    script script; /* first */
    uint64_t id, owner;
    atomic_int writers;
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
        nl_tcp_set_write_queue_max(k->tcp, 100000); /* the rest of the time the kernel's buffer is full */
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

Test(tcp, shared_writes)
{
    for (int workers = 1; workers <= 3; workers++) {
        for (uint64_t chaos = 0; chaos < 4; chaos++) {
            sharing sh = {.script = {.workers = workers, .chaos = chaos}};
            play(&sh.script, &(plan){.ready = share_ready, .note = share_note}, share_peer);
        }
    }
}

/* --- Connecting, accepting ----------------------------------------------------------------- */

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

Test(tcp, connect_refused)
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

Test(tcp, connect_given_up)
{
    told_next = told_errors = 0;
    play(&(script){0}, &(plan){.begin = give_up_begin}, NULL);
    cr_assert_eq(told_next, 20, "each is told or dropped");
}

#ifndef _WIN32
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

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
    cr_assert_eq(nl_sock_listen(&scarce_hold, &(nl_addr){0}, NULL) == 0, false);
    int hold = dup(2), peer = dup(2); /* the one that is given free later, and the peer's */
    scarce_hold = hold;
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){(rlim_t)peer + 1, 20000});
    close(peer);
    t->thread = peer_start(script_peer, t);
}

Test(tcp, accept_pauses_when_descriptors_run_out)
{
    script t = {.workers = 1};
    struct rlimit old;
    getrlimit(RLIMIT_NOFILE, &old);
    int64_t took = play(&t, &(plan){.begin = scarce_begin, .ready = scarce_ready}, scarce_peer);
    cr_assert_geq(took, 280 * MS, "three pauses, not a busy loop");
    setrlimit(RLIMIT_NOFILE, &old);
}

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
        cr_assert_str_eq(text, "hi");
    }
    if (r == NL_AGAIN) {
        return;
    }
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

Test(tcp, reset_while_reading)
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

Test(tcp, reset_while_output_waits)
{
    for (uint64_t seed = 0; seed < 5; seed++) {
        play(&(script){.chaos = seed}, &(plan){.ready = reset2_ready, .note = reset2_note}, reset2_peer);
    }
}
#endif

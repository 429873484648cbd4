/* Input of sockets, on the real scheduler: echoes of every kind, framing, limits, back pressure. */
#include "tcp_kit.h"

/* --- Echo ------------------------------------------------------------------------------------- */

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
    while (nl_block_bytes() < (uint64_t)7 * N) {
        nap(MS);
    }
    cr_expect_leq(nl_block_bytes(), (uint64_t)8192 * N);
    for (int i = 0; i < N; i++) {
        peer_write(fd[i], part, sizeof(part));
    }
    while (nl_block_bytes() < (uint64_t)3000 * N) {
        nap(MS);
    }
    cr_expect_leq(nl_block_bytes(), (uint64_t)12288 * N);
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

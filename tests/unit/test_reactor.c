/* The reactor's contract: readiness, attach and detach, many sockets. */
#include "base/alloc.h"
#include "reactor_kit.h"

#include <stdlib.h>
#include <sys/resource.h>

/* --- Readiness --------------------------------------------------------------------------- */

RTest(fresh_socket_is_writable_once)
{
    nl_fd a, b;
    pair(&a, &b);
    cr_assert_eq(nl_reactor_attach(r, a, 5), 0);
    expect(5, NL_EV_WRITE);
    if (exact()) {
        expect_nothing();
    }
    nl_reactor_detach(r, a, 5);
    nl_sock_close(a);
    nl_sock_close(b);
}

RTest(read_edges)
{
    nl_fd a, b;
    pair(&a, &b);
    cr_assert_eq(nl_reactor_attach(r, a, 5), 0);
    expect(5, NL_EV_WRITE);
    put(b, "one");
    expect(5, NL_EV_READ);
    if (exact()) {
        expect_nothing(); /* not drained, and yet no second edge for the same bytes */
    }
    cr_assert_eq(drain(a), 3);
    cr_assert_eq(nl_reactor_arm_read(r, a, 5), 0);
    for (int i = 0; i < 100; i++) {
        put(b, "again");
        expect(5, NL_EV_READ);
        cr_assert_eq(drain(a), 5);
        cr_assert_eq(nl_reactor_arm_read(r, a, 5), 0);
    }
    if (exact()) {
        expect_nothing();
    }
    nl_sock_close(a);
    nl_sock_close(b);
}

RTest(bytes_that_were_there_before_attach)
{
    nl_fd a, b;
    pair(&a, &b);
    put(b, "early");
    cr_assert_eq(nl_reactor_attach(r, a, 5), 0);
    expect(5, NL_EV_READ | NL_EV_WRITE);
    nl_sock_close(a);
    nl_sock_close(b);
}

RTest(end_of_stream)
{
    nl_fd c, s;
    tcp_pair(&c, &s);
    cr_assert_eq(nl_reactor_attach(r, c, 5), 0);
    put(s, "last words");
    cr_assert_eq(nl_sock_shutdown_write(s), 0);
    expect(5, NL_EV_READ | NL_EV_HUP);
    char buf[64];
    cr_assert_eq(nl_sock_read(c, buf, sizeof(buf)), 10);
    cr_assert_eq(nl_sock_read(c, buf, sizeof(buf)), 0);
    put(c, "still writable");
    nl_sock_close(c);
    nl_sock_close(s);
}

RTest(no_hup_before_the_end)
{
    nl_fd c, s;
    nl_event ev[4];
    unsigned seen = 0;
    tcp_pair(&c, &s);
    cr_assert_eq(nl_reactor_attach(r, c, 5), 0);
    put(s, "x");
    while (!(seen & NL_EV_READ)) {
        int n = nl_reactor_poll(r, ev, 4, -1);
        for (int i = 0; i < n; i++) {
            seen |= ev[i].events;
        }
    }
    cr_assert_eq(seen & NL_EV_HUP, 0u);
    nl_sock_close(c);
    nl_sock_close(s);
}

RTest(reset)
{
    nl_fd c, s;
    struct linger hard = {1, 0};
    char buf[8];
    tcp_pair(&c, &s);
    cr_assert_eq(nl_reactor_attach(r, c, 5), 0);
    setsockopt((int)s, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    nl_sock_close(s);
    expect(5, NL_EV_READ | NL_EV_WRITE | NL_EV_HUP);
    cr_assert_eq(nl_sock_read(c, buf, sizeof(buf)), -ECONNRESET);
    nl_sock_close(c);
}

RTest(room_in_a_full_send_buffer)
{
    static char block[65536];
    nl_fd c, s;
    uint64_t sent = 0, got = 0;
    intptr_t n;
    tcp_pair(&c, &s);
    cr_assert_eq(nl_reactor_attach(r, c, 5), 0);
    expect(5, NL_EV_WRITE);
    for (int round = 0; round < 5; round++) {
        while ((n = nl_sock_write(c, block, sizeof(block))) > 0) {
            sent += (uint64_t)n;
        }
        cr_assert_eq(n, NL_AGAIN);
        cr_assert_eq(nl_reactor_arm_write(r, c, 5), 0);
        for (;;) { /* the peer reads until there is room, however much that takes */
            nl_event ev;
            int m = nl_reactor_poll(r, &ev, 1, 0);
            if (m == 1 && ev.tag == 5 && (ev.events & NL_EV_WRITE)) {
                break;
            }
            n = nl_sock_read(s, block, sizeof(block));
            cr_assert(n > 0 || n == NL_AGAIN);
            got += n > 0 ? (uint64_t)n : 0;
            cr_assert_leq(got, sent);
        }
        n = nl_sock_write(c, block, sizeof(block));
        cr_assert_gt(n, 0, "reported writable, but it is not");
        sent += (uint64_t)n;
    }
    nl_sock_close(c);
    nl_sock_close(s);
}

RTest(listener)
{
    nl_addr a;
    nl_fd l = listen_tcp(&a), c[3], s;
    cr_assert_eq(nl_reactor_attach(r, l, 9), 0);
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 3; i++) {
            int err = nl_sock_connect(&c[i], &a);
            cr_assert(err == 0 || err == -EINPROGRESS);
        }
        for (int taken = 0; taken < 3;) {
            expect(9, NL_EV_READ);
            while (nl_sock_accept(&s, l, NULL) == 0) {
                taken++;
                nl_sock_close(s);
            }
            cr_assert_eq(nl_reactor_arm_read(r, l, 9), 0);
        }
        for (int i = 0; i < 3; i++) {
            nl_sock_close(c[i]);
        }
    }
    nl_sock_close(l);
}

RTest(connect_succeeds)
{
    nl_addr a;
    nl_fd l = listen_tcp(&a), c;
    int err = nl_sock_connect(&c, &a);
    cr_assert(err == 0 || err == -EINPROGRESS);
    cr_assert_eq(nl_reactor_attach(r, c, 5), 0);
    expect(5, NL_EV_WRITE);
    cr_assert_eq(nl_sock_connect_result(c), 0);
    nl_sock_close(c);
    nl_sock_close(l);
}

RTest(connect_is_refused)
{
    nl_addr a;
    nl_fd blocker = socket(AF_INET, SOCK_STREAM, 0), c;
    cr_assert_eq(nl_addr_ip(&a, 4, "127.0.0.1", 0), 0);
    cr_assert_eq(bind((int)blocker, (struct sockaddr *)(void *)a.u.bytes, a.len), 0);
    cr_assert_eq(nl_sock_local(blocker, &a), 0);
    int err = nl_sock_connect(&c, &a);
    if (err == -EINPROGRESS) {
        cr_assert_eq(nl_reactor_attach(r, c, 5), 0);
        expect(5, NL_EV_WRITE);
        err = nl_sock_connect_result(c);
        nl_sock_close(c);
    }
    cr_assert_eq(err, -ECONNREFUSED);
    nl_sock_close(blocker);
}

/* --- Attach and detach ------------------------------------------------------------------- */

RTest(detached_is_silent_and_can_come_back)
{
    nl_fd a, b;
    pair(&a, &b);
    cr_assert_eq(nl_reactor_attach(r, a, 5), 0);
    nl_reactor_detach(r, a, 5);
    put(b, "unheard");
    expect_nothing();
    cr_assert_eq(nl_reactor_attach(r, a, 6), 0);
    expect(6, NL_EV_READ | NL_EV_WRITE);
    nl_reactor_detach(r, a, 6);
    nl_sock_close(a);
    nl_sock_close(b);
}

RTest(detached_is_silent_though_a_duplicate_lives)
{
    nl_fd a, b;
    pair(&a, &b);
    int twin = dup((int)a);
    cr_assert_eq(nl_reactor_attach(r, a, 5), 0);
    expect(5, NL_EV_WRITE);
    nl_reactor_detach(r, a, 5);
    nl_sock_close(a);
    put(b, "for the twin");
    expect_nothing();
    close(twin);
    nl_sock_close(b);
}

RTest(a_descriptor_used_again_has_its_new_tag)
{
    for (uint64_t tag = 1; tag < 50; tag++) {
        nl_fd a, b;
        pair(&a, &b); /* the same two numbers each time */
        cr_assert_eq(nl_reactor_attach(r, a, tag), 0);
        put(b, "x");
        expect(tag, NL_EV_READ | NL_EV_WRITE);
        put(b, "y"); /* an edge that nobody has harvested when the descriptor goes */
        nl_reactor_detach(r, a, tag);
        nl_sock_close(a);
        nl_sock_close(b);
    }
}

RTest(tags_are_whole)
{
    nl_fd a, b;
    pair(&a, &b);
    cr_assert_eq(nl_reactor_attach(r, a, UINT64_MAX), 0);
    cr_assert_eq(nl_reactor_attach(r, b, (UINT64_C(1) << 53) - 1), 0);
    uint64_t sum = 0;
    for (int got = 0; got < 2;) {
        nl_event ev[2];
        int n = nl_reactor_poll(r, ev, 2, -1);
        for (int i = 0; i < n; i++) {
            sum ^= ev[i].tag;
        }
        got += n;
    }
    cr_assert_eq(sum, UINT64_MAX ^ ((UINT64_C(1) << 53) - 1));
    nl_sock_close(a);
    nl_sock_close(b);
}

RTest(attach_errors)
{
    nl_fd a, b;
    pair(&a, &b);
    cr_assert_eq(nl_reactor_attach(r, NL_FD_NONE, 5), -EBADF);
    nl_sock_close(a);
    cr_assert_eq(nl_reactor_attach(r, a, 5), -EBADF);
    if (exact()) {
        cr_assert_eq(nl_reactor_attach(r, b, 5), 0);
        cr_assert_eq(nl_reactor_attach(r, b, 6), -EEXIST);
    }
    nl_sock_close(b);
}

RTest(tag_0_is_refused, .signal = SIGABRT)
{
    nl_fd a, b;
    pair(&a, &b);
    nl_reactor_attach(r, a, 0);
}

/* --- Many -------------------------------------------------------------------------------- */

RTest(one_event_at_a_time_reaches_all)
{
    enum { N = 20 };
    nl_fd a[N], b[N];
    bool seen[N] = {false};
    for (int i = 0; i < N; i++) {
        pair(&a[i], &b[i]);
        cr_assert_eq(nl_reactor_attach(r, a[i], (uint64_t)i + 1), 0);
    }
    for (int left = N; left > 0;) {
        nl_event ev;
        cr_assert_eq(nl_reactor_poll(r, &ev, 1, -1), 1);
        if (!seen[ev.tag - 1]) {
            seen[ev.tag - 1] = true;
            left--;
        }
    }
    for (int i = 0; i < N; i++) {
        nl_sock_close(a[i]);
        nl_sock_close(b[i]);
    }
}

/* Writes a byte to every step-th pair and waits until exactly these have been reported readable. */
static void poke(nl_fd *a, nl_fd *b, int n, int step)
{
    char *seen = nl_calloc((size_t)n);
    int left = 0;
    for (int i = 0; i < n; i += step) {
        put(b[i], "x");
        left++;
    }
    while (left > 0) {
        nl_event ev[64];
        int got = nl_reactor_poll(r, ev, 64, -1);
        cr_assert_geq(got, 0);
        for (int k = 0; k < got; k++) {
            int i = (int)(ev[k].tag - 1000);
            cr_assert(i >= 0 && i < n);
            if (!(ev[k].events & NL_EV_READ)) {
                continue;
            }
            int bytes = drain(a[i]);
            if (exact()) {
                cr_assert_eq(bytes, 1, "socket %d", i);
            }
            if (bytes == 1) {
                cr_assert_eq(i % step, 0, "socket %d got nothing", i);
                cr_assert_not(seen[i]);
                seen[i] = 1;
                left--;
            }
            cr_assert_eq(nl_reactor_arm_read(r, a[i], ev[k].tag), 0);
        }
    }
    nl_free(seen);
}

RTest(thousands_of_sockets)
{
    struct rlimit lim;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &lim), 0);
    int n = lim.rlim_cur > 10100 ? 5000 : (int)(lim.rlim_cur - 100) / 2;
    nl_fd *a = nl_malloc((size_t)n * sizeof(*a)), *b = nl_malloc((size_t)n * sizeof(*b));
    for (int i = 0; i < n; i++) {
        pair(&a[i], &b[i]);
        cr_assert_eq(nl_reactor_attach(r, a[i], 1000 + (uint64_t)i), 0);
    }
    static const int steps[] = {1, 7, 1, 1000, 3};
    for (size_t i = 0; i < nl_countof(steps); i++) {
        poke(a, b, n, steps[i]);
    }
    if (exact()) {
        expect_nothing();
    }
    for (int i = 0; i < n; i++) {
        nl_reactor_detach(r, a[i], 1000 + (uint64_t)i);
        nl_sock_close(a[i]);
        nl_sock_close(b[i]);
    }
    expect_nothing();
    nl_free(a);
    nl_free(b);
}

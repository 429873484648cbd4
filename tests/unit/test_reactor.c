/* The reactor's contract: readiness, attach and detach, many sockets. */
#include "base/alloc.h"
#include "reactor_kit.h"

#include <stdlib.h>

/* --- Readiness -------------------------------------------------------------------------------- */

RTest(room_is_reported_once)
{
    nl_fd a, b;
    pair(&a, &b);
    watch(a, 5);
    expect(5, NL_EV_WRITE);
    settle(0);
    done(a, 5, b);
}

RTest(read_edges)
{
    nl_fd a, b;
    pair(&a, &b);
    watch(a, 5);
    expect(5, NL_EV_WRITE);
    put(b, "one");
    expect(5, NL_EV_READ);
    settle(0); /* not drained, and yet the same bytes are not reported for ever */
    cr_assert_eq(drain(a), 3);
    cr_assert_eq(nl_reactor_arm_read(r, a, 5), 0);
    for (int i = 0; i < 100; i++) {
        put(b, "again");
        expect(5, NL_EV_READ);
        cr_assert_eq(drain(a), 5);
        cr_assert_eq(nl_reactor_arm_read(r, a, 5), 0);
    }
    settle(0);
    done(a, 5, b);
}

RTest(what_comes_before_the_arming_is_reported)
{
    nl_fd a, b;
    pair(&a, &b);
    watch(a, 5);
    expect(5, NL_EV_WRITE);
    settle(0);
    for (int i = 0; i < 100; i++) {
        put(b, "x");
        expect(5, NL_EV_READ);
        cr_assert_eq(drain(a), 1);
        put(b, "y"); /* after NL_AGAIN, before the arming */
        cr_assert_eq(nl_reactor_arm_read(r, a, 5), 0);
        expect(5, NL_EV_READ);
        cr_assert_eq(drain(a), 1);
        cr_assert_eq(nl_reactor_arm_read(r, a, 5), 0);
    }
    done(a, 5, b);
}

RTest(armed_twice_is_armed_once)
{
    nl_fd a, b;
    pair(&a, &b);
    watch(a, 5);
    for (int i = 0; i < 10; i++) {
        cr_assert_eq(nl_reactor_arm_read(r, a, 5), 0);
        cr_assert_eq(nl_reactor_arm_write(r, a, 5), 0);
    }
    put(b, "x");
    expect(5, NL_EV_READ | NL_EV_WRITE);
    settle(0);
    done(a, 5, b);
}

RTest(bytes_that_were_there_before_attach)
{
    nl_fd a, b;
    pair(&a, &b);
    put(b, "early");
    watch(a, 5);
    expect(5, NL_EV_READ | NL_EV_WRITE);
    done(a, 5, b);
}

/* Reads to the end of the stream as the contract says: a short count is as good as NL_AGAIN, unless HUP was reported. */
static int read_to_end(nl_fd fd, uint64_t tag)
{
    char buf[64];
    unsigned seen = 0;
    for (int total = 0;;) {
        nl_event ev;
        cr_assert_eq(nl_reactor_poll(r, &ev, 1, -1), 1);
        cr_assert_eq(ev.tag, tag);
        seen |= ev.events;
        intptr_t n = ev.events & NL_EV_READ ? (intptr_t)sizeof(buf) : 0;
        while (n == sizeof(buf) || (n > 0 && seen & NL_EV_HUP)) {
            n = nl_sock_read(fd, buf, sizeof(buf));
            cr_assert(n >= 0 || n == NL_AGAIN);
            if (n == 0) {
                return total;
            }
            total += n > 0 ? (int)n : 0;
        }
        if (ev.events & NL_EV_READ) {
            cr_assert_eq(nl_reactor_arm_read(r, fd, tag), 0);
        }
    }
}

RTest(end_of_stream)
{
    for (int late = 0; late <= 1; late++) {
        nl_fd c, s;
        tcp_pair(&c, &s);
        watch(c, 5);
        put(s, "last words");
        if (late) { /* the end comes alone */
            expect(5, NL_EV_READ);
            cr_assert_eq(drain(c), 10);
            cr_assert_eq(nl_reactor_arm_read(r, c, 5), 0);
        }
        cr_assert_eq(nl_sock_shutdown_write(s), 0);
        cr_assert_eq(read_to_end(c, 5), late ? 0 : 10);
        put(c, "still writable");
        done(c, 5, s);
    }
}

RTest(no_hup_before_the_end)
{
    nl_fd c, s;
    nl_event ev[4];
    unsigned seen = 0;
    tcp_pair(&c, &s);
    watch(c, 5);
    cr_assert_eq(nl_sock_shutdown_write(c), 0); /* this end, not the peer */
    put(s, "x");
    for (int n = 1; n > 0 || !(seen & NL_EV_READ);) {
        n = nl_reactor_poll(r, ev, 4, seen & NL_EV_READ ? 0 : -1);
        for (int i = 0; i < n; i++) {
            seen |= ev[i].events;
        }
    }
    cr_assert_eq(seen & NL_EV_HUP, 0u);
    done(c, 5, s);
}

RTest(reset)
{
    nl_fd c, s;
    char buf[8];
    tcp_pair(&c, &s);
    watch(c, 5);
    nl_sock_reset(s);
    nl_sock_close(s);
    expect(5, NL_EV_READ | NL_EV_WRITE | NL_EV_HUP);
    cr_assert_eq(nl_sock_read(c, buf, sizeof(buf)), -ECONNRESET);
    gone(c, 5);
}

RTest(room_in_a_full_send_buffer)
{
    static char block[65536];
    nl_fd c, s;
    uint64_t sent = 0, got = 0;
    intptr_t n;
    tcp_pair(&c, &s);
    watch(c, 5);
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
            if (m == 1 && (ev.events & NL_EV_WRITE)) {
                if ((n = nl_sock_write(c, block, sizeof(block))) > 0) {
                    break;
                }
                cr_assert_eq(n, NL_AGAIN);
                cr_assert_eq(nl_reactor_arm_write(r, c, 5), 0);
            }
            n = nl_sock_read(s, block, sizeof(block));
            cr_assert(n > 0 || n == NL_AGAIN);
            got += n > 0 ? (uint64_t)n : 0;
            cr_assert_leq(got, sent);
        }
        sent += (uint64_t)n;
    }
    done(c, 5, s);
}

/* A pipe, as standard input may be one: its end is told, whether it comes before the attach or after. */
RTest(end_of_a_pipe)
{
    POSIX_ONLY("a pipe of the C library is no handle for overlapped calls");
#ifndef _WIN32
    for (int early = 0; early <= 1; early++) {
        int fd[2];
        cr_assert_eq(pipe(fd), 0);
        cr_assert_eq(write(fd[1], "x", 1), 1);
        if (early) {
            close(fd[1]);
        }
        cr_assert_eq(nl_reactor_attach(r, fd[0], 5), 0);
        if (!early) {
            expect(5, NL_EV_READ);
            close(fd[1]);
            cr_assert_eq(nl_reactor_arm_read(r, fd[0], 5), 0);
        }
        expect(5, NL_EV_READ | NL_EV_HUP);
        gone(fd[0], 5);
    }
#endif
}

RTest(a_writer_without_room_hears_of_a_reset)
{
    nl_fd c, s;
    tcp_pair(&c, &s);
    cr_assert_eq(nl_reactor_attach(r, c, 5), 0);
    fill(c);
    cr_assert_eq(nl_reactor_arm_write(r, c, 5), 0);
    nl_sock_reset(s);
    nl_sock_close(s);
    expect(5, NL_EV_WRITE);
    cr_assert_lt(nl_sock_write(c, "x", 1), 0);
    gone(c, 5);
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
    gone(l, 9);
}

RTest(connect_succeeds)
{
    nl_addr a;
    nl_fd l = listen_tcp(&a), c;
    int err = nl_sock_connect(&c, &a);
    cr_assert(err == 0 || err == -EINPROGRESS);
    watch(c, 5);
    expect(5, NL_EV_WRITE);
    cr_assert_eq(nl_sock_connect_result(c), 0);
    cr_assert_eq(nl_reactor_arm_read(r, c, 5), 0);
    nl_fd s;
    cr_assert_eq(accept_wait(&s, l, NULL), 0);
    put(s, "x");
    expect(5, NL_EV_READ);
    cr_assert_eq(drain(c), 1);
    nl_sock_close(s);
    done(c, 5, l);
}

RTest(connect_is_refused)
{
    nl_addr a;
    nl_fd c;
    raw_socket blocker = blocked_port(&a);
    int err = nl_sock_connect(&c, &a);
    if (err == -EINPROGRESS) {
        watch(c, 5);
        expect(5, NL_EV_WRITE);
        err = nl_sock_connect_result(c);
        gone(c, 5);
    }
    cr_assert_eq(err, -ECONNREFUSED);
    raw_close(blocker);
}

RTest(connect_is_refused_later)
{
    /* Nobody answers once the backlog is full; when the listener has gone, the next try is refused. */
    nl_addr a;
    struct nl_listen_opts o = {1, false};
    nl_fd l, c[16];
    int n = 0, err = 0;
    cr_assert_eq(nl_addr_ip(&a, 4, "127.0.0.1", 0), 0);
    cr_assert_eq(nl_sock_listen(&l, &a, &o), 0);
    cr_assert_eq(nl_sock_local(l, &a), 0);
    while (n < 16 && err == 0) {
        err = nl_sock_connect(&c[n], &a);
        err = err == -EINPROGRESS ? nl_sock_connect_result(c[n]) : err;
        n++;
    }
    if (err != -EINPROGRESS) {
        cr_skip_test("the system answers when the backlog is full, too: %d", err);
    }
    cr_assert_eq(nl_reactor_attach(r, c[n - 1], 5), 0);
    while (err == -EINPROGRESS) {
        cr_assert_eq(nl_reactor_arm_write(r, c[n - 1], 5), 0);
        if (l != NL_FD_NONE) {
            nl_sock_close(l);
            l = NL_FD_NONE;
        }
        expect(5, NL_EV_WRITE);
        err = nl_sock_connect_result(c[n - 1]);
    }
    cr_assert_eq(err, -ECONNREFUSED);
    gone(c[n - 1], 5);
    while (--n > 0) {
        nl_sock_close(c[n - 1]);
    }
}

/* --- Attach and detach ------------------------------------------------------------------------ */

RTest(detached_is_silent_and_can_come_back)
{
    nl_fd a, b;
    pair(&a, &b);
    watch(a, 5);
    nl_reactor_detach(r, a, 5);
    put(b, "unheard");
    settle(5);
    watch(a, 6);
    expect(6, NL_EV_READ | NL_EV_WRITE);
    nl_reactor_detach(r, a, 6);
    done(a, 6, b);
}

RTest(arming_under_an_old_tag_does_nothing)
{
    nl_fd a, b;
    pair(&a, &b);
    watch(a, 5);
    nl_reactor_detach(r, a, 5);
    cr_assert_eq(nl_reactor_arm_read(r, a, 5), 0);
    cr_assert_eq(nl_reactor_arm_write(r, a, 5), 0);
    put(b, "x");
    settle(5);
    watch(a, 6);
    cr_assert_eq(nl_reactor_arm_read(r, a, 5), 0);
    expect(6, NL_EV_READ | NL_EV_WRITE);
    done(a, 6, b);
}

RTest(detached_is_silent_though_a_duplicate_lives)
{
    POSIX_ONLY("a reactor of another process cannot report a duplicate");
#ifndef _WIN32
    nl_fd a, b;
    pair(&a, &b);
    int twin = dup((int)a);
    watch(a, 5);
    expect(5, NL_EV_WRITE);
    gone(a, 5);
    put(b, "for the twin");
    settle(5);
    close(twin);
    nl_sock_close(b);
#endif
}

/* A system that has closed its end answers what comes with a reset. */
static void expect_closed(nl_fd peer)
{
    intptr_t n;
    while ((n = nl_sock_write(peer, "x", 1)) > 0 || n == NL_AGAIN) {
        settle(5); /* the back end may close with the last packet of a cancelled request */
        nl_thread_yield();
    }
}

RTest(closed_after_detach_is_closed)
{
    for (int full = 0; full <= 1; full++) {
        nl_fd c, s;
        tcp_pair(&c, &s);
        cr_assert_eq(nl_reactor_attach(r, c, 5), 0);
        if (full) { /* WRITE is armed and not ready, too */
            fill(c);
            cr_assert_eq(nl_reactor_arm_write(r, c, 5), 0);
        }
        gone(c, 5);
        expect_closed(s);
        nl_sock_close(s);
    }
}

/* In step: the test says which round, the thread arms in it and says so. */
static nl_fd arming;
static atomic_int arm_round, armed_round;

static void armer(void *arg)
{
    for (int round = 1; round <= *(int *)arg; round++) {
        while (atomic_load(&arm_round) < round) {
            nl_cpu_relax();
        }
        nl_reactor_arm_read(r, arming, 5);
        atomic_store(&armed_round, round);
    }
}

RTest(detached_while_another_thread_arms)
{
    enum { N = 300 };
    nl_thread *t;
    nl_fd peer[N];
    int rounds = N, first = 0;
    cr_assert_eq(nl_thread_start(&t, "armer", armer, &rounds), 0);
    for (int i = 0; i < N; i++) {
        tcp_pair(&arming, &peer[i]);
        cr_assert_eq(nl_reactor_attach(r, arming, 5), 0);
        put(peer[i], "x");
        expect(5, NL_EV_READ);
        cr_assert_eq(drain(arming), 1);
        atomic_store(&arm_round, i + 1);
        for (int k = 0; k < i % 32 * 64; k++) {
            nl_cpu_relax();
        }
        nl_reactor_detach(r, arming, 5);
        while (atomic_load(&armed_round) <= i) {
            nl_thread_yield();
        }
        nl_sock_close(arming);
        settle(5);
        first = i ? first : open_handles();
    }
    while (open_handles() >=
           first + N) { /* what is open beside the peers, which are silent, was so at first */
        settle(5);
    }
    nl_thread_join(t);
    for (int i = 0; i < N; i++) {
        nl_sock_close(peer[i]);
    }
}

RTest(a_descriptor_used_again_has_its_new_tag)
{
    for (uint64_t tag = 1; tag < 50; tag++) {
        nl_fd a, b;
        pair(&a, &b); /* the same two numbers each time */
        watch(a, tag);
        put(b, "x");
        expect(tag, NL_EV_READ | NL_EV_WRITE);
        put(b, "y"); /* an edge that nobody has harvested when the descriptor goes */
        done(a, tag, b);
    }
}

RTest(tags_are_whole)
{
    nl_fd a, b;
    pair(&a, &b);
    watch(a, UINT64_MAX);
    watch(b, (UINT64_C(1) << 53) - 1);
    for (int seen = 0; seen != 3;) {
        nl_event ev[2];
        int n = nl_reactor_poll(r, ev, 2, -1);
        for (int i = 0; i < n; i++) {
            seen |= ev[i].tag == UINT64_MAX ? 1 : ev[i].tag == (UINT64_C(1) << 53) - 1 ? 2 : 4;
        }
    }
    gone(a, UINT64_MAX);
    gone(b, (UINT64_C(1) << 53) - 1);
}

RTest(attach_errors)
{
    cr_assert_eq(nl_reactor_attach(r, NL_FD_NONE, 5), -EBADF);
    POSIX_ONLY("a closed descriptor is memory that is free again");
    nl_fd a, b;
    pair(&a, &b);
    nl_sock_close(a);
    cr_assert_eq(nl_reactor_attach(r, a, 5), -EBADF);
    nl_sock_close(b);
}

RTest(tag_0_is_refused, .signal = SIGABRT)
{
    nl_fd a, b;
    pair(&a, &b);
    nl_reactor_attach(r, a, 0);
}

#ifdef _WIN32 /* each end is a TCP socket, and may be one of wine's */
#define MANY 1000
#else
#define MANY 5000
#endif

/* --- Many ------------------------------------------------------------------------------------- */

RTest(one_event_at_a_time_reaches_all)
{
    enum { N = 20 };
    nl_fd a[N], b[N];
    bool seen[N] = {false};
    for (int i = 0; i < N; i++) {
        pair(&a[i], &b[i]);
        watch(a[i], (uint64_t)i + 1);
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
        gone(a[i], (uint64_t)i + 1);
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
    int64_t limit = nl_sock_limit();
    int n = limit > 2 * MANY + 100 ? MANY : (int)(limit - 100) / 2;
    nl_fd *a = nl_malloc((size_t)n * sizeof(*a)), *b = nl_malloc((size_t)n * sizeof(*b));
    for (int i = 0; i < n; i++) {
        pair(&a[i], &b[i]);
        cr_assert_eq(nl_reactor_attach(r, a[i], 1000 + (uint64_t)i), 0);
    }
    static const int steps[] = {1, 7, 1, 1000, 3};
    for (size_t i = 0; i < nl_countof(steps); i++) {
        poke(a, b, n, steps[i]);
    }
    settle(0);
    for (int i = 0; i < n; i++) {
        done(a[i], 1000 + (uint64_t)i, b[i]);
    }
    settle(1000);
    nl_free(a);
    nl_free(b);
}

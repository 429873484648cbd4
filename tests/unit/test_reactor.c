/*
 * The reactor's contract, with real sockets.  Where only the edge-triggered back end that
 * never reports twice is meant, the test asks for it by name (exact()).
 */
#include "base/alloc.h"
#include "base/os.h"
#include "reactor/reactor.h"
#include "rng.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#ifdef __linux__
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#endif

#define MS ((int64_t)1000000)

static nl_reactor *r;

static void setup(void)
{
    cr_assert_eq(nl_sock_init(), 0);
    cr_assert_eq(nl_reactor_new(&r), 0);
}

static void teardown(void)
{
    nl_reactor_free(r);
}

#define RTest(name, ...) Test(reactor, name, .init = setup, .fini = teardown, .timeout = 60, ##__VA_ARGS__)

/* Whether this back end reports each edge exactly once. */
static bool exact(void)
{
    return strcmp(nl_reactor_backend(), "epoll") == 0;
}

/* A connection over the loopback, both ends non-blocking. */
static void pair(nl_fd *a, nl_fd *b)
{
    int fd[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    *a = fd[0];
    *b = fd[1];
}

static nl_fd listen_tcp(nl_addr *a)
{
    static const struct nl_listen_opts o = {0, false};
    nl_fd l;
    cr_assert_eq(nl_addr_ip(a, 4, "127.0.0.1", 0), 0);
    cr_assert_eq(nl_sock_listen(&l, a, &o), 0);
    cr_assert_eq(nl_sock_local(l, a), 0);
    return l;
}

static void tcp_pair(nl_fd *c, nl_fd *s)
{
    nl_addr a;
    nl_fd l = listen_tcp(&a);
    int err = nl_sock_connect(c, &a);
    cr_assert(err == 0 || err == -EINPROGRESS);
    while ((err = nl_sock_accept(s, l)) == NL_AGAIN) {
        nl_thread_yield();
    }
    cr_assert_eq(err, 0);
    while ((err = nl_sock_connect_result(*c)) == -EINPROGRESS) {
        nl_thread_yield();
    }
    cr_assert_eq(err, 0);
    nl_sock_close(l);
}

static void put(nl_fd fd, const char *text)
{
    cr_assert_eq(nl_sock_write(fd, text, strlen(text)), (intptr_t)strlen(text));
}

/* Reads until the socket is empty; returns the number of bytes, or -1 at the end of the stream. */
static int drain(nl_fd fd)
{
    char buf[4096];
    int total = 0;
    intptr_t n;
    while ((n = nl_sock_read(fd, buf, sizeof(buf))) > 0) {
        total += (int)n;
    }
    return n == 0 ? -1 : total;
}

/* Polls until all wanted events of tag have been reported, and fails at those of another tag. */
static void expect(uint64_t tag, unsigned wanted)
{
    unsigned got = 0;
    while ((got & wanted) != wanted) {
        nl_event ev[8];
        int n = nl_reactor_poll(r, ev, 8, -1);
        for (int i = 0; i < n; i++) {
            cr_assert_eq(ev[i].tag, tag, "an event for %d, waiting for %d", (int)ev[i].tag, (int)tag);
            got |= ev[i].events;
        }
    }
}

/* Nothing is ready now. */
static void expect_nothing(void)
{
    nl_event ev;
    int n = nl_reactor_poll(r, &ev, 1, 0);
    cr_assert_eq(n, 0, "tag %d: events %x", (int)ev.tag, ev.events);
}

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
            while (nl_sock_accept(&s, l) == 0) {
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

/* --- Time-outs --------------------------------------------------------------------------- */

static void never_early(void)
{
    static const int64_t timeouts[] = {1, 999, 1000, 50000, 999999, 1000000, 1000001, 3500000, 20 * MS};
    for (size_t i = 0; i < nl_countof(timeouts); i++) {
        for (int k = 0; k < 10; k++) {
            nl_event ev;
            int64_t start = nl_now_ns();
            cr_assert_eq(nl_reactor_poll(r, &ev, 1, timeouts[i]), 0);
            int64_t took = nl_now_ns() - start;
            cr_assert_geq(took, timeouts[i], "%lld ns early", (long long)(timeouts[i] - took));
        }
    }
}

RTest(timeouts_never_early)
{
    never_early();
}

RTest(longest_timeout_is_for_ever)
{
    nl_event ev;
    nl_reactor_wake(r);
    cr_assert_eq(nl_reactor_poll(r, &ev, 1, INT64_MAX), 0);
    nl_fd a, b;
    pair(&a, &b);
    cr_assert_eq(nl_reactor_attach(r, a, 5), 0);
    cr_assert_eq(nl_reactor_poll(r, &ev, 1, INT64_MAX), 1);
    nl_sock_close(a);
    nl_sock_close(b);
}

#ifdef __linux__

/* As on a kernel without epoll_pwait2, or in a container that does not let it through. */
static void without_pwait2(int error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_epoll_pwait2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = {nl_countof(code), code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) != 0 ||
        syscall(SYS_epoll_pwait2, -1, NULL, 0, NULL, NULL, (size_t)0) != -1 || errno != error) {
        cr_skip_test("seccomp filters do not work here");
    }
    never_early();
    nl_fd a, b;
    pair(&a, &b);
    cr_assert_eq(nl_reactor_attach(r, a, 5), 0);
    nl_event ev;
    cr_assert_eq(nl_reactor_poll(r, &ev, 1, 3600 * 1000 * MS), 1);
    cr_assert_eq(ev.tag, 5);
    nl_sock_close(a);
    nl_sock_close(b);
}

RTest(timeouts_without_epoll_pwait2)
{
    without_pwait2(ENOSYS);
}

RTest(timeouts_with_epoll_pwait2_forbidden)
{
    without_pwait2(EPERM);
}

static atomic_int interrupts;
static atomic_bool poll_over;
static pthread_t poller;

static void count_interrupt(int sig)
{
    (void)sig;
    atomic_fetch_add(&interrupts, 1);
}

static void interrupt(void *arg)
{
    (void)arg;
    while (!atomic_load(&poll_over)) {
        pthread_kill(poller, SIGUSR1);
        usleep(500);
    }
}

RTest(signals_do_not_shorten_a_timeout)
{
    nl_event ev;
    nl_thread *t;
    struct sigaction sa;
    memset(&sa, 0, sizeof(sa));
    sa.sa_handler = count_interrupt;
    cr_assert_eq(sigaction(SIGUSR1, &sa, NULL), 0);
    poller = pthread_self();
    cr_assert_eq(nl_thread_start(&t, "interrupt", interrupt, NULL), 0);
    do { /* until a poll was interrupted for certain */
        int64_t start = nl_now_ns();
        cr_assert_eq(nl_reactor_poll(r, &ev, 1, 30 * MS), 0);
        cr_assert_geq(nl_now_ns() - start, 30 * MS);
    } while (atomic_load(&interrupts) < 3);
    atomic_store(&poll_over, true);
    nl_thread_join(t);
}

#endif

/* --- Waking ------------------------------------------------------------------------------ */

RTest(a_wake_before_the_poll_counts_once)
{
    nl_event ev;
    for (int i = 0; i < 100; i++) {
        nl_reactor_wake(r);
        nl_reactor_wake(r);
        nl_reactor_wake(r);
        cr_assert_eq(nl_reactor_poll(r, &ev, 1, -1), 0);
        int64_t start = nl_now_ns();
        cr_assert_eq(nl_reactor_poll(r, &ev, 1, 100000), 0);
        cr_assert_geq(nl_now_ns() - start, 100000, "woken twice for one wake");
    }
}

RTest(a_wake_does_not_hide_events)
{
    nl_fd a, b;
    pair(&a, &b);
    cr_assert_eq(nl_reactor_attach(r, a, 5), 0);
    for (int max = 1; max <= 2; max++) {
        put(b, "x");
        nl_reactor_wake(r);
        expect(5, NL_EV_READ);
        cr_assert_leq(drain(a), 1);
        cr_assert_eq(nl_reactor_arm_read(r, a, 5), 0);
    }
    nl_sock_close(a);
    nl_sock_close(b);
}

RTest(events_do_not_hide_a_wake)
{
    enum { N = 10 };
    nl_fd a[N], b[N];
    for (int i = 0; i < N; i++) {
        pair(&a[i], &b[i]);
        cr_assert_eq(nl_reactor_attach(r, a[i], (uint64_t)i + 1), 0);
    }
    nl_reactor_wake(r);
    int returns_of_0 = 0;
    while (returns_of_0 == 0) { /* -1: it would hang if the wake were lost among the events */
        nl_event ev;
        returns_of_0 += nl_reactor_poll(r, &ev, 1, -1) == 0;
    }
    for (int i = 0; i < N; i++) {
        nl_sock_close(a[i]);
        nl_sock_close(b[i]);
    }
}

static void wake_it(int sig)
{
    (void)sig;
    nl_reactor_wake(r);
}

RTest(wake_from_a_signal_handler)
{
    nl_event ev;
    signal(SIGUSR1, wake_it);
    raise(SIGUSR1);
    cr_assert_eq(nl_reactor_poll(r, &ev, 1, -1), 0);
}

#define WAKES RNG_ROUNDS(50000, 5000)

/*
 * Posts without any order of their own (relaxed), each followed by a wake: the poll that
 * answers must see them all.  A lost wake-up leaves the last post unseen and the poller
 * asleep for ever: the test's time limit says so.
 */
enum { WAKERS = 3 };
static atomic_uint posted[WAKERS];

static void waker(void *arg)
{
    rng g = rng_seed((uint64_t)(uintptr_t)arg);
    for (int i = 0; i < WAKES; i++) {
        atomic_fetch_add_explicit(&posted[(uintptr_t)arg], 1, memory_order_relaxed);
        nl_reactor_wake(r);
        if (rng_below(&g, 8) == 0) {
            nl_thread_yield();
        }
    }
}

RTest(no_wake_is_lost)
{
    nl_thread *t[WAKERS];
    for (uintptr_t i = 0; i < WAKERS; i++) {
        cr_assert_eq(nl_thread_start(&t[i], "waker", waker, (void *)i), 0);
    }
    for (;;) {
        unsigned sum = 0;
        for (int i = 0; i < WAKERS; i++) {
            sum += atomic_load_explicit(&posted[i], memory_order_relaxed);
        }
        if (sum == WAKERS * WAKES) {
            break;
        }
        nl_event ev;
        cr_assert_eq(nl_reactor_poll(r, &ev, 1, -1), 0);
    }
    for (int i = 0; i < WAKERS; i++) {
        nl_thread_join(t[i]);
    }
}

/* To and fro between two reactors, each thread asleep until the other wakes it. */
static nl_reactor *other;
static atomic_int ball;

static void play(nl_reactor *mine, nl_reactor *theirs, int side, int rounds)
{
    nl_event ev;
    for (int i = 0; i < rounds; i++) {
        while (atomic_load_explicit(&ball, memory_order_relaxed) % 2 != side) {
            nl_reactor_poll(mine, &ev, 1, -1);
        }
        atomic_fetch_add_explicit(&ball, 1, memory_order_relaxed);
        nl_reactor_wake(theirs);
    }
}

static void player(void *arg)
{
    (void)arg;
    play(other, r, 1, WAKES / 5);
}

RTest(two_threads_wake_each_other)
{
    nl_thread *t;
    cr_assert_eq(nl_reactor_new(&other), 0);
    cr_assert_eq(nl_thread_start(&t, "player", player, NULL), 0);
    play(r, other, 0, WAKES / 5);
    nl_thread_join(t);
    cr_assert_eq(ball, 2 * (WAKES / 5));
    nl_reactor_free(other);
}

/* --- Attach and detach from another thread, while the poller waits ----------------------- */

static atomic_bool changed_all;

static void changer(void *arg)
{
    (void)arg;
    for (uint64_t tag = 1; tag <= 300; tag++) {
        nl_fd a, b;
        pair(&a, &b);
        if (nl_reactor_attach(r, a, tag) != 0) {
            abort();
        }
        put(b, "x");
        nl_thread_yield();
        nl_reactor_detach(r, a, tag);
        nl_sock_close(a);
        nl_sock_close(b);
    }
    nl_fd a, b;
    pair(&a, &b); /* stays: its event must come */
    if (nl_reactor_attach(r, a, 1000) != 0) {
        abort();
    }
    atomic_store(&changed_all, true);
}

RTest(attach_and_detach_while_polling)
{
    nl_thread *t;
    bool last = false;
    cr_assert_eq(nl_thread_start(&t, "changer", changer, NULL), 0);
    while (!last) {
        nl_event ev[4];
        int n = nl_reactor_poll(r, ev, 4, -1);
        cr_assert_geq(n, 0);
        for (int i = 0; i < n; i++) {
            cr_assert((ev[i].tag >= 1 && ev[i].tag <= 300) || ev[i].tag == 1000);
            last |= ev[i].tag == 1000;
        }
    }
    nl_thread_join(t);
    cr_assert(changed_all);
}

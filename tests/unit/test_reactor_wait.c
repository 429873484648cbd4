/* The reactor's contract: time-outs, wake-ups, changes while another thread polls. */
#include "rng.h"

#include "reactor_kit.h"

#include <stdlib.h>
#include <time.h>
#ifdef __linux__
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#endif

/* --- Time-outs -------------------------------------------------------------------------------- */

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

RTest(what_was_detached_does_not_shorten_a_timeout)
{
    nl_fd a, b;
    pair(&a, &b);
    for (int i = 0; i < 20; i++) {
        nl_event ev;
        watch(a, 5);
        nl_reactor_detach(r, a, 5);
        int64_t start = nl_now_ns();
        cr_assert_eq(nl_reactor_poll(r, &ev, 1, 5 * MS), 0);
        cr_assert_geq(nl_now_ns() - start, 5 * MS);
    }
    done(a, 5, b);
}

RTest(a_wait_sleeps)
{
#ifdef _WIN32
    POSIX_ONLY("the processor time of a thread is asked by clock_gettime");
#else
    nl_event ev;
    struct timespec before, after;
    cr_assert_eq(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before), 0);
    cr_assert_eq(nl_reactor_poll(r, &ev, 1, 600 * MS), 0);
    cr_assert_eq(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after), 0);
    int64_t used = (after.tv_sec - before.tv_sec) * 1000 * MS + after.tv_nsec - before.tv_nsec;
    cr_assert_lt(used, 50 * MS, "it has looked again and again");
#endif
}

/* A writer that waits for room sleeps.  What the system takes meanwhile is filled again. */
RTest(no_room_is_no_event)
{
    nl_fd c, s;
    nl_event ev[8];
    int n;
    tcp_pair(&c, &s);
    cr_assert_eq(nl_reactor_attach(r, c, 5), 0);
    for (int rounds = 0;; rounds++) {
        fill(c);
        cr_assert_eq(nl_reactor_arm_write(r, c, 5), 0);
        n = nl_reactor_poll(r, ev, 8, 50 * MS);
        if (n == 0) {
            break;
        }
        cr_assert_lt(rounds, 1000, "events without end: %x", ev[0].events);
    }
    done(c, 5, s);
}

RTest(longest_timeout_is_for_ever)
{
    nl_event ev;
    nl_reactor_wake(r);
    cr_assert_eq(nl_reactor_poll(r, &ev, 1, INT64_MAX), 0);
    nl_fd a, b;
    pair(&a, &b);
    watch(a, 5);
    cr_assert_eq(nl_reactor_poll(r, &ev, 1, INT64_MAX), 1);
    done(a, 5, b);
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
    watch(a, 5);
    nl_event ev;
    cr_assert_eq(nl_reactor_poll(r, &ev, 1, 3600 * 1000 * MS), 1);
    cr_assert_eq(ev.tag, 5);
    done(a, 5, b);
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

/* --- Waking ----------------------------------------------------------------------------------- */

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
    done(a, 5, b);
}

static void wake_it(int sig)
{
    (void)sig;
    nl_reactor_wake(r);
}

RTest(wake_from_a_signal_handler)
{
    nl_event ev;
    signal(SIGTERM, wake_it);
    raise(SIGTERM);
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
static nl_fd noise[2]; /* a connection whose events come between the wakes */

static void waker(void *arg)
{
    rng g = rng_seed((uint64_t)(uintptr_t)arg);
    for (int i = 0; i < WAKES; i++) {
        atomic_fetch_add_explicit(&posted[(uintptr_t)arg], 1, memory_order_relaxed);
        nl_reactor_wake(r);
        if (rng_below(&g, 8) == 0) {
            nl_sock_write(noise[1], "x", 1);
            nl_thread_yield();
        }
    }
}

RTest(no_wake_is_lost)
{
    nl_thread *t[WAKERS];
    pair(&noise[0], &noise[1]);
    cr_assert_eq(nl_reactor_attach(r, noise[0], 5), 0);
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
        if (nl_reactor_poll(r, &ev, 1, -1) == 1 && ev.events & NL_EV_READ) {
            cr_assert_geq(drain(noise[0]), 0);
            cr_assert_eq(nl_reactor_arm_read(r, noise[0], 5), 0);
        }
    }
    for (int i = 0; i < WAKERS; i++) {
        nl_thread_join(t[i]);
    }
    done(noise[0], 5, noise[1]);
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

/* --- Attach and detach from another thread, while the poller waits ---------------------------- */

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
        done(a, tag, b);
    }
    nl_fd a, b;
    pair(&a, &b); /* stays: its event must come */
    put(b, "x");
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

/* --- Another thread sleeps in the poll -------------------------------------------------------- */

static atomic_int events_seen;
static atomic_bool enough;

static void sleeper(void *arg)
{
    (void)arg;
    while (!atomic_load(&enough)) {
        nl_event ev[4];
        int n = nl_reactor_poll(r, ev, 4, -1);
        for (int i = 0; i < n; i++) {
            atomic_fetch_add(&events_seen, ev[i].events & NL_EV_READ ? 1 : 0);
        }
    }
}

static nl_thread *start_sleeper(void)
{
    nl_thread *t;
    cr_assert_eq(nl_thread_start(&t, "sleeper", sleeper, NULL), 0);
    return t;
}

static void stop_sleeper(nl_thread *t)
{
    atomic_store(&enough, true);
    nl_reactor_wake(r);
    nl_thread_join(t);
}

RTest(armed_while_another_thread_polls)
{
    nl_thread *t = start_sleeper();
    nl_fd a, b;
    pair(&a, &b);
    cr_assert_eq(nl_reactor_attach(r, a, 5), 0);
    for (int i = 0; i < 500; i++) {
        int before = atomic_load(&events_seen);
        put(b, "x");
        while (atomic_load(&events_seen) == before) {
            nl_thread_yield();
        }
        cr_assert_eq(drain(a), 1);
        cr_assert_eq(nl_reactor_arm_read(r, a, 5), 0);
    }
    stop_sleeper(t);
    done(a, 5, b);
}

RTest(a_close_after_detach_takes_effect_at_once)
{
    nl_thread *t = start_sleeper();
    nl_addr a;
    nl_fd l = listen_tcp(&a);
    for (int i = 0; i < 200; i++) {
        static const struct nl_listen_opts o = {0, false};
        cr_assert_eq(nl_reactor_attach(r, l, 7), 0);
        nl_thread_yield();
        gone(l, 7);
        cr_assert_eq(nl_sock_listen(&l, &a, &o), 0, "the port is not free");
    }
    stop_sleeper(t);
    nl_sock_close(l);
}

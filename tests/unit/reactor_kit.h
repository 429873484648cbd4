/* What the tests of the reactor's contract share: a reactor for each test, and real connections. */
#ifndef REACTOR_KIT_H
#define REACTOR_KIT_H

#include "base/os.h"
#include "base/process.h"
#include "reactor/reactor.h"
#include "reactor/sock.h"
#include "sock_kit.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

#define MS ((int64_t)1000000)

static nl_reactor *r;

static inline void setup(void)
{
    nl_process_init();
    cr_assert_eq(nl_reactor_new(&r), 0);
}

static inline void teardown(void)
{
    nl_reactor_free(r);
}

#define RTest(name, ...) Test(reactor, name, .init = setup, .fini = teardown, .timeout = 60, ##__VA_ARGS__)

static inline nl_fd listen_tcp(nl_addr *a)
{
    static const struct nl_listen_opts o = {0, false};
    nl_fd l;
    cr_assert_eq(nl_addr_ip(a, 4, "127.0.0.1", 0), 0);
    cr_assert_eq(nl_sock_listen(&l, a, &o), 0);
    cr_assert_eq(nl_sock_local(l, a), 0);
    return l;
}

static inline void tcp_pair(nl_fd *c, nl_fd *s)
{
    nl_addr a;
    nl_fd l = listen_tcp(&a);
    int err = nl_sock_connect(c, &a);
    cr_assert_eq(accept_wait(s, l, NULL), 0);
    cr_assert_eq(connect_wait(*c, err), 0);
    nl_sock_close(l);
}

/* A connection within this machine, both ends non-blocking: the cheapest that the system has. */
static inline void pair(nl_fd *a, nl_fd *b)
{
#ifdef _WIN32
    tcp_pair(a, b);
#else
    int fd[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(fcntl(fd[i], F_SETFL, O_NONBLOCK), 0);
    }
    *a = fd[0];
    *b = fd[1];
#endif
}

/* Watches both directions, as for a socket that has output to send. */
static inline void watch(nl_fd fd, uint64_t tag)
{
    cr_assert_eq(nl_reactor_attach(r, fd, tag), 0);
    cr_assert_eq(nl_reactor_arm_write(r, fd, tag), 0);
}

static inline void put(nl_fd fd, const char *text)
{
    cr_assert_eq(nl_sock_write(fd, text, strlen(text)), (intptr_t)strlen(text));
}

/* Writes until there is no room; the number of bytes. */
static inline uint64_t fill(nl_fd fd)
{
    static char block[65536];
    uint64_t sent = 0;
    intptr_t n;
    while ((n = nl_sock_write(fd, block, sizeof(block))) > 0) {
        sent += (uint64_t)n;
    }
    cr_assert_eq(n, NL_AGAIN);
    return sent;
}

/* Reads until the socket is empty; returns the number of bytes, or -1 at the end of the stream. */
static inline int drain(nl_fd fd)
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
static inline void expect(uint64_t tag, unsigned wanted)
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

/* Detached before it is closed, as the contract asks. */
static inline void gone(nl_fd fd, uint64_t tag)
{
    nl_reactor_detach(r, fd, tag);
    nl_sock_close(fd);
}

/* The end of a test: a is watched, b is its peer. */
static inline void done(nl_fd a, uint64_t tag, nl_fd b)
{
    gone(a, tag);
    nl_sock_close(b);
}

/* Without a change and without arming, events come to an end, spurious ones too; none is of tag. */
static inline void settle(uint64_t tag)
{
    for (int rounds = 0;; rounds++) {
        nl_event ev[8];
        int n = nl_reactor_poll(r, ev, 8, 0);
        if (n == 0) {
            return;
        }
        cr_assert_lt(rounds, 1000, "no end of events: tag %d, events %x", (int)ev[0].tag, ev[0].events);
        for (int i = 0; i < n; i++) {
            cr_assert_neq(ev[i].tag, tag, "an event of a detached socket: %x", ev[i].events);
        }
    }
}

#endif

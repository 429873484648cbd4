/* Named pipes, which stand for Unix sockets on Windows. */
#include "reactor_kit.h"

#include <stdio.h>

static const struct nl_listen_opts no_opts = {0, false};

static nl_fd listener(const nl_addr *a)
{
    nl_fd l;
    cr_assert_eq(nl_sock_listen(&l, a, &no_opts), 0);
    return l;
}

static nl_fd connected(const nl_addr *a)
{
    nl_fd c;
    cr_assert_eq(nl_sock_connect(&c, a), 0);
    return c;
}

static nl_fd accepted(nl_fd l)
{
    nl_fd s;
    cr_assert_eq(accept_wait(&s, l, NULL), 0);
    return s;
}

static nl_addr pipe_addr(void)
{
    char name[64];
    nl_addr a;
    snprintf(name, sizeof(name), "\\\\.\\pipe\\nl-test-%lu", GetCurrentProcessId());
    cr_assert_eq(nl_addr_unix(&a, name), 0);
    return a;
}

/* Writes n bytes of a pattern that begins with from. */
static void pipe_put(nl_fd fd, unsigned from, size_t n)
{
    unsigned char buf[1000];
    while (n > 0) {
        size_t some = n < sizeof(buf) ? n : sizeof(buf);
        for (size_t i = 0; i < some; i++) {
            buf[i] = (unsigned char)((from + i) % 251);
        }
        intptr_t put = nl_sock_write(fd, buf, some);
        cr_assert(put == NL_AGAIN || put > 0, "%d", (int)put);
        if (put > 0) {
            from += (unsigned)put;
            n -= (size_t)put;
        } else {
            nl_thread_yield();
        }
    }
}

/* Reads n bytes of it. */
static void pipe_get(nl_fd fd, unsigned from, size_t n)
{
    unsigned char buf[777];
    while (n > 0) {
        intptr_t got = read_wait(fd, buf, n < sizeof(buf) ? n : sizeof(buf));
        cr_assert_gt(got, 0);
        for (intptr_t i = 0; i < got; i++) {
            cr_assert_eq(buf[i], (from + (unsigned)i) % 251);
        }
        from += (unsigned)got;
        n -= (size_t)got;
    }
}

static void pipe_writer(void *arg)
{
    pipe_put(*(nl_fd *)arg, 0, 1000000);
}

Test(pipe, talk, .timeout = 60)
{
    nl_addr a = pipe_addr(), there;
    char buf[8], text[128], name[128];
    nl_fd l = listener(&a), s;
    cr_assert_eq(nl_sock_accept(&s, l, NULL), NL_AGAIN);
    cr_assert_eq(s, NL_FD_NONE);
    nl_fd c = connected(&a);
    cr_assert_eq(accept_wait(&s, l, &there), 0);
    nl_addr_text(&there, text, sizeof(text));
    cr_assert_str_eq(text, "", "a client has no name");
    cr_assert_eq(nl_sock_remote(c, &there), 0);
    nl_addr_text(&there, text, sizeof(text));
    nl_addr_text(&a, name, sizeof(name));
    cr_assert_str_eq(text, name);
    cr_assert_eq(nl_sock_nodelay(c, true), 0);
    check_flags(c);
    check_flags(s);

    cr_assert_eq(nl_sock_read(s, buf, sizeof(buf)), NL_AGAIN);
    char one[] = "ga", two[] = "", three[] = "thered";
    nl_iov iov[] = {{one, 2}, {two, 0}, {three, 6}};
    cr_assert_eq(nl_sock_writev(c, iov, 3), 8);
    cr_assert_eq(read_wait(s, buf, 3), 3);
    cr_assert_arr_eq(buf, "gat", 3);
    cr_assert_eq(read_wait(s, buf, sizeof(buf)), 5);
    cr_assert_arr_eq(buf, "hered", 5);

    /* More than it holds, in both directions. */
    for (int i = 0; i < 2; i++) {
        nl_thread *t;
        nl_fd from = i ? s : c;
        cr_assert_eq(nl_thread_start(&t, "writer", pipe_writer, &from), 0);
        pipe_get(i ? c : s, 0, 1000000);
        nl_thread_join(t);
    }
    /* What was written before the close arrives, then the end of the stream. */
    cr_assert_eq(nl_sock_write(s, "last", 4), 4);
    cr_assert_eq(nl_sock_shutdown_write(s), -EOPNOTSUPP, "the close is the end of the output");
    nl_sock_close(s);
    cr_assert_eq(read_wait(c, buf, sizeof(buf)), 4);
    cr_assert_eq(read_wait(c, buf, sizeof(buf)), 0);
    cr_assert_eq(nl_sock_write(c, "x", 1), -EPIPE);
    nl_sock_close(c);
    nl_sock_close(l);
}

Test(pipe, backlog, .timeout = 60)
{
    nl_addr a = pipe_addr();
    nl_fd l = listener(&a), c[64], s;
    int n = 0, err;
    char buf[4];
    while (n < 64 && (err = nl_sock_connect(&c[n], &a)) == 0) {
        cr_assert_eq(nl_sock_write(c[n], "hi", 2), 2);
        n++;
    }
    cr_assert(n >= 4 && n < 64, "%d connected before one was accepted", n);
    cr_assert_eq(err, NL_AGAIN, "as a full backlog");
    nl_sock_close(c[0]); /* has come and gone: what it said is read all the same */
    for (int i = 0; i < n; i++) {
        cr_assert_eq(nl_sock_accept(&s, l, NULL), 0);
        cr_assert_eq(nl_sock_read(s, buf, sizeof(buf)), 2);
        nl_sock_close(s);
    }
    cr_assert_eq(nl_sock_accept(&s, l, NULL), NL_AGAIN);
    cr_assert_eq(nl_sock_connect(&c[0], &a), 0, "others have taken the places");
    nl_sock_close(l);
    cr_assert_eq(read_wait(c[0], buf, sizeof(buf)), 0, "never accepted");
    for (int i = 0; i < n; i++) {
        nl_sock_close(c[i]);
    }
}

Test(pipe, name_in_use, .timeout = 60)
{
    nl_addr a = pipe_addr(), same;
    char name[128];
    nl_fd l = listener(&a), second;
    nl_addr_text(&a, name, sizeof(name));
    memcpy(name, "\\\\.\\PIPE", 8); /* case does not count */
    cr_assert_eq(nl_addr_unix(&same, name), 0);
    cr_assert_eq(nl_sock_listen(&second, &same, &no_opts), -EADDRINUSE);
    cr_assert_eq(second, NL_FD_NONE);
    nl_sock_close(l);
    l = listener(&a);
    nl_sock_close(l);
}

Test(pipe, errors)
{
    nl_addr a = pipe_addr();
    nl_fd fd;
    cr_assert_eq(nl_sock_connect(&fd, &a), -ENOENT);
    cr_assert_eq(fd, NL_FD_NONE);
}

Test(pipe, cut, .timeout = 60)
{
    nl_addr a = pipe_addr();
    char buf[4];
    nl_fd l = listener(&a), c = connected(&a), s = accepted(l);
    nl_sock_cut(s, false);
    cr_assert_leq(read_wait(c, buf, sizeof(buf)), 0);
    nl_sock_cut(l, false);
    nl_fd late;
    cr_assert_lt(nl_sock_connect(&late, &a), 0);
    cr_assert_lt(nl_sock_accept(&late, l, NULL), 0);
    nl_sock_close(s);
    nl_sock_close(c);
    nl_sock_close(l);
}

/* --- In a reactor ----------------------------------------------------------------------------- */

static void pipe_pair(nl_fd *c, nl_fd *s)
{
    nl_addr a = pipe_addr();
    nl_fd l = listener(&a);
    *c = connected(&a);
    *s = accepted(l);
    nl_sock_close(l);
}

RTest(pipe_listener)
{
    nl_addr a = pipe_addr();
    nl_fd l = listener(&a), c[3], s;
    cr_assert_eq(nl_reactor_attach(r, l, 9), 0);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 3; i++) {
            c[i] = connected(&a);
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

RTest(pipe_accepted_is_watched_by_its_own_tag)
{
    nl_addr a = pipe_addr();
    nl_fd l = listener(&a);
    cr_assert_eq(nl_reactor_attach(r, l, 9), 0);
    nl_fd c = connected(&a), s = accepted(l); /* before the listener's event is harvested */
    cr_assert_eq(nl_reactor_attach(r, s, 5), 0);
    put(c, "x");
    for (bool read = false; !read;) {
        nl_event ev;
        cr_assert_eq(nl_reactor_poll(r, &ev, 1, -1), 1);
        cr_assert(ev.tag == 5 || ev.tag == 9);
        if (ev.tag == 5) {
            read = drain(s) == 1;
            cr_assert_eq(nl_reactor_arm_read(r, s, 5), 0);
        }
    }
    gone(l, 9);
    done(s, 5, c);
}

RTest(pipe_read_edges)
{
    nl_fd c, s;
    pipe_pair(&c, &s);
    put(c, "early");
    cr_assert_eq(nl_reactor_attach(r, s, 5), 0);
    expect(5, NL_EV_READ);
    settle(0);
    cr_assert_eq(drain(s), 5);
    for (int i = 0; i < 50; i++) {
        if (i % 2) {
            put(c, "before");
        }
        cr_assert_eq(nl_reactor_arm_read(r, s, 5), 0);
        if (i % 2 == 0) {
            put(c, "behind");
        }
        expect(5, NL_EV_READ);
        cr_assert_eq(drain(s), 6);
    }
    cr_assert_eq(nl_reactor_arm_read(r, s, 5), 0);
    settle(5);
    put(c, "last");
    nl_sock_close(c);
    expect(5, NL_EV_READ);
    cr_assert_eq(drain(s), -1);
    cr_assert_eq(nl_reactor_arm_read(r, s, 5), 0);
    expect(5, NL_EV_READ | NL_EV_HUP);
    gone(s, 5);
}

static unsigned char pattern[50000];

static void make_pattern(void)
{
    for (size_t i = 0; i < sizeof(pattern); i++) {
        pattern[i] = (unsigned char)(i % 251);
    }
}

RTest(pipe_room)
{
    static unsigned char back[sizeof(pattern)];
    nl_fd c, s;
    uint64_t sent = 0, got = 0;
    intptr_t n;
    make_pattern();
    pipe_pair(&c, &s);
    cr_assert_eq(nl_reactor_attach(r, c, 5), 0);
    for (int round = 0; round < 20; round++) {
        while ((n = nl_sock_write(c, pattern + sent % 251, sizeof(pattern) - 251)) > 0) {
            sent += (uint64_t)n;
        }
        cr_assert_eq(n, NL_AGAIN);
        cr_assert_eq(nl_reactor_arm_write(r, c, 5), 0);
        settle(5); /* nobody has read */
        while (got < sent) {
            n = nl_sock_read(s, back, sizeof(back));
            cr_assert(n > 0 || n == NL_AGAIN);
            for (intptr_t i = 0; i < n; i++) {
                cr_assert_eq(back[i], (got + (uint64_t)i) % 251);
            }
            got += n > 0 ? (uint64_t)n : 0;
        }
        expect(5, NL_EV_WRITE);
    }
    done(c, 5, s);
}

RTest(pipe_room_that_is_there)
{
    nl_fd c, s;
    pipe_pair(&c, &s);
    cr_assert_eq(nl_reactor_attach(r, c, 5), 0);
    cr_assert_eq(nl_reactor_arm_write(r, c, 5), 0);
    expect(5, NL_EV_WRITE);
    settle(5);
    done(c, 5, s);
}

RTest(pipe_closed_while_it_writes)
{
    static char block[50000];
    for (int reset = 0; reset <= 1; reset++) {
        nl_fd c, s;
        uint64_t sent = 0, got = 0;
        intptr_t n;
        pipe_pair(&c, &s);
        cr_assert_eq(nl_reactor_attach(r, s, 5), 0);
        while ((n = nl_sock_write(s, block, sizeof(block))) > 0) {
            sent += (uint64_t)n;
        }
        cr_assert_eq(nl_sock_shutdown_write(s), NL_AGAIN, "a write is under way");
        nl_reactor_detach(r, s, 5);
        if (reset) {
            nl_sock_reset(s);
        }
        nl_sock_close(s);
        while ((n = nl_sock_read(c, block, sizeof(block))) > 0 || n == NL_AGAIN) {
            got += n > 0 ? (uint64_t)n : 0;
            settle(5); /* the packet of the write closes the pipe */
        }
        cr_assert_eq(n, reset ? -ECONNRESET : 0);
        cr_assert(reset ? got < sent : got == sent, "%llu of %llu", (unsigned long long)got,
                  (unsigned long long)sent);
        nl_sock_close(c);
    }
}

RTest(pipe_detached_is_silent_and_can_come_back)
{
    nl_fd c, s;
    pipe_pair(&c, &s);
    cr_assert_eq(nl_reactor_attach(r, s, 5), 0);
    nl_reactor_detach(r, s, 5);
    put(c, "unheard");
    settle(5);
    cr_assert_eq(nl_reactor_attach(r, s, 6), 0);
    expect(6, NL_EV_READ);
    cr_assert_eq(drain(s), 7);
    done(s, 6, c);
}

/* Named pipes, which stand for Unix sockets on Windows. */
#include "sock_kit.h"

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
    nl_addr a = pipe_addr();
    nl_fd l = listener(&a), second;
    cr_assert_eq(nl_sock_listen(&second, &a, &no_opts), -EADDRINUSE);
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

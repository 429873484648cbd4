/* Sockets, over the loopback. */
#include "sock_kit.h"

#include <stdio.h>
#include <stdlib.h>
#ifndef _WIN32
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#endif

static const struct nl_listen_opts no_opts = {0, false};

static nl_addr ip(int family, const char *text, int port)
{
    nl_addr a;
    cr_assert_eq(nl_addr_ip(&a, family, text, port), 0, "%s", text);
    return a;
}

static nl_fd listener(nl_addr *a)
{
    nl_fd l;
    int err = nl_sock_listen(&l, a, &no_opts);
    cr_assert_eq(err, 0, "listen: %d", err);
    cr_assert_eq(nl_sock_local(l, a), 0);
    return l;
}

static nl_fd connected(const nl_addr *a)
{
    nl_fd c;
    int err = nl_sock_connect(&c, a);
    cr_assert(err == 0 || err == -EINPROGRESS, "connect: %d", err);
    cr_assert_eq(connect_wait(c, err), 0);
    return c;
}

static nl_fd accepted(nl_fd l)
{
    nl_fd s;
    cr_assert_eq(accept_wait(&s, l, NULL), 0);
    return s;
}

/* --- Connections ------------------------------------------------------------------------------ */

static void check_nodelay(nl_fd fd, const nl_addr *a, bool on)
{
    if (nl_addr_family(a) != 1) {
        cr_assert_eq(raw_nodelay(fd), on);
    }
}

static void talk(nl_addr *a)
{
    char buf[64];
    nl_addr here, there;
    nl_fd l = listener(a), s;
    check_flags(l);
    cr_assert_eq(nl_sock_accept(&s, l, NULL), NL_AGAIN);
    cr_assert_eq(s, NL_FD_NONE);

    nl_fd c = connected(a);
    s = accepted(l);
    check_flags(c);
    check_flags(s);
    check_nodelay(c, a, true);
    check_nodelay(s, a, true);
    cr_assert_eq(nl_sock_nodelay(c, false), 0);
    check_nodelay(c, a, false);
    cr_assert_eq(nl_sock_nodelay(c, true), 0);
    cr_assert_eq(nl_sock_read(s, buf, sizeof(buf)), NL_AGAIN);

    cr_assert_eq(nl_sock_write(c, "hello", 5), 5);
    cr_assert_eq(read_wait(s, buf, 2), 2);
    cr_assert_arr_eq(buf, "he", 2);
    cr_assert_eq(nl_sock_read(s, buf, sizeof(buf)), 3);
    cr_assert_arr_eq(buf, "llo", 3);

    char one[] = "ga", two[] = "", three[] = "thered";
    nl_iov iov[] = {{one, 2}, {two, 0}, {three, 6}};
    cr_assert_eq(nl_sock_writev(s, iov, 3), 8);
    cr_assert_eq(read_wait(c, buf, sizeof(buf)), 8);
    cr_assert_arr_eq(buf, "gathered", 8);

    cr_assert_eq(nl_sock_local(s, &here), 0);
    cr_assert_eq(nl_sock_remote(c, &there), 0);
    cr_assert_eq(nl_addr_family(&here), nl_addr_family(a));
    cr_assert_eq(here.len, there.len);
    cr_assert_arr_eq(here.u.bytes, there.u.bytes, here.len);

    /* Half closed: the end of one direction, the other goes on. */
    cr_assert_eq(nl_sock_shutdown_write(c), 0);
    cr_assert_eq(read_wait(s, buf, sizeof(buf)), 0);
    cr_assert_eq(nl_sock_write(s, "!", 1), 1);
    cr_assert_eq(read_wait(c, buf, sizeof(buf)), 1);
    cr_assert_eq(nl_sock_write(c, "x", 1), -EPIPE);
    nl_sock_close(s);
    nl_sock_close(c);
    nl_sock_close(l);
}

Test(sock, v4, .timeout = 60)
{
    nl_addr a = ip(4, "127.0.0.1", 0);
    talk(&a);
}

Test(sock, v6, .timeout = 60)
{
    nl_addr a = ip(6, "::1", 0);
    nl_fd probe;
    if (nl_sock_listen(&probe, &a, &no_opts) == -EADDRNOTAVAIL) {
        cr_skip_test("no IPv6 here");
    }
    nl_sock_close(probe);
    talk(&a);
}

#ifndef _WIN32

Test(sock, unix_abstract, .timeout = 60)
{
    char name[64];
    nl_addr a;
    snprintf(name, sizeof(name), "@nl-test-%d", (int)getpid());
    cr_assert_eq(nl_addr_unix(&a, name), 0);
    talk(&a);
}

/* A directory of the test's own, and a path in it. */
static char dir[64], path[96];

static nl_addr unix_addr(void)
{
    nl_addr a;
    snprintf(dir, sizeof(dir), "/tmp/nl-test-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/s", dir);
    cr_assert_eq(nl_addr_unix(&a, path), 0);
    return a;
}

static void unix_done(void)
{
    unlink(path);
    rmdir(dir);
}

Test(sock, unix_path, .timeout = 60)
{
    nl_addr a = unix_addr();
    talk(&a);
    unix_done();
}

Test(sock, unix_stale_file_is_replaced, .timeout = 60)
{
    nl_addr a = unix_addr(), b = a;
    nl_fd l = listener(&a);
    nl_sock_close(l);
    struct stat st;
    cr_assert_eq(stat(path, &st), 0, "a closed listener leaves its file");
    l = listener(&b);
    nl_fd c = connected(&b), s = accepted(l);
    nl_sock_close(c);
    nl_sock_close(s);
    nl_sock_close(l);
    unix_done();
}

Test(sock, unix_live_file_is_not_replaced, .timeout = 60)
{
    nl_addr a = unix_addr();
    nl_fd l = listener(&a), second;
    cr_assert_eq(nl_sock_listen(&second, &a, &no_opts), -EADDRINUSE);
    cr_assert_eq(second, NL_FD_NONE);
    connected(&a); /* the first one still answers */
    unix_done();
    nl_sock_close(l);
}

Test(sock, unix_other_file_is_not_replaced, .timeout = 60)
{
    nl_addr a = unix_addr();
    FILE *f = fopen(path, "w");
    fputs("precious", f);
    fclose(f);
    nl_fd l;
    cr_assert_eq(nl_sock_listen(&l, &a, &no_opts), -EADDRINUSE);
    struct stat st;
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(st.st_size, 8);
    unix_done();
}

Test(sock, unix_errors)
{
    nl_addr a = unix_addr();
    nl_fd fd;
    cr_assert_eq(nl_sock_connect(&fd, &a), -ENOENT);
    cr_assert_eq(nl_addr_unix(&a, "/nonexistent/dir/sock"), 0);
    cr_assert_eq(nl_sock_listen(&fd, &a, &no_opts), -ENOENT);
    unix_done();
}

#else

LEFT_OUT(sock, unix_abstract, "abstract names are Linux's")
LEFT_OUT(sock, unix_path,
         "wine has no Unix sockets; a name like \\\\.\\pipe\\x is a named pipe, see test_pipe.c")
LEFT_OUT(sock, unix_stale_file_is_replaced, "a pipe's name goes with its last instance")
LEFT_OUT(sock, unix_live_file_is_not_replaced, "see unix_path; pipe::name_in_use is its like")
LEFT_OUT(sock, unix_other_file_is_not_replaced, "pipes have a name space of their own")
LEFT_OUT(sock, unix_errors, "see unix_path; pipe::errors is its like")

#endif

Test(sock, address_in_use)
{
    nl_addr a = ip(4, "127.0.0.1", 0);
    nl_fd l = listener(&a), second;
    cr_assert_eq(nl_sock_listen(&second, &a, &no_opts), -EADDRINUSE);
    cr_assert_eq(second, NL_FD_NONE);
    nl_sock_close(l);
    l = listener(&a);
    nl_sock_close(l);
}

Test(sock, port_is_free_again_after_connections, .timeout = 60)
{
    /* The side that closes first keeps the port in TIME_WAIT; a restarted server must get it all the same. */
    nl_addr a = ip(4, "127.0.0.1", 0);
    nl_fd l = listener(&a), c = connected(&a), s = accepted(l);
    char buf[1];
    nl_sock_close(s);
    nl_sock_close(l);
    cr_assert_eq(read_wait(c, buf, 1), 0);
    nl_sock_close(c);
    l = listener(&a);
    nl_sock_close(l);
}

Test(sock, reuseport)
{
    nl_addr a = ip(4, "127.0.0.1", 0);
    struct nl_listen_opts o = {10, true};
    nl_fd l, second;
    int err = nl_sock_listen(&l, &a, &o);
    if (err == -EOPNOTSUPP) {
        cr_skip_test("listeners cannot share a port on this system");
    }
    cr_assert_eq(err, 0);
    cr_assert_eq(nl_sock_local(l, &a), 0);
    cr_assert_eq(nl_sock_listen(&second, &a, &o), 0);
    nl_fd third;
    cr_assert_eq(nl_sock_listen(&third, &a, &no_opts), -EADDRINUSE, "who does not share gets nothing");
    nl_sock_close(l);
    nl_sock_close(second);
}

Test(sock, v6_listener_leaves_v4_alone)
{
    nl_fd l6, l4;
    int err = -EADDRINUSE;
    for (int i = 0; err == -EADDRINUSE && i < 20; i++) { /* somebody may have the port with IPv4 */
        nl_addr a6 = ip(6, "::", 0);
        if (nl_sock_listen(&l6, &a6, &no_opts) != 0) {
            cr_skip_test("no IPv6 here");
        }
        cr_assert_eq(nl_sock_local(l6, &a6), 0);
        nl_addr a4 = ip(4, "0.0.0.0", nl_addr_port(&a6));
        err = nl_sock_listen(&l4, &a4, &no_opts);
        nl_sock_close(l6);
    }
    cr_assert_eq(err, 0, "%d", err);
    nl_sock_close(l4);
}

Test(sock, no_such_local_address)
{
    nl_addr a = ip(4, "203.0.113.7", 0);
    nl_fd fd;
    cr_assert_eq(nl_sock_listen(&fd, &a, &no_opts), -EADDRNOTAVAIL);
}

Test(sock, connect_refused, .timeout = 60)
{
    nl_addr a;
    raw_socket blocker = blocked_port(&a);
    nl_fd c;
    int err = nl_sock_connect(&c, &a);
    if (err == -EINPROGRESS) {
        err = connect_wait(c, err);
        int again = nl_sock_connect_result(c);
        cr_assert(again < 0 && again != -EINPROGRESS, "asked again, it is still no connection: %d", again);
        nl_sock_close(c);
    } else {
        cr_assert_eq(c, NL_FD_NONE);
    }
    cr_assert_eq(err, -ECONNREFUSED);
    raw_close(blocker);
}

Test(sock, connect_under_way, .timeout = 60)
{
    /* Nobody answers once the backlog is full: the connect neither fails nor succeeds. */
    nl_addr a = ip(4, "127.0.0.1", 0);
    struct nl_listen_opts o = {1, false};
    nl_fd l, c[64];
    bool under_way = false;
    cr_assert_eq(nl_sock_listen(&l, &a, &o), 0);
    cr_assert_eq(nl_sock_local(l, &a), 0);
    for (int i = 0; i < 64; i++) {
        int err = nl_sock_connect(&c[i], &a);
        cr_assert(err == 0 || err == -EINPROGRESS, "%d", err);
        int result = nl_sock_connect_result(c[i]);
        cr_assert(result == 0 || result == -EINPROGRESS, "%d", result);
        under_way |= result == -EINPROGRESS;
    }
    cr_assert(under_way, "a backlog of 1 took 64 connections");
    for (int i = 0; i < 64; i++) {
        nl_sock_close(c[i]);
    }
    nl_sock_close(l);
}

Test(sock, reset_by_peer, .timeout = 60)
{
    nl_addr a = ip(4, "127.0.0.1", 0);
    nl_fd l = listener(&a), c = connected(&a), s = accepted(l);
    char buf[8];
    nl_sock_reset(s);
    nl_sock_close(s);
    cr_assert_eq(read_wait(c, buf, sizeof(buf)), -ECONNRESET);
    nl_sock_close(c);
    nl_sock_close(l);
}

Test(sock, cut, .timeout = 60)
{
    for (int reset = 0; reset <= 1; reset++) {
        nl_addr a = ip(4, "127.0.0.1", 0);
        char buf[8];
        nl_fd l = listener(&a), c = connected(&a), s = accepted(l), none;
        nl_sock_cut(s, reset);
        cr_assert_leq(read_wait(s, buf, sizeof(buf)), 0);
        cr_assert_lt(nl_sock_write(s, "x", 1), 0);
        cr_assert_leq(read_wait(c, buf, sizeof(buf)), 0);
        nl_sock_cut(l, reset);
        cr_assert_lt(accept_wait(&none, l, NULL), 0);
        nl_fd late;
        int err = nl_sock_connect(&late, &a);
        cr_assert_neq(connect_wait(late, err), 0, "nobody listens any more");
        nl_sock_close(s);
        nl_sock_close(c);
        nl_sock_close(l);
    }
}

Test(sock, full_socket_takes_part_then_nothing, .timeout = 60)
{
    nl_addr a = ip(4, "127.0.0.1", 0);
    nl_fd l = listener(&a), c = connected(&a), s = accepted(l);
    static char block[1 << 20];
    static unsigned char back[1 << 16];
    nl_iov iov[NL_IOV_MAX];
    uint64_t sent = 0, got = 0;
    intptr_t n;
    for (int i = 0; i < NL_IOV_MAX; i++) {
        iov[i] = (nl_iov){block, sizeof(block)};
    }
    memset(block, 0x5a, sizeof(block));
    while ((n = nl_sock_writev(c, iov, NL_IOV_MAX)) > 0) {
        sent += (uint64_t)n;
    }
    cr_assert_eq(n, NL_AGAIN);
    cr_assert_eq(nl_sock_write(c, block, 1), NL_AGAIN);
    cr_assert_gt(sent, 0);
    nl_sock_shutdown_write(c);
    for (;;) {
        n = nl_sock_read(s, back, sizeof(back));
        if (n == NL_AGAIN) {
            nl_thread_yield();
            continue;
        }
        if (n <= 0) {
            break;
        }
        for (intptr_t i = 0; i < n; i++) {
            cr_assert_eq(back[i], 0x5a);
        }
        got += (uint64_t)n;
    }
    cr_assert_eq(n, 0);
    cr_assert_eq(got, sent);
    nl_sock_close(c);
    nl_sock_close(s);
    nl_sock_close(l);
}

#ifndef _WIN32

Test(sock, connected_to_itself_is_refused, .timeout = 60)
{
    /* What the kernel does by chance, done on purpose: a socket bound to the port that it connects to. */
    nl_addr a = ip(4, "127.0.0.1", 0);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)(void *)a.u.bytes, a.len), 0);
    cr_assert_eq(nl_sock_local(fd, &a), 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)(void *)a.u.bytes, a.len), 0);
    cr_assert_eq(nl_sock_connect_result(fd), -ECONNREFUSED);
    close(fd);
}

Test(sock, no_signal_after_the_peer_has_gone, .timeout = 60)
{
    /* Not nl_process_init, which catches SIGPIPE: the calls themselves must not raise it. */
    nl_addr a = ip(4, "127.0.0.1", 0);
    nl_fd l = listener(&a), c = connected(&a), s = accepted(l);
    signal(SIGPIPE, SIG_DFL);
    nl_sock_reset(s);
    nl_sock_close(s);
    poll(&(struct pollfd){(int)c, POLLIN, 0}, 1, -1);
    char x[] = "x";
    nl_iov iov = {x, 1};
    cr_assert_eq(nl_sock_write(c, "x", 1), -ECONNRESET);
    cr_assert_eq(nl_sock_write(c, "x", 1), -EPIPE);
    cr_assert_eq(nl_sock_writev(c, &iov, 1), -EPIPE);
    nl_sock_close(c);
    nl_sock_close(l);
}

Test(sock, out_of_descriptors, .timeout = 60)
{
    nl_addr a = ip(4, "127.0.0.1", 0);
    nl_fd l = listener(&a), c = connected(&a), s;
    poll(&(struct pollfd){(int)l, POLLIN, 0}, 1, -1);
    struct rlimit old, none;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = old;
    none.rlim_cur = (rlim_t)c + 1;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    while (open("/dev/null", O_RDONLY) >= 0) { /* whatever is still free below */
    }
    int accept_err = nl_sock_accept(&s, l, NULL), connect_err, listen_err;
    nl_fd other;
    connect_err = nl_sock_connect(&other, &a);
    listen_err = nl_sock_listen(&other, &a, &no_opts);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
    cr_assert_eq(accept_err, -EMFILE);
    cr_assert_eq(s, NL_FD_NONE);
    cr_assert_eq(connect_err, -EMFILE);
    cr_assert_eq(listen_err, -EMFILE);
    cr_assert_eq(nl_sock_accept(&s, l, NULL), 0, "the connection has waited");
}

Test(sock, never_a_standard_descriptor, .timeout = 60)
{
    nl_addr a = ip(4, "127.0.0.1", 0);
    close(0); /* where nothing of the test's own is */
    nl_fd l = listener(&a);
    nl_fd c = connected(&a), s = accepted(l);
    cr_assert(l > 2 && c > 2 && s > 2, "%d %d %d", (int)l, (int)c, (int)s);
    check_flags(l);
    check_flags(c);
    check_flags(s);
}

#else

LEFT_OUT(sock, connected_to_itself_is_refused, "a descriptor cannot be made of a socket of the test's own")
LEFT_OUT(sock, no_signal_after_the_peer_has_gone, "there is no SIGPIPE")
LEFT_OUT(sock, out_of_descriptors, "memory is the limit")
LEFT_OUT(sock, never_a_standard_descriptor, "sockets are no descriptors of the C library")

#endif

Test(sock, bad_descriptor)
{
    char buf[1];
    nl_addr a;
    nl_fd s;
    cr_assert_eq(nl_sock_read(NL_FD_NONE, buf, 1), -EBADF);
    cr_assert_eq(nl_sock_write(NL_FD_NONE, buf, 1), -EBADF);
    cr_assert_eq(nl_sock_accept(&s, NL_FD_NONE, NULL), -EBADF);
    cr_assert_eq(nl_sock_local(NL_FD_NONE, &a), -EBADF);
    cr_assert_eq(nl_sock_nodelay(NL_FD_NONE, true), -EBADF);
    cr_assert_eq(nl_sock_connect_result(NL_FD_NONE), -EBADF);
    cr_assert_eq(nl_sock_shutdown_write(NL_FD_NONE), -EBADF);
}

/* sock_kit.h - what tests ask of the system about sockets, behind the back of sock.h. */
#ifndef SOCK_KIT_H
#define SOCK_KIT_H

#include "base/os.h"
#include "reactor/sock.h"

#include <criterion/criterion.h>
#include <string.h>
#ifdef _WIN32
#include "reactor/win.h"
#else
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>
#endif

/* The rest of a test is of what only POSIX systems have: elsewhere it says that it is left out. */
#ifdef _WIN32
#define POSIX_ONLY(why) cr_skip_test("only on POSIX systems: " why)
/* A whole test that is. */
#define LEFT_OUT(suite, name, why)                                                                           \
    Test(suite, name)                                                                                        \
    {                                                                                                        \
        POSIX_ONLY(why);                                                                                     \
    }
#else
#define POSIX_ONLY(why) ((void)0)
#endif

#ifdef _WIN32
typedef SOCKET raw_socket;
#define raw_close closesocket

static inline raw_socket raw(nl_fd fd)
{
    return (SOCKET)((nl_winfd *)fd)->handle;
}
#else
typedef int raw_socket;
#define raw_close close

static inline raw_socket raw(nl_fd fd)
{
    return (int)fd;
}
#endif

/* A port that nobody can get, and where nobody listens. */
static inline raw_socket blocked_port(nl_addr *a)
{
    cr_assert_eq(nl_addr_ip(a, 4, "127.0.0.1", 0), 0);
    raw_socket s = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr *sa = (struct sockaddr *)(void *)a->u.bytes;
    socklen_t len = (socklen_t)a->len;
    cr_assert_eq(bind(s, sa, len), 0);
    cr_assert_eq(getsockname(s, sa, &len), 0);
    return s;
}

static inline bool raw_nodelay(nl_fd fd)
{
    int value = 0;
    socklen_t len = sizeof(value);
    cr_assert_eq(getsockopt(raw(fd), IPPROTO_TCP, TCP_NODELAY, (void *)&value, &len), 0);
    return value != 0;
}

/* Children do not inherit it, and calls do not block (Windows does not tell that of a socket). */
static inline void check_flags(nl_fd fd)
{
#ifdef _WIN32
    DWORD flags = HANDLE_FLAG_INHERIT;
    cr_assert(GetHandleInformation(((nl_winfd *)fd)->handle, &flags));
    cr_assert_not(flags & HANDLE_FLAG_INHERIT);
#else
    cr_assert(fcntl((int)fd, F_GETFL) & O_NONBLOCK);
    cr_assert(fcntl((int)fd, F_GETFD) & FD_CLOEXEC);
#endif
}

/* What the process has open: a socket that is closed too late, or never, is among it. */
static inline int open_handles(void)
{
#ifdef _WIN32
    DWORD n = 0;
    cr_assert(GetProcessHandleCount(GetCurrentProcess(), &n));
    return (int)n;
#else
    int n = 0;
    for (int fd = 0; fd < 4096; fd++) {
        n += fcntl(fd, F_GETFD) >= 0;
    }
    return n;
#endif
}

/* The calls of sock.h, repeated while they would block: a test has its runner's time limit. */
static inline int accept_wait(nl_fd *out, nl_fd listener, nl_addr *peer)
{
    int err;
    while ((err = nl_sock_accept(out, listener, peer)) == NL_AGAIN) {
        nl_thread_yield();
    }
    return err;
}

/* The outcome of a connect that has begun with err. */
static inline int connect_wait(nl_fd fd, int err)
{
    while (err == -EINPROGRESS) {
        err = nl_sock_connect_result(fd);
        nl_thread_yield();
    }
    return err;
}

static inline intptr_t read_wait(nl_fd fd, void *buf, size_t n)
{
    intptr_t got;
    while ((got = nl_sock_read(fd, buf, n)) == NL_AGAIN) {
        nl_thread_yield();
    }
    return got;
}

#endif

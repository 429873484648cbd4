/*
 * baseline.c - an echo and broadcast server in C on epoll, without a runtime: what the machine
 * and its kernel can do at best, the yardstick of the other servers.
 *
 * It looks at the heads as any framed server must, does not copy what it can send from where
 * it lies, and needs one recv, one send and a share of an epoll_wait for what has arrived
 * together.  Sockets are registered once, edge triggered, for both directions.
 *
 * Each thread has a listening socket (SO_REUSEPORT), an epoll and connections of its own.
 * Broadcasting is done by one thread, which knows all connections.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 256
#define CHUNK ((size_t)256 * 1024) /* read at once; a longer frame is put together in memory of its own */

/* Bytes that have to wait. */
typedef struct bytes {
    unsigned char *p;
    uint32_t n, cap;
} bytes;

typedef struct conn {
    int fd;
    uint32_t at; /* its place in the list of all */
    bytes in;    /* the beginning of a frame */
    bytes out;   /* what the kernel did not take */
    uint32_t out_at;
    bool closing; /* has failed; freed at the end of the batch of events */
} conn;

typedef struct server {
    int ep, listener;
    unsigned char *chunk;
    conn **all; /* every connection */
    uint32_t count, cap;
    conn **dead;
    uint32_t dead_count, dead_cap;
} server;

static unsigned port, head;
static bool bcast, little;

static _Noreturn void die(const char *what)
{
    perror(what);
    exit(1);
}

static void *grow(void *p, size_t n)
{
    p = realloc(p, n);
    if (!p) {
        die("baseline: memory");
    }
    return p;
}

static void append(bytes *b, const unsigned char *p, size_t n)
{
    if (b->n + n > b->cap) {
        b->cap = (uint32_t)((b->n + n) * 2);
        b->p = grow(b->p, b->cap);
    }
    memcpy(b->p + b->n, p, n);
    b->n += (uint32_t)n;
}

/* An idle connection keeps no memory beyond its own. */
static void empty(bytes *b)
{
    free(b->p);
    *b = (bytes){NULL, 0, 0};
}

/* --- Connections ------------------------------------------------------------------------------ */

static void conn_close(server *s, conn *c)
{
    if (c->closing) {
        return;
    }
    c->closing = true;
    close(c->fd);
    conn *last = s->all[--s->count];
    s->all[c->at] = last;
    last->at = c->at;
    if (s->dead_count == s->dead_cap) {
        s->dead_cap = s->dead_cap ? s->dead_cap * 2 : 64;
        s->dead = grow(s->dead, s->dead_cap * sizeof(conn *));
    }
    s->dead[s->dead_count++] = c;
}

static void bury(server *s)
{
    while (s->dead_count > 0) {
        conn *c = s->dead[--s->dead_count];
        free(c->in.p);
        free(c->out.p);
        free(c);
    }
}

static void conn_send(server *s, conn *c, const unsigned char *p, size_t n)
{
    while (n > 0 && c->out.n == 0) {
        ssize_t k = send(c->fd, p, n, MSG_NOSIGNAL);
        if (k < 0) {
            if (errno == EINTR) {
                continue;
            }
            if (errno != EAGAIN) {
                conn_close(s, c);
                return;
            }
            break;
        }
        p += k;
        n -= (size_t)k;
    }
    if (n > 0) {
        append(&c->out, p, n);
    }
}

static void conn_flush(server *s, conn *c)
{
    while (c->out_at < c->out.n) {
        ssize_t k = send(c->fd, c->out.p + c->out_at, c->out.n - c->out_at, MSG_NOSIGNAL);
        if (k < 0) {
            if (errno == EINTR) {
                continue;
            }
            if (errno != EAGAIN) {
                conn_close(s, c);
            }
            return;
        }
        c->out_at += (uint32_t)k;
    }
    c->out_at = 0;
    empty(&c->out);
}

/* --- Frames ----------------------------------------------------------------------------------- */

/* How many of the n bytes at p are whole frames; without heads all of them are. */
static size_t whole(const unsigned char *p, size_t n)
{
    size_t at = 0;
    if (head == 0) {
        return n;
    }
    while (n - at >= head) {
        size_t len = 0;
        for (unsigned i = 0; i < head; i++) {
            len |= (size_t)p[at + i] << 8 * (little ? i : head - 1 - i);
        }
        if (n - at - head < len) {
            break;
        }
        at += head + len;
    }
    return at;
}

static void deliver(server *s, conn *c, const unsigned char *p, size_t n)
{
    if (!bcast) {
        conn_send(s, c, p, n);
        return;
    }
    /* Backwards: one that is closed meanwhile has its place taken by the last, which has been served. */
    for (uint32_t i = s->count; i-- > 0;) {
        conn_send(s, s->all[i], p, n);
    }
}

static void conn_read(server *s, conn *c)
{
    for (;;) {
        ssize_t n = recv(c->fd, s->chunk, CHUNK, 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            if (n == 0 || errno != EAGAIN) {
                conn_close(s, c);
            }
            return;
        }
        const unsigned char *p = s->chunk;
        size_t len = (size_t)n;
        if (c->in.n > 0) {
            append(&c->in, p, len);
            p = c->in.p;
            len = c->in.n;
        }
        size_t done = whole(p, len);
        if (done > 0) {
            deliver(s, c, p, done);
            if (c->closing) {
                return;
            }
        }
        if (p == s->chunk) {
            if (done < len) {
                append(&c->in, p + done, len - done);
            }
        } else if (done == len) {
            empty(&c->in);
        } else if (done > 0) {
            memmove(c->in.p, p + done, len - done);
            c->in.n = (uint32_t)(len - done);
        }
        if (n < (ssize_t)CHUNK) {
            return; /* a short read has emptied the socket: what comes later makes an edge */
        }
    }
}

/* --- The loop --------------------------------------------------------------------------------- */

static int listen_on(unsigned tcp_port)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)tcp_port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) != 0 ||
        bind(fd, (const struct sockaddr *)&a, sizeof(a)) != 0 || listen(fd, 4096) != 0) {
        die("baseline: listen");
    }
    return fd;
}

static void accept_all(server *s)
{
    int one = 1;
    for (;;) {
        int fd = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EINTR || errno == ECONNABORTED) {
                continue;
            }
            return;
        }
        conn *c = grow(NULL, sizeof(*c));
        *c = (conn){.fd = fd, .at = s->count};
        if (s->count == s->cap) {
            s->cap = s->cap ? s->cap * 2 : 64;
            s->all = grow(s->all, s->cap * sizeof(conn *));
        }
        s->all[s->count++] = c;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
        if (epoll_ctl(s->ep, EPOLL_CTL_ADD, fd, &ev) != 0) {
            conn_close(s, c);
        }
    }
}

static void *serve(void *arg)
{
    (void)arg;
    server s = {.ep = epoll_create1(EPOLL_CLOEXEC), .listener = listen_on(port), .chunk = grow(NULL, CHUNK)};
    struct epoll_event events[EVENTS], ev = {.events = EPOLLIN, .data.ptr = NULL};
    if (s.ep < 0 || epoll_ctl(s.ep, EPOLL_CTL_ADD, s.listener, &ev) != 0) {
        die("baseline: epoll");
    }
    for (;;) {
        int n = epoll_wait(s.ep, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            conn *c = events[i].data.ptr;
            if (!c) {
                accept_all(&s);
                continue;
            }
            if (!c->closing && (events[i].events & EPOLLOUT) && c->out.n > 0) {
                conn_flush(&s, c);
            }
            if (!c->closing && (events[i].events & ~(unsigned)EPOLLOUT)) {
                conn_read(&s, c);
            }
        }
        bury(&s);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fputs("usage: baseline PORT echo|bcast HEAD [THREADS [little]]\n"
              "Echoes or broadcasts what comes to 127.0.0.1:PORT; HEAD (0, 1, 2, 4) bytes of length in "
              "front.\n",
              stderr);
        return 2;
    }
    port = (unsigned)strtoul(argv[1], NULL, 10);
    bcast = strcmp(argv[2], "bcast") == 0;
    head = (unsigned)strtoul(argv[3], NULL, 10);
    unsigned threads = argc > 4 ? (unsigned)strtoul(argv[4], NULL, 10) : 1;
    little = argc > 5;
    if (bcast) {
        threads = 1;
    }
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    for (unsigned i = 1; i < threads; i++) {
        pthread_t t;
        if (pthread_create(&t, NULL, serve, NULL) != 0) {
            die("baseline: thread");
        }
    }
    serve(NULL);
}

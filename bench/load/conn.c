/* conn.c - connections of nl-load: opening, sending, checking what comes back. See load.h. */
#include "load.h"
#include "payload.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TOLD_MAX 5

/* --- Opening ---------------------------------------------------------------------------------- */

static struct sockaddr_storage target;
static socklen_t target_len; /* 0: not looked up yet */

static void find_target(void)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    char port[16];
    snprintf(port, sizeof(port), "%u", opt.port);
    int err = getaddrinfo(opt.host, port, &hints, &found);
    if (err != 0) {
        fprintf(stderr, "nl-load: %s: %s\n", opt.host, gai_strerror(err));
        exit(3);
    }
    memcpy(&target, found->ai_addr, found->ai_addrlen);
    target_len = found->ai_addrlen;
    freeaddrinfo(found);
}

bool conn_many_sources(void)
{
    if (target_len == 0) {
        find_target();
    }
    const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)&target;
    return target.ss_family == AF_INET && ntohl(in->sin_addr.s_addr) >> 24 == 127;
}

int conn_dial(bool blocking, unsigned source)
{
    int one = 1;
    if (target_len == 0) {
        find_target();
    }
    int fd = socket(target.ss_family, SOCK_STREAM | SOCK_CLOEXEC | (blocking ? 0 : SOCK_NONBLOCK), 0);
    if (fd < 0) {
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (source && conn_many_sources()) {
        /* The port is chosen in connect, where only the whole pair of addresses has to be unique. */
        struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001u + source)};
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
        if (bind(fd, (const struct sockaddr *)&from, sizeof(from)) != 0) {
            goto fail;
        }
    }
    if (connect(fd, (const struct sockaddr *)&target, target_len) != 0 && errno != EINPROGRESS) {
        goto fail;
    }
    return fd;

fail:;
    int err = errno;
    close(fd);
    errno = err;
    return -1;
}

void lanes_open(lane *lanes, unsigned count)
{
    /* A source address has some 28,000 ports for one target. */
    const unsigned per_source = 20000;
    bool many = opt.connections > per_source;
    for (unsigned i = 0; i < count; i++) {
        lane *l = &lanes[i];
        for (unsigned k = 0; k < l->nconns; k++) {
            conn *c = &l->conns[k];
            c->fd = conn_dial(true, many ? 1 + c->id / per_source : 0);
            if (c->fd < 0) {
                char what[64];
                snprintf(what, sizeof(what), "connection %u of %u", c->id + 1, opt.connections);
                die(what);
            }
            struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
            if (fcntl(c->fd, F_SETFL, O_NONBLOCK) != 0 || epoll_ctl(l->ep, EPOLL_CTL_ADD, c->fd, &ev) != 0) {
                die("epoll_ctl");
            }
        }
    }
}

void conn_fail(lane *l, conn *c, const char *why)
{
    int err = errno;
    if (c->fd < 0) {
        return;
    }
    if (l->errors++ < TOLD_MAX) {
        fprintf(stderr, "nl-load: connection %u, message %llu: %s\n", c->id, (unsigned long long)c->rcvd,
                why ? why : strerror(err));
    }
    close(c->fd);
    c->fd = -1;
}

/* --- Sending ---------------------------------------------------------------------------------- */

static void want_out(lane *l, conn *c, bool on)
{
    if (c->stuck != on) {
        struct epoll_event ev = {.events = EPOLLIN | (on ? EPOLLOUT : 0), .data.ptr = c};
        c->stuck = on;
        epoll_ctl(l->ep, EPOLL_CTL_MOD, c->fd, &ev);
    }
}

/* As much of n bytes as the kernel takes; -1: the connection has failed and is closed. */
static int64_t send_some(lane *l, conn *c, const unsigned char *p, size_t n)
{
    size_t done = 0;
    while (done < n) {
        ssize_t k = send(c->fd, p + done, n - done, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (k < 0 && errno == EINTR) {
            continue;
        }
        if (k < 0 && errno == EAGAIN) {
            break;
        }
        if (k < 0) {
            conn_fail(l, c, NULL);
            return -1;
        }
        done += (size_t)k;
    }
    return (int64_t)done;
}

static void keep(conn *c, const unsigned char *p, size_t n)
{
    if (c->out_n + n > c->out_cap) {
        c->out_cap = (c->out_n + n) * 2;
        c->out = realloc(c->out, c->out_cap);
        if (!c->out) {
            die("memory");
        }
    }
    memcpy(c->out + c->out_n, p, n);
    c->out_n += n;
}

void conn_flush(lane *l, conn *c)
{
    int64_t n = send_some(l, c, c->out + c->out_at, c->out_n - c->out_at);
    if (n < 0) {
        return;
    }
    c->out_at += (size_t)n;
    if (c->out_at == c->out_n) {
        c->out_at = c->out_n = 0;
        want_out(l, c, false);
    }
}

void conn_send(lane *l, conn *c, unsigned k)
{
    size_t frame = payload_frame(), room = l->out_cap / frame;
    while (k > 0 && c->fd >= 0) {
        size_t n = 0;
        for (size_t i = 0; i < room && k > 0; i++, k--) {
            payload_put(l->out + n, c->id, c->sent++);
            n += frame;
        }
        if (c->out_n > 0) { /* behind what waits already */
            keep(c, l->out, n);
            continue;
        }
        int64_t done = send_some(l, c, l->out, n);
        if (done >= 0 && (size_t)done < n) {
            keep(c, l->out + done, n - (size_t)done);
            want_out(l, c, true);
        }
    }
}

/* --- Receiving -------------------------------------------------------------------------------- */

static void fail_at(lane *l, conn *c, size_t at, unsigned char is, uint32_t id)
{
    char why[128];
    snprintf(why, sizeof(why), "byte %zu of %zu (head included) is 0x%02x, not 0x%02x as it was sent", at,
             payload_frame(), is, payload_byte(at, id, c->rcvd));
    conn_fail(l, c, why);
}

int64_t conn_read(lane *l, conn *c, uint32_t id, uint64_t sent)
{
    size_t frame = payload_frame();
    int64_t whole = 0;
    ssize_t n = recv(c->fd, l->in, LANE_IN, MSG_DONTWAIT);
    if (n < 0) {
        if (errno == EAGAIN || errno == EINTR) {
            return -1;
        }
        conn_fail(l, c, NULL);
        return -2;
    }
    if (n == 0) {
        conn_fail(l, c, "the server has closed the connection");
        return -2;
    }
    for (size_t at = 0; at < (size_t)n;) {
        size_t part = frame - c->got < (size_t)n - at ? frame - c->got : (size_t)n - at;
        if (c->rcvd == sent) {
            conn_fail(l, c, "more has come back than was sent");
            return -2;
        }
        int64_t bad = payload_check(l->in + at, part, c->got, id, c->rcvd);
        if (bad >= 0) {
            fail_at(l, c, (size_t)bad, l->in[at + (size_t)bad - c->got], id);
            return -2;
        }
        at += part;
        c->got += part;
        if (c->got == frame) {
            c->got = 0;
            c->rcvd++;
            whole++;
        }
    }
    return whole;
}

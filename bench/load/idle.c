/*
 * idle.c - what connections cost a server while nothing happens on them: memory, before and
 * after each has had one message, and how often and for how long its threads wake up.
 */
#include "load.h"
#include "payload.h"
#include "proc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define SETTLE 1000000000u /* ns: for what a server does a little later */
#define WAIT_REPLY 10      /* s */

static void one_echo(lane *l, conn *c)
{
    struct timeval wait = {WAIT_REPLY, 0};
    fcntl(c->fd, F_SETFL, 0);
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    size_t frame = payload_frame(), got = 0;
    payload_put(l->out, c->id, c->sent++);
    if (send(c->fd, l->out, frame, MSG_NOSIGNAL) != (ssize_t)frame) {
        conn_fail(l, c, NULL);
        return;
    }
    while (got < frame) {
        size_t room = frame - got < LANE_IN ? frame - got : LANE_IN;
        ssize_t n = recv(c->fd, l->in, room, 0);
        if (n <= 0) {
            conn_fail(l, c,
                      n == 0            ? "the server has closed the connection"
                      : errno == EAGAIN ? "no reply"
                                        : NULL);
            return;
        }
        if (payload_check(l->in, (size_t)n, got, c->id, c->rcvd) >= 0) {
            conn_fail(l, c, "the reply differs from what was sent");
            return;
        }
        got += (size_t)n;
    }
    c->rcvd++;
}

static double per_conn(proc_mem now, proc_mem before)
{
    return (double)(now.anonymous - before.anonymous) / opt.connections;
}

uint64_t run_idle(void)
{
    unsigned count;
    opt.threads = 1;
    lane *l = lanes_new(&count);

    /* A first connection, so that what is set up once is not counted. */
    conn first = {.fd = conn_dial(true, 0), .id = opt.connections};
    if (first.fd < 0) {
        die("connect");
    }
    one_echo(l, &first);
    sleep_ns(SETTLE / 2);
    proc_mem before = proc_memory();

    uint64_t t = now_ns();
    lanes_open(l, count);
    double open_s = (double)(now_ns() - t) / 1e9;
    sleep_ns(SETTLE);
    proc_mem opened = proc_memory();

    int64_t sleeps = proc_sleeps(), cpu = proc_cpu_ns();
    sleep_ns((uint64_t)(opt.seconds * 1e9));
    sleeps = proc_sleeps() - sleeps;
    cpu = proc_cpu_ns() - cpu;

    for (unsigned i = 0; i < l->nconns; i++) {
        one_echo(l, &l->conns[i]);
    }
    sleep_ns(SETTLE);
    proc_mem echoed = proc_memory();

    for (unsigned i = 0; i < l->nconns; i++) {
        if (l->conns[i].fd >= 0) {
            close(l->conns[i].fd);
        }
    }
    sleep_ns(SETTLE);
    proc_mem closed = proc_memory();

    report_text("mode", "idle");
    report_number("connections", opt.connections, 0);
    report_number("size", opt.size, 0);
    report_number("head", opt.head, 0);
    report_number("opened_s", opt.connections / open_s, 0);
    if (proc_watched()) {
        report_number("base_kb", (double)before.resident / 1024, 0);
        report_number("conn_bytes", per_conn(opened, before), 1);
        report_number("conn_bytes_echoed", per_conn(echoed, before), 1);
        report_number("conn_bytes_closed", per_conn(closed, before), 1);
        report_number("sleeps_s", (double)sleeps / opt.seconds, 2);
        report_number("server_cpu", (double)cpu / 1e9 / opt.seconds, 5);
    }
    uint64_t errors = l->errors;
    lanes_free(l, count);
    return errors;
}

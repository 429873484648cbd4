/*
 * storm.c - connect, send one message, get it back, close, and again, in `connections` places at
 * once.  Latency is that of the whole round, from connect to the last byte of the reply.
 *
 * The side that closes first keeps the pair of addresses for a while (TIME_WAIT): that is
 * this program.  On the loopback interface many source addresses give enough of them.
 */
#include "load.h"
#include "payload.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define SOURCES 64
#define ERRORS_MAX 1000

static void begin(lane *l, conn *c)
{
    c->got = 0;
    c->rcvd = c->sent;
    c->opened = now_ns();
    c->fd = conn_dial(false, 1 + (unsigned)(c->sent + c->id) % SOURCES);
    if (c->fd < 0) {
        die("connect");
    }
    /* Edge triggered for both: writable once it is connected, readable once the reply is there. */
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    if (epoll_ctl(l->ep, EPOLL_CTL_ADD, c->fd, &ev) != 0) {
        die("epoll_ctl");
    }
}

static void on_event(lane *l, conn *c, unsigned events)
{
    if (c->sent == c->rcvd && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
        int err = 0;
        socklen_t n = sizeof(err);
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &n);
        if (err != 0) {
            errno = err;
            conn_fail(l, c, NULL);
            return;
        }
        conn_send(l, c, 1);
    }
    if (c->fd >= 0 && c->out_n > 0 && (events & EPOLLOUT)) {
        conn_flush(l, c);
    }
    int64_t k = 0;
    while (c->fd >= 0 && (events & EPOLLIN) && k == 0) { /* edges: until nothing is left, or all has come */
        k = conn_read(l, c, c->id, c->sent);
    }
    if (k == 1) {
        uint64_t now = now_ns();
        close(c->fd);
        c->fd = -1;
        if (window_has(now)) {
            l->messages++;
            hist_add(&l->latency, now - c->opened);
        }
    }
}

static void storm_lane(lane *l)
{
    for (unsigned i = 0; i < l->nconns; i++) {
        begin(l, &l->conns[i]);
    }
    for (;;) {
        uint64_t now = now_ns();
        lane_tick(l, now);
        if (now >= win.end || l->errors > ERRORS_MAX) {
            break;
        }
        int n = lane_wait(l, now < win.begin ? win.begin : win.end);
        for (int i = 0; i < n; i++) {
            conn *c = l->events[i].data.ptr;
            on_event(l, c, l->events[i].events);
            if (c->fd < 0) {
                c->out_n = c->out_at = 0;
                c->stuck = false;
                begin(l, c);
            }
        }
    }
}

uint64_t run_storm(void)
{
    unsigned count;
    lane *lanes = lanes_new(&count);
    lanes_run(lanes, count, storm_lane);
    const lane *l = &lanes[0];
    report_text("mode", "storm");
    report_number("connections", opt.connections, 0);
    report_number("size", opt.size, 0);
    report_number("head", opt.head, 0);
    report_number("msgs_s", (double)l->messages / opt.seconds, 1);
    report_hist("", &l->latency);
    report_usage(l->messages);
    uint64_t errors = l->errors;
    lanes_free(lanes, count);
    return errors;
}

/*
 * bcast.c - connection 0 sends; the server passes each message on to every connection, the
 * sender's too.  A message is complete when all copies of it have come.
 *
 * Closed loop: `depth` messages are on their way; open loop (--rate): they are due at fixed
 * times, and latency counts from those.
 */
#include "load.h"
#include "payload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define SENDER 0             /* also the id in every stamp */
#define JOIN_EVERY 20000000u /* ns */
#define JOIN_MAX 10000000000u

typedef struct flight {
    uint64_t since;
    unsigned left; /* copies that have not come */
} flight;

static flight *flights; /* message number i at i % depth */
static double step;
static hist complete; /* latency of the last copy */
static uint64_t completed, in_flight_first;

static void launch(lane *l, uint64_t since)
{
    conn *c = &l->conns[SENDER];
    flights[c->sent % opt.depth] = (flight){since, l->nconns};
    conn_send(l, c, 1);
}

static void on_copies(lane *l, conn *c, uint64_t k, uint64_t now)
{
    for (uint64_t seq = c->rcvd - k; seq < c->rcvd; seq++) {
        flight *f = &flights[seq % opt.depth];
        if (window_has(now)) {
            l->messages++;
            hist_add(&l->latency, now - f->since);
        }
        if (--f->left == 0) {
            in_flight_first++; /* copies come in order, so messages are completed in order */
            if (window_has(now)) {
                completed++;
                hist_add(&complete, now - f->since);
            }
        }
    }
}

/* --- Joining ---------------------------------------------------------------------------------- */

/* The first message a connection gets tells from which one on the server knew it. */
static bool join(lane *l, conn *c)
{
    unsigned char *p = l->in;
    size_t frame = payload_frame();
    ssize_t n = recv(c->fd, p, frame, MSG_PEEK);
    if (n == 0) {
        conn_fail(l, c, "the server has closed the connection");
    }
    if (n < (ssize_t)frame) {
        return false; /* not all there yet: looked at again */
    }
    c->rcvd = payload_seq(p);
    c->joined = true;
    return true;
}

/*
 * A connection that the server has not accepted yet misses a message.  So messages are sent
 * one by one until each connection has got one, and then the last of them is waited for.
 */
static void join_all(lane *l)
{
    unsigned joined = 0;
    uint64_t started = now_ns(), next = 0, now;
    conn *sender = &l->conns[SENDER];
    bool done = false;
    while (!done && l->errors == 0) {
        now = now_ns();
        if (now - started > JOIN_MAX) {
            fprintf(stderr, "nl-load: only %u of %u connections got any message\n", joined, l->nconns);
            exit(3);
        }
        if (now >= next && joined < l->nconns) {
            conn_send(l, sender, 1);
            next = now + JOIN_EVERY;
        }
        int n = lane_wait(l, now + JOIN_EVERY);
        for (int i = 0; i < n && l->errors == 0; i++) {
            conn *c = l->events[i].data.ptr;
            if (l->events[i].events & EPOLLOUT) {
                conn_flush(l, c);
            }
            if (c->fd >= 0 && (l->events[i].events & EPOLLIN)) {
                if (c->joined || (join(l, c) && ++joined)) {
                    conn_read(l, c, SENDER, sender->sent);
                }
            }
        }
        done = joined == l->nconns;
        for (unsigned i = 0; i < l->nconns && done; i++) {
            done = l->conns[i].rcvd == sender->sent;
        }
    }
    in_flight_first = sender->sent;
}

/* --- The load --------------------------------------------------------------------------------- */

static void bcast_lane(lane *l)
{
    conn *sender = &l->conns[SENDER];
    uint64_t due = 0, start = sender->sent;
    for (;;) {
        uint64_t now = now_ns(), next = UINT64_MAX;
        lane_tick(l, now);
        if (now >= win.end || l->errors) {
            break;
        }
        while (sender->fd >= 0 && sender->sent - in_flight_first < opt.depth) {
            if (step > 0) {
                next = win.start + (uint64_t)((double)due * step);
                if (next > now) {
                    break;
                }
                hist_add(&l->lag, now - next);
                due++;
                launch(l, next);
            } else {
                launch(l, now);
            }
        }
        int n = lane_wait(l, next < win.end ? next : win.end);
        for (int i = 0; i < n && l->errors == 0; i++) {
            conn *c = l->events[i].data.ptr;
            if (l->events[i].events & EPOLLOUT) {
                conn_flush(l, c);
            }
            if (c->fd >= 0 && (l->events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP))) {
                int64_t k = conn_read(l, c, SENDER, sender->sent);
                if (k > 0) {
                    on_copies(l, c, (uint64_t)k, now_ns());
                }
            }
        }
    }
    if (step > 0) { /* messages that were due, but for which there was no place */
        uint64_t all = (uint64_t)((double)(win.end - win.start) / step);
        l->unanswered = all > sender->sent - start ? all - (sender->sent - start) : 0;
    }
}

uint64_t run_bcast(void)
{
    unsigned count;
    opt.depth = opt.depth ? opt.depth : opt.rate > 0 ? 4096 : 4;
    step = opt.rate > 0 ? 1e9 / opt.rate : 0;
    flights = calloc(opt.depth, sizeof(*flights));
    if (!flights) {
        die("memory");
    }
    lane *l = lanes_new(&count);
    lanes_open(l, count);
    join_all(l);
    if (l->errors == 0) {
        lanes_run(l, count, bcast_lane);
    }
    report_text("mode", "bcast");
    report_number("connections", opt.connections, 0);
    report_number("size", opt.size, 0);
    report_number("depth", opt.depth, 0);
    report_number("head", opt.head, 0);
    if (step > 0) {
        report_number("rate", opt.rate, 0);
    }
    report_number("msgs_s", (double)l->messages / opt.seconds, 1);
    report_number("sent_s", (double)completed / opt.seconds, 1);
    report_hist("", &l->latency);
    report_hist("all_", &complete);
    report_hist("lag_", &l->lag);
    report_number("unanswered", (double)l->unanswered, 0);
    report_usage(l->messages);
    uint64_t errors = l->errors;
    lanes_free(l, count);
    free(flights);
    return errors;
}

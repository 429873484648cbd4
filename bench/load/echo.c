/*
 * echo.c - every connection sends messages and wants each of them back.
 *
 * Closed loop: `depth` messages are on their way on each connection; a reply is answered with
 * the next message.  Latency counts from the moment of sending.  A server that stalls
 * stalls this loop too, so its latencies only say how long a message took that was sent.
 *
 * Open loop (--rate): message number j of a lane is due at a time fixed beforehand, however the
 * server fares, and goes to connection j modulo their number.  Latency counts from the due
 * time, so what waited because the server (or this program: see lag) was late is counted in
 * full.  Every message due in the window is counted, if need be after the window has ended.
 */
#include "load.h"
#include "payload.h"

#include <stdlib.h>

static double step; /* open loop: ns between two messages of one lane */

/* When message number k of the lane's connection number i is due. */
static uint64_t due_at(const lane *l, uint64_t k, unsigned i)
{
    /* The lanes take turns, so that all messages together are evenly spaced. */
    double turn = (double)l->index / (double)opt.threads;
    return win.start + (uint64_t)(((double)(k * l->nconns + i) + turn) * step);
}

static void send_more(lane *l, conn *c, unsigned k, uint64_t now)
{
    for (unsigned i = 0; i < k && c->since; i++) {
        c->since[(c->sent + i) % opt.depth] = now;
    }
    conn_send(l, c, k);
}

/* Open loop: how many of the messages that are due the connection may send now. */
static unsigned may_send(const conn *c)
{
    uint64_t n = c->due - c->sent;
    if (opt.depth) {
        uint64_t room = opt.depth - (c->sent - c->rcvd);
        n = n < room ? n : room;
    }
    return (unsigned)n;
}

/* Sends what is due; returns when the next message will be. `at` counts the lane's messages. */
static uint64_t send_due(lane *l, uint64_t now, uint64_t *at)
{
    for (;;) {
        unsigned i = (unsigned)(*at % l->nconns);
        uint64_t when = due_at(l, *at / l->nconns, i);
        if (when >= win.end) {
            return UINT64_MAX;
        }
        if (when > now) {
            return when;
        }
        conn *c = &l->conns[i];
        (*at)++;
        c->due++;
        unsigned k = may_send(c);
        if (c->fd >= 0 && k > 0) {
            if (window_has(when)) {
                hist_add(&l->lag, now - when);
            }
            send_more(l, c, k, now);
        }
    }
}

static void on_replies(lane *l, conn *c, uint64_t k, uint64_t now)
{
    bool counts = window_has(now);
    if (counts) {
        l->messages += k;
    }
    for (uint64_t seq = c->rcvd - k; seq < c->rcvd; seq++) {
        if (step > 0) {
            uint64_t when = due_at(l, seq, (unsigned)(c - l->conns));
            if (window_has(when)) {
                hist_add(&l->latency, now - when);
            }
        } else if (counts) {
            hist_add(&l->latency, now - c->since[seq % opt.depth]);
        }
    }
}

static void on_event(lane *l, conn *c, unsigned events)
{
    if (c->fd >= 0 && (events & EPOLLOUT)) {
        conn_flush(l, c);
    }
    if (c->fd < 0 || !(events & (EPOLLIN | EPOLLERR | EPOLLHUP))) {
        return;
    }
    int64_t k = conn_read(l, c, c->id, c->sent);
    if (k > 0) {
        uint64_t now = now_ns();
        on_replies(l, c, (uint64_t)k, now);
        unsigned next = step > 0 ? may_send(c) : now < win.end ? (unsigned)k : 0;
        if (next > 0) {
            send_more(l, c, next, now);
        }
    }
}

/* Open loop: true while a reply is missing to a message that was due before the end. */
static bool waits(const lane *l)
{
    for (unsigned i = 0; i < l->nconns; i++) {
        if (l->conns[i].fd >= 0 && l->conns[i].rcvd < l->conns[i].due) {
            return true;
        }
    }
    return false;
}

/* What was never answered took at least until now. */
static void count_unanswered(lane *l, uint64_t now)
{
    for (unsigned i = 0; i < l->nconns; i++) {
        const conn *c = &l->conns[i];
        for (uint64_t seq = c->rcvd; seq < c->due; seq++) {
            uint64_t when = due_at(l, seq, i);
            if (window_has(when)) {
                hist_add(&l->latency, now - when);
                l->unanswered++;
            }
        }
    }
}

static bool all_closed(const lane *l)
{
    for (unsigned i = 0; i < l->nconns; i++) {
        if (l->conns[i].fd >= 0) {
            return false;
        }
    }
    return true;
}

static void echo_lane(lane *l)
{
    uint64_t at = 0, last = win.end + (uint64_t)(opt.grace * 1e9), now, next = UINT64_MAX;
    for (unsigned i = 0; i < l->nconns && step <= 0; i++) {
        send_more(l, &l->conns[i], opt.depth, now_ns());
    }
    for (;;) {
        now = now_ns();
        lane_tick(l, now);
        if (now >= win.end && (step <= 0 || now >= last || !waits(l))) {
            break;
        }
        if (l->errors && all_closed(l)) {
            break;
        }
        if (step > 0) {
            next = send_due(l, now, &at);
        }
        if (now < win.begin && next > win.begin) {
            next = win.begin;
        } else if (now < win.end && next > win.end) {
            next = win.end;
        }
        int n = lane_wait(l, next);
        for (int i = 0; i < n; i++) {
            on_event(l, l->events[i].data.ptr, l->events[i].events);
        }
    }
    if (step > 0) {
        count_unanswered(l, now);
    }
}

uint64_t run_echo(void)
{
    unsigned count;
    lane *lanes = lanes_new(&count);
    opt.threads = count;
    step = opt.rate > 0 ? 1e9 * count / opt.rate : 0;
    if (step <= 0) {
        opt.depth = opt.depth ? opt.depth : 1;
        for (unsigned i = 0; i < opt.connections; i++) {
            lanes[0].conns[i].since = calloc(opt.depth, sizeof(uint64_t));
            if (!lanes[0].conns[i].since) {
                die("memory");
            }
        }
    }
    lanes_open(lanes, count);
    lanes_run(lanes, count, echo_lane);

    const lane *l = &lanes[0];
    double rate = (double)l->messages / opt.seconds;
    report_text("mode", "echo");
    report_number("connections", opt.connections, 0);
    report_number("size", opt.size, 0);
    report_number("depth", opt.depth, 0);
    report_number("head", opt.head, 0);
    if (step > 0) {
        report_number("rate", opt.rate, 0);
    }
    report_number("msgs_s", rate, 1);
    report_number("mb_s", rate * (double)payload_frame() / 1e6, 2);
    report_hist("", &l->latency);
    report_hist("lag_", &l->lag);
    report_number("unanswered", (double)l->unanswered, 0);
    report_usage(l->messages);
    uint64_t errors = l->errors;
    lanes_free(lanes, count);
    return errors;
}

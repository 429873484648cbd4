/* lane.c - the clock, the window, lanes and their threads. See load.h. */
#include "load.h"
#include "payload.h"
#include "proc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000.0
#define WAIT_MAX 50000000u /* 50 ms: how late the end of the window may be seen by a lane without traffic */
#define SPIN_UNDER 200000u /* with --spin: what is due sooner than this is not slept for */

window win;

uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void sleep_ns(uint64_t ns)
{
    struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    while (nanosleep(&t, &t) != 0 && errno == EINTR) {
    }
}

_Noreturn void die(const char *what)
{
    fprintf(stderr, "nl-load: %s: %s\n", what, strerror(errno));
    exit(3);
}

void window_set(void)
{
    win.start = now_ns() + 2000000; /* so that all lanes are there */
    win.begin = win.start + (uint64_t)(opt.warmup * SECOND);
    win.end = win.begin + (uint64_t)(opt.seconds * SECOND);
}

/* --- What the processes used ------------------------------------------------------------------ */

typedef struct usage {
    uint64_t t;
    int64_t cpu, own, sleeps;
} usage;

static usage first, last;

static usage usage_now(void)
{
    usage u = {now_ns(), proc_cpu_ns(), proc_own_cpu_ns(), proc_sleeps()};
    return u;
}

void lane_tick(lane *l, uint64_t now)
{
    if (l->index != 0) {
        return;
    }
    if (!l->began && now >= win.begin) {
        l->began = true;
        first = usage_now();
    }
    if (!l->ended && now >= win.end) {
        l->ended = true;
        last = usage_now();
    }
}

void report_usage(uint64_t messages)
{
    double s = (double)(last.t - first.t) / SECOND;
    double cpu = (double)(last.cpu - first.cpu);
    if (s <= 0) {
        return;
    }
    if (proc_watched()) {
        report_number("server_cpu", cpu / SECOND / s, 3);
        if (messages) {
            report_number("cpu_us_msg", cpu / 1e3 / (double)messages, 4);
            report_number("sleeps_msg", (double)(last.sleeps - first.sleeps) / (double)messages, 5);
        }
    }
    report_number("load_cpu", (double)(last.own - first.own) / SECOND / s, 3);
}

/* --- Lanes ------------------------------------------------------------------------------------ */

lane *lanes_new(unsigned *count)
{
    unsigned n = opt.threads < opt.connections ? opt.threads : opt.connections;
    lane *lanes = calloc(n, sizeof(*lanes));
    conn *conns = calloc(opt.connections, sizeof(*conns));
    if (!lanes || !conns) {
        die("memory");
    }
    for (unsigned i = 0, at = 0; i < n; i++) {
        lane *l = &lanes[i];
        l->index = i;
        l->nconns = opt.connections / n + (i < opt.connections % n);
        l->conns = conns + at;
        for (unsigned k = 0; k < l->nconns; k++) {
            l->conns[k].fd = -1;
            l->conns[k].id = at + k;
        }
        at += l->nconns;
        size_t frame = payload_frame();
        l->out_cap = frame > 1u << 20 ? frame : 1u << 20;
        l->in = malloc(LANE_IN);
        l->out = malloc(l->out_cap);
        l->ep = epoll_create1(EPOLL_CLOEXEC);
        if (!l->in || !l->out || l->ep < 0) {
            die("setting up");
        }
    }
    *count = n;
    return lanes;
}

void lanes_free(lane *lanes, unsigned count)
{
    for (unsigned i = 0; i < opt.connections; i++) {
        free(lanes[0].conns[i].out);
        free(lanes[0].conns[i].since);
    }
    free(lanes[0].conns);
    for (unsigned i = 0; i < count; i++) {
        close(lanes[i].ep);
        free(lanes[i].in);
        free(lanes[i].out);
    }
    free(lanes);
}

int lane_wait(lane *l, uint64_t until)
{
    uint64_t now = now_ns();
    uint64_t ns = until > now ? until - now : 0;
    if (ns > WAIT_MAX) {
        ns = WAIT_MAX;
    } else if (opt.spin && ns < SPIN_UNDER) {
        ns = 0;
    }
    struct timespec t = {0, (long)ns};
    int n = epoll_pwait2(l->ep, l->events, LANE_EVENTS, &t, NULL);
    if (n < 0 && errno != EINTR) {
        die("epoll_pwait2");
    }
    return n < 0 ? 0 : n;
}

typedef struct job {
    lane *l;
    void (*fn)(lane *l);
} job;

static void *lane_main(void *arg)
{
    job *j = arg;
    prctl(PR_SET_TIMERSLACK, 1); /* by default the kernel is up to 50 µs late on purpose; it is per thread */
    j->fn(j->l);
    return NULL;
}

void lanes_run(lane *lanes, unsigned count, void (*fn)(lane *l))
{
    job *jobs = calloc(count, sizeof(*jobs));
    if (!jobs) {
        die("memory");
    }
    window_set();
    for (unsigned i = 0; i < count; i++) {
        jobs[i] = (job){&lanes[i], fn};
        if (i > 0 && (errno = pthread_create(&lanes[i].thread, NULL, lane_main, &jobs[i])) != 0) {
            die("pthread_create");
        }
    }
    lane_main(&jobs[0]);
    for (unsigned i = 1; i < count; i++) {
        lane *l = &lanes[i];
        pthread_join(l->thread, NULL);
        lanes[0].messages += l->messages;
        lanes[0].unanswered += l->unanswered;
        lanes[0].errors += l->errors;
        hist_merge(&lanes[0].latency, &l->latency);
        hist_merge(&lanes[0].lag, &l->lag);
    }
    free(jobs);
}

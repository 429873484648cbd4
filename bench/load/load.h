/*
 * load.h - what all modes of nl-load share: options, clock, the window of measurement, and
 * lanes, which are one thread's share of the load with everything that thread needs.
 *
 * The options and the window are written before any lane runs and only read from then on.
 * A lane belongs to its thread until that has been joined.
 */
#ifndef NL_LOAD_LOAD_H
#define NL_LOAD_LOAD_H

#include "hist.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

typedef struct load_opt {
    const char *mode, *host, *pids;
    unsigned port, connections, size, depth, head, threads;
    bool little, json, spin;
    double rate, seconds, warmup, grace;
} load_opt;

extern load_opt opt;

uint64_t now_ns(void);
void sleep_ns(uint64_t ns);
/* Prints "nl-load: what: strerror(errno)" and ends the process with status 3: nothing could be measured. */
_Noreturn void die(const char *what);

/* --- The window of measurement ---------------------------------------------------------------- */

/* Load runs from `start`, counts from `begin` (after the warm-up) to `end`. */
typedef struct window {
    uint64_t start, begin, end;
} window;

extern window win;

/* Sets the window; the load starts in a moment. */
void window_set(void);

static inline bool window_has(uint64_t t)
{
    return t >= win.begin && t < win.end;
}

/* --- Connections ------------------------------------------------------------------------------ */

typedef struct conn {
    int fd; /* -1: closed */
    uint32_t id;
    bool stuck;          /* the kernel takes no more; waits for EPOLLOUT */
    bool joined;         /* bcast: has had its first message */
    uint64_t due;        /* open loop: messages that should have been sent by now */
    uint64_t sent, rcvd; /* messages handed to the kernel or to out; replies completed */
    size_t got;          /* bytes of reply number rcvd that have come */
    unsigned char *out;  /* what the kernel has not taken yet */
    size_t out_n, out_at, out_cap;
    uint64_t *since; /* closed loop: when message number i was sent, at i % depth */
    uint64_t opened; /* storm: when connect was called */
} conn;

#define LANE_IN ((size_t)256 * 1024)
#define LANE_EVENTS 512

typedef struct lane {
    unsigned index;
    pthread_t thread;
    int ep;
    conn *conns;
    unsigned nconns;
    unsigned char *in, *out; /* scratch: LANE_IN and out_cap bytes */
    size_t out_cap;
    struct epoll_event events[LANE_EVENTS];
    bool began, ended; /* lane 0: has looked at the processes at either end of the window */

    uint64_t messages;   /* replies (bcast: copies; storm: connections) completed in the window */
    uint64_t unanswered; /* due in the window and never answered */
    uint64_t errors;
    hist latency;
    hist lag; /* open loop: how long after its due time a message left */
} lane;

/*
 * Makes opt.threads lanes that share opt.connections (not yet opened) between them.  Their
 * connections are one array: that of the first lane goes on into the others'.
 */
lane *lanes_new(unsigned *count);
void lanes_free(lane *lanes, unsigned count);
/* Opens them all, blocking; ends the process if one cannot be opened. Registers each for EPOLLIN. */
void lanes_open(lane *lanes, unsigned count);
/* Runs fn on each, in threads of their own but for the first, and sums all up in the first. */
void lanes_run(lane *lanes, unsigned count, void (*fn)(lane *l));

/* Waits for events until the time `until` at most (and 50 ms); returns how many are in l->events. */
int lane_wait(lane *l, uint64_t until);
/* To be called in each turn: lane 0 looks at the processes' CPU time as the window begins and ends. */
void lane_tick(lane *l, uint64_t now);

/* Starts a connection, blocking or not; -1 with errno set. Sources 127.0.0.2… by `source`, where 0 leaves it to the kernel. */
int conn_dial(bool blocking, unsigned source);
/* True where many source addresses can be used: the target is on the loopback interface. */
bool conn_many_sources(void);
/* Composes k messages numbered from c->sent and sends them; the connection may be closed when it returns. */
void conn_send(lane *l, conn *c, unsigned k);
/* After EPOLLOUT. */
void conn_flush(lane *l, conn *c);
/*
 * Reads once. >= 0: that many replies were completed (c->rcvd has moved on); -1: nothing was there; -2: the
 * connection has failed and is closed. `id` stamps the messages, those before number `sent` may come.
 */
int64_t conn_read(lane *l, conn *c, uint32_t id, uint64_t sent);
/* Counts an error, tells the first few, closes the connection. Without `why`: of errno. */
void conn_fail(lane *l, conn *c, const char *why);

/* --- Modes ------------------------------------------------------------------------------------ */

/* Each adds its results to the report; returns the number of errors. */
uint64_t run_echo(void);
uint64_t run_bcast(void);
uint64_t run_storm(void);
uint64_t run_idle(void);

/* --- The report ------------------------------------------------------------------------------- */

void report_text(const char *key, const char *value);
void report_number(const char *key, double value, int decimals);
/* PREFIXp50_us … PREFIXmax_us. */
void report_hist(const char *prefix, const hist *h);
/* What the watched processes, and nl-load itself, used in the window; per message where there are some. */
void report_usage(uint64_t messages);
/* All of it in one line, in the order added: key=value … or a JSON object. */
void report_print(bool json);

#endif

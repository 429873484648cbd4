/*
 * main.c - runs the benchmarks of micro.h and prints ns and instructions per operation.
 *
 * A benchmark is run for about 20 ms at a time, several times over; the median is told, and the
 * least, which is what the operation takes when nothing else gets in its way.
 */
#include "base/alloc.h"
#include "base/os.h"
#include "count.h"
#include "micro.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPEATS_MAX 101

static const micro *const tables[] = {
    micro_mailbox, micro_runq, micro_timers, micro_slots, micro_pool, micro_frame, micro_chain, micro_pack,
};

static const char help[] =
    "usage: nl-micro [OPTION...] [NAME...]\n"
    "\n"
    "Times single parts of nl-jit: ns and, where they can be counted, instructions for each operation. NAME "
    "is the\n"
    "beginning of a benchmark's name.\n"
    "\n"
    "  --list         prints names and what an operation is\n"
    "  --json         one JSON object for each, a line each\n"
    "  --ms N         how long one run takes (20)\n"
    "  --repeats N    how many runs (9)\n"
    "  --ops N        does N operations and measures nothing: for callgrind and other tools\n";

static struct {
    bool json;
    double ms;
    unsigned repeats;
    uint64_t ops;
} opt = {.ms = 20, .repeats = 9};

static bool can_count;

static double timed(const micro *m, uint64_t n, uint64_t *instructions)
{
    count_start();
    int64_t t = nl_now_ns();
    m->run(n);
    t = nl_now_ns() - t;
    *instructions = count_stop();
    return (double)t;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void measure(const micro *m)
{
    double ns[REPEATS_MAX], count[REPEATS_MAX];
    uint64_t n = 256, c;
    /* Until a run is long enough to tell how many operations fill the time; this also warms up. */
    double t;
    while ((t = timed(m, n, &c)) < opt.ms * 1e6 / 4) {
        n *= 2;
    }
    n = (uint64_t)((double)n * opt.ms * 1e6 / t) + 1;
    for (unsigned i = 0; i < opt.repeats; i++) {
        ns[i] = timed(m, n, &c) / (double)n;
        count[i] = (double)c / (double)n;
    }
    qsort(ns, opt.repeats, sizeof(*ns), by_size);
    qsort(count, opt.repeats, sizeof(*count), by_size);
    double median = ns[opt.repeats / 2], instructions = count[opt.repeats / 2];
    unsigned threads = m->threads ? m->threads : 1;
    if (opt.json) {
        printf("{\"name\": \"%s\", \"what\": \"%s\", \"threads\": %u, \"ns\": %.3f, \"ns_min\": %.3f, "
               "\"ops\": %llu",
               m->name, m->what, threads, median, ns[0], (unsigned long long)n);
        if (can_count) {
            printf(", \"instructions\": %.2f", instructions);
        }
        puts("}");
    } else {
        char counted[32] = "-";
        if (can_count) {
            snprintf(counted, sizeof(counted), "%.1f", instructions);
        }
        printf("%-24s %9.2f %9.2f %9s  %s\n", m->name, median, ns[0], counted, m->what);
    }
    fflush(stdout);
}

static void one(const micro *m)
{
    if (m->setup) {
        m->setup();
    }
    if (opt.ops) {
        m->run(opt.ops);
    } else {
        measure(m);
    }
    if (m->teardown) {
        m->teardown();
    }
}

static bool exists(const char *name)
{
    for (unsigned i = 0; i < nl_countof(tables); i++) {
        for (const micro *m = tables[i]; m->name; m++) {
            if (strcmp(m->name, name) == 0) {
                return true;
            }
        }
    }
    return false;
}

static bool wanted(const char *name, char **asked, int n)
{
    for (int i = 0; i < n; i++) {
        if (exists(asked[i]) ? strcmp(name, asked[i]) == 0 : strncmp(name, asked[i], strlen(asked[i])) == 0) {
            return true;
        }
    }
    return n == 0;
}

static double number(const char *s, double min, double max)
{
    char *end;
    double x = strtod(s, &end);
    if (end == s || *end || !(x >= min && x <= max)) {
        fprintf(stderr, "nl-micro: not a number from %.0f to %.0f: %s\n", min, max, s);
        exit(2);
    }
    return x;
}

struct nl_thread *micro_thread(void (*fn)(void *), void *arg)
{
    struct nl_thread *t;
    int err = nl_thread_start(&t, "micro", fn, arg);
    if (err < 0) {
        fprintf(stderr, "nl-micro: no thread: %s\n", strerror(-err));
        exit(1);
    }
    return t;
}

int main(int argc, char **argv)
{
    static const struct option names[] = {
        {"help", no_argument, NULL, 'h'},
        {"json", no_argument, NULL, 'j'},
        {"list", no_argument, NULL, 'l'},
        {"ms", required_argument, NULL, 'm'},
        {"ops", required_argument, NULL, 'o'},
        {"repeats", required_argument, NULL, 'r'},
        {NULL, 0, NULL, 0},
    };
    bool list = false;
    unsigned found = 0;
    for (int c; (c = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        switch (c) {
        case 'h':
            fputs(help, stdout);
            return 0;
        case 'j':
            opt.json = true;
            break;
        case 'l':
            list = true;
            break;
        case 'm':
            opt.ms = number(optarg, 0.1, 1e5);
            break;
        case 'o':
            opt.ops = (uint64_t)number(optarg, 1, 1e15);
            break;
        case 'r':
            opt.repeats = (unsigned)number(optarg, 1, REPEATS_MAX);
            break;
        default:
            return 2;
        }
    }
    can_count = count_open();
    if (!list && !opt.json && !opt.ops) {
        printf("%-24s %9s %9s %9s  %s\n", "", "ns", "least", "instr.", "one operation");
    }
    for (unsigned i = 0; i < nl_countof(tables); i++) {
        for (const micro *m = tables[i]; m->name; m++) {
            if (!wanted(m->name, argv + optind, argc - optind)) {
                continue;
            }
            found++;
            if (list) {
                printf("%-24s %u  %s\n", m->name, m->threads ? m->threads : 1, m->what);
            } else {
                one(m);
            }
        }
    }
    if (!found) {
        fputs("nl-micro: no benchmark has that name (nl-micro --list)\n", stderr);
        return 2;
    }
    nl_pool_thread_exit();
    nl_pool_fini();
    return 0;
}

/*
 * nl-load.c - a load generator for servers that send messages back: framed with a length head,
 * or a plain stream.  This file reads the options; load/load.h tells how the rest hangs together.
 */
#include "load/load.h"
#include "load/payload.h"
#include "load/proc.h"

#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static const char help[] =
    "usage: nl-load MODE --port PORT [OPTION...]\n"
    "\n"
    "Loads a TCP server that sends back what it gets, checks every byte of the replies, and prints one\n"
    "line of results.\n"
    "\n"
    "modes\n"
    "  echo    each connection sends messages and gets each of them back\n"
    "  bcast   one connection sends, all of them get each message\n"
    "  storm   connect, one message there and back, close; again and again\n"
    "  idle    connections that rest: memory and wake-ups of the server (--pid)\n"
    "\n"
    "the server\n"
    "  --host HOST          name or address (127.0.0.1)\n"
    "  --port PORT\n"
    "  --pid PID[,PID...]   its processes, for CPU time and memory\n"
    "\n"
    "the messages\n"
    "  --size BYTES         of payload (64)\n"
    "  --head 0|1|2|4       bytes of length in front of the payload, which it does not count itself; 0 = "
    "none (2)\n"
    "  --endian big|little  of the head (big)\n"
    "\n"
    "the load\n"
    "  --connections N      (50) storm: how many at once\n"
    "  --depth N            messages on their way, on each connection; bcast: in all (1; bcast 4; with "
    "--rate: no limit)\n"
    "  --rate N             open loop: N messages a second in all, due at fixed times; latency counts from "
    "these\n"
    "  --seconds S          of measuring (3); idle: of watching\n"
    "  --warmup S           of load before that (0.5)\n"
    "  --grace S            open loop: how long the last replies are waited for (2)\n"
    "  --threads N          (1) bcast and idle have one\n"
    "  --spin               with --rate: poll instead of sleeping between messages; costs a whole processor\n"
    "\n"
    "the results\n"
    "  --json               as a JSON object in place of key=value\n"
    "\n"
    "msgs_s: replies in a second (bcast: copies; storm: connections). p50_us…: microseconds that so many "
    "percent of\n"
    "the messages did not exceed (bcast: each copy; all_: until the last copy). lag_: how late nl-load "
    "itself sent.\n"
    "server_cpu, load_cpu: processors in use. cpu_us_msg: the server's CPU time for each message. "
    "sleeps_msg: how often\n"
    "a thread of it went to sleep. conn_bytes…: its memory for each connection: fresh, after an echo, after "
    "closing.\n"
    "\n"
    "Exit status: 0; 1 a reply was wrong or a connection failed; 2 bad usage; 3 nothing could be measured.\n";

load_opt opt = {
    .host = "127.0.0.1",
    .connections = 50,
    .size = 64,
    .head = 2,
    .threads = 1,
    .seconds = 3,
    .warmup = 0.5,
    .grace = 2,
};

static _Noreturn void usage(const char *what, const char *value)
{
    fprintf(stderr, "nl-load: %s%s%s (nl-load --help)\n", what, value ? ": " : "", value ? value : "");
    exit(2);
}

static unsigned whole(const char *name, const char *s, unsigned min, unsigned max)
{
    char *end, what[96];
    unsigned long long n = strtoull(s, &end, 10);
    if (end == s || *end || *s == '-' || n < min || n > max) {
        snprintf(what, sizeof(what), "--%s must be a number from %u to %u", name, min, max);
        usage(what, s);
    }
    return (unsigned)n;
}

static double real(const char *name, const char *s)
{
    char *end, what[96];
    double x = strtod(s, &end);
    if (end == s || *end || !isfinite(x) || x < 0) {
        snprintf(what, sizeof(what), "--%s must be a number from 0 up", name);
        usage(what, s);
    }
    return x;
}

static const struct option names[] = {
    {"connections", required_argument, NULL, 'c'},
    {"depth", required_argument, NULL, 'd'},
    {"endian", required_argument, NULL, 'e'},
    {"grace", required_argument, NULL, 'g'},
    {"head", required_argument, NULL, 'h'},
    {"help", no_argument, NULL, 'u'},
    {"host", required_argument, NULL, 'H'},
    {"json", no_argument, NULL, 'j'},
    {"pid", required_argument, NULL, 'P'},
    {"port", required_argument, NULL, 'p'},
    {"rate", required_argument, NULL, 'r'},
    {"seconds", required_argument, NULL, 's'},
    {"size", required_argument, NULL, 'z'},
    {"spin", no_argument, NULL, 'S'},
    {"threads", required_argument, NULL, 't'},
    {"warmup", required_argument, NULL, 'w'},
    {NULL, 0, NULL, 0},
};

static void take_option(int c, const char *name, const char *arg)
{
    switch (c) {
    case 'c':
        opt.connections = whole(name, arg, 1, 10000000);
        break;
    case 'd':
        opt.depth = whole(name, arg, 1, 1000000);
        break;
    case 'e':
        opt.little = strcmp(arg, "little") == 0;
        if (!opt.little && strcmp(arg, "big") != 0) {
            usage("--endian must be big or little", arg);
        }
        break;
    case 'g':
        opt.grace = real(name, arg);
        break;
    case 'h':
        opt.head = whole(name, arg, 0, 4);
        if (opt.head == 3) {
            usage("--head must be 0, 1, 2 or 4", arg);
        }
        break;
    case 'H':
        opt.host = arg;
        break;
    case 'j':
        opt.json = true;
        break;
    case 'P':
        opt.pids = arg;
        break;
    case 'p':
        opt.port = whole(name, arg, 1, 65535);
        break;
    case 'r':
        opt.rate = real(name, arg);
        break;
    case 's':
        opt.seconds = real(name, arg);
        break;
    case 'z':
        opt.size = whole(name, arg, 0, 1u << 30);
        break;
    case 'S':
        opt.spin = true;
        break;
    case 't':
        opt.threads = whole(name, arg, 1, 256);
        break;
    default:
        opt.warmup = real(name, arg);
        break;
    }
}

static void read_options(int argc, char **argv)
{
    int c, at = 0;
    opterr = 0;
    while ((c = getopt_long(argc, argv, ":", names, &at)) != -1) {
        switch (c) {
        case 'u':
            fputs(help, stdout);
            exit(0);
        case ':':
            usage("a value is missing after", argv[optind - 1]);
        case '?':
            usage("unknown option", argv[optind - 1]);
        default:
            take_option(c, names[at].name, optarg);
        }
    }
    if (optind + 1 != argc) {
        usage(optind == argc ? "a mode is missing: echo, bcast, storm or idle" : "unexpected argument",
              optind == argc ? NULL : argv[optind + 1]);
    }
    opt.mode = argv[optind];
    if (opt.port == 0) {
        usage("--port is missing", NULL);
    }
    if (opt.seconds <= 0) {
        usage("--seconds must be more than 0", NULL);
    }
    if (opt.pids && !proc_watch(opt.pids)) {
        usage("--pid names no process", opt.pids);
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        uint64_t (*run)(void);
        unsigned size_min;
    } modes[] = {
        {"echo", run_echo, 0},
        {"bcast", run_bcast, 8}, /* the stamp must have room: see join */
        {"storm", run_storm, 1},
        {"idle", run_idle, 1},
    };
    read_options(argc, argv);

    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        if (strcmp(modes[i].name, opt.mode) != 0) {
            continue;
        }
        if (opt.size < modes[i].size_min || opt.size + opt.head == 0) {
            usage("--size is too small for this mode", NULL);
        }
        if (modes[i].run == run_bcast || modes[i].run == run_idle) {
            opt.threads = 1;
        }
        if (!payload_setup(opt.head, opt.little, opt.size)) {
            usage("the head cannot express a payload of that many bytes", NULL);
        }
        uint64_t errors = modes[i].run();
        report_number("errors", (double)errors, 0);
        report_print(opt.json);
        return errors > 0;
    }
    usage("no such mode", opt.mode);
}

/*
 * main.c - the command line: parses options, boots the runtime, returns the exit status.
 *
 *     nl-jit [options] [script [args]]
 *
 * Options are luajit's where luajit has them, with its spelling: an option's argument may
 * stand behind it or attached to it.
 */
#include <errno.h>
#include <luajit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/os.h"
#include "base/process.h"
#include "base/signals.h"
#include "lua/life.h"
#include "net/resolver.h"
#include "net/tcp.h"
#include "reactor/reactor.h"
#include "sched/offload.h"
#include "sched/sched.h"
#include "sched/shutdown.h"

static const char usage_text[] =
    "usage: nl-jit [options] script.lua [args]\n"
    "\n"
    "Runs script.lua as the first context; `-` reads it from standard input.\n"
    "\n"
    "  -e CHUNK          run the Lua text CHUNK first\n"
    "  -l MODULE         require MODULE first\n"
    "      --each MODULE require MODULE first in every context\n"
    "  -i                prompt for Lua when the script has run\n"
    "  -b ...            save or list bytecode, as luajit does\n"
    "  -E                ignore LUA_INIT, LUA_PATH and LUA_CPATH\n"
    "  -w, --workers N   number of worker threads (default: as many as processors)\n"
    "      --pin=MODE    bind workers to processors: auto, on, off (default: auto)\n"
    "  -j CMD            control the JIT compiler: on, off, flush, or a jit.* module (dump, v, p)\n"
    "  -O[OPT]           tune the JIT compiler, as luajit does\n"
    "  -v, --version     print versions\n"
    "  -h, --help        print this\n"
    "  --                end of options\n";

typedef struct options {
    nl_sched_config sched;
    nl_lua_options lua;
    bool version;
    bool help;
} options;

static int usage_error(const char *what, const char *arg)
{
    fprintf(stderr, "nl-jit: %s%s%s; try nl-jit -h\n", what, arg ? " " : "", arg ? arg : "");
    return 2;
}

/* first: only the line that a prompt begins with. */
static void print_version(bool first)
{
    (void)first;
    printf("nl-jit %s (reactor: %s; %s, ", NL_VERSION, nl_reactor_backend(), LUAJIT_VERSION);
#if NL_LUAJIT_BUNDLED
    printf("bundled %s%s)\n", NL_LUAJIT_VERSION, NL_LUAJIT_INSIDE ? "" : ", its inside not used");
#else
    printf("the system's %s)\n", NL_LUAJIT_VERSION);
    if (first) {
        return;
    }
    printf("The system's LuaJIT lacks what the bundled one is built with: hooks do not reach compiled loops, "
           "so an\n"
           "endless one cannot be stopped; errors get slower with the number of contexts that have compiled "
           "code.\n");
#endif
}

/* --- parsing ---------------------------------------------------------------------------------- */

/* Puts kind and text into one string, as nl_lua_options wants it. */
static char *tagged(char kind, const char *text)
{
    size_t n = strlen(text);
    char *s = nl_malloc(n + 2);
    s[0] = kind;
    memcpy(s + 1, text, n + 1);
    return s;
}

/* The whole of text as a number in [1, NL_WORKERS_MAX], or 0. */
static int worker_count(const char *text)
{
    char *end;
    errno = 0;
    long n = strtol(text, &end, 10);
    return errno || end == text || *end || n < 1 || n > NL_WORKERS_MAX ? 0 : (int)n;
}

static int set_workers(options *o, const char *text)
{
    o->sched.workers = worker_count(text);
    if (o->sched.workers == 0) {
        char what[64];
        snprintf(what, sizeof what, "--workers takes a number from 1 to %d, not", NL_WORKERS_MAX);
        return usage_error(what, *text ? text : "nothing");
    }
    return 0;
}

static int set_pin(options *o, const char *text)
{
    static const char *const modes[] = {"auto", "on", "off"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(text, modes[i]) == 0) {
            o->sched.pin = i == 0 ? NL_PIN_AUTO : i == 1 ? NL_PIN_ON : NL_PIN_OFF;
            return 0;
        }
    }
    return usage_error("--pin takes auto, on or off, not", *text ? text : "nothing");
}

/* The long option `name`, its value behind '=' or in the next argument: 0 no, 1 yes, 2 no value. */
static int long_option(const char *name, int argc, char **argv, int *i, const char **value)
{
    size_t n = strlen(name);
    if (strncmp(argv[*i], name, n) != 0) {
        return 0;
    }
    if (argv[*i][n] == '=') {
        *value = argv[*i] + n + 1;
        return 1;
    }
    if (argv[*i][n] != 0) {
        return 0;
    }
    if (*i + 1 >= argc) {
        return 2;
    }
    *value = argv[++*i];
    return 1;
}

static int parse_long(options *o, int argc, char **argv, int *i)
{
    const char *arg = argv[*i], *value = NULL;
    if (strcmp(arg, "--help") == 0) {
        o->help = true;
        return 0;
    }
    if (strcmp(arg, "--version") == 0) {
        o->version = true;
        return 0;
    }
    switch (long_option("--workers", argc, argv, i, &value)) {
    case 1:
        return set_workers(o, value);
    case 2:
        return usage_error("--workers needs a number", NULL);
    }
    switch (long_option("--pin", argc, argv, i, &value)) {
    case 1:
        return set_pin(o, value);
    case 2:
        return usage_error("--pin needs auto, on or off", NULL);
    }
    switch (long_option("--each", argc, argv, i, &value)) {
    case 1:
        o->lua.each[o->lua.neach++] = (char *)value;
        return 0;
    case 2:
        return usage_error("--each needs a module's name", NULL);
    }
    return usage_error("unknown option", arg);
}

/* An option of one letter; those with a value take the rest of the argument or the next one. */
static int parse_short(options *o, int argc, char **argv, int *i)
{
    const char *arg = argv[*i];
    char letter = arg[1];
    const char *value = arg + 2;
    switch (letter) {
    case 'h':
    case 'v':
    case 'i':
    case 'E':
        if (*value) {
            return usage_error("unknown option", arg);
        }
        o->help |= letter == 'h';
        o->version |= letter == 'v';
        o->lua.interactive |= letter == 'i';
        o->lua.no_environment |= letter == 'E';
        return 0;
    case 'O': /* luajit's takes no separate value */
        o->lua.jit[o->lua.njit++] = tagged('O', value);
        return 0;
    case 'e':
    case 'l':
    case 'j':
    case 'w':
        if (!*value) {
            if (*i + 1 >= argc) {
                const char name[3] = {'-', letter, 0};
                return usage_error(letter == 'e'   ? "Lua text is missing after"
                                   : letter == 'l' ? "a module's name is missing after"
                                   : letter == 'w' ? "a number is missing after"
                                                   : "a command is missing after",
                                   name);
            }
            value = argv[++*i];
        }
        if (letter == 'w') {
            return set_workers(o, value);
        }
        if (letter == 'j') {
            o->lua.jit[o->lua.njit++] = tagged('j', value);
        } else {
            o->lua.chunks[o->lua.nchunks++] = tagged(letter, value);
        }
        return 0;
    default:
        return usage_error("unknown option", arg);
    }
}

static int parse(options *o, int argc, char **argv)
{
    int i = 1;
    for (; i < argc && argv[i][0] == '-' && argv[i][1]; i++) {
        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        if (argv[i][1] == 'b') {
            o->lua.bytecode = true; /* all that follows is its own */
            break;
        }
        int status = argv[i][1] == '-' ? parse_long(o, argc, argv, &i) : parse_short(o, argc, argv, &i);
        if (status) {
            return status;
        }
    }
    o->lua.argv = argv;
    o->lua.argc = argc;
    o->lua.script_index = i;
    if (!o->help && !o->version && !o->lua.interactive && i >= argc && o->lua.nchunks == 0) {
        return usage_error("no script given", NULL);
    }
    const char *seed = getenv("NLJIT_CHAOS"); /* a test mode, see docs/design.md */
    o->sched.chaos = seed ? strtoull(seed, NULL, 10) : 0;
    return 0;
}

static void options_free(options *o)
{
    for (int i = 0; i < o->lua.nchunks; i++) {
        nl_free(o->lua.chunks[i]);
    }
    for (int i = 0; i < o->lua.njit; i++) {
        nl_free(o->lua.jit[i]);
    }
    nl_free(o->lua.chunks);
    nl_free(o->lua.jit);
    nl_free(o->lua.each);
}

/* --- main ------------------------------------------------------------------------------------- */

static int run(const options *o)
{
    int err = nl_sched_init(&o->sched);
    if (err) {
        fprintf(stderr, "nl-jit: cannot start: %s\n", nl_err_text(err));
        return 1;
    }
    int status = 1;
    err = nl_tcp_init();
    if (err) {
        fprintf(stderr, "nl-jit: cannot start: %s\n", nl_err_text(err));
    } else {
        status = nl_lua_start(&o->lua);
        if (!status) {
            nl_shutdown_catch_signals();
            status = nl_sched_run();
        }
        nl_offload_fini();
        nl_resolver_fini();
        nl_tcp_fini();
    }
    nl_lua_fini();
    nl_sched_fini();
    return status;
}

/* What was printed leaves; a status of its own tells that it could not. */
static int finish(options *o, int status)
{
    options_free(o);
    return (fflush(stdout) || ferror(stdout)) && !status ? 1 : status;
}

static int run_all(void *arg)
{
    options *o = arg;
    return finish(o, run(o));
}

int main(int argc, char **argv)
{
    options o = {0};
    nl_process_init();
    argv = nl_process_args(argv);
    for (argc = 0; argv[argc]; argc++) { /* as many as there are now */
    }
    o.lua.chunks = nl_calloc((size_t)argc * sizeof *o.lua.chunks);
    o.lua.jit = nl_calloc((size_t)argc * sizeof *o.lua.jit);
    o.lua.each = nl_calloc((size_t)argc * sizeof *o.lua.each);
    int status = parse(&o, argc, argv);
    if (!status && o.help) {
        fputs(usage_text, stdout);
    } else if (!status) {
        if (o.version || o.lua.interactive) {
            print_version(!o.version);
        }
        if (o.lua.script_index < argc || o.lua.nchunks || o.lua.interactive) {
            nl_shutdown_guard(run_all, &o);
        }
    }
    return finish(&o, status);
}

/* Threads, clock, log lines and the last words of a process. */
#include "base/alloc.h"
#include "base/log.h"
#include "base/os.h"
#include "base/spin.h"

#include "apart_kit.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifndef _WIN32
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>
#endif

#define MS ((int64_t)1000000)

Test(os, clock_goes_forward)
{
    int64_t last = nl_now_ns();
    for (int i = 0; i < 100000; i++) {
        int64_t now = nl_now_ns();
        cr_assert_geq(now, last);
        last = now;
    }
}

static void ended(void *arg)
{
    *(int *)arg = 1;
}

Test(os, join_waits_for_the_end)
{
    for (int i = 0; i < 50; i++) {
        int done = 0;
        nl_thread *t;
        cr_assert_eq(nl_thread_start(&t, "a name longer than fifteen bytes", ended, &done), 0);
        nl_thread_join(t);
        cr_assert_eq(done, 1);
    }
}

typedef struct waiting {
    nl_mutex *m;
    nl_cond *c;
    int turn, rounds;
} waiting;

static void answer(void *arg)
{
    waiting *w = arg;
    nl_mutex_lock(w->m);
    for (int i = 0; i < w->rounds; i++) {
        while (w->turn != 1) {
            nl_cond_wait(w->c, w->m, -1);
        }
        w->turn = 0;
        nl_cond_broadcast(w->c);
    }
    nl_mutex_unlock(w->m);
}

Test(os, condition_between_threads, .timeout = 60)
{
    waiting w = {nl_mutex_new(), nl_cond_new(), 0, 500};
    nl_thread *t;
    cr_assert_eq(nl_thread_start(&t, "answer", answer, &w), 0);
    nl_mutex_lock(w.m);
    for (int i = 0; i < w.rounds; i++) {
        w.turn = 1;
        nl_cond_signal(w.c);
        while (w.turn != 0) {
            nl_cond_wait(w.c, w.m, 3600 * 1000 * MS);
        }
    }
    nl_mutex_unlock(w.m);
    nl_thread_join(t);
    nl_cond_free(w.c);
    nl_mutex_free(w.m);
}

Test(os, condition_gives_up_in_time, .timeout = 60)
{
    nl_mutex *m = nl_mutex_new();
    nl_cond *c = nl_cond_new();
    static const int64_t timeout[] = {0, 1, 100000, 3 * MS, 20 * MS};
    nl_mutex_lock(m);
    for (size_t i = 0; i < nl_countof(timeout); i++) {
        /* Spurious returns are allowed; going on until the time has passed must come to an end. */
        int64_t end = nl_now_ns() + timeout[i], now;
        while ((now = nl_now_ns()) < end) {
            nl_cond_wait(c, m, end - now);
        }
    }
    nl_mutex_unlock(m);
    nl_cond_free(c);
    nl_mutex_free(m);
}

static nl_spin spin = NL_SPIN_INIT;
static long counted;

static void count_up(void *arg)
{
    (void)arg;
    for (int i = 0; i < 20000; i++) {
        nl_spin_lock(&spin);
        counted++;
        nl_spin_unlock(&spin);
    }
}

#if defined(__linux__) || defined(_WIN32) /* others cannot tell */
static atomic_int_fast64_t watch_of;
static atomic_bool may_end;
static nl_mutex *held;

static void spins_then_waits(void *arg)
{
    (void)arg;
    atomic_store(&watch_of, nl_thread_watch());
    while (!atomic_load(&may_end)) {
    }
    nl_mutex_lock(held);
    nl_mutex_unlock(held);
}

/* Spins until may_end, then waits for held. */
static int64_t start_watched(nl_thread **t)
{
    int64_t watch;
    atomic_store(&watch_of, 0);
    atomic_store(&may_end, false);
    held = nl_mutex_new();
    nl_mutex_lock(held);
    cr_assert_eq(nl_thread_start(t, "(two) words", spins_then_waits, NULL), 0);
    while (!(watch = atomic_load(&watch_of))) {
        nl_thread_yield();
    }
    return watch;
}

static void await_sleep(int64_t watch)
{
    atomic_store(&may_end, true);
    while (!nl_thread_sleeps(watch)) {
        nl_thread_yield();
    }
}

static void end_watched(nl_thread *t, int64_t watch)
{
    nl_mutex_unlock(held);
    nl_thread_join(t);
    cr_assert_not(nl_thread_sleeps(watch), "it has ended");
    nl_thread_unwatch(watch);
    nl_mutex_free(held);
}

Test(os, a_thread_that_waits_for_a_processor_does_not_sleep, .timeout = 60)
{
    nl_thread *t;
    int64_t watch = start_watched(&t), mine = nl_thread_watch();
    for (int i = 0; i < 100; i++) {
        cr_assert_not(nl_thread_sleeps(watch));
    }
    cr_assert_not(nl_thread_sleeps(mine));
    nl_thread_unwatch(mine);
    await_sleep(watch);
    end_watched(t, watch);
}
#endif

#ifdef __linux__
Test(os, a_sleep_is_seen_where_no_file_can_be_opened, .timeout = 60)
{
    nl_thread *t;
    int64_t watch = start_watched(&t);
    struct rlimit before, none;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = (struct rlimit){0, before.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    cr_assert_eq(nl_thread_watch(), -1);
    cr_assert_not(nl_thread_sleeps(-1));
    await_sleep(watch);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    end_watched(t, watch);
}
#endif

Test(os, spin_lock_excludes, .timeout = 60)
{
    nl_thread *t[4];
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(nl_thread_start(&t[i], "count", count_up, NULL), 0);
    }
    for (int i = 0; i < 4; i++) {
        nl_thread_join(t[i]);
    }
    cr_assert_eq(counted, 4 * 20000);
    cr_assert(nl_spin_trylock(&spin));
    cr_assert_not(nl_spin_trylock(&spin));
}

#ifdef __linux__

static void look_at_thread(void *arg)
{
    char name[16] = ""; /* as long as the system keeps them */
    pthread_getname_np(pthread_self(), name, sizeof(name));
    snprintf(arg, 16, "%s", name);
}

Test(os, thread_name)
{
    char name[16];
    nl_thread *t;
    cr_assert_eq(nl_thread_start(&t, "worker-number-seventeen", look_at_thread, name), 0);
    nl_thread_join(t);
    cr_assert_str_eq(name, "worker-number-s");
}

#endif

#if defined(__linux__) || defined(_WIN32)

#define PAGES_MAX 16384 /* 64 MiB: the most that a thread gets, and a first thread may have more */

/* Walks down the stack page by page, until what is left of it is not worth a visit. */
static __attribute__((noinline)) int descend(int depth)
{
    volatile char page[4096];
    page[0] = 1;
    return nl_stack_left() > 64 * 1024 && depth < PAGES_MAX ? descend(depth + page[0]) + page[0] : 0;
}

typedef struct stack {
    int left, visited; /* pages */
} stack;

static void use_the_stack(void *arg)
{
    stack *s = arg;
    size_t left = nl_stack_left() / 4096;
    s->left = left < PAGES_MAX ? (int)left : PAGES_MAX;
    s->visited = descend(0);
}

Test(os, every_thread_has_a_stack_like_the_first)
{
    stack first, second;
    nl_thread *t;
    cr_assert_eq(nl_thread_start(&t, "stack", use_the_stack, &second), 0);
    nl_thread_join(t);
    use_the_stack(&first);
    /* A frame of descend() is longer than its page, less than twice as long. */
    cr_assert_gt(second.visited, second.left / 2 - 32);
    cr_assert_gt(first.visited, first.left / 2 - 32);
    cr_assert_geq(second.left + 64, first.left, "%d pages, the first thread has %d", second.left, first.left);
}

#endif

#ifdef __linux__

static void pin_everywhere(void *arg)
{
    int *bad = arg;
    for (int i = nl_ncpu() - 1; i >= 0; i--) {
        cpu_set_t now;
        if (nl_thread_pin(i) != 0 || sched_getaffinity(0, sizeof(now), &now) != 0 || CPU_COUNT(&now) != 1) {
            ++*bad;
        }
    }
    *bad += nl_thread_pin(-1) != -EINVAL;
    *bad += nl_thread_pin(nl_ncpu()) != -EINVAL;
}

Test(os, pinning_stays_within_the_process_set)
{
    cpu_set_t set;
    int bad = 0;
    nl_thread *t;
    cr_assert_eq(sched_getaffinity(0, sizeof(set), &set), 0);
    cr_assert_eq(nl_ncpu(), CPU_COUNT(&set));
    cr_assert_eq(nl_thread_start(&t, "pin", pin_everywhere, &bad), 0);
    nl_thread_join(t);
    cr_assert_eq(bad, 0);

    /* The first thread, too, bound to one processor, still counts them all. */
    int all = nl_ncpu();
    cr_assert_eq(nl_thread_pin(0), 0);
    cr_assert_eq(nl_ncpu(), all);
}

Test(os, affinity_mask_is_obeyed)
{
    cpu_set_t set;
    cr_assert_eq(sched_getaffinity(0, sizeof(set), &set), 0);
    int last = CPU_SETSIZE - 1;
    while (!CPU_ISSET(last, &set)) {
        last--;
    }
    CPU_ZERO(&set);
    CPU_SET(last, &set);
    cr_assert_eq(sched_setaffinity(0, sizeof(set), &set), 0);
    cr_assert_eq(nl_ncpu(), 1);
    cr_assert_eq(nl_thread_pin(0), 0);
    cr_assert_eq(nl_thread_pin(1), -EINVAL);
    cr_assert_eq(sched_getcpu(), last);
}

#endif

static void pin_to_each(void *arg)
{
    int *bad = arg;
    for (int i = 0; i < nl_ncpu(); i++) {
        *bad += nl_thread_pin(i) != 0 && nl_thread_pin(i) != -ENOTSUP;
    }
    *bad += nl_thread_pin(-1) != -EINVAL;
    *bad += nl_thread_pin(nl_ncpu()) != -EINVAL;
}

Test(os, a_thread_is_bound_to_each_processor_that_there_is)
{
    int bad = 0;
    nl_thread *t;
    cr_assert_eq(nl_thread_start(&t, "pin", pin_to_each, &bad), 0);
    nl_thread_join(t);
    cr_assert_eq(bad, 0);
}

Test(os, regions_are_aligned_and_zeroed)
{
    enum { SIZE = 1 << 21 };
    char *r[4];
    size_t page = nl_page_size();
    for (int i = 0; i < 4; i++) {
        r[i] = nl_region_map(SIZE);
        cr_assert_not_null(r[i]);
        cr_assert_eq((uintptr_t)r[i] % SIZE, 0);
        nl_region_populate(r[i], page);
        for (size_t at = 0; at < SIZE; at += page / 2) {
            cr_assert_eq(r[i][at], 0);
            r[i][at] = 1;
        }
    }
    nl_region_release(r[1] + page, 3 * page);
    for (size_t at = 0; at < SIZE; at += page / 2) {
        cr_assert_eq(r[1][at], at < page || at >= 4 * page, "at %zu", at);
        r[1][at] = 2;
    }
    for (int i = 0; i < 4; i++) {
        nl_region_unmap(r[i], SIZE);
    }
}

APART(panic)
{
    int two = 2;
    nl_assert(two + two == 4, "never seen");
    nl_assert(two + two == 5, "sums come out right");
}

Test(os, panic_says_what_and_where)
{
    int status;
    char *text = stderr_of(panic, &status, NULL);
    cr_assert(was_aborted(status));
    char *emulator = strstr(text, "qemu: "); /* it has a word of its own for the signal */
    if (emulator) {
        *emulator = '\0';
    }
    cr_assert_eq(strchr(text, '\n'), text + strlen(text) - 1, "one line: %s", text);
    cr_assert(strstr(text, "sums come out right"), "%s", text);
    cr_assert(strstr(text, "two + two == 5"), "%s", text);
    cr_assert(strstr(text, "test_os.c:"), "%s", text);
    cr_assert_null(strstr(text, "never seen"));
}

APART(no_memory)
{
    volatile size_t n = SIZE_MAX - 3;
    void *volatile p = nl_malloc(n);
    (void)p;
}

Test(os, out_of_memory_says_so)
{
    int status;
    char *text = stderr_of(no_memory, &status, NULL);
    cr_assert(was_aborted(status));
    cr_assert(strstr(text, "out of memory"), "%s", text);
    cr_assert(strstr(text, "18446744073709551612"), "%s", text);
}

APART(log_a_few)
{
    nl_log(NULL, "plain %d", 17);
    nl_log("who", "two\nlines");
    nl_log_text("ctx", "a\0b", 3);
    nl_log("x", "%s", "");
    nl_log("y", "%01500d", 3);
}

/* Past the stamp "2026-11-22 10:26:50.123456 ", or NULL. */
static char *after_stamp(char *line)
{
    static const char form[] = "dddd-dd-dd dd:dd:dd.dddddd ";
    for (size_t i = 0; i < sizeof(form) - 1; i++) {
        if (form[i] == 'd' ? line[i] < '0' || line[i] > '9' : line[i] != form[i]) {
            return NULL;
        }
    }
    return line + sizeof(form) - 1;
}

Test(log, form_of_a_line)
{
    int status;
    size_t len;
    char *text = stderr_of(log_a_few, &status, &len), *end = text + len, *p;
    cr_assert_eq(status, 0);
#define LINE(expected)                                                                                       \
    p = after_stamp(text);                                                                                   \
    cr_assert_not_null(p, "no stamp: %s", text);                                                             \
    cr_assert_leq(sizeof(expected) - 1, (size_t)(end - p));                                                  \
    cr_assert_arr_eq(p, expected, sizeof(expected) - 1);                                                     \
    text = p + sizeof(expected) - 1
    LINE("[nl-jit] plain 17\n");
    LINE("[who] two\n\tlines\n");
    LINE("[ctx] a\0b\n");
    LINE("[x] \n");
    LINE("[y] 000");
    cr_assert_eq(end - text, 1500 - 3 + 1, "a long line is whole");
    cr_assert_arr_eq(end - 3, "03\n", 3);
}

#ifndef _WIN32 /* there nothing tells when a pipe is full */

/* Nobody reads standard error while three entries are made. */
APART(log_late)
{
    char junk[4096] = {0};
    int p[2], out = dup(2);
    size_t stuffed = 0;
    if (pipe(p) || fcntl(p[1], F_SETFL, O_NONBLOCK) || dup2(p[1], 2) < 0) {
        _exit(1);
    }
    for (ssize_t n; (n = write(2, junk, sizeof junk)) > 0;) {
        stuffed += (size_t)n;
    }
    fcntl(2, F_SETFL, 0);
    nl_log_async("a", "first");
    nl_log_async("b", "second %d", 2);
    nl_log_async(NULL, "third");
    while (stuffed) {
        stuffed -= (size_t)read(p[0], junk, stuffed < sizeof junk ? stuffed : sizeof junk);
    }
    nl_log_finish();
    ssize_t n = read(p[0], junk, sizeof junk);
    if (write(out, junk, (size_t)n) != n) {
        _exit(1);
    }
}

Test(log, what_must_not_wait_is_written_late, .timeout = 60)
{
    int status;
    char *text = stderr_of(log_late, &status, NULL);
    cr_assert_eq(status, 0);
    char *a = strstr(text, " [a] first\n"), *b = strstr(text, " [b] second 2\n"),
         *c = strstr(text, " [nl-jit] third\n");
    cr_assert(a && b && c && a < b && b < c, "%s", text);
}

#endif

enum { LOGGERS = 4, LINES = 60 };

/* Lines of many lengths, longer than a pipe holds among them, each made of one letter. */
static void log_letters(void *arg)
{
    static const size_t length[] = {10, 900, 5000, 100000};
    static char letters[LOGGERS][100000];
    int who = (int)(uintptr_t)arg;
    memset(letters[who], 'a' + who, sizeof(letters[who]));
    for (int i = 0; i < LINES; i++) {
        nl_log_text("x", letters[who], length[i % 4]);
    }
}

APART(log_from_threads)
{
    /* Non-blocking, as a terminal becomes when a neighbour wants it so: nothing may be lost for that. */
#ifndef _WIN32
    fcntl(2, F_SETFL, O_NONBLOCK);
#endif
    nl_thread *t[LOGGERS];
    for (uintptr_t i = 0; i < LOGGERS; i++) {
        if (nl_thread_start(&t[i], "log", log_letters, (void *)i) != 0) {
            _exit(1);
        }
    }
    for (int i = 0; i < LOGGERS; i++) {
        nl_thread_join(t[i]);
    }
}

Test(log, lines_never_mix, .timeout = 60)
{
    int status, lines = 0;
    char *line = stderr_of(log_from_threads, &status, NULL);
    cr_assert_eq(status, 0);
    for (char *nl; (nl = strchr(line, '\n')); line = nl + 1) {
        char *p = after_stamp(line);
        cr_assert_not_null(p, "line %d begins inside another", lines);
        p = strchr(p, ' ') + 1;
        for (char *c = p; c < nl; c++) {
            cr_assert_eq(*c, *p, "line %d is mixed", lines);
        }
        lines++;
    }
    cr_assert_eq(lines, LOGGERS * LINES);
}

// The part of Criterion's classic macros that our unit tests use, for builds in which Criterion itself cannot serve
// (tests/unit/meson.build says which and why). A test file is a program of its own, which prints TAP.
//
// Each test runs in a process of its own, which ends by exit(), so that LeakSanitizer sees its end. On Windows the program
// starts itself again with the test's number. Not here: TestSuite, ParameterizedTest, theories, output redirection.
#ifndef NL_COMPAT_CRITERION_H
#define NL_COMPAT_CRITERION_H

#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef _WIN32
#include <process.h>
#define CR_PRINTF __MINGW_PRINTF_FORMAT
#else
#define CR_PRINTF printf
#include <sys/wait.h>
#include <unistd.h>
#endif

struct cr_test {
    const char *suite, *name;
    void (*run)(void);
    void (*init)(void);
    void (*fini)(void);
    int signal, exit_code; // the end that is expected
    double timeout;        // seconds; 0: none
    const char *description;
    bool disabled;
    struct cr_test *next;
};

static struct cr_test *cr_tests;
static _Atomic int cr_failures;

enum { CR_FAILED = 1, CR_SKIPPED = 77, CR_TIMED_OUT = 124 };

#define Test(Suite, Name, ...)                                                                               \
    static void cr_run_##Suite##_##Name(void);                                                               \
    __attribute__((constructor)) static void cr_add_##Suite##_##Name(void)                                   \
    {                                                                                                        \
        static struct cr_test test = {                                                                       \
            .suite = #Suite, .name = #Name, .run = cr_run_##Suite##_##Name, ##__VA_ARGS__};                  \
        test.next = cr_tests;                                                                                \
        cr_tests = &test;                                                                                    \
    }                                                                                                        \
    static void cr_run_##Suite##_##Name(void)

__attribute__((format(CR_PRINTF, 5, 6))) static inline void
cr_failed(bool fatal, const char *file, int line, const char *what, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s:%d: %s:", file, line, what);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    cr_failures++;
    if (fatal)
        _Exit(CR_FAILED);
}

// tools/count_tests.py reads the reason.
__attribute__((noreturn, format(printf, 1, 2))) static inline void cr_skipped(const char *reason, ...)
{
    va_list args;
    va_start(args, reason);
    printf("# skipped: ");
    vprintf(reason, args);
    printf("\n");
    va_end(args);
    fflush(stdout);
    _Exit(CR_SKIPPED);
}

// A message, if there is one, begins with a string literal.
#define CR_CHECK(fatal, condition, what, ...)                                                                \
    ((condition) ? (void)0 : cr_failed(fatal, __FILE__, __LINE__, what, " " __VA_ARGS__))
#define CR_COMPARE(fatal, a, op, b, ...) CR_CHECK(fatal, (a)op(b), #a " " #op " " #b, __VA_ARGS__)
#define CR_STRINGS(fatal, a, op, b, ...)                                                                     \
    CR_CHECK(fatal, strcmp(a, b) op 0, "strings " #a " " #op " " #b, __VA_ARGS__)
#define CR_BYTES(fatal, a, op, b, size, ...)                                                                 \
    CR_CHECK(fatal, memcmp(a, b, size) op 0, "bytes of " #a " " #op " " #b, __VA_ARGS__)

#define cr_assert(condition, ...) CR_CHECK(1, condition, #condition, __VA_ARGS__)
#define cr_assert_not(condition, ...) CR_CHECK(1, !(condition), "not " #condition, __VA_ARGS__)
#define cr_assert_null(a, ...) CR_COMPARE(1, a, ==, NULL, __VA_ARGS__)
#define cr_assert_not_null(a, ...) CR_COMPARE(1, a, !=, NULL, __VA_ARGS__)
#define cr_assert_eq(a, b, ...) CR_COMPARE(1, a, ==, b, __VA_ARGS__)
#define cr_assert_neq(a, b, ...) CR_COMPARE(1, a, !=, b, __VA_ARGS__)
#define cr_assert_lt(a, b, ...) CR_COMPARE(1, a, <, b, __VA_ARGS__)
#define cr_assert_leq(a, b, ...) CR_COMPARE(1, a, <=, b, __VA_ARGS__)
#define cr_assert_gt(a, b, ...) CR_COMPARE(1, a, >, b, __VA_ARGS__)
#define cr_assert_geq(a, b, ...) CR_COMPARE(1, a, >=, b, __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...) CR_STRINGS(1, a, ==, b, __VA_ARGS__)
#define cr_assert_str_neq(a, b, ...) CR_STRINGS(1, a, !=, b, __VA_ARGS__)
#define cr_assert_arr_eq(a, b, size, ...) CR_BYTES(1, a, ==, b, size, __VA_ARGS__)
#define cr_assert_arr_neq(a, b, size, ...) CR_BYTES(1, a, !=, b, size, __VA_ARGS__)
#define cr_assert_float_eq(a, b, epsilon, ...)                                                               \
    CR_CHECK(1, (a) - (b) <= (epsilon) && (b) - (a) <= (epsilon), #a " is about " #b, __VA_ARGS__)
#define cr_assert_fail(...) CR_CHECK(1, false, "fail", __VA_ARGS__)

#define cr_expect(condition, ...) CR_CHECK(0, condition, #condition, __VA_ARGS__)
#define cr_expect_not(condition, ...) CR_CHECK(0, !(condition), "not " #condition, __VA_ARGS__)
#define cr_expect_null(a, ...) CR_COMPARE(0, a, ==, NULL, __VA_ARGS__)
#define cr_expect_not_null(a, ...) CR_COMPARE(0, a, !=, NULL, __VA_ARGS__)
#define cr_expect_eq(a, b, ...) CR_COMPARE(0, a, ==, b, __VA_ARGS__)
#define cr_expect_neq(a, b, ...) CR_COMPARE(0, a, !=, b, __VA_ARGS__)
#define cr_expect_lt(a, b, ...) CR_COMPARE(0, a, <, b, __VA_ARGS__)
#define cr_expect_leq(a, b, ...) CR_COMPARE(0, a, <=, b, __VA_ARGS__)
#define cr_expect_gt(a, b, ...) CR_COMPARE(0, a, >, b, __VA_ARGS__)
#define cr_expect_geq(a, b, ...) CR_COMPARE(0, a, >=, b, __VA_ARGS__)
#define cr_expect_str_eq(a, b, ...) CR_STRINGS(0, a, ==, b, __VA_ARGS__)
#define cr_expect_str_neq(a, b, ...) CR_STRINGS(0, a, !=, b, __VA_ARGS__)
#define cr_expect_arr_eq(a, b, size, ...) CR_BYTES(0, a, ==, b, size, __VA_ARGS__)
#define cr_expect_arr_neq(a, b, size, ...) CR_BYTES(0, a, !=, b, size, __VA_ARGS__)
#define cr_expect_float_eq(a, b, epsilon, ...)                                                               \
    CR_CHECK(0, (a) - (b) <= (epsilon) && (b) - (a) <= (epsilon), #a " is about " #b, __VA_ARGS__)
#define cr_expect_fail(...) CR_CHECK(0, false, "fail", __VA_ARGS__)
#define cr_skip_test(...) cr_skipped("" __VA_ARGS__)
#define cr_skip(...) cr_skipped("" __VA_ARGS__)
#define cr_log_info(...) (fprintf(stderr, "# " __VA_ARGS__), fputc('\n', stderr))
#define cr_log_warn(...) cr_log_info(__VA_ARGS__)
#define cr_log_error(...) cr_log_info(__VA_ARGS__)

#ifdef _WIN32
__declspec(dllimport) void __stdcall Sleep(unsigned long ms);

// Ends a test that takes too long; wine on a busy machine is given four times as long.
static void cr_watch(void *test)
{
    Sleep((unsigned long)(((const struct cr_test *)test)->timeout * 4000));
    fprintf(stderr, "# timed out\n");
    _Exit(CR_TIMED_OUT);
}
#endif

static inline int cr_run(struct cr_test *test)
{
#ifdef _WIN32
    if (test->timeout > 0)
        _beginthread(cr_watch, 0, test);
#endif
    if (test->init)
        test->init();
    test->run();
    if (test->fini)
        test->fini();
    return cr_failures ? CR_FAILED : 0;
}

// Runs the test in a new process; returns its exit status, or minus the signal that ended it.
#ifdef _WIN32
static inline int cr_run_apart(struct cr_test *test, const char *program, int number)
{
    char text[16];
    (void)test;
    snprintf(text, sizeof text, "%d", number);
    int status = (int)_spawnl(_P_WAIT, program, program, "--only", text, NULL);
    return status == 3 ? -SIGABRT : status; // how abort ends a process there
}
#else
static inline int cr_run_apart(struct cr_test *test, const char *program, int number)
{
    (void)program, (void)number;
    pid_t pid = fork();
    if (pid == 0) {
        alarm((unsigned)(test->timeout + 0.999));
        exit(cr_run(test));
    }
    int status = CR_FAILED;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return CR_FAILED;
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}
#endif

int main(int argc, char **argv)
{
    int count = 0, failed = 0, only = argc > 2 && !strcmp(argv[1], "--only") ? atoi(argv[2]) : 0;
    for (struct cr_test *test = cr_tests; test; test = test->next)
        count++;
    if (!only)
        printf("TAP version 13\n1..%d\n", count);
    int number = 0;
    for (struct cr_test *test = cr_tests; test; test = test->next) {
        if (++number == only)
            return cr_run(test);
        if (only)
            continue;
        fflush(stdout);
        int status = test->disabled ? CR_SKIPPED : cr_run_apart(test, argv[0], number);
        bool ok = status == (test->signal ? -test->signal : test->exit_code) || status == CR_SKIPPED;
        printf("%s %d - %s::%s", ok ? "ok" : "not ok", number, test->suite, test->name);
        printf(status == CR_SKIPPED ? " # SKIP\n" : ok ? "\n" : " (status %d)\n", status);
        failed += !ok;
    }
    return failed != 0;
}

#endif

/*
 * apart_kit.h - a function runs in a process of its own, and what it writes to standard error is
 * looked at.
 *
 * Purpose:   last words of a process, log lines.
 * Threads:   the test's.
 * Ownership: stderr_of's text stays until the next call.
 */
#ifndef APART_KIT_H
#define APART_KIT_H

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define APART_TEXT_MAX ((size_t)8 << 20)

#ifdef _WIN32

#include <windows.h>

#include "base/cfile.h"

/* APART(name) { … }: a function for stderr_of.  The process starts its own program anew for it. */
#define APART(name)                                                                                          \
    static void name(void);                                                                                  \
    __attribute__((constructor)) static void apart_##name(void)                                              \
    {                                                                                                        \
        if (__argc == 3 && strcmp(__argv[1], "--apart") == 0 && strcmp(__argv[2], #name) == 0) {             \
            name();                                                                                          \
            exit(0);                                                                                         \
        }                                                                                                    \
    }                                                                                                        \
    static void name(void)
#define stderr_of(name, status, len) apart_stderr(#name, status, len)

static inline char *apart_stderr(const char *name, int *status, size_t *len)
{
    static char text[APART_TEXT_MAX];
    char self[MAX_PATH], command[MAX_PATH + 64];
    GetModuleFileNameA(NULL, self, sizeof self);
    snprintf(command, sizeof command, "%s --apart %s 2>&1", self, name);
    FILE *f = nl_cfile_popen(command, "r");
    cr_assert_not_null(f);
    size_t n = fread(text, 1, sizeof text - 1, f);
    text[n] = 0;
    *status = nl_cfile_pclose(f);
    if (len) {
        *len = n;
    }
    return text;
}

static inline bool was_aborted(int status)
{
    return status == 3;
}

#else

#include <sys/wait.h>
#include <unistd.h>

#define APART(name) static void name(void)

/* What fn writes to standard error, in a process of its own; *status is how that ended. */
static inline char *stderr_of(void (*fn)(void), int *status, size_t *len)
{
    static char text[APART_TEXT_MAX];
    int p[2];
    size_t n = 0;
    cr_assert_eq(pipe(p), 0);
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        dup2(p[1], 2);
        close(p[0]);
        close(p[1]);
        fn();
        _exit(0);
    }
    close(p[1]);
    for (ssize_t got; (got = read(p[0], text + n, sizeof(text) - 1 - n)) > 0;) {
        n += (size_t)got;
    }
    text[n] = '\0';
    close(p[0]);
    cr_assert_eq(waitpid(pid, status, 0), pid);
    if (len) {
        *len = n;
    }
    return text;
}

static inline bool was_aborted(int status)
{
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

#endif
#endif

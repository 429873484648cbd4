/*
 * panic.c - the end of a process whose state can no longer be trusted.
 */
#include <stdio.h>

#include "base/signals.h"

_Noreturn void nl_panic(const char *file, int line, const char *what, const char *why)
{
    char buf[512];
    int n = snprintf(buf, sizeof(buf), "nl-jit: fatal: %s (%s) at %s:%d\n", why, what, file, line);
    if (n >= (int)sizeof(buf)) {
        n = (int)sizeof(buf) - 1;
        buf[n - 1] = '\n';
    }
    nl_abort_saying(buf, (size_t)n); /* not by nl_stderr_write: the thread may hold its lock */
}

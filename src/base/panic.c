/*
 * panic.c - the end of a process whose state can no longer be trusted.
 */
#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

_Noreturn void nl_panic(const char *file, int line, const char *what, const char *why)
{
    char buf[512];
    int n = snprintf(buf, sizeof(buf), "nl-jit: fatal: %s (%s) at %s:%d\n", why, what, file, line);
    if (n >= (int)sizeof(buf)) {
        n = (int)sizeof(buf) - 1;
        buf[n - 1] = '\n';
    }
    /* Not by nl_stderr_write: whoever panics may hold its lock. */
    if (write(2, buf, (unsigned)n) < 0) {
        abort(); /* nobody reads it; there is nothing better to do */
    }
    abort();
}

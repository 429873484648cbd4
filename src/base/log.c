/*
 * log.c - see log.h.  A line is put together in memory and written at once.
 */
#include "base/log.h"
#include "base/alloc.h"
#include "base/os.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* "2026-11-22 10:26:50.123456 [who] " in local time; returns its length. */
static size_t stamp(char *buf, size_t size, const char *who)
{
    int64_t sec;
    int usec;
    struct tm tm;
    nl_wall_clock(&sec, &usec);
    time_t t = (time_t)sec;
#ifdef _WIN32
    localtime_s(&tm, &t);
#else
    localtime_r(&t, &tm);
#endif
    int n = snprintf(buf, size, "%04d-%02d-%02d %02d:%02d:%02d.%06d [%s] ", tm.tm_year + 1900, tm.tm_mon + 1,
                     tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, usec, who ? who : "nl-jit");
    return (size_t)n < size ? (size_t)n : size - 1;
}

void nl_log_text(const char *who, const char *text, size_t len)
{
    char small[1024], *line = small;
    char head[256];
    size_t n = stamp(head, sizeof(head), who);
    if (len > sizeof(small) - n - 1) {
        line = (char *)nl_try_malloc(n + len + 1);
        if (!line) { /* better cut than silent */
            line = small;
            len = sizeof(small) - n - 1;
        }
    }
    memcpy(line, head, n);
    memcpy(line + n, text, len);
    line[n + len] = '\n';
    nl_stderr_write(line, n + len + 1);
    if (line != small) {
        nl_free(line);
    }
}

void nl_log(const char *who, const char *fmt, ...)
{
    char small[768], *text = small;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(small, sizeof(small), fmt, ap);
    va_end(ap);
    if (n < 0) {
        return;
    }
    if ((size_t)n >= sizeof(small)) {
        text = (char *)nl_try_malloc((size_t)n + 1);
        if (text) {
            va_start(ap, fmt);
            vsnprintf(text, (size_t)n + 1, fmt, ap);
            va_end(ap);
        } else {
            text = small;
            n = (int)sizeof(small) - 1;
        }
    }
    nl_log_text(who, text, (size_t)n);
    if (text != small) {
        nl_free(text);
    }
}

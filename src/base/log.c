/*
 * log.c - see log.h.  An entry is put together in memory and written at once.
 */
#include "base/log.h"
#include "base/alloc.h"
#include "base/os.h"
#include "base/spin.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define NO_WHO "nl-jit"
#define WHO_MAX 216 /* bytes of a context's name that are shown */

/* who, with what could end the line or move the terminal's cursor written as in a Lua string. */
static void quote(char *buf, size_t size, const char *who)
{
    size_t n = 0;
    for (const unsigned char *c = (const unsigned char *)who; *c && n + 5 < size; c++) {
        if (*c == '\n') {
            n += (size_t)snprintf(buf + n, size - n, "\\n");
        } else if (*c < ' ' || *c == 127) {
            n += (size_t)snprintf(buf + n, size - n, "\\%03d", *c);
        } else {
            buf[n++] = (char)*c;
        }
    }
    buf[n] = 0;
}

/* "2026-11-22 10:26:50.123456 [who] " in local time; returns its length. */
static size_t stamp(char *buf, size_t size, const char *who)
{
    int64_t sec;
    int usec;
    struct tm tm;
    char name[WHO_MAX];
    nl_wall_clock(&sec, &usec);
    time_t t = (time_t)sec;
#ifdef _WIN32
    localtime_s(&tm, &t);
#else
    localtime_r(&t, &tm);
#endif
    quote(name, sizeof name, who ? who : NO_WHO);
    int n = snprintf(buf, size, "%04d-%02d-%02d %02d:%02d:%02d.%06d [%s] ", tm.tm_year + 1900, tm.tm_mon + 1,
                     tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, usec, name);
    return (size_t)n < size ? (size_t)n : size - 1;
}

/* Appends text to line, a tab behind each line break: only an entry begins with a time. */
static size_t indent(char *line, const char *text, size_t len)
{
    size_t n = 0;
    for (const char *end = text + len; text < end;) {
        const char *nl = memchr(text, '\n', (size_t)(end - text));
        size_t piece = (size_t)((nl ? nl + 1 : end) - text);
        memcpy(line + n, text, piece);
        n += piece;
        text += piece;
        if (nl) {
            line[n++] = '\t';
        }
    }
    return n;
}

static size_t count_breaks(const char *text, size_t len)
{
    size_t n = 0;
    for (const char *end = text + len; (text = memchr(text, '\n', (size_t)(end - text))); text++) {
        n++;
    }
    return n;
}

void nl_log_text(const char *who, const char *text, size_t len)
{
    char small[1024], *line = small;
    char head[WHO_MAX + 40];
    size_t n = stamp(head, sizeof head, who), need = n + len + count_breaks(text, len) + 1;
    if (need > sizeof small) {
        line = (char *)nl_try_malloc(need);
        if (!line) { /* better cut than silent */
            line = small;
            len = (sizeof small - n - 1) / 2;
        }
    }
    memcpy(line, head, n);
    n += indent(line + n, text, len);
    line[n++] = '\n';
    nl_stderr_write(line, n);
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

/* --- without waiting -------------------------------------------------------------------------- */

#define LATE_MAX 16
#define LATE_BYTES 512

typedef struct entry {
    char who[WHO_MAX];
    char text[LATE_BYTES];
} entry;

static struct {
    nl_spin lock;
    bool writing; /* some thread is to look at the queue again */
    unsigned first, count;
    entry queue[LATE_MAX];
} late = {.lock = NL_SPIN_INIT};

/* True: the calling thread is the writer from now on. */
static bool become_writer(void)
{
    nl_spin_lock(&late.lock);
    bool mine = !late.writing;
    late.writing = true;
    nl_spin_unlock(&late.lock);
    return mine;
}

static void push_late(const entry *e)
{
    nl_spin_lock(&late.lock);
    if (late.count < LATE_MAX) {
        late.queue[(late.first + late.count++) % LATE_MAX] = *e;
    }
    nl_spin_unlock(&late.lock);
}

/* By the writer.  False: nothing is left, and it is the writer no more. */
static bool pop_late(entry *e)
{
    nl_spin_lock(&late.lock);
    late.writing = late.count > 0;
    if (late.writing) {
        *e = late.queue[late.first];
        late.first = (late.first + 1) % LATE_MAX;
        late.count--;
    }
    bool found = late.writing;
    nl_spin_unlock(&late.lock);
    return found;
}

static void write_late(void *arg)
{
    (void)arg;
    entry e;
    while (pop_late(&e)) {
        nl_log_text(e.who, e.text, strlen(e.text));
    }
}

void nl_log_async(const char *who, const char *fmt, ...)
{
    entry e;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e.text, sizeof e.text, fmt, ap);
    va_end(ap);
    snprintf(e.who, sizeof e.who, "%s", who ? who : NO_WHO);
    push_late(&e);
    if (become_writer() && nl_thread_start(NULL, "nl-log", write_late, NULL)) {
        nl_spin_lock(&late.lock);
        late.writing = false; /* the next entry tries again, or nl_log_finish writes it */
        nl_spin_unlock(&late.lock);
    }
}

void nl_log_finish(void)
{
    while (!become_writer()) {
        nl_thread_yield();
    }
    write_late(NULL);
}

/* proc.c - see proc.h. */
#include "proc.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>

static struct {
    pid_t pid;
    clockid_t clock;
} watched[PROC_MAX];
static unsigned count;

static int64_t ns_of(clockid_t clock)
{
    struct timespec t;
    return clock_gettime(clock, &t) == 0 ? (int64_t)t.tv_sec * 1000000000 + t.tv_nsec : 0;
}

bool proc_watch(const char *pids)
{
    const char *p = pids;
    count = 0;
    for (;;) {
        char *end;
        long pid = strtol(p, &end, 10);
        if (end == p || pid < 1 || count == PROC_MAX ||
            clock_getcpuclockid((pid_t)pid, &watched[count].clock) != 0) {
            return false;
        }
        watched[count++].pid = (pid_t)pid;
        if (*end == '\0') {
            return true;
        }
        if (*end != ',') {
            return false;
        }
        p = end + 1;
    }
}

bool proc_watched(void)
{
    return count > 0;
}

/* The scheduler's own books, exact to the nanosecond; /proc/PID/stat counts in ticks of 10 ms. */
int64_t proc_cpu_ns(void)
{
    int64_t sum = 0;
    for (unsigned i = 0; i < count; i++) {
        sum += ns_of(watched[i].clock);
    }
    return sum;
}

int64_t proc_own_cpu_ns(void)
{
    return ns_of(CLOCK_PROCESS_CPUTIME_ID);
}

/* The sum of a field "NAME: 123" in a file of /proc; -1: the file or the field is not there. */
static int64_t field(const char *path, const char *name)
{
    char line[256];
    int64_t value = -1;
    size_t n = strlen(name);
    FILE *f = fopen(path, "re");
    if (!f) {
        return -1;
    }
    while (value < 0 && fgets(line, sizeof(line), f)) {
        if (strncmp(line, name, n) == 0 && line[n] == ':') {
            value = strtoll(line + n + 1, NULL, 10);
        }
    }
    fclose(f);
    return value;
}

/*
 * smaps_rollup walks the page tables and is exact. The counters in status are kept per
 * processor and may be some hundred kB behind, which is much when divided by few connections.
 */
static int64_t memory_kb(pid_t pid, const char *in_rollup, const char *in_status)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%ld/smaps_rollup", (long)pid);
    int64_t kb = field(path, in_rollup);
    if (kb < 0) {
        snprintf(path, sizeof(path), "/proc/%ld/status", (long)pid);
        kb = field(path, in_status);
    }
    return kb > 0 ? kb : 0;
}

proc_mem proc_memory(void)
{
    proc_mem m = {0, 0};
    for (unsigned i = 0; i < count; i++) {
        m.resident += memory_kb(watched[i].pid, "Rss", "VmRSS") * 1024;
        m.anonymous += memory_kb(watched[i].pid, "Anonymous", "RssAnon") * 1024;
    }
    return m;
}

int64_t proc_sleeps(void)
{
    int64_t sum = 0;
    for (unsigned i = 0; i < count; i++) {
        char path[64 + sizeof(((struct dirent *)0)->d_name)];
        snprintf(path, sizeof(path), "/proc/%ld/task", (long)watched[i].pid);
        DIR *tasks = opendir(path);
        if (!tasks) {
            continue;
        }
        for (struct dirent *e; (e = readdir(tasks));) {
            if (e->d_name[0] == '.') {
                continue;
            }
            snprintf(path, sizeof(path), "/proc/%ld/task/%s/status", (long)watched[i].pid, e->d_name);
            int64_t n = field(path, "voluntary_ctxt_switches");
            sum += n > 0 ? n : 0;
        }
        closedir(tasks);
    }
    return sum;
}

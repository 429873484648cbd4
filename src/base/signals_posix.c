/* signals_posix.c - see signals.h */
#include "base/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define DEAF_MS 100 /* how often the reader looks around when there is no pipe to wake it */

static int ends[2] = {-1, -1};
static pid_t reader;      /* the process that reads them */
static atomic_int caught; /* how many have come */

int nl_signals_init(void)
{
    if (ends[0] >= 0) {
        return 0;
    }
    int fds[2];
    if (pipe(fds)) {
        return -errno;
    }
    for (int i = 0; i < 2; i++) {
        fcntl(fds[i], F_SETFD, FD_CLOEXEC);
        fcntl(fds[i], F_SETFL, O_NONBLOCK); /* a handler must not sleep */
        ends[i] = fds[i];
    }
    reader = getpid();
    return 0;
}

static void put(unsigned char byte)
{
    /* A full pipe refuses the byte; then there is enough in it to wake the reader. */
    ssize_t n = write(ends[1], &byte, 1);
    (void)n;
}

static void on_signal(int sig)
{
    int saved = errno;
    if (getpid() != reader || atomic_fetch_add(&caught, 1) > 1) {
        nl_end_by_signal(sig); /* nobody reads the pipe, or it is the parent's */
    }
    put((unsigned char)sig);
    errno = saved;
}

static void set_all(void (*handler)(int))
{
    static const int signals[] = {SIGINT, SIGTERM};
    struct sigaction sa = {.sa_handler = handler, .sa_flags = SA_RESTART}, old;
    sigemptyset(&sa.sa_mask);
    for (size_t i = 0; i < nl_countof(signals); i++) {
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) {
            sigaction(signals[i], &sa, NULL);
        }
    }
}

void nl_signals_catch(void)
{
    set_all(on_signal);
}

int nl_signals_wait(int64_t timeout_ns)
{
    int64_t ms = timeout_ns < 0 ? -1 : (timeout_ns + 999999) / 1000000;
    struct pollfd p = {ends[0], POLLIN, 0};
    poll(&p, 1, ms < INT_MAX ? (int)ms : INT_MAX);
    if (p.revents & POLLNVAL) {
        /* A script has closed the pipe.  From now on a signal ends the process at once. */
        set_all(SIG_DFL);
        poll(NULL, 0, ms < 0 || ms > DEAF_MS ? DEAF_MS : (int)ms);
        return 0;
    }
    unsigned char byte;
    return read(ends[0], &byte, 1) == 1 ? byte : 0;
}

void nl_signals_wake(void)
{
    put(0);
}

/* Sets the signal to its default effect, and lets it through. */
static void set_default(int sig)
{
    sigset_t set;
    signal(sig, SIG_DFL);
    sigemptyset(&set);
    sigaddset(&set, sig);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

/* Also in a signal handler. */
void nl_end_by_signal(int sig)
{
    set_default(sig);
    raise(sig);
    _exit(128 + sig); /* the first process of a container is spared by the default effect */
}

void nl_end_at_once(int status)
{
    _Exit(status); /* before _exit ThreadSanitizer looks for threads that nobody has joined */
}

void nl_abort_saying(const char *text, size_t len)
{
    /* The kernel ends the write, and the process with it, when nobody reads. */
    set_default(SIGALRM);
    alarm(1);
    ssize_t n = write(STDERR_FILENO, text, len);
    (void)n;
    abort();
}

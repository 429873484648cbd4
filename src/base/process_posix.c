/*
 * process_posix.c - process.h on Linux, the BSDs and macOS.
 */
#include "base/process.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __APPLE__
#include <sys/syslimits.h>
#endif

#include "base/alloc.h"
#include "base/os.h"

/* --- Standard descriptors --------------------------------------------------------------------- */

static void fill_standard(void)
{
    int fd;
    do { /* open takes the lowest number that is free */
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd > STDERR_FILENO) {
        close(fd);
    }
}

int nl_fd_up(int fd)
{
    if (fd < 0 || fd > STDERR_FILENO) {
        return fd;
    }
    int up = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    int err = errno;
    close(fd);
    errno = err;
    return up;
}

/* --- SIGPIPE ---------------------------------------------------------------------------------- */

/*
 * A handler and not SIG_IGN: exec puts a handler back to the default, children never see it.
 * The signal comes to the thread that has written, but does not say to which descriptor.
 */
static void on_sigpipe(int sig)
{
    int saved = errno;
    struct pollfd out = {STDOUT_FILENO, POLLOUT, 0};
    if (poll(&out, 1, 0) == 1 && out.revents & (POLLERR | POLLHUP)) {
        signal(sig, SIG_DFL);
        raise(sig); /* blocked until the handler returns */
    }
    errno = saved;
}

static void catch_sigpipe(void)
{
    struct sigaction sa, old;
    memset(&sa, 0, sizeof(sa));
    sa.sa_handler = on_sigpipe;
    sigemptyset(&sa.sa_mask);
    if (sigaction(SIGPIPE, NULL, &old) == 0 &&
        old.sa_handler == SIG_DFL) { /* what the parent ignores stays ignored */
        sigaction(SIGPIPE, &sa, NULL);
    }
}

/* --- Limit of descriptors --------------------------------------------------------------------- */

static rlim_t given, raised; /* soft limits; equal: nothing was raised */

/* The limit is the raised one.  Else it was not raised, or the script has set one of its own. */
static bool limit_is_raised(struct rlimit *now)
{
    return given != raised && getrlimit(RLIMIT_NOFILE, now) == 0 && now->rlim_cur == raised;
}

static void in_forked_child(void)
{
    struct rlimit lim;
    nl_thread_unpin();
    if (limit_is_raised(&lim)) {
        lim.rlim_cur = given;
        setrlimit(RLIMIT_NOFILE, &lim);
    }
}

static void raise_limit(void)
{
    struct rlimit lim;
    if (given != raised || getrlimit(RLIMIT_NOFILE, &lim) != 0) {
        return; /* done before */
    }
    rlim_t old = lim.rlim_cur;
    lim.rlim_cur = lim.rlim_max;
#ifdef __APPLE__
    if (lim.rlim_cur > OPEN_MAX) {
        lim.rlim_cur = OPEN_MAX; /* the hard value says infinity, but more than this is refused */
    }
#endif
    if (lim.rlim_cur != old && setrlimit(RLIMIT_NOFILE, &lim) == 0) {
        given = old;
        raised = lim.rlim_cur;
    }
}

/* --- Children --------------------------------------------------------------------------------- */

#define SHELL "/bin/sh"
#ifndef __linux__
extern char **environ;
#endif

/*
 * system() and popen() of libc start the shell without the handlers of fork, and a limit cannot
 * be set for one child only.  So the shell sets it.  These definitions stand in front of libc's
 * for LuaJIT, for modules in C and for the ffi.
 */
typedef struct child {
    char *command;
    int pinned_to;
} child;

static child child_begin(const char *command)
{
    struct rlimit lim;
    size_t size = strlen(command) + 64;
    char *all = (char *)nl_malloc(size);
    if (limit_is_raised(&lim)) {
        snprintf(all, size, "ulimit -S -n %llu 2>/dev/null; %s", (unsigned long long)given, command);
    } else {
        snprintf(all, size, "%s", command);
    }
    return (child){all, nl_thread_unpin()};
}

static void child_end(child c)
{
    int saved = errno;
    if (c.pinned_to >= 0) {
        nl_thread_pin(c.pinned_to);
    }
    nl_free(c.command);
    errno = saved;
}

/*
 * libc's ignores SIGINT until the command has ended, for the whole process.  Here others run
 * beside.
 */
static int run(char *command)
{
    char sh[] = "sh", c[] = "-c", *argv[] = {sh, c, command, NULL};
    pid_t pid;
    int status;
    if (posix_spawn(&pid, SHELL, NULL, NULL, argv, environ) != 0) {
        return 127 << 8; /* as if the shell had said so */
    }
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return -1;
        }
    }
    return status;
}

/* NOLINTBEGIN(readability-inconsistent-declaration-parameter-name): libc's begin with two '_' */

__attribute__((visibility("default"))) int system(const char *command)
{
    if (!command) {
        return access(SHELL, X_OK) == 0;
    }
    child c = child_begin(command);
    int status = run(c.command);
    child_end(c);
    return status;
}

__attribute__((visibility("default"))) FILE *popen(const char *command, const char *mode)
{
    FILE *(*libc_popen)(const char *, const char *);
    *(void **)&libc_popen = dlsym(RTLD_NEXT, "popen");
    child c = child_begin(command);
    FILE *f = libc_popen(c.command, mode);
    child_end(c);
    return f;
}

/* NOLINTEND(readability-inconsistent-declaration-parameter-name) */

void nl_process_init(void)
{
    static bool done;
    if (!done) {
        done = true;
        pthread_atfork(NULL, NULL, in_forked_child);
    }
    fill_standard();
    catch_sigpipe();
    raise_limit();
}

char **nl_process_args(int *argc, char **argv)
{
    (void)argc;
    return argv;
}

const char *nl_program_dir(void)
{
    return NULL;
}

/*
 * process_posix.c - process.h on Linux, the BSDs and macOS.
 */
#include "base/process.h"

#include <errno.h>
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
 * for LuaJIT, for modules in C and for the ffi; in a static program there are no others.
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

static int start_shell(pid_t *pid, char *command, const posix_spawn_file_actions_t *actions)
{
    char sh[] = "sh", c[] = "-c", *argv[] = {sh, c, command, NULL};
    return posix_spawn(pid, SHELL, actions, NULL, argv, environ);
}

static int wait_for(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return -1;
        }
    }
    return status;
}

/*
 * libc's ignores SIGINT until the command has ended, for the whole process.  Here others run
 * beside.
 */
static int run(char *command)
{
    pid_t pid;
    if (start_shell(&pid, command, NULL) != 0) {
        return 127 << 8; /* as if the shell had said so */
    }
    return wait_for(pid);
}

/* The children of popen until pclose. */
typedef struct piped {
    FILE *f;
    pid_t pid;
    struct piped *next;
} piped;

static piped *all_piped;
static pthread_mutex_t piped_lock = PTHREAD_MUTEX_INITIALIZER;

/* Both ends above the standard descriptors, and inherited by no child. */
static int make_pipe(int fds[2])
{
#ifdef __APPLE__ /* a child that another thread starts at this moment inherits them */
    if (pipe(fds) != 0) {
        return -1;
    }
    fcntl(fds[0], F_SETFD, FD_CLOEXEC);
    fcntl(fds[1], F_SETFD, FD_CLOEXEC);
#else
    if (pipe2(fds, O_CLOEXEC) != 0) {
        return -1;
    }
#endif
    fds[0] = nl_fd_up(fds[0]);
    fds[1] = nl_fd_up(fds[1]);
    if (fds[0] >= 0 && fds[1] >= 0) {
        return 0;
    }
    int err = errno;
    close(fds[0]);
    close(fds[1]);
    errno = err;
    return -1;
}

/* Starts the command with fd as its standard input or output. */
static int start_piped(pid_t *pid, char *command, int fd, int standard)
{
    posix_spawn_file_actions_t actions;
    int err = posix_spawn_file_actions_init(&actions);
    if (err) {
        return err;
    }
    err = posix_spawn_file_actions_adddup2(&actions, fd, standard);
    if (!err) {
        err = start_shell(pid, command, &actions);
    }
    posix_spawn_file_actions_destroy(&actions);
    return err;
}

static FILE *open_piped(char *command, bool reads)
{
    int fds[2];
    if (make_pipe(fds) != 0) {
        return NULL;
    }
    int ours = fds[!reads], theirs = fds[reads], err = 0;
    piped *p = (piped *)nl_malloc(sizeof(*p));
    p->f = fdopen(ours, reads ? "r" : "w");
    if (!p->f) {
        err = errno;
        close(ours);
    } else {
        err = start_piped(&p->pid, command, theirs, reads ? STDOUT_FILENO : STDIN_FILENO);
        if (err) {
            fclose(p->f);
        }
    }
    close(theirs);
    if (err) {
        nl_free(p);
        errno = err;
        return NULL;
    }
    pthread_mutex_lock(&piped_lock);
    p->next = all_piped;
    all_piped = p;
    pthread_mutex_unlock(&piped_lock);
    return p->f;
}

/* Takes the child of the stream off the list; NULL: it has none. */
static piped *take_piped(const FILE *f)
{
    pthread_mutex_lock(&piped_lock);
    piped **at = &all_piped, *p;
    while ((p = *at) && p->f != f) {
        at = &p->next;
    }
    if (p) {
        *at = p->next;
    }
    pthread_mutex_unlock(&piped_lock);
    return p;
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
    if ((*mode != 'r' && *mode != 'w') || (mode[1] && strcmp(mode + 1, "e") != 0)) {
        errno = EINVAL;
        return NULL;
    }
    child c = child_begin(command);
    FILE *f = open_piped(c.command, *mode == 'r');
    child_end(c);
    return f;
}

__attribute__((visibility("default"))) int pclose(FILE *f)
{
    piped *p = take_piped(f);
    if (!p) {
        errno = EINVAL;
        return -1;
    }
    pid_t pid = p->pid;
    nl_free(p);
    fclose(f);
    return wait_for(pid);
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

char **nl_process_args(char **argv)
{
    return argv;
}

const char *nl_program_dir(void)
{
    return NULL;
}

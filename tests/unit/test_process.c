/* What the process was given at its start, and what its children get. */
#include "base/os.h"
#include "base/process.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static rlim_t soft_limit(void)
{
    struct rlimit lim;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &lim), 0);
    return lim.rlim_cur;
}

static void set_soft_limit(rlim_t n)
{
    struct rlimit lim;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &lim), 0);
    lim.rlim_cur = n;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &lim), 0);
}

/* The number that a shell prints. */
static long printed(const char *command)
{
    char line[64] = "";
    FILE *f = popen(command, "r");
    cr_assert_not_null(f);
    cr_assert_not_null(fgets(line, sizeof(line), f));
    cr_assert_eq(pclose(f), 0);
    return strtol(line, NULL, 10);
}

/* Exit status 0: the condition held in a child made by fork. */
static int in_child(bool (*holds)(void))
{
    int status;
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        _exit(holds() ? 0 : 1);
    }
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    return status;
}

static bool limit_is_100(void)
{
    return soft_limit() == 100;
}

Test(process, children_have_the_limit_of_the_start)
{
    struct rlimit lim;
    set_soft_limit(100);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &lim), 0);
    for (int i = 0; i < 2; i++) { /* a second time changes nothing */
        nl_process_init();
        cr_assert_eq(soft_limit(), lim.rlim_max, "not raised");
        cr_assert_eq(printed("ulimit -S -n"), 100);
        cr_assert_eq(system("test $(ulimit -S -n) = 100"), 0);
        cr_assert_eq(in_child(limit_is_100), 0);
    }
    cr_assert_eq(soft_limit(), lim.rlim_max);
}

Test(process, a_limit_of_the_script_is_its_childrens)
{
    set_soft_limit(100);
    nl_process_init();
    set_soft_limit(150);
    cr_assert_eq(printed("ulimit -S -n"), 150);
}

/* Functions, as macOS's macros want a variable. */
static int exit_status(int status)
{
    return WEXITSTATUS(status);
}

static int end_signal(int status)
{
    return WTERMSIG(status);
}

Test(process, the_shell_is_as_before)
{
    set_soft_limit(100);
    nl_process_init();
    cr_assert_neq(system(NULL), 0);
    cr_assert_eq(exit_status(system("exit 7")), 7);
    cr_assert_eq(end_signal(system("kill -9 $$")), 9);
    cr_assert_eq(system(""), 0);
    cr_assert_eq(system("# a comment"), 0);
    cr_assert_eq(printed("cat <<X\n42\nX"), 42);
}

Test(process, children_have_the_default_of_sigpipe)
{
    nl_process_init();
    cr_assert_eq(printed("(yes 5 | head -1) 2>&1"), 5);
    cr_assert_eq(end_signal(system("kill -PIPE $$")), SIGPIPE);
}

/* Writes into a pipe that nobody reads, as this descriptor. */
static void break_pipe(int fd)
{
    int p[2];
    cr_assert_eq(pipe(p), 0);
    cr_assert_eq(dup2(p[1], fd), fd);
    close(p[0]);
    for (int i = 0; i < 2; i++) {
        if (write(fd, "x", 1) != -1 || errno != EPIPE) {
            abort();
        }
    }
}

static bool survives_another_pipe(void)
{
    nl_process_init();
    break_pipe(100);
    return true;
}

static bool survives_broken_output(void)
{
    nl_process_init();
    break_pipe(STDOUT_FILENO);
    return true;
}

Test(process, sigpipe_ends_the_process_for_its_output_only)
{
    cr_assert_eq(in_child(survives_another_pipe), 0);
    cr_assert_eq(end_signal(in_child(survives_broken_output)), SIGPIPE);
}

static bool survives_ignored_sigpipe(void)
{
    signal(SIGPIPE, SIG_IGN);
    return survives_broken_output();
}

Test(process, what_the_parent_ignores_stays_ignored)
{
    cr_assert_eq(in_child(survives_ignored_sigpipe), 0);
}

#ifdef __linux__

static int bound_to(void)
{
    cpu_set_t set;
    cr_assert_eq(sched_getaffinity(0, sizeof(set), &set), 0);
    return CPU_COUNT(&set);
}

static bool runs_on_all(void)
{
    return bound_to() == nl_ncpu();
}

static void look(void *arg)
{
    *(int *)arg = bound_to();
}

Test(process, children_run_on_all_processors)
{
    nl_thread *t;
    int seen = 0;
    nl_process_init();
    cr_assert_eq(nl_thread_pin(0), 0);
    cr_assert_eq(printed("nproc"), nl_ncpu());
    cr_assert_eq(in_child(runs_on_all), 0);
    cr_assert_eq(nl_thread_start(&t, "look", look, &seen), 0);
    nl_thread_join(t);
    cr_assert_eq(seen, nl_ncpu());
    cr_assert_eq(bound_to(), 1);
}

#endif

static bool has_standard_descriptors(void)
{
    close(0);
    close(1);
    close(2);
    nl_process_init();
    int next = open("/dev/null", O_RDONLY);
    return next > 2 && write(1, "x", 1) == 1 && write(2, "x", 1) == 1 && read(0, &next, 1) == 0;
}

Test(process, closed_standard_descriptors_are_opened)
{
    cr_assert_eq(in_child(has_standard_descriptors), 0);
}

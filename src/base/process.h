/*
 * process.h - what the process was given at its start, and what its children get.
 *
 * Purpose:   sets up the standard descriptors, SIGPIPE and the limit of descriptors; the command
 *            line and the program's place.
 * Threads:   nl_process_init before any other thread is started; the others: any.
 * Ownership: the process's own state; each function says what it changes.
 *
 * On POSIX systems process_posix.c also defines system(), popen() and pclose(), in the place of
 * libc's, and on Windows child_win.c system().  SIGINT is heard while system() waits.
 */
#ifndef NL_PROCESS_H
#define NL_PROCESS_H

#include "base/base.h"

/*
 * First thing in main.
 *
 * - Standard streams that are closed are opened on /dev/null, or NUL.  On POSIX systems nothing
 *   else can get descriptors 0 to 2 then: a log line would be written into a connection.
 * - POSIX: the limit of descriptors becomes its hard value.  Children get the limit that the
 *   process was started with: those of system(), popen() and fork(), not those of a bare
 *   posix_spawn().
 * - POSIX: SIGPIPE ends the process only if the reader of standard output has gone.  Any other
 *   write to a broken pipe fails with EPIPE.  Children have the system's default.
 * - Children run on all processors, also those of a thread that is bound to one.
 * - Windows: the console shows UTF-8, and times are kept to the millisecond.
 */
void nl_process_init(void);

/*
 * The arguments of main in UTF-8, with a NULL behind them: argv itself or, on Windows, new ones,
 * maybe fewer, that are kept to the end of the process.
 */
char **nl_process_args(char **argv);

/* The folder of the program, where package.path looks for modules on Windows; NULL elsewhere. */
const char *nl_program_dir(void);

/*
 * POSIX only.  Keeps a new descriptor of ours off the standard numbers: fd itself, or a copy above
 * 2, and fd is closed.  A script can close a standard descriptor (ffi), and the next one that is
 * opened has its number.  A negative fd is given back; -1 and errno if there is no copy.
 */
int nl_fd_up(int fd);

#endif

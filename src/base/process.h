/*
 * process.h - what the process was given at its start, and what its children get.
 *
 * Purpose:   sets up the standard descriptors, SIGPIPE and the limit of descriptors.
 * Threads:   nl_process_init before any other thread is started; nl_fd_up: any.
 * Ownership: the process's own state; each function says what it changes.
 *
 * On POSIX systems process_posix.c also defines system() and popen(), in the place of libc's.
 * SIGINT is heard while system() waits.
 */
#ifndef NL_PROCESS_H
#define NL_PROCESS_H

#include "base/base.h"

/*
 * First thing in main.
 *
 * - Descriptors 0 to 2 that are closed are opened on /dev/null, so that nothing else gets their
 *   numbers: a log line would be written into a connection.
 * - The limit of descriptors becomes its hard value.  Children get the limit that the process was
 *   started with: those of system(), popen() and fork(), not those of a bare posix_spawn().
 * - SIGPIPE ends the process only if the reader of standard output has gone.  Any other write to
 *   a broken pipe fails with EPIPE.  Children have the system's default.
 * - Children run on all processors, also those of a thread that is bound to one.
 */
void nl_process_init(void);

/*
 * Keeps a new descriptor of ours off the standard numbers: fd itself, or a copy above 2, and fd is
 * closed.  A script can close a standard descriptor (ffi), and the next one that is opened has its
 * number.  A negative fd is given back; -1 and errno if there is no copy.
 */
int nl_fd_up(int fd);

#endif

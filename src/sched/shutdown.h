/*
 * shutdown.h - how the process ends.
 *
 * Purpose: a process ends by itself when no context is left, or because it is asked to (os.exit,
 *     SIGINT, SIGTERM).  A request goes through these steps, and the first request counts:
 *
 *       1. no context can be created any more
 *       2. sockets that still send hurry (nl_sched_hooks.hurry), every context is told to end
 *       3. when the last one has ended, the workers leave their loops and main returns
 *       4. after NL_SHUTDOWN_GRACE_NS the rest is cut off: standard output is flushed, if that
 *          takes no longer than NL_SHUTDOWN_FLUSH_NS, and the process ends
 *
 *     A second signal cuts off everything at once, without the flush.
 *
 *     Step 4 covers everything that can hang: a script that loops, a write to a pipe that nobody
 *     reads, the last flush and exit().
 * Threads: any thread may ask.  The main thread waits for signals and keeps the time.  It waits for
 *     nothing else, so nothing can keep it from its work; the program runs on a thread of its own.
 * Ownership: one per process.  Nothing is freed: a signal can come until the end.
 *
 * A signal that contexts listen to (to come: context.signal, --grace) is theirs before step 1.
 */
#ifndef NL_SHUTDOWN_H
#define NL_SHUTDOWN_H

#include "base/base.h"

/* Together less than the 2 s after which nobody who has asked should still wait. */
#define NL_SHUTDOWN_GRACE_NS ((int64_t)1250000000)
#define NL_SHUTDOWN_FLUSH_NS ((int64_t)600000000)
/*
 * The same where nobody has asked: the process ends because only contexts are left that were given
 * up.
 */
#define NL_SHUTDOWN_UNASKED_FLUSH_NS ((int64_t)3000000000)

/*
 * By main, in the program only (unit tests go on after a run): runs fn(arg) on a thread of its own,
 * which is to be worker 0, and exits with the status that it returns, or by the signal that asked.
 */
_Noreturn void nl_shutdown_guard(int (*fn)(void *arg), void *arg);
/* SIGINT and SIGTERM ask from now on; until then they end the process at once. */
void nl_shutdown_catch_signals(void);

/* Asks the process to end, with that status.  Any thread. */
void nl_shutdown_request(int status);
/* Somebody has asked. */
bool nl_shutdown_begun(void);
/* The signal that asked first (the status is then 128 + its number), or 0. */
int nl_shutdown_signal(void);

/* The status that the process ends with, 0 at first.  Setting it has no effect after a request. */
void nl_shutdown_set_status(int status);
int nl_shutdown_status(void);

/* --- For the scheduler ------------------------------------------------------------------------ */

/* Contexts exist from here on … */
void nl_shutdown_init(void);
/* … to here: a request that comes later only sets status and time. */
void nl_shutdown_settle(void);
/* No context is left: stops the workers as soon as nothing else keeps the process. */
void nl_shutdown_if_over(void);

#endif

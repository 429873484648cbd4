/*
 * signals.h - SIGINT and SIGTERM, as something that a thread can wait for.
 *
 * Purpose:   a signal handler may do next to nothing.  This one puts the signal's number into a
 *            pipe, where one thread reads it; a thread that waits for a pipe costs an idle process
 *            nothing.  On Windows the events of the console stand for the signals, and a condition
 *            for the pipe.
 * Threads:   one thread waits.  Any thread, and any signal handler, may wake it.
 * Ownership: there is one pipe in a process.  It is never closed: a signal can come until the end.
 */
#ifndef NL_SIGNALS_H
#define NL_SIGNALS_H

#include "base/base.h"

/* Makes the pipe.  0 or -errno. */
int nl_signals_init(void);
/*
 * From now on the first two of them go to nl_signals_wait, and a third one, of either kind, ends
 * the process at once.  A signal that the parent has set to be ignored stays ignored.  In a child
 * of a bare fork() both have their default effect.
 */
void nl_signals_catch(void);
/* The number of a signal that has come; 0: nl_signals_wake, or timeout_ns (< 0: none) is over. */
int nl_signals_wait(int64_t timeout_ns);
void nl_signals_wake(void);

/* Ends the process the way sig does by default, so that its parent sees what ended it. */
_Noreturn void nl_end_by_signal(int sig);
/* Ends the process now: nothing is flushed, no thread is waited for, whatever it sleeps in. */
_Noreturn void nl_end_at_once(int status);
/* Writes text to standard error and aborts, also if standard error is full and not read. */
_Noreturn void nl_abort_saying(const char *text, size_t len);

#endif

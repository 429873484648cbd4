/*
 * busy.h - a clock that only ticks while the process works: lets the monitor look at the
 * workers every 10 ms of processor time and cost an idle process nothing.
 */
#ifndef NL_BUSY_H
#define NL_BUSY_H

#include "base/base.h"

typedef struct nl_busy nl_busy;

/* For the calling thread, which alone may wait on it.  NULL when the system has no such clock. */
nl_busy *nl_busy_new(int64_t period_ns);
/* Returns after the process has used another period of processor time, or when nl_busy_stop was called. */
void nl_busy_wait(nl_busy *b);
/* Any thread, and any signal handler: the wait under way, or the next one, returns as if at a tick. */
void nl_busy_poke(nl_busy *b);
/* Any thread: ends the wait under way and all later ones. */
void nl_busy_stop(nl_busy *b);
void nl_busy_free(nl_busy *b);

#endif

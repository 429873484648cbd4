/*
 * trim.h - giving memory back to the system.
 *
 * Purpose:   malloc and the spans keep what is freed for what comes next, which is what makes them
 *            fast. After a peak that is too much. Here all large memory in use is counted, so that
 *            a thread with nothing to do can give the rest back, once it was not wanted for a
 *            while.
 * Threads:   any. Each thread counts for itself and adds to the sum once for every NL_TRIM_STEP.
 *            Giving back takes up to some hundred milliseconds, so a thread of its own does it.
 * Ownership: none.
 */
#ifndef NL_TRIM_H
#define NL_TRIM_H

#include "base/base.h"

/* Blocks of malloc's from this size on are counted, and all spans. */
#define NL_TRIM_MIN 2048
#define NL_TRIM_STEP ((int64_t)1 << 20)

extern _Thread_local int64_t nl_trim_counted; /* and not yet added */
void nl_trim_add(void);

/* n bytes were taken, or given back (negative). Takes no lock. */
static inline void nl_trim_count(int64_t n)
{
    nl_trim_counted += n;
    if (nl_unlikely(nl_trim_counted >= NL_TRIM_STEP || nl_trim_counted <= -NL_TRIM_STEP)) {
        nl_trim_add();
    }
}

/*
 * For a thread that is about to sleep: nanoseconds after which it should call this again, or -1. If
 * much was freed and not taken again for NL_TRIM_QUIET_NS, a thread is started that gives it back.
 */
int64_t nl_trim_when_quiet(void);
#define NL_TRIM_QUIET_NS ((int64_t)1000000000)

/* Waits until no thread is giving memory back; before what it uses is torn down. */
void nl_trim_wait(void);
/* Large memory in use, in bytes; racy. For tests and statistics. */
int64_t nl_trim_in_use(void);

#endif

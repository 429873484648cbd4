/*
 * log.h - lines on standard error, never mixed between threads.
 *
 * Purpose: an entry "2026-11-22 10:26:50.123456 [who] text\n" leaves in one write.  Only an entry
 *     begins with a time: control characters in who are quoted, and the second and further lines
 *     of a text get a tab in front.
 * Threads: any.  A write waits as long as nobody reads standard error, except in nl_log_async.
 * Ownership: texts are copied.
 */
#ifndef NL_LOG_H
#define NL_LOG_H

#include "base/base.h"

/* who: the name of a context; NULL: "nl-jit". */
void nl_log(const char *who, const char *fmt, ...) NL_PRINTF(2, 3);
/* text may hold any bytes. */
void nl_log_text(const char *who, const char *text, size_t len);
/*
 * For a thread that must not wait: a thread of its own writes the entry.  Where nobody reads, some
 * 16 are kept and further ones are lost.  Long texts are cut.
 */
void nl_log_async(const char *who, const char *fmt, ...) NL_PRINTF(2, 3);
/* Returns when what nl_log_async was given before is written. */
void nl_log_finish(void);

#endif

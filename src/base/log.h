/*
 * log.h - whole lines to standard error, never mixed between threads (one write per line).
 */
#ifndef NL_LOG_H
#define NL_LOG_H

#include "base/base.h"

/*
 * Writes "2026-11-22 10:26:50.123456 [who] text\n" in one write(2).  who may be NULL (then
 * "nl-jit").  Line breaks inside text are kept, the lines stay together.
 */
void nl_log(const char *who, const char *fmt, ...) NL_PRINTF(2, 3);
void nl_log_text(const char *who, const char *text, size_t len);

#endif

/*
 * reason.h - why a context has ended: as long as it ends, and afterwards (obituaries).
 *
 * Purpose: whoever asks for the end of a context gets the same text before and after it.
 * Threads: any thread; obituaries have a mutex.  A context that ends by itself does not take it.
 * Ownership: a reason is one block from nl_reason_new; who is handed one frees it, with nl_free.
 */
#ifndef NL_REASON_H
#define NL_REASON_H

#include <string.h>

#include "base/base.h"

/*
 * Bytes, with no zero behind them.  A NULL pointer to one stands for "exit": it has ended by
 * itself.
 */
typedef struct nl_reason {
    size_t len;
    char text[];
} nl_reason;

#define NL_REASON_MAX ((size_t)64 << 10) /* longer ones are cut */

nl_reason *nl_reason_new(const char *text, size_t len);
static inline nl_reason *nl_reason_of(const char *text)
{
    return nl_reason_new(text, strlen(text));
}
/* NULL for NULL. */
nl_reason *nl_reason_copy(const nl_reason *r);

/*
 * Why a context has ended; NULL when it has ended by itself, or lives.  The latest
 * NL_OBITUARIES_MAX other ends are known, as far as their texts take no more than
 * NL_OBITUARIES_BYTES; for older ones it is NULL as well.
 */
#define NL_OBITUARIES_MAX 4096u
#define NL_OBITUARIES_BYTES ((size_t)4 << 20)
nl_reason *nl_obituary_copy(uint64_t handle);

#endif

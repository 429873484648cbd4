/*
 * span.h - runs of memory of a few KiB, out of regions of our own.
 *
 * Purpose:   what the heaps of Lua states (heap.h) and the pool (alloc.h) cut their blocks from.
 *            malloc would do, but the heaps of its threads grow by a few KiB a system call, and
 *            each page is taken from the kernel by a fault of its own. Here pages are taken by
 *            sixteen. A region, of spans of one size, is unmapped when it is empty; nl_span_trim
 *            gives back the pages of free spans in the others. Under AddressSanitizer a span is
 *            malloc's, so that misuse is seen.
 * Threads:   any thread may give back what another has taken. Each thread takes from one of a few
 *            arenas, which have a spin lock each; no system call is made under it.
 * Ownership: a span is the caller's until nl_span_free.
 *
 * Large pages would be cheaper still where they are at hand. Under a hypervisor that takes free
 * ones back they cost six times as much as small ones: 12 µs for each 4 KiB, measured, against 2.
 */
#ifndef NL_SPAN_H
#define NL_SPAN_H

#include "base/base.h"

#define NL_SPAN_MIN 2048
#define NL_SPAN_MAX 65536
#define NL_SPAN_REGION ((size_t)2 * 1024 * 1024) /* aligned to that */

/* What a span of at least n bytes will hold: n rounded up to a power of two; n ≤ NL_SPAN_MAX. */
size_t nl_span_size(size_t n);
/*
 * A span, aligned to its size (under AddressSanitizer to a cache line), not zeroed; NULL when
 * memory is out. size is one of nl_span_size.
 */
void *nl_span_alloc(size_t size);
void nl_span_free(void *p);
/* The size of the span in which p lies; not under AddressSanitizer. */
static inline size_t nl_span_size_of(const void *p)
{
    return *(const size_t *)((uintptr_t)p & ~(uintptr_t)(NL_SPAN_REGION - 1));
}
/*
 * Gives the pages of all free spans back to the system. They are taken again, one by one, when
 * touched.
 */
void nl_span_trim(void);

#endif

/*
 * names.h - registered names of contexts.
 *
 * Purpose: a name finds a handle.
 * Threads: any thread; one mutex, a slow path.
 * Ownership: texts are copied.  A name goes with its context.
 */
#ifndef NL_NAMES_H
#define NL_NAMES_H

#include "sched/ctx.h"

/*
 * Process wide and unique; freed when the context ends.  0, -NL_ENOCONTEXT, -NL_ENAMETAKEN, -EINVAL
 * (empty).
 */
int nl_name_register(const char *name, size_t len, uint64_t handle);
/* Handle or 0. */
uint64_t nl_name_lookup(const char *name, size_t len);

#endif

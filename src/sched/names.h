/*
 * names.h - registered names of contexts.
 *
 * Purpose: finds a context's handle by a name that the context has registered.
 * Threads: any thread; one mutex, a slow path.
 * Ownership: texts are copied.  A name is freed when its context ends.
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

/*
 * names.h - registered names of contexts, and why a context has ended.
 *
 * Purpose: both outlive a look-up: a name finds a handle, an obituary tells of a handle whose
 *   context has gone.
 * Threads: any thread; one mutex each, both are slow paths.
 * Ownership: texts are copied.  A name goes with its context.
 */
#ifndef NL_NAMES_H
#define NL_NAMES_H

#include "sched/ctx.h"

/* Process wide and unique; freed when the context ends.  0, -NL_ENOCONTEXT, -NL_ENAMETAKEN, -EINVAL (empty). */
int nl_name_register(const char *name, size_t len, uint64_t handle);
/* Handle or 0. */
uint64_t nl_name_lookup(const char *name, size_t len);

/*
 * Why a context that is gone has ended: copies into buf (cut to size) and returns true, false
 * when that is no longer known (its slot was used again) or it is alive.
 */
bool nl_ctx_obituary(uint64_t handle, char *buf, size_t size);

#endif

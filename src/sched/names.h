/*
 * names.h - what outlives or names a context: registered names, and why it ended.
 *
 * Process wide, under one mutex each: both are slow paths.
 */
#ifndef NL_NAMES_H
#define NL_NAMES_H

#include "sched/ctx.h"

void nl_names_init(void);
void nl_names_fini(void);
/* Frees every name c bears; by the worker that ends it. */
void nl_names_release(nl_ctx *c);
/* Remembers why handle ended (NULL: by itself), until its place in the table is needed. */
void nl_obituary_store(uint64_t handle, const char *reason);

#endif

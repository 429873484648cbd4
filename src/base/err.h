/*
 * err.h - names and texts of error numbers.  No state; any thread.
 *
 * Numbers here are Linux errno numbers for system errors, the same on every platform, and
 * the runtime's own from 200 up (base.h).
 */
#ifndef NL_ERR_H
#define NL_ERR_H

/* Text for a number; never NULL ("success" for 0, "unknown error N" for what is not known, in a per-thread buffer). */
const char *nl_strerror(int err);

/* Symbolic name ("ETIMEOUT", "ECONNREFUSED"), or NULL for an unknown number. */
const char *nl_errname(int err);

/* Enumerates every known name, aliases (EWOULDBLOCK) last: the i-th (from 0), or NULL past the end; *err gets its number. */
const char *nl_err_at(int i, int *err);

/*
 * Translates this platform's errno into the Linux number (the identity on Linux); the
 * runtime's own numbers stay as they are.  To be applied once, where an error leaves C for Lua.
 */
int nl_err_from_os(int os_errno);

#endif

/*
 * err.h - names and texts of error numbers.
 *
 * Purpose:   error numbers are those of Linux on every platform, for system errors, and the
 *            runtime's own from 200 up (base.h).
 * Threads:   any; a text of nl_strerror may be in a buffer of the thread's own.
 * Ownership: names and texts are constants.
 */
#ifndef NL_ERR_H
#define NL_ERR_H

/* "success" for 0, "unknown error N" for a number that is not known; never NULL. */
const char *nl_strerror(int err);

/* "ETIMEOUT", "ECONNREFUSED"; NULL for an unknown number. */
const char *nl_errname(int err);

/*
 * Every known name, aliases (EWOULDBLOCK) last: the i-th (from 0), or NULL past the end; *err
 * gets its number.
 */
const char *nl_err_at(int i, int *err);

/*
 * This platform's errno as Linux's number (on Linux itself); the runtime's own numbers stay as they
 * are.  Applied once, where an error leaves C for Lua: nl_push_err.
 */
int nl_err_from_os(int os_errno);

/* The text of a C function's result, a negated errno of this platform or number of the runtime. */
const char *nl_err_text(int result);

#endif

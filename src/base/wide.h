/*
 * wide.h - UTF-8 and the UTF-16 of Windows.
 *
 * Purpose:   every text of the runtime is UTF-8; the calls of Windows that take all names are wide.
 *            Only files for Windows include it.  wide.c also defines fopen, remove, rename and
 *            getenv, in the place of msvcrt's, whose names are in the code page of the country.
 * Threads:   any.
 * Ownership: the result is the caller's, for nl_free.
 */
#ifndef NL_WIDE_H
#define NL_WIDE_H

#include <wchar.h>

/* What is no UTF-8 becomes U+FFFD. */
wchar_t *nl_to_wide(const char *text);
/* Half a surrogate pair becomes U+FFFD. */
char *nl_to_utf8(const wchar_t *text);

#endif

/*
 * winerr.h - errno for the error codes of Windows.
 *
 * Purpose:   in C an error is this platform's errno (base.h), and Windows's own calls have other
 *            numbers.  Only files for Windows include it.
 * Threads:   any; no state.
 * Ownership: none.
 */
#ifndef NL_WINERR_H
#define NL_WINERR_H

#include "base/base.h"

/* The errno for a code of GetLastError or WSAGetLastError; EIO for one that has none. */
int nl_win_errno(unsigned long code);

#endif

/*
 * number.h - numbers as text.
 *
 * Purpose:   writes numbers exactly as LuaJIT's tostring does, without a string of the collector's:
 *            print and write do so while they hold a lock.
 * Threads:   any; no state.
 * Ownership: none.
 */
#ifndef NL_NUMBER_H
#define NL_NUMBER_H

#include <math.h>

#include "base/base.h"

#define NL_NUMBER_TEXT 24

/*
 * Whether nl_number_text can write it: no exponent is needed, and it is neither infinite, nor NaN,
 * nor -0.
 */
static inline bool nl_number_is_plain(double n)
{
    double a = fabs(n);
#ifdef __SIZEOF_INT128__
    return a < 1e13 && (a >= 0.001 || (a == 0 && !signbit(n)));
#else
    return a < 1e9 && a == (int)a && (a != 0 || !signbit(n));
#endif
}

/* Writes a plain n to text, without a zero at the end; the length. */
size_t nl_number_text(double n, char text[NL_NUMBER_TEXT]);

#endif

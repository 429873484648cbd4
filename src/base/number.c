/*
 * number.c - "%.14g", as LuaJIT's tostring writes numbers; halves are rounded away from zero, as
 * there.
 *
 * The fraction of a number that is neither very small nor very large is m / 2^shift with m < 2^53.
 * It has at most 16 decimals, so m * 10^decimals fits into 128 bits and is rounded without any
 * loss.
 */
#include "base/number.h"

#include <string.h>

#define DIGITS 14

/* Writes v before end; returns where it begins. */
static char *digits(uint64_t v, char *end)
{
    do {
        *--end = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    return end;
}

#ifdef __SIZEOF_INT128__
__extension__ typedef unsigned __int128 wide;

/*
 * How many decimals "%.14g" shows of whole + fraction, before it takes zeros away; *power is 10 to
 * that.
 */
static int decimals_of(uint64_t whole, double fraction, uint64_t *power)
{
    int n = DIGITS;
    for (; whole; whole /= 10) {
        n--;
    }
    if (n == DIGITS) {
        n += fraction < 0.01 ? 2 : fraction < 0.1 ? 1 : 0;
    }
    *power = 1;
    for (int i = 0; i < n; i++) {
        *power *= 10;
    }
    return n;
}

/*
 * Writes the decimals and the point before end; returns where they begin.  *whole may be rounded
 * up.
 */
static char *decimals(uint64_t *whole, double fraction, char *end)
{
    uint64_t bits, power;
    int n = decimals_of(*whole, fraction, &power);
    memcpy(&bits, &fraction, sizeof bits);
    int shift = 1075 - (int)(bits >> 52);
    if (shift > 127) {
        return end; /* so small a fraction that nothing of it is shown */
    }
    wide scaled = (wide)((bits & ((UINT64_C(1) << 52) - 1)) | UINT64_C(1) << 52) * power;
    uint64_t f = (uint64_t)((scaled + ((wide)1 << (shift - 1))) >> shift);
    if (f == power) {
        ++*whole;
        return end;
    }
    if (f == 0) {
        return end;
    }
    for (; f % 10 == 0; f /= 10) {
        n--;
    }
    char *p = digits(f, end);
    while (end - p < n) {
        *--p = '0';
    }
    *--p = '.';
    return p;
}
#else
static char *decimals(uint64_t *whole, double fraction, char *end)
{
    (void)whole, (void)fraction;
    return end; /* nl_number_is_plain lets only integers come */
}
#endif

size_t nl_number_text(double n, char text[NL_NUMBER_TEXT])
{
    char buf[NL_NUMBER_TEXT], *end = buf + sizeof buf;
    double a = n < 0 ? -n : n;
    uint64_t whole = (uint64_t)a;
    double fraction = a - (double)whole;
    char *p = fraction != 0 ? decimals(&whole, fraction, end) : end;
    p = digits(whole, p);
    if (n < 0) {
        *--p = '-';
    }
    memcpy(text, p, (size_t)(end - p));
    return (size_t)(end - p);
}

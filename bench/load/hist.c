/* hist.c - see hist.h. */
#include "hist.h"

#include <math.h>
#include <string.h>

/*
 * Values under HIST_STEPS have a cell each.  From there on a value is its highest bit's
 * position and the HIST_STEP_BITS bits after it.
 */
static unsigned cell_of(uint64_t v)
{
    if (v < HIST_STEPS) {
        return (unsigned)v;
    }
    unsigned shift = 63u - (unsigned)__builtin_clzll(v) - HIST_STEP_BITS;
    return (shift + 1) * HIST_STEPS + (unsigned)((v >> shift) & (HIST_STEPS - 1));
}

/* The middle of the values that share a cell. */
static uint64_t value_of(unsigned cell)
{
    if (cell < HIST_STEPS) {
        return cell;
    }
    unsigned shift = cell / HIST_STEPS - 1;
    uint64_t first = (uint64_t)(HIST_STEPS + cell % HIST_STEPS) << shift;
    return first + (((uint64_t)1 << shift) - 1) / 2;
}

void hist_reset(hist *h)
{
    memset(h, 0, sizeof(*h));
}

void hist_add(hist *h, uint64_t ns)
{
    h->cell[cell_of(ns)]++;
    h->count++;
    h->sum += (double)ns;
    if (ns > h->max) {
        h->max = ns;
    }
}

void hist_merge(hist *into, const hist *from)
{
    for (unsigned i = 0; i < HIST_CELLS; i++) {
        into->cell[i] += from->cell[i];
    }
    into->count += from->count;
    into->sum += from->sum;
    if (from->max > into->max) {
        into->max = from->max;
    }
}

uint64_t hist_at(const hist *h, double q)
{
    if (h->count == 0) {
        return 0;
    }
    /* The smallest number of values that is at least the share q of all, one at the least. */
    uint64_t want = (uint64_t)ceil(q * (double)h->count), seen = 0;
    want = want < 1 ? 1 : want > h->count ? h->count : want;
    for (unsigned i = 0; i < HIST_CELLS; i++) {
        seen += h->cell[i];
        if (seen >= want) {
            uint64_t v = value_of(i);
            return v < h->max ? v : h->max;
        }
    }
    return h->max;
}

double hist_mean(const hist *h)
{
    return h->count ? h->sum / (double)h->count : 0;
}

/* ticks.c - see ticks.h */
#include "base/ticks.h"

uint64_t nl_ticks_calibrate(void)
{
    int64_t ns0 = nl_now_ns(), ns;
    uint64_t t0 = nl_ticks();
    do {
        ns = nl_now_ns();
    } while (ns - ns0 < 50000);
    uint64_t rate = (nl_ticks() - t0) * 1000 / (uint64_t)(ns - ns0);
    return rate ? rate : 1;
}

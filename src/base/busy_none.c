/* busy_none.c - busy.h where no processor-time clock can signal a thread: the monitor does without. */
#include "base/busy.h"

nl_busy *nl_busy_new(int64_t period_ns)
{
    (void)period_ns;
    return NULL;
}

void nl_busy_wait(nl_busy *b)
{
    (void)b;
}

void nl_busy_stop(nl_busy *b)
{
    (void)b;
}

void nl_busy_free(nl_busy *b)
{
    (void)b;
}

/* test_handles.c - ids of one thread's things: each names one thing as long as it is there, and none afterwards. */
#include <criterion/criterion.h>

#include "base/handles.h"
#include "rng.h"

#define THINGS 500

Test(handles, an_id_names_one_thing)
{
    nl_handles h = {0};
    static int things[THINGS];
    static uint64_t ids[THINGS], old[THINGS]; /* 0: none */
    rng r = rng_seed(1);
    cr_assert_null(nl_handles_get(&h, 0));
    cr_assert_null(nl_handles_get(&h, 12345));
    for (int round = 0; round < 100000; round++) {
        uint32_t i = rng_below(&r, THINGS);
        if (ids[i]) {
            cr_assert_eq(nl_handles_get(&h, ids[i]), &things[i]);
            nl_handles_remove(&h, ids[i]);
            cr_assert_null(nl_handles_get(&h, ids[i]));
            old[i] = ids[i];
            ids[i] = 0;
        } else {
            ids[i] = nl_handles_add(&h, &things[i]);
            cr_assert_neq(ids[i], 0);
            cr_assert_neq(ids[i], old[i]);
        }
        cr_assert_null(nl_handles_get(&h, old[i]));
    }
    cr_assert_leq(h.used, THINGS + 1);
    cr_assert_not(nl_handles_full(&h));
    nl_handles_fini(&h);
}

Test(handles, a_place_whose_generations_are_used_up_stays_empty)
{
    nl_handles h = {0};
    int thing = 0;
    uint64_t id = nl_handles_add(&h, &thing),
             last = (uint64_t)NL_HANDLE_GENERATIONS << NL_HANDLE_INDEX_BITS | id;
    nl_handles_remove(&h, id);
    h.slots[id].generation = NL_HANDLE_GENERATIONS;
    cr_assert_eq(nl_handles_add(&h, &thing), last);
    cr_assert_eq((uint64_t)(double)last, last);
    nl_handles_remove(&h, last);
    cr_assert_null(nl_handles_get(&h, last));
    cr_assert_eq(nl_handles_add(&h, &thing), id + 1);
    nl_handles_fini(&h);
}

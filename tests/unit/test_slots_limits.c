/* The handle table at its limits, which are 16 million objects and 2^29 generations: here with small ones. */
#define SLOTS_INDEX_MAX 5
#define SLOTS_GEN_MAX 2
#include "base/slots.c"

#include <criterion/criterion.h>

Test(slots_limits, full)
{
    nl_slots *t = nl_slots_new();
    nl_slot_obj o[6];
    for (int i = 0; i < 5; i++) {
        cr_assert_eq(nl_slots_insert(t, &o[i]), 0);
    }
    cr_assert_eq(nl_slots_insert(t, &o[5]), -ENFILE);
    cr_assert_eq(nl_slots_count(t), 5);
    nl_slots_remove(t, &o[2]);
    cr_assert_eq(nl_slots_insert(t, &o[5]), 0);
    cr_assert_eq(nl_slots_get(t, o[5].id), &o[5]);
    nl_slots_free(t);
}

Test(slots_limits, a_used_up_slot_retires)
{
    nl_slots *t = nl_slots_new();
    nl_slot_obj o;
    uint64_t seen[16] = {0};
    int n = 0;
    /* Five slots of three generations each. */
    while (nl_slots_insert(t, &o) == 0) {
        for (int i = 0; i < n; i++) {
            cr_assert_neq(seen[i], o.id);
        }
        cr_assert_lt(n, 15);
        seen[n++] = o.id;
        nl_slots_remove(t, &o);
    }
    cr_assert_eq(n, 15);
    for (int i = 0; i < n; i++) {
        cr_assert_null(nl_slots_get(t, seen[i]));
    }
    cr_assert_eq(nl_slots_count(t), 0);
    nl_slots_free(t);
}

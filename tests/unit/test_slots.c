/* The handle table, against a model, and under readers that do not wait. */
#include "base/alloc.h"
#include "base/os.h"
#include "base/slots.h"
#include "rng.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define INDEX(id) ((uint32_t)((id)&NL_SLOT_MAX))

Test(slots, first_ids)
{
    nl_slots *t = nl_slots_new();
    nl_slot_obj o[3];
    for (uint64_t i = 0; i < 3; i++) {
        cr_assert_eq(nl_slots_insert(t, &o[i]), 0);
        cr_assert_eq(o[i].id, i + 1);
        cr_assert_eq(nl_slots_get(t, i + 1), &o[i]);
    }
    cr_assert_eq(nl_slots_count(t), 3);
    nl_slots_free(t);
}

Test(slots, stale_id_is_nobody)
{
    nl_slots *t = nl_slots_new();
    nl_slot_obj a, b;
    nl_slots_insert(t, &a);
    uint64_t old = a.id;
    nl_slots_remove(t, &a);
    cr_assert_not(nl_slots_try_remove(t, &a), "it was in no more");
    cr_assert_eq(a.id, old);
    cr_assert_null(nl_slots_get(t, old));
    nl_slots_insert(t, &b);
    cr_assert_eq(INDEX(b.id), INDEX(old), "the slot is used again");
    cr_assert_neq(b.id, old);
    cr_assert_null(nl_slots_get(t, old));
    cr_assert_eq(nl_slots_get(t, b.id), &b);
    nl_slots_free(t);
}

Test(slots, ids_nobody_has)
{
    nl_slots *t = nl_slots_new();
    nl_slot_obj a;
    cr_assert_null(nl_slots_get(t, 0));
    cr_assert_null(nl_slots_get(t, 1));
    nl_slots_insert(t, &a);
    static const uint64_t wrong[] = {
        0,
        2,
        1u << NL_SLOT_INDEX_BITS,       /* index 0 */
        (1u << NL_SLOT_INDEX_BITS) + 1, /* the next generation */
        NL_SLOT_MAX,                    /* far beyond the used ones */
        (UINT64_C(1) << 53) + 1,        /* generation 0 again, in too many bits */
        (UINT64_C(1) << 63) + 1,
        UINT64_MAX,
    };
    for (size_t i = 0; i < nl_countof(wrong); i++) {
        cr_assert_null(nl_slots_get(t, wrong[i]), "case %d", (int)i);
    }
    cr_assert_eq(nl_slots_get(t, 1), &a);
    nl_slots_free(t);
}

Test(slots, oldest_free_first)
{
    nl_slots *t = nl_slots_new();
    nl_slot_obj o[10];
    static const int order[] = {7, 2, 9, 0};
    for (int i = 0; i < 10; i++) {
        nl_slots_insert(t, &o[i]);
    }
    for (size_t i = 0; i < nl_countof(order); i++) {
        nl_slots_remove(t, &o[order[i]]);
    }
    for (size_t i = 0; i < nl_countof(order); i++) {
        nl_slot_obj n;
        nl_slots_insert(t, &n);
        cr_assert_eq(INDEX(n.id), (uint32_t)order[i] + 1);
    }
    nl_slot_obj n;
    nl_slots_insert(t, &n);
    cr_assert_eq(INDEX(n.id), 11, "nothing free: a new index");
    nl_slots_free(t);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

Test(slots, random_against_model)
{
    enum { OBJS = 3000, OPS = 200000 };
    static nl_slot_obj o[OBJS];
    static bool in[OBJS];
    static uint64_t given[OPS], last[OBJS];
    int n = 0;
    unsigned live = 0;
    nl_slots *t = nl_slots_new();
    rng r = rng_seed(3);
    for (int i = 0; i < OPS; i++) {
        uint32_t k = rng_below(&r, OBJS);
        if (in[k]) {
            cr_assert_eq(nl_slots_get(t, o[k].id), &o[k]);
            nl_slots_remove(t, &o[k]);
            cr_assert_null(nl_slots_get(t, o[k].id));
            live--;
        } else {
            if (last[k]) {
                cr_assert_null(nl_slots_get(t, last[k]));
            }
            cr_assert_eq(nl_slots_insert(t, &o[k]), 0);
            cr_assert_eq((uint64_t)(double)o[k].id, o[k].id);
            last[k] = given[n++] = o[k].id;
            live++;
        }
        in[k] = !in[k];
        cr_assert_eq(nl_slots_count(t), live);
    }
    for (int k = 0; k < OBJS; k++) {
        cr_assert_eq(nl_slots_get(t, last[k]), in[k] ? &o[k] : NULL);
    }
    qsort(given, (size_t)n, sizeof(*given), by_value);
    for (int i = 1; i < n; i++) {
        cr_assert_neq(given[i], given[i - 1], "an id was given out twice");
    }
    nl_slots_free(t);
}

typedef struct visited {
    nl_slot_obj slot;
    int times;
} visited;

static void visit(nl_slot_obj *obj, void *arg)
{
    ((visited *)(void *)obj)->times++;
    ++*(int *)arg;
}

Test(slots, each_visits_the_live_ones)
{
    static visited v[5000];
    int n = 0;
    nl_slots *t = nl_slots_new();
    for (int i = 0; i < 5000; i++) {
        nl_slots_insert(t, &v[i].slot);
    }
    for (int i = 0; i < 5000; i += 3) {
        nl_slots_remove(t, &v[i].slot);
    }
    nl_slots_each(t, visit, &n);
    for (int i = 0; i < 5000; i++) {
        cr_assert_eq(v[i].times, i % 3 != 0, "object %d", i);
    }
    cr_assert_eq(n, (int)nl_slots_count(t));
    nl_slots_free(t);
}

/*
 * Two threads insert and remove, two look up.  An object's body is written before it is
 * inserted and never again, and its memory outlives the test, as the table asks of its
 * users.  What readers may rely on: an object that is announced and not yet about to be
 * removed is found; one whose removal is announced is not; what is found has the id asked
 * for and a whole body.
 */
enum { OBJS = 20000, KEPT = 64 };

typedef struct thing {
    nl_slot_obj slot;
    uint64_t body;
    atomic_int
        state; /* release by the writer, acquire by the readers: 0 new, 1 in, 2 may be going, 3 removed */
} thing;

static thing things[2][OBJS];
static nl_slots *table;
static atomic_int inserted[2], writers_left, wrong, answers[2];

static void writer(void *arg)
{
    thing *mine = things[(uintptr_t)arg];
    for (int i = 0; i < OBJS; i++) {
        mine[i].body = (uintptr_t)&mine[i] ^ 0x5555;
        if (nl_slots_insert(table, &mine[i].slot) != 0) {
            atomic_fetch_add(&wrong, 1);
        }
        atomic_store_explicit(&mine[i].state, 1, memory_order_release);
        atomic_store_explicit(&inserted[(uintptr_t)arg], i, memory_order_relaxed);
        if (i >= KEPT) {
            thing *old = &mine[i - KEPT];
            atomic_store_explicit(&old->state, 2, memory_order_release);
            nl_slots_remove(table, &old->slot);
            atomic_store_explicit(&old->state, 3, memory_order_release);
        }
    }
    atomic_fetch_sub(&writers_left, 1);
}

static void reader(void *arg)
{
    rng r = rng_seed((uint64_t)(uintptr_t)arg + 7);
    while (atomic_load(&writers_left) > 0) {
        /* Around the place where a writer is at work: half of them in the table, half gone. */
        uint32_t w = rng_below(&r, 2);
        int i = atomic_load_explicit(&inserted[w], memory_order_relaxed) - (int)rng_below(&r, 2 * KEPT);
        thing *o = &things[w][i > 0 ? i : 0];
        int before = atomic_load_explicit(&o->state, memory_order_acquire);
        if (before == 0) {
            continue; /* has no id yet */
        }
        thing *got = (thing *)(void *)nl_slots_get(table, o->slot.id);
        int after = atomic_load_explicit(&o->state, memory_order_acquire);
        if (got && (got != o || got->body != ((uintptr_t)o ^ 0x5555) || before == 3)) {
            atomic_fetch_add(&wrong, 1);
        }
        if (!got && after == 1) {
            atomic_fetch_add(&wrong, 1);
        }
        atomic_fetch_add_explicit(&answers[got != NULL], 1, memory_order_relaxed);
    }
}

Test(slots, lookups_while_others_insert_and_remove, .timeout = 120)
{
    nl_thread *t[4];
    table = nl_slots_new();
    writers_left = 2;
    for (uintptr_t i = 0; i < 4; i++) {
        cr_assert_eq(nl_thread_start(&t[i], "slots", i < 2 ? writer : reader, (void *)i), 0);
    }
    for (int i = 0; i < 4; i++) {
        nl_thread_join(t[i]);
    }
    cr_assert_eq(wrong, 0, "%d wrong answers", (int)wrong);
    cr_assert_eq(nl_slots_count(table), 2 * KEPT);
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < OBJS; i++) {
            nl_slot_obj *got = nl_slots_get(table, things[k][i].slot.id);
            cr_assert_eq(got, i < OBJS - KEPT ? NULL : &things[k][i].slot);
        }
    }
    nl_slots_free(table);
}

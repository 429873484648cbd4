/* slots.c - the table of handles. */
#include "base/slots.h"
#include "micro.h"

#define LIVE 4096

static nl_slots *table;
static nl_slot_obj objs[LIVE];
static uint64_t seed = 7;

static void setup(void)
{
    table = nl_slots_new();
    for (unsigned i = 0; i < LIVE; i++) {
        nl_slots_insert(table, &objs[i]);
    }
}

static void teardown(void)
{
    nl_slots_free(table);
}

static void get_one(uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        micro_keep(nl_slots_get(table, objs[0].id));
    }
}

static void get_any(uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        micro_keep(nl_slots_get(table, objs[micro_random(&seed) % LIVE].id));
    }
}

static void replace(uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        nl_slots_remove(table, &objs[i % LIVE]);
        nl_slots_insert(table, &objs[i % LIVE]);
    }
}

const micro micro_slots[] = {
    {"slots.get", "the same handle looked up again", get_one, setup, teardown, 1},
    {"slots.get.4096", "a random one of 4096 handles looked up", get_any, setup, teardown, 1},
    {"slots.replace", "a handle removed and a new one given out", replace, setup, teardown, 1},
    {NULL, NULL, NULL, NULL, NULL, 0},
};

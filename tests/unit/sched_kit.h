/*
 * sched_kit.h - contexts in C for the tests of the scheduler, and ways to run them.
 *
 * Purpose: an actor is a context with two functions; a note is a message with a number.
 * Threads: begin and on are called on the actor's turn.
 * Ownership: a note belongs to the actor that gets it; the scheduler frees actors.
 */
#ifndef SCHED_KIT_H
#define SCHED_KIT_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/os.h"
#include "sched/names.h"
#include "sched/sched.h"

/* --- a context for tests ---------------------------------------------------------------------- */

typedef struct actor actor;
typedef struct note note;

struct note {
    nl_msg msg;
    uint64_t from;
    int64_t value;
};

struct actor {
    nl_ctx ctx; /* first */
    void (*begin)(actor *a);
    void (*on)(actor *a, note *n);
    uint64_t peer;
    int64_t count, want, hops;
    bool stay; /* waits for messages; else it ends when idle */
    nl_timer timer[4];
    int fired;
    int64_t due[4];
    int order[4];
};

static atomic_int dropped, freed, ended;
static atomic_llong total;
static char last_reason[64];

static inline void note_run(nl_ctx *c, nl_msg *m)
{
    actor *a = (actor *)c;
    a->on(a, nl_container_of(m, note, msg));
}

static inline void note_drop(nl_msg *m)
{
    atomic_fetch_add(&dropped, 1);
    nl_pool_free(m, sizeof(note));
}

static const nl_msg_ops note_ops = {note_run, note_drop};

static inline int tell(uint64_t to, uint64_t from, int64_t value)
{
    note *n = nl_pool_alloc(sizeof *n);
    *n = (note){.msg = {.ops = &note_ops}, .from = from, .value = value};
    int err = nl_ctx_send(to, &n->msg);
    if (err) {
        nl_pool_free(n, sizeof *n);
    }
    return err;
}

static inline void a_start(nl_ctx *c)
{
    actor *a = (actor *)c;
    if (a->begin) {
        a->begin(a);
    }
}

static inline bool a_idle(nl_ctx *c)
{
    return ((actor *)c)->stay;
}

static inline void a_fini(nl_ctx *c, const nl_reason *reason)
{
    (void)c;
    atomic_fetch_add(&ended, 1);
    if (reason) {
        snprintf(last_reason, sizeof last_reason, "%.*s", (int)reason->len, reason->text);
    }
}

static inline void a_free(nl_ctx *c)
{
    atomic_fetch_add(&freed, 1);
    nl_free_aligned(c);
}

static inline const char *a_name(const nl_ctx *c)
{
    (void)c;
    return "actor";
}

static const nl_ctx_ops a_ops = {
    .start = a_start, .idle = a_idle, .fini = a_fini, .free = a_free, .name = a_name};

static inline actor *actor_new(void (*begin)(actor *), void (*on)(actor *, note *))
{
    actor *a = nl_calloc_aligned(sizeof *a);
    nl_ctx_init(&a->ctx, &a_ops);
    a->begin = begin;
    a->on = on;
    a->stay = true;
    return a;
}

static inline uint64_t actor_start(actor *a)
{
    cr_assert_eq(nl_ctx_start(&a->ctx), 0);
    return a->ctx.slot.id;
}

/* Runs everything that `boot` starts; the worker count and the chaos seed vary. */
static inline int run(int workers, uint64_t chaos, void (*boot)(void))
{
    nl_sched_config cfg = {.workers = workers, .pin = NL_PIN_OFF, .chaos = chaos};
    cr_assert_eq(nl_sched_init(&cfg), 0);
    atomic_store(&dropped, 0);
    atomic_store(&freed, 0);
    atomic_store(&ended, 0);
    atomic_store(&total, 0);
    last_reason[0] = 0;
    boot();
    int status = nl_sched_run();
    nl_sched_fini();
    return status;
}

static const int worker_counts[] = {1, 2, 8, 64};

static inline void each_way(void (*boot)(void), void (*check)(void))
{
    for (unsigned i = 0; i < nl_countof(worker_counts); i++) {
        for (uint64_t seed = 0; seed < 4; seed++) {
            run(worker_counts[i], seed, boot);
            check();
        }
    }
}

static inline void check_one(void)
{
    cr_assert_eq(atomic_load(&total), 1);
}

/* Counts notes and ends when it has as many as it wants. */
static inline void fan_on(actor *a, note *n)
{
    nl_pool_free(n, sizeof *n);
    if (++a->count == a->want) {
        atomic_fetch_add(&total, a->count);
        nl_ctx_end(&a->ctx, NULL);
    }
}

#endif

/* test_queues.c - the local queue, the global queue, the idle protocol and reclamation, alone and under contention. */
#include <criterion/criterion.h>

#include "base/alloc.h"
#include "base/os.h"
#include "sched/idle.h"
#include "sched/injq.h"
#include "sched/qsbr.h"
#include "sched/runq.h"

/* A context is only an address here. */
static struct nl_ctx *item(uintptr_t i)
{
    return (struct nl_ctx *)(i << 4);
}

static uintptr_t index_of(struct nl_ctx *c)
{
    return (uintptr_t)c >> 4;
}

/* --- local queue ------------------------------------------------------------------------------ */

Test(runq, fifo_and_full)
{
    nl_runq *q = nl_calloc_aligned(sizeof *q);
    nl_runq_init(q);
    for (int lap = 0; lap < 5; lap++) {
        for (uintptr_t i = 1; i <= NL_RUNQ_SIZE; i++) {
            cr_assert(nl_runq_push(q, item(i)));
        }
        cr_assert_not(nl_runq_push(q, item(999)));
        cr_assert_eq(nl_runq_len(q), NL_RUNQ_SIZE);
        for (uintptr_t i = 1; i <= NL_RUNQ_SIZE; i++) {
            cr_assert_eq(index_of(nl_runq_pop(q)), i);
        }
        cr_assert_null(nl_runq_pop(q));
    }
    nl_free_aligned(q);
}

Test(runq, steal_takes_the_older_half)
{
    nl_runq *a = nl_calloc_aligned(sizeof *a), *b = nl_calloc_aligned(sizeof *b);
    nl_runq_init(a);
    nl_runq_init(b);
    cr_assert_eq(nl_runq_steal(b, a), 0);
    for (uintptr_t i = 1; i <= 7; i++) {
        nl_runq_push(a, item(i));
    }
    cr_assert_eq(nl_runq_steal(b, a), 4);
    for (uintptr_t i = 1; i <= 4; i++) {
        cr_assert_eq(index_of(nl_runq_pop(b)), i);
    }
    for (uintptr_t i = 5; i <= 7; i++) {
        cr_assert_eq(index_of(nl_runq_pop(a)), i);
    }
    nl_free_aligned(a);
    nl_free_aligned(b);
}

enum { ITEMS = 60000, THIEVES = 3 };

static struct {
    nl_runq *victim;
    nl_injq injq;
    atomic_uchar seen[ITEMS + 1];
    atomic_int got;
} st;

static void saw(struct nl_ctx *c)
{
    /* Once and only once. */
    cr_assert_eq(atomic_fetch_add(&st.seen[index_of(c)], 1), 0);
    atomic_fetch_add(&st.got, 1);
}

static void thief(void *arg)
{
    (void)arg;
    nl_runq *own = nl_calloc_aligned(sizeof *own);
    nl_runq_init(own);
    while (atomic_load(&st.got) < ITEMS) {
        if (!nl_runq_steal(own, st.victim)) {
            nl_thread_yield();
        }
        struct nl_ctx *c;
        while ((c = nl_runq_pop(own))) {
            saw(c);
        }
    }
    nl_free_aligned(own);
}

Test(runq, nothing_lost_nothing_twice)
{
    st.victim = nl_calloc_aligned(sizeof *st.victim);
    nl_runq_init(st.victim);
    nl_thread *t[THIEVES];
    for (int i = 0; i < THIEVES; i++) {
        cr_assert_eq(nl_thread_start(&t[i], "thief", thief, NULL), 0);
    }
    for (uintptr_t i = 1; i <= ITEMS; i++) {
        while (!nl_runq_push(st.victim, item(i))) {
            struct nl_ctx *c = nl_runq_pop(st.victim);
            if (c) {
                saw(c);
            }
        }
        if (i % 3 == 0) {
            struct nl_ctx *c = nl_runq_pop(st.victim);
            if (c) {
                saw(c);
            }
        }
    }
    for (struct nl_ctx *c; (c = nl_runq_pop(st.victim));) {
        saw(c);
    }
    for (int i = 0; i < THIEVES; i++) {
        nl_thread_join(t[i]);
    }
    cr_assert_eq(atomic_load(&st.got), ITEMS);
    nl_free_aligned(st.victim);
}

/* --- global queue ----------------------------------------------------------------------------- */

Test(injq, fifo_over_grown_rings)
{
    static nl_injq q;
    nl_injq_init(&q);
    cr_assert_null(nl_injq_pop(&q));
    uintptr_t n = 0, out = 0;
    for (size_t cap = NL_INJQ_FIRST; cap <= 8 * NL_INJQ_FIRST; cap *= 2) {
        nl_injq_reserve(&q, cap);
        while (n < cap - 1) {
            nl_injq_push(&q, item(++n));
        }
        cr_assert_eq(nl_injq_len(&q), n - out);
        cr_assert_eq(index_of(nl_injq_pop(&q)), ++out);
    }
    while (out < n) {
        cr_assert_eq(index_of(nl_injq_pop(&q)), ++out);
    }
    cr_assert_null(nl_injq_pop(&q));
    cr_assert_eq(nl_injq_len(&q), 0);
    nl_injq_fini(&q);
}

static void injq_producer(void *arg)
{
    uintptr_t first = (uintptr_t)arg;
    for (uintptr_t i = first; i <= ITEMS; i += 2) {
        while (i > (uintptr_t)atomic_load(&st.got) + NL_INJQ_FIRST - 2) {
            nl_thread_yield(); /* keep the promise that there is a cell for everyone */
        }
        nl_injq_push(&st.injq, item(i));
    }
}

static void injq_consumer(void *arg)
{
    (void)arg;
    while (atomic_load(&st.got) < ITEMS) {
        struct nl_ctx *c = nl_injq_pop(&st.injq);
        if (c) {
            saw(c);
        } else {
            nl_thread_yield();
        }
    }
}

Test(injq, many_producers_many_consumers)
{
    nl_injq_init(&st.injq);
    nl_thread *t[4];
    cr_assert_eq(nl_thread_start(&t[0], "p1", injq_producer, (void *)1), 0);
    cr_assert_eq(nl_thread_start(&t[1], "p2", injq_producer, (void *)2), 0);
    cr_assert_eq(nl_thread_start(&t[2], "c1", injq_consumer, NULL), 0);
    cr_assert_eq(nl_thread_start(&t[3], "c2", injq_consumer, NULL), 0);
    for (int i = 0; i < 4; i++) {
        nl_thread_join(t[i]);
    }
    cr_assert_eq(atomic_load(&st.got), ITEMS);
    nl_injq_fini(&st.injq);
}

/* --- idle protocol ---------------------------------------------------------------------------- */

/*
 * The protocol of idle.h in small: producers push to a queue and wake by its rule, consumers
 * park by its rule; parking is a wait for a token that only a waker gives.  A lost wake-up
 * leaves work in the queue with everybody asleep: the test would hang.
 */
enum { CONSUMERS = 3, WORK = 20000 };

static struct {
    nl_idle idle;
    nl_injq q;
    atomic_bool token[CONSUMERS];
    atomic_int done;
} pr;

static void wake_one(void)
{
    if (atomic_load(&pr.idle.searching) != 0 || atomic_load(&pr.idle.nparked) <= 0) {
        return;
    }
    int none = 0;
    if (atomic_compare_exchange_strong(&pr.idle.searching, &none, 1)) {
        int i = nl_idle_claim(&pr.idle);
        if (i < 0) {
            atomic_fetch_sub(&pr.idle.searching, 1);
        } else {
            atomic_store(&pr.token[i], true);
        }
    }
}

static void consumer(void *arg)
{
    int me = (int)(intptr_t)arg;
    bool searching = false;
    while (atomic_load(&pr.done) < WORK) {
        struct nl_ctx *c = nl_injq_pop(&pr.q);
        if (c) {
            if (searching) {
                searching = false;
                if (atomic_fetch_sub(&pr.idle.searching, 1) == 1 && nl_injq_len(&pr.q)) {
                    wake_one();
                }
            }
            if (atomic_fetch_add(&pr.done, 1) + 1 == WORK) { /* all may go home */
                for (int i = 0; i < CONSUMERS; i++) {
                    atomic_store(&pr.token[i], true);
                }
            }
            continue;
        }
        if (searching) {
            searching = false;
            atomic_fetch_sub(&pr.idle.searching, 1);
        }
        nl_idle_park(&pr.idle, me);
        while (nl_injq_len(&pr.q) == 0 && !atomic_load(&pr.token[me])) {
            /* asleep, but for a look at the queue before the first wait: */
            while (!atomic_load(&pr.token[me])) {
                nl_thread_yield();
            }
        }
        atomic_store(&pr.token[me], atomic_load(&pr.done) >= WORK);
        if (!nl_idle_unpark(&pr.idle, me)) {
            searching = true;
        }
    }
}

static void producer(void *arg)
{
    (void)arg;
    for (uintptr_t i = 1; i <= WORK / 2; i++) {
        while (nl_injq_len(&pr.q) > 200) {
            nl_thread_yield();
        }
        nl_injq_push(&pr.q, item(i));
        wake_one();
        if (i % 7 == 0) {
            nl_thread_yield();
        }
    }
}

Test(idle, no_wakeup_is_lost, .timeout = 120)
{
    nl_injq_init(&pr.q);
    nl_thread *t[CONSUMERS + 2];
    for (intptr_t i = 0; i < CONSUMERS; i++) {
        cr_assert_eq(nl_thread_start(&t[i], "consumer", consumer, (void *)i), 0);
    }
    cr_assert_eq(nl_thread_start(&t[CONSUMERS], "p1", producer, NULL), 0);
    cr_assert_eq(nl_thread_start(&t[CONSUMERS + 1], "p2", producer, NULL), 0);
    for (int i = 0; i < CONSUMERS + 2; i++) {
        nl_thread_join(t[i]);
    }
    cr_assert_eq(atomic_load(&pr.done), WORK);
    nl_injq_fini(&pr.q);
}

Test(idle, claim_takes_each_bit_once)
{
    static nl_idle d;
    cr_assert_eq(nl_idle_claim(&d), -1);
    nl_idle_park(&d, 3);
    nl_idle_park(&d, 200);
    cr_assert(nl_idle_is_parked(&d, 200));
    cr_assert_eq(nl_idle_claim(&d), 3);
    cr_assert_not(nl_idle_unpark(&d, 3)); /* the waker owns it */
    cr_assert(nl_idle_unpark(&d, 200));
    cr_assert_eq(nl_idle_claim(&d), -1);
    cr_assert_eq(atomic_load(&d.nparked), 0);
}

/* --- reclamation ------------------------------------------------------------------------------ */

typedef struct thing {
    nl_limbo limbo;
    atomic_int value;
} thing;

static struct {
    _Atomic(thing *) shared;
    atomic_bool stop;
    atomic_int freed;
    int replaced;
} rc;

static void thing_free(nl_limbo *g)
{
    thing *t = nl_container_of(g, thing, limbo);
    atomic_store_explicit(&t->value, -1, memory_order_relaxed);
    nl_free(t);
    atomic_fetch_add(&rc.freed, 1);
}

static void reader(void *arg)
{
    (void)arg;
    while (!atomic_load(&rc.stop)) {
        nl_qsbr_enter();
        thing *t = atomic_load(&rc.shared);
        for (int i = 0; i < 20; i++) {
            cr_assert_geq(atomic_load_explicit(&t->value, memory_order_relaxed), 0);
        }
        nl_qsbr_leave();
    }
}

Test(qsbr, nothing_is_freed_under_a_reader)
{
    nl_qsbr *mine = nl_calloc_aligned(sizeof *mine);
    nl_qsbr_register(mine);
    nl_qsbr_online(mine);
    atomic_store(&rc.shared, nl_calloc(sizeof(thing)));
    nl_thread *t[3];
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(nl_thread_start(&t[i], "reader", reader, NULL), 0);
    }
    for (int i = 0; i < 20000; i++) {
        thing *fresh = nl_calloc(sizeof *fresh);
        atomic_init(&fresh->value, i);
        nl_retire(&atomic_exchange(&rc.shared, fresh)->limbo, thing_free);
        nl_qsbr_quiescent(mine);
        nl_qsbr_sweep(mine);
        rc.replaced++;
    }
    atomic_store(&rc.stop, true);
    for (int i = 0; i < 3; i++) {
        nl_thread_join(t[i]);
    }
    nl_qsbr_quiescent(mine);
    cr_assert_not(nl_qsbr_sweep(mine)); /* nobody is left to wait for */
    cr_assert_eq(atomic_load(&rc.freed), rc.replaced);
    nl_free(atomic_load(&rc.shared));
    nl_qsbr_fini();
}

Test(qsbr, an_online_thread_holds_its_epoch)
{
    nl_qsbr *me = nl_calloc_aligned(sizeof *me), *other = nl_calloc_aligned(sizeof *other);
    nl_qsbr_register(other);
    nl_qsbr_register(me);
    nl_qsbr_online(other);
    nl_qsbr_online(me);
    thing *t = nl_calloc(sizeof *t);
    nl_retire(&t->limbo, thing_free);
    nl_qsbr_quiescent(me);
    cr_assert(nl_qsbr_sweep(me));
    cr_assert_eq(atomic_load(&rc.freed), 0);
    nl_qsbr_quiescent(other);
    cr_assert_not(nl_qsbr_sweep(me));
    cr_assert_eq(atomic_load(&rc.freed), 1);
    nl_qsbr_fini();
}

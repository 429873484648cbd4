/* The mailbox: order, the idle mark, and that exactly one push schedules an idle consumer. */
#include "base/alloc.h"
#include "base/os.h"
#include "rng.h"
#include "sched/mailbox.h"

#include <criterion/criterion.h>
#include <string.h>

#define EACH RNG_ROUNDS(200000, 20000)

static struct {
    nl_mailbox_in in;
    nl_alignas_line nl_mailbox_out out;
} q;

Test(mailbox, first_push_schedules)
{
    nl_msg a, b;
    nl_mailbox_init(&q.in, &q.out);
    cr_assert_null(nl_mailbox_pop(&q.in, &q.out));
    cr_assert(nl_mailbox_push(&q.in, &a), "the consumer was idle");
    cr_assert_not(nl_mailbox_push(&q.in, &b), "it is scheduled");
    cr_assert_not(nl_mailbox_idle(&q.in, &q.out), "there is work");
    cr_assert_eq(nl_mailbox_pop(&q.in, &q.out), &a);
    cr_assert_not(nl_mailbox_idle(&q.in, &q.out));
    cr_assert_eq(nl_mailbox_pop(&q.in, &q.out), &b);
    cr_assert_null(nl_mailbox_pop(&q.in, &q.out));
    cr_assert_not(nl_mailbox_push(&q.in, &a), "it has not gone idle yet");
    cr_assert_not(nl_mailbox_idle(&q.in, &q.out));
    cr_assert_eq(nl_mailbox_pop(&q.in, &q.out), &a);
    cr_assert(nl_mailbox_idle(&q.in, &q.out));
    cr_assert(nl_mailbox_push(&q.in, &b));
    cr_assert_eq(nl_mailbox_pop(&q.in, &q.out), &b);
    cr_assert(nl_mailbox_idle(&q.in, &q.out), "idle right after the last message");
    cr_assert_eq(q.in.pushed, 4);
    cr_assert_eq(q.out.popped, 4);
}

Test(mailbox, random_against_counters)
{
    enum { N = 64 };
    static struct {
        nl_msg msg;
        int number;
    } m[N];
    int in = 0, out = 0;
    bool idle = true;
    rng r = rng_seed(5);
    nl_mailbox_init(&q.in, &q.out);
    for (int i = 0; i < 200000; i++) {
        if (rng_below(&r, 2) && in - out < N) {
            m[in % N].number = in;
            cr_assert_eq(nl_mailbox_push(&q.in, &m[in % N].msg), idle);
            in++;
            idle = false;
        } else if (idle) {
            cr_assert_eq(in, out);
        } else if (rng_below(&r, 4) == 0) {
            /* Refusing an empty queue would be allowed, but only while a push is under way. */
            idle = nl_mailbox_idle(&q.in, &q.out);
            cr_assert_eq(idle, in == out);
        } else {
            nl_msg *got = nl_mailbox_pop(&q.in, &q.out);
            if (in == out) {
                cr_assert_null(got);
            } else {
                cr_assert_eq(got, &m[out % N].msg);
                cr_assert_eq(m[out % N].number, out);
                out++;
            }
        }
        cr_assert_eq(q.in.pushed - q.out.popped, (uint64_t)(in - out));
    }
}

/* A producer that stands still between its exchange and its link cuts the queue off, and nothing else happens. */
Test(mailbox, push_under_way)
{
    nl_msg a, b, c;
    nl_mailbox_init(&q.in, &q.out);
    nl_mailbox_push(&q.in, &a);

    atomic_store(&b.next, NULL);
    nl_msg *prev = (nl_msg *)atomic_exchange(&q.in.head, (uintptr_t)&b);
    cr_assert_eq(prev, &a);
    cr_assert_not(nl_mailbox_push(&q.in, &c), "others go on behind it");
    cr_assert_null(nl_mailbox_pop(&q.in, &q.out), "a may not leave: its link is about to be written");
    cr_assert_not(nl_mailbox_idle(&q.in, &q.out));
    atomic_store(&prev->next, &b);

    cr_assert_eq(nl_mailbox_pop(&q.in, &q.out), &a);
    cr_assert_eq(nl_mailbox_pop(&q.in, &q.out), &b);
    cr_assert_eq(nl_mailbox_pop(&q.in, &q.out), &c);
    cr_assert_null(nl_mailbox_pop(&q.in, &q.out));
    cr_assert(nl_mailbox_idle(&q.in, &q.out));
}

/* The same on an idle mailbox: whoever took the idle mark away is the one that schedules. */
Test(mailbox, push_under_way_on_an_idle_one)
{
    nl_msg a, b;
    nl_mailbox_init(&q.in, &q.out);
    atomic_store(&a.next, NULL);
    uintptr_t prev = atomic_exchange(&q.in.head, (uintptr_t)&a);
    cr_assert_eq(prev, (uintptr_t)&q.out.stub | NL_MAILBOX_IDLE);
    cr_assert_not(nl_mailbox_push(&q.in, &b));
    cr_assert_null(nl_mailbox_pop(&q.in, &q.out));
    cr_assert_not(nl_mailbox_idle(&q.in, &q.out));
    atomic_store(&q.out.stub.next, &a);
    cr_assert_eq(nl_mailbox_pop(&q.in, &q.out), &a);
    cr_assert_eq(nl_mailbox_pop(&q.in, &q.out), &b);
    cr_assert(nl_mailbox_idle(&q.in, &q.out));
}

/* pop found a to be the last one, and before it could put the stub behind a, a producer came in between. */
Test(mailbox, no_stub_behind_a_push_under_way)
{
    nl_msg a, b;
    nl_mailbox_init(&q.in, &q.out);
    nl_mailbox_push(&q.in, &a);

    atomic_store(&b.next, NULL);
    nl_msg *prev = (nl_msg *)atomic_exchange(&q.in.head, (uintptr_t)&b);
    cr_assert_null(nl_mailbox_pop(&q.in, &q.out));
    cr_assert_null(nl_mailbox_pop(&q.in, &q.out), "from the second time on a is the oldest node");
    cr_assert_not(nl_mailbox_idle(&q.in, &q.out), "a and b are still there");
    atomic_store(&prev->next, &b);

    cr_assert_eq(nl_mailbox_pop(&q.in, &q.out), &a);
    cr_assert_eq(nl_mailbox_pop(&q.in, &q.out), &b);
    cr_assert_null(nl_mailbox_pop(&q.in, &q.out));
    cr_assert(nl_mailbox_idle(&q.in, &q.out));
}

Test(mailbox, full)
{
    nl_msg m[5];
    nl_mailbox_init(&q.in, &q.out);
    for (int i = 0; i < 5; i++) {
        cr_assert_not(nl_mailbox_full(&q.in, &q.out, 5));
        nl_mailbox_push(&q.in, &m[i]);
    }
    cr_assert(nl_mailbox_full(&q.in, &q.out, 5));
    cr_assert_eq(nl_mailbox_pop(&q.in, &q.out), &m[0]);
    cr_assert_not(nl_mailbox_full(&q.in, &q.out, 5), "room again");
    nl_mailbox_push(&q.in, &m[0]);
    cr_assert(nl_mailbox_full(&q.in, &q.out, 5));
    cr_assert_eq(nl_mailbox_len(&q.in, &q.out), 5);
}

/*
 * Many producers, and a consumer that moves between threads as a context does: a push that
 * says "schedule" makes a token; whoever takes the token is the consumer for a while; when
 * the queue will not go idle the token goes back.  With more than one token, or none left
 * while messages wait, the idle mark would be broken.
 */
enum { PRODUCERS = 3, RUNNERS = 2 };

typedef struct numbered {
    nl_msg msg;
    uint32_t producer, number;
} numbered;

static atomic_int tokens, two_tokens, two_consumers, running, producers_left, disorder;
static atomic_long schedules, idles;
/* Not atomic on purpose: only the consumer touches them, and each must see what the last one wrote. */
static uint32_t expected[PRODUCERS];
static uint64_t consumed;

static void give_token(void)
{
    if (atomic_fetch_add_explicit(&tokens, 1, memory_order_release) != 0) {
        atomic_fetch_add(&two_tokens, 1);
    }
}

static void producer(void *arg)
{
    rng r = rng_seed((uint64_t)(uintptr_t)arg);
    for (uint32_t i = 0; i < EACH; i++) {
        numbered *m = nl_pool_alloc(sizeof(*m));
        m->producer = (uint32_t)(uintptr_t)arg;
        m->number = i;
        if (nl_mailbox_push(&q.in, &m->msg)) {
            atomic_fetch_add(&schedules, 1);
            give_token();
        }
        if (rng_below(&r, 16) == 0) {
            nl_thread_yield(); /* so that the consumer does run dry */
        }
    }
    nl_pool_thread_exit();
    atomic_fetch_sub(&producers_left, 1);
}

/* A dispatch: some messages, then idle if nothing is left. */
static void consume(void)
{
    if (atomic_exchange(&running, 1) != 0) {
        atomic_fetch_add(&two_consumers, 1);
    }
    nl_msg *msg = NULL;
    for (int i = 0; i < 50 && (msg = nl_mailbox_pop(&q.in, &q.out)); i++) {
        numbered *m = (numbered *)(void *)msg;
        if (m->number != expected[m->producer]++) {
            atomic_fetch_add(&disorder, 1);
        }
        consumed++;
        nl_pool_free(m, sizeof(*m));
    }
    atomic_store(&running, 0);
    if (msg == NULL && nl_mailbox_idle(&q.in, &q.out)) {
        atomic_fetch_add(&idles, 1);
    } else {
        give_token();
    }
}

static void runner(void *arg)
{
    (void)arg;
    for (;;) {
        /* Read before the token is looked for: afterwards no producer can make one. */
        bool last_look = atomic_load(&producers_left) == 0;
        int one = 1;
        if (atomic_compare_exchange_strong_explicit(&tokens, &one, 0, memory_order_acquire,
                                                    memory_order_relaxed)) {
            consume();
        } else if (last_look && atomic_load(&schedules) == atomic_load(&idles)) {
            break;
        } else {
            nl_thread_yield();
        }
    }
    nl_pool_thread_exit();
}

Test(mailbox, one_push_per_idle_period_schedules, .timeout = 120)
{
    nl_thread *t[PRODUCERS + RUNNERS];
    nl_mailbox_init(&q.in, &q.out);
    producers_left = PRODUCERS;
    for (uintptr_t i = 0; i < PRODUCERS + RUNNERS; i++) {
        cr_assert_eq(nl_thread_start(&t[i], "mailbox", i < PRODUCERS ? producer : runner, (void *)i), 0);
    }
    for (int i = 0; i < PRODUCERS + RUNNERS; i++) {
        nl_thread_join(t[i]);
    }
    cr_assert_eq(two_tokens, 0, "%d times two pushes of one idle period said schedule", (int)two_tokens);
    cr_assert_eq(two_consumers, 0);
    cr_assert_eq(disorder, 0);
    cr_assert_eq(consumed, (uint64_t)PRODUCERS * EACH);
    cr_assert_eq(q.in.pushed, q.out.popped);
    cr_assert_eq(schedules, idles, "every period of work began with one push and ended idle");
    for (int i = 0; i < PRODUCERS; i++) {
        cr_assert_eq(expected[i], (uint32_t)EACH);
    }
    cr_log_info("%ld periods", (long)schedules);
    nl_pool_thread_exit();
    nl_pool_fini();
}

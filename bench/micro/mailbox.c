/* mailbox.c - the queue of messages of a context: one thread, then producers on other ones. */
#include "sched/mailbox.h"
#include "base/alloc.h"
#include "base/os.h"
#include "micro.h"

#define BURST 64
#define AHEAD 4096 /* how far producers may run ahead of the consumer */
#define SIZE 64

static struct {
    nl_mailbox_in in;
    nl_alignas_line nl_mailbox_out out;
} box;
static nl_msg msgs[BURST];

static void setup(void)
{
    nl_mailbox_init(&box.in, &box.out);
}

/* One message there and idle again: what each half of a ping-pong costs. */
static void ping(uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        bool idle = nl_mailbox_push(&box.in, &msgs[0]);
        nl_assert(idle, "an empty mailbox is idle");
        micro_keep(nl_mailbox_pop(&box.in, &box.out));
        idle = nl_mailbox_idle(&box.in, &box.out);
        nl_assert(idle, "an emptied mailbox goes idle");
    }
}

static void burst(uint64_t n)
{
    for (uint64_t done = 0; done < n; done += BURST) {
        for (unsigned i = 0; i < BURST; i++) {
            nl_mailbox_push(&box.in, &msgs[i]);
        }
        for (unsigned i = 0; i < BURST; i++) {
            nl_msg *m = nl_mailbox_pop(&box.in, &box.out);
            nl_assert(m == &msgs[i], "messages come out in order");
        }
    }
}

/* --- Across threads --------------------------------------------------------------------------- */

static uint64_t share; /* messages of each producer */
static atomic_uint_fast64_t taken;

static void produce(void *arg)
{
    (void)arg;
    for (uint64_t i = 0; i < share; i++) {
        nl_mailbox_push(&box.in, nl_pool_alloc(SIZE));
        while (i % 256 == 0 && i > atomic_load_explicit(&taken, memory_order_relaxed) + AHEAD) {
            nl_thread_yield();
        }
    }
    nl_pool_thread_exit();
}

static void from(unsigned producers, uint64_t n)
{
    struct nl_thread *t[2];
    share = n / producers + 1;
    atomic_store(&taken, 0);
    for (unsigned i = 0; i < producers; i++) {
        t[i] = micro_thread(produce, NULL);
    }
    unsigned empty = 0;
    for (uint64_t got = 0; got < share * producers;) {
        nl_msg *m = nl_mailbox_pop(&box.in, &box.out);
        if (m) {
            nl_pool_free(m, SIZE);
            empty = 0;
            if (++got % 256 == 0) {
                atomic_store_explicit(&taken, got / producers, memory_order_relaxed);
            }
        } else if (++empty < 64) {
            nl_cpu_relax();
        } else {
            nl_thread_yield(); /* the producer may be waiting for this processor */
        }
    }
    nl_assert(nl_mailbox_idle(&box.in, &box.out), "an emptied mailbox goes idle");
    for (unsigned i = 0; i < producers; i++) {
        nl_thread_join(t[i]);
    }
}

static void from_one(uint64_t n)
{
    from(1, n);
}

static void from_two(uint64_t n)
{
    from(2, n);
}

const micro micro_mailbox[] = {
    {"mailbox.ping", "push on an idle mailbox, pop, idle again", ping, setup, NULL, 1},
    {"mailbox.burst", "one of 64 messages: pushed, popped", burst, setup, NULL, 1},
    {"mailbox.1-to-1", "a message from the pool, pushed; popped and freed by another thread", from_one, setup,
     NULL, 2},
    {"mailbox.2-to-1", "the same, two threads pushing", from_two, setup, NULL, 3},
    {NULL, NULL, NULL, NULL, NULL, 0},
};

/* runq.c - the ready queues: a worker's own and the global one. Contexts are only pointers here. */
#include "sched/runq.h"
#include "base/os.h"
#include "micro.h"
#include "sched/injq.h"

static nl_runq mine, theirs;
static nl_injq global;
static char contexts[NL_RUNQ_SIZE];

static struct nl_ctx *ctx(uint64_t i)
{
    return (struct nl_ctx *)(void *)&contexts[i % NL_RUNQ_SIZE];
}

static void runq_setup(void)
{
    nl_runq_init(&mine);
    nl_runq_init(&theirs);
}

static void push_pop(uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        nl_runq_push(&mine, ctx(i));
        micro_keep(nl_runq_pop(&mine));
    }
}

static void full(uint64_t n)
{
    for (uint64_t done = 0; done < n; done += NL_RUNQ_SIZE) {
        while (nl_runq_push(&mine, ctx(0))) {
        }
        while (nl_runq_pop(&mine)) {
        }
    }
}

/* 64 are pushed by one, and stolen 32, 16, 8 … at a time by the other. */
static void steal(uint64_t n)
{
    for (uint64_t done = 0; done < n; done += 64) {
        for (unsigned i = 0; i < 64; i++) {
            nl_runq_push(&theirs, ctx(i));
        }
        while (nl_runq_steal(&mine, &theirs)) {
            while (nl_runq_pop(&mine)) {
            }
        }
    }
}

static void injq_setup(void)
{
    nl_injq_init(&global);
}

static void injq_teardown(void)
{
    nl_injq_fini(&global);
}

static void inject(uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        nl_injq_push(&global, ctx(i));
        micro_keep(nl_injq_pop(&global));
    }
}

static void half(void *arg)
{
    inject(*(uint64_t *)arg);
}

static void inject_two(uint64_t n)
{
    uint64_t each = n / 2 + 1;
    struct nl_thread *t = micro_thread(half, &each);
    inject(each);
    nl_thread_join(t);
}

const micro micro_runq[] = {
    {"runq.push-pop", "a context pushed and popped by the owner", push_pop, runq_setup, NULL, 1},
    {"runq.full", "one of 256 contexts: pushed, popped", full, runq_setup, NULL, 1},
    {"runq.steal", "one of 64 contexts: pushed, stolen by halves, popped", steal, runq_setup, NULL, 1},
    {"injq.push-pop", "a context pushed to and popped from the global queue", inject, injq_setup,
     injq_teardown, 1},
    {"injq.2-threads", "the same by two threads at once, for each context", inject_two, injq_setup,
     injq_teardown, 2},
    {NULL, NULL, NULL, NULL, NULL, 0},
};

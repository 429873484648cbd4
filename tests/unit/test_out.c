/* Who is told of output, and when: in the order written, whichever thread tells. */
#include "base/alloc.h"
#include "base/os.h"
#include "net/out.h"
#include "rng.h"
#include "sched/sched.h"

#include <criterion/criterion.h>

#define SLOW RNG_ROUNDS(1, 10)

/* No context bears handle 0, so a request is dropped where it would be posted. */
typedef struct asker {
    nl_wreq req;
    int writer, number;
} asker;

static nl_out out;
static void (*on_told)(asker *a);

static void dropped(nl_msg *m)
{
    asker *a = (asker *)nl_container_of(m, nl_wreq, msg);
    on_told(a);
}

static const nl_msg_ops ops = {NULL, dropped};

static void asker_init(asker *a, int writer, int number)
{
    *a = (asker){.req = {.msg = {.ops = &ops}}, .writer = writer, .number = number};
}

static void begin(void (*told)(asker *))
{
    cr_assert_eq(nl_sched_init(&(nl_sched_config){.workers = 1}), 0);
    nl_out_init(&out);
    on_told = told;
}

/* Queues n bytes with somebody to be told; refused: only that. */
static void ask(asker *a, size_t n, int refused)
{
    static const unsigned char bytes[100];
    nl_segment *fresh = nl_segment_new(nl_chain_room(&(nl_chain){0}, n, 0));
    nl_spin_lock(&out.lock);
    if (!refused) {
        fresh = nl_chain_put_fresh(&out.chain, NULL, 0, bytes, n, fresh);
    }
    nl_out_request_locked(&out, &a->req, refused);
    nl_out_post_locked(&out);
    nl_spin_unlock(&out.lock);
    nl_segments_free(fresh);
}

static void take(size_t n)
{
    nl_segment *done = NULL;
    nl_spin_lock(&out.lock);
    nl_out_advance_locked(&out, n, &done);
    nl_out_post_locked(&out);
    nl_spin_unlock(&out.lock);
    nl_segments_free(done);
}

static void drop_all(int err)
{
    nl_segment *done = NULL;
    nl_spin_lock(&out.lock);
    nl_out_drop_locked(&out, err, &done);
    nl_out_post_locked(&out);
    nl_spin_unlock(&out.lock);
    nl_segments_free(done);
}

/* --- One thread ------------------------------------------------------------------------------- */

static int told_count, told[8], told_err[8];

static void note(asker *a)
{
    told[told_count] = a->number;
    told_err[told_count++] = a->req.err;
}

Test(out, each_is_told_when_its_bytes_are_gone)
{
    asker a[5];
    told_count = 0;
    begin(note);
    for (int i = 0; i < 5; i++) {
        asker_init(&a[i], 0, i);
        ask(&a[i], i < 4 ? 10 : 0, 0);
    }
    take(9);
    cr_assert_eq(told_count, 0);
    take(1);
    cr_assert_eq(told_count, 1);
    take(25);
    cr_assert_eq(told_count, 3);
    take(5);
    cr_assert_eq(told_count, 5, "an empty write waits for what was before it, and no longer");
    for (int i = 0; i < 5; i++) {
        cr_assert_eq(told[i], i);
        cr_assert_eq(told_err[i], 0);
    }
    cr_assert_not(out.lost);
    nl_sched_fini();
}

Test(out, a_refused_write_is_told_behind_those_before)
{
    asker a[4];
    told_count = 0;
    begin(note);
    for (int i = 0; i < 4; i++) {
        asker_init(&a[i], 0, i);
    }
    ask(&a[0], 0, NL_EWQUEUEFULL);
    cr_assert_eq(told_count, 1, "nobody was before it");
    ask(&a[1], 10, 0);
    ask(&a[2], 0, NL_EWQUEUEFULL);
    cr_assert_eq(told_count, 1);
    nl_segment *fresh = nl_segment_new(500);
    nl_segments_free(nl_chain_put_fresh(&out.chain, NULL, 0, "no one waits for this", 21, fresh));
    take(10);
    cr_assert_eq(told_count, 3, "it does not wait for other bytes");
    ask(&a[3], 10, 0);
    drop_all(ECONNRESET);
    cr_assert_eq(told_count, 4);
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(told[i], i);
    }
    cr_assert_eq(told_err[1], 0);
    cr_assert_eq(told_err[2], NL_EWQUEUEFULL);
    cr_assert_eq(told_err[3], ECONNRESET);
    cr_assert(out.lost);
    nl_sched_fini();
}

/* --- Two threads, in a given order ------------------------------------------------------------ */

/* While one thread is posting 0, another has 1 refused. */
static atomic_int stage;
static asker first, second;

static void refuse_second(void *arg)
{
    (void)arg;
    while (atomic_load(&stage) < 1) {
        nl_thread_yield();
    }
    ask(&second, 0, EPIPE);
    atomic_store(&stage, 2);
    nl_pool_thread_exit();
}

static void note_slowly(asker *a)
{
    if (a->number == 0) {
        atomic_store(&stage, 1);
        while (atomic_load(&stage) < 2) {
            nl_thread_yield();
        }
    }
    note(a);
}

Test(out, a_write_that_is_refused_while_others_are_told_is_told_after_them)
{
    nl_thread *t;
    told_count = 0;
    atomic_store(&stage, 0);
    begin(note_slowly);
    asker_init(&first, 0, 0);
    asker_init(&second, 0, 1);
    ask(&first, 10, 0);
    cr_assert_eq(nl_thread_start(&t, "refused", refuse_second, NULL), 0);
    drop_all(EPIPE);
    nl_thread_join(t);
    cr_assert_eq(told_count, 2);
    cr_assert_eq(told[0], 0);
    cr_assert_eq(told[1], 1);
    nl_sched_fini();
}

/* --- Many threads ----------------------------------------------------------------------------- */

enum { WRITERS = 3, EACH = 20000 / SLOW };
static asker askers[WRITERS][EACH];
static atomic_int next_of[WRITERS], wrong, writing;

static void check_order(asker *a)
{
    int expected = a->number;
    if (!atomic_compare_exchange_strong(&next_of[a->writer], &expected, a->number + 1)) {
        atomic_fetch_add(&wrong, 1);
    }
}

static void write_many(void *arg)
{
    int me = (int)(intptr_t)arg;
    rng r = rng_seed((uint64_t)me);
    for (int i = 0; i < EACH; i++) {
        asker_init(&askers[me][i], me, i);
        uint32_t kind = rng_below(&r, 4);
        ask(&askers[me][i], kind ? rng_below(&r, 100) : 0, kind == 1 ? NL_EWQUEUEFULL : 0);
    }
    atomic_fetch_sub(&writing, 1);
    nl_pool_thread_exit();
}

Test(out, order_under_many_threads, .timeout = 120)
{
    nl_thread *t[WRITERS];
    rng r = rng_seed(5);
    begin(check_order);
    atomic_store(&writing, WRITERS);
    for (intptr_t i = 0; i < WRITERS; i++) {
        atomic_store(&next_of[i], 0);
        cr_assert_eq(nl_thread_start(&t[i], "writer", write_many, (void *)i), 0);
    }
    while (atomic_load(&writing)) {
        nl_spin_lock(&out.lock);
        uint64_t queued = nl_chain_queued(&out.chain);
        nl_spin_unlock(&out.lock);
        if (rng_below(&r, 20) == 0) {
            drop_all(ECONNRESET);
        } else if (queued) {
            take(rng_below(&r, 3) ? queued : rng_below(&r, (uint32_t)queued));
        }
    }
    for (int i = 0; i < WRITERS; i++) {
        nl_thread_join(t[i]);
    }
    drop_all(ECONNRESET);
    cr_assert_eq(atomic_load(&wrong), 0);
    for (int i = 0; i < WRITERS; i++) {
        cr_assert_eq(atomic_load(&next_of[i]), EACH, "each was told");
    }
    nl_sched_fini();
}

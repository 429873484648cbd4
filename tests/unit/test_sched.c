/* test_sched.c - contexts in C on the real scheduler: messages, life, timers, names, wake-ups, under chaos too. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/os.h"
#include "sched/sched.h"

/* ------------------------------------------------------------------ a context for tests */

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

static void note_run(nl_ctx *c, nl_msg *m)
{
    actor *a = (actor *)c;
    a->on(a, nl_container_of(m, note, msg));
}

static void note_drop(nl_msg *m)
{
    atomic_fetch_add(&dropped, 1);
    nl_pool_free(m, sizeof(note));
}

static const nl_msg_ops note_ops = {note_run, note_drop};

static int tell(uint64_t to, uint64_t from, int64_t value)
{
    note *n = nl_pool_alloc(sizeof *n);
    *n = (note){.msg = {.ops = &note_ops}, .from = from, .value = value};
    int err = nl_ctx_send(to, &n->msg);
    if (err) {
        nl_pool_free(n, sizeof *n);
    }
    return err;
}

static void a_start(nl_ctx *c)
{
    actor *a = (actor *)c;
    if (a->begin) {
        a->begin(a);
    }
}

static bool a_idle(nl_ctx *c)
{
    return ((actor *)c)->stay;
}

static void a_fini(nl_ctx *c, const char *reason)
{
    (void)c;
    atomic_fetch_add(&ended, 1);
    if (reason) {
        snprintf(last_reason, sizeof last_reason, "%s", reason);
    }
}

static void a_free(nl_ctx *c)
{
    atomic_fetch_add(&freed, 1);
    nl_free_aligned(c);
}

static const char *a_name(const nl_ctx *c)
{
    (void)c;
    return "actor";
}

static const nl_ctx_ops a_ops = {
    .start = a_start, .idle = a_idle, .fini = a_fini, .free = a_free, .name = a_name};

static actor *actor_new(void (*begin)(actor *), void (*on)(actor *, note *))
{
    actor *a = nl_calloc_aligned(sizeof *a);
    nl_ctx_init(&a->ctx, &a_ops);
    a->begin = begin;
    a->on = on;
    a->stay = true;
    return a;
}

static uint64_t actor_start(actor *a)
{
    cr_assert_eq(nl_ctx_start(&a->ctx), 0);
    return a->ctx.slot.id;
}

/* Runs everything that `boot` starts; the worker count and the chaos seed vary. */
static int run(int workers, uint64_t chaos, void (*boot)(void))
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

static void each_way(void (*boot)(void), void (*check)(void))
{
    for (unsigned i = 0; i < nl_countof(worker_counts); i++) {
        for (uint64_t seed = 0; seed < 4; seed++) {
            run(worker_counts[i], seed, boot);
            check();
        }
    }
}

/* ------------------------------------------------------------------ ping-pong, ring, fans */

enum { ROUNDS = 2000, RING = 300, FAN = 40, PER = 200 };

static void pong(actor *a, note *n)
{
    uint64_t to = n->from;
    int64_t v = n->value;
    nl_pool_free(n, sizeof *n);
    cr_assert_eq(a->count, v); /* order, nothing lost, nothing twice */
    a->count++;
    atomic_fetch_add(&total, 1);
    if (v + 1 < ROUNDS) {
        cr_assert_eq(tell(to, a->ctx.slot.id, a->peer ? v + 1 : v), 0);
    } else if (!a->peer) {
        tell(to, a->ctx.slot.id, v);
    }
    if (v + 1 == ROUNDS) {
        nl_ctx_end(&a->ctx, NULL);
    }
}

static void ping_begin(actor *a)
{
    tell(a->peer, a->ctx.slot.id, 0);
}

static void boot_pingpong(void)
{
    for (int i = 0; i < 5; i++) {
        uint64_t echo = actor_start(actor_new(NULL, pong));
        actor *caller = actor_new(ping_begin, pong);
        caller->peer = echo;
        actor_start(caller);
    }
}

static void check_pingpong(void)
{
    cr_assert_eq(atomic_load(&total), 5 * 2 * ROUNDS);
    cr_assert_eq(atomic_load(&freed), 10);
}

Test(sched, pingpong)
{
    each_way(boot_pingpong, check_pingpong);
}

static void ring_on(actor *a, note *n)
{
    int64_t v = n->value;
    nl_pool_free(n, sizeof *n);
    atomic_fetch_add(&total, 1);
    if (v > 0) {
        tell(a->peer, a->ctx.slot.id, v - 1);
    }
    if (v < RING) { /* the last round: everyone leaves once */
        nl_ctx_end(&a->ctx, NULL);
    }
}

static void boot_ring(void)
{
    actor *a[RING];
    for (int i = 0; i < RING; i++) {
        a[i] = actor_new(NULL, ring_on);
        actor_start(a[i]);
    }
    for (int i = 0; i < RING; i++) {
        a[i]->peer = a[(i + 1) % RING]->ctx.slot.id;
    }
    tell(a[0]->ctx.slot.id, 0, 3 * RING - 1);
}

static void check_ring(void)
{
    cr_assert_eq(atomic_load(&total), 3 * RING);
    cr_assert_eq(atomic_load(&ended), RING);
}

Test(sched, ring)
{
    each_way(boot_ring, check_ring);
}

static void fan_on(actor *a, note *n)
{
    cr_assert_lt(n->from, (uint64_t)FAN);
    nl_pool_free(n, sizeof *n);
    if (++a->count == a->want) {
        atomic_fetch_add(&total, a->count);
        nl_ctx_end(&a->ctx, NULL);
    }
}

static void fan_begin(actor *a)
{
    for (int i = 0; i < PER; i++) {
        cr_assert_eq(tell(a->peer, (uint64_t)a->hops, i), 0);
    }
    a->stay = false;
}

static void boot_fan_in(void)
{
    actor *sink = actor_new(NULL, fan_on);
    sink->want = FAN * PER;
    uint64_t h = actor_start(sink);
    for (int i = 0; i < FAN; i++) {
        actor *p = actor_new(fan_begin, NULL);
        p->peer = h;
        p->hops = i;
        actor_start(p);
    }
}

static void check_fan_in(void)
{
    cr_assert_eq(atomic_load(&total), FAN * PER);
    cr_assert_eq(atomic_load(&freed), FAN + 1);
}

Test(sched, fan_in)
{
    each_way(boot_fan_in, check_fan_in);
}

static void leaf_on(actor *a, note *n)
{
    uint64_t to = n->from;
    nl_pool_free(n, sizeof *n);
    tell(to, 0, 1);
    nl_ctx_end(&a->ctx, NULL);
}

static void hub_on(actor *a, note *n)
{
    nl_pool_free(n, sizeof *n);
    atomic_fetch_add(&total, 1);
    if (++a->count == 1000) {
        nl_ctx_end(&a->ctx, NULL);
    }
}

static void hub_begin(actor *a)
{
    for (int i = 0; i < 1000; i++) { /* more than a local queue has places */
        tell(actor_start(actor_new(NULL, leaf_on)), a->ctx.slot.id, i);
    }
}

static void boot_fan_out(void)
{
    actor_start(actor_new(hub_begin, hub_on));
}

static void check_fan_out(void)
{
    cr_assert_eq(atomic_load(&total), 1000);
    cr_assert_eq(atomic_load(&freed), 1001);
}

Test(sched, fan_out)
{
    each_way(boot_fan_out, check_fan_out);
}

/* ------------------------------------------------------------------ life */

static void boot_kill(void)
{
    actor *a = actor_new(NULL, fan_on);
    uint64_t h = actor_start(a);
    cr_assert_eq(nl_name_register("x", 1, h), 0);
    cr_assert_eq(nl_name_register("x", 1, h), 0);
    cr_assert_eq(nl_name_register("", 0, h), -EINVAL);
    cr_assert_eq(nl_name_lookup("x", 1), h);
    uint64_t other = actor_start(actor_new(NULL, fan_on));
    cr_assert_eq(nl_name_register("x", 1, other), -NL_ENAMETAKEN);
    cr_assert_eq(nl_ctx_kill(h, "because"), 0);
    cr_assert_eq(nl_ctx_kill(h, "again"), 0);
    tell(h, 0, 1); /* behind the kill: dropped */
    nl_ctx_kill(other, NULL);
}

Test(sched, kill_names_obituary)
{
    for (int w = 1; w <= 2; w++) {
        nl_sched_config cfg = {.workers = w};
        cr_assert_eq(nl_sched_init(&cfg), 0);
        atomic_store(&dropped, 0);
        boot_kill();
        cr_assert_eq(nl_sched_run(), 0);
        char why[32];
        cr_assert(nl_ctx_obituary(1, why, sizeof why));
        cr_assert_str_eq(why, "because");
        cr_assert(nl_ctx_obituary(2, why, sizeof why));
        cr_assert_str_eq(why, "exit");
        cr_assert_not(nl_ctx_obituary(3, why, sizeof why));
        cr_assert_eq(nl_name_lookup("x", 1), 0);
        cr_assert_eq(nl_ctx_find(1), NULL);
        cr_assert_eq(tell(1, 0, 0), -NL_ENOCONTEXT);
        nl_sched_fini();
        cr_assert_eq(atomic_load(&dropped), 1);
    }
}

static void exit_begin(actor *a)
{
    (void)a;
    nl_sched_exit(7);
    nl_sched_exit(8); /* the first one counts */
    actor *late = actor_new(NULL, NULL);
    cr_assert_eq(nl_ctx_start(&late->ctx), -NL_ESTOPPING);
    nl_free_aligned(late);
}

static void boot_exit(void)
{
    for (int i = 0; i < 100; i++) {
        actor_start(actor_new(i == 50 ? exit_begin : NULL, fan_on)); /* all would stay for ever */
    }
}

Test(sched, exit_ends_everything)
{
    for (unsigned i = 0; i < nl_countof(worker_counts); i++) {
        cr_assert_eq(run(worker_counts[i], 0, boot_exit), 7);
        cr_assert_eq(atomic_load(&freed), 100);
    }
}

Test(sched, mailbox_limit)
{
    nl_sched_config cfg = {.workers = 1};
    cr_assert_eq(nl_sched_init(&cfg), 0);
    nl_ctx_set_mailbox_max(3);
    actor *a = actor_new(NULL, fan_on);
    a->want = 3;
    uint64_t h = actor_start(a);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(tell(h, 0, i), 0);
    }
    cr_assert_eq(tell(h, 0, 3), -NL_EMAILBOXFULL);
    cr_assert_eq(nl_ctx_mailbox_len(&a->ctx), 3);
    cr_assert_eq(nl_sched_run(), 0);
    nl_sched_fini();
}

/* ------------------------------------------------------------------ timers, deferred messages */

static void on_timer(nl_ctx *c, nl_timer *t)
{
    actor *a = (actor *)c;
    int i = (int)(t - a->timer);
    cr_assert_geq(nl_now_ns(), a->due[i]); /* never early */
    a->order[a->fired++] = i;
    if (a->fired == 3) {
        atomic_fetch_add(&total, 1);
        nl_ctx_end(c, NULL);
    }
}

static void timers_begin(actor *a)
{
    static const int ms[4] = {30, 10, 10, 20};
    int64_t now = nl_now_ns();
    a->ctx.on_timer = on_timer;
    for (int i = 0; i < 4; i++) {
        nl_timer_init(&a->timer[i]);
        a->due[i] = now + ms[i] * 1000000;
        nl_ctx_timer_add(&a->ctx, &a->timer[i], a->due[i]);
    }
    cr_assert(nl_ctx_timer_remove(&a->ctx, &a->timer[3]));
    cr_assert_not(nl_ctx_timer_remove(&a->ctx, &a->timer[3]));
}

static actor *timers_last;

static void timers_fini_check(nl_ctx *c, const char *reason)
{
    (void)reason;
    actor *a = (actor *)c;
    cr_assert_eq(a->fired, 3);
    cr_assert_eq(a->order[0], 1);
    cr_assert_eq(a->order[1], 2);
    cr_assert_eq(a->order[2], 0);
}

static void boot_timers(void)
{
    static nl_ctx_ops ops;
    ops = a_ops;
    ops.fini = timers_fini_check;
    for (int i = 0; i < 50; i++) {
        timers_last = actor_new(timers_begin, NULL);
        timers_last->ctx.ops = &ops;
        actor_start(timers_last);
    }
}

static void check_timers(void)
{
    cr_assert_eq(atomic_load(&total), 50);
}

Test(sched, timers)
{
    each_way(boot_timers, check_timers);
}

static void defer_on(actor *a, note *n)
{
    if (n->value < 3) { /* from the mailbox: 0; deferred: 1, 2, 3 in order before mailbox message 10 */
        cr_assert_eq(a->count, n->value);
        a->count++;
        n->value++;
        nl_ctx_defer(&a->ctx, &n->msg);
        return;
    }
    if (n->value == 10) {
        cr_assert_eq(a->count, 4);
        nl_ctx_end(&a->ctx, NULL);
        atomic_fetch_add(&total, 1);
    } else {
        cr_assert_eq(a->count++, 3);
    }
    nl_pool_free(n, sizeof *n);
}

static void boot_defer(void)
{
    uint64_t h = actor_start(actor_new(NULL, defer_on));
    tell(h, 0, 0);
    tell(h, 0, 10);
}

static void check_one(void)
{
    cr_assert_eq(atomic_load(&total), 1);
}

Test(sched, defer)
{
    each_way(boot_defer, check_one);
}

/* ------------------------------------------------------------------ giving way */

enum { AHEAD = 100, DEFERRED, SENT, WAYS = 5 };

/* Whatever it is told at first, it gives way WAYS times; only then comes what waited meanwhile. */
static void giving_on(actor *a, note *n)
{
    switch (n->value) {
    case AHEAD:
        cr_assert_eq(atomic_load(&total), 0, "nothing in between");
        if (++a->count < WAYS) {
            nl_ctx_give_way(&a->ctx, &n->msg);
            return;
        }
        break;
    case DEFERRED:
    case SENT:
        cr_assert_eq(a->count, WAYS);
        if (atomic_fetch_add(&total, 1) == 1) {
            nl_ctx_end(&a->ctx, NULL);
        }
        break;
    default: {
        note *later = nl_pool_alloc(sizeof *later);
        *later = (note){.msg = {.ops = &note_ops}, .value = DEFERRED};
        nl_ctx_defer(&a->ctx, &later->msg);
        tell(a->ctx.slot.id, 0, SENT);
        n->value = AHEAD;
        nl_ctx_give_way(&a->ctx, &n->msg);
        return;
    }
    }
    nl_pool_free(n, sizeof *n);
}

static void boot_giving(void)
{
    tell(actor_start(actor_new(NULL, giving_on)), 0, 0);
}

static void check_giving(void)
{
    cr_assert_eq(atomic_load(&total), 2);
    cr_assert_eq(atomic_load(&dropped), 0);
}

Test(sched, give_way)
{
    each_way(boot_giving, check_giving);
}

/* One that gives way for ever lets others run, and can be killed. */
static void always_on(actor *a, note *n)
{
    nl_ctx_give_way(&a->ctx, &n->msg);
}

static void killer_on(actor *a, note *n)
{
    cr_assert_eq(nl_ctx_kill((uint64_t)n->value, NULL), 0);
    nl_pool_free(n, sizeof *n);
    nl_ctx_end(&a->ctx, NULL);
}

static void boot_always(void)
{
    uint64_t always = actor_start(actor_new(NULL, always_on));
    tell(always, 0, 0);
    tell(actor_start(actor_new(NULL, killer_on)), 0, (int64_t)always);
}

static void check_always(void)
{
    cr_assert_eq(atomic_load(&freed), 2);
    cr_assert_eq(atomic_load(&dropped), 1, "what it would have gone on with");
}

Test(sched, gives_way_for_ever)
{
    each_way(boot_always, check_always);
}

/* ------------------------------------------------------------------ fairness and rescue */

static atomic_bool neighbour_ran;

static void neighbour_on(actor *a, note *n)
{
    nl_pool_free(n, sizeof *n);
    atomic_store(&neighbour_ran, true);
    atomic_fetch_add(&total, 1);
    nl_ctx_end(&a->ctx, NULL);
}

static void hog_begin(actor *a)
{
    uint64_t h = actor_start(actor_new(NULL, neighbour_on)); /* stands in this worker's next slot */
    tell(h, 0, 0);
    while (!atomic_load(&neighbour_ran)) { /* never gives way until somebody else has run the neighbour */
    }
    a->stay = false;
}

static void boot_hog(void)
{
    atomic_store(&neighbour_ran, false);
    actor_start(actor_new(hog_begin, NULL));
}

Test(sched, stuck_worker_is_rescued, .timeout = 60)
{
    run(2, 0, boot_hog);
    check_one();
    run(8, 0, boot_hog);
    check_one();
}

/* Lookups race with ends: memory found must stay good until the end of the dispatch. */
static void churn_leaf(actor *a, note *n)
{
    nl_pool_free(n, sizeof *n);
    tell(a->peer, 0, 1);
    nl_ctx_end(&a->ctx, NULL);
}

static void churn_begin(actor *a)
{
    for (int i = 0; i < 20; i++) {
        actor *c = actor_new(NULL, churn_leaf);
        c->peer = a->ctx.slot.id;
        uint64_t h = actor_start(c);
        tell(h, a->ctx.slot.id, i);
        tell(h, a->ctx.slot.id, i); /* often after its end, or dropped */
        tell(h - 1, a->ctx.slot.id, i);
    }
}

static void churn_on(actor *a, note *n)
{
    nl_pool_free(n, sizeof *n);
    if (++a->count == 20) {
        nl_ctx_end(&a->ctx, NULL);
    }
}

static void boot_churn(void)
{
    for (int i = 0; i < 100; i++) {
        actor_start(actor_new(churn_begin, churn_on));
    }
}

static void check_churn(void)
{
    cr_assert_eq(atomic_load(&freed), atomic_load(&ended));
    cr_assert_eq(atomic_load(&freed), 2100);
}

Test(sched, churn)
{
    each_way(boot_churn, check_churn);
}

/* ------------------------------------------------------------------ homes */

enum { HOMES = 128 };
static uint64_t home_ids[HOMES];
static int homes[64], homes_chosen, home_workers;

/* Each chooses and then starts the next one, so that no two choose at once. */
static void homes_begin(actor *a)
{
    int home = nl_ctx_home(&a->ctx);
    cr_assert_eq(nl_ctx_home(&a->ctx), home);
    cr_assert(home >= 0 && home < home_workers);
    homes[home]++;
    home_ids[homes_chosen++] = a->ctx.slot.id;
    if (homes_chosen < HOMES) {
        actor_start(actor_new(homes_begin, churn_on));
        return;
    }
    for (int i = 0; i < HOMES; i++) {
        nl_ctx_kill(home_ids[i], NULL);
    }
}

static void boot_homes(void)
{
    memset(homes, 0, sizeof homes);
    homes_chosen = 0;
    actor_start(actor_new(homes_begin, churn_on));
}

Test(sched, homes_are_spread_evenly)
{
    for (unsigned i = 0; i < nl_countof(worker_counts); i++) {
        home_workers = worker_counts[i];
        run(home_workers, 1, boot_homes);
        for (int k = 0; k < home_workers; k++) {
            cr_assert_eq(homes[k], HOMES / home_workers, "worker %d is home to %d", k, homes[k]);
        }
        cr_assert_eq(atomic_load(&freed), HOMES);
    }
}

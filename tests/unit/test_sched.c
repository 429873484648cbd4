/* test_sched.c - contexts in C on the real scheduler: messages, timers, giving way, under chaos too. */
#include "sched_kit.h"

/* --- ping-pong, ring, fans -------------------------------------------------------------------- */

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

/* --- timers, deferred messages ---------------------------------------------------------------- */

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
    for (int i = 0; i < 4; i++) {
        nl_timer_init(&a->timer[i]);
        a->due[i] = now + ms[i] * 1000000;
        nl_ctx_timer_add(&a->ctx, &a->timer[i], a->due[i]);
    }
    cr_assert(nl_ctx_timer_remove(&a->ctx, &a->timer[3]));
    cr_assert_not(nl_ctx_timer_remove(&a->ctx, &a->timer[3]));
}

static actor *timers_last;

static void timers_fini_check(nl_ctx *c, const nl_reason *reason)
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
    ops.timer = on_timer;
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

Test(sched, defer)
{
    each_way(boot_defer, check_one);
}

/* --- giving way ------------------------------------------------------------------------------- */

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

/*
 * The resolver's threads: answers, names that are not there, many at once, requests that are one or that nobody waits
 * for, an end in between.
 */
#include "net/resolver.h"
#include "tcp_kit.h"

#include <stdio.h>

/* --- Requests --------------------------------------------------------------------------------- */

static atomic_int answered, dropped, lookups, inside, most_inside;
static atomic_bool gate; /* open: look-ups of names that begin with "gate" go on */

static void answer_run(nl_ctx *c, nl_msg *m)
{
    nl_resolve *r = nl_container_of(m, nl_resolve, msg);
    actor *a = (actor *)c;
    atomic_fetch_add(&answered, 1);
    if (strcmp(r->host, "nowhere.test") == 0) {
        cr_assert_eq(r->count, -NL_EHOST);
    } else {
        char text[128];
        cr_assert_eq(r->count, 2);
        nl_addr_text(&r->addr[0], text, sizeof(text));
        cr_assert_str_eq(text, r->family == 4 ? "192.0.2.1" : "2001:db8::1");
        cr_assert_eq(nl_addr_port(&r->addr[1]), r->port);
    }
    cr_assert(!nl_resolver_cancel(r), "it has come");
    nl_free(r);
    a->over = --a->n == 0;
}

static void answer_drop(nl_msg *m)
{
    atomic_fetch_add(&dropped, 1);
    nl_free(nl_container_of(m, nl_resolve, msg));
}

static const nl_msg_ops answer_ops = {answer_run, answer_drop};

static nl_resolve *ask(actor *a, int family, const char *host, int port)
{
    nl_resolve *r = nl_calloc(sizeof(*r));
    r->msg.ops = &answer_ops;
    r->ctx = a->ctx.slot.id;
    r->family = family;
    r->port = port;
    memcpy(r->host, host, strlen(host) + 1);
    a->n++;
    nl_resolver_submit(r);
    return r;
}

/* Nobody waits for it any more. */
static void abandon(actor *a, nl_resolve *r)
{
    cr_assert(nl_resolver_cancel(r));
    a->n--;
    nl_free(r);
}

static int lookup(nl_addr *out, int max, int family, const char *host, int port)
{
    int now = atomic_fetch_add(&inside, 1) + 1, most = atomic_load(&most_inside);
    while (now > most && !atomic_compare_exchange_weak(&most_inside, &most, now)) {
    }
    atomic_fetch_add(&lookups, 1);
    while (strncmp(host, "gate", 4) == 0 && !atomic_load(&gate)) {
        nap(MS);
    }
    nap(strcmp(host, "slow.test") == 0 ? 700 * MS : MS);
    atomic_fetch_sub(&inside, 1);
    cr_assert_geq(max, 2);
    if (strcmp(host, "nowhere.test") == 0) {
        return -NL_EHOST;
    }
    nl_addr_ip(&out[0], family, family == 4 ? "192.0.2.1" : "2001:db8::1", port);
    nl_addr_ip(&out[1], family, family == 4 ? "192.0.2.2" : "2001:db8::2", port);
    return 2;
}

static int64_t resolve(int workers, void (*make)(void *arg))
{
    nl_resolver_lookup = lookup;
    int64_t t0 = nl_now_ns();
    nl_sched_config cfg = {.workers = workers, .pin = NL_PIN_OFF};
    cr_assert_eq(nl_sched_init(&cfg), 0);
    cr_assert_eq(nl_tcp_init(), 0);
    make(NULL);
    nl_sched_run();
    nl_resolver_fini();
    int64_t took = nl_now_ns() - t0;
    nl_tcp_fini();
    nl_sched_fini();
    cr_assert_eq(atomic_load(&actors_alive), 0);
    return took;
}

/* --- Tests ------------------------------------------------------------------------------------ */

static void each_begin(actor *a)
{
    ask(a, 4, "four.test", 80);
    ask(a, 6, "six.test", 443);
    ask(a, 4, "nowhere.test", 1);
}

static const plan each_plan = {.begin = each_begin};

static void each_make(void *arg)
{
    actor_new(&each_plan, arg);
}

Test(resolver, answers)
{
    resolve(1, each_make);
    cr_assert_eq(answered, 3);
    cr_assert_eq(dropped, 0);
    nl_resolver_fini(); /* harmless */
    resolve(2, each_make);
    cr_assert_eq(answered, 6, "and once more after its end");
}

static atomic_int name_number;

static nl_resolve *ask_new(actor *a, const char *pattern)
{
    char host[64];
    snprintf(host, sizeof(host), pattern, atomic_fetch_add(&name_number, 1));
    return ask(a, 4, host, 80);
}

static void many_begin(actor *a)
{
    for (int i = 0; i < 50; i++) {
        ask_new(a, i % 7 ? "gate-%d.test" : "many-%d.test");
    }
    while (atomic_load(&inside) < NL_RESOLVER_THREADS && !atomic_load(&gate)) {
        nap(MS);
    }
    atomic_store(&gate, true);
}

static const plan many_plan = {.begin = many_begin};

static void many_make(void *arg)
{
    for (int i = 0; i < 8; i++) {
        actor_new(&many_plan, arg);
    }
}

Test(resolver, many_at_once)
{
    resolve(3, many_make);
    cr_assert_eq(answered, 400);
    cr_assert_eq(lookups, 400);
    cr_assert_eq(most_inside, NL_RESOLVER_THREADS);
}

static void leave_begin(actor *a)
{
    for (int i = 0; i < 50; i++) {
        ask_new(a, "left-%d.test");
    }
    a->over = true; /* the answers come to nobody */
}

static const plan leave_plan = {.begin = leave_begin};

static void leave_make(void *arg)
{
    for (int i = 0; i < 4; i++) {
        actor_new(&leave_plan, arg);
    }
}

Test(resolver, nobody_waits)
{
    int64_t took = resolve(2, leave_make);
    cr_assert_eq(answered + dropped, 200);
    cr_assert_gt(dropped, 0);
    cr_assert_lt(took, 1000 * MS, "what is queued at the end is not looked up");
}

/* Requests for one name and family are one look-up, whatever their port and letters. */
static void same_begin(actor *a)
{
    for (int i = 0; i < 30; i++) {
        ask(a, i % 3 ? 4 : 6, i % 2 ? "gate.test" : "GATE.Test", i);
    }
    abandon(a, ask(a, 4, "gate.test", 80));
    atomic_store(&gate, true);
}

static const plan same_plan = {.begin = same_begin};

static void same_make(void *arg)
{
    actor_new(&same_plan, arg);
}

Test(resolver, the_same_name_is_asked_for_once)
{
    resolve(2, same_make);
    cr_assert_eq(answered, 30);
    cr_assert_eq(lookups, 2);
}

/* What nobody waits for any more does not hold up what comes later. */
static void abandon_begin(actor *a)
{
    nl_resolve *r[NL_RESOLVER_THREADS];
    for (int i = 0; i < NL_RESOLVER_THREADS; i++) {
        r[i] = ask_new(a, "gate-%d.test");
    }
    while (atomic_load(&inside) < NL_RESOLVER_THREADS) {
        nap(MS);
    }
    for (int i = 0; i < 100; i++) {
        abandon(a, ask_new(a, "many-%d.test"));
    }
    ask(a, 4, "wanted.test", 80);
    for (int i = 1; i < NL_RESOLVER_THREADS; i++) {
        abandon(a, r[i]); /* under way */
    }
    r[1] = ask(a, 4, r[0]->host, 80);
    abandon(a, r[0]);
    atomic_store(&gate, true);
}

static const plan abandon_plan = {.begin = abandon_begin};

static void abandon_make(void *arg)
{
    actor_new(&abandon_plan, arg);
}

Test(resolver, abandoned_requests_are_not_looked_up)
{
    resolve(2, abandon_make);
    cr_assert_eq(answered, 2);
    cr_assert_eq(dropped, 0);
    cr_assert_eq(lookups, NL_RESOLVER_THREADS + 1);
}

/* A look-up that hangs does not hold the process up, and what comes of it is nobody's. */
static void slow_begin(actor *a)
{
    ask(a, 4, "slow.test", 80);
    a->over = true;
}

static const plan slow_plan = {.begin = slow_begin};

static void slow_make(void *arg)
{
    actor_new(&slow_plan, arg);
}

Test(resolver, a_thread_that_hangs_is_left_behind)
{
    int64_t took = resolve(1, slow_make);
    cr_assert_lt(took, 600 * MS);
    cr_assert_eq(dropped, 1);
    nap(900 * MS);
    cr_assert_eq(inside, 0, "it has come back and touched nothing");
    cr_assert_eq(answered + dropped, 1);
    nl_resolver_fini(); /* clears away what was left */
}

/* The system's own: this much works without a network. */
static void system_begin(actor *a)
{
    static const struct {
        const char *host;
        int family;
    } names[] = {{"127.0.0.1", 4}, {"localhost", 4}, {"::1", 6}};
    nl_addr out[NL_RESOLVER_ADDRS];
    (void)a;
    for (size_t i = 0; i < nl_countof(names); i++) {
        int n = nl_addr_resolve(out, NL_RESOLVER_ADDRS, names[i].family, names[i].host, 99);
        cr_assert_gt(n, 0, "%s: %d", names[i].host, n);
        cr_assert_eq(nl_addr_family(&out[0]), names[i].family);
        cr_assert_eq(nl_addr_port(&out[0]), 99);
    }
    a->over = true;
}

static const plan system_plan = {.begin = system_begin};

static void system_make(void *arg)
{
    actor_new(&system_plan, arg);
}

Test(resolver, the_systems_own)
{
    resolve(1, system_make);
}

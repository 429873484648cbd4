/* test_sched_life.c - contexts in C on the real scheduler: their life, names, rescue, homes, under chaos too. */
#include "sched/sched_impl.h"
#include "sched/shutdown.h"
#include "sched_kit.h"

#include <time.h>
#ifndef _WIN32
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

/* --- life ------------------------------------------------------------------------------------- */

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
    cr_assert_eq(nl_ctx_kill(h, nl_reason_of("because")), 0);
    cr_assert_eq(nl_ctx_kill(h, nl_reason_of("again")), 0);
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
        nl_reason *why = nl_obituary_copy(1);
        cr_assert_eq(why->len, 7);
        cr_assert_arr_eq(why->text, "because", 7);
        nl_free(why);
        cr_assert_eq(nl_obituary_copy(2), NULL);
        cr_assert_eq(nl_obituary_copy(3), NULL);
        cr_assert_eq(nl_name_lookup("x", 1), 0);
        cr_assert_eq(nl_ctx_find(1), NULL);
        cr_assert_eq(tell(1, 0, 0), -NL_ENOCONTEXT);
        nl_sched_fini();
        cr_assert_eq(atomic_load(&dropped), 1);
    }
}

static void remember(uint64_t handle, size_t len)
{
    static char text[NL_REASON_MAX + 1];
    memset(text, 'a' + (int)(handle % 26), sizeof text);
    nl_reason *r = nl_reason_new(text, len);
    nl_obituary_store(handle, r);
    nl_free(r);
}

Test(sched, obituaries_are_bounded)
{
    nl_sched_config cfg = {.workers = 1};
    cr_assert_eq(nl_sched_init(&cfg), 0);
    const uint64_t n = NL_OBITUARIES_MAX, generation = (uint64_t)1 << NL_SLOT_INDEX_BITS;
    for (uint64_t i = 1; i <= n + 10; i++) {
        remember(i * generation + 7, i % 500 + 1); /* one index, used again */
    }
    cr_assert_eq(nl_obituary_copy(10 * generation + 7), NULL);
    for (uint64_t i = 11; i <= n + 10; i++) {
        nl_reason *r = nl_obituary_copy(i * generation + 7);
        cr_assert_eq(r->len, i % 500 + 1);
        cr_assert_eq(r->text[i % 500], 'a' + (char)((i * generation + 7) % 26));
        nl_free(r);
    }
    for (uint64_t i = 1; i <= 100; i++) {
        remember(i, NL_REASON_MAX + 1);
    }
    cr_assert_eq(nl_obituary_copy(100 - NL_OBITUARIES_BYTES / NL_REASON_MAX), NULL);
    nl_reason *r = nl_obituary_copy(101 - NL_OBITUARIES_BYTES / NL_REASON_MAX);
    cr_assert_eq(r->len, NL_REASON_MAX);
    nl_free(r);
    nl_sched_fini();
}

static void exit_begin(actor *a)
{
    (void)a;
    nl_shutdown_request(7);
    nl_shutdown_request(8); /* the first one counts */
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

/* --- fairness and rescue ---------------------------------------------------------------------- */

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

/* --- wake-ups --------------------------------------------------------------------------------- */

enum { TICKS = 50 };
static int64_t ticks_from;

static void tick_again(actor *a)
{
    nl_ctx_timer_add(&a->ctx, &a->timer[0], ticks_from + (a->count + 1) * 1000000);
}

static void tick(nl_ctx *c, nl_timer *t)
{
    (void)t;
    actor *a = (actor *)c;
    if (++a->count == TICKS) {
        nl_ctx_end(c, NULL);
    } else {
        tick_again(a);
    }
}

static void ticker_begin(actor *a)
{
    nl_timer_init(&a->timer[0]);
    tick_again(a);
}

static void boot_tickers(void)
{
    static nl_ctx_ops ops;
    ops = a_ops;
    ops.timer = tick;
    ticks_from = nl_now_ns();
    for (int i = 0; i < 3; i++) {
        actor *a = actor_new(ticker_begin, NULL);
        a->ctx.ops = &ops;
        actor_start(a);
    }
}

/* The first due context is no reason to wake another worker, and the next one no reason to wake the own one. */
Test(sched, a_worker_does_not_wake_itself)
{
    nl_sched_config cfg = {.workers = 1};
    cr_assert_eq(nl_sched_init(&cfg), 0);
    boot_tickers();
    uint64_t before = nl_sched_wakes();
    cr_assert_eq(nl_sched_run(), 0);
    cr_assert_lt(nl_sched_wakes() - before, TICKS / 2); /* the monitor may have sent some */
    nl_sched_fini();
}

/* --- sleepers --------------------------------------------------------------------------------- */

/*
 * More contexts than workers sleep in C until the others have exchanged their notes and had their
 * timers; twice, with a pause in between in which spare workers are sent off duty.
 */
enum { EXCHANGES = 20, PHASES = 2, PAUSE_MS = 250 };
static int sleeper_count;
static atomic_int phase; /* of exchanges: how many are over */

static void nap(void)
{
    struct timespec ms = {.tv_nsec = 1000000};
    nanosleep(&ms, NULL);
}

static void sleeper_begin(actor *a)
{
    int mine = atomic_load(&phase);
    nl_ctx_home(&a->ctx); /* a stuck worker that is a home is attended */
    while (atomic_load(&phase) == mine) {
        nap();
    }
    a->stay = false;
}

static void start_sleepers(void)
{
    for (int i = 0; i < sleeper_count; i++) {
        actor_start(actor_new(sleeper_begin, NULL));
    }
}

static void answer_on(actor *a, note *n)
{
    uint64_t to = n->from;
    bool last = n->value < 0;
    nl_pool_free(n, sizeof *n);
    if (last) {
        nl_ctx_end(&a->ctx, NULL);
    } else {
        cr_assert_eq(tell(to, 0, 0), 0);
    }
}

/* Asks when a timer fires, sets the timer again when the answer is there. */
static void ask(nl_ctx *c, nl_timer *t)
{
    (void)t;
    actor *a = (actor *)c;
    if (a->hops) { /* the pause is over */
        a->hops = 0;
        start_sleepers();
    }
    tell(a->peer, c->slot.id, 0);
}

static void asker_on(actor *a, note *n)
{
    nl_pool_free(n, sizeof *n);
    int64_t wait = 1;
    if (++a->count % EXCHANGES == 0) {
        if (atomic_fetch_add(&phase, 1) + 1 == PHASES) {
            tell(a->peer, 0, -1);
            nl_ctx_end(&a->ctx, NULL);
            return;
        }
        a->hops = 1;
        wait = PAUSE_MS;
    }
    nl_ctx_timer_add(&a->ctx, &a->timer[0], nl_now_ns() + wait * 1000000);
}

static void asker_begin(actor *a)
{
    nl_timer_init(&a->timer[0]);
    a->hops = 1;
    nl_ctx_timer_add(&a->ctx, &a->timer[0], nl_now_ns());
}

static void boot_sleepers(void)
{
    static nl_ctx_ops ops;
    ops = a_ops;
    ops.timer = ask;
    atomic_store(&phase, 0);
    actor *a = actor_new(asker_begin, asker_on);
    a->ctx.ops = &ops;
    a->peer = actor_start(actor_new(NULL, answer_on));
    actor_start(a);
}

Test(sched, spare_workers_step_in_for_those_that_sleep, .timeout = 120)
{
    for (unsigned i = 0; i < nl_countof(worker_counts); i++) {
        for (uint64_t seed = 0; seed < 2; seed++) {
            sleeper_count = worker_counts[i] + 3;
            run(worker_counts[i], seed, boot_sleepers);
            cr_assert_eq(atomic_load(&phase), PHASES);
            cr_assert_eq(atomic_load(&freed), PHASES * sleeper_count + 2);
        }
    }
}

/* --- the last context ends on a spare worker -------------------------------------------------- */

static atomic_bool spare_has_it;

/*
 * Ends when its worker has been sent off duty, and worker 0 sleeps for ever: the monitor, which
 * wakes it again and again, begins anew and finds nothing to do.
 */
static void last_begin(actor *a)
{
    nl_worker *mine = nl_self, *other = nl_the_sched.worker[0];
    cr_assert_neq(mine, other);
    atomic_store(&spare_has_it, true);
    while (!atomic_load(&mine->off_duty)) {
        nap();
    }
    nl_monitor_stop();
    while (atomic_load(&freed) == 0 || !nl_idle_is_parked(&nl_the_sched.idle, 0) ||
           !nl_qsbr_is_offline(other->qsbr) || (other->watch >= 0 && !nl_thread_sleeps(other->watch))) {
        nl_ctx_checkpoint();
        nap();
    }
    nl_monitor_start();
    nl_ctx_end(&a->ctx, NULL); /* in this dispatch */
}

static void last_but_one_begin(actor *a)
{
    actor_start(actor_new(last_begin, NULL));
    while (!atomic_load(&spare_has_it)) {
        nap();
    }
    a->stay = false;
}

static void boot_last(void)
{
    atomic_store(&spare_has_it, false);
    actor_start(actor_new(last_but_one_begin, NULL));
}

Test(sched, a_spare_worker_off_duty_ends_the_process, .timeout = 60)
{
    for (int i = 0; i < 3; i++) {
        run(1, 0, boot_last);
        cr_assert_eq(atomic_load(&freed), 2);
    }
}

/* --- memory in limbo -------------------------------------------------------------------------- */

static bool hog_sleeps;

/* In a dispatch that does not end before another context's memory is freed. */
static void limbo_begin(actor *a)
{
    actor *other = actor_new(NULL, NULL);
    other->stay = false;
    actor_start(other);
    while (atomic_load(&freed) == 0) {
        if (hog_sleeps) {
            nl_sched_blocking_begin();
            nl_thread_yield();
            nl_sched_blocking_end();
        } else {
            nl_ctx_checkpoint();
            nl_thread_yield();
        }
    }
    a->stay = false;
}

static void boot_limbo(void)
{
    actor_start(actor_new(limbo_begin, NULL));
}

Test(sched, memory_does_not_wait_for_a_long_dispatch, .timeout = 60)
{
    for (int sleeps = 0; sleeps < 2; sleeps++) {
        hog_sleeps = sleeps;
        run(2, 0, boot_limbo);
        run(8, 1, boot_limbo);
        cr_assert_eq(atomic_load(&freed), 2);
    }
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

/* --- homes ------------------------------------------------------------------------------------ */

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

/* --- the end without those that were given up ------------------------------------------------- */

#ifndef _WIN32

static int given_up_at;

static void note_given_up(nl_ctx *c, const nl_reason *reason)
{
    (void)c;
    (void)reason;
    int64_t now = nl_now_ns();
    cr_assert_eq(write(given_up_at, &now, sizeof now), sizeof now);
}

static void unending_begin(actor *a)
{
    nl_ctx_kill(a->ctx.slot.id, NULL);
    for (;;) {
        nap();
    }
}

static int only_unending(void *arg)
{
    (void)arg;
    static nl_ctx_ops ops;
    ops = a_ops;
    ops.given_up = note_given_up;
    nl_sched_config cfg = {.workers = 2};
    cr_assert_eq(nl_sched_init(&cfg), 0);
    actor *a = actor_new(unending_begin, NULL);
    a->ctx.ops = &ops;
    actor_start(a);
    nl_sched_run();
    return 1; /* it cannot come to this */
}

/* Has something to write, and nobody reads. */
static _Noreturn void unending_process(void)
{
    int p[2];
    char junk[4096] = {0};
    cr_assert_eq(pipe(p), 0);
    cr_assert_eq(fcntl(p[1], F_SETFL, O_NONBLOCK), 0);
    while (write(p[1], junk, sizeof junk) > 0) {
    }
    cr_assert_eq(fcntl(p[1], F_SETFL, 0), 0);
    cr_assert_eq(dup2(p[1], STDOUT_FILENO), STDOUT_FILENO);
    setvbuf(stdout, NULL, _IOFBF, BUFSIZ);
    fputs("last words", stdout);
    nl_shutdown_guard(only_unending, NULL);
}

Test(sched, output_has_more_time_where_nobody_has_asked, .timeout = 60)
{
    int p[2], status;
    cr_assert_eq(pipe(p), 0);
    given_up_at = p[1];
    fflush(NULL); /* not twice, by the child too */
    pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        unending_process();
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    int64_t now = nl_now_ns(), then;
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    cr_assert_eq(read(p[0], &then, sizeof then), sizeof then);
    cr_assert_geq(now - then, NL_SHUTDOWN_GRACE_NS + NL_SHUTDOWN_UNASKED_FLUSH_NS);
    close(p[0]);
    close(p[1]);
}

#endif

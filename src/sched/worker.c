/*
 * worker.c - a worker's loop: pick a context, dispatch it, look at the reactor now and then,
 * search, park.
 */
#include "sched/sched_impl.h"

#include "base/err.h"
#include "base/log.h"
#include "base/trim.h"
#include "sched/shutdown.h"

/* --- reactor and timers ----------------------------------------------------------------------- */

/*
 * A descriptor of its own is broken: scripts can do that.  Sockets of this worker would be deaf for
 * ever.
 */
static int reactor_failed(nl_worker *from, int err)
{
    nl_sched *s = &nl_the_sched;
    if (!atomic_exchange(&s->broken, true)) {
        /* The log may find no reader.  It comes first: the end does not wait for this worker. */
        nl_log_async(NULL, "the reactor of worker %d fails: %s; the process ends", from->index,
                     nl_err_text(err));
        nl_shutdown_request(1);
    }
    nl_thread_yield(); /* until it has ended this worker cannot sleep */
    return 0;
}

/*
 * A spare worker may sleep under the lock (spare.c): each ring makes it leave.  A ring too many
 * only cuts our own sleep short.
 */
static void lock_own_reactor(nl_worker *w)
{
    if (nl_unlikely(atomic_load_explicit(&w->stuck, memory_order_relaxed))) {
        atomic_store(&w->stuck, false); /* so that it does not come back */
    }
    while (!nl_spin_trylock(&w->poll_lock)) {
        nl_reactor_wake(w->reactor);
        nl_thread_yield();
    }
}

/* Under from's poll lock: may w sleep in that reactor? */
static bool may_sleep(nl_worker *w, nl_worker *from)
{
    nl_sched *s = &nl_the_sched;
    if (atomic_load(&s->stop)) {
        return false;
    }
    /*
     * Until now another worker may have polled this reactor and answered a wake that was meant for
     * its owner.  What the waker did before is seen once the lock is held: it has claimed the
     * owner's bit, put this spare on duty, or set stop.
     */
    return from != w ? atomic_load(&from->stuck)
                     : nl_idle_is_parked(&s->idle, w->index) || atomic_load(&w->off_duty);
}

/*
 * The first half of a look at a reactor: fills w->events, returns how many.  timeout_ns 0: only
 * looks.  If another worker is at it, it is left to that one, unless w wants to sleep in its own.
 */
static int poll_reactor(nl_worker *w, nl_worker *from, int64_t timeout_ns)
{
    if (timeout_ns && from == w) {
        lock_own_reactor(w);
    } else if (!nl_spin_trylock(&from->poll_lock)) {
        return 0;
    }
    if (timeout_ns && !may_sleep(w, from)) {
        timeout_ns = 0;
    }
    if (timeout_ns) {
        nl_qsbr_offline(w->qsbr);
    }
    int n = nl_reactor_poll(from->reactor, w->events, NL_POLL_EVENTS, timeout_ns);
    if (timeout_ns) {
        nl_qsbr_online(w->qsbr);
    }
    nl_spin_unlock(&from->poll_lock);
    return nl_likely(n >= 0) ? n : reactor_failed(from, n);
}

static void fire_timers(nl_worker *from)
{
    int64_t now = nl_now_ns();
    for (;;) {
        nl_spin_lock(&from->timer_lock);
        nl_timer *t = nl_timers_pop_due(&from->ctx_timers, now);
        nl_timer *layer = nl_timers_pop_due(&from->layer_timers, now);
        if (layer) {
            atomic_store_explicit(&nl_container_of(layer, nl_wtimer, t)->worker, -1, memory_order_relaxed);
        }
        nl_spin_unlock(&from->timer_lock);
        if (t) {
            /* It stood in the heap, so it was alive; its memory outlasts this delivery (qsbr.h). */
            nl_ctx *c = nl_container_of(t, nl_ctx, wake);
            if (!atomic_exchange(&c->timer_posted, true)) {
                nl_ctx_post(c, &c->timer_msg);
            }
        }
        if (layer) {
            nl_wtimer *wt = nl_container_of(layer, nl_wtimer, t);
            wt->fn(wt);
        }
        if (!t && !layer) {
            return;
        }
    }
}

/*
 * The second half: hands on the n events, and what is due of from's timers.  No lock is held, so
 * two workers may deliver events of one socket at once; hooks.io bears that, in any order.
 * busy: w has a context in hand that it runs first.
 */
static void deliver(nl_worker *w, nl_worker *from, int n, bool busy)
{
    nl_sched *s = &nl_the_sched;
    w->delivering = true;
    w->first_is_mine = !busy && nl_runq_len(&w->runq) == 0;
    for (int i = 0; i < n; i++) {
        s->hooks.io(w->events[i].tag, w->events[i].events);
    }
    fire_timers(from);
    w->delivering = false;
    if (w->want_flush) {
        w->want_flush = false;
        s->hooks.flush(w->index, true);
    }
}

/* Events and timers of workers that have had no time for them. */
static void look_for_others(nl_worker *w, bool busy)
{
    nl_sched *s = &nl_the_sched;
    atomic_store_explicit(&s->rescue, false, memory_order_relaxed);
    for (int i = 0, n = nl_workers_all(); i < n; i++) {
        nl_worker *v = s->worker[i];
        if (v != w && atomic_load_explicit(&v->current, memory_order_relaxed) &&
            !nl_idle_is_parked(&s->idle, i)) {
            deliver(w, v, poll_reactor(w, v, 0), busy);
        }
    }
}

/*
 * Looks at the own reactor and timers without waiting, between a context's choice and its dispatch.
 */
static void look(nl_worker *w)
{
    w->last_poll = nl_ticks();
    deliver(w, w, poll_reactor(w, w, 0), true);
    if (nl_unlikely(atomic_load_explicit(&nl_the_sched.rescue, memory_order_relaxed))) {
        look_for_others(w, true);
    }
    w->dispatch_start = nl_ticks(); /* the next context does not pay for this */
}

/* --- finding work ----------------------------------------------------------------------------- */

static nl_ctx *take_next(nl_worker *w)
{
    if (!atomic_load_explicit(&w->next, memory_order_relaxed)) {
        return NULL;
    }
    return atomic_exchange_explicit(&w->next, NULL, memory_order_acq_rel);
}

/*
 * The global queue's turn: a share of what waits there, as many as local ones have run: neither
 * side starves.
 */
static nl_ctx *global_turn(nl_worker *w)
{
    nl_sched *s = &nl_the_sched;
    if (w->global_left) {
        w->global_left--;
    } else {
        w->global_in = NL_GLOBAL_EVERY;
        size_t share = nl_injq_len(&s->injq) / (size_t)s->nworkers;
        w->global_left = (unsigned)(share < NL_GLOBAL_EVERY ? share : NL_GLOBAL_EVERY);
    }
    nl_ctx *c = nl_injq_pop(&s->injq);
    if (!c) {
        w->global_left = 0;
    }
    return c;
}

static nl_ctx *local_work(nl_worker *w)
{
    nl_sched *s = &nl_the_sched;
    nl_ctx *c;
    if (nl_unlikely(w->global_left || --w->global_in == 0) && (c = global_turn(w))) {
        return c;
    }
    c = take_next(w);
    if (c) {
        if (nl_likely(w->next_streak++ < NL_NEXT_STREAK || nl_runq_len(&w->runq) == 0)) {
            return c;
        }
        if (!nl_runq_push(&w->runq, c)) {
            nl_injq_push(&s->injq, c);
        }
    }
    w->next_streak = 0;
    c = nl_runq_pop(&w->runq);
    return c ? c : nl_injq_pop(&s->injq);
}

static nl_ctx *steal(nl_worker *w)
{
    nl_sched *s = &nl_the_sched;
    int n = nl_workers_all(), first = (int)(nl_random(w) % (uint64_t)n);
    for (int i = 0; i < n; i++) {
        nl_worker *v = s->worker[(first + i) % n];
        if (v != w && nl_runq_steal(&w->runq, &v->runq)) {
            return nl_runq_pop(&w->runq);
        }
    }
    return NULL;
}

static nl_ctx *search(nl_worker *w)
{
    nl_sched *s = &nl_the_sched;
    int n = nl_workers_all();
    if (n == 1) {
        return NULL;
    }
    if (!w->searching) {
        int active = n - atomic_load_explicit(&s->idle.nparked, memory_order_relaxed);
        if (2 * atomic_load_explicit(&s->idle.searching, memory_order_relaxed) >= active) {
            return NULL;
        }
        nl_search_begin(w);
    }
    nl_ctx *c = steal(w);
    if (!c) {
        look_for_others(w, false);
        c = local_work(w);
    }
    return c;
}

/* --- parking ---------------------------------------------------------------------------------- */

/* How long nothing of its own is due: -1 for ever. */
static int64_t park_time(nl_worker *w)
{
    nl_spin_lock(&w->timer_lock);
    int64_t first = nl_timers_first(&w->ctx_timers), layer = nl_timers_first(&w->layer_timers);
    nl_spin_unlock(&w->timer_lock);
    if (layer < first) {
        first = layer;
    }
    if (first == NL_NEVER) {
        return -1;
    }
    int64_t wait = first - nl_now_ns();
    return wait < 0 ? 0 : wait;
}

/* Of two times to sleep, either of which may be -1: for ever. */
static int64_t earlier(int64_t a, int64_t b)
{
    return a < 0 || (b >= 0 && b < a) ? b : a;
}

/*
 * (c) of idle.h, with the bit set: what others may have changed before they looked for parked
 * workers.  Returns the time to sleep, at most wait.
 */
static int64_t last_look(nl_worker *w, int64_t wait, bool limbo)
{
    nl_sched *s = &nl_the_sched;
    bool over = atomic_load(&s->live) == 0;
    if (over) {
        nl_shutdown_if_over();
    }
    if (nl_work_visible() || atomic_load(&s->stop) || w->want_flush) {
        return 0;
    }
    bool soon = limbo || over; /* another worker has to end its dispatch first, or sockets linger */
    return soon ? earlier(wait, NL_SOON_NS) : wait;
}

static void stop_searching(nl_worker *w)
{
    if (w->searching) {
        w->searching = false;
        atomic_fetch_sub(&nl_the_sched.idle.searching, 1);
    }
}

static void park(nl_worker *w)
{
    nl_sched *s = &nl_the_sched;
    stop_searching(w);
    nl_qsbr_quiescent(w->qsbr);
    bool limbo = nl_qsbr_sweep(w->qsbr);
    if (atomic_load_explicit(&w->next, memory_order_relaxed)) {
        /*
         * The sweep has dropped a message, and its sender was told.  The search was given up
         * without a last look.
         */
        if (nl_work_visible()) {
            nl_wake_one();
        }
        return;
    }
    int64_t wait = earlier(park_time(w), nl_trim_when_quiet());
    nl_idle_park(&s->idle, w->index);
    wait = last_look(w, wait, limbo);
    if (nl_unlikely(s->chaos) && nl_chaos(4)) {
        wait = 0;
    }
    nl_chaos_pause();
    int n = poll_reactor(w, w, wait);
    if (!nl_idle_unpark(&s->idle, w->index)) {
        w->searching = true; /* the waker has counted us */
    }
    w->dispatch_start = w->last_poll = nl_ticks();
    deliver(w, w, n, false);
    if (nl_unlikely(atomic_load(&s->monitor_asleep))) {
        nl_monitor_wake(); /* monitor.c: its clock stands still while everybody is parked */
    }
}

/*
 * A spare that is off duty: what it has ready goes to the others, and it sleeps, where no producer
 * finds it, until the monitor wants it; in the reactor of a stuck worker, if it attends one.  What
 * comes of that and of timers nl_ready sends on.
 */
static void rest(nl_worker *w, nl_ctx *c)
{
    nl_sched *s = &nl_the_sched;
    stop_searching(w);
    do {
        while (c || (c = take_next(w)) || (c = nl_runq_pop(&w->runq))) {
            nl_injq_push(&s->injq, c);
            c = NULL;
        }
        if (nl_work_visible()) {
            nl_wake_one(); /* if all are stuck, the monitor sees it at its next tick */
        }
        nl_qsbr_quiescent(w->qsbr);
        bool limbo = nl_qsbr_sweep(w->qsbr);
        nl_worker *attended = atomic_load(&w->attends), *from = attended ? attended : w;
        /* The last context may have ended here, while all workers are parked. */
        bool over = atomic_load(&s->live) == 0;
        if (over) {
            nl_shutdown_if_over();
        }
        int64_t wait = earlier(park_time(w), limbo || over ? NL_SOON_NS : -1);
        if (atomic_load(&s->stop)) {
            wait = 0;
        }
        if (attended) {
            wait = earlier(wait, park_time(attended));
        }
        if (w->want_flush || atomic_load_explicit(&w->next, memory_order_relaxed)) {
            wait = 0; /* the sweep has dropped a message, and its sender was told */
        }
        int n = poll_reactor(w, from, wait);
        w->dispatch_start = w->last_poll = nl_ticks();
        deliver(w, from, n, false);
        if (attended) {
            deliver(w, w, 0, false); /* its own timers */
            if (n == 0) {
                nl_thread_yield(); /* the owner has rung, and waits for its lock */
            }
            if (!atomic_load(&attended->stuck)) {
                atomic_store(&w->attends, NULL);
            }
        }
    } while (atomic_load(&w->off_duty) && !atomic_load(&s->stop));
}

/* --- the loop --------------------------------------------------------------------------------- */

static void perturb(nl_worker *w)
{
    uint64_t r = nl_random(w);
    if (r % 16 == 0) {
        nl_thread_yield();
    }
    if (r % 64 == 1) {
        nl_reactor_wake(nl_the_sched.worker[(r >> 8) % (uint64_t)nl_the_sched.nworkers]->reactor);
    }
    if (r % 8 == 2) {
        look(w);
    }
}

static nl_noinline void loop(nl_worker *w)
{
    nl_sched *s = &nl_the_sched;
    const uint64_t poll_ticks = NL_POLL_US * s->ticks_per_us;
    w->dispatch_start = w->last_poll = nl_ticks();
    if (atomic_load(&w->off_duty)) {
        rest(w, NULL); /* a spare that was made to attend */
    }
    while (!atomic_load_explicit(&s->stop, memory_order_relaxed)) {
        if (nl_unlikely(s->chaos)) {
            perturb(w);
        }
        nl_ctx *c = local_work(w);
        if (!c && nl_unlikely(atomic_load_explicit(&w->off_duty, memory_order_relaxed))) {
            rest(w, NULL);
            continue;
        }
        if (!c && !(c = search(w))) {
            park(w); /* which polls the reactor anyway */
            continue;
        }
        if (nl_unlikely(w->dispatch_start - w->last_poll > poll_ticks && w->dispatch_start > w->last_poll)) {
            look(w);
            if (atomic_load_explicit(&w->off_duty, memory_order_relaxed)) {
                rest(w, c);
                continue;
            }
        }
        if (w->searching) {
            nl_search_found(w);
        }
        nl_dispatch(w, c);
        nl_qsbr_quiescent(w->qsbr);
        /* A sweep looks at every worker: one of them for each dispatch, on average. */
        if (nl_unlikely(w->qsbr->first) && w->dispatches % (unsigned)s->nworkers == 0) {
            nl_qsbr_sweep(w->qsbr);
        }
    }
}

void nl_worker_loop(nl_worker *w)
{
    nl_qsbr_online(w->qsbr);
    /* One setjmp serves all dispatches of the worker, so that being left costs them nothing. */
    if (nl_setjmp(w->escape)) {
        nl_dispatch_abandoned(w);
    }
    loop(w);
    nl_qsbr_offline(w->qsbr);
}

/* --- layer timers ----------------------------------------------------------------------------- */

void nl_wtimer_init(nl_wtimer *t, void (*fn)(nl_wtimer *))
{
    nl_timer_init(&t->t);
    t->worker = -1;
    t->fn = fn;
}

void nl_wtimer_arm(nl_wtimer *t, int64_t deadline)
{
    nl_worker *w = nl_self;
    nl_spin_lock(&w->timer_lock);
    t->worker = w->index;
    nl_timers_add(&w->layer_timers, &t->t, deadline);
    nl_spin_unlock(&w->timer_lock);
}

bool nl_wtimer_disarm(nl_wtimer *t)
{
    if (t->worker < 0) {
        return false;
    }
    nl_worker *w = nl_the_sched.worker[t->worker];
    nl_spin_lock(&w->timer_lock);
    bool was = nl_timers_remove(&w->layer_timers, &t->t);
    nl_spin_unlock(&w->timer_lock);
    return was;
}

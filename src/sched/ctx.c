/* ctx.c - life and dispatch of contexts; see ctx.h */
#include "sched/ctx.h"

#include <string.h>

#include "base/alloc.h"
#include "sched/sched_impl.h"
#include "sched/shutdown.h"

nl_ctx *nl_ctx_current(void)
{
    nl_worker *w = nl_self;
    return w ? atomic_load_explicit(&w->current, memory_order_relaxed) : NULL;
}

/* --- embedded messages ------------------------------------------------------------------------ */

static void run_timers(nl_ctx *c, nl_msg *m)
{
    (void)m;
    /* Before the heap is read: a wake armed from here on posts again. */
    atomic_store(&c->timer_posted, false);
    int64_t now = nl_now_ns();
    nl_timer *t;
    while (!c->ending && (t = nl_timers_pop_due(&c->timers, now))) {
        c->ops->timer(c, t);
        nl_ctx_charge(c, 1, 0);
        if (nl_ctx_should_yield(c)) {
            break; /* the rest is still due: nl_dispatch arms it for at once */
        }
    }
}

static void drop_nothing(nl_msg *m)
{
    (void)m;
}

static void run_kill(nl_ctx *c, nl_msg *m)
{
    (void)m;
    nl_ctx_end_killed(c);
}

static void run_start(nl_ctx *c, nl_msg *m)
{
    (void)m;
    c->ops->start(c);
}

static const nl_msg_ops timer_ops = {run_timers, drop_nothing};
static const nl_msg_ops kill_ops = {run_kill, drop_nothing};
static const nl_msg_ops start_ops = {run_start, drop_nothing};
/* In no queue, so these can be everybody's. */
static nl_msg start_msg = {.ops = &start_ops}, killed_msg = {.ops = &kill_ops};

/* --- start and end ---------------------------------------------------------------------------- */

void nl_ctx_init(nl_ctx *c, const nl_ctx_ops *ops)
{
    memset(c, 0, sizeof *c);
    c->ops = ops;
    nl_mailbox_init(&c->mail_in, &c->mail_out);
    nl_timers_init(&c->timers);
    nl_timer_init(&c->wake);
    atomic_init(&c->wake_worker, -1);
    c->timer_msg.ops = &timer_ops;
    c->kill_msg.ops = &kill_ops;
    c->resume_msg = &start_msg;
    c->home = -1;
}

int nl_ctx_start(nl_ctx *c)
{
    nl_sched *s = &nl_the_sched;
    nl_mutex_lock(s->start_lock);
    if (nl_shutdown_begun()) {
        nl_mutex_unlock(s->start_lock);
        return -NL_ESTOPPING;
    }
    uint64_t live = atomic_load(&s->live) + 1;
    nl_injq_reserve(&s->injq, live);
    /* Not idle from the start: until it is in a queue no message may schedule it. */
    atomic_store_explicit(&c->mail_in.head, (uintptr_t)&c->mail_out.stub, memory_order_relaxed);
    int err = nl_slots_insert(s->contexts, &c->slot);
    if (!err) {
        atomic_fetch_add(&s->live, 1);
    }
    nl_mutex_unlock(s->start_lock);
    if (!err) {
        nl_ready(c);
    }
    return err;
}

void nl_ctx_end(nl_ctx *c, nl_reason *reason)
{
    if (c->ending) {
        nl_free(reason);
    } else {
        c->ending = true;
        c->end_reason = reason;
    }
}

static nl_reason no_reason; /* killed, and nobody said why */

static nl_reason *kill_reason(nl_ctx *c)
{
    nl_reason *reason = atomic_load(&c->kill_reason);
    return reason == &no_reason ? NULL : reason;
}

void nl_ctx_end_killed(nl_ctx *c)
{
    nl_ctx_end(c, nl_reason_copy(kill_reason(c)));
}

int nl_ctx_kill(uint64_t handle, nl_reason *reason)
{
    nl_ctx *c = nl_ctx_find(handle);
    if (!c) {
        nl_free(reason);
        return -NL_ENOCONTEXT;
    }
    /*
     * The first one's reason counts.  Release: the context may look at it before it gets the
     * message (nl_ctx_end_killed).
     */
    nl_reason *mine = reason ? reason : &no_reason, *none = NULL;
    if (atomic_compare_exchange_strong(&c->kill_reason, &none, mine)) {
        atomic_store(&c->kill_posted, true);
        nl_ctx_post(c, &c->kill_msg);
    } else {
        nl_free(reason);
    }
    return 0;
}

static void drop_all(nl_ctx *c)
{
    nl_msg *m = c->resume_msg;
    if (m) {
        c->resume_msg = NULL;
        m->ops->drop(m);
    }
    while ((m = c->local_first)) {
        c->local_first = atomic_load_explicit(&m->next, memory_order_relaxed);
        m->ops->drop(m);
    }
    c->local_last = NULL;
    while ((m = nl_mailbox_pop(&c->mail_in, &c->mail_out))) {
        m->ops->drop(m);
    }
}

/* The grace period is over: who found the context alive has finished pushing to it. */
static void free_ctx(nl_limbo *g)
{
    nl_ctx *c = nl_container_of(g, nl_ctx, limbo);
    drop_all(c);
    nl_free(kill_reason(c));
    c->ops->free(c);
}

static void disarm_wake(nl_ctx *c)
{
    int at = atomic_load_explicit(&c->wake_worker, memory_order_relaxed);
    if (at >= 0) {
        nl_worker *w = nl_the_sched.worker[at];
        nl_spin_lock(&w->timer_lock);
        nl_timers_remove(&w->ctx_timers, &c->wake);
        nl_spin_unlock(&w->timer_lock);
        atomic_store_explicit(&c->wake_worker, -1, memory_order_relaxed);
    }
}

int nl_ctx_home(nl_ctx *c)
{
    if (c->home < 0) {
        /* Racing choices may be uneven by one or two. */
        nl_sched *s = &nl_the_sched;
        c->home = nl_self->index < s->nworkers ? nl_self->index : 0; /* a spare is nobody's home */
        unsigned fewest = atomic_load_explicit(&s->worker[c->home]->homes, memory_order_relaxed);
        for (int i = 0; i < s->nworkers; i++) {
            unsigned homes = atomic_load_explicit(&s->worker[i]->homes, memory_order_relaxed);
            if (homes < fewest) {
                fewest = homes;
                c->home = i;
            }
        }
        atomic_fetch_add_explicit(&s->worker[c->home]->homes, 1, memory_order_relaxed);
    }
    return c->home;
}

/* The context no longer keeps the process. */
static void uncount(nl_ctx *c)
{
    if (!atomic_exchange(&c->uncounted, true)) {
        atomic_fetch_sub(&nl_the_sched.live, 1);
    }
}

static void finish(nl_worker *w, nl_ctx *c)
{
    nl_sched *s = &nl_the_sched;
    c->ending = true;
    /* First out of the tables: a context that is told of the end finds the handle gone. */
    nl_obituary_store(c->slot.id, c->end_reason);
    if (nl_slots_try_remove(s->contexts, &c->slot)) { /* else it was given up */
        nl_names_release(c);
    }
    c->ops->fini(c, c->end_reason);
    disarm_wake(c);
    drop_all(c);
    nl_timers_fini(&c->timers);
    nl_free(c->end_reason);
    if (c->ops->release) {
        c->ops->release(c);
    }
    if (c->home >= 0) {
        atomic_fetch_sub_explicit(&s->worker[c->home]->homes, 1, memory_order_relaxed);
    }
    if (w->want_flush) {
        w->want_flush = false;
        s->hooks.flush(w->index, true);
    }
    atomic_store_explicit(&w->current, NULL, memory_order_relaxed);
    uncount(c);
    nl_retire(&c->limbo, free_ctx);
}

/* --- contexts that do not end ----------------------------------------------------------------- */

bool nl_ctx_is_to_end(const nl_ctx *c)
{
    return atomic_load(&c->kill_posted) || nl_ctx_find(c->slot.id) != c;
}

#define SHOWN_MAX 200 /* bytes of the reason; each context is sent a copy */

static nl_reason *unending_reason(nl_ctx *c)
{
    const nl_reason *asked = kill_reason(c);
    char text[SHOWN_MAX + 32] = "does not end";
    size_t n = strlen(text);
    if (asked) {
        size_t len = asked->len < SHOWN_MAX ? asked->len : SHOWN_MAX;
        text[n++] = ':';
        text[n++] = ' ';
        memcpy(text + n, asked->text, len);
        n += len;
    }
    return nl_reason_new(text, n);
}

void nl_ctx_give_up(nl_ctx *c)
{
    nl_sched *s = &nl_the_sched;
    nl_reason *reason = unending_reason(c);
    nl_obituary_store(c->slot.id, reason);
    if (nl_slots_try_remove(s->contexts, &c->slot)) {
        nl_names_take_away(c);
    }
    if (c->ops->given_up) {
        c->ops->given_up(c, reason);
    }
    nl_free(reason);
    atomic_store(&s->given_up, true); /* before live is seen to be 0: nl_shutdown_if_over */
    uncount(c);
    nl_wake_all(); /* the process may be over */
}

/* --- dispatch --------------------------------------------------------------------------------- */

static bool time_is_up(nl_worker *w)
{
    return nl_ticks() - w->dispatch_start > NL_DISPATCH_US * nl_the_sched.ticks_per_us;
}

/*
 * After a message: may the context take another one?  The clock is read after every eighth only;
 * where few messages take long, the monitor has noticed.
 */
static inline bool share_left(nl_worker *w)
{
    return nl_likely(--w->budget > 0) && nl_likely(!atomic_load_explicit(&w->stuck, memory_order_relaxed)) &&
           (nl_likely(w->budget & 7) || !time_is_up(w));
}

bool nl_ctx_should_yield(nl_ctx *c)
{
    (void)c;
    nl_worker *w = nl_self;
    if (w->budget > 0 &&
        (atomic_load_explicit(&w->stuck, memory_order_relaxed) || ((++w->looks & 7) == 0 && time_is_up(w)))) {
        w->budget = 0;
    }
    return w->budget <= 0;
}

void nl_ctx_checkpoint(void)
{
    nl_qsbr_quiescent(nl_self->qsbr);
}

void nl_ctx_charge(nl_ctx *c, unsigned messages, unsigned bytes)
{
    (void)c;
    nl_worker *w = nl_self;
    w->byte_budget -= (int)(bytes < NL_DISPATCH_BYTES ? bytes : NL_DISPATCH_BYTES);
    w->budget = w->byte_budget > 0 ? w->budget - (int)messages : 0;
}

#define LOCAL_STREAK 8

static inline nl_msg *next_message(nl_ctx *c)
{
    nl_msg *m = c->local_first;
    if (nl_unlikely(m != NULL)) {
        if (++c->local_streak > LOCAL_STREAK) {
            c->local_streak = 0;
            nl_msg *sent = nl_mailbox_pop(&c->mail_in, &c->mail_out);
            if (sent) {
                return sent;
            }
        }
        c->local_first = atomic_load_explicit(&m->next, memory_order_relaxed);
        if (!c->local_first) {
            c->local_last = NULL;
        }
        return m;
    }
    return nl_mailbox_pop(&c->mail_in, &c->mail_out);
}

/*
 * Tells this worker the earliest deadline, unless an earlier one is already known to some worker.
 */
static void arm_wake(nl_worker *w, nl_ctx *c, int64_t first)
{
    int at = atomic_load_explicit(&c->wake_worker, memory_order_relaxed);
    if (at >= 0) {
        nl_worker *v = nl_the_sched.worker[at];
        nl_spin_lock(&v->timer_lock);
        bool early_enough = nl_timer_armed(&c->wake) && c->wake.deadline <= first;
        if (!early_enough) {
            nl_timers_remove(&v->ctx_timers, &c->wake);
        }
        nl_spin_unlock(&v->timer_lock);
        if (early_enough) {
            return;
        }
    }
    nl_spin_lock(&w->timer_lock);
    atomic_store_explicit(&c->wake_worker, w->index, memory_order_relaxed);
    nl_timers_add(&w->ctx_timers, &c->wake, first);
    nl_spin_unlock(&w->timer_lock);
}

static inline void end_of_dispatch(nl_worker *w, nl_ctx *c)
{
    if (w->want_flush) {
        w->want_flush = false;
        nl_the_sched.hooks.flush(w->index, true);
    }
    uint64_t now = nl_ticks();
    atomic_store_explicit(&c->cpu_ticks,
                          atomic_load_explicit(&c->cpu_ticks, memory_order_relaxed) + now - w->dispatch_start,
                          memory_order_relaxed);
    w->dispatch_start = now; /* of the next one, and the loop's idea of the time */
}

/* What comes before any message; nothing, if the context was killed before it could run (again). */
static nl_msg *take_resume_msg(nl_ctx *c)
{
    nl_msg *m = c->resume_msg;
    if (atomic_load(&c->kill_posted)) {
        return &killed_msg;
    }
    c->resume_msg = NULL;
    c->handled--; /* it is no message */
    return m;
}

void nl_dispatch(nl_worker *w, nl_ctx *c)
{
    nl_sched *s = &nl_the_sched;
    w->budget = NL_DISPATCH_MESSAGES;
    if (nl_unlikely(s->chaos)) {
        w->budget = (int)(1 + nl_random(w) % NL_DISPATCH_MESSAGES);
    }
    w->byte_budget = NL_DISPATCH_BYTES;
    atomic_store_explicit(&w->current, c, memory_order_release); /* the monitor looks at it */
    atomic_store_explicit(&w->dispatches, atomic_load_explicit(&w->dispatches, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    if (nl_unlikely(atomic_load_explicit(&w->stuck, memory_order_relaxed))) {
        atomic_store(&w->stuck, false);
    }
    nl_msg *m = nl_unlikely(c->resume_msg != NULL) ? take_resume_msg(c) : NULL;
    for (;; m = NULL) {
        if (nl_likely(m || (m = next_message(c)))) {
            m->ops->run(c, m);
            c->handled++;
            if (nl_unlikely(w->want_flush)) {
                s->hooks.flush(w->index, false);
            }
            if (nl_likely(share_left(w) && !c->ending)) {
                continue;
            }
        } else if (!c->ops->idle(c)) {
            c->ending = true;
        } else if (nl_unlikely(c->local_first != NULL)) {
            continue;
        }
        break;
    }
    end_of_dispatch(w, c);
    if (nl_unlikely(c->ending)) {
        finish(w, c);
        return;
    }
    int64_t first = nl_timers_first(&c->timers);
    if (nl_unlikely(first != NL_NEVER)) {
        arm_wake(w, c, first);
    }
    atomic_store_explicit(&w->current, NULL, memory_order_relaxed);
    /* idle: from here on c may run elsewhere */
    if (m || !nl_mailbox_idle(&c->mail_in, &c->mail_out)) {
        nl_requeue(w, c); /* the share is used up; a message came in, or is about to */
    }
}

void nl_ctx_abandon(const nl_ctx *c)
{
    nl_assert(c && nl_ctx_current() == c && c->ending, "a context that ends leaves by itself");
    longjmp(nl_self->escape, 1);
}

void nl_dispatch_abandoned(nl_worker *w)
{
    nl_ctx *c = atomic_load_explicit(&w->current, memory_order_relaxed);
    end_of_dispatch(w, c);
    finish(w, c);
}

/* --- messages --------------------------------------------------------------------------------- */

nl_ctx *nl_ctx_find(uint64_t handle)
{
    nl_slot_obj *o = nl_slots_get(nl_the_sched.contexts, handle);
    return o ? nl_container_of(o, nl_ctx, slot) : NULL;
}

typedef struct visit {
    void (*fn)(nl_ctx *c, void *arg);
    void *arg;
} visit;

static void visit_one(nl_slot_obj *o, void *arg)
{
    const visit *v = arg;
    v->fn(nl_container_of(o, nl_ctx, slot), v->arg);
}

void nl_ctx_each(void (*fn)(nl_ctx *c, void *arg), void *arg)
{
    nl_slots_each(nl_the_sched.contexts, visit_one, &(visit){fn, arg});
}

void nl_ctx_post(nl_ctx *c, nl_msg *m)
{
    if (nl_mailbox_push(&c->mail_in, m)) {
        nl_ready(c);
    }
}

int nl_ctx_send(uint64_t handle, nl_msg *m)
{
    nl_ctx *c = nl_ctx_find(handle);
    if (nl_unlikely(!c)) {
        return -NL_ENOCONTEXT;
    }
    if (nl_unlikely(nl_mailbox_full(&c->mail_in, &c->mail_out, nl_the_sched.mailbox_max))) {
        return -NL_EMAILBOXFULL;
    }
    nl_ctx_post(c, m);
    return 0;
}

uint64_t nl_ctx_mailbox_len(const nl_ctx *c)
{
    return nl_mailbox_len(&c->mail_in, &c->mail_out);
}

void nl_ctx_set_mailbox_max(uint64_t max)
{
    nl_the_sched.mailbox_max = max;
}

void nl_ctx_defer(nl_ctx *c, nl_msg *m)
{
    atomic_store_explicit(&m->next, NULL, memory_order_relaxed);
    if (c->local_last) {
        atomic_store_explicit(&c->local_last->next, m, memory_order_relaxed);
    } else {
        c->local_first = m;
    }
    c->local_last = m;
}

void nl_ctx_give_way(nl_ctx *c, nl_msg *m)
{
    nl_debug_assert(!c->resume_msg, "a context gives way once in a dispatch");
    c->resume_msg = m;
    nl_self->budget = 0;
}

#define CATCH_UP_LOOKS 20
#define CATCH_UP_PAUSES 64 /* about 1 µs: each look costs the consumer a cache line */

bool nl_ctx_let_catch_up(nl_ctx *c, nl_ctx *to, uint64_t len)
{
    nl_worker *w = nl_self;
    if (atomic_load_explicit(&w->next, memory_order_relaxed) || nl_runq_len(&w->runq) ||
        nl_injq_len(&nl_the_sched.injq) || nl_ctx_should_yield(c)) {
        return false;
    }
    uint64_t popped = atomic_load_explicit(&to->mail_out.popped, memory_order_relaxed);
    for (int i = 0; i < CATCH_UP_LOOKS && nl_ctx_mailbox_len(to) > len; i++) {
        for (int k = 0; k < CATCH_UP_PAUSES; k++) {
            nl_cpu_relax();
        }
        uint64_t now = atomic_load_explicit(&to->mail_out.popped, memory_order_relaxed);
        if (now == popped) {
            nl_thread_yield(); /* its worker may be waiting for this very processor */
            return false;
        }
        popped = now;
    }
    return true;
}

int64_t nl_ctx_cpu_ns(const nl_ctx *c)
{
    nl_sched *s = &nl_the_sched;
    uint64_t t = atomic_load_explicit(&c->cpu_ticks, memory_order_relaxed);
    if (nl_ctx_current() == c) {
        t += nl_ticks() - nl_self->dispatch_start;
    }
    return (int64_t)(t * 1000.0 / (double)s->ticks_per_us);
}

/* wake.c - making contexts ready and waking workers for them; the argument is in idle.h */
#include "sched/sched_impl.h"

static bool chaos_roll(unsigned n)
{
    return nl_unlikely(nl_the_sched.chaos) && nl_chaos(n);
}

bool nl_work_visible(void)
{
    nl_sched *s = &nl_the_sched;
    if (nl_injq_len(&s->injq)) {
        return true;
    }
    for (int i = 0, n = nl_workers_all(); i < n; i++) {
        if (nl_runq_len(&s->worker[i]->runq)) {
            return true;
        }
    }
    return false;
}

/* Claims and wakes one worker, which starts as a searcher; the caller has counted it in. */
static void hand_search_over(void)
{
    nl_sched *s = &nl_the_sched;
    nl_chaos_pause();
    int i = nl_idle_claim(&s->idle);
    if (i >= 0) {
        atomic_fetch_add_explicit(&s->wakes, 1,
                                  memory_order_relaxed); /* beside a system call it costs nothing */
        nl_reactor_wake(s->worker[i]->reactor);
        return;
    }
    /*
     * Nobody was parked when we looked.  Meanwhile a producer may have seen a searcher that did
     * not exist, and woken nobody.  A worker looks at every queue before it parks; any other
     * thread has to look now.
     */
    if (atomic_fetch_sub(&s->idle.searching, 1) == 1 && !nl_self && nl_work_visible()) {
        nl_wake_one();
    }
}

void nl_wake_one(void)
{
    nl_idle *d = &nl_the_sched.idle;
    if (atomic_load(&d->searching) != 0 || atomic_load(&d->nparked) <= 0) {
        return;
    }
    int none = 0;
    if (atomic_compare_exchange_strong(&d->searching, &none, 1)) {
        hand_search_over();
    }
}

void nl_wake_for_rescue(void)
{
    nl_idle *d = &nl_the_sched.idle;
    if (atomic_load(&d->nparked) > 0) {
        atomic_fetch_add(&d->searching, 1);
        hand_search_over();
    }
}

void nl_wake_all(void)
{
    for (int i = 0, n = nl_workers_all(); i < n; i++) {
        nl_reactor_wake(nl_the_sched.worker[i]->reactor);
    }
}

void nl_search_begin(nl_worker *w)
{
    w->searching = true;
    atomic_fetch_add(&nl_the_sched.idle.searching, 1);
}

void nl_search_found(nl_worker *w)
{
    w->searching = false;
    /* The last one: producers that saw it searching have woken nobody and rely on it. */
    if (atomic_fetch_sub(&nl_the_sched.idle.searching, 1) == 1 && nl_work_visible()) {
        nl_wake_one();
    }
}

/* Behind everything that waits on this worker. */
static void push_local(nl_worker *w, nl_ctx *c)
{
    if (nl_unlikely(!nl_runq_push(&w->runq, c))) {
        nl_injq_push(&nl_the_sched.injq, c);
    }
}

/* What its dispatch touches first.  Of many contexts most are in no cache. */
static inline void fetch(nl_ctx *c)
{
    __builtin_prefetch(&c->mail_out, 1);
    __builtin_prefetch(&c->ending, 1);
    __builtin_prefetch(c + 1, 1);
    for (int i = 0; i < NL_CTX_WARM; i++) {
        uintptr_t p = (uintptr_t)atomic_load_explicit(&c->warm[i], memory_order_relaxed);
        __builtin_prefetch((const void *)p);
        __builtin_prefetch((const void *)(p + NL_CACHELINE));
    }
}

void nl_ready(nl_ctx *c)
{
    nl_worker *w = nl_self;
    if (!w) {
        nl_injq_push(&nl_the_sched.injq, c);
        nl_wake_one();
        return;
    }
    if (chaos_roll(8)) {
        nl_injq_push(&nl_the_sched.injq, c);
        nl_wake_one();
        return;
    }
    if (w->delivering) {
        if (nl_unlikely(atomic_load_explicit(&w->off_duty, memory_order_relaxed))) {
            nl_injq_push(&nl_the_sched.injq, c);
            nl_wake_one();
            return;
        }
        push_local(w, c);
        if (w->first_is_mine) {
            w->first_is_mine = false;
        } else {
            nl_wake_one();
        }
        return;
    }
    fetch(c);
    /*
     * A message wake: run it next, while the message is in this core's cache.  Only the owner
     * fills the place; a thief (of a stuck worker) may empty it.  Release pairs with the
     * acquire of the worker that takes it.
     */
    nl_ctx *old = atomic_load_explicit(&w->next, memory_order_relaxed);
    if (!old) {
        atomic_store_explicit(&w->next, c, memory_order_release);
        return;
    }
    old = atomic_exchange_explicit(&w->next, c, memory_order_acq_rel);
    if (old) {
        push_local(w, old);
        nl_wake_one();
    }
}

void nl_requeue(nl_worker *w, nl_ctx *c)
{
    /* Alone on this worker it will be run again right here: nobody need come for it. */
    bool alone = nl_runq_len(&w->runq) == 0 && !atomic_load_explicit(&w->next, memory_order_relaxed);
    if (chaos_roll(4)) {
        nl_injq_push(&nl_the_sched.injq, c);
    } else {
        push_local(w, c);
    }
    if (!alone) {
        nl_wake_one();
    }
}

uint64_t nl_sched_wakes(void)
{
    return atomic_load_explicit(&nl_the_sched.wakes, memory_order_relaxed);
}

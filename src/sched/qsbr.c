/* qsbr.c - see qsbr.h */
#include "sched/qsbr.h"

#include "base/alloc.h"
#include "base/spin.h"

atomic_uint_fast64_t nl_qsbr_global = 1;

static _Thread_local nl_qsbr *my_record;
static _Thread_local unsigned nested; /* nl_qsbr_enter while online */
static nl_spin lock = NL_SPIN_INIT;   /* guards orphans and additions to records */
static _Atomic(nl_qsbr *) records;
static nl_limbo *orphans; /* retired by threads without a record */
static atomic_bool have_orphans;

/* ThreadSanitizer does not model fences; there the seq_cst operations around it are enough. */
static inline void full_fence(void)
{
#if !NL_TSAN
    atomic_thread_fence(memory_order_seq_cst);
#endif
}

void nl_qsbr_register(nl_qsbr *r)
{
    atomic_init(&r->epoch, 0);
    r->first = NULL;
    r->last = &r->first;
    nl_spin_lock(&lock);
    r->next = atomic_load_explicit(&records, memory_order_relaxed);
    /* seq_cst: a sweep that misses the record comes before its owner's first online. */
    atomic_store(&records, r);
    nl_spin_unlock(&lock);
    my_record = r;
}

void nl_qsbr_online(nl_qsbr *r)
{
    atomic_store(&r->epoch, atomic_load(&nl_qsbr_global));
    full_fence(); /* (2) in qsbr.h: a look-up is a plain acquire load */
}

void nl_qsbr_offline(nl_qsbr *r)
{
    /* seq_cst includes release: what this thread read is read before the sweep sees 0. */
    atomic_store(&r->epoch, 0);
}

void nl_qsbr_enter(void)
{
    if (!my_record) {
        nl_qsbr_register(nl_calloc_aligned(sizeof(nl_qsbr)));
    }
    if (atomic_load_explicit(&my_record->epoch, memory_order_relaxed)) {
        nested++; /* a worker in a dispatch: it is online, and must stay so */
        return;
    }
    nl_qsbr_online(my_record);
}

void nl_qsbr_leave(void)
{
    nl_qsbr *r = my_record;
    if (nested) {
        nested--;
        return;
    }
    nl_qsbr_offline(r);
    if (r->first) { /* a helper thread does not sweep: the workers do */
        nl_spin_lock(&lock);
        *r->last = orphans;
        orphans = r->first;
        atomic_store_explicit(&have_orphans, true, memory_order_relaxed);
        nl_spin_unlock(&lock);
        r->first = NULL;
        r->last = &r->first;
    }
}

void nl_retire(nl_limbo *g, void (*fn)(nl_limbo *g))
{
    nl_qsbr *r = my_record;
    g->fn = fn;
    g->next = NULL;
    /* The epoch before the increment: a thread that takes over a later one has seen the removal. */
    g->epoch = atomic_fetch_add(&nl_qsbr_global, 1);
    if (r) {
        *r->last = g;
        r->last = &g->next;
    } else {
        nl_spin_lock(&lock);
        g->next = orphans;
        orphans = g;
        atomic_store_explicit(&have_orphans, true, memory_order_relaxed);
        nl_spin_unlock(&lock);
    }
}

/* The oldest epoch that a thread now online may have begun in. */
static uint64_t oldest_epoch(void)
{
    uint64_t oldest = UINT64_MAX;
    full_fence(); /* (c) in qsbr.h: removals are relaxed stores */
    for (nl_qsbr *r = atomic_load(&records); r; r = r->next) {
        uint64_t e = atomic_load(&r->epoch);
        if (e && e < oldest) {
            oldest = e;
        }
    }
    return oldest;
}

bool nl_qsbr_sweep(nl_qsbr *r)
{
    if (atomic_load_explicit(&have_orphans, memory_order_relaxed)) {
        nl_spin_lock(&lock);
        nl_limbo *o = orphans;
        orphans = NULL;
        atomic_store_explicit(&have_orphans, false, memory_order_relaxed);
        nl_spin_unlock(&lock);
        while (o) { /* a fresh epoch keeps the list in order; waiting a little longer is harmless */
            nl_limbo *next = o->next;
            nl_retire(o, o->fn);
            o = next;
        }
    }
    if (!r->first) {
        return false;
    }
    uint64_t oldest = oldest_epoch();
    while (r->first && r->first->epoch < oldest) {
        nl_limbo *g = r->first;
        r->first = g->next;
        if (!r->first) {
            r->last = &r->first;
        }
        g->fn(g); /* may retire more */
    }
    return r->first;
}

void nl_qsbr_fini(void)
{
    for (bool again = true; again;) {
        again = false;
        for (nl_qsbr *r = atomic_load(&records); r; r = r->next) {
            while (r->first) {
                nl_limbo *g = r->first;
                r->first = g->next;
                if (!r->first) {
                    r->last = &r->first;
                }
                again = true;
                g->fn(g);
            }
        }
        while (orphans) {
            nl_limbo *g = orphans;
            orphans = g->next;
            again = true;
            g->fn(g);
        }
    }
    atomic_store(&have_orphans, false);
    nl_qsbr *mine = my_record;
    for (nl_qsbr *r = atomic_load(&records), *next; r; r = next) {
        next = r->next;
        if (r != mine) {
            nl_free_aligned(r);
        }
    }
    nl_free_aligned(mine);
    my_record = NULL;
    atomic_store(&records, NULL);
}

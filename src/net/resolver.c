/*
 * resolver.c - the helper threads behind nl_resolver_submit.
 *
 * One mutex guards everything here.  A thread resolves into memory of its own and copies the outcome
 * into the request under the mutex, so that a request can be taken away from a thread that is
 * stuck in the system's resolver: at the end such a thread is left behind, it finds
 * nothing to do when it comes back, and what it needs for that (the pool below) is left too.
 */
#include "net/resolver.h"

#include "base/alloc.h"
#include "base/spin.h"
#include "sched/sched.h"

#include <string.h>

int (*nl_resolver_lookup)(nl_addr *out, int max, int family, const char *host, int port) = nl_addr_resolve;

/* How long nl_resolver_fini waits for threads in the system's resolver. */
#define END_WAIT_NS ((int64_t)200000000)

typedef struct helper {
    struct pool *pool;
    nl_thread *thread;
    nl_resolve *now; /* what it works for; taken away: NULL */
    bool ended;
} helper;

typedef struct pool {
    struct pool *next; /* of those left behind */
    nl_mutex *lock;
    nl_cond *work;  /* something is queued, or stop is set */
    nl_cond *ended; /* a thread has ended */
    nl_resolve *first, *last;
    int threads, idle, queued;
    bool stop;
    helper helpers[NL_RESOLVER_THREADS];
} pool;

static nl_spin make_lock = NL_SPIN_INIT; /* guards the making of the pool only */
static _Atomic(pool *) the_pool; /* acquire pairs with the release in get_pool: its contents are seen */

static pool *get_pool(void)
{
    pool *p = atomic_load_explicit(&the_pool, memory_order_acquire);
    if (p) {
        return p;
    }
    pool *mine = nl_calloc(sizeof(*mine));
    mine->lock = nl_mutex_new();
    mine->work = nl_cond_new();
    mine->ended = nl_cond_new();
    nl_spin_lock(&make_lock);
    p = atomic_load_explicit(&the_pool, memory_order_relaxed);
    if (!p) {
        p = mine;
        atomic_store_explicit(&the_pool, p, memory_order_release);
        mine = NULL;
    }
    nl_spin_unlock(&make_lock);
    if (mine) {
        nl_cond_free(mine->ended);
        nl_cond_free(mine->work);
        nl_mutex_free(mine->lock);
        nl_free(mine);
    }
    return p;
}

static nl_resolve *pop(pool *p)
{
    nl_resolve *r = p->first;
    p->first = r->next;
    if (!p->first) {
        p->last = NULL;
    }
    p->queued--;
    return r;
}

/* Tells the context that asked. */
static void deliver(nl_resolve *r)
{
    nl_qsbr_enter();
    nl_ctx *c = nl_ctx_find(r->ctx);
    if (c) {
        nl_ctx_post(c, &r->msg);
    }
    nl_qsbr_leave();
    if (!c) {
        r->msg.ops->drop(&r->msg);
    }
}

static void help(void *arg)
{
    helper *h = arg;
    pool *p = h->pool;
    nl_addr found[NL_RESOLVER_ADDRS];
    char host[sizeof(((nl_resolve *)0)->host)];
    nl_mutex_lock(p->lock);
    for (;;) {
        while (!p->first && !p->stop) {
            p->idle++;
            nl_cond_wait(p->work, p->lock, -1);
            p->idle--;
        }
        if (p->stop) {
            break;
        }
        nl_resolve *r = h->now = pop(p);
        int family = r->family, port = r->port;
        memcpy(host, r->host, sizeof(host));
        nl_mutex_unlock(p->lock);

        int n = nl_resolver_lookup(found, NL_RESOLVER_ADDRS, family, host, port);

        nl_mutex_lock(p->lock);
        r = h->now;
        if (!r) { /* left behind, see nl_resolver_fini: nothing but p exists any more */
            h->ended = true;
            nl_mutex_unlock(p->lock);
            return;
        }
        h->now = NULL;
        r->count = n;
        memcpy(r->addr, found, n > 0 ? (size_t)n * sizeof(found[0]) : 0);
        nl_mutex_unlock(p->lock);
        deliver(r);
        nl_mutex_lock(p->lock);
    }
    h->ended = true;
    nl_cond_signal(p->ended);
    nl_mutex_unlock(p->lock);
    nl_pool_thread_exit();
}

/* One more thread, if there may be.  Under the lock. */
static int grow(pool *p)
{
    helper *h = &p->helpers[p->threads];
    h->pool = p;
    int err = nl_thread_start(&h->thread, "nl-resolver", help, h);
    p->threads += err == 0;
    return err;
}

void nl_resolver_submit(nl_resolve *r)
{
    pool *p = get_pool();
    int err = 0;
    nl_mutex_lock(p->lock);
    if (p->queued >= p->idle && p->threads < NL_RESOLVER_THREADS) {
        err = grow(p);
    }
    bool nobody = p->threads == 0;
    if (!nobody) {
        r->next = NULL;
        if (p->last) {
            p->last->next = r;
        } else {
            p->first = r;
        }
        p->last = r;
        p->queued++;
        nl_cond_signal(p->work);
    }
    nl_mutex_unlock(p->lock);
    if (nobody) {
        r->count = err;
        deliver(r);
    }
}

/* Under the lock. */
static bool all_ended(const pool *p)
{
    for (int i = 0; i < p->threads; i++) {
        if (!p->helpers[i].ended) {
            return false;
        }
    }
    return true;
}

static void free_pool(pool *p)
{
    for (int i = 0; i < p->threads; i++) {
        nl_thread_join(p->helpers[i].thread);
    }
    nl_cond_free(p->ended);
    nl_cond_free(p->work);
    nl_mutex_free(p->lock);
    nl_free(p);
}

static pool *left_behind; /* only nl_resolver_fini touches it */

static void free_left_behind(void)
{
    for (pool **at = &left_behind, *p; (p = *at);) {
        nl_mutex_lock(p->lock);
        bool clean = all_ended(p);
        nl_mutex_unlock(p->lock);
        if (clean) {
            *at = p->next;
            free_pool(p);
        } else {
            at = &p->next;
        }
    }
}

void nl_resolver_fini(void)
{
    free_left_behind();
    pool *p = atomic_load_explicit(&the_pool, memory_order_relaxed);
    if (!p) {
        return;
    }
    nl_mutex_lock(p->lock);
    p->stop = true;
    nl_resolve *left = p->first;
    p->first = p->last = NULL;
    p->queued = 0;
    nl_cond_broadcast(p->work);
    int64_t until = nl_now_ns() + END_WAIT_NS, now;
    while (!all_ended(p) && (now = nl_now_ns()) < until) {
        nl_cond_wait(p->ended, p->lock, until - now);
    }
    bool clean = all_ended(p);
    for (int i = 0; i < p->threads; i++) {
        nl_resolve *r = p->helpers[i].now;
        if (r) {
            p->helpers[i].now = NULL;
            r->next = left;
            left = r;
        }
    }
    nl_mutex_unlock(p->lock);
    while (left) {
        nl_resolve *r = left;
        left = r->next;
        r->msg.ops->drop(&r->msg);
    }
    atomic_store_explicit(&the_pool, NULL, memory_order_relaxed);
    if (clean) {
        free_pool(p);
    } else {
        p->next = left_behind;
        left_behind = p;
    }
}

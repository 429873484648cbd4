/*
 * resolver.c - the helper threads behind nl_resolver_submit.
 *
 * A query is a name, a family, and the requests that wait for the answer.  There are two lanes:
 *
 *     submitted ──→ hosts file, one thread ──not there──→ system's resolver, some threads ──→
 *     answered
 *                          └──────── there ────────────────────────────────────────────────────┘
 *
 * One mutex guards everything here.  A thread looks up into memory of its own and copies the
 * outcome into the requests under the mutex, so that a query can be taken away from a thread that
 * is stuck in the system's resolver: at the end that thread is left behind, it finds nothing to do
 * when it comes back, and what it needs for that (the pool below) is left too.
 */
#include "net/resolver.h"

#include "base/alloc.h"
#include "base/spin.h"
#include "sched/sched.h"

#include <string.h>

int (*nl_resolver_lookup)(nl_addr *out, int max, int family, const char *host, int port) = nl_addr_resolve;

/* How long nl_resolver_fini waits for threads in the system's resolver. */
#define END_WAIT_NS ((int64_t)200000000)
#define BUCKETS 64

enum { LANE_HOSTS, LANE_SYSTEM, LANES };
static const int threads_max[LANES] = {1, NL_RESOLVER_THREADS};

typedef struct nl_query {
    nl_list bucket; /* with the same hash */
    nl_list node;   /* in its lane's queue; linked to itself while a thread works for it */
    int lane;
    int family;
    nl_list requests; /* nl_resolve.node */
    char host[sizeof(((nl_resolve *)0)->host)];
} query;

typedef struct helper {
    struct pool *pool;
    int lane;
    nl_thread *thread;
    query *now; /* what it works for; taken away: NULL */
    bool ended;
} helper;

typedef struct lane {
    nl_list queue;
    int queued, idle, threads;
    nl_cond *work; /* something is queued, or stop is set */
} lane;

typedef struct pool {
    struct pool *next; /* of those left behind */
    nl_mutex *lock;
    nl_cond *ended; /* a thread has ended */
    lane lanes[LANES];
    nl_list buckets[BUCKETS]; /* every query that is not answered yet */
    bool stop;
    int threads;
    helper helpers[1 + NL_RESOLVER_THREADS];
} pool;

/* Guards the making of the pool only. */
static nl_spin make_lock = NL_SPIN_INIT;
/* Acquire pairs with the release in get_pool: its contents are seen. */
static _Atomic(pool *) the_pool;

/* --- The pool --------------------------------------------------------------------------------- */

static pool *new_pool(void)
{
    pool *p = nl_calloc(sizeof(*p));
    p->lock = nl_mutex_new();
    p->ended = nl_cond_new();
    for (int i = 0; i < LANES; i++) {
        nl_list_init(&p->lanes[i].queue);
        p->lanes[i].work = nl_cond_new();
    }
    for (int i = 0; i < BUCKETS; i++) {
        nl_list_init(&p->buckets[i]);
    }
    return p;
}

/* Joins the threads that have ended, which take the lock no more; true if all have. */
static bool join_ended_locked(pool *p)
{
    bool all = true;
    for (int i = 0; i < p->threads; i++) {
        helper *h = &p->helpers[i];
        all = all && h->ended;
        if (h->ended && h->thread) {
            nl_thread_join(h->thread);
            h->thread = NULL;
        }
    }
    return all;
}

/* Its threads are joined. */
static void free_pool(pool *p)
{
    for (int i = 0; i < LANES; i++) {
        nl_cond_free(p->lanes[i].work);
    }
    nl_cond_free(p->ended);
    nl_mutex_free(p->lock);
    nl_free(p);
}

static pool *get_pool(void)
{
    pool *p = atomic_load_explicit(&the_pool, memory_order_acquire);
    if (p) {
        return p;
    }
    pool *mine = new_pool();
    nl_spin_lock(&make_lock);
    p = atomic_load_explicit(&the_pool, memory_order_relaxed);
    if (!p) {
        p = mine;
        atomic_store_explicit(&the_pool, p, memory_order_release);
        mine = NULL;
    }
    nl_spin_unlock(&make_lock);
    if (mine) {
        free_pool(mine);
    }
    return p;
}

/* --- Queries ---------------------------------------------------------------------------------- */

/* Names are ASCII, whatever the locale; either case is the same. */
static unsigned char lower(char c)
{
    return (unsigned char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

static bool same_name(const char *a, const char *b)
{
    while (*a && lower(*a) == lower(*b)) {
        a++;
        b++;
    }
    return lower(*a) == lower(*b);
}

static nl_list *bucket_of(pool *p, int family, const char *host)
{
    uint32_t h = (uint32_t)family;
    for (const char *c = host; *c; c++) {
        h = (h ^ lower(*c)) * 16777619u; /* FNV-1a */
    }
    return &p->buckets[h % BUCKETS];
}

/* The query for r, new or under way. */
static query *get_query_locked(pool *p, const nl_resolve *r, bool *is_new)
{
    nl_list *bucket = bucket_of(p, r->family, r->host);
    for (nl_list *i = bucket->next; i != bucket; i = i->next) {
        query *q = nl_container_of(i, query, bucket);
        if (q->family == r->family && same_name(q->host, r->host)) {
            *is_new = false;
            return q;
        }
    }
    query *q = nl_calloc(sizeof(*q));
    q->family = r->family;
    memcpy(q->host, r->host, sizeof(q->host));
    nl_list_init(&q->node);
    nl_list_init(&q->requests);
    nl_list_push_back(bucket, &q->bucket);
    *is_new = true;
    return q;
}

static void free_query(query *q)
{
    nl_list_remove(&q->bucket);
    nl_free(q);
}

static query *pop_locked(lane *l)
{
    nl_list *node = l->queue.next;
    nl_list_remove(node);
    l->queued--;
    return nl_container_of(node, query, node);
}

static void help(void *arg);

/* Puts q into a lane's queue.  0, or -errno if the lane has no thread and can have none. */
static int enqueue_locked(pool *p, query *q, int to)
{
    lane *l = &p->lanes[to];
    int err = 0;
    if (l->queued >= l->idle && l->threads < threads_max[to]) {
        helper *h = &p->helpers[p->threads];
        h->pool = p;
        h->lane = to;
        err = nl_thread_start(&h->thread, "nl-resolver", help, h);
        p->threads += err == 0;
        l->threads += err == 0;
    }
    if (l->threads == 0) {
        return err;
    }
    q->lane = to;
    nl_list_push_back(&l->queue, &q->node);
    l->queued++;
    nl_cond_signal(l->work);
    return 0;
}

/* --- Answers ---------------------------------------------------------------------------------- */

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

/* Hands the outcome to all who wait for q, and frees it.  The lock is given up in between. */
static void answer_locked(pool *p, query *q, int n, const nl_addr *found)
{
    nl_list told;
    nl_list_init(&told);
    for (nl_list *i; (i = nl_list_pop_front(&q->requests));) {
        nl_resolve *r = nl_container_of(i, nl_resolve, node);
        nl_list_push_back(&told, i);
        r->query = NULL; /* too late for nl_resolver_cancel */
        r->count = n;
        for (int k = 0; k < n; k++) {
            r->addr[k] = found[k];
            nl_addr_set_port(&r->addr[k], r->port);
        }
    }
    free_query(q);
    nl_mutex_unlock(p->lock);
    for (nl_list *i; (i = nl_list_pop_front(&told));) {
        deliver(nl_container_of(i, nl_resolve, node));
    }
    nl_mutex_lock(p->lock);
}

static int look_up(int which, nl_addr *found, int family, const char *host)
{
    return which == LANE_HOSTS ? nl_addr_hosts_file(found, NL_RESOLVER_ADDRS, family, host, 0)
                               : nl_resolver_lookup(found, NL_RESOLVER_ADDRS, family, host, 0);
}

static void help(void *arg)
{
    helper *h = arg;
    pool *p = h->pool;
    lane *l = &p->lanes[h->lane];
    nl_addr found[NL_RESOLVER_ADDRS];
    char host[sizeof(((query *)0)->host)];
    nl_mutex_lock(p->lock);
    for (;;) {
        while (nl_list_empty(&l->queue) && !p->stop) {
            l->idle++;
            nl_cond_wait(l->work, p->lock, -1);
            l->idle--;
        }
        if (p->stop) {
            break;
        }
        query *q = h->now = pop_locked(l);
        int family = q->family;
        memcpy(host, q->host, sizeof(host));
        nl_mutex_unlock(p->lock);

        int n = look_up(h->lane, found, family, host);

        nl_mutex_lock(p->lock);
        if (!h->now) { /* left behind, see nl_resolver_fini: nothing but p exists any more */
            h->ended = true;
            nl_mutex_unlock(p->lock);
            return;
        }
        h->now = NULL;
        if (h->lane == LANE_HOSTS && n <= 0 && !nl_list_empty(&q->requests)) {
            n = enqueue_locked(p, q, LANE_SYSTEM);
            if (n == 0) {
                continue;
            }
        }
        answer_locked(p, q, n, found);
    }
    h->ended = true;
    nl_cond_signal(p->ended);
    nl_mutex_unlock(p->lock);
    nl_pool_thread_exit();
}

/* --- Requests --------------------------------------------------------------------------------- */

void nl_resolver_submit(nl_resolve *r)
{
    pool *p = get_pool();
    bool is_new;
    nl_mutex_lock(p->lock);
    query *q = get_query_locked(p, r, &is_new);
    r->query = q;
    nl_list_push_back(&q->requests, &r->node);
    int err = is_new ? enqueue_locked(p, q, LANE_HOSTS) : 0;
    if (err < 0) {
        answer_locked(p, q, err, NULL);
    }
    nl_mutex_unlock(p->lock);
}

bool nl_resolver_cancel(nl_resolve *r)
{
    pool *p = get_pool();
    nl_mutex_lock(p->lock);
    query *q = r->query;
    if (q) {
        nl_list_remove(&r->node);
        r->query = NULL;
        /* A query that a thread works for is that thread's to free. */
        if (nl_list_empty(&q->requests) && !nl_list_empty(&q->node)) {
            nl_list_remove(&q->node);
            p->lanes[q->lane].queued--;
            free_query(q);
        }
    }
    nl_mutex_unlock(p->lock);
    return q != NULL;
}

/* --- The end ---------------------------------------------------------------------------------- */

static pool *left_behind; /* only nl_resolver_fini touches it */

static void free_left_behind(void)
{
    for (pool **at = &left_behind, *p; (p = *at);) {
        nl_mutex_lock(p->lock);
        bool clean = join_ended_locked(p);
        nl_mutex_unlock(p->lock);
        if (clean) {
            *at = p->next;
            free_pool(p);
        } else {
            at = &p->next;
        }
    }
}

/* Takes every query away, also from the threads that work for them; their requests go to `left`. */
static void take_all_locked(pool *p, nl_list *left)
{
    for (int i = 0; i < p->threads; i++) {
        p->helpers[i].now = NULL;
    }
    for (int i = 0; i < BUCKETS; i++) {
        while (!nl_list_empty(&p->buckets[i])) {
            query *q = nl_container_of(p->buckets[i].next, query, bucket);
            for (nl_list *r; (r = nl_list_pop_front(&q->requests));) {
                nl_list_push_back(left, r);
            }
            free_query(q);
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
    nl_list left;
    nl_list_init(&left);
    nl_mutex_lock(p->lock);
    p->stop = true;
    for (int i = 0; i < LANES; i++) {
        nl_cond_broadcast(p->lanes[i].work);
    }
    int64_t until = nl_now_ns() + END_WAIT_NS, now;
    while (!join_ended_locked(p) && (now = nl_now_ns()) < until) {
        nl_cond_wait(p->ended, p->lock, until - now);
    }
    bool clean = join_ended_locked(p);
    take_all_locked(p, &left);
    nl_mutex_unlock(p->lock);
    for (nl_list *i; (i = nl_list_pop_front(&left));) {
        nl_resolve *r = nl_container_of(i, nl_resolve, node);
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

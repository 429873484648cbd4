/*
 * connect.c - the way to a connected socket; see connect.h.
 *
 *     start ──→ (resolver) ──→ attempt ──delay or failure──→ attempt with the next address … ──→
 *     done
 *
 * It begins in a turn of its own, so done is never called inside nl_connect_start.  A cancel may
 * cut in anywhere, while our message or the resolver's is still on its way.  So the memory has two
 * holders, the owner and the message; the resolver may drop its one on a thread of its own.
 */
#include "net/connect.h"

#include "base/alloc.h"
#include "net/resolver.h"

#include <string.h>

/* Between two looks at a Unix socket's backlog. */
#define PAUSE_MIN_NS ((int64_t)1000000)
#define PAUSE_MAX_NS ((int64_t)50000000)

typedef struct lookup {
    nl_resolve r; /* first; has the message first */
    nl_connect *c;
} lookup;

struct nl_connect {
    nl_ctx *owner;
    nl_connect_to to; /* host is not kept; done NULL: nobody waits any more */
    nl_msg msg;       /* begins it, if no name has to be resolved */
    lookup *lookup;   /* the name, or NULL */
    bool resolving;
    const nl_addr *addr; /* one, or lookup's */
    int count, next;     /* addresses; the one to try next */
    int under_way;       /* attempts that have no outcome yet */
    int err;             /* of the last attempt that failed, positive */
    int64_t pause;       /* before the next look at a full backlog */
    atomic_uint refs;
    nl_addr one;
    nl_tcp *attempts[NL_RESOLVER_ADDRS]; /* by address; NULL: none under way */
};

/* --- Memory ----------------------------------------------------------------------------------- */

static void unref(nl_connect *c)
{
    /* acq_rel: whatever the other holder did with it comes before the free. */
    if (atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1) {
        nl_free(c->lookup);
        nl_free(c);
    }
}

/* Before a message that leads to c is handed on. */
static void ref(nl_connect *c)
{
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
}

/* --- The end ---------------------------------------------------------------------------------- */

static void close_attempt(nl_connect *c, int i)
{
    nl_tcp *s = c->attempts[i];
    c->attempts[i] = NULL;
    c->under_way--;
    nl_tcp_set_user(s, NULL);
    nl_tcp_close(s);
}

/* Nobody waits any more. */
static void stop(nl_connect *c)
{
    c->to.done = NULL;
    nl_ctx_timer_remove(c->owner, c->to.timer);
    for (int i = 0; c->under_way > 0; i++) {
        if (c->attempts[i]) {
            close_attempt(c, i);
        }
    }
    if (c->resolving && nl_resolver_cancel(&c->lookup->r)) {
        unref(c); /* for the message, which will not come */
    }
}

void nl_connect_cancel(nl_connect *c)
{
    stop(c);
    unref(c);
}

static void finish(nl_connect *c, nl_tcp *s, int err)
{
    nl_connect_to to = c->to;
    nl_ctx *owner = c->owner;
    stop(c);
    unref(c);
    if (s) {
        nl_tcp_set_user(s, NULL);
        nl_tcp_set_ops(s, to.ops);
    }
    to.done(owner, to.user, s, err);
}

/* --- Attempts --------------------------------------------------------------------------------- */

static void attempt_ready(nl_ctx *owner, nl_tcp *s);
static const nl_tcp_ops attempt_ops = NL_TCP_OPS(attempt_ready);

static void wait_for(nl_connect *c, int64_t ns)
{
    nl_ctx_timer_add(c->owner, c->to.timer, nl_now_ns() + ns);
}

/* Begins the next attempt; ends with an outcome, with attempts under way, or with the timer set. */
static void begin_next(nl_connect *c)
{
    nl_ctx_timer_remove(c->owner, c->to.timer);
    while (c->next < c->count) {
        nl_tcp *s;
        int i = c->next;
        int err = nl_tcp_connect(&s, c->owner, &attempt_ops, &c->addr[i]);
        if (err == 0) {
            finish(c, s, 0);
            return;
        }
        if (err == NL_AGAIN && c->to.family == 1) { /* its backlog is full */
            c->pause = c->pause * 2 < PAUSE_MAX_NS ? c->pause * 2 : PAUSE_MAX_NS;
            wait_for(c, c->pause);
            return;
        }
        c->next++;
        if (err == -EINPROGRESS) {
            nl_tcp_set_user(s, c);
            c->attempts[i] = s;
            c->under_way++;
            if (c->next < c->count) {
                wait_for(c, NL_CONNECT_DELAY_NS);
            }
            return;
        }
        c->err = -err;
    }
    if (c->under_way == 0) {
        finish(c, NULL, c->err);
    }
}

void nl_connect_due(nl_connect *c)
{
    begin_next(c);
}

static void attempt_ready(nl_ctx *owner, nl_tcp *s)
{
    nl_connect *c = nl_tcp_user(s);
    int i = 0, err = nl_tcp_connect_result(s);
    (void)owner;
    if (err == -EINPROGRESS) {
        return;
    }
    while (c->attempts[i] != s) {
        i++;
    }
    if (err) {
        c->err = -err;
        close_attempt(c, i);
        begin_next(c);
    } else {
        c->attempts[i] = NULL;
        c->under_way--;
        finish(c, s, 0);
    }
}

/* --- The beginning ---------------------------------------------------------------------------- */

static void resolved(nl_ctx *owner, nl_msg *m)
{
    lookup *k = (lookup *)m;
    nl_connect *c = k->c;
    (void)owner;
    c->resolving = false;
    if (c->to.done) {
        c->addr = k->r.addr;
        c->count = k->r.count > 0 ? k->r.count : 0;
        c->err = k->r.count < 0 ? -k->r.count : NL_EHOST;
        begin_next(c);
    }
    unref(c);
}

static void resolved_drop(nl_msg *m)
{
    unref(((lookup *)m)->c);
}

static const nl_msg_ops resolved_ops = {resolved, resolved_drop};

static void begin(nl_ctx *owner, nl_msg *m)
{
    nl_connect *c = nl_container_of(m, nl_connect, msg);
    (void)owner;
    if (c->to.done) {
        begin_next(c);
    }
    unref(c);
}

static void begin_drop(nl_msg *m)
{
    unref(nl_container_of(m, nl_connect, msg));
}

static const nl_msg_ops begin_ops = {begin, begin_drop};

/* The address, or a look-up to be made.  0, or why there is no use in trying. */
static int set_host(nl_connect *c)
{
    const nl_connect_to *to = &c->to;
    if (to->family == 1) {
        c->count = 1;
        return nl_addr_unix(&c->one, to->host);
    }
    c->count = nl_addr_known(&c->one, to->family, to->host, to->port);
    if (c->count != 0) {
        return c->count < 0 ? c->count : 0;
    }
    size_t len = strlen(to->host);
    if (len == 0) {
        return -NL_EHOST;
    }
    if (len >= sizeof(c->lookup->r.host)) {
        return -ENAMETOOLONG;
    }
    lookup *k = c->lookup = nl_calloc(sizeof(*k));
    k->r.msg.ops = &resolved_ops;
    k->r.ctx = c->owner->slot.id;
    k->r.family = to->family;
    k->r.port = to->port;
    memcpy(k->r.host, to->host, len + 1);
    k->c = c;
    return 0;
}

int nl_connect_start(nl_connect **out, nl_ctx *owner, const nl_connect_to *to)
{
    nl_connect *c = nl_calloc(sizeof(*c));
    *out = NULL;
    c->owner = owner;
    c->to = *to;
    c->msg.ops = &begin_ops;
    c->addr = &c->one;
    c->pause = PAUSE_MIN_NS / 2;
    atomic_init(&c->refs, 1);
    int err = set_host(c);
    c->to.host = NULL;
    if (err) {
        unref(c);
        return err;
    }
    ref(c);
    c->resolving = c->lookup != NULL;
    if (c->resolving) {
        nl_resolver_submit(&c->lookup->r);
    } else {
        nl_ctx_post(owner, &c->msg);
    }
    *out = c;
    return 0;
}

/* deadlines.c - see tcp_impl.h */
#include "net/tcp_impl.h"

static nl_tcp *first_of(nl_deadlines *d)
{
    return nl_list_empty(&d->list) ? NULL : nl_container_of(d->list.next, nl_tcp, u.due.node);
}

static int64_t deadline(const nl_deadlines *d, const nl_tcp *s)
{
    int64_t since = s->u.due.since, at = since + d->span;
    if (d->hurried) {
        int64_t hurried = (since > d->hurried ? since : d->hurried) + d->hurried_span;
        return at < hurried ? at : hurried;
    }
    return at;
}

static void arm(nl_deadlines *d)
{
    nl_tcp *s = first_of(d);
    if (s && !d->armed) {
        d->armed = true;
        nl_wtimer_arm(&d->timer, deadline(d, s));
    }
}

static void take_out(nl_deadlines *d, nl_tcp *s)
{
    if (!nl_list_empty(&s->u.due.node)) {
        nl_list_remove(&s->u.due.node);
        d->count--;
    }
}

static void push(nl_deadlines *d, nl_tcp *s)
{
    s->u.due.since = nl_now_ns();
    nl_list_push_back(&d->list, &s->u.due.node);
    d->count++;
}

/* With the lock, which is given up meanwhile. */
static void expire(nl_deadlines *d, nl_tcp *s)
{
    take_out(d, s);
    /*
     * Closing takes s out of the list before it gives its share up, so there is a share to add to.
     */
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    nl_mutex_unlock(d->lock);
    d->expired(s);
    nl_tcp_unref(s);
    nl_mutex_lock(d->lock);
}

void nl_deadlines_serve(nl_deadlines *d)
{
    int64_t now = nl_now_ns();
    nl_mutex_lock(d->lock);
    for (nl_tcp *s; (s = first_of(d)) && deadline(d, s) <= now;) {
        expire(d, s);
    }
    arm(d);
    nl_mutex_unlock(d->lock);
}

static void fired(nl_wtimer *t)
{
    nl_deadlines *d = nl_container_of(t, nl_deadlines, timer);
    nl_mutex_lock(d->lock);
    d->armed = false;
    nl_mutex_unlock(d->lock);
    nl_deadlines_serve(d);
}

void nl_deadlines_add(nl_deadlines *d, nl_tcp *s)
{
    nl_mutex_lock(d->lock);
    take_out(d, s);
    push(d, s);
    arm(d);
    if (d->count > d->max) {
        expire(d, first_of(d));
    }
    nl_mutex_unlock(d->lock);
}

void nl_deadlines_renew(nl_deadlines *d, nl_tcp *s)
{
    nl_mutex_lock(d->lock);
    if (!nl_list_empty(&s->u.due.node) && !d->hurried) {
        take_out(d, s);
        push(d, s);
    }
    nl_mutex_unlock(d->lock);
}

void nl_deadlines_remove(nl_deadlines *d, nl_tcp *s)
{
    nl_mutex_lock(d->lock);
    take_out(d, s);
    nl_mutex_unlock(d->lock);
}

bool nl_deadlines_expire_first(nl_deadlines *d)
{
    nl_mutex_lock(d->lock);
    nl_tcp *s = first_of(d);
    if (s) {
        expire(d, s);
    }
    nl_mutex_unlock(d->lock);
    return s;
}

void nl_deadlines_hurry(nl_deadlines *d, int64_t span)
{
    nl_mutex_lock(d->lock);
    if (!d->hurried) {
        d->hurried = nl_now_ns();
        d->hurried_span = span;
    }
    nl_mutex_unlock(d->lock);
}

void nl_deadlines_init(nl_deadlines *d, int64_t span, unsigned max, void (*expired)(nl_tcp *s))
{
    *d = (nl_deadlines){.lock = nl_mutex_new(), .max = max, .span = span, .expired = expired};
    nl_list_init(&d->list);
    nl_wtimer_init(&d->timer, fired);
}

void nl_deadlines_fini(nl_deadlines *d)
{
    nl_mutex_free(d->lock);
}

/* out.c - see out.h */
#include "net/out.h"

#include "sched/ctx.h"

void nl_out_init(nl_out *o)
{
    *o = (nl_out){.lock = NL_SPIN_INIT};
}

void nl_out_request_locked(nl_out *o, nl_wreq *r, int err)
{
    uint64_t behind = o->last_request ? o->last_request->pos : o->chain.taken;
    r->pos = err ? behind : o->chain.added;
    r->err = err;
    if (o->last_request) {
        r->next = o->last_request->next;
        o->last_request->next = r;
    } else {
        r->next = r;
    }
    o->last_request = r;
}

/* The requests that are ripe: all bytes before them were taken. Out of the ring: a list. */
static nl_wreq *take_ripe(nl_out *o)
{
    nl_wreq *end = o->last_request;
    uint64_t taken = o->chain.taken;
    if (!end || end->next->pos > taken) {
        return NULL;
    }
    nl_wreq *first = end->next, *last = first;
    while (last != end && last->next->pos <= taken) {
        last = last->next;
    }
    if (last == end) {
        o->last_request = NULL;
    } else {
        end->next = last->next;
    }
    last->next = NULL;
    return first;
}

static void post(nl_wreq *list)
{
    while (list) {
        nl_wreq *r = list;
        list = r->next;
        nl_ctx *c = nl_ctx_find(r->ctx);
        if (c) {
            nl_ctx_post(c, &r->msg);
        } else {
            r->msg.ops->drop(&r->msg);
        }
    }
}

void nl_out_post_ripe_locked(nl_out *o)
{
    nl_wreq *ripe;
    while (!o->posting && (ripe = take_ripe(o))) {
        o->posting = true;
        nl_spin_unlock(&o->lock);
        post(ripe);
        nl_spin_lock(&o->lock);
        o->posting = false;
    }
}

void nl_out_drop_locked(nl_out *o, int err, nl_segment **done)
{
    nl_wreq *r = o->last_request;
    if (r) {
        do {
            r = r->next;
            r->err = r->err || r->pos <= o->chain.taken ? r->err : err;
        } while (r != o->last_request);
    }
    o->lost |= nl_chain_queued(&o->chain) > 0;
    nl_chain_clear(&o->chain, done);
}

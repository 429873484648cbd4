/* recv.c - context.recv and delivery; see inbox.h */
#include "base/alloc.h"
#include "lua/msg/inbox.h"

/* --- handing a message out -------------------------------------------------------------------- */

/* What stands on top, extra values, goes behind the first of the n values in front of it. */
static void behind_first(lua_State *L, int n, int extra)
{
    int at = lua_gettop(L) - extra - n + 2;
    for (int i = 0; i < extra; i++) {
        lua_insert(L, at);
    }
}

/* A callback's wait: key is the handle of its call, key2 whether it was given as a name. */
#define HANDLE                                                                                               \
    2 /* where such a name stands until the message is unpacked, which may take the callback away */

/*
 * true, data, sender, session, data2… for a coroutine; a callback gets the handle of its call, as
 * it was given, behind the session.
 */
static inline int push_message(lua_State *L, nl_lctx *lc, nl_packet *m, nl_wait *callback)
{
    nl_lua_pushboolean(L, 1);
    int n = nl_packet_open(lc->inbox, L, m), extra = 2;
    nl_lua_pushnumber(L, (lua_Number)m->from);
    nl_lua_pushnumber(L, (lua_Number)m->session);
    nl_packet_used(lc->inbox, m);
    if (callback) {
        if (nl_unlikely(callback->key2)) {
            nl_lua_pushvalue(L, HANDLE);
        } else {
            nl_lua_pushnumber(L, (lua_Number)callback->key);
        }
        extra = 3;
    }
    if (nl_unlikely(n > 1)) {
        behind_first(L, n, extra);
    }
    return 1 + n + extra;
}

static void hand_to_coroutine(nl_lctx *lc, nl_wait *w, nl_packet *m)
{
    lua_State *L = nl_wait_begin(lc, w);
    nl_wait_end(lc, w, push_message(L, lc, m, NULL));
}

static inline void hand_out(nl_lctx *lc, nl_wait *w, nl_packet *m)
{
    if (w->co) {
        hand_to_coroutine(lc, w, m);
        return;
    }
    /* A callback stands in no queue and has no time-out, and it stays armed. */
    nl_co *co = nl_co_get(lc);
    nl_ref_push(lc, co->L, w->fn);
    bool named = w->key2;
    if (nl_unlikely(named)) {
        nl_ref_push(lc, co->L, w->fn + 1);
    }
    /*
     * Unpacking may run a finalizer of the script, and that may take the callback away: its memory
     * stays until here.
     */
    w->posted = true;
    int n = push_message(co->L, lc, m, w);
    w->posted = false;
    if (nl_unlikely(named)) {
        lua_remove(co->L, HANDLE);
    }
    if (nl_unlikely(w->freed)) {
        nl_list_remove(&w->all);
        nl_pool_free(w, sizeof *w);
    }
    nl_co_run(co, n);
}

/*
 * Who gets a message from that sender: a coroutine in recv(from), its callback, the same of
 * recv(0).
 */
static inline nl_wait *receiver_of(nl_inbox *inbox, uint64_t from)
{
    if (nl_unlikely(inbox->nfrom)) {
        nl_peer *p = nl_peer_find(inbox, from);
        if (p && !nl_list_empty(&p->receivers)) {
            return nl_container_of(p->receivers.next, nl_wait, node);
        }
        if (p && p->callback) {
            return p->callback;
        }
    }
    if (!nl_list_empty(&inbox->any.receivers)) {
        return nl_container_of(inbox->any.receivers.next, nl_wait, node);
    }
    return inbox->any.callback;
}

static inline void left_queue(nl_inbox *inbox, nl_wait *w)
{
    if (w->co && w->owner != &inbox->any) {
        inbox->nfrom--;
    }
}

void nl_deliver(nl_lctx *lc, nl_packet *m)
{
    nl_inbox *inbox = lc->inbox;
    /* It does not overtake those that are just being handed out. */
    nl_wait *w = nl_unlikely(inbox->draining) ? NULL : receiver_of(inbox, m->from);
    if (nl_likely(w != NULL)) {
        left_queue(inbox, w);
        hand_out(lc, w, m);
        return;
    }
    nl_pending_add(&inbox->pending, m);
    if (nl_unlikely(inbox->draining) && !inbox->pending.drain_next) {
        inbox->pending.drain_next = m;
    }
}

/*
 * A callback was set: gives it what is pending, message by message, before the mailbox goes on.  In
 * front of drain_next stands nothing that anybody receives: a coroutine takes what there is before
 * it waits, and a new callback begins at the front.
 */
static void drain_run(nl_ctx *c, nl_msg *msg)
{
    (void)msg;
    nl_lctx *lc = (nl_lctx *)c;
    nl_inbox *inbox = lc->inbox;
    for (nl_packet *m; (m = inbox->pending.drain_next); inbox->pending.drain_next = nl_packet_next(m)) {
        nl_wait *w = receiver_of(inbox, m->from);
        if (w) {
            nl_pending_cut(&inbox->pending, m);
            nl_ctx_defer(c, &inbox->drain);
            left_queue(inbox, w);
            hand_out(lc, w, m);
            return;
        }
    }
    inbox->draining = false;
}

static void drain_drop(nl_msg *m)
{
    (void)m;
}

static const nl_msg_ops drain_ops = {drain_run, drain_drop};

static void drain_later(nl_lctx *lc)
{
    nl_inbox *inbox = lc->inbox;
    inbox->pending.drain_next = inbox->pending.all.first;
    if (inbox->pending.all.first && !inbox->draining) {
        inbox->draining = true;
        inbox->drain.ops = &drain_ops;
        nl_ctx_defer(&lc->ctx, &inbox->drain);
    }
}

/* --- recv(h): coroutines ---------------------------------------------------------------------- */

static void recv_timeout(nl_lctx *lc, nl_wait *w)
{
    left_queue(lc->inbox, w);
}

/*
 * A coroutine that always finds messages never suspends; when its share is used up it gets the
 * message in a later turn.
 */
static void reserved_run(nl_ctx *c, nl_msg *msg)
{
    nl_lctx *lc = (nl_lctx *)c;
    nl_wait *w = nl_container_of(msg, nl_wait, later);
    nl_packet *m = w->owner;
    w->posted = false;
    nl_packets_cut(&lc->inbox->reserved, m);
    hand_out(lc, w, m);
}

static const nl_msg_ops reserved_ops = {reserved_run, drain_drop};

static int reserve(lua_State *L, nl_lctx *lc, nl_packet *m)
{
    nl_wait *w = nl_block_wait(L, NL_WAIT_RECV);
    nl_packets_add(&lc->inbox->reserved, m);
    w->owner = m;
    w->posted = true;
    w->later.ops = &reserved_ops;
    nl_ctx_defer(&lc->ctx, &w->later); /* the share is used up, so that is in the next dispatch */
    return nl_park(L);
}

static int recv_blocking(lua_State *L, nl_lctx *lc, uint64_t from, double timeout)
{
    nl_inbox *inbox = lc->inbox;
    nl_packet *m = nl_pending_take(&inbox->pending, from);
    if (m) {
        if (nl_ctx_should_yield(&lc->ctx)) {
            return reserve(L, lc, m);
        }
        nl_ctx_charge(&lc->ctx, 1, 0);
        return push_message(L, lc, m, NULL);
    }
    nl_wait *w = nl_block_wait(L, NL_WAIT_RECV);
    nl_peer *p = &inbox->any;
    if (from) {
        p = nl_peer_get(inbox, from);
        nl_peer_watch(lc, p);
        inbox->nfrom++;
    }
    nl_list_push_back(&p->receivers, &w->node);
    w->owner = p;
    w->timeout = recv_timeout;
    if (timeout >= 0) {
        nl_wait_arm(lc, w, timeout);
    }
    return nl_park(L);
}

/* --- recv(h): callbacks ----------------------------------------------------------------------- */

/* False: none was armed. */
static bool remove_callback(nl_lctx *lc, nl_peer *p)
{
    if (!p || !p->callback) {
        return false;
    }
    nl_wait_free(lc, p->callback);
    p->callback = NULL;
    lc->inbox->nfrom -= p != &lc->inbox->any;
    return true;
}

/* Where the callback for the handle at index 1 stands (zero: for anybody), or NULL. */
static nl_peer *peer_at(lua_State *L, nl_lctx *lc, bool zero)
{
    uint64_t from;
    if (zero) {
        return &lc->inbox->any;
    }
    return nl_check_handle(L, 1, &from) == 0 ? nl_peer_find(lc->inbox, from) : NULL;
}

static int recv_callback(lua_State *L, nl_lctx *lc, uint64_t from)
{
    nl_inbox *inbox = lc->inbox;
    nl_wait *w = nl_wait_callback(L, NL_WAIT_RECV, 2, 1, 1);
    w->continuous = true;
    w->key = from;
    w->key2 = lua_type(L, 1) == LUA_TSTRING;
    nl_peer *p = from ? nl_peer_get(inbox, from) : &inbox->any;
    remove_callback(lc, p);
    p->callback = w;
    w->owner = p;
    if (from) {
        inbox->nfrom++;
        nl_peer_watch(lc, p);
    }
    drain_later(lc);
    lua_pushboolean(L, 1);
    return 1;
}

/* (handle), (handle, timeout), (handle, callback), (handle, nil), (handle, false) */
int nl_context_recv(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    bool zero = lua_type(L, 1) == LUA_TNUMBER && lua_tonumber(L, 1) == 0;
    uint64_t from = 0;
    double timeout = -1;
    switch (lua_type(L, 2)) {
    case LUA_TNONE:
        break;
    case LUA_TNIL:
        if (remove_callback(lc, peer_at(L, lc, zero))) {
            lua_pushboolean(L, 1);
            return 1;
        }
        break; /* so that recv(h, options.timeout) means what it says */
    case LUA_TBOOLEAN:
        luaL_argcheck(L, !lua_toboolean(L, 2), 2, "seconds, a function, nil or false expected");
        remove_callback(lc, peer_at(L, lc, zero));
        lua_pushboolean(L, 1);
        return 1;
    case LUA_TFUNCTION:
        if (!zero) {
            int err = nl_check_handle(L, 1, &from);
            if (err) {
                nl_wait_later(lc, nl_wait_callback(L, NL_WAIT_RECV, 2, 1, 1), err);
                lua_pushboolean(L, 1);
                return 1;
            }
        }
        return recv_callback(L, lc, from);
    default:
        timeout = nl_check_seconds(L, 2);
        luaL_argcheck(L, lua_isnoneornil(L, 3), 3, "a call with a time-out takes no callback");
        break;
    }
    int err = zero ? 0 : nl_check_handle(L, 1, &from);
    nl_block_check(L);
    return err ? nl_push_err(L, err) : recv_blocking(L, lc, from, timeout);
}

/* send.c - context.send, query, timed_query, reply; see inbox.h */
#include <string.h>

#include "base/alloc.h"
#include "lua/msg/inbox.h"
#include "lua/run/co.h"

/* A query's wait keeps its session in key and in key2 whether the caller wants one value only. */

void nl_session_free(nl_inbox *inbox, nl_wait *w)
{
    nl_handles_remove(&inbox->sessions, w->key);
}

/* --- messages on their way -------------------------------------------------------------------- */

static void send_run(nl_ctx *c, nl_msg *m)
{
    nl_deliver((nl_lctx *)c, (nl_packet *)m);
}

static void send_drop(nl_msg *m)
{
    nl_packet_free((nl_packet *)m);
}

/* The sender's first query to us: it is to be told of our end. */
static void first_query_run(nl_ctx *c, nl_msg *m)
{
    nl_watcher_add((nl_lctx *)c, ((nl_packet *)m)->from);
    send_run(c, m);
}

static void query_drop(nl_msg *m)
{
    nl_packet_refuse((nl_packet *)m);
}

static void reply_run(nl_ctx *c, nl_msg *m)
{
    nl_lctx *lc = (nl_lctx *)c;
    nl_packet *packet = (nl_packet *)m;
    nl_wait *w = nl_handles_get(&lc->inbox->sessions, (uint64_t)packet->session);
    if (nl_unlikely(!w)) {
        nl_packet_used(lc->inbox, packet); /* too late */
        return;
    }
    nl_session_free(lc->inbox, w);
    lua_State *L = nl_wait_begin(lc, w);
    nl_lua_pushboolean(L, 1);
    int n = nl_packet_open(lc->inbox, L, packet);
    nl_packet_used(lc->inbox, packet);
    if (w->key2 && nl_unlikely(n > 1)) { /* context.query: one value */
        lua_pop(L, n - 1);
        n = 1;
    }
    nl_wait_end(lc, w, n + 1);
}

static void no_reply_run(nl_ctx *c, nl_msg *m)
{
    nl_lctx *lc = (nl_lctx *)c;
    nl_packet *packet = (nl_packet *)m;
    nl_wait *w = nl_handles_get(&lc->inbox->sessions, (uint64_t)packet->session);
    nl_packet_used(lc->inbox, packet);
    if (w) {
        nl_session_free(lc->inbox, w);
        nl_wait_fail(lc, w, NL_ENOREPLY);
    }
}

static const nl_msg_ops send_ops = {send_run, send_drop};
static const nl_msg_ops query_ops = {send_run, query_drop};
static const nl_msg_ops first_query_ops = {first_query_run, query_drop};
static const nl_msg_ops reply_ops = {reply_run, send_drop};
static const nl_msg_ops no_reply_ops = {no_reply_run, send_drop};

void nl_packet_refuse(nl_packet *m)
{
    if (m->session >= 0) {
        m->msg.ops = &no_reply_ops;
        if (nl_ctx_send(m->from, &m->msg) == 0) {
            return;
        }
    }
    nl_packet_free(m);
}

/* Packs the values first..last of the stack; the spare message is used if it has room. */
static inline nl_packet *pack(lua_State *L, nl_lctx *lc, int first, int last)
{
    nl_inbox *inbox = lc->inbox;
    nl_packet *m = nl_packet_pack(L, first, last, first, &inbox->spare);
    m->from = lc->ctx.slot.id;
    return m;
}

/* --- crowded receivers ------------------------------------------------------------------------ */

/*
 * A sender that is faster than its receiver would only make the mailbox longer: the messages leave
 * the cache and take fresh memory.  So now and then it looks, and where more wait than CROWD, other
 * contexts, the receiver among them, get a turn; the next look comes after half as many sends.
 * Nobody waits for anybody: the sender is run again in its turn, however long the mailbox still is,
 * and nothing else of its context runs in between.
 */
#define CROWD 1000
#define SHARE_MAX 64
#define SHARE_MIN 16

static int look_at_receiver(lua_State *L, nl_lctx *lc, uint64_t to)
{
    nl_inbox *inbox = lc->inbox;
    nl_ctx *c = nl_ctx_find(to);
    bool crowded = c && c != &lc->ctx && nl_ctx_mailbox_len(c) > CROWD;
    inbox->share = !crowded ? SHARE_MAX : inbox->share > SHARE_MIN ? inbox->share / 2 : SHARE_MIN;
    inbox->share_left = inbox->share;
    if (crowded && !lc->in_fanout && nl_may_block(lc, L) && !nl_ctx_let_catch_up(&lc->ctx, c, CROWD)) {
        return nl_wait_give_way(L, lc);
    }
    nl_lua_pushboolean(L, 1);
    return 1;
}

/* --- send and reply --------------------------------------------------------------------------- */

int nl_context_send(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    uint64_t to;
    int err = nl_handle_arg(L, 1, &to), top = nl_lua_gettop(L);
    if (nl_unlikely(top < 2)) {
        luaL_checkany(L, 2);
    }
    nl_packet *m = pack(L, lc, 2, top);
    m->session = -1;
    m->msg.ops = &send_ops;
    if (nl_unlikely(err || (err = -nl_ctx_send(to, &m->msg)))) {
        nl_packet_used(lc->inbox, m);
        return nl_push_err(L, err);
    }
    if (nl_unlikely(--lc->inbox->share_left < 0)) {
        return look_at_receiver(L, lc, to);
    }
    nl_lua_pushboolean(L, 1);
    return 1;
}

int nl_context_reply(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    uint64_t to;
    int err = nl_handle_arg(L, 1, &to), top = nl_lua_gettop(L);
    lua_Number session = nl_lua_tonumber(L, 2);
    if (nl_unlikely(top < 3 || (session == 0 && nl_lua_type(L, 2) != LUA_TNUMBER))) {
        session = luaL_checknumber(L, 2);
        luaL_checkany(L, 3);
    }
    nl_packet *m = pack(L, lc, 3, top);
    m->session = session >= 0 && session < 9007199254740992.0 ? (int64_t)session : -1;
    m->msg.ops = &reply_ops;
    if (nl_unlikely(m->session < 0)) {
        err = EINVAL; /* a plain send wants no reply */
    }
    if (nl_unlikely(err || (err = -nl_ctx_send(to, &m->msg)))) {
        nl_packet_used(lc->inbox, m);
        return nl_push_err(L, err);
    }
    nl_lua_pushboolean(L, 1);
    return 1;
}

/* --- query ------------------------------------------------------------------------------------ */

static void query_timeout(nl_lctx *lc, nl_wait *w)
{
    nl_session_free(lc->inbox, w);
}

/*
 * Sends m as a query and hooks the wait for its reply.  0, or the error that has to be delivered.
 */
static int query_send(nl_lctx *lc, uint64_t to, nl_packet *m, nl_wait *w, bool one)
{
    nl_inbox *inbox = lc->inbox;
    nl_peer *p = nl_peer_find(inbox, to);
    if (nl_unlikely(nl_handles_full(&inbox->sessions))) {
        nl_packet_used(inbox, m);
        return ENOMEM; /* 16 million queries are pending */
    }
    w->key = nl_handles_add(&inbox->sessions, w);
    m->session = (int64_t)w->key;
    m->msg.ops = nl_likely(p && p->watching) || to == m->from ? &query_ops : &first_query_ops;
    int err = -nl_ctx_send(to, &m->msg);
    if (nl_unlikely(err)) {
        nl_session_free(inbox, w);
        nl_packet_used(inbox, m);
        return err;
    }
    p = nl_likely(p != NULL) ? p : nl_peer_get(inbox, to);
    p->watching = true;
    w->key2 = one;
    w->timeout = query_timeout;
    nl_list_push_back(&p->queries, &w->node);
    return 0;
}

/* Queries with the values first..last and parks the running coroutine; timeout < 0: none. */
static int query_blocking(lua_State *L, nl_lctx *lc, int first, int last, double timeout, bool one)
{
    if (nl_unlikely(!nl_may_block(lc, L))) {
        nl_block_check(L);
    }
    uint64_t to;
    int err = nl_handle_arg(L, 1, &to);
    nl_packet *m = pack(L, lc, first, last);
    if (nl_unlikely(err)) {
        nl_packet_used(lc->inbox, m);
        return nl_push_err(L, err);
    }
    nl_wait *w = nl_block_wait_of(lc, NL_WAIT_QUERY);
    err = query_send(lc, to, m, w, one);
    if (nl_unlikely(err)) {
        return nl_push_err(L, err);
    }
    if (nl_unlikely(timeout >= 0)) {
        nl_wait_arm(lc, w, timeout);
    }
    return nl_park_of(lc, L);
}

/* The same with the callback at index fn, which gets nargs of the call's arguments back. */
static int query_callback(lua_State *L, nl_lctx *lc, int first, int last, double timeout, int fn, int nargs)
{
    uint64_t to;
    int err = nl_handle_arg(L, 1, &to);
    nl_packet *m = pack(L, lc, first, last);
    lc->inbox->spare = m; /* not lost if the next line raises */
    nl_wait *w = nl_wait_callback(L, NL_WAIT_QUERY, fn, 1, nargs);
    lc->inbox->spare = NULL;
    if (nl_unlikely(err)) {
        nl_packet_used(lc->inbox, m);
    } else {
        err = query_send(lc, to, m, w, nargs > 0);
    }
    if (nl_unlikely(err)) {
        nl_wait_later(lc, w, err);
    } else if (timeout >= 0) {
        nl_wait_arm(lc, w, timeout);
    }
    nl_lua_pushboolean(L, 1);
    return 1;
}

/* (handle, data[, timeout[, callback]]), the time-out may be left out */
int nl_context_query(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    if (nl_likely(nl_lua_gettop(L) == 2)) {
        return query_blocking(L, lc, 2, 2, -1, true);
    }
    luaL_checkany(L, 2);
    if (lua_isfunction(L, 3) && lua_isnoneornil(L, 4)) {
        lua_settop(L, 3);
        lua_pushnil(L);
        lua_insert(L, 3);
    }
    double timeout = nl_opt_seconds(L, 3);
    if (lua_isnoneornil(L, 4)) {
        return query_blocking(L, lc, 2, 2, timeout, true);
    }
    luaL_checktype(L, 4, LUA_TFUNCTION);
    return query_callback(L, lc, 2, 2, timeout, 4, 3);
}

/* (handle, timeout, data1[, data2…][, callback]) */
int nl_context_timed_query(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    double timeout = nl_opt_seconds(L, 2);
    luaL_checkany(L, 3);
    int top = nl_lua_gettop(L);
    if (!lua_isfunction(L, top)) {
        return query_blocking(L, lc, 3, top, timeout, false);
    }
    luaL_argcheck(L, top != 3, 3, "value expected in front of the callback");
    return query_callback(L, lc, 3, top - 1, timeout, top, 0);
}

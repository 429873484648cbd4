/* peer.c - other contexts and their ends, and one's own end; see inbox.h */
#include <string.h>

#include "base/alloc.h"
#include "lua/msg/inbox.h"
#include "sched/names.h"

int nl_check_handle(lua_State *L, int arg, uint64_t *handle)
{
    if (nl_likely(lua_type(L, arg) == LUA_TNUMBER)) {
        lua_Number n = lua_tonumber(L, arg);
        *handle = nl_likely(n >= 1 && n < 9007199254740992.0) ? (uint64_t)n : 0;
        return nl_likely(*handle && (lua_Number)*handle == n) ? 0 : NL_ENOCONTEXT;
    }
    if (lua_type(L, arg) == LUA_TSTRING) {
        size_t len;
        const char *name = lua_tolstring(L, arg, &len);
        *handle = nl_name_lookup(name, len);
        return *handle ? 0 : NL_ENOCONTEXT;
    }
    *handle = 0;
    luaL_typerror(L, arg, "handle or name");
    return 0;
}

/* --- the table -------------------------------------------------------------------------------- */

static inline uint32_t bucket_of(const nl_inbox *inbox, uint64_t handle)
{
    return (uint32_t)(handle * 0x9e3779b97f4a7c15u >> 40) & (inbox->nbuckets - 1);
}

nl_peer *nl_peer_find(nl_inbox *inbox, uint64_t handle)
{
    if (nl_likely(inbox->last && inbox->last->handle == handle)) {
        return inbox->last;
    }
    if (!inbox->nbuckets) {
        return NULL;
    }
    nl_peer *p = inbox->buckets[bucket_of(inbox, handle)];
    while (p && p->handle != handle) {
        p = p->next;
    }
    inbox->last = p ? p : inbox->last;
    return p;
}

static void grow(nl_inbox *inbox)
{
    uint32_t n = inbox->nbuckets;
    nl_peer **old = inbox->buckets;
    inbox->nbuckets = n ? 4 * n : 4;
    inbox->buckets = nl_calloc(inbox->nbuckets * sizeof(void *));
    for (uint32_t i = 0; i < n; i++) {
        for (nl_peer *p = old[i], *next; p; p = next) {
            next = p->next;
            nl_peer **b = &inbox->buckets[bucket_of(inbox, p->handle)];
            p->next = *b;
            *b = p;
        }
    }
    nl_free(old);
}

static void peer_init(nl_peer *p)
{
    memset(p, 0, sizeof *p);
    nl_list_init(&p->receivers);
    nl_list_init(&p->queries);
    nl_list_init(&p->enders);
}

nl_peer *nl_peer_get(nl_inbox *inbox, uint64_t handle)
{
    nl_peer *p = nl_peer_find(inbox, handle);
    if (p) {
        return p;
    }
    if (inbox->npeers >= inbox->nbuckets) {
        grow(inbox);
    }
    p = nl_pool_alloc(sizeof *p);
    peer_init(p);
    p->handle = handle;
    nl_peer **b = &inbox->buckets[bucket_of(inbox, handle)];
    p->next = *b;
    *b = p;
    inbox->npeers++;
    inbox->last = p;
    return p;
}

/* Takes it out of the table; the memory stays. */
static void peer_remove(nl_inbox *inbox, nl_peer *p)
{
    nl_peer **b = &inbox->buckets[bucket_of(inbox, p->handle)];
    while (*b != p) {
        b = &(*b)->next;
    }
    *b = p->next;
    inbox->npeers--;
    if (inbox->last == p) {
        inbox->last = NULL;
    }
}

/* --- the end of a peer ------------------------------------------------------------------------ */

/* "Tell me of your end" on the way there, then "I have ended" on the way back. */
typedef struct nl_peer_ended {
    nl_msg msg;
    uint64_t who; /* ends */
    uint64_t to;  /* wants to know */
    size_t len;   /* of the reason */
    char reason[];
} nl_peer_ended;

static const nl_msg_ops watch_ops, ended_ops;

static nl_peer_ended *notice_new(uint64_t who, uint64_t to, const char *reason, size_t len,
                                 const nl_msg_ops *ops)
{
    nl_peer_ended *e = nl_pool_alloc(sizeof *e + len);
    e->msg.ops = ops;
    e->who = who;
    e->to = to;
    e->len = len;
    memcpy(e->reason, reason, len);
    return e;
}

static nl_peer_ended *watch_new(uint64_t who, uint64_t to)
{
    return notice_new(who, to, "", 0, &watch_ops);
}

static nl_peer_ended *ended_new(uint64_t who, uint64_t to, const nl_reason *reason)
{
    return reason ? notice_new(who, to, reason->text, reason->len, &ended_ops)
                  : notice_new(who, to, "exit", 4, &ended_ops);
}

/* Of a context that has ended already. */
static nl_peer_ended *ended_late(uint64_t who, uint64_t to)
{
    nl_reason *reason = nl_obituary_copy(who);
    nl_peer_ended *e = ended_new(who, to, reason);
    nl_free(reason);
    return e;
}

static void ended_free(nl_msg *m)
{
    nl_pool_free(m, sizeof(nl_peer_ended) + ((nl_peer_ended *)m)->len);
}

static void watch_run(nl_ctx *c, nl_msg *m)
{
    nl_watcher_add((nl_lctx *)c, ((nl_peer_ended *)m)->to);
    ended_free(m);
}

/* It came too late. */
static void watch_drop(nl_msg *m)
{
    nl_peer_ended *w = (nl_peer_ended *)m, *e = ended_late(w->who, w->to);
    if (nl_ctx_send(e->to, &e->msg) != 0) {
        ended_free(&e->msg);
    }
    ended_free(m);
}

/* recv(h): what it has sent is used up, else nobody would wait. */
static void end_receivers(nl_lctx *lc, nl_peer *p)
{
    nl_list *node;
    while ((node = nl_list_pop_front(&p->receivers))) {
        lc->inbox->nfrom--;
        nl_wait_fail(lc, nl_container_of(node, nl_wait, node), NL_ENOCONTEXT);
    }
    nl_wait *w = p->callback;
    if (w) {
        p->callback = NULL;
        lc->inbox->nfrom--;
        w->continuous = false;
        nl_wait_fail(lc, w, NL_ENOCONTEXT);
    }
}

static void ended_run(nl_ctx *c, nl_msg *m)
{
    nl_lctx *lc = (nl_lctx *)c;
    nl_peer_ended *e = (nl_peer_ended *)m;
    if (nl_unlikely(lc->inbox->draining)) {
        nl_ctx_defer(c, m); /* what the peer has sent comes first */
        return;
    }
    nl_peer *p = nl_peer_find(lc->inbox, e->who);
    if (p) {
        /*
         * Out of the table first: what Lua asks of this handle from now on is asked of one that is
         * gone.
         */
        peer_remove(lc->inbox, p);
        lc->inbox->ended_peer = p;
        lc->in_fanout = true;
        nl_list *node;
        while (!lc->dying && (node = nl_list_pop_front(&p->queries))) {
            nl_wait *w = nl_container_of(node, nl_wait, node);
            nl_session_free(lc->inbox, w);
            nl_wait_fail(lc, w, NL_ENOREPLY);
        }
        if (!lc->dying) {
            end_receivers(lc, p);
        }
        while (!lc->dying && (node = nl_list_pop_front(&p->enders))) {
            nl_wait *w = nl_container_of(node, nl_wait, node);
            lua_State *L = nl_wait_begin(lc, w);
            lua_pushboolean(L, 1);
            lua_pushnumber(L, 0);
            if (w->co) {
                lua_pushlstring(L, e->reason, e->len);
            }
            nl_wait_end(lc, w, w->co ? 3 : 2);
        }
        lc->in_fanout = false;
        lc->inbox->ended_peer = NULL;
        nl_pool_free(p, sizeof *p);
    }
    ended_free(m);
}

static const nl_msg_ops watch_ops = {watch_run, watch_drop};
static const nl_msg_ops ended_ops = {ended_run, ended_free};

void nl_peer_watch(nl_lctx *lc, nl_peer *p)
{
    uint64_t self = lc->ctx.slot.id;
    if (nl_likely(p->watching) || p->handle == self) {
        return;
    }
    p->watching = true;
    nl_ctx *target = nl_ctx_find(p->handle);
    if (target) {
        nl_ctx_post(target, &watch_new(p->handle, self)->msg);
    } else {
        nl_ctx_post(&lc->ctx, &ended_late(p->handle, self)->msg);
    }
}

void nl_watcher_add(nl_lctx *lc, uint64_t handle)
{
    nl_inbox *inbox = lc->inbox;
    if (inbox->nwatchers == inbox->watchers_cap) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < inbox->nwatchers; i++) {
            if (nl_ctx_find(inbox->watchers[i])) {
                inbox->watchers[n++] = inbox->watchers[i];
            }
        }
        inbox->nwatchers = n;
        if (n > inbox->watchers_cap / 2 || !n) {
            inbox->watchers_cap = inbox->watchers_cap ? 2 * inbox->watchers_cap : 2;
            inbox->watchers = nl_realloc(inbox->watchers, inbox->watchers_cap * sizeof *inbox->watchers);
        }
    }
    inbox->watchers[inbox->nwatchers++] = handle;
}

/* --- context.wait ----------------------------------------------------------------------------- */

/* (handle[, timeout[, callback]]) */
int nl_context_wait(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    if (lua_isfunction(L, 2) && lua_isnoneornil(L, 3)) {
        lua_settop(L, 2);
        lua_pushnil(L);
        lua_insert(L, 2);
    }
    bool callback = !lua_isnoneornil(L, 3);
    if (callback) {
        luaL_checktype(L, 3, LUA_TFUNCTION);
    }
    double timeout = nl_opt_seconds(L, 2);
    uint64_t handle;
    int err = nl_check_handle(L, 1, &handle);
    luaL_argcheck(L, err || handle != lc->ctx.slot.id, 1, "a context cannot wait for its own end");
    if (!callback) {
        nl_block_check(L);
        if (err) {
            return nl_push_err(L, err);
        }
    }
    nl_wait *w = callback ? nl_wait_callback(L, NL_WAIT_CTX, 3, 1, 2) : nl_block_wait(L, NL_WAIT_CTX);
    if (err) {
        nl_wait_later(lc, w, err);
    } else {
        nl_peer *p = nl_peer_get(lc->inbox, handle);
        nl_peer_watch(lc, p);
        nl_list_push_back(&p->enders, &w->node);
        if (timeout >= 0) {
            nl_wait_arm(lc, w, timeout);
        }
    }
    lua_pushboolean(L, 1);
    return callback ? 1 : nl_park(L);
}

/* --- life ------------------------------------------------------------------------------------- */

void nl_inbox_init(nl_lctx *lc)
{
    nl_inbox *inbox = nl_pool_alloc(sizeof *inbox);
    memset(inbox, 0, sizeof *inbox);
    peer_init(&inbox->any);
    lc->inbox = inbox;
}

static void refuse_all(nl_packet *m)
{
    for (nl_packet *next; m; m = next) {
        next = nl_packet_next(m);
        nl_packet_refuse(m);
    }
}

static void refuse_pending(nl_inbox *inbox)
{
    refuse_all(inbox->reserved.first);
    inbox->reserved = (nl_packets){NULL, NULL};
    refuse_all(nl_pending_take_all(&inbox->pending));
}

void nl_inbox_end(nl_lctx *lc, const nl_reason *reason)
{
    nl_inbox *inbox = lc->inbox;
    refuse_pending(inbox);
    for (uint32_t i = 0; i < inbox->nwatchers; i++) {
        nl_peer_ended *e = ended_new(lc->ctx.slot.id, inbox->watchers[i], reason);
        nl_ctx *c = nl_ctx_find(e->to);
        if (c) {
            nl_ctx_post(c, &e->msg);
        } else {
            ended_free(&e->msg);
        }
    }
}

/*
 * By the monitor's thread: who wants to know of lc's end may stand in its mailbox, which it does
 * not read.
 */
static void tell_unending(nl_ctx *c, void *arg)
{
    const nl_peer_ended *e = arg;
    nl_ctx_post(c, &notice_new(e->who, c->slot.id, e->reason, e->len, &ended_ops)->msg);
}

void nl_inbox_given_up(nl_ctx *c, const nl_reason *reason)
{
    nl_peer_ended *e = ended_new(c->slot.id, 0, reason);
    nl_ctx_each(tell_unending, e);
    ended_free(&e->msg);
}

void nl_inbox_release(nl_lctx *lc)
{
    nl_inbox *inbox = lc->inbox;
    refuse_pending(inbox);
    for (uint32_t i = 0; i < inbox->nbuckets; i++) {
        for (nl_peer *p = inbox->buckets[i], *next; p; p = next) {
            next = p->next;
            nl_pool_free(p, sizeof *p);
        }
    }
    if (inbox->ended_peer) {
        nl_pool_free(inbox->ended_peer, sizeof *inbox->ended_peer);
    }
    if (inbox->spare) {
        nl_packet_free(inbox->spare);
    }
    if (inbox->opened) {
        nl_packet_free(inbox->opened);
    }
    nl_free(inbox->buckets);
    nl_handles_fini(&inbox->sessions);
    nl_free(inbox->watchers);
}

void nl_inbox_free(nl_lctx *lc)
{
    nl_pool_free(lc->inbox, sizeof *lc->inbox);
}

/* lsock.c - socket objects: making, checking, anchoring and closing them; see lsock.h */
#include "lua/api/lsock.h"

#include <string.h>

/* --- events ----------------------------------------------------------------------------------- */

static void ready(nl_ctx *ctx, nl_tcp *t)
{
    nl_lctx *lc = (nl_lctx *)ctx;
    nl_lsock *so = nl_tcp_user(t);
    if (so) {
        nl_lsock_deliver(lc, so);
    }
}

const nl_tcp_ops nl_lsock_ops = NL_TCP_OPS(ready);

/* --- making and checking ---------------------------------------------------------------------- */

nl_lsock *nl_lsock_push(lua_State *L, nl_lctx *lc, nl_tcp *t)
{
    if (lc->objects.opening) { /* left over only if making the object below has raised once */
        nl_tcp_close(lc->objects.opening);
    }
    lc->objects.opening = t;
    nl_lsock *so = nl_lua_newuserdata(L, sizeof *so, lc->objects.sock_ref);
    memset(so, 0, sizeof *so);
    so->fn = so->self = NL_NOREF;
    lc->objects.opening = NULL;

    so->tcp = t;
    so->listener = nl_tcp_is_listener(t);
    nl_tcp_set_user(t, so);
    nl_list_push_back(&lc->objects.sockets, &so->all);
    lc->objects.nsockets++;
    return so;
}

nl_lsock *nl_lsock_check(lua_State *L, int arg)
{
    nl_lsock *so = nl_lsock_test(L, nl_lctx_of(L), arg);
    if (nl_unlikely(!so)) {
        luaL_typerror(L, arg, "tcp socket");
    }
    return so;
}

nl_lsock *nl_lsock_check_kind(lua_State *L, int arg, bool listener)
{
    nl_lsock *so = nl_lsock_check(L, arg);
    if (nl_unlikely(so->listener != listener)) {
        luaL_argerror(L, arg,
                      listener ? "listen socket expected, got a connection"
                               : "connection expected, got a listen socket");
    }
    return so;
}

/* --- life ------------------------------------------------------------------------------------- */

void nl_lsock_anchor(lua_State *L, nl_lctx *lc, nl_lsock *so, int idx)
{
    if (so->self == NL_NOREF) {
        lua_pushvalue(L, idx);
        so->self = nl_ref(lc, L);
    }
}

void nl_lsock_settle(nl_lctx *lc, nl_lsock *so)
{
    if (so->self != NL_NOREF && !so->delivering && !so->readers && !so->writers && so->fn == NL_NOREF) {
        nl_unref(lc, so->self);
        so->self = NL_NOREF;
    }
}

/* The net layer's part of a close: from here on no event and no message leads to so. */
static void detach(nl_lctx *lc, nl_lsock *so)
{
    nl_tcp *t = so->tcp;
    so->tcp = NULL;
    nl_list_remove(&so->all);
    lc->objects.nsockets--;
    nl_tcp_set_user(t, NULL);
    nl_tcp_close(t);
}

void nl_lsock_close(lua_State *L, nl_lctx *lc, nl_lsock *so, int idx)
{
    int err = nl_lsock_closed_error(so);
    nl_wait *callback = NULL;
    if (so->fn != NL_NOREF) {
        if (!nl_lsock_in_own_callback(lc, so)) {
            nl_ref_push(lc, L, so->fn);
            callback =
                nl_wait_callback(L, so->listener ? NL_WAIT_ACCEPT : NL_WAIT_READ, lua_gettop(L), idx, 1);
            lua_pop(L, 1);
        }
        nl_lsock_disarm(lc, so);
    }
    detach(lc, so);
    while (so->readers) {
        nl_wait *w = nl_container_of(so->readers, nl_wait, node);
        nl_ring_remove(&so->readers, &w->node);
        nl_wait_later(lc, w, err);
    }
    if (callback) {
        nl_wait_later(lc, callback, err);
    }
    nl_lsock_end_writes(lc, so);
    nl_lsock_settle(lc, so);
}

/* Who waits, a root or a callback, is freed with the context. */
void nl_ltcp_close_all(nl_lctx *lc)
{
    lc->objects.closed = true;
    if (!lc->objects.sock) {
        return; /* the module was never opened */
    }
    nl_list *node;
    while ((node = nl_list_pop_front(&lc->objects.sockets))) {
        nl_lsock *so = nl_container_of(node, nl_lsock, all);
        so->readers = NULL;
        nl_lsock_forget_writes(lc, so);
        detach(lc, so);
    }
    nl_lconnect_forget_all(lc);
    nl_ltcp_forget_fd_writes(lc);
    if (lc->objects.opening) {
        nl_tcp_close(lc->objects.opening);
        lc->objects.opening = NULL;
    }
    nl_buf_release(&lc->objects.pushing);
}

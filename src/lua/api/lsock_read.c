/*
 * lsock_read.c - reading and accepting: tcp.read, tcp.accept.
 *
 * What arrives is handed out in one place, nl_lsock_deliver, piece by piece: to the oldest
 * waiting coroutine, else to the callback.  A coroutine that asks while nobody else waits
 * takes its piece on the spot.  While nobody asks, nothing is taken from the net layer, so
 * nothing is received.
 *
 * A callback needs no nl_wait: all it holds is a reference to its function.
 */
#include "lua/api/lsock.h"
#include "lua/msg/bufobj.h"

/* --- what arrives ----------------------------------------------------------------------------- */

/*
 * A frame, a run of bytes, a connection, or an error.  It is good whatever becomes of the socket;
 * data until somebody reads again, which finalizers cannot: a read in one raises.
 */
typedef struct piece {
    int err;                   /* positive; 0: one of the following */
    bool last;                 /* err ends reading */
    nl_tcp *conn;              /* accepted */
    const unsigned char *data; /* at most NL_BUFFER_SMALL bytes; NULL: buf has them */
    uint32_t len;
    nl_buf buf;
} piece;

static bool take_connection(nl_lsock *so, piece *p)
{
    int r = nl_tcp_accept(&p->conn, so->tcp, &nl_lsock_ops);
    if (r == NL_AGAIN) {
        return false;
    }
    p->err = r < 0 ? -r : 0;
    p->last = false; /* out of descriptors, say: the net layer tries again in a while */
    return true;
}

static inline bool take_bytes(nl_lsock *so, piece *p)
{
    p->buf = nl_buf_empty();
    int r = nl_tcp_read_buf(so->tcp, &p->data, &p->len, &p->buf);
    if (nl_unlikely(r <= 0)) {
        p->err = -r;
        p->last = true;
        return r != NL_AGAIN;
    }
    p->err = 0;
    if (nl_unlikely(p->data && p->len > NL_BUFFER_SMALL)) {
        if (nl_buf_append(&p->buf, p->data, p->len) < 0) {
            p->err = ENOMEM;
            p->last = true;
        }
        p->data = NULL;
    }
    return true;
}

/* The next piece, or false: nothing yet, and nl_lsock_deliver will be called. */
static inline bool take(nl_lctx *lc, nl_lsock *so, piece *p)
{
    if (so->listener ? !take_connection(so, p) : !take_bytes(so, p)) {
        return false;
    }
    nl_ctx_charge(&lc->ctx, 1, 0); /* the net layer counts the bytes */
    return true;
}

/* Pushes the two results that stand for p. */
static inline void push(lua_State *L, nl_lctx *lc, nl_lsock *so, piece *p)
{
    if (nl_unlikely(p->err)) {
        nl_push_err(L, p->err);
        return;
    }
    nl_lua_pushboolean(L, 1);
    if (so->listener) {
        nl_lsock_push(L, lc, p->conn);
    } else if (nl_likely(p->data != NULL)) {
        nl_buffer_push(L, lc, p->data, p->len);
    } else {
        nl_buffer_push_buf(L, &p->buf);
    }
}

/* --- the callback ----------------------------------------------------------------------------- */

/* Names this arming of the socket's callback for ever: ids have 53 bits (slots.h). */
static uint64_t callback_id(const nl_lsock *so)
{
    return nl_tcp_id(so->tcp) | (uint64_t)so->arming << 53;
}

bool nl_lsock_in_own_callback(const nl_lctx *lc, const nl_lsock *so)
{
    return lc->cur && lc->cur->serving == callback_id(so);
}

void nl_lsock_disarm(nl_lctx *lc, nl_lsock *so)
{
    if (so->fn != NL_NOREF) {
        nl_unref(lc, so->fn);
        so->fn = NL_NOREF;
        lc->alive--;
    }
}

/* The function at index 2 becomes the callback of the socket at index 1. */
static int arm(lua_State *L, nl_lctx *lc, nl_lsock *so)
{
    lua_pushboolean(L, 1);
    if (!so->tcp) {
        nl_wait *w = nl_wait_callback(L, so->listener ? NL_WAIT_ACCEPT : NL_WAIT_READ, 2, 1, 1);
        nl_wait_later(lc, w, nl_lsock_closed_error(so));
        return 1;
    }
    if (so->fn != NL_NOREF) {
        nl_ref_push(lc, L, so->fn);
        bool same = lua_rawequal(L, -1, 2);
        lua_pop(L, 1);
        if (same) {
            return 1;
        }
    }
    nl_lsock_anchor(L, lc, so, 1);
    lua_pushvalue(L, 2);
    int fn = nl_ref(lc, L);
    nl_lsock_disarm(lc, so);
    so->fn = fn;
    so->arming++;
    lc->alive++;
    if (!so->delivering) {
        nl_tcp_again(so->tcp);
    }
    return 1;
}

static void call_back(nl_lctx *lc, nl_lsock *so, piece *p)
{
    nl_co *co = nl_co_get(lc);
    lua_State *L = co->L;
    co->serving = callback_id(so);
    nl_ref_push(lc, L, so->fn);
    if (p->err && p->last) {
        nl_lsock_disarm(lc, so);
    }
    /* may run finalizers of the script, which close the socket or set another callback */
    push(L, lc, so, p);
    nl_ref_push(lc, L, so->self);
    nl_co_run(co, 3);
}

/* --- delivery --------------------------------------------------------------------------------- */

void nl_lsock_deliver(nl_lctx *lc, nl_lsock *so)
{
    so->delivering = true; /* also keeps it anchored, if it is: Lua may close it, or stop to wait */
    while (so->tcp && (so->readers || so->fn != NL_NOREF)) {
        piece p;
        if (!take(lc, so, &p)) {
            break;
        }
        if (so->readers) {
            nl_wait *w = nl_container_of(so->readers, nl_wait, node);
            nl_ring_remove(&so->readers, &w->node);
            lua_State *L = nl_wait_begin(lc, w);
            push(L, lc, so, &p);
            nl_wait_end(lc, w, 2);
        } else {
            call_back(lc, so, &p);
        }
        if (lc->dying) {
            break;
        }
        if (nl_ctx_should_yield(&lc->ctx)) {
            if (so->tcp && (so->readers || so->fn != NL_NOREF)) {
                nl_tcp_again(so->tcp);
            }
            break;
        }
    }
    so->delivering = false;
    nl_lsock_settle(lc, so);
}

/* --- the calls -------------------------------------------------------------------------------- */

static void read_timeout(nl_lctx *lc, nl_wait *w)
{
    nl_lsock *so = w->owner;
    nl_ring_remove(&so->readers, &w->node);
    nl_lsock_settle(lc, so);
}

static int wait_for_piece(lua_State *L, nl_lctx *lc, nl_lsock *so, double seconds)
{
    nl_block_check(L);
    if (!so->tcp) {
        return nl_push_err(L, nl_lsock_closed_error(so));
    }
    /*
     * Who finds something each time never suspends; it does when its share is used up.  Not so with
     * a time-out of 0, which would be up first.
     */
    bool share_used = seconds != 0 && nl_ctx_should_yield(&lc->ctx);
    piece p;
    if (!so->readers && !share_used && take(lc, so, &p)) {
        push(L, lc, so, &p);
        return 2;
    }
    nl_lsock_anchor(L, lc, so, 1);
    nl_wait *w = nl_block_wait(L, so->listener ? NL_WAIT_ACCEPT : NL_WAIT_READ);
    w->owner = so;
    w->timeout = read_timeout;
    nl_ring_add(&so->readers, &w->node);
    if (seconds >= 0) {
        nl_wait_arm(lc, w, seconds);
    }
    if (share_used && !so->delivering) {
        nl_tcp_again(so->tcp);
    }
    return nl_park(L);
}

static int remove_callback(lua_State *L, nl_lctx *lc, nl_lsock *so)
{
    nl_lsock_disarm(lc, so);
    nl_lsock_settle(lc, so);
    lua_pushboolean(L, 1);
    return 1;
}

/* read and accept: (socket[, timeout]), (socket, callback), (socket, nil), (socket, false) */
static int ask(lua_State *L, bool listener)
{
    nl_lctx *lc = nl_lctx_of(L);
    nl_lsock *so = nl_lsock_check_kind(L, 1, listener);
    switch (nl_lua_type(L, 2)) {
    case LUA_TNONE:
        return wait_for_piece(L, lc, so, -1);
    case LUA_TNIL:
        if (so->fn == NL_NOREF) { /* so that read(s, options.timeout) means what it says */
            return wait_for_piece(L, lc, so, -1);
        }
        return remove_callback(L, lc, so);
    case LUA_TBOOLEAN:
        luaL_argcheck(L, !lua_toboolean(L, 2), 2, "seconds, a function, nil or false expected");
        return remove_callback(L, lc, so);
    case LUA_TFUNCTION:
        return arm(L, lc, so);
    default: {
        double seconds = nl_check_seconds(L, 2);
        luaL_argcheck(L, lua_isnoneornil(L, 3), 3, "a call with a time-out takes no callback");
        return wait_for_piece(L, lc, so, seconds);
    }
    }
}

int nl_ltcp_read(lua_State *L)
{
    return ask(L, false);
}

int nl_ltcp_accept(lua_State *L)
{
    return ask(L, true);
}

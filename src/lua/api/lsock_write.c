/*
 * lsock_write.c - tcp.write, to a socket or by its number.
 *
 * A plain write is queued with the net layer and forgotten. Who waits for the kernel to have taken
 * it, a coroutine or a callback, has a nl_lwrite. The memory has two holders: the net layer until
 * its message comes back or is dropped, which may happen on another worker, and the one who waits.
 */
#include "base/alloc.h"
#include "base/err.h"
#include "lua/api/lsock.h"
#include "lua/msg/bufobj.h"

typedef struct nl_lwrite {
    nl_wreq req;              /* first */
    nl_wait *w;               /* NULL: nobody waits any more */
    nl_lsock *so;             /* it is in so->writers; NULL: in lc->objects.fd_writes */
    int refused;              /* the error of a refused write that waits for its turn, or 0 */
    struct close_notice *end; /* the close that will end the waiting */
    nl_list node;
    atomic_uint refs;
} nl_lwrite;

static void unref(nl_lwrite *op)
{
    /* acq_rel: whatever the other holder did with it comes before it is used again. */
    if (atomic_fetch_sub_explicit(&op->refs, 1, memory_order_acq_rel) == 1) {
        nl_pool_free(op, sizeof *op);
    }
}

/* Ends the waiting: op is left to the net layer.  Returns who waited. */
static nl_wait *unhook(nl_lctx *lc, nl_lwrite *op)
{
    nl_wait *w = op->w;
    nl_lsock *so = op->so;
    op->w = NULL;
    if (so) {
        nl_ring_remove(&so->writers, &op->node);
        op->so = NULL;
        nl_lsock_settle(lc, so);
    } else {
        nl_list_remove(&op->node);
    }
    unref(op);
    return w;
}

/* Tells who waits; err 0: the kernel has taken all of it. */
static void complete(nl_lctx *lc, nl_wait *w, int err)
{
    bool callback = !w->co;
    lua_State *L = nl_wait_begin(lc, w);
    lua_pushboolean(L, err == 0);
    if (err || callback) {
        lua_pushinteger(L, nl_err_from_os(err));
    }
    nl_wait_end(lc, w, err || callback ? 2 : 1);
}

static void write_run(nl_ctx *ctx, nl_msg *m)
{
    nl_lctx *lc = (nl_lctx *)ctx;
    nl_lwrite *op = (nl_lwrite *)m;
    nl_wait *w = op->w ? unhook(lc, op) : NULL;
    int err = op->req.err;
    unref(op);
    if (w) {
        complete(lc, w, err);
    }
}

static void write_drop(nl_msg *m)
{
    unref((nl_lwrite *)m);
}

static const nl_msg_ops write_ops = {write_run, write_drop};

/* --- the end ---------------------------------------------------------------------------------- */

/* A close that found writers waiting. */
typedef struct close_notice {
    nl_msg msg;
} close_notice;

static void end_run(nl_ctx *ctx, nl_msg *m)
{
    nl_lctx *lc = (nl_lctx *)ctx;
    nl_list left, *next;
    nl_list_init(&left);
    for (nl_list *node = lc->objects.fd_writes.next; node != &lc->objects.fd_writes; node = next) {
        next = node->next;
        nl_lwrite *op = nl_container_of(node, nl_lwrite, node);
        if (op->end == (close_notice *)m) {
            nl_list_remove(node);
            nl_list_push_back(&left, node);
        }
    }
    nl_pool_free(m, sizeof(close_notice));
    lc->in_fanout = true;
    nl_list *node;
    while ((node = nl_list_pop_front(&left))) {
        nl_lwrite *op = nl_container_of(node, nl_lwrite, node);
        if (lc->dying) {
            nl_list_push_back(&lc->objects.fd_writes, node); /* for nl_ltcp_forget_fd_writes */
            continue;
        }
        int err = op->refused ? op->refused : NL_ETCPSCLOSED;
        complete(lc, unhook(lc, op), err);
    }
    lc->in_fanout = false;
}

static void end_drop(nl_msg *m)
{
    nl_pool_free(m, sizeof(close_notice));
}

static const nl_msg_ops end_ops = {end_run, end_drop};

void nl_lsock_end_writes(nl_lctx *lc, nl_lsock *so)
{
    if (!so->writers) {
        return;
    }
    /*
     * nl_tcp_close has just given the kernel what it takes, and the mailbox holds the news of that.
     * Who has not been told when our own message is run hears that the socket is closed.
     */
    close_notice *end = nl_pool_alloc(sizeof *end);
    end->msg.ops = &end_ops;
    while (so->writers) {
        nl_lwrite *op = nl_container_of(so->writers, nl_lwrite, node);
        nl_ring_remove(&so->writers, &op->node);
        op->so = NULL;
        op->end = end;
        nl_list_push_back(&lc->objects.fd_writes, &op->node);
    }
    nl_ctx_post(&lc->ctx, &end->msg);
}

void nl_lsock_forget_writes(nl_lctx *lc, nl_lsock *so)
{
    while (so->writers) {
        unhook(lc, nl_container_of(so->writers, nl_lwrite, node));
    }
}

void nl_ltcp_forget_fd_writes(nl_lctx *lc)
{
    while (!nl_list_empty(&lc->objects.fd_writes)) {
        unhook(lc, nl_container_of(lc->objects.fd_writes.next, nl_lwrite, node));
    }
}

/* --- the call --------------------------------------------------------------------------------- */

typedef struct target {
    nl_lsock *so; /* NULL: fd, until find_own */
    uint64_t fd;
    const char *p;
    size_t n;
    nl_buf *buf;
} target;

/*
 * The context's own socket behind an fd: those who wait for its writes stand in one list, in the
 * order written.  Nothing keeps its object, so no collector may run before it is used.
 */
static void find_own(const nl_lctx *lc, target *t)
{
    nl_tcp *s = t->so ? NULL : nl_tcp_own(t->fd, lc->ctx.slot.id, &nl_lsock_ops);
    if (s) {
        t->so = nl_tcp_user(s);
    }
}

static int send_to(nl_lctx *lc, const target *t, nl_wreq *req)
{
    if (t->so) {
        return t->so->tcp ? nl_tcp_write(t->so->tcp, t->p, t->n, t->buf, req) : -NL_ETCPSCLOSED;
    }
    return nl_tcp_write_shared(t->fd, lc->ctx.slot.id, t->p, t->n, t->buf, req);
}

static uint64_t check_fd(lua_State *L, int arg)
{
    lua_Number n = lua_tonumber(L, arg);
    uint64_t fd = n >= 1 && n < 9007199254740992.0 ? (uint64_t)n : 0;
    luaL_argcheck(L, fd && (lua_Number)fd == n, arg, "no fd of a tcp socket");
    return fd;
}

/*
 * A write was refused: op is told of it after all writes before, by the socket or by way of the
 * mailbox.
 */
static void tell_refused(nl_lctx *lc, const target *t, nl_lwrite *op, int err)
{
    uint64_t id = !t->so ? t->fd : t->so->tcp ? nl_tcp_id(t->so->tcp) : 0;
    op->refused = -err;
    if (!nl_tcp_refuse(id, &op->req, err)) {
        /* What the socket had to tell is in the mailbox by now, and so is the end of a close. */
        op->so = NULL;
        op->req.err = -err;
        nl_ctx_post(&lc->ctx, &op->req.msg);
    }
}

/*
 * Sends with somebody to be told: a coroutine, or a callback, which is told of a refusal too. 0 and
 * *out, whose w is still to be set, or -errno.
 */
static int send_and_tell(nl_lctx *lc, target *t, bool callback, nl_lwrite **out)
{
    find_own(lc, t);
    if (lc->objects.closed) {
        return -NL_ETCPSCLOSED;
    }
    nl_lwrite *op = nl_pool_alloc(sizeof *op);
    op->req = (nl_wreq){.msg = {.ops = &write_ops}, .ctx = lc->ctx.slot.id};
    op->w = NULL;
    op->so = t->so;
    op->refused = 0;
    op->end = NULL;
    nl_list_init(&op->node);
    atomic_init(&op->refs, 2);
    int err = send_to(lc, t, &op->req);
    if (err && !callback) {
        nl_pool_free(op, sizeof *op);
        return err;
    }
    if (err) {
        tell_refused(lc, t, op, err);
    }
    *out = op;
    return 0;
}

static void await(lua_State *L, nl_lctx *lc, nl_lwrite *op, nl_wait *w)
{
    op->w = w;
    if (op->so) {
        nl_ring_add(&op->so->writers, &op->node);
        if (nl_lua_type(L, 1) != LUA_TNUMBER) {
            nl_lsock_anchor(L, lc, op->so, 1);
        }
    } else {
        nl_list_push_back(&lc->objects.fd_writes, &op->node);
    }
}

static inline int write_result(lua_State *L, int err)
{
    if (nl_unlikely(err)) {
        return nl_push_err(L, -err);
    }
    nl_lua_pushboolean(L, 1);
    return 1;
}

/* write(socket_or_fd, string_or_buffer[, callback or safety]) */
int nl_ltcp_write(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    target t = {.so = nl_lsock_test(L, lc, 1)};
    if (nl_likely(t.so && t.so->tcp && !t.so->listener && nl_lua_gettop(L) == 2)) {
        t.p = nl_check_bytes(L, 2, &t.n, &t.buf);
        return write_result(L, send_to(lc, &t, NULL)); /* a finalizer may have closed it */
    }
    if (nl_unlikely(!t.so || t.so->listener)) {
        if (nl_lua_type(L, 1) == LUA_TNUMBER) {
            t.fd = check_fd(L, 1);
        } else {
            nl_lsock_check_kind(L, 1, false); /* raises */
        }
    }
    t.p = nl_check_bytes(L, 2, &t.n, &t.buf);
    int err, mode = nl_lua_type(L, 3);
    nl_lwrite *op;
    if (mode == LUA_TFUNCTION) {
        nl_wait *w = nl_wait_callback(L, NL_WAIT_WRITE, 3, 1, 2);
        err = send_and_tell(lc, &t, true, &op);
        if (err) {
            nl_wait_later(lc, w, -err);
        } else {
            await(L, lc, op, w);
        }
        lua_pushboolean(L, 1);
        return 1;
    }
    if (mode > LUA_TNIL && mode != LUA_TBOOLEAN) {
        return luaL_typerror(L, 3, "function or boolean");
    }
    if (nl_lua_toboolean(L, 3)) {
        nl_block_check(L);
        err = send_and_tell(lc, &t, false, &op);
        if (err) {
            return nl_push_err(L, -err);
        }
        await(L, lc, op, nl_block_wait(L, NL_WAIT_WRITE));
        return nl_park(L);
    }
    find_own(lc, &t);
    return write_result(L, send_to(lc, &t, NULL));
}

/*
 * lsock_connect.c - tcp.listen and tcp.connect with their kin.
 *
 * A connect begins in a turn of its own, also the blocking form: so there is one way through
 * it, in which no Lua is running.
 *
 *     posted ──→ (name: resolving) ──→ attempt ──ready──→ attempt with the next address … ──→ told
 *
 * The time-out and the end of the context may cut in anywhere, while our message or the
 * resolver's is still on its way.  So the memory has two holders, the call and the message; the
 * resolver may drop its one on a thread of its own.
 */
#include "base/alloc.h"
#include "lua/api/lsock.h"

#include <string.h>

/* --- connecting: one call under way ----------------------------------------------------------- */

typedef struct nl_lconnect {
    nl_endpoint u;
    nl_msg msg;  /* begins it */
    nl_wait *w;  /* NULL: nobody waits any more */
    nl_tcp *tcp; /* the attempt under way */
    struct lookup *lookup;
    const nl_addr *addr; /* one, or lookup's */
    int count, next;     /* addresses; the one to try next */
    int err;             /* of the last attempt, positive */
    atomic_uint refs;
    nl_addr one;
} nl_lconnect;

/* A name being resolved. */
typedef struct lookup {
    nl_resolve r; /* first; has the message first */
    nl_lconnect *op;
} lookup;

static void unref(nl_lconnect *op)
{
    /* acq_rel: whatever the other holder did with it comes before the free. */
    if (atomic_fetch_sub_explicit(&op->refs, 1, memory_order_acq_rel) == 1) {
        nl_free(op->lookup);
        nl_free(op);
    }
}

/* Before a message that leads to op is handed on. */
static void ref(nl_lconnect *op)
{
    atomic_fetch_add_explicit(&op->refs, 1, memory_order_relaxed);
}

static void drop_attempt(nl_lconnect *op)
{
    if (op->tcp) {
        nl_tcp_set_user(op->tcp, NULL);
        nl_tcp_close(op->tcp);
        op->tcp = NULL;
    }
}

/* The call is over: nobody waits any more. */
static void end(nl_lconnect *op)
{
    op->w = NULL;
    nl_list_remove(&op->u.all);
    drop_attempt(op);
    unref(op);
}

static void connected(nl_lctx *lc, nl_lconnect *op)
{
    nl_wait *w = op->w;
    nl_tcp *t = op->tcp;
    op->tcp = NULL;
    nl_tcp_set_user(t, NULL);
    end(op);
    lua_State *L = nl_wait_begin(lc, w);
    lua_pushboolean(L, 1);
    nl_lsock_push(L, lc, t);
    nl_wait_end(lc, w, 2);
}

/* Tries one address after the other. */
static void attempt(nl_lctx *lc, nl_lconnect *op)
{
    while (op->next < op->count) {
        int err = nl_tcp_connect(&op->tcp, &lc->ctx, &nl_lsock_ops, &op->addr[op->next++]);
        if (err == -EINPROGRESS) {
            nl_tcp_set_user(op->tcp, &op->u);
            return;
        }
        if (err == 0) {
            connected(lc, op);
            return;
        }
        op->tcp = NULL;
        op->err = -err;
    }
    nl_wait *w = op->w;
    int err = op->err;
    end(op);
    nl_wait_fail(lc, w, err);
}

void nl_lconnect_ready(nl_lctx *lc, nl_endpoint *u)
{
    nl_lconnect *op = (nl_lconnect *)u;
    int err = nl_tcp_connect_result(op->tcp);
    if (err == -EINPROGRESS) {
        return;
    }
    if (err == 0) {
        connected(lc, op);
        return;
    }
    op->err = -err;
    drop_attempt(op);
    attempt(lc, op);
}

static void resolved(nl_ctx *ctx, nl_msg *m)
{
    lookup *k = (lookup *)m;
    nl_lconnect *op = k->op;
    if (op->w) {
        op->addr = k->r.addr;
        op->count = k->r.count > 0 ? k->r.count : 0;
        op->err = k->r.count < 0 ? -k->r.count : NL_EHOST;
        attempt((nl_lctx *)ctx, op);
    }
    unref(op);
}

static void resolved_drop(nl_msg *m)
{
    unref(((lookup *)m)->op);
}

static const nl_msg_ops resolved_ops = {resolved, resolved_drop};

static void begin(nl_ctx *ctx, nl_msg *m)
{
    nl_lconnect *op = nl_container_of(m, nl_lconnect, msg);
    if (op->w && op->lookup) {
        ref(op);
        nl_resolver_submit(&op->lookup->r);
    } else if (op->w) {
        attempt((nl_lctx *)ctx, op);
    }
    unref(op);
}

static void begin_drop(nl_msg *m)
{
    unref(nl_container_of(m, nl_lconnect, msg));
}

static const nl_msg_ops begin_ops = {begin, begin_drop};

static void connect_timeout(nl_lctx *lc, nl_wait *w)
{
    (void)lc;
    end(w->owner);
}

void nl_lconnect_forget(nl_endpoint *u)
{
    end((nl_lconnect *)u);
}

/* --- connecting: the calls ----------------------------------------------------------------------- */

static nl_lconnect *new_connect(void)
{
    nl_lconnect *op = nl_calloc(sizeof *op);
    op->u.kind = NL_ENDPOINT_CONNECT;
    op->msg.ops = &begin_ops;
    nl_list_init(&op->u.all);
    atomic_init(&op->refs, 1);
    return op;
}

/* 0, or why there is no use in trying.  host as it came from Lua. */
static int set_host(nl_lctx *lc, nl_lconnect *op, int family, const char *host, size_t len, int port)
{
    if (len == 0 || len != strlen(host)) {
        return -NL_EHOST;
    }
    if (nl_addr_ip(&op->one, family, host, port) == 0) {
        op->addr = &op->one;
        op->count = 1;
        return 0;
    }
    if (len >= sizeof(((nl_resolve *)NULL)->host)) {
        return -ENAMETOOLONG;
    }
    lookup *k = nl_calloc(sizeof *k);
    k->r.msg.ops = &resolved_ops;
    k->r.ctx = lc->ctx.slot.id;
    k->r.family = family;
    k->r.port = port;
    memcpy(k->r.host, host, len + 1);
    k->op = op;
    op->lookup = k;
    return 0;
}

static int set_path(nl_lconnect *op, const char *path, size_t len)
{
    if (len == 0 || len != strlen(path)) {
        return -EINVAL;
    }
    op->addr = &op->one;
    op->count = 1;
    return nl_addr_unix(&op->one, path);
}

/*
 * Optional arguments before a callback may be left out: if the function stands at an earlier
 * place than `last`, it is moved there and nils fill the gap.  Returns whether there is one; raises if
 * something else stands in its place.
 */
static bool find_callback(lua_State *L, int first_optional, int last)
{
    lua_settop(L, last);
    for (int i = first_optional; i < last; i++) {
        if (lua_isfunction(L, i)) {
            lua_pushvalue(L, i);
            lua_replace(L, last);
            for (; i < last; i++) {
                lua_pushnil(L);
                lua_replace(L, i);
            }
        }
    }
    if (lua_isnil(L, last)) {
        return false;
    }
    luaL_checktype(L, last, LUA_TFUNCTION);
    return true;
}

static int check_port(lua_State *L, int arg)
{
    lua_Number port = luaL_checknumber(L, arg);
    luaL_argcheck(L, port >= 0 && port <= 65535 && port == (int)port, arg, "port out of range");
    return (int)port;
}

/* family 4 or 6: (host, port[, timeout[, callback]]); 1: (sock_name[, timeout[, callback]]) */
static int do_connect(lua_State *L, int family)
{
    nl_lctx *lc = nl_lctx_of(L);
    int nargs = family == 1 ? 2 : 3;
    bool callback = find_callback(L, nargs, nargs + 1);
    size_t len;
    const char *host = luaL_checklstring(L, 1, &len);
    int port = family == 1 ? 0 : check_port(L, 2);
    double seconds = nl_opt_seconds(L, nargs);
    if (!callback) {
        nl_block_check(L);
    }
    if (lc->objects.closed) {
        return nl_push_err(L, NL_ESTOPPING);
    }
    nl_wait *w = callback ? nl_wait_callback(L, NL_WAIT_CONNECT, nargs + 1, 1, nargs) : NULL;
    /* From here on nothing raises. */
    nl_lconnect *op = new_connect();
    int err = family == 1 ? set_path(op, host, len) : set_host(lc, op, family, host, len, port);
    if (err) {
        end(op);
        if (!callback) {
            return nl_push_err(L, -err);
        }
        nl_wait_later(lc, w, -err);
    } else {
        w = callback ? w : nl_block_wait(L, NL_WAIT_CONNECT);
        w->owner = op;
        w->timeout = connect_timeout;
        op->w = w;
        nl_list_push_back(&lc->objects.sockets, &op->u.all);
        if (seconds >= 0) {
            nl_wait_arm(lc, w, seconds);
        }
        ref(op);
        nl_ctx_post(&lc->ctx, &op->msg);
    }
    if (!callback) {
        return nl_park(L);
    }
    lua_pushboolean(L, 1);
    return 1;
}

int nl_ltcp_connect(lua_State *L)
{
    return do_connect(L, 4);
}

int nl_ltcp_connect6(lua_State *L)
{
    return do_connect(L, 6);
}

int nl_ltcp_connects(lua_State *L)
{
    return do_connect(L, 1);
}

/* --- listening -------------------------------------------------------------------------------------- */

/* A listen socket on its way to a callback. */
typedef struct opened {
    nl_msg msg;
    nl_wait *w; /* the context frees it if it ends first */
    int ref;    /* of the socket object */
} opened;

static void opened_run(nl_ctx *ctx, nl_msg *m)
{
    nl_lctx *lc = (nl_lctx *)ctx;
    opened op = *(opened *)m;
    nl_pool_free(m, sizeof op);
    lua_State *L = nl_wait_begin(lc, op.w);
    lua_pushboolean(L, 1);
    nl_ref_push(lc, L, op.ref);
    nl_unref(lc, op.ref);
    nl_wait_end(lc, op.w, 2);
}

static void opened_drop(nl_msg *m)
{
    nl_pool_free(m, sizeof(opened));
}

static const nl_msg_ops opened_ops = {opened_run, opened_drop};

/* The argument `backlog`: nil, a number, or a table of options. */
static void check_listen_opts(lua_State *L, int arg, struct nl_listen_opts *o)
{
    o->backlog = 0;
    o->reuseport = false;
    if (lua_isnil(L, arg)) {
        return;
    }
    if (lua_isnumber(L, arg)) {
        o->backlog = luaL_checkint(L, arg);
        return;
    }
    if (!lua_istable(L, arg)) {
        luaL_typerror(L, arg, "number or table");
    }
    lua_pushnil(L);
    while (lua_next(L, arg)) {
        const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
        if (strcmp(key, "backlog") == 0 && lua_isnumber(L, -1)) {
            o->backlog = (int)lua_tointeger(L, -1);
        } else if (strcmp(key, "reuseport") == 0 && lua_isboolean(L, -1)) {
            o->reuseport = lua_toboolean(L, -1);
        } else {
            luaL_argerror(L, arg, lua_pushfstring(L, "bad option '%s'", key));
        }
        lua_pop(L, 1);
    }
}

/* Numeric addresses, and two names that everybody uses. */
static int listen_addr(nl_addr *a, int family, const char *text, size_t len, int port)
{
    if (len != strlen(text)) {
        return -EINVAL;
    }
    if (strcmp(text, "localhost") == 0) {
        text = family == 4 ? "127.0.0.1" : "::1";
    } else if (strcmp(text, "*") == 0) {
        text = family == 4 ? "0.0.0.0" : "::";
    }
    return nl_addr_ip(a, family, text, port);
}

/* Makes it and pushes the object.  0 or -errno, nothing pushed. */
static int open_listener(lua_State *L, nl_lctx *lc, const nl_addr *a, const struct nl_listen_opts *o)
{
    nl_tcp *t;
    if (lc->objects.closed) {
        return -NL_ESTOPPING;
    }
    int err = nl_tcp_listen(&t, &lc->ctx, &nl_lsock_ops, a, o);
    if (!err) {
        nl_lsock_push(L, lc, t);
    }
    return err;
}

/* family 4 or 6: (addr, port[, backlog[, callback]]); 1: (sock_name[, callback]) */
static int do_listen(lua_State *L, int family)
{
    nl_lctx *lc = nl_lctx_of(L);
    int nargs = family == 1 ? 1 : 3;
    bool callback = find_callback(L, family == 1 ? 2 : 3, nargs + 1);
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    nl_addr a;
    struct nl_listen_opts o = {0};
    int err;
    if (family == 1) {
        err = len == 0 || len != strlen(text) ? -EINVAL : nl_addr_unix(&a, text);
    } else {
        int port = check_port(L, 2);
        check_listen_opts(L, 3, &o);
        err = listen_addr(&a, family, text, len, port);
    }
    if (!callback) {
        lua_pushboolean(L, 1);
    }
    err = err ? err : open_listener(L, lc, &a, &o);
    if (!callback) {
        return err ? nl_push_err(L, -err) : 2;
    }
    nl_wait *w = nl_wait_callback(L, NL_WAIT_LISTEN, nargs + 1, 1, nargs);
    if (err) {
        nl_wait_later(lc, w, -err);
    } else {
        opened *op = nl_pool_alloc(sizeof *op);
        *op = (opened){.msg = {.ops = &opened_ops}, .w = w, .ref = nl_ref(lc, L)};
        nl_ctx_post(&lc->ctx, &op->msg);
    }
    lua_pushboolean(L, 1);
    return 1;
}

int nl_ltcp_listen(lua_State *L)
{
    return do_listen(L, 4);
}

int nl_ltcp_listen6(lua_State *L)
{
    return do_listen(L, 6);
}

int nl_ltcp_listens(lua_State *L)
{
    return do_listen(L, 1);
}

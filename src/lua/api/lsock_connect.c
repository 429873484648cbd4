/*
 * lsock_connect.c - tcp.listen and tcp.connect with their kin; net/connect.h does the connecting.
 */
#include "base/alloc.h"
#include "lua/api/lsock.h"
#include "net/connect.h"

#include <string.h>

/* --- connecting ------------------------------------------------------------------------------- */

/* One call under way. */
typedef struct connecting {
    nl_list all; /* in nl_objects.connects */
    nl_connect *c;
    nl_wait *w;
    nl_timed timed; /* c's */
} connecting;

static void free_connecting(connecting *op)
{
    nl_list_remove(&op->all);
    nl_pool_free(op, sizeof *op);
}

static void connect_due(nl_lctx *lc, nl_timed *timed)
{
    (void)lc;
    nl_connect_due(nl_container_of(timed, connecting, timed)->c);
}

static void connect_done(nl_ctx *ctx, void *user, nl_tcp *t, int err)
{
    nl_lctx *lc = (nl_lctx *)ctx;
    connecting *op = user;
    nl_wait *w = op->w;
    free_connecting(op);
    if (!t) {
        nl_wait_fail(lc, w, err);
        return;
    }
    lua_State *L = nl_wait_begin(lc, w);
    lua_pushboolean(L, 1);
    nl_lsock_push(L, lc, t);
    nl_wait_end(lc, w, 2);
}

static void cancel_connect(connecting *op)
{
    nl_connect_cancel(op->c);
    free_connecting(op);
}

void nl_lconnect_forget_all(nl_lctx *lc)
{
    while (!nl_list_empty(&lc->objects.connects)) {
        cancel_connect(nl_container_of(lc->objects.connects.next, connecting, all));
    }
}

static void connect_timeout(nl_lctx *lc, nl_wait *w)
{
    (void)lc;
    cancel_connect(w->owner);
}

/* 0 and *out, whose wait is the caller's to set; or why there is no use in trying. */
static int start_connect(connecting **out, nl_lctx *lc, int family, const char *host, int port)
{
    connecting *op = nl_pool_alloc(sizeof *op);
    memset(op, 0, sizeof *op);
    nl_timer_init(&op->timed.timer);
    op->timed.due = connect_due;
    nl_list_push_back(&lc->objects.connects, &op->all);
    nl_connect_to to = {
        .family = family,
        .host = host,
        .port = port,
        .ops = &nl_lsock_ops,
        .timer = &op->timed.timer,
        .done = connect_done,
        .user = op,
    };
    int err = nl_connect_start(&op->c, &lc->ctx, &to);
    if (err) {
        free_connecting(op);
    } else {
        *out = op;
    }
    return err;
}

/*
 * Optional arguments before a callback may be left out: if the function stands at an earlier place
 * than `last`, it is moved there and nils fill the gap.  Returns whether there is one; raises if
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
    connecting *op;
    int err = len != strlen(host) ? (family == 1 ? -EINVAL : -NL_EHOST)
                                  : start_connect(&op, lc, family, host, port);
    if (err) {
        if (!callback) {
            return nl_push_err(L, -err);
        }
        nl_wait_later(lc, w, -err);
    } else {
        w = callback ? w : nl_block_wait(L, NL_WAIT_CONNECT);
        w->owner = op;
        w->timeout = connect_timeout;
        op->w = w;
        if (seconds >= 0) {
            nl_wait_arm(lc, w, seconds);
        }
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

/* --- listening -------------------------------------------------------------------------------- */

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

/* Numeric addresses, localhost, and "*". */
static int listen_addr(nl_addr *a, int family, const char *text, size_t len, int port)
{
    if (len != strlen(text)) {
        return -EINVAL;
    }
    if (strcmp(text, "*") == 0) {
        text = family == 4 ? "0.0.0.0" : "::";
    }
    return nl_addr_known(a, family, text, port) == 1 ? 0 : -EINVAL;
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

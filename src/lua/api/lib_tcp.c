/*
 * lib_tcp.c - the module `tcp`: its table, options and addresses of sockets, and their end.
 *
 * Objects and their life are in lsock.c, the calls that wait in lsock_read.c, lsock_write.c and
 * lsock_connect.c.
 */
#include "lua/api/lsock.h"
#include "lua/api/modules.h"

#include <stdio.h>
#include <string.h>

/* The socket at index 1 if it is open; else NULL, and its error is pushed: return 2. */
static nl_lsock *open_at_1(lua_State *L, nl_lsock *so)
{
    if (nl_likely(so->tcp != NULL)) {
        return so;
    }
    nl_push_err(L, nl_lsock_closed_error(so));
    return NULL;
}

/* true, or false and the error of a negated number */
static int push_result(lua_State *L, int err)
{
    if (err < 0) {
        return nl_push_err(L, -err);
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* --- options ---------------------------------------------------------------------------------- */

/* Everything that set_rwopt sets. */
typedef struct rwopt {
    nl_frame_opt read, write;
    uint64_t write_queue_max;
} rwopt;

static rwopt get_options(nl_tcp *t)
{
    return (rwopt){*nl_tcp_read_opt(t), *nl_tcp_write_opt(t), nl_tcp_write_queue_max(t)};
}

static int bad_option(lua_State *L, const char *key, const char *expected)
{
    return luaL_argerror(L, 2, lua_pushfstring(L, "bad value for '%s': %s expected", key, expected));
}

/* The number on top, a whole one from 1 to max. */
static uint64_t option_number(lua_State *L, const char *key, double max)
{
    double n = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : 0;
    if (!(n >= 1 && n <= max && n == (double)(uint64_t)n)) {
        bad_option(L, key, max == NL_BUF_MAX ? "a length from 1 to 1 GiB" : "a number of bytes");
    }
    return (uint64_t)n;
}

/*
 * Sets one of head_bytes, head_endian, head_max from the value on top; false: name is none of them.
 */
static bool frame_option(lua_State *L, nl_frame_opt *o, const char *key, const char *name)
{
    if (strcmp(name, "head_bytes") == 0) {
        double n = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : -1;
        if (n != 0 && n != 1 && n != 2 && n != 4) {
            bad_option(L, key, "0, 1, 2 or 4");
        }
        o->head_bytes = (uint8_t)n;
    } else if (strcmp(name, "head_endian") == 0) {
        const char *e = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
        if (strcmp(e, "L") != 0 && strcmp(e, "B") != 0) {
            bad_option(L, key, "\"L\" or \"B\"");
        }
        o->big_endian = *e == 'B';
    } else if (strcmp(name, "head_max") == 0) {
        o->head_max = (uint32_t)option_number(L, key, NL_BUF_MAX);
    } else {
        return false;
    }
    return true;
}

/* Sets the option whose name and value are on top. */
static void set_option(lua_State *L, rwopt *o)
{
    const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
    if (!key) {
        luaL_argerror(L, 2,
                      lua_pushfstring(L, "an option's name is a string, not a %s", luaL_typename(L, -2)));
        return;
    }
    bool known = false;
    if (strncmp(key, "read_", 5) == 0) {
        known = frame_option(L, &o->read, key, key + 5);
    } else if (strcmp(key, "write_queue_max") == 0) {
        o->write_queue_max = option_number(L, key, 9007199254740992.0);
        known = true;
    } else if (strncmp(key, "write_", 6) == 0) {
        known = frame_option(L, &o->write, key, key + 6);
    }
    if (!known) {
        luaL_argerror(L, 2, lua_pushfstring(L, "unknown option '%s'", key));
    }
}

static bool same_frame_options(const nl_frame_opt *a, const nl_frame_opt *b)
{
    return a->head_bytes == b->head_bytes && a->big_endian == b->big_endian && a->head_max == b->head_max;
}

/* tcp.set_rwopt(socket, options): all of them are checked before any is changed. */
static int tcp_set_rwopt(lua_State *L)
{
    nl_lsock *so = nl_lsock_check_kind(L, 1, false);
    luaL_checktype(L, 2, LUA_TTABLE);
    rwopt now = {0};
    if (so->tcp) {
        now = get_options(so->tcp);
    }
    rwopt wanted = now;
    lua_settop(L, 2);
    lua_pushnil(L);
    while (lua_next(L, 2)) {
        set_option(L, &wanted);
        lua_pop(L, 1);
    }
    if (!open_at_1(L, so)) {
        return 2;
    }
    if (!same_frame_options(&now.write, &wanted.write) || now.write_queue_max != wanted.write_queue_max) {
        if (so->frozen) {
            return luaL_argerror(L, 2, "write options of a write-shared socket cannot change");
        }
        *nl_tcp_write_opt(so->tcp) = wanted.write;
        nl_tcp_set_write_queue_max(so->tcp, wanted.write_queue_max);
    }
    if (!same_frame_options(&now.read, &wanted.read)) {
        *nl_tcp_read_opt(so->tcp) = wanted.read;
        if ((so->readers || so->fn != NL_NOREF) && !so->delivering) {
            nl_tcp_again(so->tcp); /* what was half a frame may be whole now */
        }
    }
    lua_pushboolean(L, 1);
    return 1;
}

static void push_frame_options(lua_State *L, const char *prefix, const nl_frame_opt *o)
{
    lua_pushfstring(L, "%s_head_bytes", prefix);
    lua_pushinteger(L, o->head_bytes);
    lua_rawset(L, -3);
    lua_pushfstring(L, "%s_head_endian", prefix);
    lua_pushstring(L, o->big_endian ? "B" : "L");
    lua_rawset(L, -3);
    lua_pushfstring(L, "%s_head_max", prefix);
    lua_pushnumber(L, (lua_Number)nl_frame_max(o));
    lua_rawset(L, -3);
}

static int tcp_get_rwopt(lua_State *L)
{
    nl_lsock *so = open_at_1(L, nl_lsock_check_kind(L, 1, false));
    if (!so) {
        return 2;
    }
    rwopt o = get_options(so->tcp);
    lua_createtable(L, 0, 7);
    push_frame_options(L, "read", &o.read);
    push_frame_options(L, "write", &o.write);
    lua_pushnumber(L, (lua_Number)o.write_queue_max);
    lua_setfield(L, -2, "write_queue_max");
    return 1;
}

static int tcp_set_nodelay(lua_State *L)
{
    nl_lsock *so = nl_lsock_check_kind(L, 1, false);
    luaL_checktype(L, 2, LUA_TBOOLEAN);
    if (!open_at_1(L, so)) {
        return 2;
    }
    int err = nl_tcp_nodelay(so->tcp, lua_toboolean(L, 2));
    /* A Unix socket never delays. */
    return push_result(L, err == -EOPNOTSUPP || err == -ENOPROTOOPT ? 0 : err);
}

static int tcp_set_wshared(lua_State *L)
{
    nl_lsock *so = nl_lsock_check_kind(L, 1, false);
    luaL_checktype(L, 2, LUA_TBOOLEAN);
    if (!open_at_1(L, so)) {
        return 2;
    }
    bool on = lua_toboolean(L, 2);
    /* For good: a writer of another context may still be at it when the sharing is taken back. */
    so->frozen |= on;
    nl_tcp_set_wshared(so->tcp, on);
    lua_pushboolean(L, 1);
    return 1;
}

/* --- names ------------------------------------------------------------------------------------ */

static int push_address(lua_State *L, bool remote, bool port)
{
    nl_lsock *so = remote ? nl_lsock_check_kind(L, 1, false) : nl_lsock_check(L, 1);
    if (!open_at_1(L, so)) {
        return 2;
    }
    nl_addr a;
    int err = remote ? nl_tcp_remote(so->tcp, &a) : nl_tcp_local(so->tcp, &a);
    if (err < 0) {
        return nl_push_err(L, -err);
    }
    if (port) {
        lua_pushinteger(L, nl_addr_port(&a));
    } else {
        char text[128];
        nl_addr_text(&a, text, sizeof text);
        lua_pushstring(L, text);
    }
    return 1;
}

static int tcp_local_addr(lua_State *L)
{
    return push_address(L, false, false);
}

static int tcp_remote_addr(lua_State *L)
{
    return push_address(L, true, false);
}

static int tcp_local_port(lua_State *L)
{
    return push_address(L, false, true);
}

static int tcp_remote_port(lua_State *L)
{
    return push_address(L, true, true);
}

static int tcp_fd(lua_State *L)
{
    nl_lsock *so = open_at_1(L, nl_lsock_check(L, 1));
    if (!so) {
        return 2;
    }
    lua_pushnumber(L, (lua_Number)nl_tcp_id(so->tcp));
    return 1;
}

/* The owner's handle, or nil for a number that names no open socket (any more). */
static int tcp_fd_src(lua_State *L)
{
    lua_Number n = luaL_checknumber(L, 1);
    uint64_t owner = n >= 1 && n < 9007199254740992.0 ? nl_tcp_owner((uint64_t)n) : 0;
    if (owner) {
        lua_pushnumber(L, (lua_Number)owner);
    } else {
        lua_pushnil(L);
    }
    return 1;
}

static int tcp_tostring(lua_State *L)
{
    nl_lsock *so = nl_lsock_check(L, 1);
    const char *kind = so->listener ? "listen socket" : "socket";
    if (so->tcp) {
        char id[24]; /* not by way of a lua_Number, which would come out as 1.6e+07 */
        snprintf(id, sizeof id, "%llu", (unsigned long long)nl_tcp_id(so->tcp));
        lua_pushfstring(L, "tcp %s %s", kind, id);
    } else {
        lua_pushfstring(L, "tcp %s (closed)", kind);
    }
    return 1;
}

/* --- end -------------------------------------------------------------------------------------- */

static int tcp_close(lua_State *L)
{
    nl_lsock *so = nl_lsock_check(L, 1);
    bool open = so->tcp != NULL;
    if (open) {
        nl_lsock_close(L, nl_lctx_of(L), so, 1);
    }
    lua_pushboolean(L, open);
    return 1;
}

static int tcp_is_closed(lua_State *L)
{
    lua_pushboolean(L, !nl_lsock_check(L, 1)->tcp);
    return 1;
}

/* Nobody knows the socket any more, so nobody waits on it. */
static int tcp_gc(lua_State *L)
{
    nl_lsock *so = nl_lsock_check(L, 1);
    if (so->tcp) {
        nl_lsock_close(L, nl_lctx_of(L), so, 1);
    }
    return 0;
}

/* --- the module ------------------------------------------------------------------------------- */

static const luaL_Reg functions[] = {
    {"listen", nl_ltcp_listen},       {"listen6", nl_ltcp_listen6},
    {"listens", nl_ltcp_listens},     {"accept", nl_ltcp_accept},
    {"connect", nl_ltcp_connect},     {"connect6", nl_ltcp_connect6},
    {"connects", nl_ltcp_connects},   {"read", nl_ltcp_read},
    {"write", nl_ltcp_write},         {"set_rwopt", tcp_set_rwopt},
    {"get_rwopt", tcp_get_rwopt},     {"set_nodelay", tcp_set_nodelay},
    {"set_wshared", tcp_set_wshared}, {"local_addr", tcp_local_addr},
    {"remote_addr", tcp_remote_addr}, {"local_port", tcp_local_port},
    {"remote_port", tcp_remote_port}, {"close", tcp_close},
    {"is_closed", tcp_is_closed},     {"fd", tcp_fd},
    {"fd_src", tcp_fd_src},           {NULL, NULL},
};

int luaopen_nl_tcp(lua_State *L)
{
    nl_lctx *lc = nl_lctx_of(L);
    lua_createtable(L, 0, (int)nl_countof(functions));
    luaL_register(L, NULL, functions);
    if (lc->objects.sock) {
        return 1;
    }
    nl_list_init(&lc->objects.sockets);
    nl_list_init(&lc->objects.connects);
    nl_list_init(&lc->objects.fd_writes);
    lua_createtable(L, 0, 5);
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, tcp_gc);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, tcp_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushliteral(L, "tcp socket");
    lua_setfield(L, -2, "__name");
    lua_pushliteral(L, "tcp socket"); /* what getmetatable answers: scripts leave ours alone */
    lua_setfield(L, -2, "__metatable");
    lc->objects.sock = lua_topointer(L, -1);
    lc->objects.sock_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 1;
}

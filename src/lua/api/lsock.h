/*
 * lsock.h - the socket objects of Lua, shared by the files of the module `tcp`.
 *
 * Purpose: lib_tcp.c has the functions and options, lsock.c the objects and their end,
 *          lsock_read.c, lsock_write.c and lsock_connect.c the calls that wait.
 * Threads: the one that runs the context.
 * Ownership: a socket object is a userdata with a nl_lsock inside; net/tcp.h's socket points
 *          back to it.  The object is collected like any value while nobody waits on it.  From
 *          the first waiter or callback on it is anchored (`self`): neither it nor the socket
 *          can go away meanwhile.  Messages that point to an object (writes) are memory of
 *          their own: they may still lie in the mailbox when the state is gone.
 */
#ifndef NL_LSOCK_H
#define NL_LSOCK_H

#include "lua/run/lctx.h"
#include "net/tcp.h"

/* What nl_tcp_user points to. */
typedef struct nl_lsock {
    nl_list all;      /* in nl_objects.sockets, from open to close */
    nl_tcp *tcp;      /* NULL: closed */
    nl_list *readers; /* first waiting nl_wait of read or accept; a ring, see nl_ring_add */
    nl_list *writers; /* first nl_lwrite that somebody waits for */
    int fn;           /* continuous callback of read or accept */
    int self;         /* reference to the userdata: anchored */
    uint32_t arming;  /* counts the callbacks it has had */
    bool listener;    /* the rest is a socket's */
    bool delivering;  /* nl_lsock_deliver is at work */
    bool frozen;      /* was write-shared: its write options stay as they are */
} nl_lsock;

extern const nl_tcp_ops nl_lsock_ops;

/* --- rings: lists that cost one pointer while they are empty ---------------------------------- */

static inline void nl_ring_add(nl_list **ring, nl_list *node)
{
    if (*ring) {
        nl_list_push_back(*ring, node);
    } else {
        nl_list_init(node);
        *ring = node;
    }
}

static inline void nl_ring_remove(nl_list **ring, nl_list *node)
{
    if (*ring == node) {
        *ring = nl_list_empty(node) ? NULL : node->next;
    }
    nl_list_remove(node);
}

/* --- objects: lsock.c ------------------------------------------------------------------------- */

/* Pushes an object for t, whose owner is this context; takes t over. */
nl_lsock *nl_lsock_push(lua_State *L, nl_lctx *lc, nl_tcp *t);
/* The socket at index arg, closed or not, or NULL. */
static inline nl_lsock *nl_lsock_test(lua_State *L, const nl_lctx *lc, int arg)
{
    return nl_lua_testudata(L, arg, lc->objects.sock);
}
/* The same; raises for anything else. */
nl_lsock *nl_lsock_check(lua_State *L, int arg);
/* The same for a connection or for a listener only. */
nl_lsock *nl_lsock_check_kind(lua_State *L, int arg, bool listener);
/* ETCPSCLOSED or ETCPLCLOSED. */
static inline int nl_lsock_closed_error(const nl_lsock *so)
{
    return so->listener ? NL_ETCPLCLOSED : NL_ETCPSCLOSED;
}
/* Keeps the userdata at idx alive until nl_lsock_settle finds that nobody waits on it. */
void nl_lsock_anchor(lua_State *L, nl_lctx *lc, nl_lsock *so, int idx);
void nl_lsock_settle(nl_lctx *lc, nl_lsock *so);
/* Closes the socket at index idx, which is open, and tells who waits on it. */
void nl_lsock_close(lua_State *L, nl_lctx *lc, nl_lsock *so, int idx);

/* Closes every socket of the context; called by the end of the context, in C, no Lua runs. */
void nl_ltcp_close_all(nl_lctx *lc);

/* --- reading and accepting: lsock_read.c ------------------------------------------------------ */

int nl_ltcp_read(lua_State *L);
int nl_ltcp_accept(lua_State *L);
/* Something may be there: hands it to those who wait, as long as there is any. Not inside Lua. */
void nl_lsock_deliver(nl_lctx *lc, nl_lsock *so);
/* Takes the callback off, if there is one. */
void nl_lsock_disarm(nl_lctx *lc, nl_lsock *so);
/* True if Lua now runs on behalf of the callback that is armed. */
bool nl_lsock_in_own_callback(const nl_lctx *lc, const nl_lsock *so);

/* --- writing: lsock_write.c ------------------------------------------------------------------- */

int nl_ltcp_write(lua_State *L);
/*
 * The socket closes: those who wait for their bytes to be taken hear so, unless they are by then.
 */
void nl_lsock_end_writes(nl_lctx *lc, nl_lsock *so);
/* The context ends: whatever comes of these writes, nobody is told. */
void nl_lsock_forget_writes(nl_lctx *lc, nl_lsock *so);
void nl_ltcp_forget_fd_writes(nl_lctx *lc);

/* --- listening and connecting: lsock_connect.c ------------------------------------------------ */

int nl_ltcp_listen(lua_State *L);
int nl_ltcp_listen6(lua_State *L);
int nl_ltcp_listens(lua_State *L);
int nl_ltcp_connect(lua_State *L);
int nl_ltcp_connect6(lua_State *L);
int nl_ltcp_connects(lua_State *L);
/* The context ends: the connects under way are given up. */
void nl_lconnect_forget_all(nl_lctx *lc);

#endif

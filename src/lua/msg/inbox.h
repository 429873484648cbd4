/*
 * inbox.h - messages between scripts.
 *
 * Purpose: what send.c (send, query, reply), recv.c (recv and delivery) and peer.c (other contexts,
 *   their ends, one's own end) share.
 * Threads: the context's; nl_packet_refuse any.
 * Ownership: a packet that has come in is the inbox's, until it is handed out.
 *
 * A message of a script is a nl_packet.  Its nl_msg_ops say what it is: a send, a query, a reply,
 * the news that there will be no reply.
 *
 * Peers.  For every context that this one has queried, received from by handle or waited for, it
 * keeps a nl_peer, and has told that context so, once (watching).  At its end a context sends
 * an nl_peer_ended to all who have told it; that ends what they have pending on it.  Whether a
 * context has ended is never decided by looking the handle up: messages it sent before may still
 * stand in the mailbox.  A context that finds it gone posts the nl_peer_ended to itself, behind
 * them.
 */
#ifndef NL_INBOX_H
#define NL_INBOX_H

#include "lua/msg/pack.h"
#include "lua/msg/pending.h"
#include "lua/run/lctx.h"

typedef struct nl_peer {
    nl_list receivers; /* coroutines in recv(handle): nl_wait */
    nl_wait *callback; /* of recv(handle, callback) */
    uint64_t handle;
    bool watching;        /* it will tell us of its end */
    struct nl_peer *next; /* in its bucket */
    nl_list queries;      /* pending on it: nl_wait */
    nl_list enders;       /* those in wait(handle): nl_wait */
} nl_peer;

typedef struct nl_inbox {
    /* What every message touches. */
    nl_packet *opened;     /* a message whose values are just pushed: not lost if that raises */
    nl_packet *spare;      /* a message used up, for the next one to be sent */
    nl_peer *last;         /* the one looked up last */
    int share, share_left; /* sends between two looks at how long the receiver's mailbox is */
    uint32_t nfrom;        /* coroutines and callbacks in recv(h), h not 0 */
    nl_peer any;           /* recv(0) */

    nl_peer **buckets;
    uint32_t nbuckets, npeers;
    nl_peer *ended_peer; /* has ended, and its waits are just being told: out of the table */
    nl_pending pending;  /* received, and nobody has asked for them yet */
    nl_packets reserved; /* each taken by a coroutine that gets it in a later turn */
    nl_handles sessions; /* queries that have no reply yet: nl_wait */
    uint64_t *watchers;  /* whom to tell of our end */
    uint32_t nwatchers, watchers_cap;
    nl_msg drain; /* posted: a callback was set while messages were pending */
    bool draining;
} nl_inbox;

void nl_inbox_init(nl_lctx *lc);
/* The context has ended, its state is closed: answers what it has not answered. */
void nl_inbox_end(nl_lctx *lc, const nl_reason *reason);
/*
 * Tells all contexts that c was told to end and does not (nl_ctx_ops.given_up): what they wait for
 * from it is over.
 */
void nl_inbox_given_up(nl_ctx *c, const nl_reason *reason);
/*
 * Frees all that it keeps; the struct itself, which holds figures for other threads, goes with the
 * context.
 */
void nl_inbox_release(nl_lctx *lc);
void nl_inbox_free(nl_lctx *lc);

/* --- peers: peer.c ---------------------------------------------------------------------------- */

nl_peer *nl_peer_find(nl_inbox *inbox, uint64_t handle);
/* Finds or makes it. */
nl_peer *nl_peer_get(nl_inbox *inbox, uint64_t handle);
/* Sees to it that an nl_peer_ended of the peer comes, sooner or later, behind all its messages. */
void nl_peer_watch(nl_lctx *lc, nl_peer *p);
/* Someone wants to hear of our end. */
void nl_watcher_add(nl_lctx *lc, uint64_t handle);

/* context.wait */
int nl_context_wait(lua_State *L);

/* --- sending and answering: send.c ------------------------------------------------------------ */

int nl_context_send(lua_State *L);
int nl_context_query(lua_State *L);
int nl_context_timed_query(lua_State *L);
int nl_context_reply(lua_State *L);
/* The query of a wait is over, replied to or not. */
void nl_session_free(nl_inbox *inbox, nl_wait *w);
/* Gives a message up: a query that no script has seen is answered with ENOREPLY.  Any thread. */
void nl_packet_refuse(nl_packet *m);
/* Pushes the values of a message that nl_packet_used is called with next; returns how many. */
static inline int nl_packet_open(nl_inbox *inbox, lua_State *L, nl_packet *m)
{
    if (nl_unlikely(inbox->opened)) { /* left over only if memory ran out */
        nl_packet_free(inbox->opened);
    }
    inbox->opened = m;
    int n = nl_packet_unpack(L, m);
    inbox->opened = NULL;
    return n;
}
/* The message is used up: keeps it for the next one, or frees it. */
static inline void nl_packet_used(nl_inbox *inbox, nl_packet *m)
{
    if (nl_likely(!inbox->spare && m->body.cap <= 1024)) {
        inbox->spare = m;
    } else {
        nl_packet_free(m);
    }
}

/* --- receiving: recv.c ------------------------------------------------------------------------ */

int nl_context_recv(lua_State *L);
/* A message has come in: to whoever wants it, else to the pending ones. */
void nl_deliver(nl_lctx *lc, nl_packet *m);

/* --- arguments: peer.c ------------------------------------------------------------------------ */

/*
 * A handle or a name at index arg.  0 and *handle; NL_ENOCONTEXT for a name nobody bears or a
 * number that can be no handle; other types raise.
 */
int nl_check_handle(lua_State *L, int arg, uint64_t *handle);
static inline int nl_handle_arg(lua_State *L, int arg, uint64_t *handle)
{
    if (nl_likely(nl_lua_type(L, arg) == LUA_TNUMBER)) {
        lua_Number n = nl_lua_tonumber(L, arg);
        if (nl_likely(n >= 1 && n < 9007199254740992.0)) {
            *handle = (uint64_t)n;
            return nl_likely((lua_Number)*handle == n) ? 0 : NL_ENOCONTEXT;
        }
    }
    return nl_check_handle(L, arg, handle);
}

#endif

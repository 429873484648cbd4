/*
 * pack.h - values between states: what messages and context arguments carry.
 *
 * Packs stack values to bytes in one pass and unpacks them in another state.  nil, booleans,
 * numbers, int64_t / uint64_t cdata, strings, tables of these (shared references stay
 * shared), buffers (shared, not copied).  Cycles, nesting over NL_PACK_DEPTH and other types are
 * refused with a Lua error that names the path, starting with the argument's number:
 * "ETRANSTYPE: [2].on_hit is a function".
 *
 * Short packings live inside the message (no second allocation).
 */
#ifndef NL_PACK_H
#define NL_PACK_H

#include <lua.h>

#include "net/buffer.h"
#include "sched/msg.h"

#define NL_PACK_DEPTH 100

/* A packed list of values.  Owned by whoever holds it; nl_packed_free gives its buffers up. */
typedef struct nl_packed {
    uint32_t len, cap; /* bytes used and there */
    uint16_t nvalues;
    uint16_t nbufs; /* references to blocks inside */
    unsigned char data[];
} nl_packed;

/* What a user's message is (kinds: NL_UMSG_*).  Allocated from the pool as one block. */
typedef struct nl_umsg {
    nl_msg msg;
    uint64_t from;   /* handle of the sender */
    int64_t session; /* -1: plain send */
    uint64_t aux;
    uint8_t kind;
    nl_packed body;  /* last: its data follow */
} nl_umsg;

/*
 * Packs the values first..last of L's stack into a fresh message (kind, session, from left to
 * the caller).  Raises for what cannot be carried, naming argument number (index - first + 1 + argbase);
 * nothing leaks then.
 */
nl_umsg *nl_umsg_pack(lua_State *L, int first, int last, int argbase);
/* Pushes the values on L (checks the stack); returns how many.  The message stays. May raise only for memory. */
int nl_umsg_unpack(lua_State *L, nl_umsg *m);
/* Frees it and what it holds. */
void nl_umsg_free(nl_umsg *m);

#endif

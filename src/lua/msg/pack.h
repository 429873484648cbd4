/*
 * pack.h - values between states: what messages and context arguments carry.
 *
 * Purpose: stack values become bytes in one pass, and values again in another state.
 * Threads: the one that runs the state; a packet goes from thread to thread.
 * Ownership: a packet holds references of the buffers in it; who has the packet frees it.
 *
 * Carried are nil, booleans, numbers, cdata that are one number or bool, NULL as light userdata,
 * strings, tables of these (shared references stay shared), buffers (shared, not copied).  Cycles,
 * nesting over NL_PACK_DEPTH and other types are refused with a Lua error that names the path,
 * starting with the argument's number: "ETRANSTYPE: [2].on_hit is a function".
 *
 * Short packings live inside the message (no second allocation).
 */
#ifndef NL_PACK_H
#define NL_PACK_H

#include <lua.h>
#include <string.h>

#include "lua/vm/lj.h"
#include "net/buffer.h"
#include "sched/msg.h"

#define NL_PACK_DEPTH 100

enum {
    NL_PACKED_PLAIN,  /* of kinds that pack_plain.c takes, and no tables */
    NL_PACKED_TABLES, /* the same, and there are tables */
    NL_PACKED_ANY,
    NL_PACKED_SHARES /* some table occurs more than once: unpacking must remember them */
};

/* A packed list of values, at the end of whatever carries it. */
typedef struct nl_packed {
    uint32_t len, cap; /* bytes used and there */
    /* Where the last buffer's record stands, + 1; 0: none.  Records are chained backwards. */
    uint32_t buf_last;
    uint16_t nvalues;
    uint8_t kind;                     /* NL_PACKED_* */
    _Alignas(8) unsigned char data[]; /* the sizes of this and of nl_packet end here */
} nl_packed;

/* A message between scripts, in one block from the pool. */
typedef struct nl_packet {
    nl_msg msg;
    uint64_t from;   /* handle of the sender */
    int64_t session; /* -1: plain send */
    nl_packed body;  /* last: its data follow */
} nl_packet;
_Static_assert(sizeof(nl_packet) == offsetof(nl_packet, body.data),
               "pack.c puts the data behind sizeof(nl_packet)");

#define NL_PACK_NUMBER 3 /* in front of a number's 8 bytes; pack_impl.h has the other kinds */

/* Most values in one message: with what a receiver pushes beside them, a Lua stack takes 8,000. */
#define NL_PACK_VALUES 7900

/*
 * Packs the values first..last of L's stack (none if last < first) into a message; msg, from and
 * session are the caller's to fill.  *spare: NULL, or a message given up, which is taken: its block
 * is used if it fits.  Raises for what cannot be carried, with the path, which starts with the
 * argument's number (argument first has number argbase); nothing leaks then, and *spare is still
 * there.
 */
nl_packet *nl_packet_pack(lua_State *L, int first, int last, int argbase, nl_packet **spare);
/*
 * Pushes the values on L; returns how many.  The message stays.  Where L's stack cannot grow any
 * more, what does not fit is left out, and that is logged; raises for memory only.
 */
int nl_packet_unpack_any(lua_State *L, const nl_packet *m);
static inline int nl_packet_unpack(lua_State *L, const nl_packet *m)
{
    if (nl_likely(m->body.nvalues == 1 && m->body.data[0] == NL_PACK_NUMBER)) {
        lua_Number n;
        memcpy(&n, m->body.data + 1, sizeof n);
        nl_lua_pushnumber(L, n);
        return 1;
    }
    return nl_packet_unpack_any(L, m);
}
/* Frees it and gives up the buffers it holds. */
void nl_packet_free(nl_packet *m);

#endif

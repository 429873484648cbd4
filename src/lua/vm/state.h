/*
 * state.h - a Lua state with its heap: making and closing it.
 *
 * Purpose: knows LuaJIT and nothing of contexts.  A nl_state lies in whatever owns it (run/lctx.h).
 * Threads: one at a time, the one that runs the state; any reads `use` and jit.
 * Ownership: the state has its heap from nl_state_open to nl_state_close.
 */
#ifndef NL_STATE_H
#define NL_STATE_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "lua/vm/heap.h"
#include "lua/vm/lj.h"

typedef struct nl_state {
    /* Every run of a coroutine looks at these. */
    atomic_uchar jit;      /* NL_JIT_* (jit.h); the monitor's thread has a look too */
    bool jit_hidden;       /* the library jit is open for the runtime only */
    bool jit_counted;      /* it counts for NL_JIT_MAX */
    bool closing;          /* nl_state_close is at work: only finalizers run, references are gone */
    lua_State *L;          /* main thread: runs no script code, holds what is shared */
    int64_t closing_since; /* set before closing */

    /* its allocator; NULL before nl_state_open, and where pointers have 32 bits: LuaJIT's own */
    nl_heap *heap;
    nl_heap_use use;
    const char *(*name)(const struct nl_state *s); /* of its owner, for logs */
    /*
     * An error has come that nothing is left to catch: ends the state's owner.  Returns if that
     * cannot be.
     */
    void (*abandon)(struct nl_state *s, const char *text);
} nl_state;

/* Makes the state; calls prepare(L) protected.  0, or -ENOMEM; to be closed all the same. */
int nl_state_open(nl_state *s, lua_CFunction prepare);
/*
 * What finalizers have of time, all together, when the state is closed, before they are
 * interrupted.
 */
#define NL_CLOSE_NS ((int64_t)2000000000)
/*
 * Closes it, if it is open, and frees its memory.  With finalizers false nothing outside of the
 * heap hangs on the state, and lua_close is not called unless userdata wait for finalizers.
 */
void nl_state_close(nl_state *s, bool finalizers);

/*
 * The same as nl_state_of for a state that has not our allocator: from the registry, where
 * references use numbers from 0 up.
 */
#define NL_STATE_SELF (-1)
nl_state *nl_state_of_slow(lua_State *L);
/* The nl_state of a lua_State: the owner of its allocator. */
static inline nl_state *nl_state_of(lua_State *L)
{
    void *ud;
    lua_Alloc f = nl_lua_getallocf(L, &ud);
    return nl_likely(f == nl_heap_alloc) ? nl_heap_owner(ud) : nl_state_of_slow(L);
}

/* Pushes the table of the library ffi, whether or not the script may see it; raises on failure. */
void nl_state_push_ffi(lua_State *L);

#endif

/*
 * lctx.h - a context that runs Lua: its state, its coroutines, and how its operations wait.
 *
 * Purpose: nl_lctx is the context's struct.  nl_co is a coroutine of the runtime.  nl_wait is the
 *   one way in which every operation of the API waits.
 * Threads: the worker that runs the context; nothing here is thread safe.
 * Ownership: the context has its roots and its callbacks' waits until it ends.  A root has the wait
 *   that it is parked in.
 *
 * Roots.  Lua code runs only inside coroutines of the runtime, called roots (nl_co): the main
 * chunk, each callback and each context.run function has one.  Scripts' own coroutines are
 * nested in a root.  Finished roots are kept and used again.  `cur` is the root now
 * running; while it runs, any nested coroutine runs on its behalf.
 *
 * Blocking.  A blocking C function checks with nl_block_check that every coroutine from the
 * root down to the calling one can be suspended, sets up the root's nl_wait, and returns
 * nl_park(L).  That yields; coroutine.resume and wrap (colib.c), which run nested coroutines,
 * see that it is no yield of the script and yield in their turn, up to the root.  When the
 * results are there (nl_wait_begin … push … nl_wait_end), the coroutine that blocked is resumed
 * with them straight away; what it yields or returns later goes up to the coroutine above it,
 * as the result of its coroutine.resume, and so on up to the root (co.c).
 *
 * Waits.  A nl_wait is either a parked root (w->co) or a callback (w->fn, with the call's own
 * arguments kept for it).  Both are completed the same way, so an operation is written once.
 * nl_wait_begin returns the state to push results on; nl_wait_end(w, n) runs it: a parked
 * root is resumed with them, a callback's function is called in a root of its own with
 * results first, then the arguments of the call.  A wait that ends while Lua of the same
 * context is running (close, an immediate failure) is put off by nl_wait_later until the
 * current turn is over, so no callback runs before its call has returned.
 *
 * Life.  `alive` counts what keeps the context alive: running or parked roots, armed callbacks
 * and timers.  At 0 with nothing to run the context ends.
 */
#ifndef NL_LCTX_H
#define NL_LCTX_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "base/handles.h"
#include "base/list.h"
#include "lua/vm/libscan.h"
#include "lua/vm/state.h"
#include "net/buffer.h"
#include "sched/sched.h"

typedef struct nl_lctx nl_lctx;
typedef struct nl_co nl_co;
typedef struct nl_wait nl_wait;
typedef struct nl_refs nl_refs;

/* A timer of a context, and what to do when it is due. */
typedef struct nl_timed {
    nl_timer timer;
    void (*due)(nl_lctx *lc, struct nl_timed *timed);
} nl_timed;

enum nl_wait_kind {
    NL_WAIT_NONE,
    NL_WAIT_SLEEP,
    NL_WAIT_TIMER, /* timer.timeout / loop */
    NL_WAIT_QUERY,
    NL_WAIT_RECV,
    NL_WAIT_CTX, /* context.wait */
    NL_WAIT_CONNECT,
    NL_WAIT_ACCEPT,
    NL_WAIT_READ,
    NL_WAIT_WRITE,
    NL_WAIT_LISTEN,
    NL_WAIT_IO /* a file, a process */
};

struct nl_wait {
    nl_list node; /* in the queue of what it waits for; linked to itself when in none */
    nl_co *co;    /* the parked root, or NULL for a callback */
    /*
     * callback: first of 1 + nargs references side by side: the function, the call's own arguments
     */
    int fn;
    uint16_t nargs;
    uint8_t kind;    /* enum nl_wait_kind */
    bool continuous; /* callback stays armed after firing */
    bool posted;     /* later stands in a queue */
    bool freed;      /* while posted: later frees the memory */
    int err;         /* for nl_wait_later: the positive error to end with */
    nl_timed timed;  /* its time-out */
    /* the time-out has passed: unhook w from its queue; then NL_ETIMEOUT is delivered */
    void (*timeout)(nl_lctx *lc, nl_wait *w);
    nl_msg later; /* nl_wait_later */
    void *owner;  /* the socket, …: for the operation's own use */
    uint64_t key; /* handle, session, …: likewise */
    uint64_t key2;
    nl_list all; /* callbacks: in lctx.callbacks */
};

struct nl_co {
    nl_lctx *lc;
    lua_State *L;
    lua_State *leaf; /* parked: the coroutine that blocked, L or one nested in it */
    int ref;         /* anchors the thread */
    bool main;       /* runs the main chunk */
    /* the script has seen its thread (coroutine.running): not to be used for another callback */
    bool escaped;
    nl_co *next;      /* free list */
    nl_list all;      /* every root of the context */
    uint64_t serving; /* the callback that it runs, for lsock_read.c; nl_co_get sets 0 */
    nl_wait wait;     /* what it is parked in; a root waits for one thing at a time */
};

/*
 * One coroutine now running, from the root (up NULL) to the innermost; on the C stack of who
 * resumed it.
 */
typedef struct nl_colink {
    struct nl_colink *up;
    lua_State *L;
} nl_colink;

#define NL_NOREF (-2)

/* What the objects of buffers and sockets keep per context; they fill it when first used. */
typedef struct nl_objects {
    /* metatables by lua_topointer: a type check is one compare */
    const void *buf_small, *buf_full, *sock;
    int buf_small_ref, buf_full_ref, sock_ref; /* and their places in the registry (luaL_ref) */
    nl_buf pushing;         /* on its way into an object: not lost if making the object raises */
    struct nl_tcp *opening; /* likewise */
    /* bytes outside the Lua heap taken on by buffers and not yet told to its collector */
    size_t debt;
    nl_list sockets;   /* every socket object, to close at the end */
    nl_list connects;  /* those under way */
    nl_list fd_writes; /* writes by number that somebody waits for */
    uint32_t nsockets; /* open sockets, for stats */
    bool closed;       /* nl_ltcp_close_all has been here: no new sockets */
    const void *file;  /* metatable of LuaJIT's file objects, likewise */
    nl_list streams;   /* io_gather.c: of files that can sleep */
    nl_list readings;  /* io_read.c: reads under way */
} nl_objects;

/* The libraries that are open (load/libs.c). */
typedef struct nl_lctx_libs {
    uint32_t open, stubs; /* NL_LIB_*: opened, and such as will be when they are used */
    /* the stubs' tables, by the number of the bit, as lua_topointer tells them */
    const void *stub[NL_LIB_STUB_BITS];
    const void *string_metatable; /* of all strings, until `string` is open */
} nl_lctx_libs;

#define NL_PATHS 2

struct nl_lctx {
    nl_ctx ctx; /* first: nl_ctx * and nl_lctx * convert */

    /* One cache line that every run of a root touches, down to vm.L. */
    nl_alignas_line nl_co *cur; /* the root now running; NULL: no Lua runs */
    nl_colink *link;            /* the innermost coroutine now running */
    nl_co *free_co;
    struct nl_inbox *inbox; /* msg/inbox.h: receivers, pending messages, queries, watchers */
    uint32_t nfree_co;
    uint32_t alive;
    uint32_t runs; /* of roots; paces the look whether the JIT compiler is due */
    bool parking;  /* nl_park was called: the yield under way is the runtime's */
    bool dying;    /* destroyed or exiting: no further Lua runs */
    bool leaving;  /* leave_hook is just suspending for good (interrupt.c) */
    /* one message ends several waits: what runs for one is not to give way to the next */
    bool in_fanout;
    nl_state vm;
    const lua_State *warm; /* what nl_ctx_warm was told of last */

    /* Roots and waits: run/. */
    nl_co *callback_co; /* a callback's root, between nl_wait_begin and nl_wait_end */
    uint32_t nco;       /* roots, free ones too */
    nl_list all_co;
    nl_list callbacks; /* every nl_wait that is a callback */
    nl_refs *refs;
    struct injection *injection;           /* colib.c */
    const void *pcall, *xpcall, *tostring; /* the stock functions, by lua_topointer */

    /* Messages and objects: msg/, api/. */
    /* pack_plain.c: reference in the registry to some strings, for it to find again; 0: none yet */
    int strings;
    nl_objects objects;
    size_t c_bytes;
    nl_handles timers; /* lib_timer.c */

    nl_lctx_libs libs;

    /* Life: life.c. */
    uint32_t ntimers; /* of scripts */
    bool first;       /* the first context: its failure is the process's status 1 */
    uint64_t parent;
    uint64_t seed; /* lib_math.c */
    char *name;    /* file and arguments */
    /* package.path and cpath at the start; NULL: those of the first context */
    char *paths[NL_PATHS];
    /* path it was loaded from, NULL for none (-e); behind the name in one block */
    char *file;
    struct nl_start *start; /* until it starts: its chunk and arguments */
};
_Static_assert((offsetof(nl_lctx, vm.L) - offsetof(nl_lctx, cur)) < NL_CACHELINE, "cur to vm.L: one line");

/* The context of a state. */
static inline nl_lctx *nl_lctx_of(lua_State *L)
{
    return nl_container_of(nl_state_of(L), nl_lctx, vm);
}

/* --- references: refs.c ----------------------------------------------------------------------- */

/* Pops a value and keeps it; like luaL_ref, on a table of the context's own. */
int nl_ref(nl_lctx *lc, lua_State *L);
void nl_unref(nl_lctx *lc, int ref);
/* Pushes it on L. */
static inline void nl_ref_push(nl_lctx *lc, lua_State *L, int ref);
/* The same for n values side by side, references r … r + n - 1: pops n, frees n. */
int nl_ref_n(nl_lctx *lc, lua_State *L, int n);
/* Makes them, in *place; may raise for memory, and *place is to be freed all the same. */
void nl_refs_new(nl_refs **place, lua_State *L);
void nl_refs_free(nl_refs *r);
void nl_unref_n(nl_lctx *lc, int ref, int n);

/* --- roots ------------------------------------------------------------------------------------ */

/* A free root, its stack empty.  It counts as alive from here on, so it must be run some time. */
static inline nl_co *nl_co_get(nl_lctx *lc);
/* Starts co with the function and nargs arguments on its stack, or resumes it with nargs
 * values on top; deals with the outcome: finished, parked, stuck, error (logged). */
void nl_co_run(nl_co *co, int nargs);

/* --- blocking --------------------------------------------------------------------------------- */

/*
 * Raises "cannot block here: …" unless every coroutine from the root to L can be suspended.
 * Call it before anything is changed, also when the result is already at hand.
 */
void nl_block_check(lua_State *L);
/* Whether it would not raise. */
bool nl_can_block(lua_State *L);
/* The wait of the running root, fresh, with kind set.  After nl_block_check. */
nl_wait *nl_block_wait(lua_State *L, int kind);
/* return nl_park(L): parks the running root. */
int nl_park(lua_State *L);

/* --- callbacks -------------------------------------------------------------------------------- */

/*
 * A wait for the callback at stack index fn, keeping copies of the nargs values from index
 * first (the call's own arguments, nil where left out).  Counted alive.
 */
nl_wait *nl_wait_callback(lua_State *L, int kind, int fn, int first, int nargs);
/* Unhooks and frees a callback that will not fire (again). */
void nl_wait_free(nl_lctx *lc, nl_wait *w);
/* When the context has ended: whatever callbacks and roots are left. */
void nl_wait_free_all(nl_lctx *lc);
void nl_co_free_all(nl_lctx *lc);

/* --- completing ------------------------------------------------------------------------------- */

/* Arms its time-out at seconds from now (≤ 0 fires in a later turn). */
void nl_wait_arm(nl_lctx *lc, nl_wait *w, double seconds);
/*
 * The state on which to push the results; the wait is unhooked from its queue and its timer. Never
 * inside Lua.
 */
static inline lua_State *nl_wait_begin(nl_lctx *lc, nl_wait *w);
/* Runs it with the n results pushed.  A once callback's wait is freed. */
static inline void nl_wait_end(nl_lctx *lc, nl_wait *w, int n);
/* begin, push false and err (> 0), end. */
void nl_wait_fail(nl_lctx *lc, nl_wait *w, int err);
/*
 * nl_wait_fail(err), or with err 0 plain true, after the current turn: for use while Lua is
 * running.
 */
void nl_wait_later(nl_lctx *lc, nl_wait *w, int err);
/*
 * return nl_wait_give_way(L, lc): other contexts get a turn, and the running root goes on with true
 * before anything else of this one happens: what has called cannot tell.  After nl_may_block
 * (co.h).
 */
int nl_wait_give_way(lua_State *L, nl_lctx *lc);

/* A due timer of the context, which is a nl_timed. */
void nl_lctx_on_timer(nl_ctx *c, nl_timer *t);

/* --- arguments -------------------------------------------------------------------------------- */

/* Pushes false, err (positive) and returns 2. */
int nl_push_err(lua_State *L, int err);
/*
 * Seconds at index arg: nil or absent gives -1 (none); negative counts as 0; NaN, other types raise
 * naming the argument.  At most about 100 years.
 */
double nl_opt_seconds(lua_State *L, int arg);
double nl_check_seconds(lua_State *L, int arg);
int64_t nl_deadline(double seconds);
/* Pushes the function of that name, nil if there is none. */
void nl_push_function(lua_State *L, const luaL_Reg *functions, const char *name);

/* --- the end ---------------------------------------------------------------------------------- */

/*
 * The main chunk, or all of it, has failed: the context ends with that reason, which is handed
 * over.
 */
void nl_lctx_main_failed(nl_lctx *lc, nl_reason *reason);

/* --- what every message does, inline ---------------------------------------------------------- */

#define NL_REFS_SIZES 16
#define NL_REFS_LOW 16 /* references below are in the registry (refs.c) */

/* The inside of refs.c. */
struct nl_refs {
    lua_State *R; /* its table is at index 1; anchored in the registry */
    int top, cap;
    int *next;               /* free list: by reference, the next free one of its size, 0 = none */
    int free[NL_REFS_SIZES]; /* by size 1 << i */
};

static inline void nl_ref_push(nl_lctx *lc, lua_State *L, int ref)
{
    if (nl_unlikely(ref < 0 || lc->vm.closing)) {
        nl_lua_pushnil(L);
    } else if (ref < NL_REFS_LOW) {
        nl_lua_getref(L, ref);
    } else {
        nl_lua_getfrom(L, lc->refs->R, ref - NL_REFS_LOW + 1);
    }
}

nl_co *nl_co_new(nl_lctx *lc);

static inline nl_co *nl_co_get(nl_lctx *lc)
{
    nl_co *co = lc->free_co;
    if (nl_likely(co != NULL)) {
        lc->free_co = co->next;
        lc->nfree_co--;
    } else {
        co = nl_co_new(lc);
    }
    co->serving = 0;
    lc->alive++;
    return co;
}

lua_State *nl_wait_begin_slow(nl_lctx *lc, nl_wait *w);
void nl_wait_end_callback(nl_lctx *lc, nl_wait *w, int n);

static inline void nl_wait_unhook(nl_lctx *lc, nl_wait *w)
{
    nl_list_remove(&w->node);
    if (nl_unlikely(nl_timer_armed(&w->timed.timer))) {
        nl_ctx_timer_remove(&lc->ctx, &w->timed.timer);
    }
}

/*
 * A root whose thread no script has seen needs no mark when it parks: nobody can look, and
 * its stack is left empty for the results (co.h).
 */
static inline bool nl_co_unseen(const nl_co *co, const lua_State *L)
{
    return nl_likely(L == co->L && !co->escaped);
}

static inline lua_State *nl_wait_begin(nl_lctx *lc, nl_wait *w)
{
    nl_debug_assert(!lc->cur, "a wait is completed while no Lua runs");
    nl_wait_unhook(lc, w);
    return nl_likely(w->co && nl_co_unseen(w->co, w->co->leaf)) ? w->co->leaf : nl_wait_begin_slow(lc, w);
}

static inline void nl_wait_end(nl_lctx *lc, nl_wait *w, int n)
{
    if (w->co) {
        nl_lua_still_suspended(w->co->leaf);
        nl_co_run(w->co, n);
    } else {
        nl_wait_end_callback(lc, w, n);
    }
}

#endif

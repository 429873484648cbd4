/*
 * lctx.h - a context that runs Lua: its states, coroutines, and the one mechanism by which
 * every operation of the API waits (nl_wait).
 *
 * Everything here belongs to the worker that runs the context; nothing is thread safe.
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

#include "base/list.h"
#include "lua/lj.h"
#include "lua/slab.h"
#include "net/buffer.h"
#include "sched/sched.h"

typedef struct nl_lctx nl_lctx;
typedef struct nl_co nl_co;
typedef struct nl_wait nl_wait;
typedef struct nl_refs nl_refs;
struct nl_umsg;

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
    NL_WAIT_LISTEN
};

struct nl_wait {
    nl_list node; /* in the queue of what it waits for; linked to itself when in none */
    nl_co *co;    /* the parked root, or NULL for a callback */
    int fn; /* callback: first of 1 + nargs references side by side: the function, the call's own arguments */
    uint16_t nargs;
    uint8_t kind;      /* enum nl_wait_kind */
    bool continuous;   /* callback stays armed after firing */
    bool posted;       /* later stands in a queue */
    bool gone;         /* freed while posted: later frees the memory */
    int err;           /* for nl_wait_later: the positive error to end with */
    nl_timer timer;    /* its time-out */
    uint32_t timer_of; /* NL_TIMER_OF_WAIT; directly behind timer, see nl_lctx_on_timer */
    void (*timeout)(
        nl_lctx *lc,
        nl_wait *w); /* the time-out has passed: unhook w from its queue; then NL_ETIMEOUT is delivered */
    nl_msg later;    /* nl_wait_later */
    void *owner;     /* the socket, …: for the operation's own use */
    uint64_t key;    /* handle, session, …: likewise */
    uint64_t key2;
    nl_list all; /* callbacks: in lctx.callbacks */
};

struct nl_co {
    nl_lctx *lc;
    lua_State *L;
    lua_State *leaf; /* parked: the coroutine that blocked, L or one nested in it */
    int ref;         /* anchors the thread */
    bool main;       /* runs the main chunk */
    bool
        escaped; /* the script has seen its thread (coroutine.running): not to be used for another callback */
    nl_co *next; /* free list */
    nl_list all; /* every root of the context */
    uint64_t of; /* what it runs a callback of, for lib_tcp.c; nl_co_get sets 0 */
    nl_wait wait; /* what it is parked in; a root waits for one thing at a time */
};

/* One coroutine now running, from the root (up NULL) to the innermost; on the C stack of who resumed it. */
typedef struct nl_colink {
    struct nl_colink *up;
    lua_State *L;
} nl_colink;

#define NL_NOREF (-2)

/* What lib_buffer.c and lib_tcp.c keep per context; their luaopen functions fill it. */
typedef struct nl_lio {
    const void *buf_small, *buf_full, *sock;   /* metatables by lua_topointer: a type check is one compare */
    int buf_small_ref, buf_full_ref, sock_ref; /* and their places in the registry (luaL_ref) */
    nl_buf pushing;         /* on its way into an object: not lost if making the object raises */
    struct nl_tcp *opening; /* likewise */
    size_t debt;       /* bytes outside the Lua heap taken on by buffers and not yet told to its collector */
    nl_list fd_writes; /* writes by number that somebody waits for */
    bool closed;       /* nl_ltcp_close_all has been here: no new sockets */
} nl_lio;

struct nl_lctx {
    nl_ctx ctx; /* first: nl_ctx * and nl_lctx * convert */

    /* One cache line that every run of a root touches. */
    nl_alignas_line nl_co *cur; /* the root now running; NULL: no Lua runs */
    nl_colink *link;            /* the innermost coroutine now running */
    nl_co *free_co;
    struct nl_lmsgs *msgs; /* lib_context.h: receivers, pending messages, queries, watchers */
    uint32_t nfree_co;
    uint32_t alive;
    uint32_t runs;    /* of roots; paces nl_jit_check */
    bool parking;     /* nl_park was called: the yield under way is the runtime's */
    bool closing;     /* lua_close is at work: only finalizers run, references are gone */
    bool dying;       /* destroyed or exiting: no further Lua runs */
    bool telling;     /* one message ends several waits: what runs for one is not to give way to the next */
    atomic_uchar jit; /* NL_JIT_* (state.h); the monitor's thread has a look too */

    lua_State *L; /* main state: runs no script code, holds what is shared */
    nl_co *begun; /* a callback's root, between nl_wait_begin and nl_wait_end */
    bool jit_hidden, jit_counted;
    bool first;     /* the first context: its failure is the process's status 1 */
    uint32_t depth; /* coroutines nested in each other on the C stack */
    nl_list all_co;
    uint32_t nco;      /* roots, free ones too */
    uint32_t nsockets; /* open sockets, for stats */
    nl_list callbacks; /* every nl_wait that is a callback */
    nl_refs *refs;
    int strings; /* pack_plain.c: reference in the registry to some strings, for it to find again; 0: none yet */
    uint32_t libs, stubs; /* NL_LIB_*: libraries opened, and such as will be when they are used (libs.h) */
    const void *stub[13]; /* the tables, by the number of the library's bit, as lua_topointer tells them */
    const void *string_metatable; /* of all strings, until `string` is open */
    struct injection *injection;  /* colib.c */
    const void *pcall, *xpcall;   /* the stock functions, by lua_topointer */
    _Atomic(lua_State *) poke;    /* for the monitor's thread: the state while it may be poked (state.c) */
    nl_list sockets;              /* lib_tcp.c: every socket object, to close at the end */
    uint64_t parent;
    char *name;                   /* file and arguments */
    char *file;                   /* path it was loaded from, NULL for none (-e) */
    struct nl_slab *memory;       /* in which this struct lies, and the state */
    struct nl_slab *slab;         /* the same if it is the state's allocator (slab.h), else NULL */
    _Atomic(nl_slab *) slab_seen; /* the same, for context.stats of others */
    size_t c_bytes;
    struct nl_ltimers *timers; /* lib_timer.c */
    struct nl_lua_boot *boot;  /* file, arguments until start */
    nl_lio io;
};

/* state.c: the same for a state that has not our allocator. */
nl_lctx *nl_lctx_of_slow(lua_Alloc f, void *ud);
/* The context of a state: the owner of its allocator. */
static inline nl_lctx *nl_lctx_of(lua_State *L)
{
    void *ud;
    lua_Alloc f = nl_lua_getallocf(L, &ud);
    return nl_likely(f == nl_slab_alloc) ? nl_slab_owner(ud) : nl_lctx_of_slow(f, ud);
}

/* --- references: refs.c --------------------------------------------------------------- */

/* Pops a value and keeps it; like luaL_ref, on a table of the context's own. */
int nl_ref(nl_lctx *lc, lua_State *L);
void nl_unref(nl_lctx *lc, int ref);
/* Pushes it on L. */
static inline void nl_ref_push(nl_lctx *lc, lua_State *L, int ref);
/* The same for n values side by side, references r … r + n - 1: pops n, frees n. */
int nl_ref_n(nl_lctx *lc, lua_State *L, int n);
/* Makes them, with their table at the bottom of the main state's stack. */
nl_refs *nl_refs_new(lua_State *L);
void nl_refs_free(nl_refs *r);
void nl_unref_n(nl_lctx *lc, int ref, int n);

/* --- roots ------------------------------------------------------------------------ */

/* A free root, its stack empty.  It counts alive from here on, so it must be run, soon or later. */
static inline nl_co *nl_co_get(nl_lctx *lc);
/* Starts co with the function and nargs arguments on its stack, or resumes it with nargs
 * values on top; deals with the outcome: finished, parked, stuck, error (logged). */
void nl_co_run(nl_co *co, int nargs);

/* --- blocking --------------------------------------------------------------------- */

/*
 * Raises "cannot block here: …" unless every coroutine from the root to L can be suspended.
 * Call it before anything is changed, also when the result is already at hand.
 */
void nl_block_check(lua_State *L);
/* The wait of the running root, fresh, with kind set.  After nl_block_check. */
nl_wait *nl_block_wait(lua_State *L, int kind);
/* return nl_park(L): parks the running root. */
int nl_park(lua_State *L);
/* return nl_leave(L): the context is dying; the calling Lua code never goes on, whatever it is wrapped in. */
int nl_leave(lua_State *L);

/* --- callbacks -------------------------------------------------------------------- */

/*
 * A wait for the callback at stack index fn, keeping copies of the nargs values from index
 * first (the call's own arguments, nil where left out).  Counted alive.
 */
nl_wait *nl_wait_callback(lua_State *L, int kind, int fn, int first, int nargs);
/* Unhooks and frees a callback that will not fire (again). */
void nl_wait_free(nl_lctx *lc, nl_wait *w);
/* When the context's memory goes: whatever callbacks and roots are left. */
void nl_wait_free_all(nl_lctx *lc);
void nl_co_free_all(nl_lctx *lc);

/* --- completing ------------------------------------------------------------------- */

/* Arms its time-out at seconds from now (≤ 0 fires in a later turn). */
void nl_wait_arm(nl_lctx *lc, nl_wait *w, double seconds);
/* The state on which to push the results; the wait is unhooked from its queue and its timer. Never inside Lua. */
static inline lua_State *nl_wait_begin(nl_lctx *lc, nl_wait *w);
/* Runs it with the n results pushed.  A once callback's wait is freed. */
static inline void nl_wait_end(nl_lctx *lc, nl_wait *w, int n);
/* begin, push false and err (> 0), end. */
void nl_wait_fail(nl_lctx *lc, nl_wait *w, int err);
/* nl_wait_fail(err), or with err 0 plain true, after the current turn: for use while Lua is running. */
void nl_wait_later(nl_lctx *lc, nl_wait *w, int err);
/*
 * return nl_wait_give_way(L, lc): other contexts get a turn, and the running root goes on with true before anything
 * else of this one happens: what has called cannot tell.  After nl_may_block (co.h).
 */
int nl_wait_give_way(lua_State *L, nl_lctx *lc);

/* A due timer of the context: the time-out of a wait, or what lib_timer.c has armed. */
void nl_lctx_on_timer(nl_ctx *c, nl_timer *t);
/* What a nl_timer of a context belongs to; stands in the 32 bits behind it. */
typedef struct nl_timed {
    nl_timer timer;
    uint32_t of;
} nl_timed;
enum { NL_TIMER_OF_WAIT, NL_TIMER_OF_LIB };
/* lib_timer.c: a timer of timer.timeout or timer.loop is due. */
void nl_ltimer_due(nl_lctx *lc, nl_timed *timed);
/* lib_timer.c: when the context's memory goes. */
void nl_ltimers_free(nl_lctx *lc);
/* lib_timer.c: timers of timer.timeout and timer.loop that are armed, for stats. */
unsigned nl_ltimers_count(const nl_lctx *lc);

/* --- arguments -------------------------------------------------------------------- */

/* Pushes false, err (positive) and returns 2. */
int nl_push_err(lua_State *L, int err);
/*
 * Seconds at index arg: nil or absent gives -1 (none); negative counts as 0; NaN, other types raise
 * naming the argument.  At most about 100 years.
 */
double nl_opt_seconds(lua_State *L, int arg);
double nl_check_seconds(lua_State *L, int arg);
int64_t nl_deadline(double seconds);
/*
 * A string or buffer: its bytes; *buf is a view to share them by, NULL where copying is what is left: a string, a
 * buffer so small that its bytes lie in its userdata.  Raises for others, naming the argument.
 */
const char *nl_check_bytes(lua_State *L, int arg, size_t *len, nl_buf **buf);

/* --- life ------------------------------------------------------------------------- */

/*
 * Creates and starts a context for file, looked for as given, then beside the parent's own; args
 * are its arguments (taken over, freed on failure too), name what it is called in logs.  0 or -errno;
 * -NL_ESYNTAX: the text has been logged.  L is used to compile.
 */
int nl_lctx_create(uint64_t *handle, lua_State *L, nl_lctx *parent, const char *file, const char *name,
                   struct nl_umsg *args);

/* What main.c hands over for the first context. */
typedef struct nl_lua_options {
    int argc; /* the process's own arguments */
    char **argv;
    int script_index; /* of the script's name in argv ("-" = standard input); argc: none, only chunks */
    char **chunks;    /* -e and -l in order: 'e' or 'l' is the first character */
    int nchunks;
    char **jit; /* -j and -O options, first character 'j' or 'O' */
    int njit;
} nl_lua_options;
/* Starts the first context.  0, or 1 after a clear message on standard error. */
int nl_lua_start(const nl_lua_options *o);
/* After nl_sched_run: what this layer keeps per process (bytecode cache). */
void nl_lua_fini(void);

/* Library openers; each leaves its table on the stack. */
int luaopen_nl_context(lua_State *L);
int luaopen_nl_tcp(lua_State *L);
int luaopen_nl_timer(lua_State *L);
int luaopen_nl_buffer(lua_State *L);
/* libs.c: pushes the ffi table, whether or not the script may see it; raises on failure. */
void nl_require_ffi(lua_State *L);

/* lib_tcp.c: closes every socket of the context; called by the end of the context, in C, no Lua runs. */
void nl_ltcp_close_all(nl_lctx *lc);
/*
 * lib_buffer.c: pushes a new buffer object. Small byte runs live inside the userdata.  Making it may run
 * finalizers of the script, so data must not be memory that a closed socket gives up.
 */
#define NL_BUFFER_SMALL 1024
void nl_buffer_push(lua_State *L, nl_lctx *lc, const void *data, size_t n);
/* The same taking over a view (its reference). */
void nl_buffer_push_buf(lua_State *L, nl_buf *b);
/* The buffer at idx as a view to share, or NULL if it is none.  The bytes of a small one move to a block first. */
const nl_buf *nl_buffer_test(lua_State *L, int idx);

/* --- what every message does, inline ---------------------------------------------------- */

#define NL_REFS_SIZES 16
#define NL_REFS_LOW 16 /* references below are in the registry (refs.c) */

/* The inside of refs.c. */
struct nl_refs {
    lua_State *R; /* anchored at index 1 of the main state's stack */
    int top, cap;
    int *next;               /* free list: by reference, the next free one of its size, 0 = none */
    int free[NL_REFS_SIZES]; /* by size 1 << i */
};

static inline void nl_ref_push(nl_lctx *lc, lua_State *L, int ref)
{
    if (nl_unlikely(ref < 0 || lc->closing)) {
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
    co->of = 0;
    lc->alive++;
    return co;
}

lua_State *nl_wait_begin_slow(nl_lctx *lc, nl_wait *w);
void nl_wait_end_callback(nl_lctx *lc, nl_wait *w, int n);

static inline void nl_wait_unhook(nl_lctx *lc, nl_wait *w)
{
    nl_list_remove(&w->node);
    if (nl_unlikely(nl_timer_armed(&w->timer))) {
        nl_ctx_timer_remove(&lc->ctx, &w->timer);
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
        nl_co_run(w->co, n);
    } else {
        nl_wait_end_callback(lc, w, n);
    }
}

#endif

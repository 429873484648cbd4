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
 * nl_park(L): lua_yield with the private mark nl_mark.  The Lua half of the runtime
 * (lualib/coroutine.lua) passes the mark upwards through resume and wrap to the root, and
 * passes the results down again.  The runtime resumes the root with the results by
 * nl_wait_begin … push … nl_wait_end.
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
#include "net/buffer.h"
#include "sched/sched.h"

typedef struct nl_lctx nl_lctx;
typedef struct nl_co nl_co;
typedef struct nl_wait nl_wait;

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
    nl_list node;      /* in the queue of what it waits for; linked to itself when in none */
    nl_co *co;         /* the parked root, or NULL for a callback */
    int fn;            /* callback: reference of the function (nl_ref) */
    int args;          /* callback: reference of a table {n=…} with the call's own arguments, or NL_NOREF */
    uint8_t kind;      /* enum nl_wait_kind */
    bool continuous;   /* callback stays armed after firing */
    bool counted;      /* has its share in alive */
    int err;           /* for nl_wait_later: the positive error to end with */
    nl_timer timer;    /* its time-out */
    void (*timeout)(nl_lctx *lc, nl_wait *w); /* the time-out has passed: unhook w from its queue; then NL_ETIMEOUT is delivered */
    nl_msg later;      /* nl_wait_later */
    void *owner;       /* the socket, …: for the operation's own use */
    uint64_t key;      /* handle, session, …: likewise */
    uint64_t key2;
};

struct nl_co {
    nl_lctx *lc;
    lua_State *L;
    int ref;       /* anchors the thread */
    uint8_t state; /* NL_CO_* */
    nl_co *next;   /* free list */
    nl_list all;   /* every root of the context */
    uint64_t of;   /* what it runs a callback of, for lib_tcp.c; nl_co_get sets 0 */
    nl_wait wait;  /* what it is parked in; a root waits for one thing at a time */
};
enum { NL_CO_FREE, NL_CO_RUNNING, NL_CO_PARKED, NL_CO_STUCK /* a plain yield: parked for good */ };

#define NL_NOREF (-2)

/* What lib_buffer.c and lib_tcp.c keep per context; their luaopen functions fill it. */
typedef struct nl_lio {
    const void *buf_small, *buf_full, *sock;      /* metatables by lua_topointer: a type check is one compare */
    int buf_small_ref, buf_full_ref, sock_ref;    /* and their places in the registry (luaL_ref) */
    nl_buf pushing;         /* on its way into an object: not lost if making the object raises */
    struct nl_tcp *opening; /* likewise */
    size_t debt;            /* bytes outside the Lua heap taken on by buffers and not yet told to its collector */
    nl_list fd_writes;      /* writes by number that somebody waits for */
    bool closed;            /* nl_ltcp_close_all has been here: no new sockets */
} nl_lio;

struct nl_lctx {
    nl_ctx ctx; /* first: nl_ctx * and nl_lctx * convert */
    lua_State *L; /* main state: runs no script code, holds what is shared */
    nl_co *cur;
    nl_co *free_co;
    nl_list all_co;
    uint32_t alive;
    uint32_t nroots;   /* roots not free, for stats */
    uint32_t nsockets; /* open sockets, for stats */
    nl_list sockets;   /* lib_tcp.c: every socket object, to close at the end */
    uint64_t parent;
    char *name; /* file and arguments */
    char *file; /* path it was loaded from */
    bool first; /* the first context: its failure is the process's status 1 */
    bool main_failed;
    bool dying; /* destroyed or exiting: no further Lua runs */
    struct nl_slab *slab; /* memory of the state (slab.c) */
    size_t c_bytes;
    struct nl_lmsgs *msgs; /* lib_context.c: receivers, pending messages, queries, watchers */
    struct nl_ltimers *timers; /* lib_timer.c */
    struct nl_lua_boot *boot; /* file, arguments until start */
    nl_lio io;
};

/* The context of a state: one load. */
nl_lctx *nl_lctx_of(lua_State *L);

/* --- references ------------------------------------------------------------------- */

/* Pops a value and keeps it; like luaL_ref, on a table of the context's own. */
int nl_ref(nl_lctx *lc, lua_State *L);
void nl_unref(nl_lctx *lc, int ref);
/* Pushes it on L. */
void nl_ref_push(nl_lctx *lc, lua_State *L, int ref);

/* --- roots ------------------------------------------------------------------------ */

/* A free root, its stack empty. */
nl_co *nl_co_get(nl_lctx *lc);
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

/* --- callbacks -------------------------------------------------------------------- */

/*
 * A wait for the callback at stack index fn, keeping copies of the nargs values from index
 * first (the call's own arguments, nil where left out).  Counted alive.
 */
nl_wait *nl_wait_callback(lua_State *L, int kind, int fn, int first, int nargs);
/* Unhooks and frees a callback that will not fire (again). */
void nl_wait_free(nl_lctx *lc, nl_wait *w);

/* --- completing ------------------------------------------------------------------- */

/* Arms its time-out at seconds from now (≤ 0 fires in a later turn). */
void nl_wait_arm(nl_lctx *lc, nl_wait *w, double seconds);
/* The state on which to push the results; the wait is unhooked from its queue and its timer. Never inside Lua. */
lua_State *nl_wait_begin(nl_lctx *lc, nl_wait *w);
/* Runs it with the n results pushed.  A once callback's wait is freed. */
void nl_wait_end(nl_lctx *lc, nl_wait *w, int n);
/* begin, push false and err (> 0), end. */
void nl_wait_fail(nl_lctx *lc, nl_wait *w, int err);
/* nl_wait_fail(err), or with err 0 plain true, after the current turn: for use while Lua is running. */
void nl_wait_later(nl_lctx *lc, nl_wait *w, int err);

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

/* Creates and starts a context for file with the packed arguments; 0 or -errno. Text of a syntax error is logged. */
struct nl_packed;
int nl_lctx_create(uint64_t *handle, const char *file, nl_lctx *parent, struct nl_packed *args);

/* What main.c hands over for the first context. */
typedef struct nl_lua_options {
    int argc; /* arguments of the script, argv[0] its name */
    char **argv;
    char **chunks; /* -e and -l in order: 'e' or 'l' is the first character */
    int nchunks;
    char **jit; /* -j and -O options, first character 'j' or 'O' */
    int njit;
    int script_index; /* for the arg table: negative indices hold what stands before the script */
} nl_lua_options;
/* Starts the first context.  0, or 1 after a clear message on standard error. */
int nl_lua_start(const nl_lua_options *o);

/* Library openers; each leaves its table on the stack. */
int luaopen_nl_context(lua_State *L);
int luaopen_nl_tcp(lua_State *L);
int luaopen_nl_timer(lua_State *L);
int luaopen_nl_buffer(lua_State *L);

/* lib_tcp.c: closes every socket of the context; called by the end of the context, in C, no Lua runs. */
void nl_ltcp_close_all(nl_lctx *lc);
/*
 * lib_buffer.c: pushes a new buffer object. Small byte runs live inside the userdata.  Making it may run
 * finalizers of the script, so data must not be memory that a closed socket gives up.
 */
#define NL_BUFFER_SMALL 256
void nl_buffer_push(lua_State *L, const void *data, size_t n);
/* The same taking over a view (its reference). */
void nl_buffer_push_buf(lua_State *L, nl_buf *b);
/* The buffer at idx as a view to share, or NULL if it is none.  The bytes of a small one move to a block first. */
nl_buf *nl_buffer_test(lua_State *L, int idx);

#endif

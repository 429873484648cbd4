/*
 * ctx.h - a context: an actor with a mailbox, timers and a life, knowing neither Lua nor
 * sockets.
 *
 * Purpose: whatever runs as a context embeds nl_ctx and gives it ops.
 * Threads: a context is owned by the worker that runs it; from the outside only the functions
 *   marked "any thread" may be used.
 * Ownership: the layer above allocates the memory; it belongs to the scheduler from
 *   nl_ctx_start to ops->free.
 *
 * At every moment a context is idle, in exactly one ready queue, running on one worker, or dead.
 *
 * Life: nl_ctx_init → nl_ctx_start (registered; runnable) → dispatches → finished, when the ops say
 * so after a dispatch (idle() returned false, or nl_ctx_end was called) → out of the table →
 * ops->fini and release on the worker → retired → memory released by ops->free after a grace period
 * (qsbr.h): a pointer got from nl_ctx_find is good until the end of the caller's dispatch, or its
 * next call that may run Lua or sleep in the system.
 *
 * nl_ctx_send(handle, msg) pushes to a context.  For a dead handle it returns -NL_ENOCONTEXT, and
 * the message still belongs to the caller.  A message that was pushed but never run, because the
 * context ended first, gets ops->drop.
 */
#ifndef NL_CTX_H
#define NL_CTX_H

#include "base/slots.h"
#include "sched/mailbox.h"
#include "sched/qsbr.h"
#include "sched/reason.h"
#include "sched/timers.h"

typedef struct nl_ctx nl_ctx;
struct nl_worker;

typedef struct nl_ctx_ops {
    /* First turn, before any message. */
    void (*start)(nl_ctx *c);
    /* Nothing is left to run: true to go on waiting for messages, false to end. */
    bool (*idle)(nl_ctx *c);
    /* Last turn: closes everything the context owns; it can still send. */
    void (*fini)(nl_ctx *c, const nl_reason *reason);
    /*
     * May be NULL.  After fini, once the mailbox and the timers are empty: gives back what fini has
     * left.  The nl_ctx stays until free, which may come much later, and so does what other threads
     * look at.
     */
    void (*release)(nl_ctx *c);
    /* The grace period is over: frees the memory; on any worker, in no context. */
    void (*free)(nl_ctx *c);
    /* A due timer of nl_ctx_timer_add; on the context's turn.  May be NULL if it never adds one. */
    void (*timer)(nl_ctx *c, nl_timer *t);
    /*
     * May be NULL.  By the monitor's thread: the context's dispatch has been going on for a tick
     * of the monitor, and again for each further one.  limbo: memory waits for this dispatch, so
     * the context should come to nl_ctx_checkpoint soon.  The dispatch may just have ended.  True:
     * interrupted is to be called.
     */
    bool (*slow)(nl_ctx *c, bool limbo);
    /*
     * May be NULL.  On the context's turn, between two instructions (base/interrupt.h).  It may
     * come late: slow was then asked about the context that ran on this worker before.
     */
    void (*interrupted)(nl_ctx *c);
    /*
     * May be NULL.  By the monitor's thread, while the context runs: it was told to end, does not,
     * and has been given up.  Tells those who wait for its end, and cuts its sockets.
     */
    void (*given_up)(nl_ctx *c, const nl_reason *reason);
    /* Name for logs; any thread, until free. */
    const char *(*name)(const nl_ctx *c);
} nl_ctx_ops;

#define NL_CTX_WARM 2

struct nl_ctx {
    /* The line of producers: look-up and push. */
    nl_slot_obj slot; /* .id is the handle */
    const nl_ctx_ops *ops;
    nl_mailbox_in mail_in;
    /*
     * Memory that its next dispatch will touch; nl_ready fetches it into the cache.  Hints of the
     * layer above: the context writes them, any thread reads them, they may be stale or NULL.
     */
    _Atomic(const void *) warm[NL_CTX_WARM];

    /*
     * The consumer's lines: only the worker that runs the context.  First what every dispatch
     * touches.
     */
    nl_alignas_line nl_mailbox_out mail_out;
    nl_msg *resume_msg;  /* what the next dispatch begins with: the start, nl_ctx_give_way */
    nl_msg *local_first; /* nl_ctx_defer */
    uint64_t handled;
    atomic_uint_fast64_t cpu_ticks; /* time spent in dispatches; see nl_ctx_cpu_ns */
    nl_timers timers;
    atomic_int wake_worker; /* -1: in none; the worker that fires it sets it to -1 */
    bool ending;
    unsigned local_streak; /* deferred ones run in a row: they may not starve the mailbox */
    nl_msg *local_last;

    /* this context's place in the heap of worker wake_worker (under its timer lock) */
    nl_timer wake;
    nl_msg timer_msg; /* posted when wake fires */
    atomic_bool timer_posted;
    nl_msg kill_msg; /* nl_ctx_kill: in the mailbox at most once */
    atomic_bool kill_posted;
    _Atomic(nl_reason *) kill_reason; /* set before kill_posted */
    nl_reason *end_reason;
    atomic_bool uncounted; /* it has ended, or was given up: no longer in nl_sched.live */
    int home;              /* worker whose reactor has its sockets; -1 until the first one */
    struct nl_name *names; /* names it bears; under the lock of names.c */
    nl_limbo limbo;
};
_Static_assert(offsetof(nl_ctx, mail_out) == NL_CACHELINE, "a look-up and a push touch one line");

/* From within: new hints.  They lie in the producers' line, so not for each message. */
static inline void nl_ctx_warm(nl_ctx *c, const void *const warm[NL_CTX_WARM])
{
    for (int i = 0; i < NL_CTX_WARM; i++) {
        atomic_store_explicit(&c->warm[i], warm[i], memory_order_relaxed);
    }
}

/* The context that the calling thread is running, or NULL. */
nl_ctx *nl_ctx_current(void);

void nl_ctx_init(nl_ctx *c, const nl_ctx_ops *ops);
/*
 * Registers and makes it runnable: its start() runs soon, on some worker.  0, -ENFILE,
 * -NL_ESTOPPING.
 */
int nl_ctx_start(nl_ctx *c);

/* Any thread within a dispatch (or qsbr section): the live context of a handle, or NULL. */
nl_ctx *nl_ctx_find(uint64_t handle);
/* Any thread likewise: fn(c, arg) for each live context, under the table's lock. */
void nl_ctx_each(void (*fn)(nl_ctx *c, void *arg), void *arg);
/* Any thread likewise: pushes m.  Never fails for a live context. */
void nl_ctx_post(nl_ctx *c, nl_msg *m);
/* Find and post: 0, -NL_ENOCONTEXT, or -NL_EMAILBOXFULL (then m stays the caller's). */
int nl_ctx_send(uint64_t handle, nl_msg *m);
/* Time this context has spent running, in nanoseconds; any thread, for its own turn up to now. */
int64_t nl_ctx_cpu_ns(const nl_ctx *c);
/* Messages pushed and not yet run; any thread, racy. */
uint64_t nl_ctx_mailbox_len(const nl_ctx *c);
/* Longest a mailbox may get before nl_ctx_send refuses; process wide, default NL_MAILBOX_MAX. */
#define NL_MAILBOX_MAX (1u << 26)
void nl_ctx_set_mailbox_max(uint64_t max);

/*
 * From within the context's own turn: runs m after what is running now, before most further
 * messages of the mailbox.
 */
void nl_ctx_defer(nl_ctx *c, nl_msg *m);

/*
 * From within: the dispatch ends after the message now running, the context goes behind all that
 * are ready, and m is what its next dispatch begins with: nothing else of the context runs in
 * between.
 */
void nl_ctx_give_way(nl_ctx *c, nl_msg *m);
/*
 * From within, for a context that sends faster than `to` receives: lets time pass, some µs, until
 * no more than len messages wait there, so that the mailbox does not outgrow the caches.  False,
 * without waiting: others are ready on this worker, the share is used up, or no worker runs `to` at
 * the moment.  Then giving way is better.
 */
bool nl_ctx_let_catch_up(nl_ctx *c, nl_ctx *to, uint64_t len);

/* From within: the context ends after the message now running.  The reason is handed over. */
void nl_ctx_end(nl_ctx *c, nl_reason *reason);
/*
 * From within, after nl_ctx_end, for an error that nothing is left to catch: the context ends here
 * and now.  What stands on the C stack between the scheduler and here is left as it is: it holds no
 * lock, and nothing that only it would free.
 */
_Noreturn void nl_ctx_abandon(const nl_ctx *c);
/*
 * Any thread: asks it to end when the message reaches it.  The reason is handed over.  0 or
 * -NL_ENOCONTEXT.
 */
int nl_ctx_kill(uint64_t handle, nl_reason *reason);
/* From within: has somebody asked it to end?  Then it ends, for the reason given. */
void nl_ctx_end_killed(nl_ctx *c);

/* Timers of the context, from within its turn; they fire through ops->timer, never early. */
static inline void nl_ctx_timer_add(nl_ctx *c, nl_timer *t, int64_t deadline)
{
    nl_timers_add(&c->timers, t, deadline);
}
static inline bool nl_ctx_timer_remove(nl_ctx *c, nl_timer *t)
{
    return nl_timers_remove(&c->timers, t);
}

/*
 * True when the dispatch has used up its share (messages, time or bytes): a loop that
 * could go on for ever without suspending suspends now and continues in a later turn.
 */
bool nl_ctx_should_yield(nl_ctx *c);
/*
 * From within a long dispatch, where neither the caller nor its callers hold a looked-up pointer
 * (qsbr.h): the memory in limbo need not wait for the end of this dispatch.
 */
void nl_ctx_checkpoint(void);
/* Counts work that is not a message (bytes read, results served without suspending). */
void nl_ctx_charge(nl_ctx *c, unsigned messages, unsigned bytes);

/*
 * From within: the worker whose reactor has this context's sockets, the same for all its life.
 * Chosen at the first call: the calling worker, unless another is home to fewer contexts.
 */
int nl_ctx_home(nl_ctx *c);

#endif

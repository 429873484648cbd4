/*
 * tcp_impl.h - the inside of a socket.
 *
 * Purpose:   what tcp.c (life and events), tcp_listen.c, tcp_read.c, tcp_write.c, linger.c and
 *            deadlines.c share; nobody else includes it.
 * Threads:   `flags` is the meeting point of the owner's turns and the io hook, below; `out` is
 *            under its lock; what says so is under the lock of a nl_deadlines; the rest belongs to
 *            the owner until it closes the socket, then to the thread that has set `out.flushing`.
 * Ownership: the memory is held by the owner (after the close by the closing itself, until the
 *            descriptor is closed), by the embedded message while it is posted, by a worker's list
 *            of dirty sockets and by a deadline that is just being served. While the owner holds
 *            it, message and list are not counted, so the hot paths count nothing: POSTED and
 *            dirty say that they hold it. nl_tcp_close and linger.c: finish turn them into
 *            references. The last reference retires the memory (qsbr.h), as others may have looked
 *            it up.
 *
 * The descriptor is read by the owner until nl_tcp_close. It is written, and after the close also
 * read, shut down and closed, only by the thread that has set out.flushing. So the number cannot go
 * to a new socket in the middle of a system call, without a reference count.
 */
#ifndef NL_TCP_IMPL_H
#define NL_TCP_IMPL_H

#include "base/list.h"
#include "net/out.h"
#include "net/tcp.h"

/*
 * tcp.flags. One word, so that each decision that needs two of them is one atomic step, and their
 * order is the modification order of the word:
 *   - a reader that finds no READ sets WANT in the same step; the io hook sets READ and, if it
 *     finds WANT, turns it into POSTED in the same step. So no readiness is left lying while the
 *     owner waits, and without WANT nobody is woken;
 *   - the reader takes READ away before it calls recv: what arrived before the io hook set READ is
 *     seen by that recv (the kernel's own locks order them), what arrives later sets READ again;
 *   - the owner sets CLOSED: a step of the io hook that sees it posts no more, and one that does
 *     not has set POSTED before.
 */
enum {
    NL_TCP_READ = 1u << 0,       /* something may be readable or acceptable */
    NL_TCP_HUP = 1u << 1,        /* the peer has shut down: a short read is not the end */
    NL_TCP_CONN = 1u << 2,       /* the connect may have an outcome */
    NL_TCP_WANT = 1u << 3,       /* the owner was told NL_AGAIN: the next readiness calls ready */
    NL_TCP_POSTED = 1u << 4,     /* the message is on its way to the owner */
    NL_TCP_CLOSED = 1u << 5,     /* by the owner */
    NL_TCP_CONNECTING = 1u << 6, /* no outcome was fetched yet */
    /* accept has failed for want of something: the deadline calls ready, events do not */
    NL_TCP_PAUSED = 1u << 7
};

enum { NL_TCP_KIND_CONN, NL_TCP_KIND_LISTENER, NL_TCP_KIND_WATCH };

/*
 * An address up to NL_TCP_PEER_SHORT bytes long says all in its first eight: family, port and
 * address of IPv4, or the family of a Unix socket without a name. Most are of these two kinds; they
 * need no memory of their own.
 */
#define NL_TCP_PEER_SHORT 16
#define NL_TCP_PEER_HERE 8

/* A socket's place in a nl_deadlines, under its lock. */
typedef struct nl_due {
    nl_list node; /* linked to itself: in none */
    int64_t since;
} nl_due;

struct nl_tcp {
    nl_slot_obj slot; /* .id is the tag */
    nl_msg msg;       /* posted to the owner when ready is to be called; ops: of a nl_tcp_ops */
    atomic_uint flags;
    atomic_uint refs;
    nl_fd fd;
    void *user;
    union { /* one after the other */
        struct {
            nl_frame_opt opt;
            nl_buf window; /* received and not handed out; empty while that stands in the scratch */
        } in;              /* of a connection, until its owner closes it */
        nl_due due;        /* from then on; of a listener always */
        nl_limbo limbo;    /* once no reference is left */
    } u;
    uint16_t rerr;       /* sticky (positive) error of reading, or of the connect */
    uint16_t home;       /* worker whose reactor watches it; constant */
    uint8_t kind;        /* constant */
    bool maybe_readable; /* the kernel may have more without a further event */
    uint8_t state;       /* of closing, linger.c */
    bool bulk;           /* the last run of bytes was a long one */
    nl_frame_opt wopt;
    uint64_t owner; /* handle; constant */
    nl_out out;
    uint64_t write_queue_max;
    nl_tcp *dirty_next; /* worker's list */
    union {
        unsigned char here[NL_TCP_PEER_HERE];
        unsigned char *apart; /* a longer one: peer_len bytes of the pool */
    } peer;                   /* the other end's address, kept for when the connection has ended */
    uint8_t peer_len;         /* of the whole address; 0: not known */
};

/* Input is received here first, see tcp_read.c. */
#define NL_SCRATCH_SIZE 65536u

/* Of a worker; only its own thread uses it. */
typedef struct nl_tcp_worker {
    /* The socket whose input stands in the scratch, at off, len bytes; NULL: none. */
    nl_alignas_line nl_tcp *reader;
    uint32_t off, len;
    unsigned char *scratch; /* NULL until it is wanted */
    nl_block *spent_block;  /* the piece handed out last lies in it; freed at the next chance */
    nl_block *shown_block;  /* or in that, its socket's window; spent_block if that closes */
    nl_tcp *dirty_first, *dirty_last;
    unsigned dirty_count;
    unsigned dirty_before; /* when the flush hook was called last */
    bool fan_out;          /* one message has dirtied many */
    int64_t flush_asked;   /* when that was, in a dispatch */
} nl_tcp_worker;

extern nl_tcp_worker *nl_tcp_workers;
extern nl_slots *nl_tcp_table;

static inline nl_tcp_worker *nl_tcp_self(void)
{
    int i = nl_worker_index();
    nl_debug_assert(i >= 0, "sockets are used on workers only");
    return &nl_tcp_workers[i];
}

static inline nl_tcp *nl_tcp_find(uint64_t id)
{
    return (nl_tcp *)(void *)nl_slots_get(nl_tcp_table, id); /* slot is the first member */
}

static inline nl_reactor *nl_tcp_reactor(const nl_tcp *s)
{
    return nl_worker_reactor(s->home);
}

/* tcp.c */
void nl_tcp_unref(nl_tcp *s);
/*
 * Sets bits (READ, HUP, CONN) and calls ready on the owner's turn if it waits.  Returns the flags
 * before.
 */
unsigned nl_tcp_signal(nl_tcp *s, unsigned bits);
/*
 * Before NL_AGAIN is returned: true if WANT was set, false if one of bits is there (taken away
 * then).
 */
bool nl_tcp_want(nl_tcp *s, unsigned bits);

/* tcp_read.c */
/* Gives up all input kept in memory. */
void nl_tcp_drop_input(nl_tcp *s);
/* End of a dispatch: nothing may stay in the scratch. */
void nl_tcp_vacate(nl_tcp_worker *w);

/*
 * tcp.c: the socket around fd, watched. peer: its other end, NULL: it has none. On an error fd is
 * still the caller's.
 */
int nl_tcp_new(nl_tcp **out, nl_fd fd, uint8_t kind, unsigned flags, uint64_t owner, int home,
               const nl_tcp_ops *ops, const nl_addr *peer);

/* tcp_listen.c */
void nl_listeners_init(void);
void nl_listeners_fini(void);
/* A paused listener is closed: its pause is over. */
void nl_listener_forget(nl_tcp *s);

/* tcp_write.c */
/* What a flush came to. */
enum {
    NL_FLUSH_EMPTY, /* all taken */
    NL_FLUSH_FULL,  /* the kernel takes no more for now */
    NL_FLUSH_SHARE, /* it would, but others are to have their turn */
    NL_FLUSH_FAILED /* out.err is set and the chain is empty */
};
/*
 * Writes what the kernel takes. The caller has set flushing and holds the lock, which is given up
 * in between; what it finds out holds for as long as the caller keeps the lock. *done: for
 * nl_segments_free, once the lock is given up.
 */
int nl_tcp_send_locked(nl_tcp *s, nl_segment **done);
/* Writes, unless another thread does or the reactor has the rest. Lock held, returned without. */
void nl_tcp_flush_unlocks(nl_tcp *s);
/* Puts s on the calling worker's list. */
void nl_tcp_dirty_locked(nl_tcp *s);
/* The flush hook's half of that. */
void nl_tcp_flush_dirty(nl_tcp_worker *w);

/* linger.c */
void nl_linger_init(void);
void nl_linger_fini(void);
/* The owner is done with s. Lock held, returned without. */
void nl_linger_begin_unlocks(nl_tcp *s);
/* Moves a closed socket on as far as it goes now. Lock held, returned without. */
void nl_linger_pump_unlocks(nl_tcp *s);
/* Gives up the closed socket that has waited longest, and its descriptor. False: there is none. */
bool nl_linger_give_way(void);
/*
 * After a call that makes a descriptor: true if it failed because they are out, and one has come
 * free.
 */
static inline bool nl_linger_freed(int err)
{
    return nl_unlikely(err == -EMFILE || err == -ENFILE) && nl_linger_give_way();
}
/* For nl_sched_hooks. */
int nl_linger_holding(void);
void nl_linger_hurry(void);
/* The process ends now, with whatever is still under way. */
void nl_linger_reset_unsent(void);

/* deadlines.c */
/*
 * Sockets in the order of their deadlines. All have the same span from being added to the deadline.
 * So what is added later stands behind, and one timer, for the first, is enough.
 */
typedef struct nl_deadlines {
    nl_mutex *lock; /* a mutex, not a spin lock: arming the timer takes another lock */
    nl_list list;   /* nl_tcp.u.due */
    unsigned count, max;
    int64_t span;    /* from entry to deadline */
    int64_t hurried; /* when nl_deadlines_hurry was called; 0: not yet */
    int64_t hurried_span;
    bool armed; /* timer is, or is about to serve */
    nl_wtimer timer;
    /* Without the lock; s is out of the list and stays in memory meanwhile. */
    void (*expired)(nl_tcp *s);
} nl_deadlines;

void nl_deadlines_init(nl_deadlines *d, int64_t span, unsigned max, void (*expired)(nl_tcp *s));
void nl_deadlines_fini(nl_deadlines *d);
/*
 * On a worker. Adds s, or puts it behind all others; where there are more than max, the first
 * expires now.
 */
void nl_deadlines_add(nl_deadlines *d, nl_tcp *s);
/* The same for one that is in it; nothing if it has expired meanwhile. */
void nl_deadlines_renew(nl_deadlines *d, nl_tcp *s);
void nl_deadlines_remove(nl_deadlines *d, nl_tcp *s);
/* From now on a deadline is at most span from now or from entry, and is not renewed. */
void nl_deadlines_hurry(nl_deadlines *d, int64_t span);
/* Lets expire what is due. */
void nl_deadlines_serve(nl_deadlines *d);
/* Lets the first expire now. False: there is none. */
bool nl_deadlines_expire_first(nl_deadlines *d);

#endif

/*
 * tcp_impl.h - the inside of a socket, shared by tcp.c (life and events), tcp_read.c, tcp_write.c and
 * linger.c; nobody else includes it.
 *
 * Who may touch what:
 *   - `flags` is the meeting point of the owner's turns and the io hook, below;
 *   - everything in the chain and the fields marked so are under the chain's lock;
 *   - the rest belongs to the owner until it closes the socket, then to whoever holds `flushing`.
 *
 * The descriptor is read by the owner until nl_tcp_close.  It is written, and after the close
 * also read, shut down and closed, only by the holder of chain.flushing.  So the number cannot
 * go to a new socket in the middle of somebody's system call, without a reference count.
 *
 * The memory is held by the owner (after the close: by the closing itself, until the descriptor is
 * closed), by the embedded message while it is posted, by a worker's list of dirty sockets and by a sweep
 * of deadlines.  The second and third are not counted while the owner's share is there: POSTED and
 * dirty say that they exist, and nl_tcp_close and finish() turn them into references: so the hot
 * paths count nothing.  The last reference retires the memory (qsbr.h), as others may have looked it up.
 */
#ifndef NL_TCP_IMPL_H
#define NL_TCP_IMPL_H

#include "base/list.h"
#include "net/tcp.h"

/*
 * tcp.flags.  One word, so that each decision that needs two of them is one atomic step, and their order is the
 * modification order of the word:
 *   - a reader that finds no READ sets WANT in the same step; the io hook sets READ and, if it finds WANT, turns it into
 *     POSTED in the same step.  So no readiness is left lying while the owner waits, and without WANT nobody is woken;
 *   - the reader takes READ away before it calls recv: what arrived before the io hook set READ is seen by
 *     that recv (the kernel's own locks order them), what arrives later sets READ again;
 *   - the owner sets CLOSED: a step of the io hook that sees it posts no more, and one that does not has set POSTED before.
 */
enum {
    NL_TCP_READ = 1u << 0,       /* something may be readable or acceptable */
    NL_TCP_HUP = 1u << 1,        /* the peer has shut down: a short read is not the end; stays set */
    NL_TCP_CONN = 1u << 2,       /* the connect may have an outcome */
    NL_TCP_WANT = 1u << 3,       /* the owner was told NL_AGAIN: the next readiness calls ready */
    NL_TCP_POSTED = 1u << 4,     /* the message is on its way to the owner */
    NL_TCP_CLOSED = 1u << 5,     /* by the owner */
    NL_TCP_CONNECTING = 1u << 6, /* no outcome was fetched yet */
    NL_TCP_PAUSED =
        1u << 7 /* accept has failed for want of something: the deadline calls ready, events do not */
};

enum { NL_TCP_KIND_CONN, NL_TCP_KIND_LISTENER };

/*
 * An address up to NL_TCP_PEER_SHORT bytes long says all in its first eight: family, port and address of IPv4, or the
 * family of a Unix socket without a name.  Most are of these two kinds; they need no memory of their own.
 */
#define NL_TCP_PEER_SHORT 16
#define NL_TCP_PEER_HERE 8

struct nl_tcp {
    nl_slot_obj slot; /* .id is the tag */
    nl_msg msg;       /* posted to the owner when ready is to be called; its ops stand in an nl_tcp_ops */
    atomic_uint flags;
    atomic_uint refs;
    nl_fd fd;
    void *user;
    union { /* one after the other */
        struct {
            nl_frame_opt opt;
            nl_buf kept; /* empty while it stands in the scratch */
        } in;            /* input of a connection, until its owner closes it */
        struct {         /* from then on; of a listener always; under the lock of linger.c */
            nl_list node;
            int64_t since;
        } due;
        nl_limbo limbo; /* once no reference is left */
    } u;
    uint16_t rerr; /* sticky (positive) error of reading, or of the connect */
    uint16_t home; /* worker whose reactor watches it; constant */
    uint8_t kind;  /* constant */
    bool more;     /* reading: the kernel may have more without a further event */
    uint8_t state; /* of closing, linger.c */
    union {
        bool bulk;    /* until its owner closes it: the last run of bytes was a long one */
        bool earnest; /* from then on; under the lock of linger.c */
    };
    nl_frame_opt wopt;
    uint64_t owner; /* handle; constant */
    nl_chain chain;
    uint64_t write_queue_max;
    nl_tcp *dirty_next; /* worker's list */
    union {
        unsigned char here[NL_TCP_PEER_HERE];
        unsigned char *apart; /* a longer one: peer_len bytes of the pool */
    } peer;                   /* the other end's address, kept for when the connection is gone */
    uint8_t peer_len;         /* of the whole address; 0: not known */
};

/* Of a worker; only its own thread uses it. */
typedef struct nl_tcp_worker {
    nl_alignas_line nl_tcp *reader; /* its input stands in the scratch, at off, len bytes; NULL: nobody's */
    uint32_t off, len;
    unsigned char *scratch; /* nl_worker_scratch(), once it has been used */
    nl_block *handed; /* bytes that the last nl_tcp_read handed out lie in it; freed at the next chance */
    nl_block *lent;   /* likewise, but it is kept with the socket: becomes handed if that is closed now */
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
/* Sets bits (READ, HUP, CONN) and calls ready on the owner's turn if it waits.  Returns the flags before. */
unsigned nl_tcp_signal(nl_tcp *s, unsigned bits);
/* Before NL_AGAIN is returned: true if WANT was set, false if one of bits is there (taken away then). */
bool nl_tcp_want(nl_tcp *s, unsigned bits);

/* tcp_read.c */
/* Gives up all input kept in memory; true if there was any. */
bool nl_tcp_drop_input(nl_tcp *s);
/* End of a dispatch: nothing may stay in the scratch. */
void nl_tcp_vacate(nl_tcp_worker *w);

/* tcp_write.c */
/* What a flush came to. */
enum {
    NL_FLUSH_EMPTY, /* all taken */
    NL_FLUSH_FULL,  /* the kernel takes no more for now */
    NL_FLUSH_SHARE, /* it would, but others are to have their turn */
    NL_FLUSH_FAILED /* chain.err is set and the chain is empty */
};
/*
 * Writes what the kernel takes.  The caller has set flushing and holds the lock, which is given up
 * in between; what it finds out holds for as long as the caller keeps the lock.  *done: for
 * nl_chunks_free, once the lock is given up.
 */
int nl_tcp_send(nl_tcp *s, nl_chunk **done);
/* Writes, unless somebody does or the reactor has the rest.  Lock held, returned without. */
void nl_tcp_flush(nl_tcp *s);
/* Puts s on the calling worker's list.  Lock held. */
void nl_tcp_dirty(nl_tcp *s);
/* The flush hook's half of that. */
void nl_tcp_flush_dirty(nl_tcp_worker *w);
/* Tells everybody in the list.  No lock. */
void nl_wreq_finish(nl_wreq *list, int err);

/* linger.c */
void nl_linger_init(void);
void nl_linger_fini(void);
/* The owner is done with s; unread: input was given up.  Lock held, returned without. */
void nl_linger_begin(nl_tcp *s, bool unread);
/* Moves a closed socket on as far as it goes now.  Lock held, returned without. */
void nl_linger_pump(nl_tcp *s);
int nl_linger_holding(void);
void nl_linger_hurry(void);
/* A listener whose accept has failed is signalled after a pause; on the owner's turn. */
void nl_linger_pause(nl_tcp *s);

#endif

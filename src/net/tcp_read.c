/*
 * tcp_read.c - input: from the kernel into the worker's scratch, frames handed out in place.
 *
 * At every moment a socket's input that was received and not handed out, its window, stands in one
 * place: in the scratch of the worker that runs the owner (w->reader says whose it is), or in a
 * block of the socket's own (s->u.in.window). It moves from the scratch to a block when another
 * socket wants the scratch and when the dispatch ends; back, when more is received behind an
 * incomplete frame, which is short then. A long frame is received behind its beginning in the
 * block, and no further than to its end, so that the block can be handed out as it is. Without
 * framing, what comes after a long run of bytes is received into a block, too.
 *
 * The block grows with what has arrived, at most to twice as much, whatever length
 * the head claims.  An idle socket has none.
 */
#include "net/tcp_impl.h"

#include "base/alloc.h"

#include <string.h>

/* Frames from this length on, head included, are received into a block of their own. */
#define DIRECT_MIN (16u * 1024)
#define GROW_MIN 4096u
/*
 * A run of bytes without framing: when one was at least so long, the next is received into a block
 * of its own, too.
 */
#define RUN_LONG (16u * 1024)
/* A bit more than round sizes: a short count says that nothing is left. */
#define RUN_MAX ((size_t)64 * 1024 + 64)

/* --- The window ------------------------------------------------------------------------------- */

/* Moves the window that stands in the scratch into a block of its own. */
static void vacate_scratch(nl_tcp_worker *w)
{
    nl_tcp *s = w->reader;
    if (!s) {
        return;
    }
    w->reader = NULL;
    s->u.in.window.block = nl_block_new(w->len);
    if (!s->u.in.window.block) {
        s->rerr = ENOMEM;
        return;
    }
    memcpy(s->u.in.window.block->data, w->scratch + w->off, w->len);
    s->u.in.window.off = 0;
    s->u.in.window.len = w->len;
}

static void free_spent(nl_tcp_worker *w)
{
    if (w->spent_block) {
        nl_block_unref(w->spent_block);
        w->spent_block = NULL;
    }
}

void nl_tcp_vacate(nl_tcp_worker *w)
{
    vacate_scratch(w);
    free_spent(w);
}

void nl_tcp_drop_input(nl_tcp *s)
{
    nl_tcp_worker *w = nl_tcp_self();
    if (w->reader == s) {
        w->reader = NULL;
        return;
    }
    nl_block *b = s->u.in.window.block;
    if (b && b == w->shown_block && !w->spent_block) {
        w->spent_block = b;
        nl_sched_want_flush(); /* frees it */
    } else {
        nl_block_unref(b);
    }
    s->u.in.window = nl_buf_empty();
}

static const unsigned char *window(const nl_tcp_worker *w, const nl_tcp *s, uint32_t *n)
{
    if (w->reader == s) {
        *n = w->len;
        return w->scratch + w->off;
    }
    *n = s->u.in.window.len;
    return s->u.in.window.block ? s->u.in.window.block->data + s->u.in.window.off : NULL;
}

/*
 * The first n bytes of the window are done with.  They stay readable until the next call for any
 * socket.
 */
static void consume(nl_tcp_worker *w, nl_tcp *s, uint32_t n)
{
    if (w->reader == s) {
        w->off += n;
        w->len -= n;
        if (w->len == 0) {
            w->reader = NULL;
        }
        return;
    }
    s->u.in.window.off += n;
    s->u.in.window.len -= n;
    if (s->u.in.window.len == 0) {
        w->spent_block = s->u.in.window.block;
        s->u.in.window.block = NULL;
        nl_sched_want_flush(); /* frees it */
    }
}

/* --- Receiving -------------------------------------------------------------------------------- */

/* Ends reading. */
static int fail(nl_tcp *s, int err)
{
    nl_tcp_drop_input(s);
    s->rerr = (uint16_t)err;
    return -err;
}

/*
 * The stream has ended in order, as far as the kernel tells the reader. If a write was told of a
 * reset before, the kernel has forgotten it by now, and this is not an end in order.
 */
static int end_of_stream(nl_tcp *s)
{
    nl_spin_lock(&s->out.lock);
    int err = s->out.err;
    nl_spin_unlock(&s->out.lock);
    return fail(s, err && err != EPIPE ? err : NL_EEOF);
}

/* Room in the scratch behind s's window, which is moved there; all of it is s's then. */
static unsigned char *room_in_scratch(nl_tcp_worker *w, nl_tcp *s, uint32_t *room)
{
    if (!w->scratch) {
        w->scratch = nl_malloc(NL_SCRATCH_SIZE);
    }
    unsigned char *scratch = w->scratch;
    if (w->reader != s) {
        vacate_scratch(w);
        w->reader = s;
        w->off = 0;
        w->len = s->u.in.window.len;
        if (s->u.in.window.block) {
            memcpy(scratch, s->u.in.window.block->data + s->u.in.window.off, s->u.in.window.len);
            nl_block_unref(s->u.in.window.block);
            s->u.in.window.block = NULL;
            s->u.in.window.len = 0;
        }
        nl_sched_want_flush(); /* vacates */
    } else if (w->off) {
        memmove(scratch, scratch + w->off, w->len);
        w->off = 0;
    }
    *room = NL_SCRATCH_SIZE - w->len;
    return scratch + w->len;
}

/* Room in a block behind s's window, the beginning of a frame of total bytes.  NULL: no memory. */
static unsigned char *room_in_block(nl_tcp_worker *w, nl_tcp *s, uint32_t total, uint32_t *room)
{
    uint32_t n;
    const unsigned char *p = window(w, s, &n);
    uint32_t missing = total - n;
    uint32_t grow = n < GROW_MIN ? GROW_MIN : n;
    grow = grow < missing ? grow : missing;
    if (w->reader == s ||
        s->u.in.window.block->cap - s->u.in.window.off - n < (grow < GROW_MIN ? grow : GROW_MIN)) {
        nl_block *b = nl_block_new((size_t)n + grow);
        if (!b) {
            return NULL;
        }
        memcpy(b->data, p, n);
        nl_tcp_drop_input(s);
        s->u.in.window.block = b;
        s->u.in.window.off = 0;
        s->u.in.window.len = n;
    }
    uint32_t free_bytes = s->u.in.window.block->cap - s->u.in.window.off - n;
    *room = free_bytes < missing ? free_bytes : missing;
    return s->u.in.window.block->data + s->u.in.window.off + n;
}

/* Room in a fresh block for a run of bytes.  NULL: no memory. */
static unsigned char *room_for_run(nl_tcp *s, uint32_t *room)
{
    nl_block *b = nl_block_new(RUN_MAX);
    s->u.in.window = (nl_buf){b, 0, 0};
    *room = b ? b->cap : 0;
    return b ? b->data : NULL;
}

static unsigned char *room_for(nl_tcp_worker *w, nl_tcp *s, uint32_t total, uint32_t *room)
{
    if (total >= DIRECT_MIN) {
        return room_in_block(w, s, total, room);
    }
    if (s->bulk && s->u.in.opt.head_bytes == 0 && w->reader != s && !s->u.in.window.block) {
        return room_for_run(s, room);
    }
    return room_in_scratch(w, s, room);
}

/* The kernel has nothing more, or a short count has said so. */
static int drained(nl_tcp *s)
{
    s->maybe_readable = false;
    return nl_reactor_arm_read(nl_tcp_reactor(s), s->fd, s->slot.id);
}

/*
 * One recv behind the window; total: length of the incomplete frame that stands there, 0 if
 * unknown.  0: something has come; NL_AGAIN; or another (sticky) error.
 */
static int receive(nl_tcp_worker *w, nl_tcp *s, uint32_t total)
{
    for (;;) {
        if (!s->maybe_readable) {
            if (nl_tcp_want(s, NL_TCP_READ)) {
                return NL_AGAIN;
            }
            s->maybe_readable = true;
        }
        uint32_t room;
        unsigned char *to = room_for(w, s, total, &room);
        if (!to) {
            return fail(s, ENOMEM);
        }
        if (nl_unlikely(nl_chaos(4))) {
            uint32_t few = 1u + nl_chaos(2) + 2 * nl_chaos(2) + 3 * nl_chaos(2);
            room = few < room ? few : room;
        }
        intptr_t n = nl_sock_read(s->fd, to, room);
        uint32_t got = n > 0 ? (uint32_t)n : 0;
        s->bulk = got >= RUN_LONG;
        if (w->reader == s) {
            w->len += got;
            if (w->len == 0) {
                w->reader = NULL;
            }
        } else {
            s->u.in.window.len += got;
            if (s->u.in.window.len == 0) {
                nl_tcp_drop_input(s);
            }
        }
        if (n > 0) {
            nl_ctx_charge(nl_ctx_current(), 0, (unsigned)n);
            /*
             * A short count from a stream means that nothing was left (epoll(7) says so), so one
             * call is saved; the next arrival is a new edge. Except the end of the stream: it may
             * have come with the same edge, and is asked for. HUP says so; relaxed: if it is set
             * later, so is READ.
             */
            if (got < room && !(atomic_load_explicit(&s->flags, memory_order_relaxed) & NL_TCP_HUP)) {
                int err = drained(s);
                if (err) {
                    s->rerr = (uint16_t)-err;
                }
            }
            return 0;
        }
        if (n == 0) {
            return end_of_stream(s);
        }
        if (n != NL_AGAIN) {
            return fail(s, (int)-n);
        }
        int err = drained(s);
        if (err) {
            return fail(s, -err);
        }
    }
}

/* --- Handing out ------------------------------------------------------------------------------ */

/*
 * The window's bytes [skip, skip + n) are the next piece: as a block where the caller takes one and
 * it pays, else in place. 1, or -ENOMEM (nothing is handed out).
 */
static int hand_out(nl_tcp_worker *w, nl_tcp *s, const unsigned char *p, uint32_t skip, uint32_t n,
                    const unsigned char **data, uint32_t *len, nl_buf *out)
{
    *data = p + skip;
    *len = n;
    if (!out || n <= NL_TCP_BLOCK_MIN) {
        consume(w, s, skip + n);
        w->shown_block = w->reader == s ? NULL : s->u.in.window.block;
        return 1;
    }
    *data = NULL;
    if (w->reader != s && s->u.in.window.len == skip + n && s->u.in.window.block->cap / 2 <= n) {
        *out = (nl_buf){s->u.in.window.block, s->u.in.window.off + skip, n};
        s->u.in.window.block = NULL;
        s->u.in.window.len = 0;
        return 1;
    }
    nl_block *b = nl_block_new(n);
    if (!b) {
        return -ENOMEM;
    }
    memcpy(b->data, p + skip, n);
    *out = (nl_buf){b, 0, n};
    consume(w, s, skip + n);
    return 1;
}

/* A whole frame that stands in the scratch and is to be handed out in place, as most are. */
static inline bool next_in_scratch(nl_tcp_worker *w, const nl_tcp *s, const unsigned char **data,
                                   uint32_t *len, uint32_t longest)
{
    const nl_frame_opt *o = &s->u.in.opt;
    if (w->reader != s || o->head_bytes == 0 || w->len < o->head_bytes) {
        return false;
    }
    const unsigned char *p = w->scratch + w->off;
    uint32_t n = nl_frame_get(p, o), whole = n + o->head_bytes;
    if (n > longest || n > nl_frame_max(o) || whole > w->len) {
        return false;
    }
    w->off += whole;
    w->len -= whole;
    if (w->len == 0) {
        w->reader = NULL;
    }
    *data = p + o->head_bytes;
    *len = n;
    return true;
}

static nl_noinline int read_more(nl_tcp_worker *w, nl_tcp *s, const unsigned char **data, uint32_t *len,
                                 nl_buf *out)
{
    free_spent(w);
    w->shown_block = NULL;
    for (;;) {
        uint32_t n, total = 0;
        const unsigned char *p = window(w, s, &n);
        if (n) {
            if (s->u.in.opt.head_bytes == 0) {
                return hand_out(w, s, p, 0, n, data, len, out);
            }
            switch (nl_frame_scan(p, n, &s->u.in.opt, &total)) {
            case NL_FRAME_WHOLE:
                return hand_out(w, s, p, s->u.in.opt.head_bytes, total, data, len, out);
            case NL_FRAME_OVER:
                return fail(s, NL_ETCPREADOVERFLOW);
            default:
                break;
            }
        }
        if (s->rerr) {
            return -s->rerr;
        }
        int err = receive(w, s, total);
        if (err) {
            return err;
        }
    }
}

int nl_tcp_read_buf(nl_tcp *s, const unsigned char **data, uint32_t *len, nl_buf *out)
{
    nl_tcp_worker *w = nl_tcp_self();
    if (nl_likely(next_in_scratch(w, s, data, len, out ? NL_TCP_BLOCK_MIN : NL_SCRATCH_SIZE))) {
        return 1;
    }
    return read_more(w, s, data, len, out);
}

int nl_tcp_read(nl_tcp *s, const unsigned char **data, uint32_t *len)
{
    return nl_tcp_read_buf(s, data, len, NULL);
}

/*
 * bufobj.h - buffers as Lua sees them: byte arrays outside the Lua heap.
 *
 * Purpose: a buffer has one of two forms.  Small ones, which most received frames are, hold their
 *          bytes inside their userdata and have a metatable without __gc: nothing but the userdata
 *          is made and collected.  One that grows, or that somebody wants to share, moves its bytes
 *          to a reference-counted block (net/buffer.h) and takes the metatable with __gc.  There is
 *          no way back; scripts cannot tell the two apart. LuaJIT's collector sees only the
 *          userdata.  So that garbage buffers with large blocks do not pile up, the blocks' sizes
 *          are told to it as steps of collection (nl_bufobj_pay).
 * Threads: the one that runs the state.
 * Ownership: an object is its state's; a block belongs to all who hold a view of it.
 */
#ifndef NL_BUFOBJ_H
#define NL_BUFOBJ_H

#include "lua/run/lctx.h"

/* Bytes up to which a new buffer is small. */
#define NL_BUFFER_SMALL 1024

typedef struct nl_bufobj {
    bool full; /* the second form */
    bool released;
    uint16_t room, off, len; /* of the first form: len bytes from in[off] on, of room */
    union {
        /* In truth room bytes, or what the second form takes, if that is more. */
        unsigned char in[1];
        struct {
            nl_buf v;
            uint32_t charged; /* what it has added to the context's c_bytes */
        };
    };
} nl_bufobj;

/*
 * What leaves the module's table on the stack and makes the metatables; set before the first
 * context.
 */
void nl_bufobj_set_opener(lua_CFunction open);

/*
 * Pushes a new buffer object.  Making it may run finalizers of the script, so data must not be
 * memory that a closed socket gives up.
 */
void nl_buffer_push(lua_State *L, nl_lctx *lc, const void *data, size_t n);
/* The same taking over a view (its reference). */
void nl_buffer_push_buf(lua_State *L, nl_buf *b);
/*
 * The buffer at idx as a view to share, or NULL if it is none.  The bytes of a small one move to a
 * block first.
 */
const nl_buf *nl_buffer_test(lua_State *L, int idx);
/*
 * A string or buffer: its bytes; *buf is a view to share them by, NULL where copying is what is
 * left: a string, a buffer so small that its bytes lie in its userdata.  Raises for others, naming
 * the argument.
 */
const char *nl_check_bytes(lua_State *L, int arg, size_t *len, nl_buf **buf);

/* --- for the module buffer -------------------------------------------------------------------- */

/* Pushes an empty buffer with that much room inside, at most NL_BUFFER_SMALL. */
nl_bufobj *nl_bufobj_push_small(lua_State *L, nl_lctx *lc, size_t room);
/* Pushes an empty buffer that is to have a block. */
nl_bufobj *nl_bufobj_push_block(lua_State *L, nl_lctx *lc);
/* Moves a small buffer's bytes to a block of their own.  0 or -ENOMEM. */
int nl_bufobj_to_block(lua_State *L, int idx, nl_bufobj *b);
/* After b's block has changed: the context's books. */
void nl_bufobj_account(nl_lctx *lc, nl_bufobj *b);
/* The collector does the work that the blocks made since stand for. */
void nl_bufobj_pay(lua_State *L, nl_lctx *lc);
int nl_bufobj_no_memory(lua_State *L);

static inline nl_bufobj *nl_bufobj_test(lua_State *L, const nl_lctx *lc, int idx)
{
    void *p = nl_lua_testudata(L, idx, lc->objects.buf_small);
    return p ? p : nl_lua_testudata(L, idx, lc->objects.buf_full);
}

static inline uint32_t nl_bufobj_length(const nl_bufobj *b)
{
    return b->full ? b->v.len : b->len;
}

static inline const unsigned char *nl_bufobj_bytes(const nl_bufobj *b)
{
    return b->full ? nl_buf_data(&b->v) : b->in + b->off;
}

#endif

/* chain.c - a socket's output, without the system call: frames appended, gathered, taken. */
#include "micro.h"
#include "net/out.h"

#include <string.h>

#define GATHER 64

static nl_out out;
static unsigned char payload[4096];
static nl_buf shared;

static void setup(void)
{
    nl_out_init(&out);
    shared = nl_buf_empty();
    if (nl_buf_append(&shared, payload, sizeof(payload)) != 0) {
        nl_assert(false, "a buffer of 4 KiB can be made");
    }
}

static void teardown(void)
{
    nl_buf_release(&shared);
}

/* What a worker does around writev. */
static void gather(void)
{
    nl_iov iov[GATHER];
    for (;;) {
        nl_segment *done = NULL;
        nl_spin_lock(&out.lock);
        int n = nl_chain_iov(&out.chain, iov, GATHER);
        nl_spin_unlock(&out.lock);
        if (n == 0) {
            return;
        }
        micro_keep(iov);
        size_t bytes = (size_t)nl_chain_queued(&out.chain);
        nl_spin_lock(&out.lock);
        nl_out_advance_locked(&out, bytes, &done);
        nl_spin_unlock(&out.lock);
        nl_segments_free(done);
    }
}

static void copies(unsigned together, uint64_t n)
{
    static const unsigned char head[2] = {0, 64};
    for (uint64_t i = 0; i < n; i += together) {
        for (unsigned k = 0; k < together; k++) {
            nl_spin_lock(&out.lock);
            if (!nl_chain_put(&out.chain, head, sizeof(head), payload, 64)) {
                nl_segment *fresh = nl_segment_new(nl_chain_room(&out.chain, sizeof(head) + 64, out.burst));
                nl_chain_put_fresh(&out.chain, head, sizeof(head), payload, 64, fresh);
            }
            nl_spin_unlock(&out.lock);
        }
        gather();
    }
}

static void copy_1(uint64_t n)
{
    copies(1, n);
}

static void copy_16(uint64_t n)
{
    copies(16, n);
}

static void share(uint64_t n)
{
    static const unsigned char head[2] = {16, 0};
    for (uint64_t i = 0; i < n; i++) {
        nl_buf b = nl_buf_share(&shared);
        nl_segment *fresh = nl_segment_new(NL_SEGMENT_VIEW);
        nl_spin_lock(&out.lock);
        nl_chain_put_view(&out.chain, head, sizeof(head), b, fresh);
        nl_spin_unlock(&out.lock);
        gather();
    }
}

const micro micro_chain[] = {
    {"chain.copy", "a frame of 64 bytes appended, gathered, taken", copy_1, setup, teardown, 1},
    {"chain.copy.16", "the same, 16 at a time", copy_16, setup, teardown, 1},
    {"chain.share", "a frame of 4 KiB appended by reference, gathered, taken", share, setup, teardown, 1},
    {NULL, NULL, NULL, NULL, NULL, 0},
};

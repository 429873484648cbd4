/* chain.c - a socket's output, without the system call: frames appended, gathered, taken. */
#include "net/chain.h"
#include "micro.h"

#include <string.h>

#define GATHER 64

static nl_chain chain;
static unsigned char payload[4096];
static nl_buf shared;

static void setup(void)
{
    nl_chain_init(&chain);
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
        nl_chunk *done = NULL;
        nl_spin_lock(&chain.lock);
        int n = nl_chain_iov(&chain, iov, GATHER);
        nl_spin_unlock(&chain.lock);
        if (n == 0) {
            return;
        }
        micro_keep(iov);
        size_t bytes = (size_t)nl_chain_queued(&chain);
        nl_spin_lock(&chain.lock);
        nl_chain_advance(&chain, bytes, &done);
        nl_spin_unlock(&chain.lock);
        nl_chunks_free(done);
    }
}

static void copies(unsigned together, uint64_t n)
{
    static const unsigned char head[2] = {0, 64};
    for (uint64_t i = 0; i < n; i += together) {
        for (unsigned k = 0; k < together; k++) {
            nl_spin_lock(&chain.lock);
            nl_chain_add_copy(&chain, head, sizeof(head), payload, 64);
            nl_spin_unlock(&chain.lock);
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
        nl_spin_lock(&chain.lock);
        nl_chain_add_buf(&chain, head, sizeof(head), b);
        nl_spin_unlock(&chain.lock);
        gather();
    }
}

const micro micro_chain[] = {
    {"chain.copy", "a frame of 64 bytes appended, gathered, taken", copy_1, setup, teardown, 1},
    {"chain.copy.16", "the same, 16 at a time", copy_16, setup, teardown, 1},
    {"chain.share", "a frame of 4 KiB appended by reference, gathered, taken", share, setup, teardown, 1},
    {NULL, NULL, NULL, NULL, NULL, 0},
};

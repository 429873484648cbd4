/* The output chain: beside a reference model, and with producers on several threads. */
#include "base/alloc.h"
#include "base/os.h"
#include "base/spin.h"
#include "net/chain.h"
#include "rng.h"

#include <criterion/criterion.h>
#include <string.h>

#define SLOW RNG_ROUNDS(1, 10)

static nl_buf buf_of(const unsigned char *p, size_t n)
{
    nl_buf b = nl_buf_empty();
    cr_assert_eq(nl_buf_append(&b, p, n), 0);
    return b;
}

static void add_copy(nl_chain *c, const void *head, unsigned head_n, const void *p, size_t n)
{
    if (!nl_chain_put(c, head, head_n, p, n)) {
        nl_segment *fresh = nl_segment_new(nl_chain_room(c, head_n + n, 0));
        nl_segments_free(nl_chain_put_fresh(c, head, head_n, p, n, fresh));
    }
}

static void add_view(nl_chain *c, const void *head, unsigned head_n, nl_buf b)
{
    nl_segments_free(nl_chain_put_view(c, head, head_n, b, nl_segment_new(NL_SEGMENT_VIEW)));
}

Test(chain, empty)
{
    nl_chain c;
    nl_iov iov[4];
    nl_segment *done = NULL;
    c = (nl_chain){0};
    cr_assert_eq(nl_chain_iov(&c, iov, 4), 0);
    add_copy(&c, NULL, 0, NULL, 0);
    add_view(&c, NULL, 0, nl_buf_empty());
    cr_assert_eq(nl_chain_iov(&c, iov, 4), 0);
    cr_assert_eq(nl_chain_queued(&c), 0);
    nl_chain_advance(&c, 0, &done);
    nl_chain_clear(&c, &done);
    cr_assert_null(done, "an empty chain holds no memory");
}

Test(chain, short_writes_stand_side_by_side)
{
    nl_chain c;
    nl_iov iov[4];
    nl_segment *done = NULL;
    c = (nl_chain){0};
    for (int i = 0; i < 8; i++) {
        add_copy(&c, "\0\3", 2, "abc", 3);
    }
    cr_assert_eq(nl_chain_iov(&c, iov, 4), 1);
    cr_assert_eq(iov[0].len, 40);
    cr_assert_eq(memcmp(iov[0].base, "\0\3abc\0\3abc", 10), 0);
    nl_chain_advance(&c, 40, &done);
    nl_segments_free(done);
}

Test(chain, a_long_payload_is_shared)
{
    static unsigned char text[2000];
    nl_chain c[3];
    nl_iov iov[4];
    nl_buf b = buf_of(text, sizeof(text));
    for (int i = 0; i < 3; i++) {
        c[i] = (nl_chain){0};
        add_view(&c[i], "\7\320", 2, nl_buf_share(&b));
        cr_assert_eq(nl_chain_iov(&c[i], iov, 4), 2);
        cr_assert_eq(iov[0].len, 2);
        cr_assert_eq(iov[1].base, b.block->data);
        cr_assert_eq(iov[1].len, 2000);
    }
    cr_assert_eq(b.block->refs, 4);
    for (int i = 0; i < 3; i++) {
        nl_segment *done = NULL;
        nl_chain_advance(&c[i], 2002, &done);
        cr_assert_not_null(done);
        nl_segments_free(done);
    }
    cr_assert_eq(b.block->refs, 1);
    nl_buf_release(&b);
}

Test(chain, one_call_takes_no_more_than_a_megabyte)
{
    nl_chain c;
    nl_iov iov[NL_IOV_MAX];
    nl_segment *done = NULL;
    nl_buf b = nl_buf_empty();
    cr_assert_eq(nl_buf_reserve(&b, 3 << 20), 0);
    memset(b.block->data, 'x', 3 << 20);
    b.len = 3 << 20;
    c = (nl_chain){0};
    add_copy(&c, NULL, 0, "head", 4);
    add_view(&c, NULL, 0, nl_buf_share(&b));
    add_view(&c, NULL, 0, b);
    size_t total = 4 + 2 * (3 << 20);
    while (total) {
        int n = nl_chain_iov(&c, iov, NL_IOV_MAX);
        size_t sum = 0;
        for (int i = 0; i < n; i++) {
            sum += iov[i].len;
        }
        cr_assert_gt(sum, 0);
        cr_assert_leq(sum, NL_CHAIN_GATHER);
        nl_chain_advance(&c, sum, &done);
        total -= sum;
    }
    cr_assert_eq(nl_chain_queued(&c), 0);
    nl_segments_free(done);
    cr_assert_eq(nl_block_bytes(), 0);
}

/* Random appends of every kind, taken in random amounts: the bytes and the count agree with an array. */
Test(chain, random_against_model)
{
    enum { MAX = 1 << 20 };
    static unsigned char model[MAX], payload[4000];
    rng r = rng_seed(11);
    for (int round = 0; round < 40 / SLOW; round++) {
        nl_chain c;
        c = (nl_chain){0};
        size_t in = 0, out = 0;
        while (out < MAX - 10000) {
            if (rng_below(&r, 2) && in < MAX - 5000) {
                unsigned head_n = rng_below(&r, 5);
                size_t n = rng_below(&r, rng_below(&r, 3) ? 80 : sizeof(payload));
                unsigned char head[4];
                for (unsigned i = 0; i < head_n; i++) {
                    model[in++] = head[i] = (unsigned char)rng_below(&r, 256);
                }
                for (size_t i = 0; i < n; i++) {
                    payload[i] = (unsigned char)rng_below(&r, 256);
                }
                memcpy(model + in, payload, n);
                in += n;
                if (n <= NL_CHAIN_INLINE && rng_below(&r, 3)) {
                    add_copy(&c, head, head_n, payload, n);
                } else {
                    add_view(&c, head, head_n, buf_of(payload, n));
                }
            } else {
                nl_iov iov[NL_IOV_MAX];
                int max = 1 + (int)rng_below(&r, NL_IOV_MAX);
                int n = nl_chain_iov(&c, iov, max);
                cr_assert_leq(n, max);
                cr_assert_eq(n > 0, in > out);
                size_t sum = 0;
                for (int i = 0; i < n; i++) {
                    cr_assert_gt(iov[i].len, 0);
                    cr_assert_eq(memcmp(iov[i].base, model + out + sum, iov[i].len), 0);
                    sum += iov[i].len;
                }
                cr_assert_leq(sum, in - out);
                size_t take = rng_below(&r, 3) ? sum : rng_below(&r, (uint32_t)sum + 1);
                nl_segment *done = NULL;
                nl_chain_advance(&c, take, &done);
                nl_segments_free(done);
                out += take;
            }
            cr_assert_eq(nl_chain_queued(&c), in - out);
        }
        nl_segment *done = NULL;
        nl_chain_clear(&c, &done);
        cr_assert_eq(nl_chain_queued(&c), 0);
        nl_segments_free(done);
        cr_assert_eq(nl_block_bytes(), 0);
    }
}

/* Several producers and one flusher: each producer's bytes come out whole and in its order. */
enum { PRODUCERS = 3, EACH = 20000 / SLOW };
static nl_chain shared;
static nl_spin lock = NL_SPIN_INIT;
static atomic_int running;

static void produce(void *arg)
{
    unsigned me = (unsigned)(uintptr_t)arg;
    rng r = rng_seed(me);
    unsigned char record[1200];
    for (uint32_t i = 0; i < EACH; i++) {
        /* producer, number, length, then that many bytes of a pattern */
        uint32_t n = rng_below(&r, 10) ? rng_below(&r, 100) : rng_below(&r, 1100);
        record[0] = (unsigned char)me;
        memcpy(record + 1, &i, 4);
        memcpy(record + 5, &n, 4);
        memset(record + 9, (int)(i & 0xff), n);
        nl_buf b = n > NL_CHAIN_INLINE - 9 ? buf_of(record + 3, n + 6) : nl_buf_empty();
        nl_segment *fresh =
            nl_segment_new(b.block ? NL_SEGMENT_VIEW : nl_chain_room(&(nl_chain){0}, n + 9, 0));
        nl_spin_lock(&lock);
        if (b.block) {
            fresh = nl_chain_put_view(&shared, record, 3, b, fresh);
        } else {
            fresh = nl_chain_put_fresh(&shared, record, 4, record + 4, n + 5, fresh);
        }
        nl_spin_unlock(&lock);
        nl_segments_free(fresh);
    }
    atomic_fetch_sub(&running, 1);
    nl_pool_thread_exit();
}

Test(chain, producers_on_several_threads)
{
    static unsigned char out[2000];
    size_t have = 0;
    uint32_t next[PRODUCERS] = {0};
    nl_thread *t[PRODUCERS];
    rng r = rng_seed(3);
    shared = (nl_chain){0};
    atomic_store(&running, PRODUCERS);
    for (uintptr_t i = 0; i < PRODUCERS; i++) {
        cr_assert_eq(nl_thread_start(&t[i], "producer", produce, (void *)i), 0);
    }
    for (;;) {
        bool last = atomic_load(&running) == 0;
        nl_iov iov[8];
        nl_spin_lock(&lock);
        int n = nl_chain_iov(&shared, iov, 1 + (int)rng_below(&r, 8));
        nl_spin_unlock(&lock);
        if (n == 0 && last) {
            break;
        }
        /* "Written" without the lock, some of it. */
        size_t taken = 0;
        for (int i = 0; i < n; i++) {
            size_t some = rng_below(&r, 4) ? iov[i].len : rng_below(&r, (uint32_t)iov[i].len);
            for (size_t k = 0; k < some; k++) {
                out[have++] = ((unsigned char *)iov[i].base)[k];
                uint32_t number, len;
                if (have < 9 || (memcpy(&len, out + 5, 4), have < 9 + len)) {
                    continue;
                }
                memcpy(&number, out + 1, 4);
                cr_assert_lt(out[0], PRODUCERS);
                cr_assert_eq(number, next[out[0]]);
                next[out[0]]++;
                for (uint32_t j = 0; j < len; j++) {
                    cr_assert_eq(out[9 + j], number & 0xff);
                }
                have = 0;
            }
            taken += some;
            if (some < iov[i].len) {
                break;
            }
        }
        nl_segment *done = NULL;
        nl_spin_lock(&lock);
        nl_chain_advance(&shared, taken, &done);
        nl_spin_unlock(&lock);
        nl_segments_free(done);
    }
    for (int i = 0; i < PRODUCERS; i++) {
        nl_thread_join(t[i]);
        cr_assert_eq(next[i], EACH);
    }
    cr_assert_eq(have, 0);
    cr_assert_eq(nl_block_bytes(), 0);
}

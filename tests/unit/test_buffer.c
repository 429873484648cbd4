/* Buffers: views of shared blocks, and that a change never shows under another holder. */
#include "base/os.h"
#include "net/buffer.h"
#include "rng.h"

#include <criterion/criterion.h>
#include <string.h>

static void fill(nl_buf *b, const char *text)
{
    *b = nl_buf_empty();
    cr_assert_eq(nl_buf_append(b, text, strlen(text)), 0);
}

static bool is(const nl_buf *b, const char *text)
{
    return b->len == strlen(text) && memcmp(nl_buf_data(b), text, b->len) == 0;
}

Test(buffer, empty)
{
    nl_buf b = nl_buf_empty();
    cr_assert(is(&b, ""));
    cr_assert_eq(nl_buf_unfill(&b), 0);
    nl_buf s = nl_buf_share(&b);
    cr_assert_null(s.block);
    cr_assert_eq(nl_buf_append(&b, "", 0), 0);
    cr_assert_null(b.block, "no bytes need no memory");
    s = nl_buf_split(&b, 5);
    cr_assert(is(&s, ""));
    nl_buf_clear(&b);
    nl_buf_release(&b);
    nl_buf_release(&b);
    nl_block_unref(NULL);
}

Test(buffer, reserve_and_unfill)
{
    nl_buf b = nl_buf_empty();
    cr_assert_eq(nl_buf_reserve(&b, 1000), 0);
    cr_assert_geq(nl_buf_unfill(&b), 1000);
    nl_block *block = b.block;
    for (int i = 0; i < 100; i++) {
        cr_assert_eq(nl_buf_append(&b, "0123456789", 10), 0);
    }
    cr_assert_eq(b.block, block, "what was set aside suffices");
    cr_assert_eq(nl_buf_reserve(&b, 10), 0, "never shrinks");
    cr_assert_eq(b.len, 1000);
    nl_buf s = nl_buf_share(&b);
    cr_assert_eq(nl_buf_unfill(&b), 0, "a shared one has to move first");
    cr_assert_eq(nl_buf_reserve(&b, 2000), 0);
    cr_assert_neq(b.block, s.block);
    cr_assert_geq(nl_buf_unfill(&b), 1000);
    nl_buf_release(&b);
    nl_buf_release(&s);
}

Test(buffer, too_long)
{
    nl_buf b;
    fill(&b, "x");
    cr_assert_eq(nl_buf_reserve(&b, (size_t)NL_BUF_MAX + 1), -ENOMEM);
    cr_assert_eq(nl_buf_append(&b, "", NL_BUF_MAX), -ENOMEM, "one byte too many");
    cr_assert(is(&b, "x"));
    cr_assert_null(nl_block_new((size_t)NL_BUF_MAX + 1));
    nl_buf_release(&b);
}

Test(buffer, a_shared_one_is_copied_before_it_changes)
{
    nl_buf a, b;
    fill(&a, "hello");
    b = nl_buf_share(&a);
    cr_assert_eq(a.block, b.block);
    cr_assert_eq(nl_buf_append(&b, " world", 6), 0);
    cr_assert(is(&a, "hello"));
    cr_assert(is(&b, "hello world"));
    nl_buf c = nl_buf_share(&b);
    nl_buf_clear(&c);
    cr_assert(is(&c, ""));
    cr_assert_null(c.block, "its memory is another's");
    cr_assert(is(&b, "hello world"));
    nl_block *block = b.block;
    nl_buf_clear(&b);
    cr_assert_eq(b.block, block, "its own memory is kept");
    nl_buf_release(&a);
    nl_buf_release(&b);
}

Test(buffer, append_of_itself)
{
    nl_buf b;
    fill(&b, "ab");
    for (int i = 0; i < 12; i++) {
        cr_assert_eq(nl_buf_append(&b, nl_buf_data(&b), b.len), 0);
    }
    cr_assert_eq(b.len, 2u << 12);
    for (uint32_t i = 0; i < b.len; i++) {
        cr_assert_eq(nl_buf_data(&b)[i], i % 2 ? 'b' : 'a');
    }
    /* with room come free in front */
    nl_buf front = nl_buf_split(&b, 5000);
    nl_buf_release(&front);
    uint32_t n = b.len;
    cr_assert_eq(nl_buf_append(&b, nl_buf_data(&b), n), 0);
    cr_assert_eq(nl_buf_append(&b, nl_buf_data(&b), n), 0);
    for (uint32_t i = 0; i < b.len; i++) {
        cr_assert_eq(nl_buf_data(&b)[i], i % 2 ? 'b' : 'a');
    }
    nl_buf_release(&b);
}

Test(buffer, a_small_piece_pins_no_large_block)
{
    nl_buf b = nl_buf_empty();
    cr_assert_eq(nl_buf_reserve(&b, 100000), 0);
    for (int i = 0; i < 1000; i++) {
        nl_buf_append(&b, "0123456789", 10);
    }
    nl_buf small = nl_buf_split(&b, 10);
    cr_assert_neq(small.block, b.block);
    cr_assert_leq(small.block->cap, 64);
    nl_buf rest = nl_buf_split(&b, 9900);
    cr_assert_neq(rest.block, b.block, "the small rest has moved");
    cr_assert_leq(b.block->cap, 128);
    cr_assert_eq(rest.len, 9900);
    cr_assert_eq(b.len, 90);
    nl_buf_release(&small);
    nl_buf_release(&rest);
    nl_buf_release(&b);
}

/* All operations at random on a few buffers, beside plain arrays. */
Test(buffer, random_against_model)
{
    enum { N = 6, MAX = 20000 };
    static unsigned char model[N][2 * MAX];
    static size_t len[N];
    nl_buf b[N];
    unsigned char bytes[3000];
    rng r = rng_seed(7);
    for (int i = 0; i < N; i++) {
        b[i] = nl_buf_empty();
    }
    for (int round = 0; round < 100000; round++) {
        unsigned i = rng_below(&r, N), j = rng_below(&r, N);
        switch (rng_below(&r, 9)) {
        case 0:
        case 1: {
            uint32_t n = rng_below(&r, rng_below(&r, 4) ? 100 : sizeof(bytes));
            for (uint32_t k = 0; k < n; k++) {
                bytes[k] = (unsigned char)rng_below(&r, 256);
            }
            if (len[i] + n <= MAX) {
                cr_assert_eq(nl_buf_append(&b[i], bytes, n), 0);
                memcpy(model[i] + len[i], bytes, n);
                len[i] += n;
            }
            break;
        }
        case 2: /* another buffer, or itself */
            if (len[i] + len[j] <= MAX) {
                cr_assert_eq(nl_buf_append(&b[i], nl_buf_data(&b[j]), b[j].len), 0);
                size_t n = len[j];
                memcpy(model[i] + len[i], model[j], n);
                len[i] += n;
            }
            break;
        case 3:
            if (i != j) {
                nl_buf_release(&b[i]);
                b[i] = nl_buf_share(&b[j]);
                memcpy(model[i], model[j], len[j]);
                len[i] = len[j];
            }
            break;
        case 4:
        case 5:
            if (i != j) {
                size_t n = rng_below(&r, (uint32_t)len[j] + 50);
                nl_buf_release(&b[i]);
                b[i] = nl_buf_split(&b[j], n);
                n = n < len[j] ? n : len[j];
                memcpy(model[i], model[j], n);
                len[i] = n;
                memmove(model[j], model[j] + n, len[j] - n);
                len[j] -= n;
            }
            break;
        case 6:
            cr_assert_eq(nl_buf_reserve(&b[i], rng_below(&r, MAX)), 0);
            break;
        case 7:
            if (rng_below(&r, 8) == 0) {
                nl_buf_clear(&b[i]);
                len[i] = 0;
            }
            break;
        default: {
            size_t unfill = nl_buf_unfill(&b[i]);
            nl_block *block = b[i].block;
            if (unfill && len[i] + unfill <= MAX) {
                memset(model[i] + len[i], 'u', unfill);
                cr_assert_eq(nl_buf_append(&b[i], model[i] + len[i], unfill), 0);
                len[i] += unfill;
                cr_assert_eq(b[i].block, block, "unfill bytes fit in without new memory");
            }
        }
        }
        cr_assert_eq(b[i].len, len[i]);
        cr_assert_eq(b[j].len, len[j]);
        cr_assert_eq(memcmp(nl_buf_data(&b[i]), model[i], len[i]), 0, "round %d", round);
        cr_assert_eq(memcmp(nl_buf_data(&b[j]), model[j], len[j]), 0, "round %d", round);
    }
    for (int i = 0; i < N; i++) {
        cr_assert_eq(memcmp(nl_buf_data(&b[i]), model[i], len[i]), 0);
        nl_buf_release(&b[i]);
    }
    cr_assert_eq(nl_block_bytes(), 0, "every block was freed");
}

/* One block, many holders on several threads: each appends to its own copy. */
static void holder(void *arg)
{
    nl_buf mine = nl_buf_share(arg);
    for (int i = 0; i < 10000; i++) {
        nl_buf b = nl_buf_share(&mine);
        if (i % 16 == 0) {
            cr_assert_eq(nl_buf_append(&b, "!", 1), 0);
            cr_assert_eq(nl_buf_data(&b)[b.len - 1], '!');
        }
        nl_buf_release(&b);
    }
    cr_assert(is(&mine, "shared by all"));
    nl_buf_release(&mine);
}

Test(buffer, shared_by_threads)
{
    nl_buf b;
    fill(&b, "shared by all");
    nl_thread *t[3];
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(nl_thread_start(&t[i], "holder", holder, &b), 0);
    }
    for (int i = 0; i < 3; i++) {
        nl_thread_join(t[i]);
    }
    cr_assert(is(&b, "shared by all"));
    nl_block *block = b.block;
    cr_assert_eq(nl_buf_append(&b, ".", 1), 0);
    cr_assert_eq(b.block, block, "the last holder may write in place");
    nl_buf_release(&b);
    cr_assert_eq(nl_block_bytes(), 0);
}

Test(buffer, find)
{
    const char *text = "abcabcabd";
    cr_assert_eq(nl_bytes_find(text, 9, "abc", 3, 0), 0);
    cr_assert_eq(nl_bytes_find(text, 9, "abc", 3, 1), 3);
    cr_assert_eq(nl_bytes_find(text, 9, "abd", 3, 0), 6);
    cr_assert_eq(nl_bytes_find(text, 8, "abd", 3, 0), -1);
    cr_assert_eq(nl_bytes_find(text, 9, "", 0, 0), 0);
    cr_assert_eq(nl_bytes_find(text, 9, "", 0, 9), 9);
    cr_assert_eq(nl_bytes_find(text, 9, "", 0, 10), -1);
    cr_assert_eq(nl_bytes_find(text, 9, "d", 1, 8), 8);
    cr_assert_eq(nl_bytes_find(text, 9, "d", 1, 9), -1);
    cr_assert_eq(nl_bytes_find("a\0b\0c", 5, "\0c", 2, 0), 3);
    cr_assert_eq(nl_bytes_find(text, 3, "abcabc", 6, 0), -1);
    cr_assert_eq(nl_bytes_find("", 0, "a", 1, 0), -1);
    cr_assert_eq(nl_bytes_find(text, 9, "abc", 3, SIZE_MAX), -1);
}

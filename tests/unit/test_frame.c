/* Frame heads: every width and endian, both ways, and the limits. */
#include "net/frame.h"

#include <criterion/criterion.h>
#include <string.h>

static nl_frame_opt opt(uint8_t bytes, bool big, uint32_t max)
{
    return (nl_frame_opt){.head_bytes = bytes, .big_endian = big, .head_max = max};
}

Test(frame, heads_on_the_wire)
{
    static const struct {
        uint8_t bytes;
        bool big;
        uint32_t n;
        const char *wire;
    } cases[] = {
        {1, false, 0, "\x00"},
        {1, true, 255, "\xff"},
        {2, false, 0x1234, "\x34\x12"},
        {2, true, 0x1234, "\x12\x34"},
        {2, true, 1, "\x00\x01"},
        {4, false, 0x00345678, "\x78\x56\x34\x00"},
        {4, true, 0x00345678, "\x00\x34\x56\x78"},
        {4, true, 0xfedcba98, "\xfe\xdc\xba\x98"},
        {4, false, 0xfedcba98, "\x98\xba\xdc\xfe"},
    };
    for (size_t i = 0; i < nl_countof(cases); i++) {
        nl_frame_opt o = opt(cases[i].bytes, cases[i].big, 0);
        unsigned char head[4];
        cr_assert_eq(nl_frame_put(head, &o, cases[i].n), o.head_bytes);
        cr_assert_eq(memcmp(head, cases[i].wire, o.head_bytes), 0, "case %u", (unsigned)i);
        cr_assert_eq(nl_frame_get(head, &o), cases[i].n, "case %u", (unsigned)i);
    }
}

Test(frame, nothing_is_put_without_framing)
{
    nl_frame_opt o = opt(0, false, 0);
    unsigned char head[4] = {7, 7, 7, 7};
    cr_assert_eq(nl_frame_put(head, &o, 5), 0);
    cr_assert_eq(head[0], 7);
}

Test(frame, defaults_of_the_longest)
{
    nl_frame_opt o = opt(1, false, 0);
    cr_assert_eq(nl_frame_max(&o), 255);
    o = opt(2, false, 0);
    cr_assert_eq(nl_frame_max(&o), 65535);
    o = opt(4, false, 0);
    cr_assert_eq(nl_frame_max(&o), 16u << 20);
    o = opt(2, false, 100);
    cr_assert_eq(nl_frame_max(&o), 100);
    o = opt(1, false, 1000);
    cr_assert_eq(nl_frame_max(&o), 255, "no more than the head can express");
    o = opt(4, false, 0xffffffff);
    cr_assert_eq(nl_frame_max(&o), 0xffffffff);
}

/* Every prefix of every length of frame is PART, the whole is WHOLE, whatever follows. */
Test(frame, scan)
{
    static unsigned char wire[700];
    for (int w = 0; w < 6; w++) {
        nl_frame_opt o = opt((uint8_t)(1u << w / 2), w % 2, 0);
        for (uint32_t n = 0; n <= (o.head_bytes == 1 ? 255u : 600u); n += 1 + n / 7) {
            nl_frame_put(wire, &o, n);
            for (uint32_t have = 0; have <= o.head_bytes + n + 2; have++) {
                uint32_t len = 12345;
                int r = nl_frame_scan(wire, have, &o, &len);
                if (have < o.head_bytes) {
                    cr_assert_eq(r, NL_FRAME_PART);
                    cr_assert_eq(len, 0, "not known yet");
                } else if (have < o.head_bytes + n) {
                    cr_assert_eq(r, NL_FRAME_PART);
                    cr_assert_eq(len, o.head_bytes + n);
                } else {
                    cr_assert_eq(r, NL_FRAME_WHOLE);
                    cr_assert_eq(len, n);
                }
            }
        }
    }
}

Test(frame, over)
{
    unsigned char wire[16] = {0};
    uint32_t len;
    nl_frame_opt o = opt(4, true, 10);
    nl_frame_put(wire, &o, 10);
    cr_assert_eq(nl_frame_scan(wire, 4, &o, &len), NL_FRAME_PART);
    nl_frame_put(wire, &o, 11);
    cr_assert_eq(nl_frame_scan(wire, 4, &o, &len), NL_FRAME_OVER);
    cr_assert_eq(nl_frame_scan(wire, 3, &o, &len), NL_FRAME_PART, "not known yet");
    nl_frame_put(wire, &o, 0xffffffff);
    cr_assert_eq(nl_frame_scan(wire, 16, &o, &len), NL_FRAME_OVER);
}

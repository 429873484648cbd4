/* frame.c - length heads: written, and found in a stream. */
#include "net/frame.h"
#include "micro.h"

#include <string.h>

#define FRAMES 64
#define PAYLOAD 64

static unsigned char stream[FRAMES * (4 + PAYLOAD)];
static size_t stream_n;
static nl_frame_opt how;

static void fill(uint8_t head_bytes, bool big_endian)
{
    how = (nl_frame_opt){.head_bytes = head_bytes, .big_endian = big_endian};
    memset(stream, 'x', sizeof(stream));
    stream_n = 0;
    for (unsigned i = 0; i < FRAMES; i++) {
        stream_n += nl_frame_put(stream + stream_n, &how, PAYLOAD) + PAYLOAD;
    }
}

static void two_big(void)
{
    fill(2, true);
}

static void four_little(void)
{
    fill(4, false);
}

static void put(uint64_t n)
{
    unsigned char head[4];
    for (uint64_t i = 0; i < n; i++) {
        nl_frame_put(head, &how, (uint32_t)i & 0xffff);
        micro_keep(head);
    }
}

static void scan(uint64_t n)
{
    for (uint64_t done = 0; done < n; done += FRAMES) {
        uint32_t len;
        for (size_t at = 0; nl_frame_scan(stream + at, stream_n - at, &how, &len) == NL_FRAME_WHOLE;) {
            micro_keep(stream + at + how.head_bytes);
            at += how.head_bytes + len;
        }
    }
}

const micro micro_frame[] = {
    {"frame.put.2", "a head of 2 bytes written", put, two_big, NULL, 1},
    {"frame.scan.2", "a frame of 64 bytes found in a stream of them, heads of 2 bytes", scan, two_big, NULL,
     1},
    {"frame.scan.4", "the same with heads of 4 bytes", scan, four_little, NULL, 1},
    {NULL, NULL, NULL, NULL, NULL, 0},
};

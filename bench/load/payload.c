/* payload.c - see payload.h. */
#include "payload.h"

#include <stdlib.h>
#include <string.h>

#define STAMP 8
#define PLACES 65536u /* where a message's random bytes may begin */

static size_t head_n, stamp_n, frame_n;
static unsigned char head[4];
static unsigned char *noise; /* PLACES bytes and as many more as a payload has */

bool payload_setup(unsigned head_bytes, bool little_endian, size_t size)
{
    if ((head_bytes == 1 && size > 0xff) || (head_bytes == 2 && size > 0xffff) || size > 0xffffffff) {
        return false;
    }
    head_n = head_bytes;
    stamp_n = size < STAMP ? size : STAMP;
    frame_n = head_n + size;
    for (unsigned i = 0; i < head_bytes; i++) {
        head[i] = (unsigned char)(size >> 8 * (little_endian ? i : head_bytes - 1 - i));
    }
    noise = malloc(PLACES + size);
    if (!noise) {
        return false;
    }
    uint64_t x = 0x9e3779b97f4a7c15;
    for (size_t i = 0; i < PLACES + size; i++) { /* splitmix64, a byte of each */
        x += 0x9e3779b97f4a7c15;
        uint64_t z = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        noise[i] = (unsigned char)(z >> 56);
    }
    return true;
}

size_t payload_frame(void)
{
    return frame_n;
}

static const unsigned char *noise_of(uint32_t id, uint64_t seq)
{
    return noise + ((id * 40503u + (uint32_t)seq * 2654435761u) >> 16) % PLACES;
}

/* Not in any fixed byte order: it comes back to the machine that wrote it. */
static uint64_t stamp_of(uint32_t id, uint64_t seq)
{
    return (uint64_t)id << 32 | (uint32_t)seq;
}

void payload_put(unsigned char *p, uint32_t id, uint64_t seq)
{
    uint64_t stamp = stamp_of(id, seq);
    memcpy(p, head, head_n);
    memcpy(p + head_n, &stamp, stamp_n);
    memcpy(p + head_n + stamp_n, noise_of(id, seq), frame_n - head_n - stamp_n);
}

unsigned char payload_byte(size_t at, uint32_t id, uint64_t seq)
{
    uint64_t stamp = stamp_of(id, seq);
    if (at < head_n) {
        return head[at];
    }
    at -= head_n;
    return at < stamp_n ? ((const unsigned char *)&stamp)[at] : noise_of(id, seq)[at - stamp_n];
}

int64_t payload_check(const unsigned char *p, size_t n, size_t from, uint32_t id, uint64_t seq)
{
    uint64_t stamp = stamp_of(id, seq);
    const struct {
        const unsigned char *bytes;
        size_t n;
    } part[] = {
        {head, head_n},
        {(const unsigned char *)&stamp, stamp_n},
        {noise_of(id, seq), frame_n - head_n - stamp_n},
    };
    size_t start = 0; /* of the part, within the message */
    for (unsigned i = 0; i < sizeof(part) / sizeof(part[0]); i++) {
        size_t end = start + part[i].n;
        size_t a = from > start ? from : start, b = from + n < end ? from + n : end;
        if (a < b && memcmp(p + (a - from), part[i].bytes + (a - start), b - a) != 0) {
            while (p[a - from] == part[i].bytes[a - start]) {
                a++;
            }
            return (int64_t)a;
        }
        start = end;
    }
    return -1;
}

uint32_t payload_seq(const unsigned char *p)
{
    uint64_t stamp;
    memcpy(&stamp, p + head_n, sizeof(stamp));
    return (uint32_t)stamp;
}

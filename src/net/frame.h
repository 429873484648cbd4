/*
 * frame.h - length heads.
 *
 * Purpose:   1, 2 or 4 bytes of either endian in front of a payload, which hold its length, the
 *            head itself not counted.
 * Threads:   pure functions; any thread.
 * Ownership: none; the bytes are the caller's.
 */
#ifndef NL_FRAME_H
#define NL_FRAME_H

#include "base/base.h"

typedef struct nl_frame_opt {
    uint8_t head_bytes; /* 0 (no framing), 1, 2, 4 */
    bool big_endian;
    uint32_t head_max; /* longest payload; 0 = default (nl_frame_default_max) */
} nl_frame_opt;

#define NL_FRAME_MAX (16u << 20)

/* What the head can express, at most 16 MiB. */
static inline uint32_t nl_frame_default_max(unsigned head_bytes)
{
    return head_bytes == 1 ? 0xff : head_bytes == 2 ? 0xffff : NL_FRAME_MAX;
}

static inline uint32_t nl_frame_max(const nl_frame_opt *o)
{
    uint32_t most = nl_frame_default_max(o->head_bytes);
    /* A short head cannot express more, whatever head_max says. */
    return o->head_max == 0 || (o->head_bytes < 4 && o->head_max > most) ? most : o->head_max;
}

/* The payload length that stands in a head (head_bytes of them at p). */
static inline uint32_t nl_frame_get(const unsigned char *p, const nl_frame_opt *o)
{
    switch (o->head_bytes) {
    case 1:
        return p[0];
    case 2:
        return o->big_endian ? (uint32_t)p[0] << 8 | p[1] : (uint32_t)p[1] << 8 | p[0];
    default:
        return o->big_endian ? (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]
                             : (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
    }
}

/* Writes the head for a payload of n bytes at p; returns head_bytes. */
static inline unsigned nl_frame_put(unsigned char *p, const nl_frame_opt *o, uint32_t n)
{
    switch (o->head_bytes) {
    case 1:
        p[0] = (unsigned char)n;
        return 1;
    case 2:
        p[o->big_endian] = (unsigned char)n;
        p[!o->big_endian] = (unsigned char)(n >> 8);
        return 2;
    default:
        for (unsigned i = 0; i < o->head_bytes; i++) {
            p[i] = (unsigned char)(n >> 8 * (o->big_endian ? 3 - i : i));
        }
        return o->head_bytes;
    }
}

enum { NL_FRAME_WHOLE, NL_FRAME_PART, NL_FRAME_OVER };
/*
 * Looks at the n bytes at p for one frame (head_bytes > 0).  WHOLE: *len is its payload's
 * length (payload at p + head_bytes).  PART: *len is the total number of bytes the frame
 * has with its head, if that is known yet, else 0.  OVER: longer than head_max.
 */
static inline int nl_frame_scan(const unsigned char *p, size_t n, const nl_frame_opt *o, uint32_t *len)
{
    *len = 0;
    if (n < o->head_bytes) {
        return NL_FRAME_PART;
    }
    uint32_t payload = nl_frame_get(p, o);
    if (payload > nl_frame_max(o)) {
        return NL_FRAME_OVER;
    }
    if (n - o->head_bytes < payload) {
        *len = payload + o->head_bytes;
        return NL_FRAME_PART;
    }
    *len = payload;
    return NL_FRAME_WHOLE;
}

#endif

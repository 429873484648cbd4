/*
 * payload.h - what the messages consist of, so that each byte of a reply can be checked.
 *
 * A message of connection `id`, number `seq`, is: the head (the payload's length), a stamp of
 * up to 8 bytes (id and seq; as many as the payload has room for), and a stretch of a block of
 * random bytes, from a place that depends on id and seq.  So a byte that is lost, doubled or
 * moved, and a message that belongs to another connection, are all seen.
 *
 * Set up once, before any thread; read-only afterwards.
 */
#ifndef NL_LOAD_PAYLOAD_H
#define NL_LOAD_PAYLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* False: the head cannot express the size. */
bool payload_setup(unsigned head_bytes, bool little_endian, size_t size);

/* Bytes of one message with its head. */
size_t payload_frame(void);

/* Writes a whole message at p. */
void payload_put(unsigned char *p, uint32_t id, uint64_t seq);

/* Compares n bytes at p with the message from its byte `from` on: the first that differs (from + …), or -1. */
int64_t payload_check(const unsigned char *p, size_t n, size_t from, uint32_t id, uint64_t seq);

/* For messages of an error: which byte was expected there. */
unsigned char payload_byte(size_t at, uint32_t id, uint64_t seq);

/* The seq in the stamp of a whole message at p (its low 32 bits; the payload must have 8 bytes). */
uint32_t payload_seq(const unsigned char *p);

#endif

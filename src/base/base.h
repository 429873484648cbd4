/*
 * base.h - compiler helpers, assertions and error numbers of every layer.
 *
 * Purpose:   what each file may use without asking.  Functions of nl-jit return 0 (or a count) or
 *            a negated error number: in C a system error is this platform's errno, so that it
 *            compares with the names of <errno.h>; the runtime's own numbers start at 200.  Lua
 *            sees Linux's numbers everywhere (err.h).
 * Threads:   any.
 * Ownership: no state.
 */
#ifndef NL_BASE_H
#define NL_BASE_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define nl_likely(x) __builtin_expect(!!(x), 1)
#define nl_unlikely(x) __builtin_expect(!!(x), 0)
/* Keeps a slow half out of the registers of the fast one. */
#define nl_noinline __attribute__((noinline))
#define NL_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define NL_CACHELINE 64
#define nl_alignas_line _Alignas(NL_CACHELINE)
#define nl_container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define nl_countof(a) (sizeof(a) / sizeof((a)[0]))

#if defined(__SANITIZE_THREAD__)
#define NL_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define NL_TSAN 1
#endif
#endif
#ifndef NL_TSAN
#define NL_TSAN 0
#endif

/* Of a signal handler, or of a function that may read what another thread is writing. */
#if NL_TSAN
#define NL_NO_TSAN __attribute__((no_sanitize("thread")))
#else
#define NL_NO_TSAN
#endif

/* What a spinning thread does between two looks. */
static inline void nl_cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/*
 * Assertions.  nl_assert guards what would corrupt memory if it were false, in every build.
 * nl_debug_assert costs something on a hot path and is in builds without NDEBUG only (those with
 * sanitizers).  Both name the broken rule.
 */
_Noreturn void nl_panic(const char *file, int line, const char *what, const char *why);
#define nl_assert(cond, why) (nl_likely(cond) ? (void)0 : nl_panic(__FILE__, __LINE__, #cond, why))
#ifdef NDEBUG
#define nl_debug_assert(cond, why) ((void)sizeof(cond))
#else
#define nl_debug_assert(cond, why) nl_assert(cond, why)
#endif

/* Error numbers of the runtime, from 200 up.  err.c has their names and texts. */
#define NL_RUNTIME_ERRORS(X)                                                                                 \
    X(200, ETIMEOUT, "operation timed out")                                                                  \
    X(201, ENOCONTEXT, "no such context")                                                                    \
    X(202, ENOREPLY, "context ended without a reply")                                                        \
    X(203, ETRANSTYPE, "value of a type that a message cannot carry")                                        \
    X(204, EEOF, "end of stream")                                                                            \
    X(205, ETCPSCLOSED, "socket is closed")                                                                  \
    X(206, ETCPLCLOSED, "listen socket is closed")                                                           \
    X(207, ETCPNOWSHARED, "socket is not write-shared")                                                      \
    X(208, ETCPWRITELONG, "data longer than write_head_max or than the head can express")                    \
    X(209, ETCPREADOVERFLOW, "received frame longer than read_head_max")                                     \
    X(210, EWQUEUEFULL, "write queue is full")                                                               \
    X(211, EMAILBOXFULL, "mailbox is full")                                                                  \
    X(212, ESYNTAX, "syntax error in Lua file")                                                              \
    X(213, EHOST, "host name not found")                                                                     \
    X(214, ENAMETAKEN, "name is already registered")                                                         \
    X(215, ESTOPPING, "runtime is shutting down")

enum {
#define NL_X(num, name, text) NL_##name = (num),
    NL_RUNTIME_ERRORS(NL_X)
#undef NL_X
};

#endif

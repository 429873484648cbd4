/*
 * alloc.h - memory.
 *
 * Purpose:   nl_malloc and its kin end the process with a clear message when memory is out: they
 *            are for the runtime's own small structures. Sizes that a script or a peer chooses go
 *            through nl_try_malloc, whose NULL becomes -ENOMEM. The pool serves blocks of up to
 *            NL_POOL_MAX bytes (messages, segments of output, small buffers).
 * Threads:   any. A block may be made on one thread and given back on another. Each thread keeps a
 *            magazine of free blocks per size class and trades whole batches with a shared depot,
 *            so that a producer and a consumer on different cores meet once per NL_POOL_BATCH
 *            blocks, not at each one.
 * Ownership: a block is the caller's until it is given back. Under AddressSanitizer the pool is
 *            malloc and free, so that misuse is seen.
 */
#ifndef NL_ALLOC_H
#define NL_ALLOC_H

#include "base/base.h"

/* Once per process, before other threads: has malloc keep memory that will soon be wanted again. */
void nl_alloc_init(void);
void *nl_malloc(size_t n) __attribute__((malloc, returns_nonnull));
void *nl_calloc(size_t n) __attribute__((malloc, returns_nonnull));
void *nl_realloc(void *p, size_t n) __attribute__((returns_nonnull));
void *nl_try_malloc(size_t n) __attribute__((malloc));
char *nl_strdup(const char *s) __attribute__((malloc, returns_nonnull));
void nl_free(void *p);

/* Zeroed memory on a cache line of its own; freed with nl_free_aligned. */
void *nl_calloc_aligned(size_t n) __attribute__((malloc, returns_nonnull));
void nl_free_aligned(void *p);

#define NL_POOL_MAX 2048
#define NL_POOL_BATCH 64

/*
 * A block of at least n bytes, 16-aligned, at the start of a cache line if n is a multiple of one,
 * not zeroed. n > NL_POOL_MAX falls through to malloc, which aligns by 16.
 */
static inline void *nl_pool_alloc(size_t n) __attribute__((malloc, returns_nonnull));
/*
 * The same, where another way is at hand: NULL if the calling thread's stock has none, or the pool
 * does not serve such.
 */
static inline void *nl_pool_try(size_t n);
/* Gives it back, from any thread; n is the size it was asked for with. */
static inline void nl_pool_free(void *p, size_t n);
/* Hands the calling thread's stock to the depot; to be called before a thread ends. */
void nl_pool_thread_exit(void);
/*
 * Gives back the memory of blocks that are not in use, as far as no other block stands beside them.
 * One thread at a time; it looks at all free blocks, which may take long.
 */
void nl_pool_trim(void);
/*
 * Frees the pool's memory; only when every other thread that used it has ended and no block is in
 * use.
 */
void nl_pool_fini(void);

/* --- The fast path ---------------------------------------------------------------------------- */

#ifndef NL_POOL_IS_MALLOC
#if defined(__SANITIZE_ADDRESS__)
#define NL_POOL_IS_MALLOC 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define NL_POOL_IS_MALLOC 1
#endif
#endif
#endif

#ifdef NL_POOL_IS_MALLOC

static inline void *nl_pool_alloc(size_t n)
{
    return n % NL_CACHELINE || n > NL_POOL_MAX ? nl_malloc(n) : nl_calloc_aligned(n);
}

static inline void *nl_pool_try(size_t n)
{
    (void)n;
    return NULL;
}

static inline void nl_pool_free(void *p, size_t n)
{
    if (n % NL_CACHELINE || n > NL_POOL_MAX) {
        nl_free(p);
    } else {
        nl_free_aligned(p);
    }
}

#else

#define NL_POOL_STEP 16
#define NL_POOL_CLASSES (NL_POOL_MAX / NL_POOL_STEP)

/* A free block: links in its own first bytes. */
typedef struct nl_pool_node {
    struct nl_pool_node *next;  /* in its batch */
    struct nl_pool_node *batch; /* of a batch's first block: the next batch in the depot */
} nl_pool_node;

/*
 * A thread's stock of one class: up to one batch to take from and give to, and one whole
 * batch or none in reserve, so that a thread that goes to and fro over the edge of a batch
 * does not ask the depot each time.
 */
typedef struct nl_pool_mag {
    nl_pool_node *head;
    nl_pool_node *reserve;
    unsigned count; /* of head */
} nl_pool_mag;

extern _Thread_local nl_pool_mag nl_pool_mags[NL_POOL_CLASSES];
void *nl_pool_alloc_slow(unsigned cls) __attribute__((malloc, returns_nonnull));
void nl_pool_spill(unsigned cls);

static inline void *nl_pool_alloc(size_t n)
{
    size_t cls = (n - 1) / NL_POOL_STEP; /* 0 wraps round, and goes to malloc with the long ones */
    if (nl_unlikely(cls >= NL_POOL_CLASSES)) {
        return nl_malloc(n);
    }
    nl_pool_mag *m = &nl_pool_mags[cls];
    nl_pool_node *b = m->head;
    if (nl_unlikely(!b)) {
        return nl_pool_alloc_slow((unsigned)cls);
    }
    m->head = b->next;
    m->count--;
    /* Where another core has given it back, it is on its way when it is wanted. */
    __builtin_prefetch(m->head, 1);
    return b;
}

static inline void *nl_pool_try(size_t n)
{
    size_t cls = (n - 1) / NL_POOL_STEP;
    return nl_likely(cls < NL_POOL_CLASSES) && nl_likely(nl_pool_mags[cls].head) ? nl_pool_alloc(n) : NULL;
}

/* Gives a block of class cls back. */
static inline void nl_pool_give(void *p, unsigned cls)
{
    nl_pool_mag *m = &nl_pool_mags[cls];
    nl_pool_node *b = (nl_pool_node *)p;
    b->next = m->head;
    m->head = b;
    if (nl_unlikely(++m->count == NL_POOL_BATCH)) {
        nl_pool_spill(cls);
    }
}

static inline void nl_pool_free(void *p, size_t n)
{
    size_t cls = (n - 1) / NL_POOL_STEP;
    if (nl_unlikely(cls >= NL_POOL_CLASSES)) {
        nl_free(p);
        return;
    }
    nl_pool_give(p, (unsigned)cls);
}

#endif

#endif

/*
 * alloc.c - malloc with a clear end, and the pool's slow half.
 *
 * A block is either in use, in one thread's stock (alloc.h), or in the depot, which holds
 * whole batches under one spin lock per class.  The lock is taken once per NL_POOL_BATCH
 * blocks, for a handful of instructions; handing a batch over under it is also what makes
 * the giver's writes to the blocks visible to the taker.
 *
 * Memory comes in spans, each cut by one thread from front to back into blocks of whatever
 * class it needs.  A block keeps its class, so the pool's size is the sum over the classes of the
 * most that was in use at once, until nl_pool_trim gives spans back all of whose blocks are in the
 * depot.
 */
#include "base/alloc.h"
#include "base/span.h"
#include "base/spin.h"
#include "base/trim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <malloc.h>
#endif

#ifndef NDEBUG
_Thread_local int nl_spins_held; /* spin.h */
#endif

/* --- malloc ----------------------------------------------------------------------------------- */

static _Noreturn void out_of_memory(size_t n)
{
    char what[64];
    snprintf(what, sizeof(what), "allocation of %llu bytes", (unsigned long long)n);
    nl_panic(__FILE__, __LINE__, what, "out of memory");
}

/* Counts a block for trim.h, if it is a large one; sign -1: it is given back. */
static inline void *count(void *p, int sign)
{
#ifdef __linux__
    size_t size = malloc_usable_size(p); /* 0 for NULL */
    if (size >= NL_TRIM_MIN) {
        nl_trim_count(sign * (int64_t)size);
    }
#else
    (void)sign;
#endif
    return p;
}

void *nl_try_malloc(size_t n)
{
    nl_spin_assert_none();
    /* The test only spares sanitizers, which end the process at a request that cannot be met. */
    return n > PTRDIFF_MAX ? NULL : count(malloc(n ? n : 1), 1);
}

void *nl_malloc(size_t n)
{
    void *p = nl_try_malloc(n);
    if (nl_unlikely(!p)) {
        out_of_memory(n);
    }
    return p;
}

void *nl_calloc(size_t n)
{
    void *p = n > PTRDIFF_MAX ? NULL : calloc(1, n ? n : 1);
    if (nl_unlikely(!p)) {
        out_of_memory(n);
    }
    return count(p, 1);
}

void *nl_realloc(void *p, size_t n)
{
    count(p, -1);
    void *q = n > PTRDIFF_MAX ? NULL : realloc(p, n ? n : 1);
    if (nl_unlikely(!q)) {
        out_of_memory(n);
    }
    return count(q, 1);
}

char *nl_strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    return (char *)memcpy(nl_malloc(n), s, n);
}

void nl_free(void *p)
{
    free(count(p, -1));
}

void nl_alloc_init(void)
{
#ifdef __GLIBC__
    /*
     * Blocks are freed in bursts, by collections of garbage, and wanted again at once. By default
     * glibc gives the top of the heap back from 128 KiB on and maps every longer block anew: with
     * messages of 16 to 64 KiB page faults and brk took a quarter of the time. What is not wanted
     * again goes back by nl_trim_when_quiet.
     */
    mallopt(M_TRIM_THRESHOLD, 16 << 20);
    mallopt(M_MMAP_THRESHOLD, 4 << 20);
#endif
}

void *nl_calloc_aligned(size_t n)
{
    void *p = NULL;
    /* No stranger on the last line. */
    size_t size = (n + NL_CACHELINE - 1) & ~(size_t)(NL_CACHELINE - 1);
    if (size < n || size == 0) {
        size = NL_CACHELINE;
    }
#ifdef _WIN32
    p = _aligned_malloc(size, NL_CACHELINE);
    if (nl_unlikely(!p)) {
#else
    if (nl_unlikely(posix_memalign(&p, NL_CACHELINE, size) != 0)) {
#endif
        out_of_memory(n);
    }
    return memset(p, 0, size);
}

void nl_free_aligned(void *p)
{
#ifdef _WIN32
    _aligned_free(p);
#else
    free(p);
#endif
}

/* --- The pool --------------------------------------------------------------------------------- */

#ifdef NL_POOL_IS_MALLOC

void nl_pool_thread_exit(void) {}

void nl_pool_fini(void) {}

void nl_pool_trim(void) {}

#else

_Static_assert(sizeof(nl_pool_node) <= NL_POOL_STEP, "a free block holds its links");

/*
 * New blocks are linked up a page's worth at a time, not to touch memory that may never be wanted.
 */
#define CUT_SIZE 4096

typedef struct depot {
    nl_alignas_line nl_spin lock;
    nl_pool_node *batches; /* whole ones, chained by .batch */
    nl_pool_node *loose;   /* fewer than a batch: what ended threads have left */
    unsigned loose_count;
} depot;

/* At the start of a span; blocks stand from the next line on, to its end. */
typedef struct pool_span {
    struct pool_span *next;
    atomic_bool cut_up; /* all of it is blocks */
    bool whole;         /* nl_pool_trim: it was cut up when the first free block was seen */
    size_t free;        /* nl_pool_trim: bytes of free blocks */
} pool_span;

#define SPAN_ROOM (NL_SPAN_MAX - NL_CACHELINE)
_Static_assert(sizeof(pool_span) <= NL_CACHELINE, "blocks begin at the second line");

static depot depots[NL_POOL_CLASSES];
static nl_spin spans_lock;
static pool_span *spans; /* under spans_lock; for nl_pool_fini */

_Thread_local nl_pool_mag nl_pool_mags[NL_POOL_CLASSES];
static _Thread_local pool_span *cutting;  /* this thread's span, or NULL */
static _Thread_local char *cut, *cut_end; /* what is left of it */

static size_t size_of(unsigned cls)
{
    return ((size_t)cls + 1) * NL_POOL_STEP;
}

/* Takes a batch out of the depot, or what is loose there; NULL if it is empty. */
static nl_pool_node *depot_take(depot *d, unsigned *count)
{
    nl_spin_lock(&d->lock);
    nl_pool_node *b = d->batches;
    if (b) {
        d->batches = b->batch;
        *count = NL_POOL_BATCH;
    } else {
        b = d->loose;
        *count = d->loose_count;
        d->loose = NULL;
        d->loose_count = 0;
    }
    nl_spin_unlock(&d->lock);
    return b;
}

/*
 * Blocks of a class have come out of the depot, or gone into it (negative): for trim.h, those in it
 * are not in use.
 */
static void count_blocks(unsigned cls, int n)
{
    nl_trim_count(n * (int64_t)size_of(cls));
}

static void depot_put(depot *d, nl_pool_node *batch)
{
    nl_spin_lock(&d->lock);
    batch->batch = d->batches;
    d->batches = batch;
    nl_spin_unlock(&d->lock);
}

static void depot_put_loose(depot *d, nl_pool_node *b)
{
    nl_spin_lock(&d->lock);
    while (b) {
        nl_pool_node *next = b->next;
        b->next = d->loose;
        d->loose = b;
        if (++d->loose_count == NL_POOL_BATCH) {
            b->batch = d->batches;
            d->batches = b;
            d->loose = NULL;
            d->loose_count = 0;
        }
        b = next;
    }
    nl_spin_unlock(&d->lock);
}

/*
 * Puts what stands between cut and end into the stocks of the classes it fits; blocks of whole
 * lines need them aligned.
 */
static void use_up(const char *end)
{
    while (cut < end) {
        size_t n = (size_t)(end - cut), before = (size_t) - (uintptr_t)cut % NL_CACHELINE;
        if (before && n > before) {
            n = before;
        }
        unsigned cls = (unsigned)(n / NL_POOL_STEP - 1);
        cls = cls < NL_POOL_CLASSES ? cls : NL_POOL_CLASSES - 1;
        char *p = cut;
        cut += size_of(cls);
        nl_pool_give(p, cls);
    }
}

/* The rest of this thread's span becomes blocks. */
static void end_span(void)
{
    use_up(cut_end);
    if (cutting) {
        /* Release pairs with the acquire in count_free: its last block was cut before. */
        atomic_store_explicit(&cutting->cut_up, true, memory_order_release);
        cutting = NULL;
    }
}

static void new_span(void)
{
    end_span();
    pool_span *s = (pool_span *)nl_span_alloc(NL_SPAN_MAX);
    if (!s) {
        out_of_memory(NL_SPAN_MAX);
    }
    atomic_init(&s->cut_up, false);
    s->free = 0;
    cutting = s;
    cut = (char *)s + NL_CACHELINE;
    cut_end = (char *)s + NL_SPAN_MAX;
    nl_spin_lock(&spans_lock);
    s->next = spans;
    spans = s;
    nl_spin_unlock(&spans_lock);
}

/*
 * Cuts a few new blocks of a class, in rising addresses. Half a batch at most: a thread that takes
 * one and gives it back, over and over, then does so in the middle of its stock, not at an edge.
 */
static nl_pool_node *cut_some(unsigned cls, unsigned *count)
{
    size_t size = size_of(cls);
    if (size % NL_CACHELINE == 0) {
        size_t gap = (size_t) - (uintptr_t)cut % NL_CACHELINE;
        use_up((size_t)(cut_end - cut) < gap ? cut_end : cut + gap);
    }
    if ((size_t)(cut_end - cut) < size) {
        new_span();
    }
    nl_pool_node *first = NULL, **last = &first;
    unsigned n = 0;
    do {
        nl_pool_node *b = (nl_pool_node *)(void *)cut;
        cut += size;
        *last = b;
        last = &b->next;
        n++;
    } while (n < NL_POOL_BATCH / 2 && n * size < CUT_SIZE && (size_t)(cut_end - cut) >= size);
    *last = NULL;
    *count = n;
    return first;
}

void *nl_pool_alloc_slow(unsigned cls)
{
    nl_spin_assert_none();
    nl_pool_mag *m = &nl_pool_mags[cls];
    nl_pool_node *b = m->reserve;
    unsigned count = NL_POOL_BATCH;
    if (b) {
        m->reserve = NULL;
    } else {
        b = depot_take(&depots[cls], &count);
        if (b) {
            count_blocks(cls, (int)count);
        } else {
            b = cut_some(cls, &count);
        }
    }
    /*
     * new_span may have given the rest of the old span to other stocks, not to this one: it was
     * shorter than a block.
     */
    m->head = b->next;
    m->count = count - 1;
    return b;
}

void nl_pool_spill(unsigned cls)
{
    nl_spin_assert_none();
    nl_pool_mag *m = &nl_pool_mags[cls];
    if (m->reserve) {
        depot_put(&depots[cls], m->reserve);
        count_blocks(cls, -NL_POOL_BATCH);
    }
    m->reserve = m->head;
    m->head = NULL;
    m->count = 0;
}

void nl_pool_thread_exit(void)
{
    end_span();
    for (unsigned cls = 0; cls < NL_POOL_CLASSES; cls++) {
        nl_pool_mag *m = &nl_pool_mags[cls];
        if (m->reserve) {
            depot_put(&depots[cls], m->reserve);
            count_blocks(cls, -NL_POOL_BATCH);
        }
        if (m->head) {
            depot_put_loose(&depots[cls], m->head);
            count_blocks(cls, -(int)m->count);
        }
        *m = (nl_pool_mag){NULL, NULL, 0};
    }
}

/* --- Trimming the pool ------------------------------------------------------------------------ */

static pool_span *span_of(const nl_pool_node *b)
{
    return (pool_span *)((uintptr_t)b & ~(uintptr_t)(NL_SPAN_MAX - 1));
}

static bool all_free(const pool_span *s)
{
    return s->whole && s->free == SPAN_ROOM;
}

/* The depot's blocks of a class, in one list. */
static nl_pool_node *take_all(unsigned cls)
{
    nl_pool_node *all = NULL, *b;
    unsigned n;
    while ((b = depot_take(&depots[cls], &n))) {
        nl_pool_node *last = b;
        while (last->next) {
            last = last->next;
        }
        last->next = all;
        all = b;
        count_blocks(cls, (int)n);
    }
    return all;
}

static void count_free(const nl_pool_node *b, unsigned cls)
{
    for (; b; b = b->next) {
        pool_span *s = span_of(b);
        if (s->free == 0) {
            s->whole = atomic_load_explicit(&s->cut_up, memory_order_acquire);
        }
        s->free += size_of(cls);
    }
}

/* Back into the depot, but for the blocks of spans that are all free. */
static void put_back(nl_pool_node *b, unsigned cls)
{
    nl_pool_node *batch = NULL;
    unsigned n = 0;
    while (b) {
        nl_pool_node *next = b->next;
        if (!all_free(span_of(b))) {
            b->next = batch;
            batch = b;
            if (++n == NL_POOL_BATCH) {
                depot_put(&depots[cls], batch);
                count_blocks(cls, -NL_POOL_BATCH);
                batch = NULL;
                n = 0;
            }
        }
        b = next;
    }
    depot_put_loose(&depots[cls], batch);
    count_blocks(cls, -(int)n);
}

static void free_spans(void)
{
    nl_spin_lock(&spans_lock);
    pool_span *s = spans;
    spans = NULL;
    nl_spin_unlock(&spans_lock);
    pool_span *kept = NULL, *last = NULL;
    while (s) {
        pool_span *next = s->next;
        if (all_free(s)) {
            nl_span_free(s);
        } else {
            s->free = 0;
            s->next = kept;
            kept = s;
            last = last ? last : s;
        }
        s = next;
    }
    if (last) {
        nl_spin_lock(&spans_lock);
        last->next = spans;
        spans = kept;
        nl_spin_unlock(&spans_lock);
    }
}

/*
 * Meanwhile the depot is empty, and other threads cut new blocks. Which spans are all free is
 * decided once all blocks have been counted: `free` and `whole` do not change from then on.
 */
void nl_pool_trim(void)
{
    nl_pool_node *all[NL_POOL_CLASSES];
    for (unsigned cls = 0; cls < NL_POOL_CLASSES; cls++) {
        all[cls] = take_all(cls);
        count_free(all[cls], cls);
    }
    for (unsigned cls = 0; cls < NL_POOL_CLASSES; cls++) {
        put_back(all[cls], cls);
    }
    free_spans();
}

void nl_pool_fini(void)
{
    for (unsigned cls = 0; cls < NL_POOL_CLASSES; cls++) {
        nl_pool_mags[cls] = (nl_pool_mag){NULL, NULL, 0};
        depots[cls].batches = depots[cls].loose = NULL;
        depots[cls].loose_count = 0;
    }
    cutting = NULL;
    cut = cut_end = NULL;
    while (spans) {
        pool_span *s = spans;
        spans = s->next;
        nl_span_free(s);
    }
}

#endif

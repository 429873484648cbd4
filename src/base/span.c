/* span.c - see span.h */
#include "base/span.h"

#include "base/alloc.h"
#include "base/list.h"
#include "base/os.h"
#include "base/spin.h"
#include "base/trim.h"

size_t nl_span_size(size_t n)
{
    size_t size = NL_SPAN_MIN;
    while (size < n) {
        size *= 2;
    }
    return size;
}

#ifdef NL_POOL_IS_MALLOC

void *nl_span_alloc(size_t size)
{
    return nl_calloc_aligned(size);
}

void nl_span_free(void *p)
{
    nl_free_aligned(p);
}

void nl_span_trim(void) {}

#else

#define REGION NL_SPAN_REGION
/* Pages are taken from the system by so many bytes at a time. */
#define AHEAD ((size_t)64 * 1024)
#define CLASSES 6
#define ARENAS 8
#define WORDS (REGION / NL_SPAN_MIN / 64)

_Static_assert((size_t)NL_SPAN_MIN << (CLASSES - 1) == NL_SPAN_MAX, "a class for each power of two");
_Static_assert(WORDS <= 64, "a bit for each word");

typedef struct arena arena;

/*
 * At the start of its own memory, which is aligned to its size. Which spans are free is kept here
 * and not in them, so that their pages can be given back; the lowest is taken first, so that
 * regions become empty.
 */
typedef struct region {
    /* of a span; first, and on a line that nobody writes to: nl_span_size_of */
    size_t size;
    nl_alignas_line nl_list node; /* in its arena's list while it has a span to give */
    arena *arena;
    unsigned cls;
    unsigned in_use;
    bool small;           /* its pages come one by one */
    unsigned cut;         /* spans from here on nobody has had yet */
    char *ahead;          /* up to here there are pages, or a thread is just taking them */
    uint64_t filled;      /* words of free that are not 0 */
    uint64_t free[WORDS]; /* spans given back */
    uint64_t bare[WORDS]; /* those of them that have no pages */
} region;

struct arena {
    nl_alignas_line nl_spin lock; /* all of it, and of its regions */
    nl_list open[CLASSES];        /* regions with a span to give */
    unsigned regions[CLASSES];    /* mapped */
    bool grown[CLASSES];          /* there has been a region already */
    bool chosen;                  /* by a thread already; under init_lock */
};

static arena arenas[ARENAS];
static nl_spin init_lock;
static atomic_uint threads;
static _Thread_local arena *mine;

static arena *choose(void)
{
    arena *a = &arenas[atomic_fetch_add(&threads, 1) % ARENAS];
    nl_spin_lock(&init_lock);
    bool first = !a->chosen;
    a->chosen = true;
    for (int i = 0; first && i < CLASSES; i++) {
        nl_list_init(&a->open[i]);
    }
    nl_spin_unlock(&init_lock);
    return mine = a;
}

static inline size_t size_of(unsigned cls)
{
    return (size_t)NL_SPAN_MIN << cls;
}

static inline unsigned class_of(size_t size)
{
    return (unsigned)__builtin_ctzll(size / NL_SPAN_MIN);
}

/* Spans of a region; the first ones hold its head. */
static inline unsigned count_of(unsigned cls)
{
    return (unsigned)(REGION / size_of(cls));
}

static inline unsigned first_of(unsigned cls)
{
    return (unsigned)((sizeof(region) + size_of(cls) - 1) / size_of(cls));
}

static inline char *span_at(region *r, unsigned i)
{
    return (char *)r + i * size_of(r->cls);
}

static inline bool exhausted(const region *r)
{
    return !r->filled && r->cut == count_of(r->cls);
}

/* With the lock held, which is given up meanwhile. NULL when memory is out. */
static region *add_region(arena *a, unsigned cls)
{
    /* A process that stays small is not to take pages for spans that it may never want. */
    bool small = !a->grown[cls];
    a->grown[cls] = true;
    nl_spin_unlock(&a->lock);
    region *r = nl_region_map(REGION); /* zeroed */
    nl_spin_lock(&a->lock);
    if (r) {
        r->arena = a;
        r->cls = cls;
        r->size = size_of(cls);
        r->small = small;
        r->cut = first_of(cls);
        r->ahead = (char *)((uintptr_t)span_at(r, r->cut) & ~(uintptr_t)(AHEAD - 1));
        nl_list_push_back(&a->open[cls], &r->node);
        a->regions[cls]++;
    }
    return r;
}

/* The lowest free span. */
static char *take_free(region *r)
{
    unsigned w = (unsigned)__builtin_ctzll(r->filled), i = (unsigned)__builtin_ctzll(r->free[w]);
    uint64_t bit = (uint64_t)1 << i;
    r->free[w] &= ~bit;
    r->bare[w] &= ~bit;
    if (!r->free[w]) {
        r->filled &= ~((uint64_t)1 << w);
    }
    return span_at(r, w * 64 + i);
}

/*
 * The next span that nobody has had. *pages: where AHEAD bytes of pages are to be taken once the
 * lock is free, or NULL.
 */
static char *cut_one(region *r, char **pages)
{
    char *p = span_at(r, r->cut++);
    if (span_at(r, r->cut) > r->ahead && !r->small) {
        *pages = r->ahead;
        r->ahead += AHEAD;
    }
    return p;
}

void *nl_span_alloc(size_t size)
{
    nl_spin_assert_none();
    arena *a = mine ? mine : choose();
    unsigned cls = class_of(size);
    void *p = NULL;
    char *pages = NULL;
    nl_spin_lock(&a->lock);
    nl_list *first = a->open[cls].next;
    region *r = first != &a->open[cls] ? nl_container_of(first, region, node) : add_region(a, cls);
    if (nl_likely(r != NULL)) {
        p = r->filled ? take_free(r) : cut_one(r, &pages);
        r->in_use++;
        if (exhausted(r)) {
            nl_list_remove(&r->node);
        }
    }
    nl_spin_unlock(&a->lock);
    if (pages) {
        nl_region_populate(pages, AHEAD);
    }
    if (p) {
        nl_trim_count((int64_t)size);
    }
    return p;
}

/*
 * Makes spans of the word w free. True: the region is empty, out of its list, and to be unmapped.
 */
static bool give_back_locked(region *r, unsigned w, uint64_t spans, unsigned n)
{
    nl_list *open = &r->arena->open[r->cls];
    if (exhausted(r)) {
        nl_list_push_back(open, &r->node);
    }
    r->free[w] |= spans;
    r->filled |= (uint64_t)1 << w;
    r->in_use -= n;
    /* The last one with something to give stays: a context that comes and goes maps nothing. */
    if (r->in_use || open->next->next == open) {
        return false;
    }
    nl_list_remove(&r->node);
    r->arena->regions[r->cls]--;
    return true;
}

void nl_span_free(void *p)
{
    region *r = (region *)((uintptr_t)p & ~(uintptr_t)(REGION - 1));
    arena *a = r->arena;
    size_t size = size_of(r->cls);
    unsigned i = (unsigned)((size_t)((char *)p - (char *)r) / size);
    nl_spin_lock(&a->lock);
    bool unmap = give_back_locked(r, i / 64, (uint64_t)1 << i % 64, 1);
    nl_spin_unlock(&a->lock);
    if (unmap) {
        nl_region_unmap(r, REGION);
    }
    nl_trim_count(-(int64_t)size);
}

/* --- Trimming --------------------------------------------------------------------------------- */

/* A system call for each run of spans. */
static void release_pages(region *r, const uint64_t *spans)
{
    for (unsigned i = 0, n = count_of(r->cls); i < n; i++) {
        unsigned start = i;
        while (i < n && spans[i / 64] >> i % 64 & 1) {
            i++;
        }
        if (i > start) {
            nl_region_release(span_at(r, start), (i - start) * size_of(r->cls));
        }
    }
}

/*
 * Takes the free spans that have pages, so that the lock can be given up for the system calls, and
 * gives them back. True: the region is empty, out of its list, and to be unmapped.
 */
static bool trim_region_locked(region *r)
{
    uint64_t taken[WORDS];
    bool unmap = false;
    for (unsigned w = 0; w < WORDS; w++) {
        taken[w] = r->free[w] & ~r->bare[w];
        r->in_use += (unsigned)__builtin_popcountll(taken[w]);
        r->free[w] &= r->bare[w];
        if (!r->free[w]) {
            r->filled &= ~((uint64_t)1 << w);
        }
    }
    if (exhausted(r)) {
        nl_list_remove(&r->node);
    }
    nl_spin_unlock(&r->arena->lock);
    release_pages(r, taken);
    nl_spin_lock(&r->arena->lock);
    for (unsigned w = 0; w < WORDS && !unmap; w++) {
        if (taken[w]) {
            r->bare[w] |= taken[w];
            unmap = give_back_locked(r, w, taken[w], (unsigned)__builtin_popcountll(taken[w]));
        }
    }
    return unmap;
}

/* Each region that is there now has its turn, if no other comes or goes meanwhile. */
static void trim_class(arena *a, unsigned cls)
{
    nl_list *open = &a->open[cls];
    nl_spin_lock(&a->lock);
    for (unsigned n = a->regions[cls]; n && !nl_list_empty(open); n--) {
        region *r = nl_container_of(open->next, region, node);
        nl_list_remove(&r->node);
        nl_list_push_back(open, &r->node);
        if (trim_region_locked(r)) {
            nl_spin_unlock(&a->lock);
            nl_region_unmap(r, REGION);
            nl_spin_lock(&a->lock);
        }
    }
    nl_spin_unlock(&a->lock);
}

void nl_span_trim(void)
{
    unsigned first = 0;
    while (size_of(first) < nl_page_size()) {
        first++; /* spans that share a page keep it */
    }
    for (int i = 0; i < ARENAS; i++) {
        nl_spin_lock(&init_lock);
        bool used = arenas[i].open[0].next;
        nl_spin_unlock(&init_lock);
        for (unsigned cls = first; used && cls < CLASSES; cls++) {
            trim_class(&arenas[i], cls);
        }
    }
}

#endif

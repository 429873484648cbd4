/* span.c - see span.h */
#include "base/span.h"

#include "base/alloc.h"
#include "base/list.h"
#include "base/os.h"
#include "base/spin.h"

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

#else

#define REGION ((size_t)2 * 1024 * 1024)
#define AHEAD ((size_t)64 * 1024) /* pages are taken from the system by so many bytes at a time */
#define CLASSES 6
#define ARENAS 8

_Static_assert((size_t)NL_SPAN_MIN << (CLASSES - 1) == NL_SPAN_MAX, "a class for each power of two");

typedef struct arena arena;

/* At the start of its own memory, which is aligned to its size. */
typedef struct region {
    nl_alignas_line nl_list node; /* in its arena's list while it has a span to give */
    arena *arena;
    unsigned cls;
    unsigned in_use;
    bool small;  /* its pages come one by one */
    void *free;  /* spans given back, linked by their first word */
    char *cut;   /* from here on spans that nobody has had yet */
    char *ahead; /* up to here there are pages, or somebody is just seeing to it */
} region;

struct arena {
    nl_alignas_line nl_spin lock; /* all of it, and of its regions */
    nl_list open[CLASSES];        /* regions with a span to give */
    bool grown[CLASSES];          /* there has been a region already */
};

static arena arenas[ARENAS];
static nl_spin init_lock;
static atomic_uint threads;
static _Thread_local arena *mine;

static arena *choose(void)
{
    arena *a = &arenas[atomic_fetch_add(&threads, 1) % ARENAS];
    nl_spin_lock(&init_lock);
    bool first = !a->open[0].next;
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

static bool exhausted(const region *r)
{
    return !r->free && (size_t)((char *)r + REGION - r->cut) < size_of(r->cls);
}

/* With the lock held, which is given up meanwhile.  NULL when memory is out. */
static region *add_region(arena *a, unsigned cls)
{
    /* A process that stays small is not to take pages for spans that it may never want. */
    bool small = !a->grown[cls];
    a->grown[cls] = true;
    nl_spin_unlock(&a->lock);
    region *r = nl_region_map(REGION);
    nl_spin_lock(&a->lock);
    if (r) {
        r->arena = a;
        r->cls = cls;
        r->in_use = 0;
        r->small = small;
        r->free = NULL;
        r->cut = r->ahead = (char *)(r + 1);
        nl_list_push_back(&a->open[cls], &r->node);
    }
    return r;
}

/*
 * The next span that nobody has had.  *pages: where AHEAD bytes of pages are to be taken once the
 * lock is free, or NULL.
 */
static void *cut_one(region *r, char **pages)
{
    char *p = r->cut;
    r->cut = p + size_of(r->cls);
    if (r->cut > r->ahead && !r->small) {
        *pages = (char *)((uintptr_t)r->ahead & ~(uintptr_t)(AHEAD - 1));
        r->ahead = *pages + AHEAD;
    }
    return p;
}

void *nl_span_alloc(size_t size)
{
    arena *a = mine ? mine : choose();
    unsigned cls = class_of(size);
    void *p = NULL;
    char *pages = NULL;
    nl_spin_lock(&a->lock);
    nl_list *first = a->open[cls].next;
    region *r = first != &a->open[cls] ? nl_container_of(first, region, node) : add_region(a, cls);
    if (nl_likely(r != NULL)) {
        p = r->free;
        if (p) {
            r->free = *(void **)p;
        } else {
            p = cut_one(r, &pages);
        }
        r->in_use++;
        if (exhausted(r)) {
            nl_list_remove(&r->node);
        }
    }
    nl_spin_unlock(&a->lock);
    if (pages) {
        nl_region_populate(pages, AHEAD);
    }
    return p;
}

void nl_span_free(void *p)
{
    region *r = (region *)((uintptr_t)p & ~(uintptr_t)(REGION - 1));
    arena *a = r->arena;
    nl_spin_lock(&a->lock);
    nl_list *open = &a->open[r->cls];
    if (exhausted(r)) {
        nl_list_push_back(open, &r->node);
    }
    *(void **)p = r->free;
    r->free = p;
    /*
     * The last one with something to give stays, so that one context that comes and goes maps
     * nothing.
     */
    bool unmap = --r->in_use == 0 && open->next->next != open;
    if (unmap) {
        nl_list_remove(&r->node);
    }
    nl_spin_unlock(&a->lock);
    if (unmap) {
        nl_region_unmap(r, REGION);
    }
}

#endif

/* heap.c - see heap.h */
#include "lua/vm/heap.h"

#include <string.h>

#include "base/alloc.h"
#include "base/span.h"

#if defined(__SANITIZE_ADDRESS__)
#define PLAIN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PLAIN 1
#endif
#endif
#ifndef PLAIN
#define PLAIN 0
#endif

/*
 * Sizes: steps of 8 up to 128, then four to a doubling.  What LuaJIT makes is aligned to 8 bytes by
 * its own allocator too; half of a new state's objects are strings, to which steps of 16 would add
 * 6 bytes each.
 */
#define STEP 8
#define STEP_MAX 128
#define STEP_CLASSES (STEP_MAX / STEP)
#define NCLASSES (STEP_CLASSES + 4 * 7 + 1)

/*
 * The first chunk holds the fixed parts of a state; the following ones are at most a sixteenth of
 * what it has.
 */
#define CHUNK_FIRST 16384
#define CHUNK_SHARE 16

typedef struct chunk {
    struct chunk *next;
    size_t size;
} chunk;

/*
 * A heap that has grown takes pages instead, spans of the longest size, each for blocks of one
 * size.  A page counts its blocks that are out, and goes back when none is.  Chunks stay: in a
 * small state they waste less.
 *
 * A page's blocks that came back are in its own list.  The list of the heap gets all of them at
 * once when it is empty, and they are out from then on; so taking a block is the same as in a small
 * heap.
 */
#define PAGE NL_SPAN_MAX
#define PAGED_FROM ((size_t)256 * 1024)
/* bytes of a page that are made into blocks at a time: more need not be touched */
#define CARVE 4096

typedef struct page {
    struct page *next, *prev; /* all of the heap, a ring around nl_pages.all */
    /* those of its class with blocks in their lists; itself: in none */
    struct page *next_open, *prev_open;
    void *free;
    char *cut;          /* from here on no blocks have been made */
    uint32_t out, made; /* blocks */
    unsigned cls;
} page;

typedef struct pages {
    page all; /* of the ring */
    page *open[NCLASSES];
    page *current[NCLASSES]; /* of which blocks can still be made */
} pages;

#define BIG_MAX ((size_t)1 << 39) /* no machine has that */

/* Head of a block of malloc's. */
typedef struct big {
    struct big *next, *prev;
} big;

struct nl_heap {
    void *owner; /* first: nl_heap_owner */
    char *bump, *bump_end;
    nl_heap_use *use;
    bool deny, closing;
    void *first; /* the block asked for first */
    chunk *chunks;
    size_t chunked; /* bytes of chunks */
    pages *pages;   /* NULL: the heap is small */
    big bigs;
    void *free[NCLASSES];
};

static inline unsigned class_of(size_t n)
{
    if (nl_likely(n <= STEP_MAX)) {
        return (unsigned)((n + STEP - 1) / STEP) - 1;
    }
    /* n - 1 = 1xx… in binary: its length and the two bits behind the first tell the class. */
    size_t m = n - 1;
    unsigned log = 63u - (unsigned)__builtin_clzll(m);
    return STEP_CLASSES + 4 * (log - 7) + (unsigned)(m >> (log - 2) & 3);
}

static inline size_t class_size(unsigned c)
{
    if (nl_likely(c < STEP_CLASSES)) {
        return ((size_t)c + 1) * STEP;
    }
    unsigned k = c - STEP_CLASSES;
    return (5 + (size_t)k % 4) << (k / 4 + 5);
}

static inline void add(atomic_size_t *a, size_t n)
{
    atomic_store_explicit(a, atomic_load_explicit(a, memory_order_relaxed) + n, memory_order_relaxed);
}

/* --- chunks ----------------------------------------------------------------------------------- */

static inline size_t left(const nl_heap *s)
{
    return (size_t)(s->bump_end - s->bump);
}

/* Makes blocks of the bytes from p to end. */
static void use_up(nl_heap *s, char *p, char *end)
{
    while (end - p >= STEP) {
        unsigned c = class_of((size_t)(end - p));
        if (c > 0 && class_size(c) > (size_t)(end - p)) {
            c--;
        }
        *(void **)p = s->free[c];
        s->free[c] = p;
        p += class_size(c);
    }
}

/*
 * A block of n bytes from a new chunk.  What is cut next is the longer of what is left of that and
 * of the old one.
 */
static void *take_from_new(nl_heap *s, size_t n)
{
    size_t size = nl_span_size(n + sizeof(chunk)),
           held = atomic_load_explicit(&s->use->held, memory_order_relaxed);
    while (size < PAGE / 2 && 2 * size <= held / CHUNK_SHARE) {
        size *= 2;
    }
    chunk *c = nl_span_alloc(size);
    if (!c) {
        return NULL;
    }
    c->next = s->chunks;
    c->size = size;
    s->chunks = c;
    s->chunked += size;
    add(&s->use->held, size);
    char *p = (char *)(c + 1), *rest = p + n, *end = (char *)c + size;
    if ((size_t)(end - rest) > left(s)) {
        use_up(s, s->bump, s->bump_end);
        s->bump = rest;
        s->bump_end = end;
    } else {
        use_up(s, rest, end);
    }
    return p;
}

/* --- pages ------------------------------------------------------------------------------------ */

static void open_page(pages *ps, page *g)
{
    page **head = &ps->open[g->cls];
    if (*head) {
        g->next_open = *head;
        g->prev_open = (*head)->prev_open;
        g->next_open->prev_open = g->prev_open->next_open = g;
    } else {
        *head = g->next_open = g->prev_open = g;
    }
}

static void unopen_page(pages *ps, page *g)
{
    page **head = &ps->open[g->cls];
    g->next_open->prev_open = g->prev_open;
    g->prev_open->next_open = g->next_open;
    if (*head == g) {
        *head = g->next_open != g ? g->next_open : NULL;
    }
}

static page *new_page(nl_heap *s, unsigned c)
{
    page *g = nl_span_alloc(PAGE), *all = &s->pages->all;
    if (!g) {
        return NULL;
    }
    g->next = all->next;
    g->prev = all;
    g->next->prev = all->next = g;
    g->free = NULL;
    g->cut = (char *)(g + 1);
    g->out = g->made = 0;
    g->cls = c;
    add(&s->use->held, PAGE);
    return s->pages->current[c] = g;
}

/* Makes the next blocks of a page; they are out. */
static void carve(nl_heap *s, page *g, size_t n)
{
    char *p = g->cut, *end = (char *)g + PAGE;
    void **link = &s->free[g->cls];
    for (size_t bytes = 0; (size_t)(end - p) >= n && bytes < CARVE; bytes += n, p += n) {
        *link = p;
        link = (void **)p;
        g->made++;
        g->out++;
    }
    *link = NULL;
    g->cut = p;
    if ((size_t)(end - p) < n) {
        s->pages->current[g->cls] = NULL;
    }
}

/* Fills the empty list of a class.  False when memory is out. */
static nl_noinline bool refill(nl_heap *s, unsigned c)
{
    page *g = s->pages->open[c];
    if (g) {
        unopen_page(s->pages, g);
        s->free[c] = g->free;
        g->free = NULL;
        g->out = g->made;
        return true;
    }
    g = s->pages->current[c] ? s->pages->current[c] : new_page(s, c);
    if (g) {
        carve(s, g, class_size(c));
    }
    return g;
}

/* The first block of a page has come back, or the last one. */
static nl_noinline void page_changed(nl_heap *s, page *g, bool first)
{
    pages *ps = s->pages;
    if (first) {
        open_page(ps, g);
    }
    /*
     * One that is empty stays as long as there is no other: a block that comes and goes takes no
     * span.
     */
    if (g->out == 0 && g != ps->current[g->cls] && g->next_open != g) {
        unopen_page(ps, g);
        g->next->prev = g->prev;
        g->prev->next = g->next;
        add(&s->use->held, (size_t)0 - PAGE);
        nl_span_free(g);
    }
}

static inline bool in_page(const nl_heap *s, const void *p)
{
    return nl_unlikely(s->pages != NULL) && nl_likely(nl_span_size_of(p) == PAGE);
}

/* A block of a page has come back. */
static inline void give_to_page(nl_heap *s, void *p)
{
    page *g = (page *)((uintptr_t)p & ~(uintptr_t)(PAGE - 1));
    void *head = g->free;
    *(void **)p = head;
    g->free = p;
    if (nl_unlikely(--g->out == 0 || !head)) {
        page_changed(s, g, !head);
    }
}

/* From now on the heap takes pages.  False when there is no room for their heads. */
static bool begin_pages(nl_heap *s)
{
    pages *ps = take_from_new(s, (sizeof *ps + STEP - 1) & ~(size_t)(STEP - 1));
    if (ps) {
        memset(ps, 0, sizeof *ps);
        ps->all.next = ps->all.prev = &ps->all;
        s->pages = ps;
    }
    return ps;
}

static nl_noinline void *take_slow(nl_heap *s, unsigned c)
{
    if (s->pages || (s->chunked >= PAGED_FROM && begin_pages(s))) {
        if (!refill(s, c)) {
            return NULL;
        }
        void *p = s->free[c];
        s->free[c] = *(void **)p;
        return p;
    }
    return take_from_new(s, class_size(c));
}

static void *take(nl_heap *s, unsigned c)
{
    void *p = s->free[c];
    if (nl_likely(p != NULL)) {
        s->free[c] = *(void **)p;
        return p;
    }
    size_t n = class_size(c);
    if (nl_unlikely(left(s) < n)) {
        return take_slow(s, c);
    }
    p = s->bump;
    s->bump += n;
    return p;
}

/* --- big blocks ------------------------------------------------------------------------------- */

static void *big_alloc(nl_heap *s, size_t n)
{
    big *b = n < BIG_MAX ? nl_try_malloc(sizeof *b + n) : NULL;
    if (!b) {
        return NULL;
    }
    b->prev = &s->bigs;
    b->next = s->bigs.next;
    b->next->prev = b->prev->next = b;
    add(&s->use->held, n + sizeof *b);
    return b + 1;
}

static void big_free(nl_heap *s, void *p, size_t n)
{
    big *b = (big *)p - 1;
    b->next->prev = b->prev;
    b->prev->next = b->next;
    add(&s->use->held, (size_t)0 - (n + sizeof *b));
    nl_free(b);
}

/* --- lua_Alloc -------------------------------------------------------------------------------- */

static inline bool is_big(size_t n)
{
    return PLAIN || n > NL_HEAP_BIG;
}

static void *get(nl_heap *s, size_t n)
{
    return nl_unlikely(is_big(n)) ? big_alloc(s, n) : take(s, class_of(n));
}

static void put(nl_heap *s, void *p, size_t n)
{
    if (nl_unlikely(p == s->first)) {
        return; /* to the end of nl_state_close a signal handler may touch it */
    }
    if (nl_unlikely(is_big(n))) {
        big_free(s, p, n);
    } else if (nl_unlikely(s->closing)) {
        return;
    } else if (in_page(s, p)) {
        give_to_page(s, p);
    } else {
        unsigned c = class_of(n);
        *(void **)p = s->free[c];
        s->free[c] = p;
    }
}

/*
 * The fixed part of a state, some 6 KB, is asked for first and given back last: no class need round
 * it up.
 */
static void *first_block(nl_heap *s, size_t n)
{
    size_t size = (n + STEP - 1) & ~(size_t)(STEP - 1);
    if (is_big(n) || size > left(s)) {
        return s->first = get(s, n);
    }
    s->first = s->bump;
    s->bump += size;
    return s->first;
}

static __attribute__((noinline)) void *alloc_slow(nl_heap *s, void *ptr, size_t osize, size_t nsize)
{
    if (nsize == 0) {
        if (ptr) {
            put(s, ptr, osize);
            add(&s->use->used, (size_t)0 - osize);
        }
        return NULL;
    }
    if (nl_unlikely(s->deny && nsize > osize)) {
        return NULL;
    }
    if (!ptr) {
        void *p = s->first ? get(s, nsize) : first_block(s, nsize);
        if (nl_likely(p != NULL)) {
            add(&s->use->used, nsize);
        }
        return p;
    }
    if (!is_big(osize) && !is_big(nsize) && class_of(osize) == class_of(nsize) && ptr != s->first) {
        add(&s->use->used, nsize - osize);
        return ptr;
    }
    void *p = get(s, nsize);
    if (nl_unlikely(!p)) {
        return NULL;
    }
    memcpy(p, ptr, osize < nsize ? osize : nsize);
    put(s, ptr, osize);
    add(&s->use->used, nsize - osize);
    return p;
}

/*
 * The free of nl_heap_alloc in a heap that takes pages; apart, so that the small one saves no
 * register.
 */
static nl_noinline void *free_in_large(nl_heap *s, void *ptr, size_t osize)
{
    put(s, ptr, osize);
    add(&s->use->used, (size_t)0 - osize);
    return NULL;
}

/* Small blocks are made and given back all the time: that takes no call and no saved register. */
void *nl_heap_alloc(void *ud, void *ptr, size_t osize, size_t nsize)
{
    nl_heap *s = ud;
    if (PLAIN) {
        return alloc_slow(s, ptr, osize, nsize);
    }
    if (ptr) {
        if (nsize == 0 && nl_likely(osize - 1 < STEP_MAX && !s->closing)) {
            if (nl_unlikely(s->pages != NULL)) {
                return free_in_large(s, ptr, osize);
            }
            unsigned c = (unsigned)((osize - 1) / STEP);
            *(void **)ptr = s->free[c];
            s->free[c] = ptr;
            add(&s->use->used, (size_t)0 - osize);
            return NULL;
        }
    } else if (nl_likely(nsize - 1 < STEP_MAX && !s->deny)) {
        unsigned c = (unsigned)((nsize - 1) / STEP);
        char *p = s->free[c];
        if (nl_likely(p != NULL)) {
            s->free[c] = *(void **)p;
            add(&s->use->used, nsize);
            return p;
        }
        p = s->bump; /* a state that is just being made has nothing on its free lists */
        if (nl_likely(left(s) >= (size_t)(c + 1) * STEP)) {
            s->bump = p + (size_t)(c + 1) * STEP;
            add(&s->use->used, nsize);
            return p;
        }
    }
    return alloc_slow(s, ptr, osize, nsize);
}

/* --- the heap --------------------------------------------------------------------------------- */

nl_heap *nl_heap_new(void *owner, nl_heap_use *use)
{
    /* The heap's own struct stands at the start of the first chunk. */
    chunk *c = nl_span_alloc(CHUNK_FIRST);
    if (!c) {
        return NULL;
    }
    nl_heap *s = (nl_heap *)(c + 1);
    memset(s, 0, sizeof *s);
    c->next = NULL;
    c->size = CHUNK_FIRST;
    s->chunks = c;
    s->chunked = CHUNK_FIRST;
    s->bump = (char *)(s + 1);
    s->bump_end = (char *)c + CHUNK_FIRST;
    s->owner = owner;
    s->bigs.next = s->bigs.prev = &s->bigs;
    s->use = use;
    atomic_store_explicit(&use->used, 0, memory_order_relaxed);
    atomic_store_explicit(&use->held, CHUNK_FIRST, memory_order_relaxed);
    return s;
}

void nl_heap_free(nl_heap *s)
{
    atomic_store_explicit(&s->use->used, 0, memory_order_relaxed);
    atomic_store_explicit(&s->use->held, 0, memory_order_relaxed);
    while (s->bigs.next != &s->bigs) {
        big *b = s->bigs.next;
        s->bigs.next = b->next;
        nl_free(b);
    }
    for (page *g = s->pages ? s->pages->all.next : NULL, *next; g && g != &s->pages->all; g = next) {
        next = g->next;
        nl_span_free(g);
    }
    for (chunk *c = s->chunks, *next; c; c = next) {
        next = c->next; /* the last one is the first chunk, in which s lies */
        nl_span_free(c);
    }
}

void nl_heap_closing(nl_heap *s)
{
    s->closing = true;
}

void nl_heap_deny(nl_heap *s, bool deny)
{
    s->deny = deny;
}

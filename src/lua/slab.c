/* slab.c - see slab.h */
#include "lua/slab.h"

#include <string.h>

#include "base/alloc.h"

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
 * Sizes: steps of 16 up to 128, then four to a doubling.  A state's fixed parts (its global
 * state of some 7 KB, its string table) are blocks like the others.
 */
#define STEP_MAX 128
#define STEP_CLASSES (STEP_MAX / 16)
#define NCLASSES (STEP_CLASSES + 4 * 7 + 1)

/* The first chunk holds a state with few libraries; the following ones grow with the state. */
#define CHUNK_FIRST 16000
#define CHUNK_MIN 4000
#define CHUNK_MAX 65000

typedef struct chunk {
    struct chunk *next;
    size_t size;
} chunk;

#define BIG_MAX ((size_t)1 << 39) /* no machine has that */

/* Head of a block of malloc's. */
typedef struct big {
    struct big *next, *prev;
} big;

struct nl_slab {
    void *owner; /* first: nl_slab_owner */
    char *bump, *bump_end;
    atomic_size_t used, held; /* written by the owner only, so plain loads and stores do */
    bool deny, closing;
    chunk *chunks;
    big bigs;
    void *free[NCLASSES];
};

static inline unsigned class_of(size_t n)
{
    if (nl_likely(n <= STEP_MAX)) {
        return (unsigned)((n + 15) / 16) - 1;
    }
    /* n - 1 = 1xx… in binary: its length and the two bits behind the first tell the class. */
    size_t m = n - 1;
    unsigned log = 63u - (unsigned)__builtin_clzll(m);
    return STEP_CLASSES + 4 * (log - 7) + (unsigned)(m >> (log - 2) & 3);
}

static inline size_t class_size(unsigned c)
{
    if (nl_likely(c < STEP_CLASSES)) {
        return ((size_t)c + 1) * 16;
    }
    unsigned k = c - STEP_CLASSES;
    return (5 + (size_t)k % 4) << (k / 4 + 5);
}

static inline void add(atomic_size_t *a, size_t n)
{
    atomic_store_explicit(a, atomic_load_explicit(a, memory_order_relaxed) + n, memory_order_relaxed);
}

/* ------------------------------------------------------------------ chunks */

/* Makes blocks of what is left of the current chunk. */
static void use_up_rest(nl_slab *s)
{
    size_t left = (size_t)(s->bump_end - s->bump);
    while (left >= 16) {
        unsigned c = class_of(left);
        if (c > 0 && class_size(c) > left) {
            c--;
        }
        *(void **)s->bump = s->free[c];
        s->free[c] = s->bump;
        s->bump += class_size(c);
        left -= class_size(c);
    }
}

static bool add_chunk(nl_slab *s, size_t want)
{
    use_up_rest(s);
    size_t n = atomic_load_explicit(&s->held, memory_order_relaxed) / 4;
    n = n < CHUNK_MIN ? CHUNK_MIN : n > CHUNK_MAX ? CHUNK_MAX : n;
    n = n < want + sizeof(chunk) ? want + sizeof(chunk) : n;
    chunk *c = nl_try_malloc(n);
    if (!c) {
        s->bump = s->bump_end = NULL;
        return false;
    }
    c->next = s->chunks;
    c->size = n;
    s->chunks = c;
    s->bump = (char *)(c + 1);
    s->bump_end = (char *)c + (n & ~(size_t)15);
    add(&s->held, n);
    return true;
}

static void *take(nl_slab *s, unsigned c)
{
    void *p = s->free[c];
    if (nl_likely(p != NULL)) {
        s->free[c] = *(void **)p;
        return p;
    }
    size_t n = class_size(c);
    if (nl_unlikely((size_t)(s->bump_end - s->bump) < n) && !add_chunk(s, n)) {
        return NULL;
    }
    p = s->bump;
    s->bump += n;
    return p;
}

/* ------------------------------------------------------------------ big blocks */

static void *big_alloc(nl_slab *s, size_t n)
{
    big *b = n < BIG_MAX ? nl_try_malloc(sizeof *b + n) : NULL;
    if (!b) {
        return NULL;
    }
    b->prev = &s->bigs;
    b->next = s->bigs.next;
    b->next->prev = b->prev->next = b;
    add(&s->held, n + sizeof *b);
    return b + 1;
}

static void big_free(nl_slab *s, void *p, size_t n)
{
    big *b = (big *)p - 1;
    b->next->prev = b->prev;
    b->prev->next = b->next;
    add(&s->held, (size_t)0 - (n + sizeof *b));
    nl_free(b);
}

/* ------------------------------------------------------------------ lua_Alloc */

static inline bool is_big(size_t n)
{
    return PLAIN || n > NL_SLAB_BIG;
}

static void *get(nl_slab *s, size_t n)
{
    return nl_unlikely(is_big(n)) ? big_alloc(s, n) : take(s, class_of(n));
}

static void put(nl_slab *s, void *p, size_t n)
{
    if (nl_unlikely(is_big(n))) {
        big_free(s, p, n);
    } else if (nl_likely(!s->closing)) {
        unsigned c = class_of(n);
        *(void **)p = s->free[c];
        s->free[c] = p;
    }
}

static __attribute__((noinline)) void *alloc_slow(nl_slab *s, void *ptr, size_t osize, size_t nsize)
{
    if (nsize == 0) {
        if (ptr) {
            put(s, ptr, osize);
            add(&s->used, (size_t)0 - osize);
        }
        return NULL;
    }
    if (nl_unlikely(s->deny && nsize > osize)) {
        return NULL;
    }
    if (!ptr) {
        void *p = get(s, nsize);
        if (nl_likely(p != NULL)) {
            add(&s->used, nsize);
        }
        return p;
    }
    if (!is_big(osize) && !is_big(nsize) && class_of(osize) == class_of(nsize)) {
        add(&s->used, nsize - osize);
        return ptr;
    }
    void *p = get(s, nsize);
    if (nl_unlikely(!p)) {
        return NULL;
    }
    memcpy(p, ptr, osize < nsize ? osize : nsize);
    put(s, ptr, osize);
    add(&s->used, nsize - osize);
    return p;
}

/* Small blocks are made and given back all the time: that takes no call and no saved register. */
void *nl_slab_alloc(void *ud, void *ptr, size_t osize, size_t nsize)
{
    nl_slab *s = ud;
    if (PLAIN) {
        return alloc_slow(s, ptr, osize, nsize);
    }
    if (ptr) {
        if (nsize == 0 && nl_likely(osize - 1 < STEP_MAX && !s->closing)) {
            unsigned c = (unsigned)((osize - 1) / 16);
            *(void **)ptr = s->free[c];
            s->free[c] = ptr;
            add(&s->used, (size_t)0 - osize);
            return NULL;
        }
    } else if (nl_likely(nsize - 1 < STEP_MAX)) {
        unsigned c = (unsigned)((nsize - 1) / 16);
        void *p = s->free[c];
        if (nl_likely(p && !s->deny)) {
            s->free[c] = *(void **)p;
            add(&s->used, nsize);
            return p;
        }
    }
    return alloc_slow(s, ptr, osize, nsize);
}

/* ------------------------------------------------------------------ the slab */

nl_slab *nl_slab_new(void *owner)
{
    /* The slab's own struct stands at the start of the first chunk. */
    chunk *c = nl_malloc(CHUNK_FIRST);
    nl_slab *s = (nl_slab *)(c + 1);
    memset(s, 0, sizeof *s);
    c->next = NULL;
    c->size = CHUNK_FIRST;
    s->owner = owner;
    s->chunks = c;
    s->bump = (char *)c + ((sizeof *c + sizeof *s + 15) & ~(size_t)15);
    s->bump_end = (char *)c + (CHUNK_FIRST & ~15);
    s->bigs.next = s->bigs.prev = &s->bigs;
    atomic_init(&s->used, 0);
    atomic_init(&s->held, CHUNK_FIRST);
    return s;
}

void nl_slab_free(nl_slab *s)
{
    while (s->bigs.next != &s->bigs) {
        big *b = s->bigs.next;
        s->bigs.next = b->next;
        nl_free(b);
    }
    for (chunk *c = s->chunks, *next; c; c = next) {
        next = c->next; /* the last one is the first chunk, in which s lies */
        nl_free(c);
    }
}

void nl_slab_closing(nl_slab *s)
{
    s->closing = true;
}

void nl_slab_deny(nl_slab *s, bool deny)
{
    s->deny = deny;
}

size_t nl_slab_used(const nl_slab *s)
{
    return atomic_load_explicit(&((nl_slab *)s)->used, memory_order_relaxed);
}

size_t nl_slab_held(const nl_slab *s)
{
    return atomic_load_explicit(&((nl_slab *)s)->held, memory_order_relaxed);
}

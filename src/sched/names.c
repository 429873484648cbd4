/* names.c - see names.h; what only the scheduler calls is declared in sched_impl.h */
#include "sched/names.h"

#include <string.h>

#include "base/alloc.h"
#include "base/os.h"
#include "sched/sched_impl.h"

#define BUCKETS 1024u

typedef struct nl_name {
    struct nl_name *next;     /* in its bucket */
    struct nl_name *next_own; /* of the same context */
    uint64_t handle;
    uint32_t hash;
    size_t len;
    char text[];
} nl_name;

static struct {
    nl_mutex *lock;
    nl_name *bucket[BUCKETS];
} names;

void nl_names_init(void)
{
    names.lock = nl_mutex_new();
}

void nl_names_fini(void)
{
    for (unsigned i = 0; i < BUCKETS; i++) {
        nl_assert(!names.bucket[i], "names are freed by their contexts");
    }
    nl_mutex_free(names.lock);
}

static uint32_t hash_bytes(const char *p, size_t n)
{
    uint32_t h = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < n; i++) {
        h = (h ^ (unsigned char)p[i]) * 16777619u;
    }
    return h;
}

static nl_name **find(const char *name, size_t len, uint32_t h)
{
    nl_name **at = &names.bucket[h % BUCKETS];
    while (*at && !((*at)->hash == h && (*at)->len == len && memcmp((*at)->text, name, len) == 0)) {
        at = &(*at)->next;
    }
    return at;
}

int nl_name_register(const char *name, size_t len, uint64_t handle)
{
    if (len == 0) {
        return -EINVAL;
    }
    nl_ctx *c = nl_ctx_find(handle);
    if (!c) {
        return -NL_ENOCONTEXT;
    }
    uint32_t h = hash_bytes(name, len);
    int err = 0;
    nl_mutex_lock(names.lock);
    nl_name **at = find(name, len, h);
    if (*at) {
        err = (*at)->handle == handle ? 0 : -NL_ENAMETAKEN;
    } else {
        nl_name *n = nl_malloc(sizeof *n + len);
        n->next = NULL;
        n->next_own = c->names;
        n->handle = handle;
        n->hash = h;
        n->len = len;
        memcpy(n->text, name, len);
        c->names = n;
        *at = n;
    }
    nl_mutex_unlock(names.lock);
    return err;
}

uint64_t nl_name_lookup(const char *name, size_t len)
{
    nl_mutex_lock(names.lock);
    nl_name *n = *find(name, len, hash_bytes(name, len));
    uint64_t handle = n ? n->handle : 0;
    nl_mutex_unlock(names.lock);
    return handle;
}

void nl_names_release(nl_ctx *c)
{
    if (c->names) { /* only the context itself adds to it, so no lock is needed to see that */
        nl_names_take_away(c);
    }
}

void nl_names_take_away(nl_ctx *c)
{
    nl_mutex_lock(names.lock);
    while (c->names) {
        nl_name *n = c->names;
        c->names = n->next_own;
        *find(n->text, n->len, n->hash) = n->next;
        nl_free(n);
    }
    nl_mutex_unlock(names.lock);
}

/* chunk.c - see chunk.h */
#include "lua/vm/chunk.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/spin.h"
#include "lua/vm/embedded.h"

#define NBUCKETS 256

typedef struct stamp {
    int64_t mtime_ns, size;
    uint64_t ino;
} stamp;

struct nl_chunk {
    nl_chunk *next; /* in its bucket */
    atomic_uint refs;
    nl_libs_needed libs;
    stamp at;
    char *path; /* NULL: not cached */
    char *name; /* for luaL_loadbuffer */
    char *code;
    size_t len;
};

static nl_chunk *buckets[NBUCKETS];
static nl_spin lock = NL_SPIN_INIT; /* buckets and their lists, for a walk of a few steps */

/* ------------------------------------------------------------------ reading */

static int stamp_of(const char *path, stamp *at)
{
    struct stat st;
    if (stat(path, &st) < 0) {
        return -errno;
    }
    if (S_ISDIR(st.st_mode)) {
        return -EISDIR;
    }
#if defined(__APPLE__)
    at->mtime_ns = st.st_mtimespec.tv_sec * 1000000000ll + st.st_mtimespec.tv_nsec;
#elif defined(_WIN32)
    at->mtime_ns = (int64_t)st.st_mtime * 1000000000;
#else
    at->mtime_ns = st.st_mtim.tv_sec * 1000000000ll + st.st_mtim.tv_nsec;
#endif
    at->size = (int64_t)st.st_size;
    at->ino = (uint64_t)st.st_ino;
    return 0;
}

int nl_read_file(const char *path, char **text, size_t *len)
{
    FILE *f = path ? fopen(path, "rb") : stdin;
    if (!f) {
        return -errno;
    }
    size_t n = 0, cap = 0, got;
    char *buf = NULL;
    int err = 0;
    do {
        if (n + 1 >= cap) {
            cap = cap ? 2 * cap : 8192;
            buf = nl_realloc(buf, cap);
        }
        errno = 0;
        got = fread(buf + n, 1, cap - n - 1, f);
        n += got;
    } while (got > 0);
    if (ferror(f)) {
        err = errno ? -errno : -EIO;
    }
    if (path) {
        fclose(f);
    }
    if (err) {
        nl_free(buf);
        return err;
    }
    buf[n] = 0;
    *text = buf;
    *len = n;
    return 0;
}

/* ------------------------------------------------------------------ compiling */

typedef struct dump {
    char *p;
    size_t len, cap;
} dump;

static int dump_writer(lua_State *L, const void *p, size_t n, void *ud)
{
    (void)L;
    dump *d = ud;
    if (d->cap - d->len < n) {
        d->cap = 2 * d->cap + n;
        d->p = nl_realloc(d->p, d->cap);
    }
    memcpy(d->p + d->len, p, n);
    d->len += n;
    return 0;
}

int nl_chunk_from_text(nl_chunk **out, lua_State *L, const char *text, size_t len, const char *name)
{
    if (len > 0 && text[0] == LUA_SIGNATURE[0]) {
        lua_pushfstring(L, "%s: a file of bytecode is not accepted, only source text is",
                        *name == '@' || *name == '=' ? name + 1 : name);
        return -NL_ESYNTAX;
    }
    int err = luaL_loadbufferx(L, text, len, name, "t");
    if (err) {
        return err == LUA_ERRSYNTAX ? -NL_ESYNTAX : -ENOMEM;
    }
    dump d = {NULL, 0, 0};
    err = lua_dump(L, dump_writer, &d);
    lua_pop(L, 1);
    if (err) {
        nl_free(d.p);
        return -ENOMEM;
    }
    nl_chunk *c = nl_calloc(sizeof *c);
    atomic_init(&c->refs, 1);
    c->libs = nl_libs_of_text(text, len);
    c->name = nl_strdup(name);
    c->code = d.p;
    c->len = d.len;
    *out = c;
    return 0;
}

const nl_libs_needed *nl_chunk_libs(const nl_chunk *c)
{
    return &c->libs;
}

int nl_chunk_push(const nl_chunk *c, lua_State *L)
{
    return luaL_loadbufferx(L, c->code, c->len, c->name, "b");
}

void nl_chunk_release(nl_chunk *c)
{
    if (c && atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1) {
        nl_free(c->path);
        nl_free(c->name);
        nl_free(c->code);
        nl_free(c);
    }
}

/* ------------------------------------------------------------------ the cache */

static nl_chunk **bucket_of(const char *path)
{
    uint32_t h = 2166136261u;
    for (const char *p = path; *p; p++) {
        h = (h ^ (unsigned char)*p) * 16777619u;
    }
    return &buckets[h % NBUCKETS];
}

/* The place of path's chunk in its list, or of the end.  Under the lock. */
static nl_chunk **place_of(nl_chunk **bucket, const char *path)
{
    while (*bucket && strcmp((*bucket)->path, path) != 0) {
        bucket = &(*bucket)->next;
    }
    return bucket;
}

/* The chunk cached for a path as it was at that time, with a reference for the caller, or NULL. */
static nl_chunk *cached(const char *path, const stamp *at)
{
    nl_chunk **bucket = bucket_of(path);
    nl_spin_lock(&lock);
    nl_chunk *c = *place_of(bucket, path);
    if (c && memcmp(&c->at, at, sizeof *at) == 0) {
        atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    } else {
        c = NULL;
    }
    nl_spin_unlock(&lock);
    return c;
}

/* Puts a new chunk in, in place of an older one. */
static void keep(nl_chunk *c, const char *path, const stamp *at)
{
    c->at = *at;
    c->path = nl_strdup(path);
    atomic_store_explicit(&c->refs, 2, memory_order_relaxed); /* the caller's and the cache's */
    nl_chunk **bucket = bucket_of(path);
    nl_spin_lock(&lock);
    nl_chunk **place = place_of(bucket, path), *old = *place;
    c->next = old ? old->next : NULL;
    *place = c;
    nl_spin_unlock(&lock);
    nl_chunk_release(old);
}

nl_chunk *nl_chunk_cached(const char *path)
{
    stamp at;
    return stamp_of(path, &at) == 0 ? cached(path, &at) : NULL;
}

int nl_chunk_get(nl_chunk **out, lua_State *L, const char *path)
{
    stamp at;
    int err = stamp_of(path, &at);
    if (err) {
        return err;
    }
    nl_chunk *c = cached(path, &at);
    if (!c) {
        char *text = NULL;
        size_t len = 0, n = strlen(path);
        err = nl_read_file(path, &text, &len);
        if (err) {
            return err;
        }
        char *name = nl_malloc(n + 2);
        name[0] = '@';
        memcpy(name + 1, path, n + 1);
        err = nl_chunk_from_text(&c, L, text, len, name);
        nl_free(name);
        nl_free(text);
        if (err) {
            return err;
        }
        keep(c, path, &at);
    }
    *out = c;
    return 0;
}

nl_chunk *nl_chunk_builtin(lua_State *L, const char *name, const char *text, size_t len)
{
    char path[64] = "\001"; /* no file's */
    strncat(path, name, sizeof path - 2);
    static const stamp at = {0, 0, 0};
    nl_chunk *c = cached(path, &at);
    if (!c) {
        if (nl_chunk_from_text(&c, L, text, len, "=[nl-jit]") != 0) {
            lua_error(L);
            return NULL; /* not reached */
        }
        keep(c, path, &at);
    }
    return c;
}

static int compare(const void *name, const void *e)
{
    return strcmp(name, ((const nl_embedded *)e)->name);
}

nl_chunk *nl_chunk_embedded(lua_State *L, const char *name)
{
    const nl_embedded *e = bsearch(name, nl_lualib, nl_lualib_count, sizeof *nl_lualib, compare);
    return e ? nl_chunk_builtin(L, name, e->data, e->size) : NULL;
}

void nl_chunk_cache_free(void)
{
    for (int i = 0; i < NBUCKETS; i++) {
        while (buckets[i]) {
            nl_chunk *c = buckets[i];
            buckets[i] = c->next;
            nl_chunk_release(c);
        }
    }
}

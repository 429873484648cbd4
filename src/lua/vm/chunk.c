/* chunk.c - see chunk.h */
#include "lua/vm/chunk.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cfile.h"
#include "base/os.h"
#include "base/spin.h"
#include "lua/vm/embedded.h"
#include "lua/vm/lj.h"

#define NBUCKETS 256

/*
 * A file written twice within one tick of its file system's clock has the same stamp after both.
 * Ticks are 10 ms at most on local file systems of today, 2 s on the coarsest.
 */
#define STAMP_AGE_NS INT64_C(2000000000)

struct nl_chunk {
    nl_chunk *next; /* in its bucket */
    atomic_uint refs;
    nl_libs_needed libs;
    nl_file_stamp stamp; /* of the file when its text was read */
    bool settled;        /* no other state of the file has that stamp; under the lock */
    uint64_t text_hash;
    char *path; /* NULL: not cached */
    char *name; /* for luaL_loadbuffer */
    char *code; /* bytecode, or text */
    size_t len;
};

static nl_chunk *buckets[NBUCKETS];
static nl_spin lock = NL_SPIN_INIT; /* buckets and their lists, for a walk of a few steps */

/* --- reading ---------------------------------------------------------------------------------- */

int nl_read_file(const char *path, char **text, size_t *len)
{
    FILE *f = path ? fopen(path, "rb") : stdin;
    if (!f) {
        return -errno;
    }
    nl_cfile_set_binary(f); /* standard input may be bytecode */
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

/* --- compiling -------------------------------------------------------------------------------- */

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

#if NL_LUAJIT_INSIDE

/*
 * The constants of a table constructor are a table, of which each run makes a copy.  What `#` says
 * of the copy, where it has holes, depends on the sizes of its two parts; but bytecode has the
 * array part only up to the last value, and the hash part in the smallest size.  So:
 *
 *  - in the last place of an array part that is nil goes a reference to the table itself, which
 *    marks a nil in such tables and is dumped as nil;
 *  - where a table comes back from the bytecode with another size all the same, the chunk is its
 *    text.
 */
static void mark_array_ends(lua_State *L, GCproto *pt)
{
    for (ptrdiff_t i = -(ptrdiff_t)pt->sizekgc; i < 0; i++) {
        GCobj *o = proto_kgc(pt, i);
        if (o->gch.gct == ~LJ_TPROTO) {
            mark_array_ends(L, gco2pt(o));
        } else if (o->gch.gct == ~LJ_TTAB && gco2tab(o)->asize > 0) {
            TValue *last = tvref(gco2tab(o)->array) + gco2tab(o)->asize - 1;
            if (tvisnil(last)) {
                settabV(L, last, gco2tab(o));
            }
        }
    }
}

/* Whether the tables in b, which comes from the bytecode of a, have the sizes of those in a. */
static bool same_sizes(const GCproto *a, const GCproto *b)
{
    bool same = true;
    for (ptrdiff_t i = -(ptrdiff_t)a->sizekgc; same && i < 0; i++) {
        GCobj *o = proto_kgc(a, i), *p = proto_kgc(b, i);
        if (o->gch.gct == ~LJ_TPROTO) {
            same = same_sizes(gco2pt(o), gco2pt(p));
        } else if (o->gch.gct == ~LJ_TTAB) {
            same = gco2tab(o)->asize == gco2tab(p)->asize && gco2tab(o)->hmask == gco2tab(p)->hmask;
        }
    }
    return same;
}

static GCproto *proto_at(lua_State *L, int idx)
{
    return funcproto(funcV(L->base + idx - 1));
}

#endif

/*
 * Pops a function for its bytecode, or for its text where that is not the same; it must not run any
 * more.
 */
static int dump_function(lua_State *L, dump *d, const char *text, size_t len, const char *name)
{
#if NL_LUAJIT_INSIDE
    int top = lua_gettop(L);
    mark_array_ends(L, proto_at(L, top));
#endif
    int err = lua_dump(L, dump_writer, d);
#if NL_LUAJIT_INSIDE
    err = err ? err : luaL_loadbufferx(L, d->p, d->len, name, "b");
    if (!err && !same_sizes(proto_at(L, top), proto_at(L, top + 1))) {
        d->len = 0;
        dump_writer(L, text, len, d);
    }
    lua_settop(L, top);
#else
    (void)text, (void)len, (void)name;
#endif
    lua_pop(L, 1);
    if (err) {
        nl_free(d->p);
    }
    return err ? -ENOMEM : 0;
}

int nl_chunk_from_text(nl_chunk **out, lua_State *L, const char *text, size_t len, const char *name)
{
    bool is_code = len > 0 && text[0] == LUA_SIGNATURE[0];
    int err = luaL_loadbuffer(L, text, len, name);
    if (err) {
        return err == LUA_ERRSYNTAX ? -NL_ESYNTAX : -ENOMEM;
    }
    dump d = {NULL, 0, 0};
    if (is_code) {
        lua_pop(L, 1);
        dump_writer(L, text, len, &d);
    } else if ((err = dump_function(L, &d, text, len, name))) {
        return err;
    }
    nl_chunk *c = nl_calloc(sizeof *c);
    atomic_init(&c->refs, 1);
    c->libs = is_code ? (nl_libs_needed){NL_LIB_ALL, 0} : nl_libs_of_text(text, len);
    c->name = nl_strdup(name);
    c->code = d.p;
    c->len = d.len;
    *out = c;
    return 0;
}

int nl_chunk_from_stdin(nl_chunk **out, lua_State *L)
{
    char *text;
    size_t len;
    int err = nl_read_file(NULL, &text, &len);
    if (!err) {
        err = nl_chunk_from_text(out, L, text, len, "=stdin");
        nl_free(text);
    }
    return err;
}

const nl_libs_needed *nl_chunk_libs(const nl_chunk *c)
{
    return &c->libs;
}

int nl_chunk_push(const nl_chunk *c, lua_State *L)
{
    return luaL_loadbuffer(L, c->code, c->len, c->name);
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

/* --- the cache -------------------------------------------------------------------------------- */

static uint64_t hash_of(const char *p, size_t n)
{
    uint64_t h = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < n; i++) {
        h = (h ^ (unsigned char)p[i]) * 1099511628211u;
    }
    return h;
}

static nl_chunk **bucket_of(const char *path)
{
    return &buckets[hash_of(path, strlen(path)) % NBUCKETS];
}

/* The place of path's chunk in its list, or of the end. */
static nl_chunk **place_of_locked(nl_chunk **bucket, const char *path)
{
    while (*bucket && strcmp((*bucket)->path, path) != 0) {
        bucket = &(*bucket)->next;
    }
    return bucket;
}

/*
 * What is known of a file now; settled: its stamp is so old that another state of it would have
 * another one.
 */
typedef struct state {
    nl_file_stamp stamp;
    bool settled;
} state;

static int state_of(const char *path, state *s)
{
    int64_t seconds;
    int us;
    nl_wall_clock(&seconds, &us);
    int err = nl_file_stamp_get(path, &s->stamp);
    s->settled = !err && s->stamp.changed_ns < seconds * INT64_C(1000000000) - STAMP_AGE_NS;
    return err;
}

/*
 * The chunk cached for the file in that state, with a reference for the caller, or NULL.
 * text_hash: NULL if it is not known.
 */
static nl_chunk *cached(const char *path, const state *s, const uint64_t *text_hash)
{
    nl_chunk **bucket = bucket_of(path);
    nl_spin_lock(&lock);
    nl_chunk *c = *place_of_locked(bucket, path);
    if (c && memcmp(&c->stamp, &s->stamp, sizeof c->stamp) == 0 &&
        (c->settled || (text_hash && c->text_hash == *text_hash))) {
        c->settled |= s->settled;
        atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    } else {
        c = NULL;
    }
    nl_spin_unlock(&lock);
    return c;
}

/* Puts a new chunk in, in place of an older one. */
static void keep(nl_chunk *c, const char *path, const state *s, uint64_t text_hash)
{
    c->stamp = s->stamp;
    c->settled = s->settled;
    c->text_hash = text_hash;
    c->path = nl_strdup(path);
    atomic_store_explicit(&c->refs, 2, memory_order_relaxed); /* the caller's and the cache's */
    nl_chunk **bucket = bucket_of(path);
    nl_spin_lock(&lock);
    nl_chunk **place = place_of_locked(bucket, path), *old = *place;
    c->next = old ? old->next : NULL;
    *place = c;
    nl_spin_unlock(&lock);
    nl_chunk_release(old);
}

nl_chunk *nl_chunk_cached(const char *path)
{
    state s;
    return state_of(path, &s) == 0 ? cached(path, &s, NULL) : NULL;
}

static int compile_file(nl_chunk **out, lua_State *L, const char *path, const char *text, size_t len)
{
    size_t n = strlen(path);
    char *name = nl_malloc(n + 2);
    name[0] = '@';
    memcpy(name + 1, path, n + 1);
    int err = nl_chunk_from_text(out, L, text, len, name);
    nl_free(name);
    return err;
}

int nl_chunk_get(nl_chunk **out, lua_State *L, const char *path)
{
    state s;
    int err = state_of(path, &s);
    if (err || (*out = cached(path, &s, NULL))) {
        return err;
    }
    char *text = NULL;
    size_t len = 0;
    err = nl_read_file(path, &text, &len);
    if (err) {
        return err;
    }
    uint64_t hash = hash_of(text, len);
    if (!(*out = cached(path, &s, &hash)) && !(err = compile_file(out, L, path, text, len))) {
        keep(*out, path, &s, hash);
    }
    nl_free(text);
    return err;
}

nl_chunk *nl_chunk_builtin(lua_State *L, const char *name, const char *text, size_t len)
{
    char path[64] = "\001"; /* no file's */
    strncat(path, name, sizeof path - 2);
    static const state always = {.settled = true};
    nl_chunk *c = cached(path, &always, NULL);
    if (!c) {
        if (nl_chunk_from_text(&c, L, text, len, "=[nl-jit]") != 0) {
            lua_error(L);
            return NULL; /* not reached */
        }
        keep(c, path, &always, 0);
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

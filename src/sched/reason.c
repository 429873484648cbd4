/* reason.c - see reason.h; what only the scheduler calls is declared in sched_impl.h */
#include "sched/reason.h"

#include "base/alloc.h"
#include "base/list.h"
#include "base/os.h"
#include "sched/sched_impl.h"

nl_reason *nl_reason_new(const char *text, size_t len)
{
    len = len < NL_REASON_MAX ? len : NL_REASON_MAX;
    nl_reason *r = nl_malloc(sizeof *r + len);
    r->len = len;
    memcpy(r->text, text, len);
    return r;
}

nl_reason *nl_reason_copy(const nl_reason *r)
{
    return r ? nl_reason_new(r->text, r->len) : NULL;
}

/* --- obituaries ------------------------------------------------------------------------------- */

#define BUCKETS 1024u

typedef struct obituary {
    nl_list all;
    struct obituary *next; /* in its bucket */
    uint64_t handle;
    nl_reason *reason;
} obituary;

static struct {
    nl_mutex *lock;
    nl_list all; /* oldest first */
    uint32_t count;
    size_t bytes; /* of their texts */
    obituary *bucket[BUCKETS];
} obituaries;

/* The place of a handle's obituary, or the end of its bucket. */
static obituary **place_of_locked(uint64_t handle)
{
    obituary **at = &obituaries.bucket[(handle * 0x9e3779b97f4a7c15u >> 32) % BUCKETS];
    while (*at && (*at)->handle != handle) {
        at = &(*at)->next;
    }
    return at;
}

static void forget_locked(obituary **at)
{
    obituary *o = *at;
    *at = o->next;
    nl_list_remove(&o->all);
    obituaries.count--;
    obituaries.bytes -= o->reason->len;
    nl_free(o->reason);
    nl_free(o);
}

static void forget_oldest_locked(void)
{
    forget_locked(place_of_locked(nl_container_of(obituaries.all.next, obituary, all)->handle));
}

void nl_obituaries_init(void)
{
    obituaries.lock = nl_mutex_new();
    nl_list_init(&obituaries.all);
}

void nl_obituaries_fini(void)
{
    while (!nl_list_empty(&obituaries.all)) {
        forget_oldest_locked();
    }
    nl_mutex_free(obituaries.lock);
}

void nl_obituary_store(uint64_t handle, const nl_reason *reason)
{
    if (!reason) {
        return;
    }
    obituary *o = nl_malloc(sizeof *o);
    o->handle = handle;
    o->reason = nl_reason_copy(reason);
    nl_mutex_lock(obituaries.lock);
    while (obituaries.count >= NL_OBITUARIES_MAX || obituaries.bytes > NL_OBITUARIES_BYTES - reason->len) {
        forget_oldest_locked();
    }
    obituary **at = place_of_locked(handle);
    if (*at) {
        forget_locked(at);
    }
    o->next = *at;
    *at = o;
    nl_list_push_back(&obituaries.all, &o->all);
    obituaries.count++;
    obituaries.bytes += reason->len;
    nl_mutex_unlock(obituaries.lock);
}

nl_reason *nl_obituary_copy(uint64_t handle)
{
    nl_mutex_lock(obituaries.lock);
    const obituary *o = *place_of_locked(handle);
    nl_reason *r = nl_reason_copy(o ? o->reason : NULL);
    nl_mutex_unlock(obituaries.lock);
    return r;
}

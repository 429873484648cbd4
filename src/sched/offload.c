/*
 * offload.c - see offload.h
 *
 * A thread that has ended stands in `ended` until somebody joins it: the next call, or the end of
 * the process.  One that comes back after that finds `stop`, and touches nothing of the runtime.
 */
#include "sched/offload.h"

#include "base/alloc.h"
#include "base/os.h"
#include "sched/sched.h"

typedef struct helper {
    struct helper *next;
    nl_thread *thread; /* under the lock */
    nl_job *job;
} helper;

static struct {
    _Atomic(nl_mutex *) lock; /* never freed: threads are left behind */
    helper *ended;
    bool stop;
} all;

static nl_mutex *get_lock(void)
{
    nl_mutex *lock = atomic_load(&all.lock);
    if (!lock) {
        nl_mutex *mine = nl_mutex_new();
        if (atomic_compare_exchange_strong(&all.lock, &lock, mine)) {
            return mine;
        }
        nl_mutex_free(mine); /* another thread was first */
    }
    return lock;
}

/* False: nobody is there to be told. */
static bool tell(nl_job *job)
{
    nl_qsbr_enter();
    nl_ctx *c = job->ctx ? nl_ctx_find(job->ctx) : NULL;
    if (c) {
        nl_ctx_post(c, &job->msg);
    }
    nl_qsbr_leave();
    return c != NULL;
}

static void help(void *arg)
{
    helper *h = arg;
    nl_job *job = h->job;
    nl_mutex *lock = get_lock();
    job->work(job);
    nl_mutex_lock(lock);
    bool stop = all.stop, told = !stop && tell(job);
    if (!stop) {
        h->next = all.ended;
        all.ended = h;
    }
    nl_mutex_unlock(lock);
    if (!told) {
        job->msg.ops->drop(&job->msg);
    }
    if (!stop) {
        nl_pool_thread_exit();
    }
}

static void join_ended(nl_mutex *lock)
{
    nl_mutex_lock(lock);
    helper *h = all.ended;
    all.ended = NULL;
    nl_mutex_unlock(lock);
    while (h) {
        helper *next = h->next;
        nl_thread_join(h->thread);
        nl_free(h);
        h = next;
    }
}

int nl_offload(nl_job *job)
{
    nl_mutex *lock = get_lock();
    join_ended(lock);
    helper *h = nl_calloc(sizeof(*h));
    h->job = job;
    nl_mutex_lock(lock); /* the thread puts itself into `ended` after its handle is known */
    all.stop = false;
    int err = nl_thread_start(&h->thread, "nl-offload", help, h);
    nl_mutex_unlock(lock);
    if (err) {
        nl_free(h);
    }
    return err;
}

void nl_offload_fini(void)
{
    nl_mutex *lock = get_lock();
    nl_mutex_lock(lock);
    all.stop = true;
    nl_mutex_unlock(lock);
    join_ended(lock);
}

/*
 * offload.c - see offload.h
 *
 * The threads are detached.  One that comes back looks, under the lock, whether the runtime is
 * still there; when nl_offload_fini has returned none touches it any more.
 */
#include "sched/offload.h"

#include "base/alloc.h"
#include "base/os.h"
#include "sched/sched.h"

static struct {
    _Atomic(nl_mutex *) lock; /* never freed: threads are left behind */
    bool stop;                /* under the lock */
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
    nl_job *job = arg;
    nl_mutex *lock = get_lock();
    job->work(job);
    nl_mutex_lock(lock);
    bool stop = all.stop, told = !stop && tell(job);
    if (!stop) {
        nl_pool_thread_exit();
    }
    nl_mutex_unlock(lock);
    if (!told) {
        job->msg.ops->drop(&job->msg);
    }
}

int nl_offload(nl_job *job)
{
    nl_mutex *lock = get_lock();
    nl_mutex_lock(lock);
    all.stop = false; /* it was set if this is not the first run: in unit tests */
    nl_mutex_unlock(lock);
    return nl_thread_start(NULL, "nl-offload", help, job);
}

void nl_offload_fini(void)
{
    nl_mutex *lock = get_lock();
    nl_mutex_lock(lock);
    all.stop = true;
    nl_mutex_unlock(lock);
}

/*
 * tcp_listen.c - listeners: making them, accepting, and the pause when accept fails.
 */
#include "net/tcp_impl.h"

/* A listener whose accept has failed for want of something tries again after so long. */
#define PAUSE_NS ((int64_t)100000000)

static nl_deadlines paused;

int nl_tcp_listen(nl_tcp **out, nl_ctx *owner, const nl_tcp_ops *ops, const nl_addr *a,
                  const struct nl_listen_opts *o)
{
    nl_fd fd;
    *out = NULL;
    int err;
    do {
        err = nl_sock_listen(&fd, a, o);
    } while (nl_linger_freed(err));
    if (err) {
        return err;
    }
    err = nl_tcp_new(out, fd, NL_TCP_KIND_LISTENER, 0, owner->slot.id, nl_ctx_home(owner), ops, NULL);
    if (err) {
        nl_sock_close(fd);
    }
    return err;
}

/* --- Accepting -------------------------------------------------------------------------------- */

static void pause_for_a_while(nl_tcp *s)
{
    atomic_fetch_or_explicit(&s->flags, NL_TCP_PAUSED | NL_TCP_WANT, memory_order_acq_rel);
    nl_deadlines_add(&paused, s);
}

static void resume(nl_tcp *s)
{
    atomic_fetch_and_explicit(&s->flags, ~(unsigned)NL_TCP_PAUSED, memory_order_acq_rel);
    nl_tcp_signal(s, NL_TCP_READ);
}

void nl_listener_forget(nl_tcp *s)
{
    nl_deadlines_remove(&paused, s);
}

void nl_listeners_init(void)
{
    nl_deadlines_init(&paused, PAUSE_NS, UINT32_MAX, resume);
}

void nl_listeners_fini(void)
{
    nl_deadlines_fini(&paused);
}

int nl_tcp_accept(nl_tcp **out, nl_tcp *listener, const nl_tcp_ops *ops)
{
    nl_tcp *l = listener;
    *out = NULL;
    int err;
    for (;;) {
        if (!l->maybe_readable) {
            if (nl_tcp_want(l, NL_TCP_READ)) {
                return NL_AGAIN;
            }
            l->maybe_readable = true;
        }
        nl_fd fd;
        nl_addr peer;
        do {
            err = nl_sock_accept(&fd, l->fd, &peer);
        } while (nl_linger_freed(err));
        if (err == 0) {
            err = nl_tcp_new(out, fd, NL_TCP_KIND_CONN, 0, l->owner, l->home, ops, &peer);
            if (err == 0) {
                return 0;
            }
            nl_sock_close(fd);
            break;
        }
        if (err == NL_AGAIN) {
            l->maybe_readable = false;
            err = nl_reactor_arm_read(nl_tcp_reactor(l), l->fd, l->slot.id);
            if (err) {
                break;
            }
        } else {
            break;
        }
    }
    /*
     * Descriptors or memory are out, as a rule: asking again at once would only burn the processor.
     */
    l->maybe_readable = false;
    pause_for_a_while(l);
    return err;
}

/* watch.c - see watch.h */
#include "net/watch.h"

#include "net/tcp_impl.h"

int nl_watch_new(nl_tcp **out, nl_ctx *owner, const nl_tcp_ops *ops, nl_fd copy)
{
    *out = NULL;
    int err =
        nl_tcp_new(out, copy, NL_TCP_KIND_WATCH, NL_TCP_WANT, owner->slot.id, nl_ctx_home(owner), ops, NULL);
    if (err) {
        nl_sock_close(copy);
    }
    return err;
}

int nl_watch_again(nl_tcp *s)
{
    /* Armed after the owner has looked: what comes from then on makes an event. */
    int err = nl_reactor_arm_read(nl_tcp_reactor(s), s->fd, s->slot.id);
    return err ? err : nl_tcp_want(s, NL_TCP_READ);
}

/*
 * winfd.c - the life of the struct behind an nl_fd on Windows; see win.h.
 */
#include "base/alloc.h"
#include "reactor/win.h"

nl_winfd nl_winfd_none = {.kind = NL_WIN_SOCKET, .connecting = true, .handle = INVALID_HANDLE_VALUE};

void nl_winfd_init(nl_winfd *w, nl_win_kind kind, HANDLE handle)
{
    w->kind = kind;
    w->handle = handle;
    w->read.fd = w->write.fd = w;
    atomic_init(&w->refs, 1);
    if (kind == NL_WIN_LISTENER || kind == NL_WIN_PIPE_LISTENER) {
        w->lock = nl_mutex_new();
    }
}

void nl_winfd_close_handle(nl_winfd *w)
{
    if (w->handle == INVALID_HANDLE_VALUE) {
        return;
    }
    if (nl_winfd_is_pipe(w)) {
        CloseHandle(w->handle);
    } else {
        closesocket(nl_win_socket(w));
    }
    w->handle = INVALID_HANDLE_VALUE;
}

void nl_winfd_unref(nl_winfd *w)
{
    /* acq_rel: what every holder did with w comes before it is freed. */
    if (atomic_fetch_sub_explicit(&w->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    nl_winfd_close_handle(w);
    if (w->lock) {
        nl_mutex_free(w->lock);
    }
    nl_free(w); /* not of the pool: a worker that harvests holds its poll lock, a spin lock */
}

/*
 * pipe_win.c - named pipes, which stand for Unix sockets on Windows.
 *
 * A name has several instances, each with one server's end.  A listener keeps some waiting, and
 * makes another one for each that it hands out.  A client that comes while all are taken is told
 * NL_AGAIN, as by a Unix socket whose backlog is full.
 *
 * Reading asks how much is there, and then reads no more: so it never waits.  Writing cannot ask:
 * what finds no room pends as a whole.  So a write goes on from a buffer of its own, one at a time,
 * and to the caller these bytes are taken.  A write that pends is not cancelled, since the reader
 * may have got a part of it; the handle is closed after it.
 *
 * A pipe's handle says when an operation succeeds at once, and makes no packet then: a write that
 * does costs none.  iocp.c puts in the packet of a read.
 */
#include "base/alloc.h"
#include "base/wide.h"
#include "reactor/win.h"

#include <sddl.h>
#include <string.h>

#define PREFIX "\\\\.\\pipe\\"
#define INSTANCES 8
#define BUFFER ((DWORD)64 * 1024)

/* winternl.h has neither. */
NTSTATUS NTAPI NtReadFile(HANDLE, HANDLE, PIO_APC_ROUTINE, PVOID, PIO_STATUS_BLOCK, PVOID, ULONG,
                          PLARGE_INTEGER, PULONG);
typedef struct pipe_state { /* FILE_PIPE_LOCAL_INFORMATION */
    ULONG type, configuration, max, instances, in_quota, in, out_quota, out, state, end;
} pipe_state;
enum { STATE_CONNECTED = 3, STATE_CLOSING = 4 /* the client has gone, its bytes may be there */ };

typedef struct nl_pipe {
    nl_winfd fd; /* first */
    nl_addr name;
    bool server;
    bool waiting; /* an instance that was not handed out yet */
    void *out;    /* what the write under way writes */
} nl_pipe;

typedef struct nl_pipe_listener {
    nl_winfd fd; /* first */
    nl_addr name;
    nl_pipe *instance[INSTANCES]; /* under fd.lock; NULL: it could not be made, or was cut */
    bool over;
} nl_pipe_listener;

static int last_error(void)
{
    return -nl_win_errno(GetLastError());
}

bool nl_pipe_named(const nl_addr *a)
{
    return nl_addr_family(a) == 1 && strncasecmp(nl_unix_path(a), PREFIX, sizeof(PREFIX) - 1) == 0;
}

static nl_pipe *pipe_new(HANDLE h, const nl_addr *name, bool server)
{
    nl_pipe *p = (nl_pipe *)nl_calloc(sizeof(*p));
    nl_winfd_init(&p->fd, NL_WIN_PIPE, h);
    p->name = *name;
    p->server = p->waiting = server;
    SetFileCompletionNotificationModes(h, FILE_SKIP_COMPLETION_PORT_ON_SUCCESS);
    return p;
}

/* --- Listening -------------------------------------------------------------------------------- */

/* For this user, the system and administrators, as a Unix socket is its owner's and root's. */
static const wchar_t access[] = L"D:P(A;;GA;;;OW)(A;;GA;;;SY)(A;;GA;;;BA)";

static int instance_new(nl_pipe **out, const nl_addr *name, DWORD first)
{
    SECURITY_ATTRIBUTES sa = {.nLength = sizeof(sa)};
    *out = NULL;
    if (!ConvertStringSecurityDescriptorToSecurityDescriptorW(access, SDDL_REVISION_1,
                                                              &sa.lpSecurityDescriptor, NULL)) {
        return last_error();
    }
    wchar_t *wide = nl_to_wide(nl_unix_path(name));
    HANDLE h = CreateNamedPipeW(wide, PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED | first,
                                PIPE_TYPE_BYTE | PIPE_REJECT_REMOTE_CLIENTS, PIPE_UNLIMITED_INSTANCES, BUFFER,
                                BUFFER, 0, &sa);
    int err = h == INVALID_HANDLE_VALUE ? last_error() : 0;
    nl_free(wide);
    LocalFree(sa.lpSecurityDescriptor);
    if (!err) {
        *out = pipe_new(h, name, true);
    }
    return err;
}

/* wine makes a first instance of a name that has one. */
static bool in_use(const nl_addr *name)
{
    wchar_t *wide = nl_to_wide(nl_unix_path(name));
    bool used = WaitNamedPipeW(wide, 1) || GetLastError() == ERROR_SEM_TIMEOUT;
    nl_free(wide);
    return used;
}

int nl_pipe_listen(nl_fd *out, const nl_addr *a)
{
    nl_pipe *first;
    if (in_use(a)) {
        return -EADDRINUSE;
    }
    int err = instance_new(&first, a, FILE_FLAG_FIRST_PIPE_INSTANCE);
    if (err) {
        return err == -EACCES ? -EADDRINUSE : err; /* what Windows says of a second first one */
    }
    nl_pipe_listener *l = (nl_pipe_listener *)nl_calloc(sizeof(*l));
    nl_winfd_init(&l->fd, NL_WIN_PIPE_LISTENER, INVALID_HANDLE_VALUE);
    l->name = *a;
    l->instance[0] = first;
    for (int i = 1; i < INSTANCES; i++) {
        instance_new(&l->instance[i], a, 0); /* if it fails, accept tries again */
    }
    *out = (nl_fd)l;
    return 0;
}

int nl_pipe_each(nl_winfd *listener, int (*fn)(nl_reactor *, nl_fd, uint64_t), nl_reactor *r, uint64_t tag)
{
    nl_pipe_listener *l = (nl_pipe_listener *)listener;
    int err = 0;
    nl_mutex_lock(l->fd.lock);
    for (int i = 0; i < INSTANCES && !err; i++) {
        err = l->instance[i] ? fn(r, (nl_fd)l->instance[i], tag) : 0;
    }
    nl_mutex_unlock(l->fd.lock);
    return err;
}

static bool has_client(const nl_pipe *p)
{
    IO_STATUS_BLOCK io;
    pipe_state s = {.state = 0};
    NTSTATUS status = NtQueryInformationFile(p->fd.handle, &io, &s, sizeof(s),
                                             (FILE_INFORMATION_CLASS)FilePipeLocalInformation);
    return status == 0 && (s.state == STATE_CONNECTED || s.state == STATE_CLOSING);
}

/* An instance that waits, watched with the listener. */
static void renew_locked(nl_pipe_listener *l, int i)
{
    uint64_t tag = atomic_load(&l->fd.tag);
    if (!l->over && instance_new(&l->instance[i], &l->name, 0) == 0 && tag) {
        nl_reactor_attach(l->fd.reactor, (nl_fd)l->instance[i], tag);
    }
}

static nl_pipe *take_locked(nl_pipe_listener *l)
{
    for (int i = 0; i < INSTANCES; i++) {
        nl_pipe *p = l->instance[i];
        if (!p) {
            renew_locked(l, i);
        } else if (has_client(p)) {
            nl_reactor_detach(l->fd.reactor, (nl_fd)p, atomic_load(&l->fd.tag));
            p->waiting = false;
            l->instance[i] = NULL;
            renew_locked(l, i);
            return p;
        }
    }
    return NULL;
}

int nl_pipe_accept(nl_fd *out, nl_winfd *listener, nl_addr *peer)
{
    nl_pipe_listener *l = (nl_pipe_listener *)listener;
    nl_mutex_lock(l->fd.lock);
    nl_pipe *p = take_locked(l);
    bool over = l->over;
    nl_mutex_unlock(l->fd.lock);
    if (!p) {
        return over ? -EINVAL : NL_AGAIN;
    }
    if (peer) {
        nl_pipe_remote(&p->fd, peer);
    }
    *out = (nl_fd)p;
    return 0;
}

int nl_pipe_connect(nl_fd *out, const nl_addr *a)
{
    wchar_t *wide = nl_to_wide(nl_unix_path(a));
    /* The server may ask who we are, not act in our name. */
    HANDLE h = CreateFileW(wide, GENERIC_READ | GENERIC_WRITE, 0, NULL, OPEN_EXISTING,
                           FILE_FLAG_OVERLAPPED | SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION, NULL);
    int err = h == INVALID_HANDLE_VALUE ? last_error() : 0;
    nl_free(wide);
    if (!err) {
        *out = (nl_fd)pipe_new(h, a, false);
    }
    return err;
}

/* --- Bytes ------------------------------------------------------------------------------------ */

bool nl_pipe_start_read(nl_winfd *w)
{
    BOOL done = ((nl_pipe *)w)->waiting ? ConnectNamedPipe(w->handle, &w->read.ov)
                                        : ReadFile(w->handle, &w->poll, 0, NULL, &w->read.ov);
    if (!done && GetLastError() == ERROR_IO_PENDING) {
        return true;
    }
    w->read.ov.Internal = done ? 0 : NL_WIN_FAILED;
    return false;
}

intptr_t nl_pipe_read(nl_winfd *w, void *buf, size_t n)
{
    DWORD there = 0;
    IO_STATUS_BLOCK io;
    if (!PeekNamedPipe(w->handle, NULL, 0, NULL, &there, NULL)) {
        DWORD err = GetLastError();
        return err == ERROR_BROKEN_PIPE          ? 0
               : err == ERROR_PIPE_NOT_CONNECTED ? -ECONNRESET
                                                 : -nl_win_errno(err);
    }
    if (there == 0) {
        return NL_AGAIN;
    }
    /* Without a context there is no packet.  Only the owner reads, so the bytes are still there. */
    NTSTATUS status =
        NtReadFile(w->handle, NULL, NULL, NULL, &io, buf, n < there ? (ULONG)n : there, NULL, NULL);
    nl_assert(status != (NTSTATUS)STATUS_PENDING, "what is there is read at once");
    if (status) {
        return -nl_win_errno(RtlNtStatusToDosError(status));
    }
    return io.Information ? (intptr_t)io.Information : NL_AGAIN; /* somebody has written no bytes */
}

static void *gather(const nl_iov *iov, int n, size_t max, DWORD *total)
{
    size_t sum = 0;
    for (int i = 0; i < n; i++) {
        sum += iov[i].len;
    }
    sum = sum < max ? sum : max;
    char *buf = (char *)nl_malloc(sum ? sum : 1);
    *total = (DWORD)sum;
    for (size_t done = 0; done < sum; iov++) {
        size_t len = iov->len < sum - done ? iov->len : sum - done;
        memcpy(buf + done, iov->base, len);
        done += len;
    }
    return buf;
}

void nl_pipe_written(nl_winfd *w)
{
    nl_pipe *p = (nl_pipe *)w;
    nl_free(p->out);
    p->out = NULL;
}

/* A write is over that makes no packet: it was, from the start, or no reactor watches the pipe. */
static void end_write(nl_winfd *w)
{
    nl_pipe_written(w);
    atomic_store(&w->write.pending, false);
    atomic_fetch_sub_explicit(&w->refs, 1, memory_order_relaxed); /* the caller's is left */
}

intptr_t nl_pipe_writev(nl_winfd *w, const nl_iov *iov, int n)
{
    nl_pipe *p = (nl_pipe *)w;
    DWORD total;
    if (!w->reactor && atomic_load(&w->write.pending) && HasOverlappedIoCompleted(&w->write.ov)) {
        end_write(w);
    }
    if (atomic_exchange(&w->write.pending, true)) {
        return NL_AGAIN;
    }
    atomic_fetch_add_explicit(&w->refs, 1, memory_order_relaxed);
    w->write.ov = (OVERLAPPED){.Internal = 0};
    p->out = gather(iov, n, BUFFER, &total);
    if (WriteFile(w->handle, p->out, total, NULL, &w->write.ov)) {
        end_write(w);
    } else if (GetLastError() != ERROR_IO_PENDING) {
        int err = last_error();
        end_write(w);
        return err;
    }
    return (intptr_t)total;
}

/* --- The end ---------------------------------------------------------------------------------- */

/* A pipe has no half close: the end of what is written is the close, after the write under way. */
int nl_pipe_shutdown_write(nl_winfd *w)
{
    return atomic_load(&w->write.pending) ? NL_AGAIN : -EOPNOTSUPP;
}

static void close_instances(nl_pipe_listener *l)
{
    nl_mutex_lock(l->fd.lock);
    l->over = true;
    for (int i = 0; i < INSTANCES; i++) {
        if (l->instance[i]) {
            nl_reactor_detach(l->fd.reactor, (nl_fd)l->instance[i], atomic_load(&l->fd.tag));
            nl_sock_close((nl_fd)l->instance[i]);
            l->instance[i] = NULL;
        }
    }
    nl_mutex_unlock(l->fd.lock);
}

void nl_pipe_cut(nl_winfd *w)
{
    if (w->kind == NL_WIN_PIPE_LISTENER) {
        close_instances((nl_pipe_listener *)w);
    } else if (((nl_pipe *)w)->server) {
        DisconnectNamedPipe(w->handle); /* only a close ends a client's end */
    }
}

void nl_pipe_close(nl_winfd *w)
{
    if (w->kind == NL_WIN_PIPE_LISTENER) {
        close_instances((nl_pipe_listener *)w);
        return;
    }
    if (w->reset && ((nl_pipe *)w)->server) {
        DisconnectNamedPipe(w->handle); /* discards what the client has not read */
    }
    if (w->reset || !atomic_load(&w->write.pending)) {
        nl_winfd_close_handle(w);
    }
}

/* --- Addresses -------------------------------------------------------------------------------- */

int nl_pipe_local(nl_winfd *w, nl_addr *out)
{
    nl_pipe *p = (nl_pipe *)w;
    *out = w->kind == NL_WIN_PIPE_LISTENER ? ((nl_pipe_listener *)w)->name : p->name;
    if (w->kind == NL_WIN_PIPE && !p->server) {
        out->len = offsetof(struct sockaddr_un, sun_path); /* a client's end has no name */
    }
    return 0;
}

int nl_pipe_remote(nl_winfd *w, nl_addr *out)
{
    nl_pipe *p = (nl_pipe *)w;
    if (w->kind == NL_WIN_PIPE_LISTENER) {
        return -ENOTCONN;
    }
    *out = p->name;
    if (p->server) {
        out->len = offsetof(struct sockaddr_un, sun_path);
    }
    return 0;
}

/*
 * afd.h - readiness of a socket by AFD, the driver below Winsock.
 *
 * Purpose:   a request that AFD answers once the socket can accept, has room, or has connected.  It
 *            is not documented, but libuv, mio and wepoll build on it, so Windows keeps it.
 * Threads:   any.
 * Ownership: the caller keeps request and status block in memory until the answer has come.
 *
 * One request per socket at a time.  Windows mixes up the answers of two, even where they come from
 * different ports, and then one of them never ends.  (wine does not, so no test here shows it.)
 */
#ifndef NL_AFD_H
#define NL_AFD_H

#include "base/winerr.h"
#include "reactor/sockaddr.h"

#include <winternl.h>

enum {
    AFD_POLL_SEND = 0x4,
    AFD_POLL_ABORT = 0x10, /* the peer's reset */
    AFD_POLL_CONNECT = 0x40,
    AFD_POLL_ACCEPT = 0x80,
    AFD_POLL_CONNECT_FAIL = 0x100
};

typedef struct nl_afd_poll {
    LARGE_INTEGER timeout;
    ULONG count; /* of sockets */
    ULONG exclusive;
    HANDLE socket;
    ULONG events;
    NTSTATUS status;
} nl_afd_poll;

/* A handle by which to ask. */
static inline int nl_afd_open(HANDLE *out)
{
    static const wchar_t name[] = L"\\Device\\Afd\\nl-jit";
    UNICODE_STRING text = {sizeof(name) - sizeof(*name), sizeof(name), (wchar_t *)(uintptr_t)name};
    OBJECT_ATTRIBUTES at = {.Length = sizeof(at), .ObjectName = &text};
    IO_STATUS_BLOCK io;
    NTSTATUS status = NtCreateFile(out, SYNCHRONIZE, &at, &io, NULL, 0, FILE_SHARE_READ | FILE_SHARE_WRITE,
                                   FILE_OPEN, 0, NULL, 0);
    return status ? -nl_win_errno(RtlNtStatusToDosError(status)) : 0;
}

/* The packet names ov.  False: there will be none. */
static inline bool nl_afd_ask(HANDLE afd, HANDLE socket, ULONG events, nl_afd_poll *poll, OVERLAPPED *ov)
{
    *poll = (nl_afd_poll){.timeout.QuadPart = INT64_MAX, .count = 1, .socket = socket, .events = events};
    NTSTATUS status = NtDeviceIoControlFile(afd, NULL, NULL, ov, (IO_STATUS_BLOCK *)(void *)ov, 0x12024, poll,
                                            sizeof(*poll), poll, sizeof(*poll));
    return status == 0 || status == (NTSTATUS)STATUS_PENDING;
}

#endif

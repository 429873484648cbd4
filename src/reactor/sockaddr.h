/*
 * sockaddr.h - an nl_addr as the system's struct sockaddr.
 *
 * Purpose:   what the implementations of addr.h and sock.h share on all systems.
 * Threads:   no state; any thread.
 * Ownership: nothing.
 */
#ifndef NL_SOCKADDR_H
#define NL_SOCKADDR_H

#include "reactor/addr.h"

#ifdef _WIN32
/* winsock2.h before windows.h, which has an older one. */
#include <winsock2.h>
#include <ws2tcpip.h>

#include <afunix.h>
#include <netioapi.h>
#else
#include <arpa/inet.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#endif

static inline struct sockaddr *nl_sockaddr(nl_addr *a)
{
    return (struct sockaddr *)(void *)a->u.bytes;
}

static inline const struct sockaddr *nl_csockaddr(const nl_addr *a)
{
    return (const struct sockaddr *)(const void *)a->u.bytes;
}

/* The path of a Unix socket's address, or the name of a pipe. */
static inline const char *nl_unix_path(const nl_addr *a)
{
    return ((const struct sockaddr_un *)(const void *)a->u.bytes)->sun_path;
}

#endif

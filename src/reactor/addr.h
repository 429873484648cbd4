/*
 * addr.h - addresses of sockets: numeric, Unix domain, and names the system's resolver knows.
 *
 * Purpose:   makes an address from text and text from an address; one implementation for
 *            all systems (addr.c, names.c).
 * Threads:   no state; any thread may call any of it.  nl_addr_resolve blocks.
 * Ownership: an nl_addr is a plain value of the caller; it holds no memory of others.
 */
#ifndef NL_ADDR_H
#define NL_ADDR_H

#include "base/base.h"

/* An address of any family.  text is "1.2.3.4", "::1" or a path. */
typedef struct nl_addr {
    unsigned len;
    union {
        uint64_t align;
        unsigned char bytes[128];
    } u;
} nl_addr;

/* Numeric address of the family (4, 6) + port.  -EINVAL when the text is no such address. */
int nl_addr_ip(nl_addr *out, int family, const char *text, int port);
/*
 * Unix domain socket path; -ENAMETOOLONG.  A leading '@' names a Linux abstract socket.  On Windows
 * \\.\pipe\NAME is a named pipe, which is used like one.
 */
int nl_addr_unix(nl_addr *out, const char *path);
void nl_addr_set_port(nl_addr *a, int port);
/* 4, 6, or 1 for a Unix socket; 0 unspecified */
int nl_addr_family(const nl_addr *a);
int nl_addr_port(const nl_addr *a); /* 0 for a Unix socket */
/* Writes its text, without the port; buf of at least 128 bytes. */
void nl_addr_text(const nl_addr *a, char *buf, size_t size);

/*
 * Host names, all with the same arguments: family 4 or 6; fills out[0..max) with the port set;
 * returns the count, or -NL_EHOST for a name that is known not to exist, or -errno.
 *
 * known: what nobody has to be asked for, at most one: a numeric address, or localhost and what
 * ends in .localhost, which are the loopback whatever any table says (RFC 6761).  0: do ask.
 */
int nl_addr_known(nl_addr *out, int family, const char *host, int port);
/* From the hosts file, if the system uses it before name servers.  0: not in it. */
int nl_addr_hosts_file(nl_addr *out, int max, int family, const char *host, int port);
/* By whatever the system asks.  May block for many seconds, so never on a worker.  Never 0. */
int nl_addr_resolve(nl_addr *out, int max, int family, const char *host, int port);

#endif

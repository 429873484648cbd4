/*
 * resolver.h - host names, off the workers: up to NL_RESOLVER_THREADS helper threads, made on
 * demand, asleep when there is nothing to do.
 */
#ifndef NL_RESOLVER_H
#define NL_RESOLVER_H

#include "reactor/sock.h"
#include "sched/msg.h"

#define NL_RESOLVER_THREADS 4
#define NL_RESOLVER_ADDRS 16

typedef struct nl_resolve {
    nl_msg msg;   /* posted to ctx when done (ops set by the caller); dropped if ctx is gone */
    uint64_t ctx; /* handle */
    int family;   /* 4 or 6 */
    int port;
    int count; /* out: addresses, or -NL_EHOST / -errno */
    nl_addr addr[NL_RESOLVER_ADDRS];
    struct nl_resolve *next;
    char host[256];
} nl_resolve;

/* Queues r (caller-allocated, the caller's again when msg runs or drops).  0, -ENAMETOOLONG is the caller's to check. */
void nl_resolver_submit(nl_resolve *r);
/* What looks names up, with the signature and results of nl_addr_resolve, which it is; a test puts its own here. */
extern int (*nl_resolver_lookup)(nl_addr *out, int max, int family, const char *host, int port);
/* Ends the threads; queued requests are dropped.  A getaddrinfo under way is abandoned after a bounded wait. */
void nl_resolver_fini(void);

#endif

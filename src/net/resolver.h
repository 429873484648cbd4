/*
 * resolver.h - host names, looked up off the workers.
 *
 * Purpose:   one helper thread reads the hosts file, up to NL_RESOLVER_THREADS more ask the
 *            system's resolver, which may take many seconds.  So a name that the hosts file answers
 *            never waits for one that it does not.  Requests for the same name and family share one
 *            look-up.  The threads are made on demand and sleep while there is nothing to do.
 * Threads:   submit and cancel on any thread; fini when no worker runs any more.
 * Ownership: a request is its caller's memory.  It stays until its message has run or was dropped,
 *            or until nl_resolver_cancel has said true.
 */
#ifndef NL_RESOLVER_H
#define NL_RESOLVER_H

#include "base/list.h"
#include "reactor/sock.h"
#include "sched/msg.h"

#define NL_RESOLVER_THREADS 16
#define NL_RESOLVER_ADDRS 16

typedef struct nl_resolve {
    nl_msg msg;   /* the caller sets ops; posted to ctx, or dropped on any thread if ctx is gone */
    uint64_t ctx; /* handle */
    int family;   /* 4 or 6 */
    int port;
    int count; /* out: addresses, or -NL_EHOST / -errno */
    nl_addr addr[NL_RESOLVER_ADDRS];
    nl_list node;           /* among those that wait for query */
    struct nl_query *query; /* resolver.c; NULL: none, or its message is on the way */
    char host[256];
} nl_resolve;

void nl_resolver_submit(nl_resolve *r);
/*
 * Nobody waits for r any more: a look-up that has not begun and that nobody else wants is dropped.
 * True: the message will not come.  False: it is on its way, or has come.
 */
bool nl_resolver_cancel(nl_resolve *r);
/* What asks the system's resolver: nl_addr_resolve; a test puts its own here. */
extern int (*nl_resolver_lookup)(nl_addr *out, int max, int family, const char *host, int port);
/* Ends the threads; requests are dropped.  A look-up under way is left behind after 200 ms. */
void nl_resolver_fini(void);

#endif

/*
 * names.c - the names in addr.h, on every system.
 */
#include "reactor/addr.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "reactor/sockaddr.h"

static bool valid(int family, int port)
{
    return (family == 4 || family == 6) && port >= 0 && port <= 65535;
}

/* Appends *a to the n addresses of the list, unless it is among them; returns their number. */
static int add(nl_addr *list, int n, const nl_addr *a)
{
    for (int i = 0; i < n; i++) {
        if (list[i].len == a->len && memcmp(list[i].u.bytes, a->u.bytes, a->len) == 0) {
            return n;
        }
    }
    list[n] = *a;
    return n + 1;
}

/* --- What needs nobody's answer --------------------------------------------------------------- */

static bool is_localhost(const char *host)
{
    static const char name[] = "localhost";
    size_t n = strlen(host), len = sizeof(name) - 1;
    if (n > 0 && host[n - 1] == '.') {
        n--;
    }
    return n >= len && strncasecmp(host + n - len, name, len) == 0 && (n == len || host[n - len - 1] == '.');
}

/* The addresses of a family in getaddrinfo's answer. */
static int take(nl_addr *out, int max, int family, int port, const struct addrinfo *list)
{
    int n = 0;
    for (const struct addrinfo *ai = list; ai && n < max; ai = ai->ai_next) {
        nl_addr a = {0};
        if (ai->ai_family == (family == 4 ? AF_INET : AF_INET6) && ai->ai_addrlen <= sizeof(a.u.bytes)) {
            memcpy(a.u.bytes, ai->ai_addr, ai->ai_addrlen);
            a.len = (unsigned)ai->ai_addrlen;
            nl_addr_set_port(&a, port);
            n = add(out, n, &a);
        }
    }
    return n;
}

int nl_addr_known(nl_addr *out, int family, const char *host, int port)
{
    if (!valid(family, port)) {
        return -EINVAL;
    }
    if (is_localhost(host)) {
        host = family == 4 ? "127.0.0.1" : "::1";
    }
    if (nl_addr_ip(out, family, host, port) == 0) {
        return 1;
    }
    /* The system knows more ways to write one: 127.1, 0x7f000001. */
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM}, *list;
    if (getaddrinfo(host, NULL, &hints, &list) != 0) {
        return strchr(host, ':') ? -NL_EHOST : 0; /* no name has a colon */
    }
    int n = take(out, 1, family, port, list);
    freeaddrinfo(list);
    return n ? n : -NL_EHOST;
}

/* --- The hosts file --------------------------------------------------------------------------- */

/* The end of a line that is longer is read as a line of its own. */
#define LINE_SIZE 8192
#define BLANK " \t\r\n"

/* The first word of f's next line, NULL if it has none; a comment is none.  False: no line. */
static bool next_line(FILE *f, char *line, int size, char **first, char **rest)
{
    if (!f || !fgets(line, size, f)) {
        return false;
    }
    line[strcspn(line, "#")] = '\0';
    *first = strtok_r(line, BLANK, rest);
    return true;
}

#ifdef _WIN32

/* NULL: there is none.  Windows has no name server asked before it. */
static FILE *open_hosts_file(void)
{
    char path[MAX_PATH];
    const char *root = getenv("SystemRoot");
    int n = snprintf(path, sizeof(path), "%s\\System32\\drivers\\etc\\hosts", root ? root : "");
    return n < (int)sizeof(path) ? fopen(path, "r") : NULL;
}

#else

/* False: nsswitch.conf has a name server asked first, or the hosts file not used at all. */
static bool hosts_file_first(void)
{
    bool first = true;
    char line[LINE_SIZE], *word, *rest;
    FILE *f = fopen("/etc/nsswitch.conf", "re");
    while (next_line(f, line, sizeof(line), &word, &rest)) {
        if (word && strcmp(word, "hosts:") == 0) {
            do {
                word = strtok_r(NULL, BLANK, &rest);
                first = word && strcmp(word, "files") == 0;
            } while (word && !first && !strstr(word, "dns"));
        }
    }
    if (f) {
        fclose(f);
    }
    return first;
}

/* NULL: there is none, or a name server is asked before it. */
static FILE *open_hosts_file(void)
{
    return hosts_file_first() ? fopen("/etc/hosts", "re") : NULL;
}

#endif

int nl_addr_hosts_file(nl_addr *out, int max, int family, const char *host, int port)
{
    int n = 0;
    char line[LINE_SIZE], *text, *name, *rest;
    if (!valid(family, port)) {
        return -EINVAL;
    }
    FILE *f = open_hosts_file();
    while (n < max && next_line(f, line, sizeof(line), &text, &rest)) {
        nl_addr a;
        while (text && (name = strtok_r(NULL, BLANK, &rest))) {
            if (strcasecmp(name, host) == 0 && nl_addr_ip(&a, family, text, port) == 0) {
                n = add(out, n, &a);
                break;
            }
        }
    }
    if (f) {
        fclose(f);
    }
    return n;
}

/* --- The system's resolver -------------------------------------------------------------------- */

static int resolve_error(int rc)
{
    switch (rc) {
#ifdef EAI_SYSTEM
    case EAI_SYSTEM:
        return errno && errno != EAGAIN ? -errno : -NL_EHOST;
#endif
    case EAI_MEMORY:
        return -ENOMEM;
    default:
        /* Also for EAI_AGAIN, when no name server answers: -EAGAIN would read as NL_AGAIN. */
        return -NL_EHOST;
    }
}

int nl_addr_resolve(nl_addr *out, int max, int family, const char *host, int port)
{
    int n = nl_addr_known(out, family, host, port);
    if (n || host[0] == '\0') { /* Windows takes no name for this machine's */
        return n ? n : -NL_EHOST;
    }
    struct addrinfo hints = {.ai_family = family == 4 ? AF_INET : AF_INET6, .ai_socktype = SOCK_STREAM},
                    *list;
    errno = 0;
    int rc = getaddrinfo(host, NULL, &hints, &list);
    if (rc != 0) {
        return resolve_error(rc);
    }
    n = take(out, max, family, port, list);
    freeaddrinfo(list);
    return n > 0 ? n : -NL_EHOST;
}

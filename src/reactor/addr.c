/*
 * addr.c - addr.h on every system.
 */
#include "reactor/addr.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "reactor/sockaddr.h"

_Static_assert(sizeof(((nl_addr *)0)->u) >= sizeof(struct sockaddr_storage) ||
                   (sizeof(((nl_addr *)0)->u) >= sizeof(struct sockaddr_un) &&
                    sizeof(((nl_addr *)0)->u) >= sizeof(struct sockaddr_in6)),
               "an nl_addr holds every address");

/* The BSDs keep an address's length in it, too. */
static void set_len(nl_addr *a, size_t len)
{
    a->len = (unsigned)len;
#if defined(__APPLE__) || defined(__FreeBSD__) || defined(__OpenBSD__) || defined(__NetBSD__) ||             \
    defined(__DragonFly__)
    nl_sockaddr(a)->sa_len = (unsigned char)len;
#endif
}

/* "fe80::1%eth0": the interface, by name or number; 0 if there is no such one. */
static uint32_t scope_of(const char *text)
{
    char *end;
    unsigned index = if_nametoindex(text);
    if (index) {
        return index;
    }
    unsigned long n = strtoul(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0' && n <= UINT32_MAX ? (uint32_t)n : 0;
}

int nl_addr_ip(nl_addr *out, int family, const char *text, int port)
{
    memset(out, 0, sizeof(*out));
    if (port < 0 || port > 65535) {
        return -EINVAL;
    }
    if (family == 4) {
        struct sockaddr_in *in = (struct sockaddr_in *)(void *)out->u.bytes;
        if (inet_pton(AF_INET, text, &in->sin_addr) != 1) {
            return -EINVAL;
        }
        in->sin_family = AF_INET;
        in->sin_port = htons((uint16_t)port);
        set_len(out, sizeof(*in));
        return 0;
    }
    if (family == 6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)out->u.bytes;
        char host[INET6_ADDRSTRLEN];
        const char *percent = strchr(text, '%');
        size_t n = percent ? (size_t)(percent - text) : strlen(text);
        if (n >= sizeof(host)) {
            return -EINVAL;
        }
        memcpy(host, text, n);
        host[n] = '\0';
        if (inet_pton(AF_INET6, host, &in6->sin6_addr) != 1) {
            return -EINVAL;
        }
        if (percent) {
            in6->sin6_scope_id = scope_of(percent + 1);
            if (in6->sin6_scope_id == 0) {
                return -EINVAL;
            }
        }
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons((uint16_t)port);
        set_len(out, sizeof(*in6));
        return 0;
    }
    return -EINVAL;
}

int nl_addr_unix(nl_addr *out, const char *path)
{
    struct sockaddr_un *un = (struct sockaddr_un *)(void *)out->u.bytes;
    size_t n = strlen(path);
    memset(out, 0, sizeof(*out));
    if (n == 0) {
        return -EINVAL;
    }
    if (n >= sizeof(un->sun_path)) {
        return -ENAMETOOLONG;
    }
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, n);
#ifdef __linux__
    if (path[0] == '@') { /* abstract: every byte counts, and there is no end mark */
        un->sun_path[0] = '\0';
        set_len(out, offsetof(struct sockaddr_un, sun_path) + n);
        return 0;
    }
#endif
    set_len(out, offsetof(struct sockaddr_un, sun_path) + n + 1);
    return 0;
}

void nl_addr_set_port(nl_addr *a, int port)
{
    if (nl_csockaddr(a)->sa_family == AF_INET) {
        ((struct sockaddr_in *)(void *)a->u.bytes)->sin_port = htons((uint16_t)port);
    } else if (nl_csockaddr(a)->sa_family == AF_INET6) {
        ((struct sockaddr_in6 *)(void *)a->u.bytes)->sin6_port = htons((uint16_t)port);
    }
}

int nl_addr_family(const nl_addr *a)
{
    if (a->len == 0) {
        return 0;
    }
    switch (nl_csockaddr(a)->sa_family) {
    case AF_INET:
        return 4;
    case AF_INET6:
        return 6;
    case AF_UNIX:
        return 1;
    default:
        return 0;
    }
}

int nl_addr_port(const nl_addr *a)
{
    switch (nl_addr_family(a)) {
    case 4:
        return ntohs(((const struct sockaddr_in *)(const void *)a->u.bytes)->sin_port);
    case 6:
        return ntohs(((const struct sockaddr_in6 *)(const void *)a->u.bytes)->sin6_port);
    default:
        return 0;
    }
}

static void unix_text(const nl_addr *a, char *buf, size_t size)
{
    const struct sockaddr_un *un = (const struct sockaddr_un *)(const void *)a->u.bytes;
    size_t at = offsetof(struct sockaddr_un, sun_path);
    size_t n = a->len > at ? a->len - at : 0; /* 0: the unnamed end of a connection */
    if (n > 0 && un->sun_path[0] == '\0') {
        snprintf(buf, size, "@%.*s", (int)n - 1, un->sun_path + 1);
    } else {
        snprintf(buf, size, "%.*s", (int)n, un->sun_path);
    }
}

void nl_addr_text(const nl_addr *a, char *buf, size_t size)
{
    buf[0] = '\0';
    switch (nl_addr_family(a)) {
    case 4:
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)a->u.bytes)->sin_addr, buf,
                  (socklen_t)size);
        break;
    case 6: {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)a->u.bytes;
        inet_ntop(AF_INET6, &in6->sin6_addr, buf, (socklen_t)size);
        if (in6->sin6_scope_id) {
            size_t n = strlen(buf);
            snprintf(buf + n, size - n, "%%%u", (unsigned)in6->sin6_scope_id);
        }
        break;
    }
    case 1:
        unix_text(a, buf, size);
        break;
    default:
        break;
    }
}

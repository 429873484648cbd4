/* Addresses: text to address and back, and the system's resolver. */
#include "reactor/sock.h"
#include "reactor/sockaddr.h"

#include <criterion/criterion.h>
#include <string.h>

static nl_addr ip(int family, const char *text, int port)
{
    nl_addr a;
    cr_assert_eq(nl_addr_ip(&a, family, text, port), 0, "%s", text);
    return a;
}

Test(addr, ip_and_back)
{
    static const struct {
        int family;
        const char *text, *back;
    } good[] = {
        {4, "127.0.0.1", "127.0.0.1"},
        {4, "0.0.0.0", "0.0.0.0"},
        {4, "255.255.255.255", "255.255.255.255"},
        {6, "::1", "::1"},
        {6, "::", "::"},
        {6, "2001:DB8:0:0::1", "2001:db8::1"},
        {6, "fe80::1%1", "fe80::1%1"},
#ifndef _WIN32 /* interfaces have other names there */
        {6, "fe80::1%lo", "fe80::1%1"},
#endif
    };
    for (size_t i = 0; i < nl_countof(good); i++) {
        char text[128];
        nl_addr a = ip(good[i].family, good[i].text, 65535);
        nl_addr_text(&a, text, sizeof(text));
        cr_assert_str_eq(text, good[i].back);
        cr_assert_eq(nl_addr_family(&a), good[i].family);
        cr_assert_eq(nl_addr_port(&a), 65535);
        nl_addr_set_port(&a, 258);
        cr_assert_eq(nl_addr_port(&a), 258);
    }
}

Test(addr, no_such_ip)
{
    static const struct {
        int family, port;
        const char *text;
    } bad[] = {
        {4, 1, ""},
        {4, 1, "::1"},
        {4, 1, "1.2.3"},
        {4, 1, "1.2.3.4.5"},
        {4, 1, "256.1.1.1"},
        {4, 1, "localhost"},
        {4, 1, "1.2.3.4 "},
        {4, -1, "1.2.3.4"},
        {4, 65536, "1.2.3.4"},
        {6, 1, "127.0.0.1"},
        {6, 1, ""},
        {6, 1, ":::"},
        {6, 1, "fe80::1%"},
        {6, 1, "fe80::1%nosuchif"},
        {5, 1, "1.2.3.4"},
        {6, 1, "fe80::1%-1"},
        {6, 1, "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc:dddd:eeee:ffff"},
    };
    for (size_t i = 0; i < nl_countof(bad); i++) {
        nl_addr a;
        cr_assert_eq(nl_addr_ip(&a, bad[i].family, bad[i].text, bad[i].port), -EINVAL, "'%s'", bad[i].text);
    }
}

Test(addr, unix_and_back)
{
    static const char *good[] = {"x", "/tmp/some.sock",
#ifdef __linux__
                                 "@abstract", "@"
#endif
    };
    for (size_t i = 0; i < nl_countof(good); i++) {
        char text[128];
        nl_addr a;
        cr_assert_eq(nl_addr_unix(&a, good[i]), 0);
        cr_assert_eq(nl_addr_family(&a), 1);
        cr_assert_eq(nl_addr_port(&a), 0);
        nl_addr_text(&a, text, sizeof(text));
        cr_assert_str_eq(text, good[i]);
    }
}

Test(addr, unix_path_length)
{
    char path[200], text[128];
    size_t room = sizeof(((struct sockaddr_un *)0)->sun_path);
    nl_addr a;
    memset(path, 'p', sizeof(path));
    path[room] = '\0';
    cr_assert_eq(nl_addr_unix(&a, path), -ENAMETOOLONG);
    path[room - 1] = '\0';
    cr_assert_eq(nl_addr_unix(&a, path), 0);
    nl_addr_text(&a, text, sizeof(text));
    cr_assert_str_eq(text, path);
    cr_assert_eq(nl_addr_unix(&a, ""), -EINVAL);
}

Test(addr, unspecified)
{
    char text[128] = "x";
    nl_addr a = {0, {0}};
    cr_assert_eq(nl_addr_family(&a), 0);
    cr_assert_eq(nl_addr_port(&a), 0);
    nl_addr_text(&a, text, sizeof(text));
    cr_assert_str_eq(text, "");
    nl_fd fd;
    cr_assert_eq(nl_sock_listen(&fd, &a, &(struct nl_listen_opts){0, false}), -EINVAL);
    cr_assert_eq(nl_sock_connect(&fd, &a), -EINVAL);
    cr_assert_eq(fd, NL_FD_NONE);
}

Test(addr, resolve_localhost)
{
    nl_addr a[8];
    char text[128];
    int n = nl_addr_resolve(a, 8, 4, "localhost", 80);
    cr_assert_geq(n, 1, "%d", n);
    for (int i = 0; i < n; i++) {
        nl_addr_text(&a[i], text, sizeof(text));
        cr_assert_arr_eq(text, "127.", 4);
        cr_assert_eq(nl_addr_port(&a[i]), 80);
        for (int k = 0; k < i; k++) {
            cr_assert(memcmp(a[i].u.bytes, a[k].u.bytes, a[i].len) != 0, "the same address twice");
        }
    }
    cr_assert_eq(nl_addr_resolve(a, 1, 4, "127.0.0.1", 81), 1, "a numeric host");
    cr_assert_eq(nl_addr_port(&a[0]), 81);
    cr_assert_eq(nl_addr_resolve(a, 8, 6, "::1", 82), 1);
    nl_addr_text(&a[0], text, sizeof(text));
    cr_assert_str_eq(text, "::1");
}

Test(addr, resolve_refuses)
{
    nl_addr a[2];
    char longest[1100];
    memset(longest, 'h', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    cr_assert_eq(nl_addr_resolve(a, 2, 4, "::1", 80), -NL_EHOST, "of the other family");
    cr_assert_eq(nl_addr_resolve(a, 2, 4, "bad name with spaces", 80), -NL_EHOST);
    cr_assert_eq(nl_addr_resolve(a, 2, 4, longest, 80), -NL_EHOST);
    cr_assert_eq(nl_addr_resolve(a, 2, 4, "", 80), -NL_EHOST);
    cr_assert_eq(nl_addr_resolve(a, 2, 1, "localhost", 80), -EINVAL);
    cr_assert_eq(nl_addr_resolve(a, 2, 4, "localhost", 65536), -EINVAL);
}

/* What nobody has to be asked for. */
Test(addr, known)
{
    static const struct {
        int family;
        const char *host, *text;
    } known[] = {
        {4, "localhost", "127.0.0.1"},      {6, "localhost", "::1"},
        {4, "LocalHost.", "127.0.0.1"},     {6, "db.localhost", "::1"},
        {4, "a.b.localhost.", "127.0.0.1"}, {4, "127.1", "127.0.0.1"},
        {4, "0x7f000001", "127.0.0.1"},     {4, "192.0.2.7", "192.0.2.7"},
        {6, "2001:db8::7", "2001:db8::7"},
    };
    static const struct {
        int family;
        const char *host;
        int result;
    } others[] = {
        {4, "example.org", 0},       {6, "notlocalhost", 0}, {4, "localhost.example", 0},
        {4, "localhost..", 0},       {4, "::1", -NL_EHOST},  {6, "127.1", -NL_EHOST},
        {6, "127.0.0.1", -NL_EHOST}, {6, "a:b", -NL_EHOST},  {5, "localhost", -EINVAL},
    };
    nl_addr a;
    char text[128];
    for (size_t i = 0; i < nl_countof(known); i++) {
        cr_assert_eq(nl_addr_known(&a, known[i].family, known[i].host, 80), 1, "%s", known[i].host);
        nl_addr_text(&a, text, sizeof(text));
        cr_assert_str_eq(text, known[i].text);
        cr_assert_eq(nl_addr_port(&a), 80);
    }
    for (size_t i = 0; i < nl_countof(others); i++) {
        cr_assert_eq(nl_addr_known(&a, others[i].family, others[i].host, 80), others[i].result, "%s",
                     others[i].host);
    }
    cr_assert_eq(nl_addr_known(&a, 4, "localhost", 65536), -EINVAL);
}

/* Names and texts of error numbers. */
#include "base/base.h"
#include "base/err.h"
#include "base/os.h"

#include <criterion/criterion.h>
#include <string.h>

#ifdef __GLIBC__
/* The system knows best which numbers there are, and their names and texts. */
Test(err, linux_numbers)
{
    for (int i = 1; i < 200; i++) {
        const char *name = strerrorname_np(i);
        if (!name) {
            cr_assert_null(nl_errname(i), "%d has no name", i);
            continue;
        }
        cr_assert_not_null(nl_errname(i), "%d is %s", i, name);
        cr_assert_str_eq(nl_errname(i), name);
        cr_assert_str_eq(nl_strerror(i), strerror(i));
    }
}
#endif

Test(err, runtime_numbers)
{
    int n = 0;
#define CHECK(num, name, text)                                                                               \
    cr_assert_str_eq(nl_errname(num), #name);                                                                \
    cr_assert_str_eq(nl_strerror(num), text);                                                                \
    cr_assert_eq(NL_##name, num);                                                                            \
    cr_assert_eq(num, 200 + n, "numbers of the runtime have no gap");                                        \
    n++;
    NL_RUNTIME_ERRORS(CHECK)
#undef CHECK
    cr_assert_null(nl_errname(200 + n));
}

Test(err, enumeration_is_complete_and_unique)
{
    const char *names[256];
    bool seen[256] = {false};
    int n = 0, err = -1;
    for (const char *name; (name = nl_err_at(n, &err)); n++) {
        cr_assert_lt(n, 256);
        for (int i = 0; i < n; i++) {
            cr_assert_str_neq(names[i], name, "one name, one number");
        }
        names[n] = name;
        cr_assert(err > 0 && err < 256);
        cr_assert_not_null(nl_errname(err));
        cr_assert_not_null(nl_strerror(err));
        if (seen[err]) { /* an alias: not the name that its number has */
            cr_assert_str_neq(nl_errname(err), name);
        } else {
            cr_assert_str_eq(nl_errname(err), name);
        }
        seen[err] = true;
    }
    for (int i = 0; i < 256; i++) {
        cr_assert_eq(seen[i], nl_errname(i) != NULL, "%d", i);
    }
    cr_assert_null(nl_err_at(-1, &err));
    cr_assert_null(nl_err_at(n + 1, &err));
}

static int number_of(const char *wanted)
{
    int err;
    const char *name;
    for (int i = 0; (name = nl_err_at(i, &err)); i++) {
        if (strcmp(name, wanted) == 0) {
            return err;
        }
    }
    return -1;
}

Test(err, aliases_have_linux_numbers)
{
    cr_assert_eq(number_of("EWOULDBLOCK"), 11);
    cr_assert_eq(number_of("EDEADLOCK"), 35);
    cr_assert_eq(number_of("ENOTSUP"), 95);
    cr_assert_eq(number_of("ECONNREFUSED"), 111);
    cr_assert_eq(number_of("ESHUTDOWN"), 108);
    cr_assert_eq(number_of("EREMOTEIO"), 121);
}

Test(err, unknown)
{
    cr_assert_str_eq(nl_strerror(0), "success");
    cr_assert_null(nl_errname(0));
    cr_assert_str_eq(nl_strerror(4711), "unknown error 4711");
    cr_assert_null(nl_errname(4711));
    cr_assert_str_eq(nl_strerror(INT32_MIN), "unknown error -2147483648");
    cr_assert_null(nl_errname(-1));
    cr_assert_str_eq(nl_strerror(41), "unknown error 41", "a gap in Linux's numbers");
}

static void other_thread(void *arg)
{
    (void)arg;
    nl_strerror(4712);
}

Test(err, unknown_text_is_the_threads_own)
{
    const char *text = nl_strerror(4711);
    nl_thread *t;
    cr_assert_eq(nl_thread_start(&t, "err", other_thread, NULL), 0);
    nl_thread_join(t);
    cr_assert_str_eq(text, "unknown error 4711");
}

Test(err, from_os)
{
    static const struct {
        int os, linux_number;
    } known[] = {
        {EPERM, 1},          {ENOENT, 2},      {EAGAIN, 11},       {EWOULDBLOCK, 11},  {EPIPE, 32},
        {EDEADLK, 35},       {EADDRINUSE, 98}, {ECONNRESET, 104},  {ETIMEDOUT, 110},   {ECONNREFUSED, 111},
        {EHOSTUNREACH, 113}, {EALREADY, 114},  {EINPROGRESS, 115}, {ENAMETOOLONG, 36}, {ENOTSUP, 95},
    };
    for (size_t i = 0; i < nl_countof(known); i++) {
        cr_assert_eq(nl_err_from_os(known[i].os), known[i].linux_number, "row %d", (int)i);
    }
    cr_assert_str_eq(nl_err_text(-ECONNREFUSED), "Connection refused");
    cr_assert_str_eq(nl_err_text(-NL_ETIMEOUT), "operation timed out");
    cr_assert_eq(nl_err_from_os(0), 0);
    cr_assert_eq(nl_err_from_os(NL_ETIMEOUT), NL_ETIMEOUT);
    cr_assert_eq(nl_err_from_os(NL_ESTOPPING), NL_ESTOPPING);
}

/* libscan.c - see libscan.h */
#include "lua/vm/libscan.h"

#include <string.h>

/* --- words ------------------------------------------------------------------------------------ */

/* In the order of the bits, as far as those can be stubs. */
static const struct word {
    const char *text;
    uint32_t libs;
} words[] = {
    {"table", NL_LIB_TABLE},
    {"io", NL_LIB_IO},
    {"os", NL_LIB_OS},
    {"math", NL_LIB_MATH},
    {"debug", NL_LIB_DEBUG},
    {"bit", NL_LIB_BIT},
    {"jit", NL_LIB_JIT},
    {"string", NL_LIB_STRING},
    {"package", NL_LIB_PACKAGE | NL_LIB_REQUIRE},
    {"context", NL_LIB_CONTEXT},
    {"tcp", NL_LIB_TCP},
    {"timer", NL_LIB_TIMER},
    {"buffer", NL_LIB_BUFFER},
    {"coroutine", NL_LIB_COROUTINE},
    {"ffi", NL_LIB_FFI},
    {"require", NL_LIB_REQUIRE},
    {"dofile", NL_LIB_REQUIRE},
    {"module", NL_LIB_PACKAGE | NL_LIB_REQUIRE},
    /* Ways to names that do not stand in the text. */
    {"_G", NL_LIB_ALL},
    {"getfenv", NL_LIB_ALL},
    {"setfenv", NL_LIB_ALL},
    {"seeall", NL_LIB_ALL},
    {"getregistry", NL_LIB_ALL},
    {"getmetatable", NL_LIB_STRING}, /* of a string: its __index is the library */
    {"load", NL_LIB_ALL},
    {"loadstring", NL_LIB_ALL},
    {"loadfile", NL_LIB_ALL},
    {"loaded", NL_LIB_ALL},
    {"loaders", NL_LIB_ALL},
    {"searchers", NL_LIB_ALL},
    {"preload", NL_LIB_ALL},
    {"loadlib", NL_LIB_ALL},
};

static inline bool is_word_char(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c >= '0' && c <= '9') ||
           c >= 0x80;
}

static inline bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The word at p of that length, if it is one of them. */
static const struct word *find_word(const char *p, size_t n)
{
    for (size_t i = 0; i < nl_countof(words); i++) {
        if (words[i].text[0] == *p && strlen(words[i].text) == n && memcmp(words[i].text, p, n) == 0) {
            return &words[i];
        }
    }
    return NULL;
}

/*
 * Whether what follows the "." at p is a field that is assigned to: such a table is to be what it
 * seems from the start.
 */
static bool is_assigned(const char *p, const char *end)
{
    do {
        p++;
    } while (p < end && is_word_char((unsigned char)*p));
    while (p < end && is_space(*p)) {
        p++;
    }
    return end - p > 1 && p[0] == '=' && p[1] != '=';
}

/* A word from `from` to p: adds what it asks for. */
static void count_word(nl_libs_needed *n, const char *from, const char *p, const char *end)
{
    const struct word *w = p - from >= 2 && p - from <= 12 ? find_word(from, (size_t)(p - from)) : NULL;
    if (!w) {
        return;
    }
    bool field = end - p > 1 && p[0] == '.' && is_word_char((unsigned char)p[1]);
    if (field && (w->libs & NL_LIB_STUBS) && !((w->libs & NL_LIB_BY_FIELD) && is_assigned(p, end))) {
        n->stubs |= w->libs & NL_LIB_STUBS;
        n->open |= w->libs & ~NL_LIB_STUBS;
    } else {
        n->open |= w->libs;
    }
}

/* If a long bracket opens at p, "[[" or "[=[" …: the number of its "=", else -1. */
static int long_bracket(const char *p, const char *end)
{
    int n = 0;
    if (p == end || *p++ != '[') {
        return -1;
    }
    while (p < end && *p == '=') {
        n++;
        p++;
    }
    return p < end && *p == '[' ? n : -1;
}

/* Behind the long string or comment that opens at p with n "=". */
static const char *skip_long(const char *p, const char *end, int n)
{
    for (p += n + 2; p < end; p++) {
        if (*p == ']' && end - p > n + 1 && p[n + 1] == ']' && (int)strspn(p + 1, "=") == n) {
            return p + n + 2;
        }
    }
    return end;
}

/*
 * Behind the escape sequence that opens at p: of a line break both its characters, after "\\z" all
 * blanks.
 */
static const char *skip_escape(const char *p, const char *end)
{
    if (end - p < 2) {
        return end;
    }
    if (p[1] == 'z') {
        for (p += 2; p < end && is_space(*p); p++) {
        }
        return p;
    }
    bool pair = end - p > 2 && ((p[1] == '\r' && p[2] == '\n') || (p[1] == '\n' && p[2] == '\r'));
    return p + (pair ? 3 : 2);
}

static inline bool is_line_end(char c)
{
    return c == '\n' || c == '\r';
}

/* The end of the line that p is in. */
static const char *skip_line(const char *p, const char *end)
{
    while (p < end && !is_line_end(*p)) {
        p++;
    }
    return p;
}

/*
 * Behind what the compiler skips at the start of a text: a byte order mark, then a line that opens
 * with "#".
 */
static const char *skip_head(const char *p, const char *end)
{
    if (end - p >= 3 && memcmp(p, "\xEF\xBB\xBF", 3) == 0) {
        p += 3;
    }
    return p < end && *p == '#' ? skip_line(p, end) : p;
}

/*
 * Behind the quoted string that opens at p; it cannot go over the end of a line unless the break is
 * escaped.
 */
static const char *skip_quoted(const char *p, const char *end)
{
    char quote = *p++;
    while (p < end && *p != quote && !is_line_end(*p)) {
        p = *p == '\\' ? skip_escape(p, end) : p + 1;
    }
    return p < end ? p + 1 : end;
}

/*
 * Comments and strings are skipped: a string becomes a name only through the words above, or
 * through require, which opens what it is asked for.
 */
nl_libs_needed nl_libs_of_text(const char *text, size_t len)
{
    nl_libs_needed needed = {0, 0};
    const char *end = text + len, *p = skip_head(text, end);
    while (p < end) {
        const char *from = p;
        while (p < end && is_word_char((unsigned char)*p)) {
            p++;
        }
        if (p > from) {
            count_word(&needed, from, p, end);
            continue;
        }
        bool comment = *p == '-' && end - p > 1 && p[1] == '-';
        int n = long_bracket(comment ? p + 2 : p, end);
        if (n >= 0) {
            p = skip_long(comment ? p + 2 : p, end, n);
        } else if (comment) {
            p = skip_line(p, end);
        } else if (*p == '"' || *p == '\'') {
            p = skip_quoted(p, end);
        } else {
            p++;
        }
    }
    needed.stubs &= ~needed.open;
    return needed;
}

uint32_t nl_libs_of_name(const char *name)
{
    const struct word *w = find_word(name, strlen(name));
    return w && w->libs != NL_LIB_ALL ? w->libs : 0;
}

const char *nl_lib_name(uint32_t lib)
{
    return words[__builtin_ctz(lib)].text;
}

/*
 * wide.c - see wide.h
 */
#include "base/wide.h"

#include <stdio.h>
#include <stdlib.h>
#include <windows.h>

#include "base/alloc.h"

wchar_t *nl_to_wide(const char *text)
{
    int n = MultiByteToWideChar(CP_UTF8, 0, text, -1, NULL, 0);
    wchar_t *w = nl_calloc((size_t)(n + 1) * sizeof *w);
    MultiByteToWideChar(CP_UTF8, 0, text, -1, w, n);
    return w;
}

char *nl_to_utf8(const wchar_t *text)
{
    int n = WideCharToMultiByte(CP_UTF8, 0, text, -1, NULL, 0, NULL, NULL);
    char *s = nl_calloc((size_t)n + 1);
    WideCharToMultiByte(CP_UTF8, 0, text, -1, s, n, NULL, NULL);
    return s;
}

/* --- In the place of msvcrt's ----------------------------------------------------------------- */

/*
 * The program is linked statically, so LuaJIT's io.open, loadfile and require use these too.  A
 * module in C, a DLL, has msvcrt's own.
 */

static void free_keep_errno(void *p)
{
    int err = errno;
    nl_free(p);
    errno = err;
}

FILE *fopen(const char *path, const char *mode)
{
    wchar_t *wpath = nl_to_wide(path), *wmode = nl_to_wide(mode);
    FILE *f = _wfopen(wpath, wmode);
    free_keep_errno(wpath);
    free_keep_errno(wmode);
    return f;
}

int remove(const char *path)
{
    wchar_t *wpath = nl_to_wide(path);
    int status = _wremove(wpath);
    free_keep_errno(wpath);
    return status;
}

int rename(const char *from, const char *to)
{
    wchar_t *wfrom = nl_to_wide(from), *wto = nl_to_wide(to);
    int status = _wrename(wfrom, wto);
    free_keep_errno(wfrom);
    free_keep_errno(wto);
    return status;
}

/*
 * The value stays as it is until the same thread asks for another.  Read from the system, which
 * also knows what other runtimes in the process have set.
 */
char *getenv(const char *name)
{
    static _Thread_local char *last;
    wchar_t *wname = nl_to_wide(name), *wide = NULL;
    DWORD size = 0, n;
    while ((n = GetEnvironmentVariableW(wname, wide, size)) > size) {
        nl_free(wide);
        size = n;
        wide = nl_calloc(size * sizeof *wide);
    }
    bool found = size > 0; /* even an empty value needs room for its zero */
    nl_free(wname);
    nl_free(last);
    last = found ? nl_to_utf8(wide) : NULL;
    nl_free(wide);
    return last;
}

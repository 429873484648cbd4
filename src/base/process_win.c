/*
 * process_win.c - process.h on Windows.
 */
#include "base/process.h"

#include <fcntl.h>
#include <io.h>
#include <stdio.h>
#include <stdlib.h>
#include <windows.h>

#include <shellapi.h>

#include "base/alloc.h"
#include "base/wide.h"

/* msvcrt has given a stream whose handle was closed a descriptor that is none. */
static void fill_standard(void)
{
    FILE *const streams[] = {stdin, stdout, stderr};
    for (size_t i = 0; i < nl_countof(streams); i++) {
        if (_get_osfhandle(_fileno(streams[i])) < 0) {
            int fd = _wopen(L"NUL", _O_RDWR | _O_TEXT);
            streams[i]->_file = fd >= 0 ? fd : streams[i]->_file;
        }
    }
}

void nl_process_init(void)
{
    fill_standard();
    SetConsoleOutputCP(CP_UTF8);
    timeBeginPeriod(1); /* else a wait ends with the clock's tick, each 15.6 ms */
}

char **nl_process_args(char **argv)
{
    /* msvcrt's are in the code page of the country, and what looks like a pattern is replaced. */
    int n;
    wchar_t **wide = CommandLineToArgvW(GetCommandLineW(), &n);
    if (!wide) {
        return argv;
    }
    char **args = nl_calloc((size_t)(n + 1) * sizeof *args);
    for (int i = 0; i < n; i++) {
        args[i] = nl_to_utf8(wide[i]);
    }
    LocalFree(wide);
    return args;
}

const char *nl_program_dir(void)
{
    static _Atomic(char *) known;
    char *dir = atomic_load_explicit(&known, memory_order_acquire);
    if (dir) {
        return dir;
    }
    wchar_t path[32768]; /* no path is longer */
    DWORD n = GetModuleFileNameW(NULL, path, nl_countof(path));
    while (n > 0 && path[n - 1] != '\\') {
        n--;
    }
    path[n > 0 ? n - 1 : 0] = 0;
    char *mine = nl_to_utf8(path);
    /* Release pairs with the acquire above and below: who sees the pointer sees the text. */
    if (atomic_compare_exchange_strong_explicit(&known, &dir, mine, memory_order_release,
                                                memory_order_acquire)) {
        return mine;
    }
    nl_free(mine);
    return dir;
}

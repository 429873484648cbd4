/*
 * child_win.c - system, and popen of cfile.h, on Windows.
 *
 * system() stands in front of msvcrt's for LuaJIT.  Those of msvcrt take the command in the code
 * page of the country, and their child gets every handle that can be inherited at the moment: also
 * the end of a pipe that another thread has just made for a child of its own, which then never sees
 * the end of its input.  Here a child gets its three standard handles and no other.
 */
#include <fcntl.h>
#include <io.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>

#include "base/alloc.h"
#include "base/cfile.h"
#include "base/wide.h"
#include "base/winerr.h"

#define PIPE_SIZE 65536 /* as much as one of Linux holds */

/* A duplicate that can be inherited, or NULL. */
static HANDLE to_inherit(HANDLE h)
{
    HANDLE self = GetCurrentProcess(), copy;
    return DuplicateHandle(self, h, self, &copy, 0, TRUE, DUPLICATE_SAME_ACCESS) ? copy : NULL;
}

/* "cmd.exe /c command", wide. */
static wchar_t *command_line(const char *command)
{
    const char *shell = getenv("COMSPEC");
    shell = shell ? shell : "cmd.exe";
    size_t size = strlen(shell) + strlen(command) + 8;
    char *text = nl_malloc(size);
    snprintf(text, size, "%s /c %s", shell, command);
    wchar_t *wide = nl_to_wide(text);
    nl_free(text);
    return wide;
}

/* Starts it with these as its standard handles.  NULL: failed, errno says why. */
static HANDLE start(const char *command, const HANDLE std[3])
{
    HANDLE list[3];
    SIZE_T size = 0;
    DWORD n = 0;
    STARTUPINFOEXW info = {.StartupInfo = {.cb = sizeof info, .dwFlags = STARTF_USESTDHANDLES}};
    HANDLE *slots[] = {&info.StartupInfo.hStdInput, &info.StartupInfo.hStdOutput,
                       &info.StartupInfo.hStdError};
    for (int i = 0; i < 3; i++) {
        HANDLE copy = to_inherit(std[i]);
        *slots[i] = copy;
        if (copy) {
            list[n++] = copy;
        }
    }
    InitializeProcThreadAttributeList(NULL, 1, 0, &size);
    info.lpAttributeList = nl_malloc(size);
    InitializeProcThreadAttributeList(info.lpAttributeList, 1, 0, &size);
    UpdateProcThreadAttribute(info.lpAttributeList, 0, PROC_THREAD_ATTRIBUTE_HANDLE_LIST, list,
                              n * sizeof list[0], NULL, NULL);
    wchar_t *line = command_line(command);
    PROCESS_INFORMATION made = {0};
    bool ok = CreateProcessW(NULL, line, NULL, NULL, n > 0, EXTENDED_STARTUPINFO_PRESENT, NULL, NULL,
                             &info.StartupInfo, &made);
    DWORD err = GetLastError();
    DeleteProcThreadAttributeList(info.lpAttributeList);
    nl_free(info.lpAttributeList);
    nl_free(line);
    for (DWORD i = 0; i < n; i++) {
        CloseHandle(list[i]);
    }
    if (!ok) {
        errno = nl_win_errno(err);
        return NULL;
    }
    CloseHandle(made.hThread);
    return made.hProcess;
}

/* Waits for its end; its exit status. */
static int finish(HANDLE process)
{
    DWORD status = (DWORD)-1;
    WaitForSingleObject(process, INFINITE);
    GetExitCodeProcess(process, &status);
    CloseHandle(process);
    return (int)status;
}

static void get_standard(HANDLE std[3])
{
    FILE *const streams[] = {stdin, stdout, stderr};
    for (int i = 0; i < 3; i++) {
        std[i] = (HANDLE)_get_osfhandle(_fileno(streams[i]));
    }
}

int system(const char *command)
{
    if (!command) {
        return 1;
    }
    HANDLE std[3];
    get_standard(std);
    HANDLE process = start(command, std);
    return process ? finish(process) : -1;
}

/* Those of popen that are not closed yet. */
typedef struct child {
    struct child *next;
    FILE *stream;
    HANDLE process;
} child;

static SRWLOCK children_lock = SRWLOCK_INIT;
static child *children;

/* Takes the handle over.  NULL: descriptors are out, errno says so. */
static FILE *open_end(HANDLE h, const char *mode)
{
    int fd = _open_osfhandle((intptr_t)h, _O_NOINHERIT | (mode[1] == 'b' ? _O_BINARY : _O_TEXT));
    if (fd < 0) {
        CloseHandle(h);
        return NULL;
    }
    FILE *f = _fdopen(fd, mode);
    if (!f) {
        int err = errno;
        _close(fd);
        errno = err;
    }
    return f;
}

FILE *nl_cfile_popen(const char *command, const char *mode)
{
    bool reads = mode[0] == 'r';
    if ((!reads && mode[0] != 'w') || (mode[1] && ((mode[1] != 'b' && mode[1] != 't') || mode[2]))) {
        errno = EINVAL;
        return NULL;
    }
    HANDLE std[3], ends[2]; /* of the pipe: to read, to write */
    if (!CreatePipe(&ends[0], &ends[1], NULL, PIPE_SIZE)) {
        errno = nl_win_errno(GetLastError());
        return NULL;
    }
    HANDLE ours = ends[!reads], theirs = ends[reads];
    get_standard(std);
    std[reads] = theirs;
    HANDLE process = start(command, std);
    CloseHandle(theirs);
    if (!process) {
        CloseHandle(ours);
        return NULL;
    }
    FILE *f = open_end(ours, mode);
    if (!f) {
        CloseHandle(process);
        return NULL;
    }
    child *c = nl_malloc(sizeof *c);
    c->stream = f;
    c->process = process;
    AcquireSRWLockExclusive(&children_lock);
    c->next = children;
    children = c;
    ReleaseSRWLockExclusive(&children_lock);
    return f;
}

int nl_cfile_pclose(FILE *f)
{
    HANDLE process = NULL;
    AcquireSRWLockExclusive(&children_lock);
    for (child **at = &children; *at; at = &(*at)->next) {
        child *c = *at;
        if (c->stream == f) {
            process = c->process;
            *at = c->next;
            nl_free(c);
            break;
        }
    }
    ReleaseSRWLockExclusive(&children_lock);
    if (!process) {
        errno = EBADF;
        return -1;
    }
    fclose(f); /* before the wait: the child may wait for the end of its input */
    return finish(process);
}

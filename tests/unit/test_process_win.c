/* On Windows: command line, names in UTF-8, children, standard streams; the other side of test_process.c. */
#include "base/alloc.h"
#include "base/cfile.h"
#include "base/process.h"
#include "base/wide.h"
#include "base/winerr.h"

#include <criterion/criterion.h>
#include <io.h>
#include <stdlib.h>
#include <windows.h>

#define WORD "w\xc3\xb6rd\xf0\x9f\x98\x80" /* as long in UTF-16 as it is not in UTF-8 */

/* --- This program as a child ------------------------------------------------------------------ */

/* Prints its arguments, waits for the end of its input, or says whether its standard streams work. */
__attribute__((constructor)) static void be_a_child(void)
{
    if (__argc < 2) {
        return;
    }
    if (strcmp(__argv[1], "args") == 0) {
        for (char **arg = nl_process_args(__argv) + 2; *arg; arg++) {
            puts(*arg);
        }
        exit(0);
    } else if (strcmp(__argv[1], "wait") == 0) {
        while (getchar() != EOF) {
        }
        exit(5);
    } else if (strcmp(__argv[1], "streams") == 0) {
        nl_process_init();
        bool good = getchar() == EOF && puts("x") >= 0 && fflush(stdout) == 0 && fputs("x", stderr) >= 0;
        exit(good ? 3 : 4);
    }
}

static char *own_program(void)
{
    static wchar_t path[MAX_PATH];
    cr_assert_gt(GetModuleFileNameW(NULL, path, MAX_PATH), 0);
    return nl_to_utf8(path);
}

/* Starts this program with these arguments, as popen does. */
static FILE *start_self(const char *args, const char *mode)
{
    char *self = own_program(), command[2 * MAX_PATH];
    snprintf(command, sizeof command, "%s %s", self, args);
    nl_free(self);
    FILE *f = nl_cfile_popen(command, mode);
    cr_assert_not_null(f);
    return f;
}

/* --- Tests ------------------------------------------------------------------------------------ */

Test(process, arguments_are_utf8_and_no_patterns)
{
    FILE *f = start_self("args " WORD " \"two words\" *.c", "r");
    static const char *const want[] = {WORD "\n", "two words\n", "*.c\n"};
    char line[64];
    for (size_t i = 0; i < nl_countof(want); i++) {
        cr_assert_not_null(fgets(line, sizeof line, f));
        cr_assert_str_eq(line, want[i]);
    }
    cr_assert_null(fgets(line, sizeof line, f));
    cr_assert_eq(nl_cfile_pclose(f), 0);
}

Test(process, the_program_has_its_folder)
{
    char *self = own_program();
    size_t n = strlen(nl_program_dir());
    cr_assert_gt(n, 2);
    cr_assert_eq(strncmp(self, nl_program_dir(), n), 0);
    cr_assert_eq(self + n, strrchr(self, '\\'));
    nl_free(self);
}

Test(process, the_shell_gives_its_status)
{
    cr_assert_neq(system(NULL), 0);
    cr_assert_eq(system("exit 7"), 7);
    cr_assert_eq(system("exit 0"), 0);
    errno = 0;
    cr_assert_null(nl_cfile_popen("exit 0", "x"));
    cr_assert_eq(errno, EINVAL);
    cr_assert_eq(nl_cfile_pclose(stdin), -1);
}

Test(process, a_child_gets_no_other_handle)
{
    SECURITY_ATTRIBUTES inherit = {.nLength = sizeof inherit, .bInheritHandle = TRUE};
    HANDLE to_read, to_write;
    cr_assert(CreatePipe(&to_read, &to_write, &inherit, 0));
    FILE *f = start_self("wait", "w");
    CloseHandle(to_write);
    DWORD n;
    cr_assert_not(PeekNamedPipe(to_read, NULL, 0, NULL, &n, NULL), "the child has the other end");
    cr_assert_eq(GetLastError(), ERROR_BROKEN_PIPE);
    cr_assert_eq(nl_cfile_pclose(f), 5, "it has waited for the end of its input");
}

Test(process, standard_streams_that_are_closed_are_opened)
{
    char *self = own_program(), command[2 * MAX_PATH];
    snprintf(command, sizeof command, "%s streams", self);
    wchar_t *wide = nl_to_wide(command);
    STARTUPINFOW info = {.cb = sizeof info,
                         .dwFlags = STARTF_USESTDHANDLES,
                         .hStdInput = INVALID_HANDLE_VALUE,
                         .hStdOutput = INVALID_HANDLE_VALUE,
                         .hStdError = INVALID_HANDLE_VALUE};
    PROCESS_INFORMATION child;
    DWORD status = 0;
    cr_assert(CreateProcessW(NULL, wide, NULL, NULL, FALSE, 0, NULL, NULL, &info, &child));
    WaitForSingleObject(child.hProcess, INFINITE);
    cr_assert(GetExitCodeProcess(child.hProcess, &status));
    cr_assert_eq(status, 3, "%lu", status);
    nl_free(wide);
    nl_free(self);
}

Test(process, names_of_files_are_utf8)
{
    static const wchar_t first[] = L"w\x00f6rd\xd83d\xde00", second[] = L"w\x00f6rd\xd83d\xde00 2";
    DeleteFileW(first);
    DeleteFileW(second);
    FILE *f = fopen(WORD, "w");
    cr_assert_not_null(f);
    fclose(f);
    cr_assert_neq(GetFileAttributesW(first), INVALID_FILE_ATTRIBUTES);
    cr_assert_eq(rename(WORD, WORD " 2"), 0);
    cr_assert_neq(GetFileAttributesW(second), INVALID_FILE_ATTRIBUTES);
    cr_assert_eq(remove(WORD " 2"), 0);
    cr_assert_eq(GetFileAttributesW(second), INVALID_FILE_ATTRIBUTES);
    cr_assert_null(fopen(WORD, "r"));
    cr_assert_eq(errno, ENOENT);
}

Test(process, variables_are_utf8)
{
    cr_assert(SetEnvironmentVariableW(L"NL_T\x00c4ST", L"w\x00f6rd\xd83d\xde00"));
    cr_assert(SetEnvironmentVariableW(L"NL_EMPTY", L""));
    cr_assert_str_eq(getenv("NL_T\xc3\x84ST"), WORD);
    cr_assert_str_eq(getenv("NL_EMPTY"), "");
    cr_assert_null(getenv("NL_MISSING"));
}

Test(process, errors_of_windows_have_an_errno)
{
    cr_assert_eq(nl_win_errno(WSAEWOULDBLOCK), EAGAIN);
    cr_assert_eq(nl_win_errno(WSAECONNREFUSED), ECONNREFUSED);
    cr_assert_eq(nl_win_errno(ERROR_FILE_NOT_FOUND), ENOENT);
    cr_assert_eq(nl_win_errno(ERROR_PRINTER_DELETED), EIO, "one that has none");
}

/*
 * signals_win.c - see signals.h.
 *
 * Ctrl-C and Ctrl-Break in the console are SIGINT; the end of the console, of the session or of the
 * system is SIGTERM.  Windows calls the handler on a thread of its own, so it may take a lock, and
 * what stands for the pipe is a counter.
 */
#include "base/signals.h"

#include <io.h>
#include <signal.h>
#include <stdio.h>
#include <windows.h>

/* What Windows itself ends a process with at Ctrl-C, and C at abort(). */
#define STATUS_INTERRUPTED 0xc000013a
#define STATUS_ABORTED 3

static SRWLOCK lock = SRWLOCK_INIT;
static CONDITION_VARIABLE changed = CONDITION_VARIABLE_INIT;
static struct {
    int interrupts, terminations; /* that have come and are not told yet */
    bool woken;
    int caught; /* how many have come */
} got;          /* under the lock */

int nl_signals_init(void)
{
    return 0;
}

static BOOL WINAPI on_event(DWORD event)
{
    bool interrupt = event == CTRL_C_EVENT || event == CTRL_BREAK_EVENT;
    AcquireSRWLockExclusive(&lock);
    bool enough = got.caught++ > 1;
    *(interrupt ? &got.interrupts : &got.terminations) += 1;
    ReleaseSRWLockExclusive(&lock);
    WakeAllConditionVariable(&changed);
    if (enough) {
        nl_end_by_signal(interrupt ? SIGINT : SIGTERM);
    }
    if (!interrupt) {
        /* When this returns Windows ends the process; else some seconds later. */
        Sleep(INFINITE);
    }
    return TRUE;
}

void nl_signals_catch(void)
{
    SetConsoleCtrlHandler(on_event, TRUE);
}

int nl_signals_wait(int64_t timeout_ns)
{
    int64_t ms = timeout_ns / 1000000 + (timeout_ns % 1000000 > 0);
    DWORD time = timeout_ns < 0 ? INFINITE : ms < INT32_MAX ? (DWORD)ms : INT32_MAX;
    int sig = 0;
    AcquireSRWLockExclusive(&lock);
    while (!got.interrupts && !got.terminations && !got.woken &&
           SleepConditionVariableSRW(&changed, &lock, time, 0) && timeout_ns < 0) {
    }
    if (got.interrupts) {
        got.interrupts--;
        sig = SIGINT;
    } else if (got.terminations) {
        got.terminations--;
        sig = SIGTERM;
    } else {
        got.woken = false;
    }
    ReleaseSRWLockExclusive(&lock);
    return sig;
}

void nl_signals_wake(void)
{
    AcquireSRWLockExclusive(&lock);
    got.woken = true;
    ReleaseSRWLockExclusive(&lock);
    WakeAllConditionVariable(&changed);
}

void nl_end_by_signal(int sig)
{
    (void)sig; /* Windows ends processes in one way only */
    nl_end_at_once((int)STATUS_INTERRUPTED);
}

/* _exit would let the libraries say goodbye, and msvcrt's waits there for who writes. */
void nl_end_at_once(int status)
{
    for (;;) {
        TerminateProcess(GetCurrentProcess(), (UINT)status);
    }
}

static DWORD WINAPI abort_soon(void *arg)
{
    (void)arg;
    Sleep(1000);
    TerminateProcess(GetCurrentProcess(), STATUS_ABORTED);
    return 0;
}

void nl_abort_saying(const char *text, size_t len)
{
    /* The write does not return when nobody reads; then this thread ends the process. */
    HANDLE h = CreateThread(NULL, 0, abort_soon, NULL, 0, NULL);
    DWORD done;
    WriteFile((HANDLE)_get_osfhandle(_fileno(stderr)), text, (DWORD)len, &done, NULL);
    for (;;) {
        TerminateProcess(GetCurrentProcess(), STATUS_ABORTED);
    }
    (void)h;
}

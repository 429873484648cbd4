/*
 * os_win.c - os.h on Windows 10 and later.
 */
#include "base/alloc.h"
#include "base/cfile.h"
#include "base/os.h"
#include "base/stop.h"
#include "base/wide.h"
#include "base/winerr.h"

#include <io.h>
#include <process.h>
#include <stdio.h>
#include <string.h>
#include <windows.h>

#include <ntsecapi.h> /* RtlGenRandom */
#include <psapi.h>

/* Older headers of mingw lack it. */
WINBASEAPI HRESULT WINAPI SetThreadDescription(HANDLE thread, PCWSTR description);

#define RET 0xc3 /* x86's instruction */
#define STACK_MIN ((size_t)8 << 20)
#define NS_PER_S 1000000000
#define EPOCH_1970 INT64_C(116444736000000000) /* in units of 100 ns since 1601 */

/* --- Clocks ----------------------------------------------------------------------------------- */

int64_t nl_now_ns(void)
{
    static atomic_int_fast64_t known; /* relaxed: each thread that asks gets the same answer */
    int64_t rate = atomic_load_explicit(&known, memory_order_relaxed);
    LARGE_INTEGER n;
    if (nl_unlikely(rate == 0)) {
        QueryPerformanceFrequency(&n);
        rate = n.QuadPart;
        atomic_store_explicit(&known, rate, memory_order_relaxed);
    }
    QueryPerformanceCounter(&n);
    return n.QuadPart / rate * NS_PER_S + n.QuadPart % rate * NS_PER_S / rate;
}

static int64_t filetime_ns(FILETIME t)
{
    return ((int64_t)((uint64_t)t.dwHighDateTime << 32 | t.dwLowDateTime) - EPOCH_1970) * 100;
}

void nl_wall_clock(int64_t *sec, int *usec)
{
    FILETIME t;
    GetSystemTimePreciseAsFileTime(&t);
    int64_t ns = filetime_ns(t);
    *sec = ns / NS_PER_S;
    *usec = (int)(ns % NS_PER_S / 1000);
}

/* --- Files ------------------------------------------------------------------------------------ */

int nl_file_stamp_get(const char *path, nl_file_stamp *out)
{
    wchar_t *wide = nl_to_wide(path);
    HANDLE h = CreateFileW(wide, FILE_READ_ATTRIBUTES, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
                           NULL, OPEN_EXISTING, FILE_FLAG_BACKUP_SEMANTICS, NULL);
    DWORD err = GetLastError();
    nl_free(wide);
    if (h == INVALID_HANDLE_VALUE) {
        return -nl_win_errno(err);
    }
    BY_HANDLE_FILE_INFORMATION info;
    FILE_BASIC_INFO times = {0};
    bool known = GetFileInformationByHandle(h, &info);
    bool timed = GetFileInformationByHandleEx(h, FileBasicInfo, &times, sizeof times);
    err = GetLastError();
    CloseHandle(h);
    if (!known) {
        return -nl_win_errno(err);
    }
    if (info.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY) {
        return -EISDIR;
    }
    int64_t modified = filetime_ns(info.ftLastWriteTime);
    bool changes = timed && times.ChangeTime.QuadPart; /* FAT has none */
    *out = (nl_file_stamp){.mtime_ns = modified,
                           .changed_ns = changes ? (times.ChangeTime.QuadPart - EPOCH_1970) * 100 : modified,
                           .size = (int64_t)((uint64_t)info.nFileSizeHigh << 32 | info.nFileSizeLow),
                           .ino = (uint64_t)info.nFileIndexHigh << 32 | info.nFileIndexLow,
                           .dev = info.dwVolumeSerialNumber};
    return 0;
}

/* --- Memory ----------------------------------------------------------------------------------- */

void *nl_region_map(size_t n)
{
    /*
     * A part of a reservation cannot be given back.  So a longer one shows where there is room, and
     * the region is taken there; another thread may be faster, then once more.
     */
    for (int tries = 0; tries < 100; tries++) {
        char *p = VirtualAlloc(NULL, 2 * n, MEM_RESERVE, PAGE_READWRITE);
        if (!p) {
            return NULL;
        }
        VirtualFree(p, 0, MEM_RELEASE);
        p += -(uintptr_t)p & (n - 1);
        if (VirtualAlloc(p, n, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE)) {
            return p;
        }
    }
    return NULL;
}

void nl_region_populate(void *p, size_t n)
{
    (void)p;
    (void)n; /* each page comes when it is touched */
}

void nl_region_release(void *p, size_t n)
{
    /* MEM_RESET would leave the old bytes in pages that the system does not need yet. */
    VirtualFree(p, n, MEM_DECOMMIT);
    nl_assert(VirtualAlloc(p, n, MEM_COMMIT, PAGE_READWRITE), "out of memory");
}

size_t nl_page_size(void)
{
    SYSTEM_INFO info;
    GetSystemInfo(&info);
    return info.dwPageSize;
}

void nl_region_unmap(void *p, size_t n)
{
    (void)n;
    VirtualFree(p, 0, MEM_RELEASE);
}

const void *nl_memmem(const void *hay, size_t n, const void *needle, size_t m)
{
    const unsigned char *s = needle, *p = hay, *last = p + n - m;
    for (; m <= n && p <= last; p++) {
        p = memchr(p, s[0], (size_t)(last - p) + 1);
        if (!p || memcmp(p, s, m) == 0) {
            return p;
        }
    }
    return NULL;
}

/* --- Processors ------------------------------------------------------------------------------- */

/* Those of the processor group in which the process was started: 64 at most. */
static DWORD_PTR process_mask(void)
{
    DWORD_PTR mask = 0, all;
    return GetProcessAffinityMask(GetCurrentProcess(), &mask, &all) && mask ? mask : 1;
}

int nl_ncpu(void)
{
    return __builtin_popcountll(process_mask());
}

int nl_thread_pin(int cpu_index)
{
    DWORD_PTR mask = process_mask();
    if (cpu_index < 0 || cpu_index >= __builtin_popcountll(mask)) {
        return -EINVAL;
    }
    while (cpu_index-- > 0) {
        mask &= mask - 1;
    }
    return SetThreadAffinityMask(GetCurrentThread(), mask & -mask) ? 0 : -nl_win_errno(GetLastError());
}

int nl_thread_unpin(void)
{
    return -1; /* a child has the processors of the process, not of the thread */
}

uint64_t nl_os_random(void)
{
    uint64_t n = 0;
    if (!RtlGenRandom(&n, sizeof n)) { /* at least not the same in each process */
        n = (uint64_t)nl_now_ns() * 0x9e3779b97f4a7c15u ^ GetCurrentProcessId();
    }
    return n;
}

/* --- Threads ---------------------------------------------------------------------------------- */

struct nl_thread {
    HANDLE handle;
    bool detached;
    void (*fn)(void *);
    void *arg;
    wchar_t name[16];
};

static unsigned __stdcall thread_main(void *arg)
{
    nl_thread *t = arg;
    SetThreadDescription(GetCurrentThread(), t->name);
    t->fn(t->arg);
    if (t->detached) {
        nl_free(t);
    }
    return 0;
}

/*
 * The least that os.h promises: the main thread's is shorter.  Windows only reserves it, and puts
 * the guard page below what was touched so far.
 */
#define STACK_SIZE (2 * STACK_MIN + STACK_MIN)

int nl_thread_start(nl_thread **out, const char *name, void (*fn)(void *), void *arg)
{
    nl_thread *t = nl_calloc(sizeof *t);
    t->fn = fn;
    t->arg = arg;
    t->detached = !out;
    for (size_t i = 0; i + 1 < nl_countof(t->name) && name[i]; i++) {
        t->name[i] = (unsigned char)name[i];
    }
    /* Where address space is short, a thread with a short stack is better than none. */
    HANDLE h = NULL;
    for (unsigned size = STACK_SIZE; !h && size >= STACK_MIN; size /= 2) {
        h = (HANDLE)_beginthreadex(NULL, size, thread_main, t,
                                   STACK_SIZE_PARAM_IS_A_RESERVATION | CREATE_SUSPENDED, NULL);
    }
    if (!h) {
        nl_free(t);
        return -EAGAIN;
    }
    t->handle = h;
    if (out) {
        *out = t;
    }
    ResumeThread(h);
    if (!out) {
        CloseHandle(h);
    }
    return 0;
}

void nl_thread_join(nl_thread *t)
{
    WaitForSingleObject(t->handle, INFINITE);
    CloseHandle(t->handle);
    nl_free(t);
}

int64_t nl_thread_watch(void)
{
    return GetCurrentThreadId();
}

void nl_thread_unwatch(int64_t watch)
{
    (void)watch;
}

/*
 * System calls are made in short functions of ntdll, which return directly behind them.  So a
 * thread that sleeps in one goes on at a ret of ntdll.  One that computes is rarely there.
 */
typedef struct call_look {
    uintptr_t begin, end; /* of ntdll */
    bool in_call;
} call_look;

static void look_for_call(void *arg, uintptr_t pc)
{
    call_look *l = arg;
    l->in_call = pc >= l->begin && pc < l->end && *(const unsigned char *)pc == RET;
}

bool nl_thread_sleeps(int64_t watch)
{
    MODULEINFO ntdll = {0};
    GetModuleInformation(GetCurrentProcess(), GetModuleHandleW(L"ntdll"), &ntdll, sizeof ntdll);
    call_look l = {.begin = (uintptr_t)ntdll.lpBaseOfDll};
    l.end = l.begin + ntdll.SizeOfImage;
    HANDLE h = watch == nl_thread_watch() ? NULL : OpenThread(NL_STOP_ACCESS, FALSE, (DWORD)watch);
    if (h) {
        nl_stop_thread(h, look_for_call, &l);
        CloseHandle(h);
    }
    return l.in_call;
}

void nl_thread_yield(void)
{
    SwitchToThread();
}

size_t nl_stack_left(void)
{
    ULONG_PTR low, high;
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    GetCurrentThreadStackLimits(&low, &high); /* reads the thread's own block */
    return here > low ? here - low : 0;
}

/* --- Standard error --------------------------------------------------------------------------- */

void nl_stderr_write(const void *p, size_t n)
{
    const char *s = p;
    /* As stdio's text mode does it, but in one piece. */
    char *text = nl_try_malloc(2 * n);
    size_t len = 0;
    for (size_t i = 0; text && i < n; i++) {
        if (s[i] == '\n') {
            text[len++] = '\r';
        }
        text[len++] = s[i];
    }
    const char *from = text ? text : s;
    len = text ? len : n;
    /* The lock that io.stderr:write takes: neither comes between what the other writes. */
    nl_cfile_whole(stderr);
    HANDLE h = (HANDLE)_get_osfhandle(_fileno(stderr));
    for (DWORD done; len > 0; from += done, len -= done) {
        DWORD piece = len < UINT32_MAX ? (DWORD)len : UINT32_MAX;
        if (!WriteFile(h, from, piece, &done, NULL)) {
            break; /* closed, or a full disk: a log line is not worth more */
        }
    }
    nl_cfile_end_whole(stderr);
    nl_free(text);
}

/* --- Mutex and condition ---------------------------------------------------------------------- */

struct nl_mutex {
    SRWLOCK m; /* spins a little before it sleeps */
};

struct nl_cond {
    CONDITION_VARIABLE c;
};

nl_mutex *nl_mutex_new(void)
{
    nl_mutex *m = nl_malloc(sizeof *m);
    InitializeSRWLock(&m->m);
    return m;
}

void nl_mutex_free(nl_mutex *m)
{
    nl_free(m);
}

void nl_mutex_lock(nl_mutex *m)
{
    AcquireSRWLockExclusive(&m->m);
}

void nl_mutex_unlock(nl_mutex *m)
{
    ReleaseSRWLockExclusive(&m->m);
}

nl_cond *nl_cond_new(void)
{
    nl_cond *c = nl_malloc(sizeof *c);
    InitializeConditionVariable(&c->c);
    return c;
}

void nl_cond_free(nl_cond *c)
{
    nl_free(c);
}

void nl_cond_wait(nl_cond *c, nl_mutex *m, int64_t timeout_ns)
{
    /* Whole milliseconds, rounded up; one that is cut off at the longest returns early. */
    int64_t ms = timeout_ns / 1000000 + (timeout_ns % 1000000 > 0);
    DWORD time = timeout_ns < 0 ? INFINITE : ms < INT32_MAX ? (DWORD)ms : INT32_MAX;
    nl_assert(SleepConditionVariableSRW(&c->c, &m->m, time, 0) || GetLastError() == ERROR_TIMEOUT,
              "a condition was misused");
}

void nl_cond_signal(nl_cond *c)
{
    WakeConditionVariable(&c->c);
}

void nl_cond_broadcast(nl_cond *c)
{
    WakeAllConditionVariable(&c->c);
}

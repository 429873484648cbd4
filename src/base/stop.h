/*
 * stop.h - another thread is stopped for a moment.
 *
 * Purpose:   what interrupt.h and nl_thread_sleeps need of Windows.  Only files for Windows include
 *            it.
 * Threads:   any, for any other thread.
 * Ownership: the handle stays the caller's.
 */
#ifndef NL_STOP_H
#define NL_STOP_H

#include <stdbool.h>
#include <stdint.h>

#define NL_STOP_ACCESS (THREAD_SUSPEND_RESUME | THREAD_GET_CONTEXT)

/*
 * Stops the thread, calls fn(arg, where it would go on), and lets it go on.  fn takes no lock, not
 * even malloc's: the thread may have it.  False: the thread has ended.
 */
bool nl_stop_thread(void *thread, void (*fn)(void *arg, uintptr_t pc), void *arg);

#endif

/*
 * interrupt.h - a function is called between two instructions of a thread.
 *
 * Purpose:   changes what only the thread itself may touch, the Lua state that it runs, while it
 *            computes.  A thread that sleeps in the system is left alone where the system can tell:
 *            a system call that is cut short is an error to many libraries.
 * Threads:   nl_interruptible_new by the thread itself; nl_interrupt by any.
 * Ownership: nl_interruptible_free by any thread, once no other can call nl_interrupt for it.
 */
#ifndef NL_BASE_INTERRUPT_H
#define NL_BASE_INTERRUPT_H

typedef struct nl_interruptible nl_interruptible;

/*
 * The calling thread can be interrupted from now on: by fn(arg), in a signal handler or, where
 * there are none, on the thread that asks, while this one is stopped.  So the rules of handlers
 * hold for fn: it takes no lock, not even malloc's.  It does not ask who the calling thread is, and
 * ThreadSanitizer does not check it.  fn is the same for all threads.  NULL: the system refuses.
 */
nl_interruptible *nl_interruptible_new(void (*fn)(void *arg), void *arg);
void nl_interruptible_free(nl_interruptible *t);
/* Has fn called as soon as the thread computes.  Requests that come before that are one. */
void nl_interrupt(nl_interruptible *t);

#endif

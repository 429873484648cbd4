/*
 * sys/event.h - kqueue on Linux, for tests only (shim.c): what kqueue.c uses of it.
 *
 * Purpose:   lets kqueue.c run where no system with a kqueue is.
 * Threads:   as the system's: any call by any thread; NOTE_TRIGGER in signal handlers too.
 * Ownership: the caller owns what kqueue() returns.
 */
#ifndef NL_TESTS_KQUEUE_SYS_EVENT_H
#define NL_TESTS_KQUEUE_SYS_EVENT_H

#include <stdint.h>
#include <time.h>
#include <unistd.h>

struct kevent {
    uintptr_t ident;
    short filter;
    unsigned short flags;
    unsigned fflags;
    int64_t data;
    void *udata;
};

#define EV_SET(kev, i, f, fl, ff, d, u) (*(kev) = (struct kevent){(i), (f), (fl), (ff), (d), (u)})

/* The numbers differ between the systems. */
#define EVFILT_READ (-1)
#define EVFILT_WRITE (-2)
#define EVFILT_USER (-11)

#define EV_ADD 0x0001
#define EV_DELETE 0x0002
#define EV_CLEAR 0x0020
#define EV_EOF 0x8000

#define NOTE_TRIGGER 0x01000000

/* A kqueue is several descriptors: its owner closes them all. */
int kqueue_close(int kq);
#define close(fd) kqueue_close(fd)

int kqueue(void);
int kevent(int kq, const struct kevent *changes, int nchanges, struct kevent *events, int nevents,
           const struct timespec *timeout);

#endif

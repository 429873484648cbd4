/*
 * err.c - one table of every error number: Linux's, on all platforms, and the runtime's own.
 */
#include "base/err.h"
#include "base/base.h"

#include <stdio.h>

/*
 * ALL(number, name, text): a name that <errno.h> of every platform knows, perhaps with
 * another number.  LIN(...): one that only Linux is sure to have.
 */
#define SYSTEM_ERRORS(ALL, LIN)                                                                              \
    ALL(1, EPERM, "Operation not permitted")                                                                 \
    ALL(2, ENOENT, "No such file or directory")                                                              \
    ALL(3, ESRCH, "No such process")                                                                         \
    ALL(4, EINTR, "Interrupted system call")                                                                 \
    ALL(5, EIO, "Input/output error")                                                                        \
    ALL(6, ENXIO, "No such device or address")                                                               \
    ALL(7, E2BIG, "Argument list too long")                                                                  \
    ALL(8, ENOEXEC, "Exec format error")                                                                     \
    ALL(9, EBADF, "Bad file descriptor")                                                                     \
    ALL(10, ECHILD, "No child processes")                                                                    \
    ALL(11, EAGAIN, "Resource temporarily unavailable")                                                      \
    ALL(12, ENOMEM, "Cannot allocate memory")                                                                \
    ALL(13, EACCES, "Permission denied")                                                                     \
    ALL(14, EFAULT, "Bad address")                                                                           \
    LIN(15, ENOTBLK, "Block device required")                                                                \
    ALL(16, EBUSY, "Device or resource busy")                                                                \
    ALL(17, EEXIST, "File exists")                                                                           \
    ALL(18, EXDEV, "Invalid cross-device link")                                                              \
    ALL(19, ENODEV, "No such device")                                                                        \
    ALL(20, ENOTDIR, "Not a directory")                                                                      \
    ALL(21, EISDIR, "Is a directory")                                                                        \
    ALL(22, EINVAL, "Invalid argument")                                                                      \
    ALL(23, ENFILE, "Too many open files in system")                                                         \
    ALL(24, EMFILE, "Too many open files")                                                                   \
    ALL(25, ENOTTY, "Inappropriate ioctl for device")                                                        \
    ALL(26, ETXTBSY, "Text file busy")                                                                       \
    ALL(27, EFBIG, "File too large")                                                                         \
    ALL(28, ENOSPC, "No space left on device")                                                               \
    ALL(29, ESPIPE, "Illegal seek")                                                                          \
    ALL(30, EROFS, "Read-only file system")                                                                  \
    ALL(31, EMLINK, "Too many links")                                                                        \
    ALL(32, EPIPE, "Broken pipe")                                                                            \
    ALL(33, EDOM, "Numerical argument out of domain")                                                        \
    ALL(34, ERANGE, "Numerical result out of range")                                                         \
    ALL(35, EDEADLK, "Resource deadlock avoided")                                                            \
    ALL(36, ENAMETOOLONG, "File name too long")                                                              \
    ALL(37, ENOLCK, "No locks available")                                                                    \
    ALL(38, ENOSYS, "Function not implemented")                                                              \
    ALL(39, ENOTEMPTY, "Directory not empty")                                                                \
    ALL(40, ELOOP, "Too many levels of symbolic links")                                                      \
    ALL(42, ENOMSG, "No message of desired type")                                                            \
    ALL(43, EIDRM, "Identifier removed")                                                                     \
    LIN(44, ECHRNG, "Channel number out of range")                                                           \
    LIN(45, EL2NSYNC, "Level 2 not synchronized")                                                            \
    LIN(46, EL3HLT, "Level 3 halted")                                                                        \
    LIN(47, EL3RST, "Level 3 reset")                                                                         \
    LIN(48, ELNRNG, "Link number out of range")                                                              \
    LIN(49, EUNATCH, "Protocol driver not attached")                                                         \
    LIN(50, ENOCSI, "No CSI structure available")                                                            \
    LIN(51, EL2HLT, "Level 2 halted")                                                                        \
    LIN(52, EBADE, "Invalid exchange")                                                                       \
    LIN(53, EBADR, "Invalid request descriptor")                                                             \
    LIN(54, EXFULL, "Exchange full")                                                                         \
    LIN(55, ENOANO, "No anode")                                                                              \
    LIN(56, EBADRQC, "Invalid request code")                                                                 \
    LIN(57, EBADSLT, "Invalid slot")                                                                         \
    LIN(59, EBFONT, "Bad font file format")                                                                  \
    LIN(60, ENOSTR, "Device not a stream")                                                                   \
    LIN(61, ENODATA, "No data available")                                                                    \
    LIN(62, ETIME, "Timer expired")                                                                          \
    LIN(63, ENOSR, "Out of streams resources")                                                               \
    LIN(64, ENONET, "Machine is not on the network")                                                         \
    LIN(65, ENOPKG, "Package not installed")                                                                 \
    LIN(66, EREMOTE, "Object is remote")                                                                     \
    LIN(67, ENOLINK, "Link has been severed")                                                                \
    LIN(68, EADV, "Advertise error")                                                                         \
    LIN(69, ESRMNT, "Srmount error")                                                                         \
    LIN(70, ECOMM, "Communication error on send")                                                            \
    ALL(71, EPROTO, "Protocol error")                                                                        \
    LIN(72, EMULTIHOP, "Multihop attempted")                                                                 \
    LIN(73, EDOTDOT, "RFS specific error")                                                                   \
    ALL(74, EBADMSG, "Bad message")                                                                          \
    ALL(75, EOVERFLOW, "Value too large for defined data type")                                              \
    LIN(76, ENOTUNIQ, "Name not unique on network")                                                          \
    LIN(77, EBADFD, "File descriptor in bad state")                                                          \
    LIN(78, EREMCHG, "Remote address changed")                                                               \
    LIN(79, ELIBACC, "Can not access a needed shared library")                                               \
    LIN(80, ELIBBAD, "Accessing a corrupted shared library")                                                 \
    LIN(81, ELIBSCN, ".lib section in a.out corrupted")                                                      \
    LIN(82, ELIBMAX, "Attempting to link in too many shared libraries")                                      \
    LIN(83, ELIBEXEC, "Cannot exec a shared library directly")                                               \
    ALL(84, EILSEQ, "Invalid or incomplete multibyte or wide character")                                     \
    LIN(85, ERESTART, "Interrupted system call should be restarted")                                         \
    LIN(86, ESTRPIPE, "Streams pipe error")                                                                  \
    LIN(87, EUSERS, "Too many users")                                                                        \
    ALL(88, ENOTSOCK, "Socket operation on non-socket")                                                      \
    ALL(89, EDESTADDRREQ, "Destination address required")                                                    \
    ALL(90, EMSGSIZE, "Message too long")                                                                    \
    ALL(91, EPROTOTYPE, "Protocol wrong type for socket")                                                    \
    ALL(92, ENOPROTOOPT, "Protocol not available")                                                           \
    ALL(93, EPROTONOSUPPORT, "Protocol not supported")                                                       \
    LIN(94, ESOCKTNOSUPPORT, "Socket type not supported")                                                    \
    ALL(95, EOPNOTSUPP, "Operation not supported")                                                           \
    LIN(96, EPFNOSUPPORT, "Protocol family not supported")                                                   \
    ALL(97, EAFNOSUPPORT, "Address family not supported by protocol")                                        \
    ALL(98, EADDRINUSE, "Address already in use")                                                            \
    ALL(99, EADDRNOTAVAIL, "Cannot assign requested address")                                                \
    ALL(100, ENETDOWN, "Network is down")                                                                    \
    ALL(101, ENETUNREACH, "Network is unreachable")                                                          \
    ALL(102, ENETRESET, "Network dropped connection on reset")                                               \
    ALL(103, ECONNABORTED, "Software caused connection abort")                                               \
    ALL(104, ECONNRESET, "Connection reset by peer")                                                         \
    ALL(105, ENOBUFS, "No buffer space available")                                                           \
    ALL(106, EISCONN, "Transport endpoint is already connected")                                             \
    ALL(107, ENOTCONN, "Transport endpoint is not connected")                                                \
    LIN(108, ESHUTDOWN, "Cannot send after transport endpoint shutdown")                                     \
    LIN(109, ETOOMANYREFS, "Too many references: cannot splice")                                             \
    ALL(110, ETIMEDOUT, "Connection timed out")                                                              \
    ALL(111, ECONNREFUSED, "Connection refused")                                                             \
    LIN(112, EHOSTDOWN, "Host is down")                                                                      \
    ALL(113, EHOSTUNREACH, "No route to host")                                                               \
    ALL(114, EALREADY, "Operation already in progress")                                                      \
    ALL(115, EINPROGRESS, "Operation now in progress")                                                       \
    LIN(116, ESTALE, "Stale file handle")                                                                    \
    LIN(117, EUCLEAN, "Structure needs cleaning")                                                            \
    LIN(118, ENOTNAM, "Not a XENIX named type file")                                                         \
    LIN(119, ENAVAIL, "No XENIX semaphores available")                                                       \
    LIN(120, EISNAM, "Is a named type file")                                                                 \
    LIN(121, EREMOTEIO, "Remote I/O error")                                                                  \
    LIN(122, EDQUOT, "Disk quota exceeded")                                                                  \
    LIN(123, ENOMEDIUM, "No medium found")                                                                   \
    LIN(124, EMEDIUMTYPE, "Wrong medium type")                                                               \
    ALL(125, ECANCELED, "Operation canceled")                                                                \
    LIN(126, ENOKEY, "Required key not available")                                                           \
    LIN(127, EKEYEXPIRED, "Key has expired")                                                                 \
    LIN(128, EKEYREVOKED, "Key has been revoked")                                                            \
    LIN(129, EKEYREJECTED, "Key was rejected by service")                                                    \
    ALL(130, EOWNERDEAD, "Owner died")                                                                       \
    ALL(131, ENOTRECOVERABLE, "State not recoverable")                                                       \
    LIN(132, ERFKILL, "Operation not possible due to RF-kill")                                               \
    LIN(133, EHWPOISON, "Memory page has hardware error")

typedef struct entry {
    int num;
    const char *name, *text;
} entry;

/* The first entry of a number is the one that lookups by number find. */
static const entry table[] = {
/* clang-format off */
#define ROW(num, name, text) {num, #name, text},
    SYSTEM_ERRORS(ROW, ROW)
    NL_RUNTIME_ERRORS(ROW)
#undef ROW
    {11, "EWOULDBLOCK", NULL},
    {35, "EDEADLOCK", NULL},
    {95, "ENOTSUP", NULL},
    /* clang-format on */
};

/* Errors are rare: a walk over 150 rows is soon enough. */
static const entry *find(int num)
{
    for (size_t i = 0; i < nl_countof(table); i++) {
        if (table[i].num == num) {
            return &table[i];
        }
    }
    return NULL;
}

const char *nl_strerror(int err)
{
    static _Thread_local char unknown[32];
    const entry *e = find(err);
    if (e) {
        return e->text;
    }
    if (err == 0) {
        return "success";
    }
    snprintf(unknown, sizeof(unknown), "unknown error %d", err);
    return unknown;
}

const char *nl_errname(int err)
{
    const entry *e = find(err);
    return e ? e->name : NULL;
}

const char *nl_err_at(int i, int *err)
{
    if (i < 0 || (size_t)i >= nl_countof(table)) {
        return NULL;
    }
    *err = table[i].num;
    return table[i].name;
}

#ifdef __linux__

int nl_err_from_os(int os_errno)
{
    return os_errno;
}

#else

int nl_err_from_os(int os_errno)
{
    static const struct {
        int os, num;
    } map[] = {
/* clang-format off */
#define ROW(num, name, text) {name, num},
#define NONE(num, name, text)
        SYSTEM_ERRORS(ROW, NONE)
#ifdef ENOTSUP
        {ENOTSUP, 95},
#endif
#ifdef EWOULDBLOCK
        {EWOULDBLOCK, 11},
#endif
#ifdef ESHUTDOWN
        {ESHUTDOWN, 108},
#endif
#ifdef EHOSTDOWN
        {EHOSTDOWN, 112},
#endif
#ifdef ESTALE
        {ESTALE, 116},
#endif
#ifdef EDQUOT
        {EDQUOT, 122},
#endif
#undef NONE
#undef ROW
        /* clang-format on */
    };
    if (os_errno == 0 || os_errno >= 200) {
        return os_errno; /* no error, or the runtime's own number */
    }
    for (size_t i = 0; i < nl_countof(map); i++) {
        if (map[i].os == os_errno) {
            return map[i].num;
        }
    }
    return 5; /* EIO: something that Linux has no number for */
}

#endif

const char *nl_err_text(int result)
{
    return nl_strerror(nl_err_from_os(-result));
}

/*
 * jump.h - setjmp and longjmp that only restore registers.
 *
 * Purpose:   leaves frames that are lost anyway.  On Windows longjmp calls the handlers of all
 *            frames that it leaves, LuaJIT's among them, unless setjmp was told of no frame.
 * Threads:   a jump ends on the thread it begins on.
 * Ownership: none.
 */
#ifndef NL_JUMP_H
#define NL_JUMP_H

#include <setjmp.h>

#ifdef _WIN32
#define nl_setjmp(buf) _setjmp(buf, NULL)
#else
#define nl_setjmp(buf) setjmp(buf)
#endif

#endif

/*
 * libs.h - which libraries a state has open.
 *
 * Purpose: opening all of LuaJIT's takes 30 µs and 20 KB, which is more than all the rest of a
 *   context; a script does not notice that fewer are open.
 * Threads: the one that runs the state; nl_libs_register before the first.
 * Ownership: the table of modules stays the caller's, and constant.
 *
 * A state starts with `base` alone.  The text of a file is looked through for the
 * libraries' names when it is compiled, and before its chunk runs,
 *
 *  - one whose name stands there only in the form `math.floor` gets a stub, an empty table
 *    that is filled when a field is first asked for or set (`context` and `timer`, in which each
 *    context uses little: with that field alone, unless the text assigns to a field of theirs);
 *  - one whose name stands there otherwise (`local m = math`) is opened;
 *  - all are opened if there is a word through which names are made up at run time (_G, getfenv,
 *    load …), and before a module in C is loaded; require opens what it is asked for.
 *
 * So no script can tell the difference, and what it may need is known from its text alone.
 */
#ifndef NL_LIBS_H
#define NL_LIBS_H

#include "lua/vm/chunk.h"

/* A module of the runtime's own, or what it adds to one of LuaJIT's. */
typedef struct nl_module {
    uint32_t lib; /* NL_LIB_* */
    const char *name;
    /* Leaves its table on the stack.  NULL: LuaJIT's opener. */
    lua_CFunction open;
    /* Of NL_LIB_BY_FIELD: pushes one field, nil if there is none. */
    void (*push_field)(lua_State *L, const char *);
    /* LuaJIT's table is on top: replaces what is our own in it. */
    void (*extend)(lua_State *L);
} nl_module;
/* The modules, ended by one without a name; set before the first state. */
void nl_libs_register(const nl_module *table);

/*
 * Pushes the chunk's function on L, of any state, and opens the libraries it may need.  0, or an
 * error of lua_load with its message: it raises none, so that no caller loses its reference.
 */
int nl_libs_load_chunk(nl_chunk *c, lua_State *L);
/* Makes open what is not open yet, stubs what is neither.  May raise, for memory, as the next. */
void nl_libs_prepare(lua_State *L, const nl_libs_needed *n);
void nl_libs_open(lua_State *L, uint32_t mask);
/*
 * Pops a module's table: it becomes the global of that name and what require answers, or its
 * contents go into the stub.
 */
void nl_libs_install(lua_State *L, const char *name);
/* Opens what every state has: base, and what opens `string` when a method of strings is called. */
void nl_libs_open_base(lua_State *L);

#endif

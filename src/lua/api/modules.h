/*
 * modules.h - the modules that scripts see, for life.c to register with load/libs.h.
 *
 * Purpose: life.c alone names these openers.
 * Threads: the one that runs the state.
 * Ownership: none.
 */
#ifndef NL_MODULES_H
#define NL_MODULES_H

#include "lua/run/lctx.h"

/* Each leaves its table on the stack. */
int luaopen_nl_context(lua_State *L);
int luaopen_nl_tcp(lua_State *L);
int luaopen_nl_timer(lua_State *L);
int luaopen_nl_buffer(lua_State *L);
/* Pushes one field of the module, nil if it has none of that name. */
void nl_context_push_field(lua_State *L, const char *name);
void nl_timer_push_field(lua_State *L, const char *name);
/* Replaces what is the runtime's own in LuaJIT's table of that name, on top of the stack. */
void nl_io_extend(lua_State *L);
void nl_math_extend(lua_State *L);
void nl_os_extend(lua_State *L);
void nl_string_extend(lua_State *L);
/* io_write.c: replaces the global function print. */
void nl_print_open(lua_State *L);

/* lib_context.c: what context.create calls, life.c's; set before the first context. */
struct nl_packet;
typedef int nl_context_creator(uint64_t *handle, lua_State *L, nl_lctx *parent, const char *file,
                               const char *name, struct nl_packet *args);
void nl_context_set_creator(nl_context_creator *create);
/* The context has got its handle after the module was opened. */
void nl_context_set_self(lua_State *L);

/* lib_timer.c: when the context has ended. */
void nl_ltimers_free(nl_lctx *lc);

#endif

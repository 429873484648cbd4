/* boot.c - see boot.h */
#include "lua/boot.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "lua/load/libs.h"
#include "lua/load/paths.h"

static const nl_lua_options *options;

void nl_boot_set_options(const nl_lua_options *o)
{
    options = o;
    nl_paths_set_environment(!o->no_environment);
}

const char *nl_boot_script(void)
{
    return options->script_index < options->argc && !options->bytecode ? options->argv[options->script_index]
                                                                       : NULL;
}

/* --- parts ------------------------------------------------------------------------------------ */

/*
 * The main function where more runs than a script: each part in turn, then the script, then the
 * prompt.  A part is {function, argument}.
 */
static const char sequence[] = "local parts, script, prompt = ...\n"
                               "return function(...)\n"
                               "  for i = 1, #parts do parts[i][1](parts[i][2]) end\n"
                               "  if not prompt then\n"
                               "    if script then return script(...) end\n"
                               "    return\n"
                               "  end\n"
                               "  if script then script(...) end\n"
                               "  return prompt()\n"
                               "end\n";

/* With a table of parts on top: adds require(name). */
static void add_require(lua_State *L, const char *name)
{
    lua_createtable(L, 2, 0);
    nl_libs_open(L, NL_LIB_PACKAGE);
    lua_getglobal(L, "require");
    lua_rawseti(L, -2, 1);
    lua_pushstring(L, name);
    lua_rawseti(L, -2, 2);
    lua_rawseti(L, -2, (int)lua_objlen(L, -2) + 1);
}

/*
 * The same: adds the function of a chunk, which is released, if there was no error.  Else the
 * message is on top.
 */
static int add_chunk(lua_State *L, nl_chunk *c, int err)
{
    if (err) {
        return err;
    }
    err = nl_libs_load_chunk(c, L) ? -NL_ESYNTAX : 0;
    nl_chunk_release(c);
    if (!err) {
        lua_createtable(L, 1, 0);
        lua_insert(L, -2);
        lua_rawseti(L, -2, 1);
        lua_rawseti(L, -2, (int)lua_objlen(L, -2) + 1);
    }
    return err;
}

static int add_text(lua_State *L, const char *text, const char *name)
{
    nl_chunk *c = NULL;
    int err = nl_chunk_from_text(&c, L, text, strlen(text), name);
    return add_chunk(L, c, err);
}

/* LUA_INIT: text, or "@file". */
static int add_init(lua_State *L)
{
    const char *init = options->no_environment ? NULL : getenv("LUA_INIT");
    if (!init) {
        return 0;
    }
    if (*init != '@') {
        return add_text(L, init, "=LUA_INIT");
    }
    nl_chunk *c = NULL;
    int err = nl_chunk_get(&c, L, init + 1);
    if (err && err != -NL_ESYNTAX) {
        lua_pushfstring(L, "cannot open %s: %s", init + 1, nl_err_text(err));
    }
    return add_chunk(L, c, err);
}

static void add_each(lua_State *L)
{
    for (int i = 0; i < options->neach; i++) {
        add_require(L, options->each[i]);
    }
}

/* Pushes a table of what runs before the script. */
static int push_parts(lua_State *L)
{
    lua_createtable(L, options->nchunks, 0);
    int err = add_init(L);
    if (err) {
        return err;
    }
    add_each(L);
    for (int i = 0; i < options->nchunks && !err; i++) {
        const char *o = options->chunks[i];
        if (*o == 'l') {
            add_require(L, o + 1);
        } else {
            err = add_text(L, o + 1, "=(command line)");
        }
    }
    return err;
}

/*
 * With the script's function or nil, the prompt's or nil, and the parts on top: replaces them by
 * the main function.
 */
static void push_sequence(lua_State *L)
{
    if (lua_objlen(L, -1) == 0 && lua_isnil(L, -2)) {
        lua_pop(L, 2); /* a script alone is its own main function */
        return;
    }
    if (luaL_loadbuffer(L, sequence, sizeof sequence - 1, "=[nl-jit]")) {
        lua_error(L);
    }
    lua_insert(L, -4); /* sequence, script, prompt, parts */
    lua_insert(L, -3); /* sequence, parts, script, prompt */
    lua_call(L, 3, 1);
}

/* --- the first context ------------------------------------------------------------------------ */

/* What follows "b" in the option itself is jit.bcsave's first argument. */
static const char make_bytecode[] = "return require('jit.bcsave').start(...)";

static int load_script(nl_chunk **c, lua_State *L)
{
    const char *file = nl_boot_script();
    if (options->bytecode) {
        return nl_chunk_from_text(c, L, make_bytecode, sizeof make_bytecode - 1, "=[nl-jit]");
    }
    return strcmp(file, "-") == 0 ? nl_chunk_from_stdin(c, L) : nl_chunk_get(c, L, file);
}

/* Pushes the script's function, nil for none. */
static int push_script(lua_State *L)
{
    if (options->script_index == options->argc) {
        lua_pushnil(L);
        return 0;
    }
    nl_chunk *c = NULL;
    int err = load_script(&c, L);
    if (!err) {
        err = nl_libs_load_chunk(c, L) ? -NL_ESYNTAX : 0;
        nl_chunk_release(c);
    }
    if (err && err != -NL_ESYNTAX) {
        lua_pushfstring(L, "cannot open %s: %s", nl_boot_script(), nl_err_text(err));
    }
    return err;
}

static int push_prompt(lua_State *L)
{
    if (!options->interactive) {
        lua_pushnil(L);
        return 0;
    }
    nl_chunk *c = nl_chunk_embedded(L, "prompt");
    int err = nl_libs_load_chunk(c, L);
    nl_chunk_release(c);
    return err ? -NL_ESYNTAX : 0;
}

/* The script's name at 0, its arguments from 1 on, what stands before it below 0. */
static void set_arg(lua_State *L)
{
    lua_createtable(L, options->argc - options->script_index, options->script_index + 1);
    for (int i = 0; i < options->argc; i++) {
        lua_pushstring(L, options->argv[i]);
        lua_rawseti(L, -2, i - options->script_index);
    }
    lua_setglobal(L, "arg");
}

int nl_boot_push_first(lua_State *L)
{
    set_arg(L);
    int err = push_script(L);
    err = err ? err : push_prompt(L);
    err = err ? err : push_parts(L);
    if (!err) {
        push_sequence(L);
    }
    return err;
}

int nl_boot_push_arguments(lua_State *L)
{
    int n = lua_gettop(L);
    luaL_checkstack(L, options->argc + 1, "too many arguments");
    if (options->bytecode && options->argv[options->script_index][2]) {
        lua_pushfstring(L, "-%s", options->argv[options->script_index] + 2);
    }
    for (int i = options->script_index + 1; i < options->argc; i++) {
        lua_pushstring(L, options->argv[i]);
    }
    return lua_gettop(L) - n;
}

/* --- other contexts --------------------------------------------------------------------------- */

void nl_boot_push_other(lua_State *L, nl_chunk *c)
{
    if (nl_libs_load_chunk(c, L) != 0) {
        lua_error(L);
    }
    if (options->neach) {
        lua_pushnil(L);
        lua_createtable(L, options->neach, 0);
        add_each(L);
        push_sequence(L);
    }
}

void nl_boot_set_arg(lua_State *L, const char *file, lua_State *from, int n)
{
    lua_createtable(L, n, 1);
    lua_pushstring(L, file);
    lua_rawseti(L, -2, 0);
    int top = lua_gettop(from);
    for (int i = 1; i <= n; i++) {
        lua_pushvalue(from, top - n + i);
        lua_xmove(from, L, 1);
        lua_rawseti(L, -2, i);
    }
    lua_setglobal(L, "arg");
}

/* pack_cdata.c - cdata that are one number or bool; see pack_impl.h */
#include <string.h>

#include "lua/msg/pack_impl.h"
/* The kinds, numbered from 1 as in make_helper. */
enum { INT64 = 1, UINT64, INT32, UINT32, INT16, UINT16, INT8, UINT8, FLOAT, DOUBLE, BOOL };
static const uint8_t size_of[] = {0, 8, 8, 4, 4, 2, 2, 1, 1, 4, 8, 1};

static const char helper_key = 0;

/*
 * Pushes a table made once per state: at 1 a function that tells the kind of a cdata, 0 for one
 * that is not carried; at 1 + kind the type of that kind.  Runs under pcall.
 */
static int make_helper(lua_State *L)
{
    static const char code[] =
        "local ffi = ...\n"
        "local type, is = ffi.typeof, ffi.istype\n"
        "local i8, u8 = type 'int64_t', type 'uint64_t'\n"
        "local i4, u4, i2, u2 = type 'int32_t', type 'uint32_t', type 'int16_t', type 'uint16_t'\n"
        "local i1, u1, f, d, b = type 'int8_t', type 'uint8_t', type 'float', type 'double', type 'bool'\n"
        "return { function(v)\n"
        "  return is(i8, v) and 1 or is(u8, v) and 2 or is(i4, v) and 3 or is(u4, v) and 4 or is(i2, v) and "
        "5 or\n"
        "    is(u2, v) and 6 or is(i1, v) and 7 or is(u1, v) and 8 or is(f, v) and 9 or is(d, v) and 10 or\n"
        "    is(b, v) and 11 or 0\n"
        "end, i8, u8, i4, u4, i2, u2, i1, u1, f, d, b }\n";
    if (luaL_loadbuffer(L, code, sizeof code - 1, "=pack")) {
        return lua_error(L);
    }
    nl_state_push_ffi(L);
    lua_call(L, 1, 1);
    lua_pushlightuserdata(L, (void *)&helper_key);
    lua_pushvalue(L, -2);
    lua_rawset(L, LUA_REGISTRYINDEX);
    return 1;
}

/* Leaves the helper table on the stack; 0, or an error with its message there. */
static int push_helper(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)&helper_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    if (lua_istable(L, -1)) {
        return 0;
    }
    lua_pop(L, 1);
    lua_pushcfunction(L, make_helper);
    return nl_lua_pcall(L, 0, 1);
}

/*
 * ffi.typeof's values are cdata too, and ffi.istype takes them for what they are the type of.  The
 * helper is on top.
 */
static bool is_ctype(lua_State *L, int idx)
{
#if NL_LUAJIT_INSIDE
    lua_rawgeti(L, -1, 1 + INT64);
    bool is = cdataV(L->base + idx - 1)->ctypeid == cdataV(L->top - 1)->ctypeid;
    lua_pop(L, 1);
    return is;
#else
    bool found = luaL_callmeta(L, idx, "__tostring");
    bool is = !found || strncmp(lua_tostring(L, -1), "ctype<", 6) == 0;
    lua_pop(L, found);
    return is;
#endif
}

bool nl_cdata_pack(lua_State *L, int idx, unsigned char v[NL_CDATA_BYTES])
{
    int kind = 0;
    if (!lua_checkstack(L, 6)) {
        return false;
    }
    if (push_helper(L) == 0 && !is_ctype(L, idx)) {
        lua_rawgeti(L, -1, 1);
        lua_pushvalue(L, idx);
        if (nl_lua_pcall(L, 1, 1) == 0) {
            kind = (int)lua_tointeger(L, -1);
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    memset(v, 0, NL_CDATA_BYTES);
    v[0] = (unsigned char)kind;
    memcpy(v + 1, lua_topointer(L, idx), size_of[kind]);
    return kind != 0;
}

/* The script has put something else in ffi's place: the value, as near as a number gets. */
static void push_nearest(lua_State *L, int kind, const unsigned char *p)
{
    union {
        uint64_t u;
        float f;
        double d;
    } v;
    int unused = 64 - 8 * size_of[kind];
    memcpy(&v, p, 8);
    if (kind == FLOAT || kind == DOUBLE) {
        lua_pushnumber(L, kind == FLOAT ? v.f : v.d);
    } else if (kind == BOOL) {
        lua_pushboolean(L, v.u != 0);
    } else {
        lua_pushnumber(L, kind & 1 ? (lua_Number)((int64_t)(v.u << unused) >> unused) : (lua_Number)v.u);
    }
}

bool nl_cdata_push(lua_State *L, const unsigned char *p)
{
    int kind = *p++;
    if (nl_unlikely(!lua_checkstack(L, 6))) {
        lua_pushnil(L); /* there is room for one */
        return false;
    }
    if (nl_unlikely(push_helper(L))) {
        lua_pop(L, 1);
        push_nearest(L, kind, p);
        return true;
    }
    lua_rawgeti(L, -1, 1 + kind);
    nl_lua_call(L, 0, 1);
    memcpy((void *)(uintptr_t)lua_topointer(L, -1), p, size_of[kind]);
    lua_remove(L, -2);
    return true;
}

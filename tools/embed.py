#!/usr/bin/env python3
"""Writes the C table of embedded Lua modules (src/lua/vm/embedded.h).

    embed.py OUTPUT.c FILE... --lualib ROOT --jit DIR NAME...

A FILE below ROOT becomes the module of its path: ROOT/a/b.lua is a.b. DIR/NAME.lua becomes jit.NAME.
"""
import argparse
import pathlib

parser = argparse.ArgumentParser()
parser.add_argument("output", type=pathlib.Path)
parser.add_argument("files", nargs="*", type=pathlib.Path)
parser.add_argument("--lualib", type=pathlib.Path, required=True)
parser.add_argument("--jit", nargs="*", default=[])
args = parser.parse_args()

modules = {}
for path in args.files:
    modules[".".join(path.resolve().relative_to(args.lualib.resolve()).with_suffix("").parts)] = path
if args.jit:
    for name in args.jit[1:]:
        modules["jit." + name] = pathlib.Path(args.jit[0], name + ".lua")


def c_bytes(data):
    rows = (",".join(map(str, data[i : i + 32])) for i in range(0, len(data), 32))
    return ",\n".join(rows)


with args.output.open("w") as out:
    out.write('// Written by tools/embed.py.\n#include "lua/vm/embedded.h"\n\n')
    table = []
    for i, (name, path) in enumerate(sorted(modules.items())):
        data = path.read_bytes()
        out.write(f"// {name}\nstatic const unsigned char m{i}[] = {{\n{c_bytes(data + bytes(1))}}};\n")
        table.append(f'    {{"{name}", (const char *)m{i}, {len(data)}}},\n')
    out.write("\nconst nl_embedded nl_lualib[] = {\n" + "".join(table) + "    {NULL, NULL, 0},\n};\n")
    out.write(f"const size_t nl_lualib_count = {len(table)};\n")

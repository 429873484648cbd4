#!/usr/bin/env python3
"""Draws the rooms of src/, and fails on a use that runs up or on a circle of rooms.

    tools/rooms.py [--uses]

A room is a folder of src/ (src/lua has rooms of its own), or the files beside them.  ORDER says which stands on which.
A file uses another room when it includes a header of it, or names a function or variable that the room defines, even
through a header of a third room.  --uses also lists each use that runs up or down, file by file.
"""
import collections
import os
import re
import sys

ORDER = ["base", "reactor", "sched", "net", "lua/vm", "lua/run", "lua/msg", "lua/api", "lua/load", "lua", "."]

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "src")
STRIP = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.S)
INCLUDE = re.compile(r'^#include "([^"]+)"', re.M)
DEFINED = re.compile(r"^(?!static|typedef|extern|#|\s)[A-Za-z_][^;{}()=]*?\b(nl_\w+)\s*(?:\([^;{}]*\)\s*\{|(?:\[[^\]]*\])?\s*(?:=|;))", re.M)
NAME = re.compile(r"\bnl_\w+")


def read_sources():
    files = {}
    for folder, _, names in os.walk(TOP):
        for name in names:
            if name.endswith((".c", ".h")):
                path = os.path.join(folder, name)
                with open(path, encoding="utf-8") as f:
                    files[os.path.relpath(path, TOP)] = f.read()
    return files


def room_of(path):
    return os.path.dirname(path) or "."


def find_uses(files):
    """(using file, used file): names, for uses between rooms."""
    defined_in = {}
    bare = {path: STRIP.sub(" ", text) for path, text in files.items()}
    for path, text in bare.items():
        if path.endswith(".c"):
            for name in DEFINED.findall(text):
                defined_in[name] = path
    uses = collections.defaultdict(set)
    for path, text in files.items():
        for header in INCLUDE.findall(text):
            if header in files and room_of(header) != room_of(path):
                uses[path, header].add("#include")
        for name in set(NAME.findall(bare[path])):
            other = defined_in.get(name)
            if other and room_of(other) != room_of(path):
                uses[path, other].add(name)
    return uses


def find_circle(edges):
    """A list of rooms that use each other in a circle, or None."""
    state = {}

    def visit(room, path):
        if state.get(room) == "done":
            return None
        if room in path:
            return path[path.index(room):] + [room]
        for other in sorted(edges.get(room, ())):
            circle = visit(other, path + [room])
            if circle:
                return circle
        state[room] = "done"
        return None

    for room in sorted(edges):
        circle = visit(room, [])
        if circle:
            return circle
    return None


def main():
    files = read_sources()
    uses = find_uses(files)
    level = {room: i for i, room in enumerate(ORDER)}
    unknown = sorted({room_of(path) for path in files} - set(ORDER))
    edges, up = collections.defaultdict(collections.Counter), []
    for (user, used), names in sorted(uses.items()):
        a, b = room_of(user), room_of(used)
        edges[a][b] += 1
        if level.get(b, 0) > level.get(a, 0):
            up.append((user, used, names))
        if "--uses" in sys.argv:
            print(f"{user} -> {used}: {', '.join(sorted(names))}")

    lines, count = collections.Counter(), collections.Counter()
    for path, text in files.items():
        lines[room_of(path)] += text.count("\n")
        count[room_of(path)] += 1
    print(f"{'room':10} {'files':>5} {'lines':>6}  uses (pairs of files)")
    for room in reversed(ORDER):
        below = ", ".join(f"{other} {n}" for other, n in sorted(edges[room].items(), key=lambda e: -level.get(e[0], 0)))
        print(f"{room if room != '.' else 'main':10} {count[room]:5} {lines[room]:6}  {below or '-'}")
    print(f"{'all':10} {sum(count.values()):5} {sum(lines.values()):6}")

    for room in unknown:
        print(f"rooms: src/{room} has no place in ORDER (tools/rooms.py)")
    for user, used, names in up:
        print(f"rooms: src/{user} uses src/{used} above it: {', '.join(sorted(names))}")
    circle = find_circle({room: set(others) for room, others in edges.items()})
    if circle:
        print("rooms: a circle: " + " -> ".join(circle))
    print(f"{len(up)} uses upwards, {1 if circle else 0} circles of rooms")
    return 1 if up or circle or unknown else 0


sys.exit(main())

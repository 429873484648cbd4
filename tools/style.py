#!/usr/bin/env python3
"""Fails on what a reader of src/ should not meet, and no compiler or formatter tells.

    tools/style.py

- A header's head comment has the three fixed words: Purpose, Threads, Ownership.
- A file has no more than 600 lines.
- A comment's line has no more than 100 columns.
"""
import os
import re
import subprocess
import sys

LINES, COLUMNS = 600, 100
TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
COMMENT = re.compile(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|/\*.*?\*/|//[^\n]*', re.S)


def files():
    out = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "src/*.c",
                          "src/*.h", "lualib/*.lua", "tests/unit/*.c", "tests/unit/*.h"],
                         cwd=TOP, capture_output=True, text=True, check=True).stdout
    return [path for path in out.split("\0") if path and os.path.exists(os.path.join(TOP, path))]


def comment_lines(text):
    """Numbers and texts of the lines in which a comment stands."""
    for m in COMMENT.finditer(text):
        if m[0].startswith("/"):
            first = text.count("\n", 0, m.start())
            for number in range(first, first + m[0].count("\n") + 1):
                yield number


def check(path):
    with open(os.path.join(TOP, path), encoding="utf-8") as f:
        text = f.read()
    lines = text.split("\n")
    if len(lines) - 1 > LINES:
        yield f"{path}: {len(lines) - 1} lines, more than {LINES}"
    if not path.startswith("src/"):
        return
    if path.endswith(".h"):
        head = text[: text.find("*/")]
        missing = [word for word in ("Purpose:", "Threads:", "Ownership:") if word not in head]
        if missing:
            yield f"{path}: its head comment lacks {', '.join(missing)}"
    for number in sorted(set(comment_lines(text))):
        if len(lines[number]) > COLUMNS:
            yield f"{path}:{number + 1}: a comment of {len(lines[number])} columns, more than {COLUMNS}"


def main():
    found = [problem for path in files() for problem in check(path)]
    print("\n".join(found + [f"{len(found)} findings of style"]))
    return 1 if found else 0


sys.exit(main())

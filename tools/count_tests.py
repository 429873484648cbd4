#!/usr/bin/env python3
"""Prints "PASSED FAILED SKIPPED" for one run of `meson test`, from its testlog.json; on standard error, what was skipped and why.

Every test program speaks TAP, so the cases are counted where they are reported: a line "ok" or "not ok"; those marked SKIP or
TODO are skipped. A program that meson calls failed without any case that says so (it crashed, ran out of time, reported fewer
cases than it had planned) counts as one failure more; so does one that reported nothing at all.
"""
import json
import re
import sys

CASE = re.compile(r"(not )?ok\b[\s\d]*-?\s*(.*?)(?:\s*\[([^\]]*)\])?\s*(?:#\s*(?:skip|todo)\b\S*\s*(.*))?$", re.IGNORECASE)
MARKED = re.compile(r"(not )?ok\b.*#\s*(skip|todo)", re.IGNORECASE)
REASON = re.compile(r"# skipped: (.*)")  # of compat/criterion, on a line before

passed = failed = 0
skipped = {}  # (name, reason): in which settings

with open(sys.argv[1], encoding="utf-8") as log:
    for run in map(json.loads, log):
        reason, cases, bad = "", 0, 0
        for line in run.get("stdout", "").splitlines():
            if said := REASON.match(line):
                reason = said[1]
            elif case := CASE.match(line):
                cases += 1
                if MARKED.match(line):
                    skipped.setdefault((case[2], case[4] or reason), []).append(case[3])
                elif case[1]:
                    bad += 1
                else:
                    passed += 1
                reason = ""
        if bad == 0 and (run["result"] not in ("OK", "SKIP") or cases == 0):
            bad = 1
        failed += bad

for (name, reason), settings in sorted(skipped.items()):
    where = f" [{', '.join(dict.fromkeys(filter(None, settings)))}]" if any(settings) else ""
    print(f"skipped: {name}{where}: {reason or 'no reason given'}", file=sys.stderr)
print(passed, failed, sum(map(len, skipped.values())))

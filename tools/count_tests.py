#!/usr/bin/env python3
"""Prints "PASSED FAILED" for one run of `meson test`, from its testlog.json.

Every test program speaks TAP, so the cases are counted where they are reported: a line "ok" or "not ok", those marked SKIP or
TODO left out. A program that meson calls failed without any case that says so (it crashed, ran out of time, reported fewer
cases than it had planned) counts as one failure more; so does one that reported nothing at all.
"""
import json
import re
import sys

case = re.compile(r"^(not )?ok\b(?!.*#\s*(skip|todo))", re.IGNORECASE)
any_case = re.compile(r"^(not )?ok\b")
passed = failed = 0

with open(sys.argv[1], encoding="utf-8") as log:
    for run in map(json.loads, log):
        lines = run.get("stdout", "").splitlines()
        results = [match.group(1) for match in map(case.match, lines) if match]
        bad = sum(1 for result in results if result)
        passed += len(results) - bad
        failed += bad
        if bad == 0 and (run["result"] not in ("OK", "SKIP") or not any(map(any_case.match, lines))):
            failed += 1

print(passed, failed)

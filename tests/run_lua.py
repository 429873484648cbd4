#!/usr/bin/env python3
"""Runs the Lua-level conformance suite of nl-jit: real scripts in a real process over real sockets.

    python3 tests/run_lua.py --nl-jit build/release/nl-jit [--workers 1,2,8] [--jobs N] [filter…]

Two kinds of units: the scripts tests/lua/*.lua, which test from inside (framework: tests/lua/lib/t.lua), and the functions
test_*(h) of tests/peers/test_*.py, which drive nl-jit from outside as an independent peer (tests/peers/harness.py).  Every unit
runs once per worker count and chaos seed, in a process and a directory of its own.  A filter is a piece of a unit's name or of
a rule id.

The head of a Lua script may declare, each in a comment line of its own:
    -- workers: 2,8            only these worker counts make sense
    -- args: a b               its arguments
    -- expect-status: 1        its exit status (0)
    -- expect-stderr: pattern  its standard error has to match (else it must name no error)

--list prints the rule ids; --rules prints tests/rules.md, the table contract clause → tests, from tests/contract.txt.
"""

import argparse
import concurrent.futures
import importlib.util
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from fnmatch import fnmatchcase
from pathlib import Path

TESTS = Path(__file__).resolve().parent
sys.path.insert(0, str(TESTS / "peers"))
import harness  # noqa: E402


class Case:
    """One line of the result."""

    def __init__(self, name, ok, note="", skipped=None):
        self.name, self.ok, self.note, self.skipped = name, ok, note, skipped


class LuaScript:
    """A test script; its cases are those it prints."""

    def __init__(self, path):
        self.path, self.name = path, f"lua/{path.name}"
        self.text = path.read_text()
        header = dict(re.findall(r"^-- (workers|args|expect-status|expect-stderr): *(.*)$", self.text, re.M))
        self.workers = [int(n) for n in header["workers"].split(",")] if "workers" in header else None
        self.args = shlex.split(header.get("args", ""))
        self.status = int(header.get("expect-status", 0))
        self.stderr = header.get("expect-stderr")
        # A name may be put together in a loop: ("tcp.frame.%s: …"):format(…) is listed as it stands.
        self.tests = re.findall(r'\btest\s*\(\s*\(?"((?:[^"\\]|\\.)+)"', self.text)

    def run(self, settings, tmp):
        argv = [*settings.command, "-w", str(settings.workers), str(self.path), *self.args]
        process = harness.Process(argv, settings.environment(tmp), tmp, settings.timeout, crlf=settings.windows)
        hung = None
        try:
            process.popen.wait(settings.timeout)
        except subprocess.TimeoutExpired:
            hung = f"did not end within {settings.timeout:.0f} s\n{harness.diagnose(process.pid)}"
            process.kill()
        result = process.result()
        return self.judge(result, hung)

    def judge(self, result, hung):
        cases, planned, running = [], None, None
        for line in result.stdout.splitlines():
            if m := re.match(r"(not )?ok \d+ - (.*?)(?: # SKIP (.*))?$", line):
                cases.append(Case(m[2], not m[1], skipped=m[3]))
                running = None
            elif m := re.match(r"1\.\.(\d+)$", line):
                planned = int(m[1])
            elif m := re.match(r"# run (.*)", line):
                running = m[1]
            elif line.startswith("# ") and cases and not cases[-1].ok:
                cases[-1].note += line[2:] + "\n"
        problems = [hung] if hung else []
        if running:
            cases.append(Case(running, False, "did not come to its end\n"))
        failed = any(not case.ok for case in cases)
        if not hung and result.status != (1 if failed and planned else self.status):
            problems.append(f"exit status {result.status}")
        if not hung and planned is None:
            problems.append("the script did not reach t.done()")
        elif planned is not None and planned != len(cases):
            problems.append(f"{len(cases)} results, {planned} planned")
        if problem := harness.stderr_problem(result.stderr, self.stderr):
            problems.append(problem)
        if problems:
            problems.append(f"--- stderr\n{result.stderr[-4000:]}")
        cases.append(Case(f"{self.path.name}: ends by itself, in order", not problems, "\n".join(problems)))
        return cases


class PyTest:
    """A test function of the Python side."""

    def __init__(self, module, function):
        self.function, self.name = function, f"{module}.{function.__name__}"
        self.tests = [(inspect.getdoc(function) or "unnamed").splitlines()[0]]
        self.path = Path(inspect.getsourcefile(function))
        self.workers = getattr(function, "workers", None)

    def run(self, settings, tmp):
        helper = harness.Helper(settings, tmp)
        try:
            self.function(helper)
            return [Case(self.tests[0], True)]
        except harness.Skip as skip:
            return [Case(self.tests[0], True, skipped=str(skip))]
        except Exception as error:
            note = str(error) if isinstance(error, AssertionError) and error.args else repr(error)
            where = [f"{Path(f.filename).name}:{f.lineno}: {f.line}" for f in traceback.extract_tb(error.__traceback__)[1:]]
            return [Case(self.tests[0], False, "\n".join([note, *where, helper.outputs()]))]
        finally:
            helper.release()


def discover():
    units = [LuaScript(path) for path in sorted((TESTS / "lua").glob("*.lua"))]
    for path in sorted((TESTS / "peers").glob("test_*.py")):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        units += [PyTest(path.stem, f) for name, f in vars(module).items()
                  if name.startswith("test_") and getattr(f, "__module__", None) == path.stem]
    return units


def rule_table(units):
    """tests/rules.md: which tests show which clause of the contract; and the clauses that no test shows."""
    tests = [(name.split(":")[0], name, unit.path.relative_to(TESTS)) for unit in units for name in unit.tests]
    out = ["# Which test shows which rule", "",
           "Made by `python3 tests/run_lua.py --rules > tests/rules.md` from `tests/contract.txt` (the clauses of the API",
           "contract) and the names of the tests. Do not edit.", ""]
    missing, used = [], set()
    for line in (TESTS / "contract.txt").read_text().splitlines():
        if line.startswith("# "):
            out += ["", f"## {line[2:]}", "", "| rule | tests |", "|---|---|"]
        elif " => " in line:
            clause, patterns = line.split(" => ")
            found = {}
            for rule, _, path in tests:
                if any(fnmatchcase(rule, p) for p in patterns.split()):
                    found.setdefault(str(path), []).append(rule)
                    used.add(rule)
            if not found:
                missing.append(clause)
            cell = "; ".join(f"`{path}`: {', '.join(dict.fromkeys(rules))}" for path, rules in found.items())
            out.append(f"| {clause.strip()} | {cell or '**none**'} |")
    stray = [rule for rule, _, _ in tests if rule not in used]
    return "\n".join(out) + "\n", missing, stray


class Reporter:
    def __init__(self, tap):
        self.tap, self.lock = tap, threading.Lock()
        self.passed = self.failed = self.skipped = 0

    def add(self, unit, settings, cases, seconds):
        with self.lock:
            for case in cases:
                self.passed += case.ok
                self.failed += not case.ok
                self.skipped += case.skipped is not None
                if self.tap:
                    tail = f" # SKIP {case.skipped}" if case.skipped is not None else ""
                    name = case.name.replace("#", "\\#")
                    print(f"{'ok' if case.ok else 'not ok'} {self.passed + self.failed} - {name} [{settings}]{tail}")
                elif not case.ok:
                    print(f"FAIL {unit.name} [{settings}]: {case.name}")
                if not case.ok:
                    print("".join(f"# {line}\n" for line in case.note.splitlines()), end="")
            if not self.tap:
                good = sum(case.ok for case in cases)
                print(f"{'ok  ' if good == len(cases) else 'FAIL'} {unit.name} [{settings}] {good}/{len(cases)} {seconds:.1f} s")
            sys.stdout.flush()

    def end(self):
        if self.tap:
            print(f"1..{self.passed + self.failed}")
            return
        if self.skipped:
            print(f"{self.skipped} skipped")
        print(f"{self.passed} passed, {self.failed} failed")


def run_one(unit, settings, reporter):
    tmp = tempfile.mkdtemp(prefix="nlt.")
    start = time.monotonic()
    try:
        cases = unit.run(settings, tmp)
    except Exception:  # the runner's own trouble is a failure of the unit, not of the run
        cases = [Case(unit.name, False, traceback.format_exc())]
    finally:
        shutil.rmtree(tmp, ignore_errors=True)
    reporter.add(unit, settings, cases, time.monotonic() - start)


def span(text):
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--nl-jit", help="the program, or a command line that runs it")
    p.add_argument("--wrapper", default=os.environ.get("MESON_EXE_WRAPPER", ""), help="an emulator's command line, which runs the program")
    p.add_argument("--workers", default="2", help="worker counts, e.g. 1,2,8")
    p.add_argument("--chaos", type=int, help="a seed for the runtime's chaos mode")
    p.add_argument("--chaos-seeds", type=span, metavar="A-B", help="every seed from A to B")
    p.add_argument("--slow", type=float, default=1, help="the build is this much slower: smaller counts, longer time-outs")
    p.add_argument("--timeout", type=float, default=60, help="seconds for one process, times --slow")
    p.add_argument("--jobs", type=int, default=2 * os.cpu_count(), help="units at a time; most of them wait most of the time")
    p.add_argument("--shard", default="0/1", metavar="i/n", help="only the i-th of n parts (from 0)")
    p.add_argument("--tap", action="store_true")
    p.add_argument("--list", action="store_true")
    p.add_argument("--rules", action="store_true")
    p.add_argument("filter", nargs="*")
    return p.parse_args()


def main():
    args = arguments()
    units = discover()
    if args.rules:
        table, missing, stray = rule_table(units)
        print(table, end="")
        for clause in missing:
            print(f"no test: {clause}", file=sys.stderr)
        for rule in stray:
            print(f"no clause: {rule}", file=sys.stderr)
        return 1 if missing or stray else 0
    if args.filter:
        units = [u for u in units if any(f in u.name or any(f in name for name in u.tests) for f in args.filter)]
    if args.list:
        for unit in units:
            for name in unit.tests:
                print(f"{name}  ({unit.path.relative_to(TESTS)})")
        return 0
    if not args.nl_jit:
        sys.exit("run_lua.py: --nl-jit is missing")
    wrapper = shlex.split(args.wrapper)
    command = wrapper + shlex.split(args.nl_jit)
    command[0] = shutil.which(command[0]) or command[0]
    command = [os.path.abspath(word) if os.path.exists(word) else word for word in command]
    if not os.path.exists(command[0]):
        sys.exit(f"run_lua.py: no such program: {command[0]}")

    said = subprocess.run([*command, "-v"], capture_output=True, text=True, timeout=args.timeout * args.slow)
    if said.returncode:
        sys.exit(f"run_lua.py: {shlex.join(command)} -v: status {said.returncode}\n{said.stderr}")
    program = harness.Program(command, said.stdout.splitlines()[0], bool(wrapper))

    part, parts = map(int, args.shard.split("/"))
    units = units[part::parts]
    reporter = Reporter(args.tap)
    counts = [int(n) for n in args.workers.split(",")]
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for seed in args.chaos_seeds or [args.chaos]:
            for unit in units:
                # A unit that makes sense only with other counts runs once, with its own.
                own = [n for n in counts if not unit.workers or n in unit.workers] or unit.workers[:1]
                for workers in own:
                    settings = harness.Settings(program, workers, seed, args.slow, args.timeout)
                    pool.submit(run_one, unit, settings, reporter)
    reporter.end()
    return 1 if reporter.failed or not reporter.passed else 0


if __name__ == "__main__":
    sys.exit(main())

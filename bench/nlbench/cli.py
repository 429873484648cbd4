"""bench/run: options, and the order in which everything is measured."""

import argparse
import dataclasses
import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

from . import build, machine, measure, plan, progress, report, runtimes, selftest, stats, table

TOP = build.TOP
BENCH = runtimes.BENCH
WARMUP = 0.5
STARTUPS = 10  # processes started in one round

EPILOG = f"""
groups: {' '.join(plan.GROUPS)} {plan.MICRO} (default: all)
runtimes: raw nl {' '.join(runtimes.OTHERS)}

examples:
  bench/run --quick                            a few minutes, to see that all is well
  bench/run echo latency --runtimes raw,nl,go  two groups, three runtimes
  bench/run actors --nl-jit old=/tmp/nl-jit --nl-jit new=build/release/src/nl-jit
                                               two builds of nl-jit side by side
"""


def parse(argv):
    p = argparse.ArgumentParser(prog="bench/run", formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EPILOG,
                                description="Measures nl-jit beside raw C and whatever other runtimes are here; prints tables, "
                                            "writes bench/report.html and bench/report.json.")
    p.add_argument("groups", nargs="*", metavar="GROUP", help="what to measure")
    p.add_argument("--quick", action="store_true", help="one short round of the most telling configurations")
    p.add_argument("--rounds", type=int, help="how often everything is measured (3; quick: 1)")
    p.add_argument("--seconds", type=float, help="length of one run (2; quick: 0.5)")
    p.add_argument("--configs", type=_names, default=[], metavar="A,B", help="only these configurations (see --list)")
    p.add_argument("--runtimes", type=_names, default=[], metavar="A,B", help="only these")
    p.add_argument("--variants", action=argparse.BooleanOptionalAction,
                   help="also with one worker, several processes and the like, in the configurations that have them (unless --quick)")
    p.add_argument("--nl-jit", action="append", default=[], metavar="[NAME=]PATH",
                   help="the binary to measure; several, each with a name, to compare them (default: built now)")
    p.add_argument("--workers", type=_numbers, default=[], metavar="N,M",
                   help="measure nl-jit with these numbers of workers too, in every configuration")
    p.add_argument("--build", type=Path, default=TOP / "build/release", metavar="DIR", help="Meson's directory (build/release)")
    p.add_argument("--output", type=Path, default=BENCH, metavar="DIR", help="where the report goes (bench)")
    p.add_argument("--from", dest="source", type=Path, metavar="JSON", help="measures nothing: tables and page from a report.json")
    p.add_argument("--list", action="store_true", help="lists configurations and runtimes")
    p.add_argument("--selftest", action="store_true", help="tests the driver itself, with made-up data")
    o = p.parse_args(argv)
    for g in o.groups:
        if g not in plan.GROUPS and g != plan.MICRO:
            p.error(f"there is no group {g}; there are: {' '.join(plan.GROUPS)} {plan.MICRO}")
    known = {c.name for c in plan.CONFIGS} | {c.id for c in plan.CONFIGS}
    for c in o.configs:
        if c not in known:
            p.error(f"there is no configuration {c} (bench/run --list)")
    for r in o.runtimes:
        if r not in ("raw", "nl", *runtimes.OTHERS):
            p.error(f"there is no runtime {r}; there are: raw nl {' '.join(runtimes.OTHERS)}")
    o.rounds = o.rounds or (1 if o.quick else 3)
    o.seconds = o.seconds or (0.5 if o.quick else 2.0)
    o.variants = not o.quick if o.variants is None else o.variants
    o.warmup = min(WARMUP, o.seconds)
    if o.rounds < 1 or o.seconds <= 0:
        p.error("--rounds and --seconds must be more than 0")
    o.build = o.build.resolve()
    return o


def _names(s):
    return [n for n in s.split(",") if n]


def _numbers(s):
    numbers = [int(n) for n in _names(s)]
    if not numbers or min(numbers) < 1:
        raise ValueError
    return numbers


def find_runtimes(o, say, programs):
    """Those that are asked for and there, in the order of the tables' first column."""
    ncpu = len(os.sched_getaffinity(0))

    def wanted(key):
        return not o.runtimes or key in o.runtimes

    found = []
    if wanted("raw"):
        found += runtimes.raw(programs, ncpu)
    if wanted("nl"):
        for given in o.nl_jit or [str(build.nl_jit(o.build))]:
            name, _, path = given.rpartition("=")
            path = Path(path).resolve()
            if not path.exists():
                raise SystemExit(f"bench: there is no {path}")
            found += runtimes.nl_jit(name, path, ncpu, o.workers)
    for key, find in runtimes.OTHERS.items():
        if not wanted(key):
            continue
        there = find(TOP / "build/bench-peers")
        if there:
            found += there
        else:
            hint = f" (on Debian: apt-get install {runtimes.DEBIAN[key]})" if key in runtimes.DEBIAN else ""
            say(f"bench: {key} is not here, skipped{hint}")
    return found


def steps_of(o, configs, found):
    """(round, config, runtime) in the order of measuring: in each round each config's runtimes, rotated by the round."""
    for r in range(o.rounds):
        for config in configs:
            here = [rt for rt in found if rt.can(config) and (not rt.variant or rt.asked or (o.variants and config.everyone))]
            if config.group == "idle" and r > 0:
                continue  # memory is the same each time, and looking takes long
            turn = r % len(here) if here else 0
            for rt in here[turn:] + here[:turn]:
                yield r + 1, config, rt


def expected(o, config):
    """About how many seconds one step takes."""
    if config.mode == "idle":
        return o.seconds + 5.5
    if config.group == "startup":
        return STARTUPS * 0.15
    if config.bench == "timers":
        return 2.6
    if config.amount:
        return 1.2
    return o.seconds + (o.warmup + 0.8 if not config.bench else 0.4)


def run_step(o, programs, config, runtime):
    if config.group == "startup":
        return measure.startup(runtime, STARTUPS)
    if config.bench:
        return measure.actors(runtime, config, o.seconds, o.quick)
    return measure.load(programs / "nl-load", runtime, config, o.seconds, o.warmup)


def measure_all(o, configs, found, programs, bar, micro):
    runs = []
    steps = list(steps_of(o, configs, found))
    for number, config, runtime in steps:
        bar.step(f"round {number}/{o.rounds}: {config.id} {runtime.label}", expected(o, config), f"round {number}: {config.group}")
        run = {"config": config.id, "runtime": runtime.key, "round": number}
        try:
            run["metrics"] = run_step(o, programs, config, runtime)
        except measure.Failed as why:
            run["failed"] = str(why)
            bar.say(f"bench: {config.id} {runtime.label}: {why}")
        runs.append(run)
    results = measure_micro(o, programs / "nl-micro", bar) if micro else []
    bar.end()
    return runs, results


def measure_micro(o, nl_micro, bar):
    argv = [nl_micro, "--json", *(["--ms", "5", "--repeats", "5"] if o.quick else [])]
    bar.step("micro-benchmarks", 12 if not o.quick else 3, "micro")
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True)
    if done.returncode != 0:
        bar.say(f"bench: nl-micro: {done.stderr.strip() or done.returncode}")
        return []
    results = [json.loads(line) for line in done.stdout.splitlines()]
    for r in results:
        if "instructions" in r:
            r["counted_by"] = "the processor"
        elif r["threads"] == 1:
            bar.step(f"instructions of {r['name']}", 1.5, "micro")
            counted = build.count_instructions(nl_micro, r["name"], r["ns"])
            if counted is not None:
                r["instructions"], r["counted_by"] = counted, "callgrind"
    return results


def show_list():
    for c in plan.CONFIGS:
        print(f"{c.id:<18} {'quick' if c.quick else '     '}  {c.title}")
    print(f"{plan.MICRO:<18} quick  parts of nl-jit by themselves: nl-micro")
    print(f"\nruntimes: raw nl {' '.join(runtimes.OTHERS)}")


def write(o, data):
    o.output.mkdir(parents=True, exist_ok=True)
    (o.output / "report.html").write_text(report.html(data))
    if not o.source:
        (o.output / "report.json").write_text(json.dumps(data, indent=1) + "\n")


def main(argv):
    o = parse(argv)
    if o.selftest:
        return selftest.main(o.build)
    if o.list:
        show_list()
        return 0
    if o.source:
        data = json.loads(o.source.read_text())
        write(o, data)
        print(table.everything(data))
        return 0

    def say(text):
        print(text, file=sys.stderr, flush=True)

    micro = plan.MICRO in o.groups or (not o.groups and not o.configs)
    groups = [g for g in o.groups if g != plan.MICRO]
    configs = plan.choose(groups, o.configs, o.quick) if groups or o.configs or not o.groups else []
    programs = build.programs(o.build, micro)
    found = find_runtimes(o, say, programs) if configs else []
    total = sum(expected(o, c) for _, c, _ in steps_of(o, configs, found)) + (45 if micro else 0)
    bar = progress.Progress(total)
    bar.say(f"bench: about {total / 60:.0f} min: {len(configs)} configurations, {o.rounds} round{'s' if o.rounds > 1 else ''}: "
            + " · ".join(r.label for r in found if not r.variant or r.asked or o.variants))
    made = datetime.datetime.now().strftime("%Y-%m-%d %H:%M")
    runs, results = measure_all(o, configs, found, programs, bar, micro)
    used = {run["runtime"] for run in runs}
    keep = ("key", "label", "family", "version", "variant")
    data = {
        "format": 1,
        "made": made,
        "machine": machine.describe(),
        "options": {"rounds": o.rounds, "seconds": o.seconds, "warmup": o.warmup, "quick": o.quick},
        "runtimes": [{k: getattr(r, k) for k in keep} for r in found if r.key in used],
        "configs": [{**dataclasses.asdict(c), "id": c.id} for c in configs],
        "runs": runs,
        "micro": results,
        "summary": stats.summarise(runs),
    }
    write(o, data)
    print(table.everything(data))
    words, loud = report.noise(data)
    print(f"\n{words}" + (" That is much: measure again when it is quieter." if loud else ""))
    print(f"{os.path.relpath(o.output / 'report.html')}")
    ours = {r.key for r in found if r.ours or r.family == "raw"}
    return 1 if any("failed" in run and run["runtime"] in ours for run in runs) else 0

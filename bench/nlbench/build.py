"""Builds what is measured and what measures: nl-jit, nl-load, the C baseline, nl-micro."""

import contextlib
import fcntl
import re
import shutil
import subprocess
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent


@contextlib.contextmanager
def _alone():
    """Holds the lock that ./dev takes too, so that two builds do not meet in one directory."""
    (TOP / "build").mkdir(exist_ok=True)
    with open(TOP / "build/.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(argv):
    done = subprocess.run([str(a) for a in argv], cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise SystemExit(f"bench: {argv[0]} failed:\n{done.stdout}")
    return done.stdout


def nl_jit(build):
    """The path of nl-jit in that build directory, built now if it is the usual one."""
    binary = build / "src/nl-jit"
    if build == TOP / "build/release":
        _run([TOP / "dev", "build"])
    if not binary.exists():
        raise SystemExit(f"bench: there is no {binary.relative_to(TOP)}")
    return binary


def programs(build, micro):
    """Builds the benchmarks' own programs there; returns their directory."""
    if not (build / "build.ninja").exists():
        with _alone():
            _run(["meson", "setup", build])
    with _alone():
        _run(["ninja", "-C", build, "bench/nl-load", "bench/baseline", *(["bench/nl-micro"] if micro else [])])
    return build / "bench"


def count_instructions(nl_micro, name, ns):
    """
    Instructions of one operation as callgrind counts them: the difference between two numbers of operations, so that what
    comes before and after cancels out. None where valgrind is missing. ns: how long one takes, about.
    """
    if not shutil.which("valgrind"):
        return None
    counts = []
    few = int(min(102400, max(1024, 2e7 / ns))) // 512 * 512  # a whole number of every benchmark's bursts
    for ops in (few, 2 * few):
        done = subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", str(nl_micro), "--ops",
                               str(ops), name], capture_output=True, text=True)
        found = re.search(r"Collected : (\d+)", done.stderr)
        if done.returncode != 0 or not found:
            return None
        counts.append(int(found.group(1)))
    return (counts[1] - counts[0]) / few

"""One measurement at a time: starts a server and loads it, or runs a program to its end."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from . import stats

READY_MAX = 15  # s that a server may take until it accepts
SETTLE = 0.2  # s more, until it has come to rest


class Failed(Exception):
    """A measurement came to nothing; the text says why."""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def processor_ticks():
    return [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]


def family(pid):
    """The process and all that descend from it."""
    children = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = stat.read_text().rsplit(")", 1)[1].split()
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [pid]
    for p in found:
        found += children.get(p, [])
    return found


def _end(process):
    """Kills the process's group, which is its own session, and waits for it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _ended(code, log):
    """How a process ended, with the last line that it wrote."""
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
    return how + (f": {lines[-1][:200]}" if lines else "")


@contextlib.contextmanager
def serving(argv, env, port):
    """Runs a server while the block runs; yields its processes. It works in a directory of its own."""
    with tempfile.TemporaryFile() as log, tempfile.TemporaryDirectory() as cwd:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=cwd, start_new_session=True,
                                   env={**os.environ, **env})
        try:
            until = time.monotonic() + READY_MAX
            while True:
                if process.poll() is not None:
                    raise Failed("the server " + _ended(process.returncode, log))
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                if time.monotonic() > until:
                    raise Failed("the server does not accept connections")
                time.sleep(0.01)
            time.sleep(SETTLE)
            yield family(process.pid)
            if process.poll() is not None:
                raise Failed("the server " + _ended(process.returncode, log))
        finally:
            _end(process)


def load(nl_load, runtime, config, seconds, warmup):
    """Metrics of one server under one load."""
    port = free_port()
    with serving(runtime.server_argv(port, config.mode, config.head), runtime.env, port) as pids:
        argv = [nl_load, config.mode, "--json", "--port", port, "--pid", ",".join(map(str, pids)), "--head", config.head,
                "--seconds", seconds, "--warmup", warmup, *config.load]
        before, started = processor_ticks(), time.monotonic()
        try:
            done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=60 + 10 * seconds)
        except subprocess.TimeoutExpired:
            raise Failed("nl-load came to no end") from None
        busy, steal = stats.percent_busy(before, processor_ticks())
        took = time.monotonic() - started
    if done.returncode != 0:
        raise Failed((done.stderr.strip().splitlines() or [f"nl-load ended with {done.returncode}"])[0])
    metrics = {k: v for k, v in json.loads(done.stdout).items() if isinstance(v, (int, float))}
    own = metrics.get("server_cpu", 0) + metrics.get("load_cpu", 0)
    if config.mode != "idle":  # which rests most of the time
        metrics["foreign_cpu"] = max(0.0, busy * os.cpu_count() - own * (seconds + warmup) / max(took, seconds + warmup))
        metrics["steal"] = steal
    return metrics


def whole(argv, env, limit):
    """Runs a program to its end: its output, wall time, CPU time, and how often its threads went to sleep."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryDirectory() as cwd:
        started = time.perf_counter()
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=cwd, start_new_session=True,
                                   env={**os.environ, **env})
        timer = threading.Timer(limit, lambda: os.killpg(process.pid, signal.SIGKILL))
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - started
        except BaseException:
            _end(process)
            raise
        finally:
            timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)  # it has been waited for
        if process.returncode == -signal.SIGKILL:
            raise Failed("took too long")
        if process.returncode != 0:
            raise Failed(_ended(process.returncode, err))
        out.seek(0)
        return out.read().decode(errors="replace"), wall, usage.ru_utime + usage.ru_stime, usage.ru_nvcsw


def actors(runtime, config, seconds, quick):
    """Metrics of one actor program."""
    amount = (config.quick_amount if quick else config.amount) or seconds
    before = processor_ticks()
    out, wall, cpu, sleeps = whole(runtime.actors_argv(config.bench, amount, config.contexts), runtime.env,
                                   60 + 10 * seconds)
    busy, steal = stats.percent_busy(before, processor_ticks())
    metrics = {}
    for line in out.splitlines():
        name, _, value = line.partition(" ")
        with contextlib.suppress(ValueError):
            metrics[name] = float(value)
    if "rate" not in metrics:
        raise Failed("printed no rate")
    count = metrics.get("count") or 0
    if count and not config.amount:
        metrics["cpu_us_msg"] = cpu * 1e6 / count
        metrics["sleeps_msg"] = sleeps / count
    metrics["foreign_cpu"] = max(0.0, busy * os.cpu_count() - cpu / wall)
    metrics["steal"] = steal
    return metrics


def startup(runtime, times):
    """Milliseconds from start to end of a program that prints one word; the median of so many times."""
    runs = []
    for _ in range(times):
        out, wall, cpu, _ = whole([str(a) for a in runtime.hello], runtime.env, 60)
        if "hello" not in out:
            raise Failed("did not print what it should")
        runs.append((wall * 1e3, cpu * 1e3))
    return {"ms": stats.summary([w for w, _ in runs])["median"], "cpu_ms": stats.summary([c for _, c in runs])["median"]}

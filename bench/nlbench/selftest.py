"""
Tests of the driver with made-up data, and of nl-load against servers that do well and badly. Prints TAP.

What needs nl-load and the C baseline is skipped where they have not been built.
"""

import contextlib
import html.parser
import io
import json
import re
import socket
import subprocess
import threading
import time
import traceback
import xml.etree.ElementTree as ET
from pathlib import Path

from . import measure, plan, progress, report, runtimes, stats, svg, table


class Skip(Exception):
    pass


# --- Made-up data ---------------------------------------------------------------------------------------------------------


def runtime(key, label, family, variant=False):
    return {"key": key, "label": label, "family": family, "version": "1.0", "variant": variant}


RUNTIMES = [runtime("raw", "raw C", "raw"), runtime("nl", "nl-jit", "nl"), runtime("nl-w1", "nl-jit, 1 worker", "nl", True),
            runtime("go", 'Go <"&\'>', "go"), runtime("erlang", "Erlang", "erlang")]
SPEED = {"raw": 1.0, "nl": 0.9, "nl-w1": 0.85, "go": 0.75, "erlang": 0.6}


def made_up(keys=tuple(SPEED), rounds=3, configs=None):
    """A report's data in which raw C does 100,000 of everything and the others their share of it."""
    configs = configs if configs is not None else plan.CONFIGS
    runs = []
    for r in range(rounds):
        for c in configs:
            for k in keys:
                wobble = SPEED[k] * (1 + 0.1 * (r - 1))
                m = {"msgs_s": 1e5 * wobble, "rate": 1e5 * wobble, "cpu_us_msg": 5 / SPEED[k], "conn_bytes": 80, "ms": 3.0,
                     "conn_bytes_echoed": 90 / SPEED[k], "foreign_cpu": 0.01, "steal": 0.0, "kb_each": 20, "late_p99_ms": 1.2}
                m |= {name: 50.0 * 3**i / SPEED[k] for i, (name, _) in enumerate(report.PERCENTILES)}
                m |= {"all_" + name: v for name, v in m.items() if name.startswith("p")}
                runs.append({"config": c.id, "runtime": k, "round": r + 1, "metrics": m})
    return {
        "format": 1, "made": "2000-01-01 00:00", "runs": runs,
        "machine": {"processor": "A <fast> one", "processors": 2, "memory_gb": 4, "system": "Linux 6", "virtual": True},
        "options": {"rounds": rounds, "seconds": 2.0, "warmup": 0.5, "quick": False},
        "runtimes": [r for r in RUNTIMES if r["key"] in keys],
        "configs": [{**c.__dict__, "id": c.id} for c in configs],
        "micro": [{"name": "a.b", "what": "a < b", "threads": 1, "ns": 1.5, "ns_min": 1.2, "instructions": 7.0,
                   "counted_by": "callgrind"}, {"name": "c", "what": "d", "threads": 2, "ns": 50.0, "ns_min": 40.0}],
    }


class Balance(html.parser.HTMLParser):
    """Complains of elements that are not closed in their order."""

    VOID = {"meta", "br"}

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()


def sound(page):
    """The page is well formed, needs nothing from outside, and has no number that is none."""
    b = Balance()
    b.feed(page)
    assert not b.open, b.open
    charts = re.findall(r"<svg.*?</svg>", page, re.S)
    for chart in charts:
        ET.fromstring(chart)
    for bad in ("nan", "None", "inf", "http", "src=", "url(", "@import"):
        assert not re.search(rf"(?<![a-zA-Z]){re.escape(bad)}(?![a-z])", page), bad
    return charts


# --- The driver -----------------------------------------------------------------------------------------------------------


def test_summary():
    s = stats.summary([3, 1, 2, None, float("nan")])
    assert s == {"median": 2, "min": 1, "max": 3, "n": 3}
    assert stats.summary([]) is None
    assert stats.spread(s) == 0.5
    assert stats.spread(stats.summary([5])) == 0


def test_ratio():
    assert stats.ratio(1, 2) == 0.5
    assert stats.ratio(None, 2) is None and stats.ratio(1, None) is None and stats.ratio(1, 0) is None


def test_best():
    s = {"a": {"m": stats.summary([1])}, "b": {"m": stats.summary([2])}, "c": {}}
    assert stats.best(s, "m", False, "abc") == "b"
    assert stats.best(s, "m", True, "abc") == "a"
    assert stats.best(s, "m", True, "c") is None


def test_summaries_leave_failures_out():
    runs = [{"config": "x", "runtime": "go", "round": i, "metrics": {"m": v}} for i, v in enumerate((10, 30, 20))]
    runs.append({"config": "x", "runtime": "go", "round": 4, "failed": "why"})
    assert stats.summarise(runs)["x"]["go"]["m"] == {"median": 20, "min": 10, "max": 30, "n": 3}


def test_processor_shares():
    busy, steal = stats.percent_busy([0] * 10, [20, 0, 20, 50, 0, 0, 0, 10, 0, 0])
    assert (busy, steal) == (0.5, 0.1)
    assert stats.percent_busy([1] * 10, [1] * 10) == (0.0, 0.0)


def test_ticks():
    assert svg.linear_ticks(0) == [0, 1]
    assert svg.linear_ticks(100) == [0, 20, 40, 60, 80, 100]
    assert svg.linear_ticks(7.1) == [0, 2, 4, 6, 8]
    assert svg.log_ticks(9, 11000) == [10, 100, 1000, 10000]
    assert svg.log_ticks(40, 120) == [50, 100]
    assert [svg.short(x) for x in (0.5, 999, 1500, 2e7)] == ["0.5", "999", "1.5k", "20M"]
    assert [svg.microseconds(x) for x in (5, 2500, 3e6)] == ["5 µs", "2.5 ms", "3 s"]


def test_labels_are_kept_apart():
    placed = svg.spread_labels([10, 10, 11, 90], 14, 0, 100)
    assert placed == sorted(placed) and all(b - a >= 14 for a, b in zip(placed, placed[1:])) and placed[3] == 90
    many = svg.spread_labels([50] * 20, 14, 0, 100)
    assert min(many) >= -1e-9 and max(many) <= 100 + 1e-9
    assert svg.spread_labels([], 14, 0, 100) == []


def test_charts_are_sound():
    series = [{"label": "a<b", "family": "nl", "faint": False, "points": {1: 5, 10: 0, 100: 7}}]
    for log in (False, True):
        ET.fromstring(svg.lines(series, [1, 10, 100], "t", "x", "y", x_log=log, y_log=log))
    ET.fromstring(svg.lines(series, [1], "one", "x", "y", x_log=True))
    assert svg.lines([], [1], "none", "x", "y") == ""
    row = {"label": "a&b", "family": "go", "faint": True, "value": 0, "low": 0, "high": 0, "note": "0"}
    ET.fromstring(svg.bars([row], 'with "quotes"'))
    ET.fromstring(svg.bars([{**row, "value": 2, "high": 3}], "t", (2.5, "raw")))


def test_plan():
    ids = [c.id for c in plan.CONFIGS]
    assert len(set(ids)) == len(ids)
    assert {c.group for c in plan.choose([], [], True)} == set(plan.GROUPS)
    assert [c.id for c in plan.choose([], ["d1", "actors/ring"], False)] == ["echo/d1", "actors/ring"]
    assert all(c.group == "bcast" for c in plan.choose(["bcast"], [], False))
    assert set(report.ABOUT) == set(plan.GROUPS) and all(table.columns({"id": c.id, "group": c.group}) for c in plan.CONFIGS)


def test_order_rotates():
    from . import cli

    o = cli.parse(["--rounds", "3", "--no-variants"])
    found = [runtimes.Runtime(k, k, k, server=["x"]) for k in "abc"]
    found.append(runtimes.Runtime("v", "v", "a", server=["x"], variant=True))
    steps = list(cli.steps_of(o, plan.choose([], ["d1", "i10000"], False), found))
    assert ["".join(r.key for n, c, r in steps if n == i and c.name == "d1") for i in (1, 2, 3)] == ["abc", "bca", "cab"]
    assert len([1 for n, c, r in steps if c.group == "idle"]) == 3  # one round of it is enough


def test_table():
    data = made_up()
    text = table.everything(data)
    block = next(b for b in text.split("\n\n") if b.startswith("echo/d1"))
    nl = next(line for line in block.splitlines() if "nl-jit " in line)
    assert nl.split()[1:5] == ["90,000", "10.0", "0.90", "5.56"], nl
    block = next(b for b in text.split("\n\n") if b.startswith("actors/pingpong"))
    nl = next(line for line in block.splitlines() if "nl-jit " in line)
    assert nl.split()[1:4] == ["90,000", "10.0", "1.20"], nl  # to Go, the best of the others
    block = next(b for b in text.split("\n\n") if b.startswith("micro"))
    assert "7.00" in block and "–" in block


def test_table_tells_failures():
    data = made_up(rounds=1, configs=plan.CONFIGS[:1])
    data["runs"][1] = {"config": "echo/d1", "runtime": "nl", "round": 1, "failed": "byte 3 was wrong"}
    assert "nl-jit: failed: byte 3 was wrong" in table.everything(data)
    assert "byte 3 was wrong" in report.html(data)


def test_best_of_the_others_is_by_metric():
    data = made_up(rounds=1)
    for run in data["runs"]:
        run["metrics"]["kb_each"] = {"raw": 1, "nl": 2, "nl-w1": 2, "go": 9, "erlang": 3}[run["runtime"]]
    s, group = stats.summarise(data["runs"])["actors/spawn"], plan.GROUPS["actors"]
    assert table.reference(group, s, data["runtimes"]) == ("go", "best peer")
    assert table.reference(group, s, data["runtimes"], "kb_each", True) == ("erlang", "best peer")
    assert table.reference(plan.GROUPS["echo"], s, data["runtimes"], "kb_each", True) == ("raw", "raw C")
    assert table.reference(group, s, [r for r in data["runtimes"] if r["family"] == "nl"]) == ("nl", "nl-jit")


def test_limits_of_the_load_are_marked():
    data = made_up(rounds=1, configs=plan.CONFIGS[:1])
    assert table.MEANING not in table.everything(data)
    for run in data["runs"]:
        run["metrics"]["load_cpu"] = 0.99 if run["runtime"] == "raw" else 0.5
    text = table.everything(data)
    assert table.MEANING in text and text.count("*") == 2 and "90,000*" in text
    assert table.MEANING in report.html(data)


def test_page():
    data = json.loads(json.dumps(made_up()))
    page = report.html(data)
    charts = sound(page)
    assert len(charts) >= len([c for c in plan.CONFIGS if not c.x])
    assert "0.90 ×" in page and "A &lt;fast&gt; one" in page and "nl-jit" in page
    assert page.count('class="tile"') == 0 and page.count("class='tile'") == 6


def test_page_of_little():
    for keys in (("raw",), ("nl",), ("go", "erlang"), ()):
        sound(report.html(made_up(keys, rounds=1)))
        table.everything(made_up(keys, rounds=1))
    data = made_up(configs=[])
    data["micro"] = []
    sound(report.html(data))
    failed = made_up(rounds=1, configs=plan.CONFIGS[:2])
    failed["runs"] = [{"config": r["config"], "runtime": r["runtime"], "round": 1, "failed": "<no>"} for r in failed["runs"]]
    sound(report.html(failed))
    table.everything(failed)


def test_page_warns():
    data = made_up(rounds=1)
    assert "not quiet" not in report.html(data)
    for run in data["runs"]:
        run["metrics"]["foreign_cpu"] = 0.8
    assert "not quiet" in report.html(data)


def test_progress():
    out = io.StringIO()
    p = progress.Progress(20, out)
    for i in range(4):
        p.step(f"step {i}", 5, "chapter")
        assert p.left() >= 0
    p.end()
    assert out.getvalue().count("\n") == 1 and out.getvalue().startswith("[  0 %] chapter")


def test_options():
    from . import cli

    assert cli.parse(["--workers", "2,8"]).workers == [2, 8]
    assert cli.parse(["--quick"]).rounds == 1 and cli.parse([]).rounds == 3 and not cli.parse(["--quick"]).variants
    for bad in (["nonsense"], ["--configs", "nope"], ["--runtimes", "cobol"], ["--rounds", "-1"], ["--workers", "0"], ["--seconds", "-2"]):
        with contextlib.redirect_stderr(io.StringIO()):
            try:
                cli.parse(bad)
            except SystemExit as e:
                assert e.code == 2
            else:
                raise AssertionError(bad)


def test_processes():
    out, wall, cpu, _ = measure.whole(["sh", "-c", "echo hello"], {}, 10)
    assert out == "hello\n" and 0 < wall < 10 and cpu >= 0
    for argv, limit, why in ((["sh", "-c", "echo oh no >&2; exit 3"], 10, "oh no"), (["sleep", "30"], 0.2, "too long"),
                             (["sh", "-c", "kill -PIPE $$"], 10, "killed by SIGPIPE")):
        try:
            measure.whole(argv, {}, limit)
        except measure.Failed as e:
            assert why in str(e), e
        else:
            raise AssertionError(argv)


def test_servers_that_do_not_start():
    for argv in (["sh", "-c", "echo sorry; exit 1"], ["false"]):
        try:
            with measure.serving(argv, {}, measure.free_port()):
                pass
        except measure.Failed as e:
            assert "the server ended with status 1" in str(e)
        else:
            raise AssertionError(argv)


# --- nl-load --------------------------------------------------------------------------------------------------------------


class Built:
    """Where nl-load and the baseline are, if they have been built."""

    dir = None

    @classmethod
    def program(cls, name):
        path = cls.dir / "bench" / name if cls.dir else None
        if not path or not path.exists():
            raise Skip(f"{name} is not built")
        return str(path)


def load(port, mode, *options, seconds=0.3):
    argv = [Built.program("nl-load"), mode, "--json", "--port", port, "--seconds", seconds, "--warmup", 0.1, *options]
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr, json.loads(done.stdout) if done.stdout else {}


@contextlib.contextmanager
def peer(behave):
    """A server on a thread: behave(connection) is called for each connection, with others waiting meanwhile."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=guarded, args=(connection,), daemon=True).start()

        def guarded(connection):
            with contextlib.suppress(OSError), connection:
                behave(connection)

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def test_load_of_the_baseline():
    program = Built.program("baseline")
    Built.program("nl-load")
    for mode, head, options in (("echo", 2, ()), ("echo", 0, ("--size", 3)), ("echo", 4, ("--size", 70000, "--depth", 9)),
                                ("echo", 1, ("--size", 0)), ("echo", 2, ("--threads", 2, "--rate", 500)),
                                ("storm", 2, ()), ("bcast", 2, ()), ("bcast", 4, ("--rate", 50))):
        port = measure.free_port()
        argv = [program, str(port), "bcast" if mode == "bcast" else "echo", str(head)]
        with measure.serving(argv, {}, port) as pids:
            what = ("--head", head, "--connections", 10, "--pid", pids[0], *options)
            status, err, got = load(port, mode, *what)
        assert status == 0 and err == "" and got["errors"] == 0, (mode, head, options, err, got)
        assert got["msgs_s"] > 0 and got["max_us"] >= got["p99_us"] >= got["p50_us"] > 0, got
        assert got["server_cpu"] > 0 and got["cpu_us_msg"] > 0, got


def test_load_of_resting_connections():
    program, port = Built.program("baseline"), measure.free_port()
    Built.program("nl-load")
    with measure.serving([program, str(port), "echo", "2"], {}, port) as pids:
        status, _, got = load(port, "idle", "--connections", 300, "--pid", pids[0], seconds=0.5)
    assert status == 0 and got["sleeps_s"] == 0 and 0 <= got["conn_bytes"] < 4096, got


def test_load_sees_a_wrong_byte():
    def behave(c):
        while data := bytearray(c.recv(65536)):
            if len(data) > 20:
                data[20] ^= 1
            c.sendall(data)

    with peer(behave) as port:
        status, err, got = load(port, "echo", "--connections", 1)
    assert status == 1 and got["errors"] == 1 and "byte 20 of 66" in err, err


def test_load_sees_a_doubled_message():
    with peer(lambda c: [c.sendall(d + d) for d in iter(lambda: c.recv(65536), b"")]) as port:
        status, err, _ = load(port, "echo", "--connections", 1)
    assert status == 1 and err, err


def test_load_sees_a_swapped_message():
    """The replies to two connections are exchanged: each is a message, but the other's."""
    waiting, turn = [], threading.Condition()

    def behave(c):
        data = c.recv(65536)
        with turn:
            waiting.append(data)
            turn.notify_all()
            turn.wait_for(lambda: len(waiting) == 2, timeout=5)
        c.sendall(waiting[0] if waiting[1] == data else waiting[1])
        c.recv(65536)

    with peer(behave) as port:
        status, err, got = load(port, "echo", "--connections", 2)
    assert status == 1 and got["errors"] == 2, err


def test_load_sees_an_end():
    with peer(lambda c: c.sendall(c.recv(65536)[:10])) as port:
        status, err, _ = load(port, "echo", "--connections", 2)
    assert status == 1 and "closed the connection" in err, err


def test_load_counts_from_the_due_time():
    """A server that stalls for 0.3 s delays all that was due meanwhile, not only the message that was on its way."""

    def behave(c):
        stall_at = time.monotonic() + 0.5
        while data := c.recv(65536):
            if stall_at and time.monotonic() > stall_at:
                stall_at = None
                time.sleep(0.3)
            c.sendall(data)

    with peer(behave) as port:
        status, err, open_loop = load(port, "echo", "--connections", 1, "--rate", 1000, seconds=1)
        assert status == 0, err
        status, err, closed = load(port, "echo", "--connections", 1, seconds=1)
        assert status == 0, err
    assert open_loop["max_us"] > 250000 and open_loop["p75_us"] > 10000, open_loop  # about 30 % of the messages waited
    assert closed["max_us"] > 250000 and closed["p99_us"] < open_loop["p99_us"], closed
    assert open_loop["unanswered"] == 0


def test_load_counts_what_never_came():
    def behave(c):
        c.sendall(c.recv(66))
        while c.recv(65536):
            pass

    with peer(behave) as port:
        status, _, got = load(port, "echo", "--connections", 1, "--rate", 200, "--grace", 0.2, seconds=0.5)
    assert status == 0 and got["unanswered"] >= 90 and got["p50_us"] > 100000, got


def test_load_refuses_nonsense():
    program = Built.program("nl-load")
    for argv in ([], ["echo"], ["dance", "--port", "1"], ["echo", "--port", "0"], ["echo", "--port", "1", "--head", "3"],
                 ["echo", "--port", "1", "--head", "1", "--size", "256"], ["echo", "--port", "1", "--sice", "1"],
                 ["bcast", "--port", "1", "--size", "4"], ["echo", "--port", "1", "--pid", "0"], ["echo", "--port"]):
        done = subprocess.run([program, *argv], capture_output=True, text=True, timeout=10)
        assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1, (argv, done)
    done = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=10)
    assert done.returncode == 0 and "usage:" in done.stdout
    done = subprocess.run([program, "echo", "--port", str(measure.free_port())], capture_output=True, text=True, timeout=10)
    assert done.returncode == 3 and "refused" in done.stderr


def main(build):
    Built.dir = Path(build)
    tests = [(name[5:].replace("_", " "), f) for name, f in globals().items() if name.startswith("test_")]
    print(f"1..{len(tests)}", flush=True)
    failed = 0
    for i, (name, f) in enumerate(tests, 1):
        try:
            f()
            print(f"ok {i} - {name}", flush=True)
        except Skip as why:
            print(f"ok {i} - {name} # SKIP {why}", flush=True)
        except Exception:
            failed += 1
            print(f"not ok {i} - {name}")
            print("".join(f"# {line}\n" for line in traceback.format_exc().splitlines()), end="", flush=True)
    return 1 if failed else 0

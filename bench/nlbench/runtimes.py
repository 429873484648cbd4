"""The runtimes that are compared: where each is found, how its programs are built and started."""

import dataclasses
import os
import shutil
import subprocess
from pathlib import Path

from . import stats

BENCH = Path(__file__).resolve().parent.parent
PEERS = BENCH / "peers"


@dataclasses.dataclass
class Runtime:
    """One column of the comparison. The argument lists get PORT MODE HEAD, or BENCH AMOUNT [CONTEXTS], appended."""

    key: str
    label: str
    family: str  # variants of one runtime share it, and a colour
    version: str = ""
    variant: bool = False  # measured only where every variant is, unless
    asked: bool = False  # it was asked for by name; faint in charts
    server: list = None
    server_tail: list = dataclasses.field(default_factory=list)
    actors: list = None
    benches: tuple = ("pingpong", "table", "pairs", "flood", "ring", "spawn", "timers")
    hello: list = None
    env: dict = dataclasses.field(default_factory=dict)

    @property
    def ours(self):
        return self.family == "nl"

    def can(self, config):
        if config.group == "startup":
            return self.hello is not None
        if config.bench:
            return self.actors is not None and config.bench in self.benches
        return self.server is not None

    def server_argv(self, port, mode, head):
        mode = "bcast" if mode == "bcast" else "echo"
        return [str(a) for a in [*self.server, port, mode, head, *self.server_tail]]

    def actors_argv(self, bench, amount, contexts):
        return [str(a) for a in [*self.actors, bench, amount, *([contexts] if contexts else [])]]


def _says(argv, env=None):
    """The first line that a command prints, or None if it cannot be run or fails."""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30,
                              env={**os.environ, **(env or {})}, text=True)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.strip().splitlines()
    return lines[0] if done.returncode == 0 and lines else None


def raw(programs, ncpu):
    server = [programs / "baseline"]
    found = [Runtime(stats.RAW, "raw C", "raw", server=server)]
    if ncpu > 1:
        found.append(Runtime("raw-mt", f"raw C, {ncpu} threads", "raw", variant=True, server=server, server_tail=[ncpu]))
    return found


def nl_jit(name, path, ncpu, workers):
    """
    nl-jit at that path; a name tells it from another one in the same comparison. workers: numbers of them, each of which is
    measured too; None: 1, and several contexts, as variants.
    """
    version = _says([path, "-v"])
    if version is None:
        raise SystemExit(f"bench: {path} -v does not run")
    version = version.removeprefix("nl-jit").strip()
    key, label = ("nl" if not name else f"nl-{name}"), ("nl-jit" if not name else f"nl-jit {name}")

    def one(suffix, more, options, **kind):
        return Runtime(key + suffix, label + more, "nl", version, server=[path, *options, BENCH / "lua/server.lua"],
                       actors=[path, *options, BENCH / "lua/actors.lua"], **kind)

    found = [one("", "", [], hello=[path, BENCH / "lua/hello.lua"])]
    for n in workers or [1]:
        found.append(one(f"-w{n}", f", {n} worker{'s' if n > 1 else ''}", ["-w", str(n)], variant=True, asked=bool(workers)))
    if not workers and ncpu > 1:
        found.append(one("-mt", f", {ncpu} contexts", [], variant=True, server_tail=[ncpu]))
        found[-1].actors = None
    return found


def go(out):
    version = _says(["go", "version"])
    if not version:
        return None
    for name in ("server", "actors"):
        _build(["go", "build", "-o", out / f"go-{name}", f"{name}.go"], PEERS / "go" / name,
               PEERS / "go" / name / f"{name}.go", out / f"go-{name}")
    programs = dict(server=[out / "go-server"], actors=[out / "go-actors"])
    version = version.split()[2].removeprefix("go")
    return [
        Runtime("go", "Go", "go", version, **programs),
        Runtime("go-1", "Go, 1 processor", "go", version, variant=True, env={"GOMAXPROCS": "1"}, **programs),
    ]


def erlang(out):
    version = _says(["erl", "-noshell", "-eval", 'io:format("OTP ~s~n", [erlang:system_info(otp_release)]), halt().'])
    if not version or not shutil.which("erlc"):
        return None
    for name in ("server", "actors"):
        _build(["erlc", "-o", out, PEERS / "erlang" / f"{name}.erl"], PEERS, PEERS / "erlang" / f"{name}.erl",
               out / f"{name}.beam")

    def one(key, label, options, **kind):
        run = ["erl", "+P", "1000000", *options, "-noshell", "-noinput", "-pa", out, "-run"]
        return Runtime(key, label, "erlang", version, server=[*run, "server", "main"], actors=[*run, "actors", "main"], **kind)

    found = [one("erlang", "Erlang", []), one("erlang-1", "Erlang, 1 scheduler", ["+S", "1:1"], variant=True)]
    found[0].hello = ["erl", "-noshell", "-noinput", "-eval", 'io:put_chars("hello\\n"), halt().']
    return found


def node(_out):
    version = _says(["node", "--version"])
    if not version:
        return None
    server = ["node", PEERS / "node/server.js"]
    few = ("pingpong", "table", "flood", "timers")
    return [
        Runtime("node", "Node.js", "node", version.removeprefix("v"), server=server, actors=["node", PEERS / "node/actors.js"], benches=few,
                hello=["node", "-e", 'console.log("hello")']),
        Runtime("node-2", "Node.js, 2 processes", "node", version, variant=True, server=server, server_tail=[2]),
    ]


def luajit(_out):
    version = _says(["luajit", "-v"])
    if not version:
        return None
    version = version.split()[1]
    return [Runtime("luajit", "LuaJIT", "luajit", version, hello=["luajit", BENCH / "lua/hello.lua"])]


def luv(_out):
    version = _says(["luajit", "-e", 'print((require("luv").version_string()))'])
    if not version:
        return None
    return [Runtime("luv", "luv", "luv", "libuv " + version, server=["luajit", PEERS / "luv/server.lua"])]


def tarantool(_out):
    version = _says(["tarantool", "-v"])
    if not version:
        return None
    benches = ("pingpong", "table", "pairs", "flood", "ring", "spawn")
    return [
        Runtime("tarantool", "Tarantool", "tarantool", version.split()[-1].split("-")[0],
                server=["tarantool", PEERS / "tarantool/server.lua"], actors=["tarantool", PEERS / "tarantool/actors.lua"],
                benches=benches, hello=["tarantool", BENCH / "lua/hello.lua"])
    ]


OTHERS = {"go": go, "erlang": erlang, "node": node, "luv": luv, "tarantool": tarantool, "luajit": luajit}
DEBIAN = {"go": "golang-go", "erlang": "erlang-base", "node": "nodejs", "luv": "luajit lua-luv", "luajit": "luajit"}


def _build(argv, cwd, source, output):
    if output.exists() and output.stat().st_mtime >= source.stat().st_mtime:
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([str(a) for a in argv], cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"bench: {source.name} cannot be built:\n{done.stderr}{done.stdout}")

"""What is measured: groups of configurations, in full or in short."""

import dataclasses

# kind: how a configuration is run (measure.py): "load" by nl-load against a server, "actors", "startup".
# metric: the one that is compared; lower: less of it is better; against: the raw C baseline, or the best of the others.


@dataclasses.dataclass(frozen=True)
class Group:
    name: str
    title: str
    kind: str
    metric: str
    unit: str
    lower: bool = False
    against: str = "raw"


GROUPS = {
    g.name: g
    for g in [
        Group("echo", "Framed and plain echo", "load", "msgs_s", "messages/s"),
        Group("latency", "Latency at fixed rates", "load", "p99_us", "µs, 99th percentile", lower=True),
        Group("scale", "Echo with growing numbers of connections", "load", "msgs_s", "messages/s"),
        Group("bcast", "Broadcast", "load", "msgs_s", "copies/s"),
        Group("storm", "Connect, echo, close", "load", "msgs_s", "connections/s"),
        Group("idle", "Idle connections", "load", "conn_bytes_echoed", "bytes of memory each", lower=True),
        Group("actors", "Contexts and messages", "actors", "rate", "operations/s", against="best"),
        Group("contexts", "Pairs of contexts in growing numbers", "actors", "rate", "round trips/s", against="best"),
        Group("startup", "Start-up", "startup", "ms", "ms", lower=True, against="best"),
    ]
}
MICRO = "micro"  # a group too, but of C functions, without runtimes


@dataclasses.dataclass(frozen=True)
class Config:
    group: str
    name: str
    title: str
    quick: bool = False  # also measured with --quick
    x: float = 0  # where it stands on the axis of a group that grows
    everyone: bool = False  # with the variants of the runtimes too (more processes, one thread …)
    load: tuple = ()  # options of nl-load beyond the common ones
    mode: str = "echo"
    head: int = 2
    bench: str = ""  # of actors
    amount: int = 0  # 0: seconds
    quick_amount: int = 0
    contexts: int = 0

    @property
    def id(self):
        return f"{self.group}/{self.name}"


def _echo(name, title, connections, size, depth, head=2, **more):
    load = ("--connections", connections, "--size", size, "--depth", depth)
    return Config("echo", name, title, load=load, head=head, **more)


def _rate(rate, **more):
    load = ("--connections", 50, "--size", 64, "--rate", rate)
    return Config("latency", f"r{rate // 1000}k", f"{rate:,} messages/s over 50 connections, 64 B", x=rate, load=load, **more)


def _scale(connections, **more):
    load = ("--connections", connections, "--size", 64, "--depth", 1)
    return Config("scale", f"c{connections}", f"{connections:,} connection{'s' if connections > 1 else ''}, 64 B, one outstanding", x=connections, load=load, **more)


def _bcast(receivers, **more):
    load = ("--connections", receivers, "--size", 64, "--depth", 4)
    title = f"to {receivers:,} connections, 64 B, four on their way"
    return Config("bcast", f"b{receivers}", title, mode="bcast", x=receivers, load=load, **more)


def _idle(connections, **more):
    load = ("--connections", connections, "--size", 64)
    return Config("idle", f"i{connections}", f"{connections:,} connections", mode="idle", load=load, **more)


def _actor(bench, title, **more):
    return Config("actors", bench, title, bench=bench, **more)


def _pairs(n, **more):
    return Config("contexts", f"p{n}", f"{n:,} pair{'s' if n > 1 else ''}", bench="pairs", contexts=n, x=2 * n, **more)


CONFIGS = [
    _echo("d1", "50 connections, 64 B, one outstanding", 50, 64, 1, quick=True, everyone=True),
    _echo("d16", "50 connections, 64 B, 16 outstanding", 50, 64, 16, quick=True, everyone=True),
    _echo("c500", "500 connections, 64 B, one outstanding", 500, 64, 1),
    _echo("k1", "50 connections, 1 KiB, four outstanding", 50, 1024, 4),
    _echo("k16", "10 connections, 16 KiB, four outstanding", 10, 16384, 4, quick=True),
    _echo("raw", "a plain stream: 50 connections, 64 B, one outstanding", 50, 64, 1, head=0),
    _echo("raw64k", "a plain stream: 10 connections, 64 KiB, two outstanding", 10, 65536, 2, head=0),
    _rate(5000),
    _rate(20000, quick=True),
    _rate(50000),
    _scale(1, quick=True),
    _scale(10),
    _scale(100, quick=True),
    _scale(1000, quick=True),
    _scale(5000),
    _bcast(100, quick=True),
    _bcast(1000),
    Config("storm", "s50", "50 at once, 64 B", mode="storm", quick=True, load=("--connections", 50, "--size", 64)),
    _idle(2000, quick=True),
    _idle(10000),
    _actor("pingpong", "one caller, one answerer: round trips of a number", quick=True, everyone=True),
    _actor("table", "the same with {id=1, name=\"abc\", pos={1,2,3}} both ways", quick=True, everyone=True),
    _actor("pairs", "100 such pairs at once", quick=True, everyone=True),
    _actor("flood", "two producers, one consumer: messages", quick=True, everyone=True),
    _actor("ring", "a number passed round 1,000 contexts: hops", quick=True, everyone=True),
    _actor("spawn", "contexts created, each asked once", quick=True, everyone=True, amount=10000, quick_amount=2000),
    _actor("timers", "timers of 1 to 2 s armed in one context", quick=True, everyone=True, amount=100000, quick_amount=20000),
    _pairs(1, quick=True),
    _pairs(10),
    _pairs(100, quick=True),
    _pairs(1000, quick=True),
    _pairs(10000),
    Config("startup", "hello", "a program that prints one word, as a whole process", quick=True),
]


def choose(groups, names, quick):
    """The configurations of these groups (all, if empty), of these names, in their order."""
    chosen = [c for c in CONFIGS if (not groups or c.group in groups) and (not names or c.name in names or c.id in names)]
    if names:
        return chosen
    if quick:
        return [c for c in chosen if c.quick]
    return [c for c in chosen if c.id != "idle/i2000"]

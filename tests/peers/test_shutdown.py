"""The end of a process that somebody asks to end while its output is stuck: nobody reads standard output or standard error."""

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time

from harness import diagnose


class Unread:
    """A small pipe that takes the output of a process, and that nobody reads unless the test does."""

    def __init__(self, h, fill=False):
        self.read_end, self.write_end = os.pipe()
        fcntl.fcntl(self.read_end, fcntl.F_SETPIPE_SZ, 4096)
        if fill:
            os.set_blocking(self.write_end, False)
            os.write(self.write_end, b"\n" * 4096)
            os.set_blocking(self.write_end, True)
        h.defer(self.close)

    def close(self):
        for fd in (self.read_end, self.write_end):
            if fd >= 0:
                os.close(fd)
        self.read_end = self.write_end = -1

    def waiting(self):
        return struct.unpack("i", fcntl.ioctl(self.read_end, termios.FIONREAD, b"\0\0\0\0"))[0]

    def read_all(self):
        os.close(self.write_end)
        self.write_end = -1
        with os.fdopen(self.read_end, "rb", closefd=False) as f:
            return f.read()


class Stuck:
    """An nl-jit whose standard output, standard error or both are pipes that nobody reads."""

    def __init__(self, h, source, *args, streams=("stdout",), workers=None, fill=False):
        self.h = h
        self.pipes = {name: Unread(h, fill) for name in streams}
        argv = [*h.settings.command, "-w", str(workers or h.workers), h.file("main.lua", source).name, *map(str, args)]
        ends = {name: pipe.write_end for name, pipe in self.pipes.items()}
        self.popen = subprocess.Popen(argv, env=h.settings.environment(h.tmp), cwd=h.tmp, stdin=subprocess.DEVNULL,
                                      stdout=ends.get("stdout", subprocess.DEVNULL), stderr=ends.get("stderr", subprocess.DEVNULL))
        h.defer(self.kill)

    def kill(self):
        self.popen.kill()
        self.popen.wait()

    def wait_until(self, done, what):
        deadline = time.monotonic() + self.h.settings.timeout
        while not done():
            assert self.popen.poll() is None, f"it ended with {self.popen.returncode} before {what}"
            assert time.monotonic() < deadline, f"{what} does not come\n{diagnose(self.popen.pid)}"
            time.sleep(0.05)

    def await_file(self, name):
        self.wait_until((self.h.tmp / name).exists, name)

    def await_full(self):
        """Waits until it can write no more."""
        for pipe in self.pipes.values():
            seen = [0, 0]

            def at_rest():
                seen.append(pipe.waiting())
                return seen[-1] and seen[-1] == seen[-2]
            self.wait_until(at_rest, "a full pipe")

    def ends(self, *statuses):
        """It ends by itself, though nobody reads; the runner's limit is the only bound on time."""
        try:
            status = self.popen.wait(self.h.settings.timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the process did not end\n{diagnose(self.popen.pid)}") from None
        assert status in statuses, f"status {status}, want {statuses}"


PRINT = "for i = 1, 3000 do print(('x'):rep(90)) io.stdout:flush() end"
LOG = "for i = 1, 3000 do context.log(('x'):rep(90)) end"
WRITE = "for i = 1, 3000 do io.stderr:write(('x'):rep(90), '\\n') end"
# It computes until the other one runs: a worker that computes has what waits behind it taken away by others.
BOTH = f"context.create('other.lua') while not io.open('runs') do end {PRINT}"
OTHER = f"io.open('runs', 'w'):close() {LOG}"
WAYS = ((PRINT, ("stdout",)), (LOG, ("stderr",)), (WRITE, ("stderr",)), (BOTH, ("stdout", "stderr")))


def test_signal_stuck(h):
    """life.signal.stuck: a process that sleeps in a write to a full pipe ends all the same"""
    h.file("other.lua", OTHER)
    for source, streams in WAYS:
        if len(streams) > 1 and h.workers == 1:
            continue
        for sig in h.signals:
            process = Stuck(h, source, streams=streams)
            process.await_full()
            process.popen.send_signal(sig)
            process.ends(h.ended_by(sig))
            (h.tmp / "runs").unlink(missing_ok=True)


def test_exit_stuck(h):
    """life.exit.stuck: os.exit of another context ends it, too"""
    if h.workers == 1:
        h.skip("needs a second worker")
    h.file("other.lua", OTHER)
    # It looks all the time, and is looked for: so it is on a worker of its own.
    h.file("exit.lua", "io.open('looks', 'w'):close() while not io.open('now') do end os.exit(5)")
    for source, streams in WAYS:
        if len(streams) > 1 and h.workers < 3:
            continue
        process = Stuck(h, "context.create('exit.lua') while not io.open('looks') do end " + source, streams=streams)
        process.await_full()
        h.file("now", "")
        process.ends(5)
        for name in ("looks", "now", "runs"):
            (h.tmp / name).unlink(missing_ok=True)


def buffered(h):
    """How much standard output keeps in its buffer; msvcrt's has 512 bytes, musl's 1024."""
    return 3000 if h.glibc else 400


# Writes as much as the first argument says; then the process is asked to end.
BUFFERED = """
    io.stdout:setvbuf('full') io.write(('x'):rep(tonumber((...))), 'end')
    local loop = select(2, ...)
    if loop then context.recv(context.create(loop)) end
    io.open('exits', 'w'):close()
    os.exit(3)
    """
LOOP = "context.send(context.parent, 1) while true do end"


def test_exit_stuck_timer(h):
    """life.exit.stuck-timer: also with one worker, which sleeps in the write"""
    h.file("other.lua", LOG)
    h.file("exit.lua", "timer.timeout(0.2, function() os.exit(5) end)")
    both = f"context.create('other.lua') {PRINT}"
    for source, streams in (*WAYS[:3], (both, ("stdout", "stderr"))):
        Stuck(h, "context.create('exit.lua') " + source, streams=streams).ends(5)


def test_exit_last_flush(h):
    """life.exit.last-flush: the last flush of standard output does not hold it up, nor does a context that is cut off"""
    h.file("loop.lua", LOOP)
    Stuck(h, BUFFERED, buffered(h), fill=True).ends(3)
    if h.workers > 1:
        Stuck(h, BUFFERED, buffered(h), "loop.lua", fill=True).ends(3)


def test_exit_slow_reader(h):
    """life.exit.slow-reader: what was printed is not lost because it is read late"""
    h.file("loop.lua", LOOP)
    for args in [()] + [("loop.lua",)] * (h.workers > 1):
        process = Stuck(h, BUFFERED, buffered(h), *args, fill=True)
        process.await_file("exits")
        data = process.pipes["stdout"].read_all()
        assert data == b"\n" * 4096 + b"x" * buffered(h) + b"end", len(data)
        process.ends(3)
        (h.tmp / "exits").unlink()


def test_signal_second(h):
    """life.signal.second: a second signal, of either kind, ends it at once"""
    times = []
    for _ in range(5):
        process = Stuck(h, PRINT)
        process.await_full()
        start = time.monotonic()
        for sig in (h.signals * 2)[:2]:
            process.popen.send_signal(sig)
            time.sleep(0.1 * h.settings.windows)  # two of the same kind at once are one
        process.ends(*map(h.ended_by, h.signals))
        times.append(time.monotonic() - start)
        if times[-1] < 1:
            return
    raise AssertionError(f"it took {times} s")


# What a context prepares, and what it then cannot be ended in.
UNENDING = {
    "pattern": ("local s = ('a'):rep(40000)", "s:find(('.-'):rep(30) .. 'b')"),
    "replace": ("local s = ('a'):rep(40000)", "return (s:gsub(('.-'):rep(30) .. 'b', ''))"),
    "call": ("local ffi = require 'ffi' ffi.cdef 'unsigned sleep(unsigned);' local sleep = ffi.C.sleep",
             "while true do sleep(1000000) end"),
}


def unending(h):
    """Those that there are here: the ffi of a static program finds no functions."""
    try:
        h.needs_ffi("sleep")
        return UNENDING.items()
    except h.Skip:
        return [item for item in UNENDING.items() if item[0] != "call"]


def test_unending_sockets(h):
    """context.destroy.unending-sockets: its connections are cut, its port is free, and the sockets beside it are served"""
    if h.workers == 1:
        h.skip("needs a second worker")
    h.needs_ffi("open", "write")
    os.mkfifo(h.tmp / "inside")
    h.file("bad.lua", """
        local _, l = tcp.listen('127.0.0.1', 0)
        context.send(context.parent, tcp.local_port(l))
        local _, idle = tcp.accept(l)
        local _, full = tcp.accept(l)
        tcp.write(idle, 'hello')
        tcp.write(full, ('x'):rep(20000000))
        timer.sleep(0)
        local ffi = require 'ffi'
        ffi.cdef 'int open(const char *, int); long write(int, const void *, size_t);'
        ffi.C.write(ffi.C.open('inside', 1), ffi.new 'char[1000000]', 1000000)
        """)
    h.file("echo.lua", """
        local _, l = tcp.listen('127.0.0.1', 0)
        context.send(context.parent, tcp.local_port(l))
        tcp.accept(l, function(_, s) tcp.read(s, function(ok, b) if ok then tcp.write(s, b) end end) end)
        """)
    process = h.start("""
        local h = context.create('bad.lua')
        local _, port = context.recv(h)
        print('port ' .. port) io.stdout:flush()
        io.read()
        for i = 1, 4 do print('port ' .. select(2, context.recv((context.create('echo.lua'))))) end
        io.stdout:flush()
        io.read()
        context.destroy(h)
        print(context.wait(h))
        print(tcp.listen('127.0.0.1', port))
        io.stdout:flush()
        """, stdin=subprocess.PIPE)

    def go_on():
        process.popen.stdin.write(b"\n")
        process.popen.stdin.flush()

    port = process.port()
    idle, full = h.connect(port), h.connect(port, rcvbuf=4096)
    assert idle.read(5) == b"hello"
    inside = os.open(h.tmp / "inside", os.O_RDONLY | os.O_NONBLOCK)
    h.defer(lambda: os.close(inside))
    assert select.select([inside], [], [], process.timeout)[0] and os.read(inside, 1)  # it is in the call, and stays
    go_on()
    for peer in [h.connect(process.port()) for _ in range(4)]:
        peer.send(b"hello")
        assert peer.read(5) == b"hello"
    go_on()
    process.expect("true\t0\tdoes not end")
    assert idle.read_all() == b""
    try:
        length = len(full.read_all())
        raise AssertionError(f"an end in order after {length} bytes")
    except ConnectionResetError:
        pass
    process.expect("true\t.*")
    process.popen.send_signal(h.signals[0])
    process.finish(h.ended_by(h.signals[0]), stderr="was told to end and does not")


def test_signal_execute(h):
    """life.signal.execute: a signal is heard while a context waits for a command"""
    h.needs_posix("the shell")
    for sig in h.signals:
        process = h.start("os.execute('echo begun; exec sleep 20 > /dev/null 2>&1')")
        process.expect("begun")
        process.popen.send_signal(sig)
        process.finish(-sig)


def test_signal_fork(h):
    """life.signal.fork: a signal to a child that a script has forked ends the child, not its parent"""
    h.needs_plain_process("keeps the signals of a child that was forked beside threads")
    h.needs_ffi("fork")
    h.run("""
        local ffi = require "ffi"
        ffi.cdef "int fork(void); unsigned alarm(unsigned); int pause(void); int kill(int, int); int waitpid(int, int *, int);"
        local pid, status = ffi.C.fork(), ffi.new "int[1]"
        if pid == 0 then
          ffi.C.alarm(20)
          while true do ffi.C.pause() end
        end
        ffi.C.kill(pid, 15)
        repeat timer.sleep(0.01) until ffi.C.waitpid(pid, status, 1) == pid
        assert(status[0] == 15)
        """)


def test_monitor_stuck(h):
    """life.signal.stuck-log: while the word that a context runs for long finds no reader, others are served and signals heard"""
    h.file("loop.lua", "while true do end")
    h.file("echo.lua", """
        local _, l = tcp.listen('127.0.0.1', 0)
        context.send(context.parent, tcp.local_port(l))
        tcp.accept(l, function(_, s) tcp.read(s, function(ok, b) if ok then tcp.write(s, b) end end) end)
        """)
    process = Stuck(h, """
        local ports = {}
        for i = 1, 4 do context.create('echo.lua') ports[i] = select(2, context.recv(0)) end
        local f = io.open('ports.new', 'w')
        f:write(table.concat(ports, ' '))
        f:close()
        os.rename('ports.new', 'ports')
        context.create('loop.lua')
        """, streams=("stderr",), fill=True)
    process.await_file("ports")
    peers = [h.connect(int(port)) for port in (h.tmp / "ports").read_text().split()]
    time.sleep(3.2)  # the word comes after two seconds
    if h.workers > 1:
        for peer in peers:
            peer.send(b"hello")
            assert peer.read(5) == b"hello"
    process.popen.send_signal(h.signals[0])
    process.ends(h.ended_by(h.signals[0]))


def test_unending(h):
    """context.destroy.unending: one that cannot be ended is given up: its wait says so, and the process does not stay for it"""
    if h.workers == 1:
        h.skip("needs a second worker")
    h.file("waiter.lua", "context.run(context.send, context.parent, 1) print('second', context.wait((...)))")
    h.file("main.lua", """
        local h = context.create(...)
        context.recv(h)
        local second = context.create('waiter.lua', h)
        context.query(h, 1, function(ok, err) print('query', ok, context.errname(err)) end)
        context.recv(second)
        print('destroy', context.destroy(h, 'enough'))
        print('wait', context.wait(h))
        context.wait(second)
        print('later', context.wait(h))
        print('lookup', context.errname(select(2, context.lookup 'bad')))
        print('destroy', context.errname(select(2, context.destroy(h))))
        """)
    told = "true\t0\tdoes not end: enough"
    names = []
    for name, (preparation, work) in unending(h):
        names.append(name)
        h.file(name + ".lua", f"context.register 'bad' {preparation} context.send(context.parent, 1) {work}")
    for _ in range(20):
        processes = {name: h.cli("-w", h.workers, "main.lua", name + ".lua") for name in names}
        results = {name: process.finish(0, stderr="") for name, process in processes.items()}
        # One that was told before it was in the call has ended in order: once more.
        names = [name for name, result in results.items() if "wait\ttrue\t0\tenough\n" in result.stdout]
        for name in results.keys() - set(names):
            result = results[name]
            assert re.search(rf"{name}\.lua.* was told to end and does not", result.stderr), f"{name}: {result}"
            assert sorted(result.stdout.splitlines()) == sorted([
                "destroy\ttrue", f"wait\t{told}", f"second\t{told}", f"later\t{told}", "query\tfalse\tENOREPLY",
                "lookup\tENOCONTEXT", "destroy\tENOCONTEXT"]), f"{name}: {result}"
        if not names:
            return
    raise AssertionError(f"always ended in order: {names}")

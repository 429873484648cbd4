"""What the Python side of the conformance suite is made of: running nl-jit processes and talking to them as an independent peer.

A test module tests/peers/test_*.py holds functions test_*(h).  The first line of a function's docstring is the test's name and
begins with its rule id; h is a Helper.  A test fails by raising (plain assert is fine); h.skip() leaves it out.
"""

import os
import queue
import re
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent

# Text that must never appear on standard error, whatever a test declares.
FORBIDDEN = re.compile(
    r"(Address|Thread|Leak|Memory|UndefinedBehavior)Sanitizer|runtime error:|panic|assertion|Segmentation|PANIC", re.I)
# Text that must not appear where a test does not declare what it expects.
UNEXPECTED = re.compile(r"error|traceback|warning", re.I)


class Skip(Exception):
    pass


class Program:
    """The nl-jit that is tested."""

    def __init__(self, command, version, emulated=False):
        self.command = command  # the words that start it
        self.version = version  # the first line of what it says to -v
        self.emulated = emulated  # the first words of the command are an emulator's
        self.windows = "reactor: iocp" in version


class Settings:
    """One configuration under which everything runs."""

    def __init__(self, program, workers, chaos=None, slow=1.0, timeout=60.0):
        self.command, self.version, self.emulated, self.windows = (
            program.command, program.version, program.emulated, program.windows)
        self.workers = workers
        self.chaos = chaos  # a seed, or None
        self.slow = slow  # sanitizer builds, emulators: how much slower
        self.timeout = timeout * slow

    def environment(self, tmp):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("LUA_", "NLJIT_", "NLT_"))}
        env.update(LUA_PATH=f"{TESTS}/lua/lib/?.lua;;", NLT_TMP=str(tmp), NLT_SLOW=str(self.slow),
                   NLT_WORKERS=str(self.workers), NLT_VERSION=self.version)
        if self.chaos is not None:
            env["NLJIT_CHAOS"] = str(self.chaos)
        return env

    def __str__(self):
        return f"w{self.workers}" + (f" chaos {self.chaos}" if self.chaos is not None else "")


def stderr_problem(text, expected=None):
    """Why this standard error is not acceptable, or None.  expected: a regular expression, a list of them, or None."""
    if found := FORBIDDEN.search(text):
        return f"standard error contains {found.group()!r}"
    if expected is None:
        found = UNEXPECTED.search(text)
        return f"unexpected standard error ({found.group()!r})" if found else None
    for pattern in [expected] if isinstance(expected, str) else expected:
        if not re.search(pattern, text, re.M):
            return f"standard error does not match {pattern!r}"
    return None


def diagnose(pid):
    """What a process that does not end is doing: its threads in the kernel, and its C stacks if gdb is there."""
    out = []
    for task in sorted(Path(f"/proc/{pid}/task").glob("*")):
        try:
            fields = (task / "stat").read_text().rsplit(")", 1)[1].split()
            out.append(f"thread {task.name} ({(task / 'comm').read_text().strip()}): state {fields[0]}, "
                       f"cpu {int(fields[11]) + int(fields[12])} ticks, in {(task / 'wchan').read_text() or '-'}")
        except OSError:
            continue
    try:
        gdb = subprocess.run(["gdb", "-p", str(pid), "-batch", "-nx", "-ex", "thread apply all bt 12"],
                             capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
        keep = [line for line in gdb.stdout.splitlines() if re.match(r"Thread |#\d", line)]
        out += [line[:160] for line in keep[:120]]
    except (OSError, subprocess.TimeoutExpired):
        out.append("(no gdb)")
    return "\n".join(out)


class Result:
    def __init__(self, status, stdout, stderr):
        self.status, self.stdout, self.stderr = status, stdout, stderr

    def __str__(self):
        return f"status {self.status}\n--- stdout\n{self.stdout}--- stderr\n{self.stderr}"


class Process:
    """A running nl-jit.  Its output is collected all the time; line() takes the next line of standard output.

    stdin: a text, which is all of it; a descriptor or subprocess.PIPE (then popen.stdin is the test's); None for nothing.
    crlf: lines end as on Windows, and are given as elsewhere."""

    def __init__(self, argv, env, cwd, timeout, stdin=None, crlf=False):
        self.argv, self.timeout, self.crlf = argv, timeout, crlf
        text = isinstance(stdin, str)
        self.popen = subprocess.Popen(argv, env=env, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                      stdin=subprocess.PIPE if text else subprocess.DEVNULL if stdin is None else stdin)
        self.pid = self.popen.pid
        self._lines, self._out, self._err = queue.Queue(), [], []
        self._threads = [threading.Thread(target=self._collect, args=(self.popen.stdout, self._out, self._lines), daemon=True),
                         threading.Thread(target=self._collect, args=(self.popen.stderr, self._err, None), daemon=True)]
        for thread in self._threads:
            thread.start()
        if text:
            self.popen.stdin.write(stdin.encode())
            self.popen.stdin.close()

    def _collect(self, stream, into, lines):
        for raw in stream:
            text = raw.decode("utf-8", "backslashreplace")
            if self.crlf and text.endswith("\r\n"):
                text = text[:-2] + "\n"
            into.append(text)
            if lines:
                lines.put(text.rstrip("\n"))
        if lines:
            lines.put(None)

    def stdout(self):
        return "".join(self._out)

    def stderr(self):
        return "".join(self._err)

    def _hung(self, what):
        report = f"{what} within {self.timeout:.0f} s: {' '.join(self.argv)}\n{diagnose(self.pid)}"
        self.kill()
        return AssertionError(f"{report}\n--- stdout\n{self.stdout()}--- stderr\n{self.stderr()}")

    def line(self):
        """The next line of standard output."""
        try:
            text = self._lines.get(timeout=self.timeout)
        except queue.Empty:
            raise self._hung("no line of output came") from None
        if text is None:
            self.popen.wait(self.timeout)
            raise AssertionError(f"the process ended instead of writing a line\n{self.result()}")
        return text

    def expect(self, pattern):
        """The next line of standard output has to match this as a whole; returns the match."""
        text = self.line()
        found = re.fullmatch(pattern, text)
        assert found, f"the process wrote {text!r}, want {pattern!r}\n--- stderr\n{self.stderr()}"
        return found

    def port(self):
        return int(self.expect(r"port (\d+)").group(1))

    def alive(self):
        return self.popen.poll() is None

    def result(self):
        for thread in self._threads:
            thread.join(self.timeout)
        return Result(self.popen.returncode, self.stdout(), self.stderr())

    def finish(self, status=0, stderr=None):
        """Waits until the process has ended by itself; checks status and standard error (see stderr_problem)."""
        try:
            self.popen.wait(self.timeout)
        except subprocess.TimeoutExpired:
            raise self._hung("the process did not end") from None
        result = self.result()
        assert status is None or result.status == status, f"exit status {result.status}, want {status}\n{result}"
        problem = stderr_problem(result.stderr, stderr)
        assert problem is None, f"{problem}\n{result}"
        return result

    def kill(self):
        if self.alive():
            self.popen.send_signal(signal.SIGKILL)
        self.popen.wait()
        for thread in self._threads:
            thread.join(5)


class Peer:
    """A plain socket with the peer's manners and vices."""

    def __init__(self, sock, timeout):
        self.sock = sock
        sock.settimeout(timeout)

    def send(self, data):
        self.sock.sendall(data)

    def dribble(self, data, sizes=(1,), pause=0.0):
        """Sends data in pieces of these sizes, over and over, each in a segment of its own."""
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        at = i = 0
        while at < len(data):
            step = sizes[i % len(sizes)]
            self.sock.sendall(data[at:at + step])
            at, i = at + step, i + 1
            if pause:
                time.sleep(pause)

    def read(self, n):
        """Exactly n bytes."""
        data = bytearray()
        while len(data) < n:
            piece = self.sock.recv(min(n - len(data), 1 << 20))
            assert piece, f"end of stream after {len(data)} of {n} bytes"
            data += piece
        return bytes(data)

    def read_all(self):
        """Everything until the end of the stream."""
        data = bytearray()
        while piece := self.sock.recv(1 << 20):
            data += piece
        return bytes(data)

    def at_end(self):
        """Nothing comes any more: end of stream or a reset."""
        try:
            return self.sock.recv(1) == b""
        except ConnectionError:
            return True

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self):
        """Closes with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self):
        self.sock.close()


def head(length, size, endian):
    """A frame's head as the contract defines it."""
    return length.to_bytes(size, "little" if endian == "L" else "big")


def frame(payload, size, endian):
    return (head(len(payload), size, endian) if size else b"") + payload


class Helper:
    """What a test function is given: a fresh directory, the settings, and ways to start nl-jit and to reach it."""

    def __init__(self, settings, tmp):
        self.settings, self.tmp = settings, Path(tmp)
        self.workers, self.chaos = settings.workers, settings.chaos
        self._processes, self._sockets, self._deferred = [], [], []

    def scale(self, n):
        return max(1, int(n / self.settings.slow))

    Skip = Skip

    def skip(self, reason):
        raise Skip(reason)

    def needs_posix(self, why):
        """why: what Windows has otherwise, or not at all."""
        if self.settings.windows:
            self.skip(f"not on Windows: {why}")

    def needs_plain_process(self, why):
        """why: what a sanitizer or an emulator does otherwise."""
        if self.settings.emulated or self.settings.slow > 1:
            self.skip(f"{'an emulator' if self.settings.emulated else 'a sanitizer'} {why}")

    def needs_ffi(self, *names):
        """Leaves the test out where the ffi does not find these functions of libc: a static program has none."""
        probe = """
            local found, why = pcall(function() for _, name in ipairs(arg) do require('t').needs_ffi(name) end end)
            os.exit(found and 0 or type(why) == 'table' and why.skip and 77 or 1)"""
        environment = self.settings.environment(self.tmp)
        found = subprocess.run([*self.settings.command, self.file("probe.lua", probe), *names], env=environment,
                               capture_output=True, text=True, timeout=self.settings.timeout)
        if found.returncode == 77:
            self.skip(f"the ffi does not find {' or '.join(names)}")
        assert found.returncode == 0, found

    def needs_bundled_luajit(self, why):
        if "bundled" not in self.settings.version:
            self.skip(f"needs the bundled LuaJIT: {why}")

    @property
    def glibc(self):
        """Whether the program has the C library that has the largest buffers and gives memory back soonest."""
        return b"libc.so.6" in Path(self.settings.command[-1]).read_bytes()

    @property
    def signals(self):
        """Those that ask to end: wine makes a Ctrl-C of SIGINT, and ends the process at once for SIGTERM."""
        return (signal.SIGINT,) if self.settings.windows else (signal.SIGTERM, signal.SIGINT)

    def ended_by(self, sig):
        """The status of a process that was asked to end; of Windows' STATUS_CONTROL_C_EXIT wine gives the last byte."""
        return 0xC000013A & 0xFF if self.settings.windows else -sig

    def defer(self, f):
        """Calls f when the test is over."""
        self._deferred.append(f)

    def file(self, name, text):
        path = self.tmp / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def cli(self, *argv, stdin=None, env=None, wrap=()):
        """Starts nl-jit with exactly these arguments, in the test's directory; wrap: words in front of the command."""
        environment = self.settings.environment(self.tmp)
        environment.update(env or {})
        process = Process([*wrap, *self.settings.command, *map(str, argv)], environment, self.tmp, self.settings.timeout, stdin,
                          self.settings.windows)
        self._processes.append(process)
        return process

    def start(self, source, *args, name="main.lua", **options):
        """Starts a script given as text."""
        return self.cli("-w", self.workers, self.file(name, source).name, *args, **options)

    def run(self, source, *args, status=0, stderr=None, **options):
        """Runs a script given as text to its end."""
        return self.start(source, *args, **options).finish(status, stderr)

    def _own(self, sock):
        self._sockets.append(sock)
        return Peer(sock, self.settings.timeout)

    def connect(self, port, host="127.0.0.1", rcvbuf=None):
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if rcvbuf:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        sock.settimeout(self.settings.timeout)
        sock.connect((host, port))
        return self._own(sock)

    def connect_unix(self, path):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(path))
        return self._own(sock)

    def listen(self, host="127.0.0.1", backlog=128, rcvbuf=None):
        """A listening socket for nl-jit to connect to, and its port."""
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if rcvbuf:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, 0))
        sock.listen(backlog)
        sock.settimeout(self.settings.timeout)
        self._sockets.append(sock)
        return sock, sock.getsockname()[1]

    def accept(self, listener):
        return self._own(listener.accept()[0])

    def outputs(self):
        """What the last process wrote, for the report of a failure."""
        if not self._processes:
            return ""
        last = self._processes[-1]
        return f"last process: {' '.join(last.argv)}\n--- stdout\n{last.stdout()[-2000:]}\n--- stderr\n{last.stderr()[-2000:]}"

    def release(self):
        for process in self._processes:
            process.kill()
        for sock in self._sockets:
            sock.close()
        for f in self._deferred:
            f()

"""Standard input and output, shared by all contexts, and pipes to other processes."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time

ECHO = """
    local _, l = assert(tcp.listen("127.0.0.1", 0))
    context.send(context.parent, l:local_port())
    while true do
      local _, s = assert(l:accept())
      context.run(function()
        while true do
          local ok, b = s:read()
          if not ok then break end
          s:write(b)
        end
      end)
    end
"""

# Creates four contexts that echo, and returns their ports.
ECHOES = """
    local function echoes()
      local ports = {}
      for i = 1, 4 do
        local h = assert(context.create("echo.lua"))
        local _, port = assert(context.recv(h))
        ports[i] = ("%d"):format(port)
      end
      return table.concat(ports, " ")
    end
"""


def check_echoes(h, ports):
    """Each of the four answers, again and again."""
    peers = [h.connect(int(port)) for port in ports.split()]
    assert len(peers) == 4
    for i in range(20):
        for peer in peers:
            peer.send(b"%04d" % i)
            assert peer.read(4) == b"%04d" % i


class Stuck:
    """A pipe that nobody reads until drain is called."""

    def __init__(self, h):
        self.reader, self.writer = os.pipe()
        h.defer(self.close)

    def drain(self):
        with open(self.reader, "rb", closefd=False) as f:
            return f.read()

    def close(self):
        os.close(self.reader)


def start_stuck(h, source, *args):
    """Starts a script whose standard output is such a pipe."""
    pipe = Stuck(h)
    process = subprocess.Popen([*h.settings.command, "-w", str(h.workers), h.file("main.lua", source).name, *map(str, args)],
                               env=h.settings.environment(h.tmp), cwd=h.tmp, stdin=subprocess.DEVNULL, stdout=pipe.writer)
    os.close(pipe.writer)
    watchdog = threading.Timer(h.settings.timeout, process.kill)
    watchdog.start()

    def end():
        watchdog.cancel()
        process.kill()
        process.wait()
    h.defer(end)
    return process, pipe


def wait_for_file(h, name):
    """Its text, once it is complete: the last line is "."."""
    path = h.tmp / name
    for _ in range(int(h.settings.timeout * 100)):
        if path.exists() and path.read_text().endswith(".\n"):
            return path.read_text()[:-2]
        time.sleep(0.01)
    raise AssertionError(f"{name} was not written")


# --- print, io.write -------------------------------------------------------------------------


def test_print_whole(h):
    """rules.print.whole: each print of many contexts is one line, and none is lost"""
    lines = h.scale(3000)
    h.file("child.lua", "local me, n = ... for i = 1, n do print(me, i, 'abc', 'def') end")
    result = h.run(f"for i = 1, 4 do context.create('child.lua', i, {lines}) end")
    found = [line.split("\t") for line in result.stdout.splitlines()]
    assert sorted(found) == sorted([str(me), str(i), "abc", "def"] for me in range(1, 5) for i in range(1, lines + 1))
    for me in "1234":
        order = [int(line[1]) for line in found if line[0] == me]
        assert order == sorted(order), f"lines of {me} are out of order"


def test_write_whole(h):
    """rules.print.write: what one io.write or io.stderr:write writes stays together, whatever its length"""
    lines = h.scale(100)
    child = """
        local me, n, to = ...
        for i = 1, n do
          local f = io[to]
          f:write("<", me, ":", i, ":", ("x"):rep(i * 997 % 9000), ("y"):rep(i % 7), ">", "\\n")
        end
    """
    h.file("child.lua", child)
    for to in "stdout", "stderr":
        result = h.run(f"for i = 1, 4 do context.create('child.lua', i, {lines}, '{to}') end", stderr=r"\A(<.*\n)*\Z")
        text = result.stdout if to == "stdout" else result.stderr
        seen = []
        for line in text.splitlines():
            found = re.fullmatch(r"<(\d):(\d+):(x*)(y*)>", line)
            assert found, f"a broken line: {line[:100]!r}"
            i = int(found[2])
            assert len(found[3]) == i * 997 % 9000 and len(found[4]) == i % 7, line[:100]
            seen.append((int(found[1]), i))
        assert sorted(seen) == [(me, i) for me in range(1, 5) for i in range(1, lines + 1)]


def test_print_stuck(h):
    """rules.print.stuck: a print into a full pipe does not hold up neighbours, and loses nothing"""
    h.file("echo.lua", ECHO)
    h.file("printer.lua", """
        for i = 1, 3000 do print(i, ("x"):rep(90)) end
        for i = 1, 300 do io.write(i, (" x"):rep(900), "\\n") end
        io.flush()
    """)
    process, pipe = start_stuck(h, ECHOES + """
        local ports = echoes()
        context.create("printer.lua")
        local f = assert(io.open("ports", "w"))
        f:write(ports, "\\n.\\n")
        f:close()
        context.recv(0)
    """)
    check_echoes(h, wait_for_file(h, "ports"))
    assert process.poll() is None
    end = b"\r\n" if h.settings.windows else b"\n"
    with open(pipe.reader, "rb", closefd=False) as out:
        for i in range(1, 3001):
            assert out.readline() == b"%d\t" % i + b"x" * 90 + end
        for i in range(1, 301):
            assert out.readline() == b"%d" % i + b" x" * 900 + end


# --- Standard input --------------------------------------------------------------------------


def test_console(h):
    """io.stdin.console: while a context waits for a line of standard input, all others are served"""
    h.file("echo.lua", ECHO)
    h.file("console.lua", "for line in io.lines() do print('got ' .. line) end print('end', io.read())")
    process = h.start(ECHOES + """
        local ports = echoes()
        local console = assert(context.create("console.lua"))
        print(ports)
        io.flush()
        context.wait(console)
        os.exit(0)
    """, stdin=subprocess.PIPE)
    ports = process.line()
    check_echoes(h, ports)
    stdin = process.popen.stdin
    stdin.write(b"stat")
    stdin.flush()
    check_echoes(h, ports)
    stdin.write(b"us\nquit\nlast")
    stdin.close()
    text = process.finish().stdout
    assert text.splitlines()[1:] == ["got status", "got quit", "got last", "end\tnil"], text


def test_stdin_shared(h):
    """io.stdin.shared: of many contexts that read standard input each line goes to one, whole, and none is lost"""
    h.file("reader.lua", "for line in io.lines() do print(context.name:match('%d'), line) end")
    process = h.start("for i = 1, 4 do assert(context.create('reader.lua', i)) end", stdin=subprocess.PIPE)
    lines = [f"{i} " + "x" * (i * 31 % 300) for i in range(h.scale(3000))]
    data = "".join(line + "\n" for line in lines).encode()
    stdin = process.popen.stdin
    at, size = 0, 1
    while at < len(data):
        stdin.write(data[at:at + size])
        stdin.flush()
        at += size
        size = size * 7 % 5003
    stdin.close()
    found = [line.split("\t")[1] for line in process.finish().stdout.splitlines()]
    assert sorted(found) == sorted(lines)


def test_stdin_given_up(h):
    """io.stdin.given-up: a reader that is destroyed in the middle of a line loses nothing"""
    h.needs_posix("wine cannot look into a pipe of Linux")
    h.file("reader.lua", "context.send(context.parent, 'reads') print(io.read())")
    process = h.start("""
        local first = assert(context.create("reader.lua"))
        assert(context.recv(first))
        print("reads")
        io.flush()
        local _, line = assert(tcp.listen("127.0.0.1", 0))
        print("port " .. line:local_port())
        io.flush()
        assert(line:accept())
        assert(context.destroy(first))
        context.wait(first)
        print("destroyed")
        io.flush()
        print(io.read())
    """, stdin=subprocess.PIPE)
    process.expect("reads")
    port = process.port()
    stdin = process.popen.stdin
    stdin.write(b"half ")
    stdin.flush()
    # The reader has taken it when the pipe is empty.
    count = bytearray(4)
    while True:
        fcntl.ioctl(stdin.fileno(), termios.FIONREAD, count)
        if struct.unpack("i", count)[0] == 0:
            break
        time.sleep(0.01)
    h.connect(port)
    process.expect("destroyed")
    stdin.write(b"and half\n")
    stdin.close()
    process.expect("half and half")
    process.finish()


def test_stdin_endless(h):
    """io.stdin.endless: one who reads without end leaves others their turn"""
    h.file("echo.lua", ECHO)
    for read in "for _ in io.lines() do end", "io.read('*a')", "while true do io.read(100000) end":
        h.file("reader.lua", read)
        source = subprocess.Popen(["yes", "a line"], stdout=subprocess.PIPE)
        process = h.start(ECHOES + "print(echoes()) io.flush() context.create('reader.lua') context.recv(0)", stdin=source.stdout)
        source.stdout.close()
        check_echoes(h, process.line())
        process.kill()
        source.kill()
        source.wait()


def test_stdin_question(h):
    """io.stdin.question: what was written to a terminal is seen before the answer is waited for"""
    h.needs_posix("a terminal of Linux is no console")
    main, side = pty.openpty()
    h.defer(lambda: os.close(main))
    process = subprocess.Popen([*h.settings.command, "-w", str(h.workers), "-e",
                                "io.write('name? ') local name = io.read() io.write('hello ' .. name .. '\\n')"],
                               env=h.settings.environment(h.tmp), cwd=h.tmp, stdin=side, stdout=side)
    os.close(side)
    watchdog = threading.Timer(h.settings.timeout, process.kill)
    watchdog.start()

    def read_until(end):
        text = b""
        while not text.endswith(end):
            text += os.read(main, 100)
        return text
    read_until(b"name? ")
    os.write(main, b"world\n")
    read_until(b"hello world\r\n")
    assert process.wait() == 0
    watchdog.cancel()


def test_stdin_term(h):
    """io.stdin.term: the process ends as asked while somebody waits for standard input or a child"""
    h.needs_posix("the shell")
    process = h.start("""
        context.run(function() io.popen("read x; echo $x"):read() end)
        context.run(function() os.execute("read x") end)
        context.run(function() io.read() end)
        context.run(function() print("reads") io.flush() end)
    """, stdin=subprocess.PIPE)
    process.expect("reads")
    process.popen.terminate()
    assert process.popen.wait(h.settings.timeout) == -signal.SIGTERM
    process.popen.stdin.close()  # the children end, and let go of the pipes
    process.finish(-signal.SIGTERM)

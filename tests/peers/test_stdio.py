"""Standard input and output, shared by all contexts, and pipes to other processes."""

import os
import re
import subprocess
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
    if h.workers == 1:
        h.skip("a print blocks its worker")
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
    with open(pipe.reader, "rb", closefd=False) as out:
        for i in range(1, 3001):
            assert out.readline() == b"%d\t" % i + b"x" * 90 + b"\n"
        for i in range(1, 301):
            assert out.readline() == b"%d" % i + b" x" * 900 + b"\n"

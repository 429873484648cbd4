"""Streams seen from outside: a plain socket that dribbles, bursts, lies, half-closes, resets, or does not read."""

import random
import socket
import time

from harness import frame, head

COMBINATIONS = [(size, endian) for size in (1, 2, 4) for endian in "LB"] + [(0, "L")]

# Serves connections with the framing given; echoes; writes "port N", and "closed <error>" for each stream that ends.
ECHO = """
local size, endian, max, connections = ...
local options = {
  read_head_bytes = tonumber(size), write_head_bytes = tonumber(size), read_head_endian = endian, write_head_endian = endian,
  read_head_max = tonumber(max),
}
local function say(...) print(...) io.stdout:flush() end
local left = tonumber(connections) or 1
local _, listener = tcp.listen("127.0.0.1", 0)
tcp.accept(listener, function(ok, s)
  s:set_rwopt(options)
  s:read(function(ok, data, s)
    if ok then s:write(data) return end
    say("closed " .. context.errname(data))
    s:close()
    left = left - 1
    if left == 0 then
      tcp.accept(listener, nil)
      tcp.close(listener)
    end
  end)
end)
say("port " .. tcp.local_port(listener))
"""

# Echoes one connection in the blocking form.
BLOCKING_ECHO = """
local size, endian = ...
local function say(...) print(...) io.stdout:flush() end
local _, listener = tcp.listen("127.0.0.1", 0)
say("port " .. tcp.local_port(listener))
local _, s = tcp.accept(listener)
s:set_rwopt { read_head_bytes = tonumber(size), write_head_bytes = tonumber(size), read_head_endian = endian, write_head_endian = endian }
while true do
  local ok, data = s:read()
  if not ok then say("closed " .. context.errname(data)) break end
  assert(s:write(data))
end
"""

# Accepts one connection and runs what it is given with it as s; say() writes a line.
ONE = """
local function say(...) print(...) io.stdout:flush() end
local _, listener = tcp.listen("127.0.0.1", 0)
say("port " .. tcp.local_port(listener))
local _, s = tcp.accept(listener)
tcp.close(listener)
"""


def one(h, source, **options):
    """Starts nl-jit with ONE and this source; returns the process and a peer connected to it."""
    process = h.start(ONE + source)
    return process, h.connect(process.port(), **options)


def payloads(size, seed=1, count=40):
    """Payloads of all kinds of lengths that this head can express; for raw streams they are just pieces."""
    rng = random.Random(seed)
    most = {0: 5000, 1: 255, 2: 65535, 4: 200000}[size]
    lengths = [1, 2, 3, 127, 128, 255] + [rng.randint(0, min(most, 3000)) for _ in range(count)] + [most]
    lengths += [0, 0] if size else []
    return [rng.randbytes(min(n, most)) for n in lengths]


def echoed(peer, sent, size, endian):
    """Whether the echo of these payloads comes back, exactly."""
    want = b"".join(frame(p, size, endian) for p in sent)
    got = peer.read(len(want))
    assert got == want, f"the echo differs first at byte {next(i for i in range(len(want)) if got[i] != want[i])}"


def test_burst(h):
    """tcp.peer.burst: many frames in one segment, for every head, in callback form"""
    for size, endian in COMBINATIONS:
        server = h.start(ECHO, size, endian)
        peer = h.connect(server.port())
        sent = payloads(size)
        peer.send(b"".join(frame(p, size, endian) for p in sent))
        echoed(peer, sent, size, endian)
        peer.half_close()
        assert server.line() == "closed EEOF"
        assert peer.at_end()
        server.finish()


def test_dribble(h):
    """tcp.peer.dribble: frames that arrive in pieces that end nowhere in particular, for every head, in blocking form"""
    for size, endian in COMBINATIONS:
        server = h.start(BLOCKING_ECHO, size, endian)
        peer = h.connect(server.port())
        sent = payloads(size, count=10)
        stream = b"".join(frame(p, size, endian) for p in sent)
        start = stream[:1500]
        peer.dribble(start)
        peer.dribble(stream[1500:], sizes=(1, 2, 3, 5000, 1, 70000, 7))
        echoed(peer, sent, size, endian)
        peer.close()
        assert server.line() == "closed EEOF"
        server.finish()


def test_pipelined(h):
    """tcp.peer.pipelined: many connections, each with many frames under way"""
    n, rounds = 20, 10 * h.scale(10)  # the peers read every tenth round: what is unread at the end would be a reset
    server = h.start(ECHO, 2, "B", "", n)
    port = server.port()
    peers = [h.connect(port) for _ in range(n)]
    for i in range(rounds):
        for k, peer in enumerate(peers):
            peer.send(frame(b"%d/%d" % (k, i) * (i % 7 + 1), 2, "B") * 3)
        if i % 10 == 9:
            for k, peer in enumerate(peers):
                for j in range(i - 9, i + 1):
                    want = frame(b"%d/%d" % (k, j) * (j % 7 + 1), 2, "B") * 3
                    assert peer.read(len(want)) == want
    for peer in peers:
        peer.close()
    assert [server.line() for _ in peers] == ["closed EEOF"] * n
    server.finish()


def test_oversize(h):
    """tcp.peer.oversize: a frame longer than read_head_max ends that stream; the server serves on"""
    server = h.start(ECHO, 4, "B", 1000, 2)
    port = server.port()
    bad, good = h.connect(port), h.connect(port)
    bad.send(frame(b"fits", 4, "B") + head(1001, 4, "B") + b"x" * 1001)
    assert bad.read(8) == frame(b"fits", 4, "B")
    assert server.line() == "closed ETCPREADOVERFLOW"
    good.send(frame(b"y" * 1000, 4, "B"))
    assert good.read(1004) == frame(b"y" * 1000, 4, "B")
    good.close()
    assert server.line() == "closed EEOF"
    server.finish()


def test_half_close(h):
    """tcp.read.half-close: after the end of the incoming stream one may still write until either side closes"""
    process, peer = one(h, """
        s:set_rwopt { read_head_bytes = 1 }
        while true do
          local ok, data = s:read()
          if not ok then say(context.errname(data)) break end
          say("got " .. data:tostring())
        end
        say(context.errname(select(2, s:read())))
        timer.sleep(0.02)
        say(s:write("still "))
        say(s:write("writing", true))
        s:close()
        """)
    peer.send(b"\x03one\x03two\x05cut")
    peer.half_close()
    for line in ("got one", "got two", "EEOF", "EEOF", "true", "true"):
        assert process.line() == line
    assert peer.read_all() == b"still writing"
    process.finish()


def test_reset(h):
    """tcp.read.reset: a peer that resets is ECONNRESET to the reader; the server goes on"""
    server = h.start(ECHO, 0, "L", "", 2)
    port = server.port()
    peer = h.connect(port)
    peer.send(b"x")
    assert peer.read(1) == b"x"
    peer.reset()
    assert server.line() == "closed ECONNRESET"
    second = h.connect(port)
    second.send(b"y")
    assert second.read(1) == b"y"
    second.close()
    assert server.line() == "closed EEOF"
    server.finish()


def test_reset_writer(h):
    """tcp.write.reset: writing to a peer that has gone is false, err sooner or later, and no signal ends the process"""
    h.needs_posix("wine drops a connection that is reset before it is accepted")
    process, peer = one(h, """
        s:read(1)
        local ok, err
        for i = 1, 10000 do
          ok, err = s:write("x", true)
          if not ok then break end
          timer.sleep(0.001)
        end
        say(ok, err == context.errno.EPIPE or err == context.errno.ECONNRESET or context.errname(err))
        s:write("x", function(ok, err) say("callback", ok, type(err)) end)
        """)
    peer.reset()
    assert process.line() == "false\ttrue"
    assert process.line() == "callback\tfalse\tnumber"
    process.finish()


def test_reset_pending_write(h):
    """tcp.write.reset-pending: a write under way when the peer resets ends with an error"""
    process, peer = one(h, """
        local big = buffer.new(("x"):rep(32 * 1024 * 1024))
        s:write(big, function(ok, err) say("callback", ok, type(err)) end)
        say("writing")
        local ok, err = s:write(big, true)
        say("safety", ok, type(err))
        """)
    assert process.line() == "writing"
    time.sleep(0.05)
    peer.reset()
    assert {process.line(), process.line()} == {"callback\tfalse\tnumber", "safety\tfalse\tnumber"}
    process.finish()


def test_backpressure_read(h):
    """tcp.backpressure.read: while nobody reads the runtime stops receiving, and its memory does not grow"""
    process, peer = one(h, """
        say("c_bytes " .. context.stats().c_bytes)
        s:read(function(ok, data) say("first " .. tostring(ok)) s:read(nil) end)
        timer.sleep(1)
        say("c_bytes " .. context.stats().c_bytes)
        local n = 0
        while true do
          local ok, data = s:read()
          if not ok then break end
          n = n + #data
        end
        say("read " .. n)
        """)
    before = int(process.expect(r"c_bytes (\d+)")[1])
    peer.sock.setblocking(False)
    sent, piece, idle = 0, b"p" * 65536, time.monotonic()
    while sent < 300 * 1024 * 1024 and time.monotonic() - idle < 0.5:
        try:
            sent += peer.sock.send(piece)
            idle = time.monotonic()
        except BlockingIOError:
            time.sleep(0.01)
    assert sent < 100 * 1024 * 1024, f"{sent} bytes were taken with nobody reading"
    assert process.line() == "first true"
    after = int(process.expect(r"c_bytes (\d+)")[1])
    assert after - before < 8 * 1024 * 1024, f"C memory grew from {before} to {after}"
    peer.half_close()
    first = int(process.expect(r"read (\d+)")[1])
    assert 0 < first <= sent, (first, sent)
    process.finish()


def test_backpressure_exact(h):
    """tcp.backpressure.resumes: a reader that reads now and then gets every byte"""
    process, peer = one(h, """
        local n, sum = 0, 0
        while true do
          local ok, data = s:read()
          if not ok then break end
          n = n + #data
          if n % 7 == 0 then timer.sleep(0.001) end
        end
        say("read " .. n)
        """)
    size = h.scale(20_000_000)
    peer.send(b"q" * size)
    peer.half_close()
    assert process.line() == f"read {size}"
    process.finish()


def test_slow_reader(h):
    """tcp.backpressure.write: a reader that is slow gets every byte, in order"""
    process, peer = one(h, """
        for i = 1, 200 do assert(s:write(("%08d"):format(i):rep(5000))) end
        s:close()
        """, rcvbuf=8192)
    rng = random.Random(3)
    got = bytearray()
    while piece := peer.sock.recv(rng.randint(1, 200_000)):
        got += piece
        if rng.random() < 0.05:
            time.sleep(0.002)
    assert bytes(got) == b"".join(b"%08d" % i * 5000 for i in range(1, 201))
    process.finish()


def test_one_system_call(h):
    """tcp.write.gathered: several writes of one turn leave together"""
    if h.chaos is not None:
        h.skip("chaos mode cuts writes short")
    process, peer = one(h, """
        s:read(1) -- whoever waits, waits in the kernel by now
        s:set_nodelay(true)
        for i = 1, 10 do s:write(i % 2 == 0 and ("<" .. i .. ">") or buffer.new("<" .. i .. ">")) end
        """)
    peer.send(b"!")
    assert peer.sock.recv(65536) == b"".join(b"<%d>" % i for i in range(1, 11))
    process.finish()


def test_handshake(h):
    """tcp.peer.handshake: a line that dribbles in first, then frames: the options change on the way"""
    process, peer = one(h, """
        local line = buffer.new()
        while not line:find("\\n") do
          line:append(select(2, s:read()))
        end
        say("line " .. line:split(line:find("\\n") - 1):tostring())
        s:set_rwopt { read_head_bytes = 2, read_head_endian = "B", write_head_bytes = 4 }
        s:write("ready")
        for i = 1, 3 do say("frame " .. select(2, s:read()):tostring()) end
        """)
    peer.dribble(b"HELLO me\n")
    assert process.line() == "line HELLO me"
    assert peer.read(9) == b"\x05\x00\x00\x00ready"
    peer.send(b"\x00\x01a\x00\x02bc\x00\x00")
    assert [process.line() for _ in range(3)] == ["frame a", "frame bc", "frame "]
    process.finish()


def test_many_idle(h):
    """tcp.peer.crowd: hundreds of connections, opened, idle, used in random order, closed"""
    n = h.scale(300)
    server = h.start(ECHO, 1, "L", "", n)
    port = server.port()
    peers = [h.connect(port) for _ in range(n)]
    rng = random.Random(5)
    for _ in range(3):
        rng.shuffle(peers)
        for i, peer in enumerate(peers):
            peer.send(frame(b"%d" % i, 1, "L"))
        for i, peer in enumerate(peers):
            want = frame(b"%d" % i, 1, "L")
            assert peer.read(len(want)) == want
    for i, peer in enumerate(peers):
        peer.close() if i % 2 else peer.reset()
    ends = sorted(server.line() for _ in peers)
    assert set(ends) == {"closed EEOF", "closed ECONNRESET"}, set(ends)
    server.finish()


def test_refused_by_reset(h):
    """tcp.accept.reset: a peer that resets before it is accepted does no harm"""
    process = h.start("""
        local _, l = tcp.listen("127.0.0.1", 0)
        print("port " .. tcp.local_port(l)) io.stdout:flush()
        timer.sleep(0.1)
        local served = 0
        while served == 0 do
          local ok, s = tcp.accept(l)
          assert(ok, s)
          local got, data = tcp.read(s)
          if got then tcp.write(s, data) served = served + 1 end
          tcp.close(s)
        end
        """)
    port = process.port()
    for _ in range(5):
        h.connect(port).reset()
    good = h.connect(port)
    good.send(b"x")
    assert good.read(1) == b"x"
    process.finish()


# ---- nl-jit as client -----------------------------------------------------------------------------------------------

CLIENT = """
local port, size, endian = ...
local ok, s = tcp.connect("127.0.0.1", tonumber(port), 20)
assert(ok, s)
size = tonumber(size) or 0
s:set_rwopt { read_head_bytes = size, write_head_bytes = size, read_head_endian = endian or "L", write_head_endian = endian or "L" }
"""


def test_client_frames(h):
    """tcp.peer.client: nl-jit's own frames are what the contract says, byte by byte"""
    for size, endian in COMBINATIONS:
        listener, port = h.listen()
        process = h.start(CLIENT + """
            s:write("hello")
            if size > 0 then s:write("") end
            s:write(buffer.new(("x"):rep(200)))
            local _, answer = s:read()
            print(answer:tostring())
            s:close()
            """, port, size, endian)
        peer = h.accept(listener)
        want = frame(b"hello", size, endian) + (frame(b"", size, endian) if size else b"") + frame(b"x" * 200, size, endian)
        assert peer.read(len(want)) == want, (size, endian)
        peer.send(frame(b"answer" if size else b"a", size, endian))
        assert peer.at_end()
        assert process.finish().stdout == ("answer\n" if size else "a\n")


def test_client_server_lies(h):
    """tcp.peer.lies: a server that sends the head of a huge frame, then ends"""
    listener, port = h.listen()
    process = h.start(CLIENT + "print(context.errname(select(2, s:read())), s:is_closed())", port, 4, "B")
    peer = h.accept(listener)
    peer.send(b"\xff\xff\xff\xff" + b"x" * 100)
    assert process.finish().stdout == "ETCPREADOVERFLOW\tfalse\n"


def test_connect_timeout(h):
    """tcp.connect.timeout: a server that does not answer: ETIMEOUT, never early, the callback likewise"""
    # A full backlog drops further connection requests.
    listener, port = h.listen(backlog=0)
    fillers = []
    for _ in range(8):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.1", port))
        fillers.append(filler)
    time.sleep(0.1)
    result = h.run("""
        local port = tonumber((...))
        local start = timer.now()
        local ok, err = tcp.connect("127.0.0.1", port, 0.1)
        print(ok, context.errname(err), timer.now() - start >= 0.1)
        start = timer.now()
        tcp.connect("127.0.0.1", port, 0.1, function(ok, err, host, p, timeout)
          print(ok, context.errname(err), host, p == port, timeout, timer.now() - start >= 0.1)
        end)
        """, port)
    for filler in fillers:
        filler.close()
    assert result.stdout == "false\tETIMEOUT\ttrue\nfalse\tETIMEOUT\t127.0.0.1\ttrue\t0.1\ttrue\n", result


def test_stale_unix_socket(h):
    """tcp.listens.stale-file: a file left by a process that is gone is replaced"""
    h.needs_posix("named pipes in the place of Unix sockets")
    path = h.tmp / "stale.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.listen()
    left.close()
    assert path.exists()
    process = h.start("""
        print(context.errname(select(2, tcp.connects((...)))))
        local ok, l = tcp.listens((...))
        assert(ok, l)
        print("ready") io.stdout:flush()
        local _, s = tcp.accept(l)
        s:write("served")
        """, path)
    assert process.line() == "ECONNREFUSED"
    assert process.line() == "ready"
    assert h.connect_unix(path).read_all() == b"served"
    process.finish()


def test_unix_other_listener(h):
    """tcp.listens.foreign: a socket file on which another process listens is left alone"""
    h.needs_posix("named pipes in the place of Unix sockets")
    path = h.tmp / "foreign.sock"
    other = socket.socket(socket.AF_UNIX)
    other.bind(str(path))
    other.listen()
    assert h.run("print(context.errname(select(2, tcp.listens((...)))))", path).stdout == "EADDRINUSE\n"
    check = socket.socket(socket.AF_UNIX)
    check.connect(str(path))
    check.close()
    other.close()


def test_ipv6_peer(h):
    """tcp.listen6.peer: a plain IPv6 peer; addresses and ports agree with the kernel's"""
    process = h.start("""
        local ok, l = tcp.listen6("::1", 0)
        if not ok then print("port 0") return end
        print("port " .. tcp.local_port(l)) io.stdout:flush()
        local _, s = tcp.accept(l)
        s:write(s:remote_addr() .. " " .. s:remote_port())
        """)
    if not (port := process.port()):
        h.skip("no IPv6 here")
    peer = h.connect(port, host="::1")
    mine = peer.sock.getsockname()[1]
    assert peer.read_all() == b"::1 %d" % mine
    process.finish()


def test_reset_storm(h):
    """tcp.peer.reset-storm: connections that reset at once, by the hundred, leave the server well"""
    n = h.scale(200)
    server = h.start(ECHO, 2, "L", "", n + 1)
    port = server.port()
    for i in range(n):
        peer = h.connect(port)
        if i % 3:
            peer.send(frame(b"x" * (i * 10), 2, "L"))
        peer.reset()
    last = h.connect(port)
    last.send(frame(b"alive", 2, "L"))
    assert last.read(7) == frame(b"alive", 2, "L")
    server.kill()  # a connection that was reset before it was accepted need not have been counted

"""Closed sockets, seen by an independent peer: what is sent, how the stream ends, how long the process waits."""

import signal
import threading
import time

SERVER = "local _, l = tcp.listen('127.0.0.1', 0) io.stdout:write('port ', tcp.local_port(l), '\\n') io.stdout:flush() "


def limited(descriptors):
    return "bash", "-c", f'ulimit -n {descriptors}; exec "$0" "$@"'


def ends_in_reset(peer):
    """Reads to the end: the number of bytes, and whether the stream was cut."""
    n = 0
    try:
        while piece := peer.sock.recv(1 << 20):
            n += len(piece)
    except ConnectionResetError:
        return n, True
    return n, False


def test_cut_by_time(h):
    """tcp.close.cut: where the time for closing is over the stream ends in a reset, not as if it were whole"""
    process = h.start(SERVER + """
        local _, s
        _, s = tcp.accept(l) tcp.write(s, ("x"):rep(40000000)) tcp.close(s)
        _, s = tcp.accept(l) tcp.write(s, ("x"):rep(40000000))
        context.destroy()""")
    port = process.port()
    peers = [h.connect(port), h.connect(port)]
    process.finish(0)
    for peer in peers:
        n, reset = ends_in_reset(peer)
        assert n < 40000000 and reset, (n, reset)


def test_cut_by_exit(h):
    """life.exit.cut: what os.exit cuts off ends in a reset"""
    process = h.start(SERVER + "local _, s = tcp.accept(l) tcp.write(s, ('x'):rep(40000000)) os.exit(3)")
    peer = h.connect(process.port())
    process.finish(3)
    n, reset = ends_in_reset(peer)
    assert n < 40000000 and reset, (n, reset)


def test_cut_by_signal(h):
    """life.signal.cut: so does what a signal cuts off, or a second one, of a context too that does not end when it is asked to"""
    h.needs_posix("wine now and then keeps the sockets of a process that was cut off")
    for signals in (h.signals[:1], (h.signals * 2)[:2]):
        process = h.start(SERVER + """
            local _, s = tcp.accept(l)
            tcp.write(s, ("x"):rep(40000000))
            timer.sleep(0.05)
            return (("a"):rep(40)):find(("a*"):rep(40) .. "b")""")
        peer = h.connect(process.port())
        peer.read(1)
        time.sleep(0.2)
        for sig in signals:
            process.popen.send_signal(sig)
        process.finish(None)
        n, reset = ends_in_reset(peer)
        assert n < 40000000 and reset, (n, reset)


def test_slow_reader(h):
    """tcp.close.progress: a peer that reads slowly gets all of it, however long it takes"""
    size = 40000000
    process = h.start(SERVER + f"local _, s = tcp.accept(l) tcp.write(s, ('x'):rep({size}))")
    peer = h.connect(process.port(), rcvbuf=65536)
    n, start = 0, time.monotonic()
    while piece := peer.sock.recv(200000):  # for longer than it would wait without progress
        n += len(piece)
        time.sleep(max(0.0, start + 7.0 * n / size - time.monotonic()))
    process.finish(0)
    assert n == size, n


def test_one_shot_client(h):
    """life.end.one-shot: a client that has written and closed does not wait for a server that goes on talking"""
    listener, port = h.listen()
    process = h.start("local _, s = tcp.connect('127.0.0.1', tonumber((...))) tcp.write(s, 'hello') tcp.close(s)", port)
    peer = h.accept(listener)
    assert peer.read(5) == b"hello"
    start = time.monotonic()
    over = threading.Event()

    def talk():
        try:
            while not over.is_set():
                peer.sock.sendall(b"news " * 100)
                time.sleep(0.01)
        except OSError:
            pass

    talker = threading.Thread(target=talk)
    talker.start()
    process.finish(0)
    took = time.monotonic() - start
    over.set()
    talker.join()
    assert took < 4.5 * h.settings.slow, took


def test_give_way(h):
    """tcp.close.give-way: closed sockets make room for new connections when descriptors run out"""
    h.needs_posix("no limit of descriptors")
    process = h.start(SERVER + """
        tcp.accept(l, function(ok, s) if not ok then return end tcp.write(s, "a line\\n") tcp.close(s) end)
        tcp.read(select(2, tcp.connect("127.0.0.1", tcp.local_port(l))), function() end)
        context.recv(0)""", wrap=limited(80))
    port = process.port()
    peers, start = [], time.monotonic()
    for _ in range(150):  # none of them closes
        peers.append(h.connect(port))
        assert peers[-1].read(7) == b"a line\n"
    took = time.monotonic() - start
    process.kill()
    assert took < 4.5 * h.settings.slow, took


def test_give_way_unsent(h):
    """tcp.close.give-way-unsent: those with output left give way last, and by a reset"""
    h.needs_posix("no limit of descriptors")
    process = h.start(SERVER + """
        tcp.accept(l, function(ok, s) if not ok then return end tcp.write(s, ("x"):rep(10000000)) tcp.close(s) end)
        context.recv(0)""", wrap=limited(60))
    port = process.port()
    peers = [h.connect(port) for _ in range(100)]
    for peer in peers:
        peer.read(1)
    assert ends_in_reset(peers[0])[1], "the first one is cut"
    n, reset = ends_in_reset(peers[-1])
    assert (n, reset) == (10000000 - 1, False), (n, reset)
    process.kill()


def test_small_writes_leave_at_once(h):
    """tcp.nodelay.default: two small writes, one turn apart, do not wait for the peer's acknowledgement"""
    process = h.start(SERVER + """
        local _, s = tcp.accept(l)
        while tcp.read(s) do
          tcp.write(s, "answer") timer.sleep(0.001) tcp.write(s, "event")
        end""")
    peer = h.connect(process.port())
    apart = []
    for _ in range(40):  # the first ones are acknowledged at once in any case
        peer.send(b"request")
        peer.read(6)
        start = time.monotonic()
        peer.read(5)
        apart.append(time.monotonic() - start)
    peer.close()
    process.finish(0)
    assert min(apart[20:]) < 0.03, min(apart[20:])


def test_callbacks_of_a_reset(h):
    """tcp.write.callback-order-reset: callbacks come in the order written also where the peer resets, to all that share the fd"""
    h.file("writer.lua", """
        local fd, n, told, over = ..., 0, 0, false
        while not over do
          for _ = 1, 30 do
            n = n + 1
            local me = n
            tcp.write(fd, ("x"):rep(me % 7 * 300), function(ok)
              if me ~= told + 1 then io.write("told of ", me, " after ", told, "\\n") io.stdout:flush() end
              told, over = me, over or not ok
            end)
          end
          timer.sleep(0)
        end
        while told < n do timer.sleep(0.001) end
        context.send(context.parent, true)""")
    process = h.start(SERVER + """
        while true do
          local _, s = tcp.accept(l)
          tcp.set_wshared(s, true)
          local writers = {}
          for i = 1, 3 do writers[i] = context.create("writer.lua", tcp.fd(s)) end
          for i = 1, 3 do context.recv(writers[i]) end
          tcp.close(s)
          io.write("over\\n") io.stdout:flush()
        end""")
    port = process.port()
    for _ in range(int(60 / h.settings.slow)):
        peer = h.connect(port)
        peer.read(3000)
        peer.reset()
        process.expect("over")
    process.kill()

"""Host names: the resolver asks a name server of the test's own, in a mount namespace with its own resolv.conf."""

import os
import shutil
import socket
import subprocess
import sys
import threading

from dns import NameServer


def with_tables(h, **tables):
    """The words in front of a command that runs it where /etc holds only these files (name: text), in the place of "." "_"."""
    if sys.platform != "linux" or not shutil.which("unshare") or len(h.settings.command) > 1:
        h.skip("needs a mount namespace")
    etc = h.tmp / "etc"
    for name, text in tables.items():
        h.file(f"etc/{name.replace('_', '.')}", text)
    etc.mkdir(exist_ok=True)
    wrap = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc && exec "$@"', str(etc)]
    if subprocess.run([*wrap, "true"], capture_output=True).returncode:
        h.skip("needs the right to make a mount namespace")
    return wrap


def serve(h, names, **tables):
    """Starts a name server that knows these; returns it and the words that make nl-jit ask it.  Skips where it cannot be had."""
    try:
        server = NameServer(names)
    except OSError as error:
        h.skip(f"no name server can be had here: {error}")
    h.defer(server.close)
    tables = {"hosts": "", "nsswitch_conf": "hosts: files dns\n", **tables}
    return server, with_tables(h, resolv_conf=f"nameserver {server.address}\noptions timeout:30 attempts:1\n", **tables)


def with_names(h, names):
    return serve(h, names)[1]


def test_every_address(h):
    """tcp.connect.every-address: every address of a name is tried in turn"""
    # The C library puts 127.0.0.1 first; nobody listens there, nor on the second.
    listener, port = h.listen("127.0.0.3")
    names = {"three.test": (["127.0.0.1", "127.0.0.2", "127.0.0.3"], [], 0), "none.test": (["127.0.0.1", "127.0.0.2"], [], 0)}
    wrap = with_names(h, names)
    result = h.run("""
        local port = tonumber((...))
        local ok, s = tcp.connect("three.test", port, 20)
        print(ok, ok and s:remote_addr() or context.errname(s))
        print(context.errname(select(2, tcp.connect("none.test", port, 20))))
        """, port, wrap=wrap)
    assert result.stdout == "true\t127.0.0.3\nECONNREFUSED\n", result


def test_families(h):
    """tcp.connect.families: connect uses a name's IPv4 addresses, connect6 its IPv6 ones"""
    v4, port4 = h.listen()
    try:
        v6, port6 = h.listen("::1")
    except OSError:
        h.skip("no IPv6 here")
    wrap = with_names(h, {"both.test": (["127.0.0.1"], ["::1"], 0), "six.test": ([], ["::1"], 0)})
    result = h.run("""
        local port4, port6 = ...
        print(select(2, assert(tcp.connect("both.test", tonumber(port4), 20))):remote_addr())
        print(select(2, assert(tcp.connect6("both.test", tonumber(port6), 20))):remote_addr())
        print(select(2, assert(tcp.connect6("six.test", tonumber(port6), 20))):remote_addr())
        """, port4, port6, wrap=wrap)
    assert result.stdout == "127.0.0.1\n::1\n::1\n", result


def test_off_the_workers(h):
    """tcp.connect.off-worker: names are resolved off the workers: everything else goes on meanwhile"""
    wrap = with_names(h, {"slow.test": (["127.0.0.1"], [], 0.6)})
    listener, port = h.listen()
    # One worker: were it held up, the timer could not beat.
    h.file("s.lua", """
        local beats, port = 0, tonumber((...))
        local id = timer.loop(0, 0.01, function() beats = beats + 1 end)
        local ok, s = tcp.connect("slow.test", port, 20)
        print(ok, beats >= 5)
        timer.close(id)
        """)
    result = h.cli("-w", 1, "s.lua", port, wrap=wrap).finish()
    assert result.stdout == "true\ttrue\n", result


def test_timeout_covers_all(h):
    """tcp.connect.timeout-name: the time-out covers the resolution, too; the late answer harms nobody"""
    wrap = with_names(h, {"slow.test": (["127.0.0.1"], [], 0.5)})
    result = h.run("""
        local start = timer.now()
        local ok, err = tcp.connect("slow.test", 9, 0.1)
        print(ok, context.errname(err), timer.now() - start >= 0.1)
        tcp.connect("slow.test", 9, 0.1, function(ok, err) print(ok, context.errname(err)) end)
        timer.sleep(0.7)
        """, wrap=wrap)
    assert result.stdout == "false\tETIMEOUT\ttrue\nfalse\tETIMEOUT\n", result


def test_destroyed_while_resolving(h):
    """life.released.resolving: a context may end while its name is being resolved"""
    wrap = with_names(h, {"slow.test": (["127.0.0.1"], [], 0.4)})
    h.file("child.lua", "context.send(context.parent, 1) tcp.connect('slow.test', 9)")
    result = h.run("""
        local h = context.create("child.lua")
        context.recv(h)
        timer.sleep(0.05)
        context.destroy(h, "no more")
        print(context.wait(h, 20))
        timer.sleep(0.6) -- the answer comes for nobody
        print("well")
        """, wrap=wrap)
    assert result.stdout == "true\t0\tno more\nwell\n", result


def test_unknown(h):
    """tcp.connect.unknown-name: a name the server denies, or has no address for, is EHOST"""
    wrap = with_names(h, {"six.test": ([], ["::1"], 0)})
    result = h.run("""
        for _, name in ipairs { "denied.test", "six.test" } do
          print(context.errname(select(2, tcp.connect(name, 80, 20))))
        end
        """, wrap=wrap)
    assert result.stdout == "EHOST\nEHOST\n", result


def test_abandoned(h):
    """tcp.connect.abandoned-names: names that nobody waits for any more are not asked for, and hold up no other"""
    never = threading.Event()
    server, wrap = serve(h, {"*.slow.test": ([], [], never), "quick.test": (["127.0.0.1"], [], 0)},
                         hosts="127.0.0.1 here.test other.test # 127.0.0.9 comment.test\n127.0.0.5\tmore.test\n")
    listener, port = h.listen("0.0.0.0")
    result = h.run("""
        local port = tonumber((...))
        local function try(host)
          local ok, s = tcp.connect(host, port, 20)
          print(host, ok, ok and s:remote_addr() or context.errname(s))
        end
        local left = 12
        for i = 1, 12 do
          tcp.connect("n" .. i .. ".slow.test", port, 0.01, function(ok, err)
            assert(not ok and context.errname(err) == "ETIMEOUT")
            left = left - 1
          end)
        end
        repeat timer.sleep(0.01) until left == 0
        try "quick.test"
        for i = 1, 60 do tcp.connect("m" .. i .. ".slow.test", port, 0) end
        for _, host in ipairs { "localhost", "here.test", "OTHER.test", "more.test", "127.1" } do try(host) end
        os.exit(0)
        """, port, wrap=wrap)
    assert result.stdout == ("quick.test\ttrue\t127.0.0.1\nlocalhost\ttrue\t127.0.0.1\nhere.test\ttrue\t127.0.0.1\n"
                             "OTHER.test\ttrue\t127.0.0.1\nmore.test\ttrue\t127.0.0.5\n127.1\ttrue\t127.0.0.1\n"), result
    asked = set(server.asked)
    assert len(asked) <= 17 and not asked & {"localhost", "here.test", "other.test", "more.test", "127.1"}, asked


def test_same_name(h):
    """tcp.connect.same-name: a name that many wait for is asked for once"""
    go = threading.Event()
    server, wrap = serve(h, {"same.test": (["127.0.0.1"], [], go)})
    listener, port = h.listen()
    process = h.start("""
        local port, left = tonumber((...)), 30
        for i = 1, left do
          tcp.connect(i % 2 == 0 and "same.test" or "Same.TEST", port, nil, function(ok, s)
            assert(ok, s)
            left = left - 1
            if left == 0 then print("all") end
          end)
        end
        print("begun") io.flush()
        """, port, wrap=wrap)
    process.expect("begun")
    go.set()
    process.expect("all")
    process.finish()
    assert len(server.asked) == 1, server.asked


def test_order_of_tables(h):
    """tcp.connect.nsswitch: the hosts file comes first, unless the system is told to ask a name server before it"""
    h.needs_ffi("gnu_get_libc_version")  # other systems' libraries do not read nsswitch.conf
    listener, port = h.listen("0.0.0.0")
    for order, address in (("files dns", "127.0.0.7"), ("dns files", "127.0.0.8"), ("dns", "127.0.0.8")):
        _, wrap = serve(h, {"both.test": (["127.0.0.8"], [], 0)}, hosts="127.0.0.7 both.test\n",
                        nsswitch_conf=f"passwd: files\nhosts: {order} # files\n")
        result = h.run("""
            local ok, s = tcp.connect("both.test", tonumber((...)), 20)
            print(ok and s:remote_addr() or context.errname(s))
            """, port, wrap=wrap)
        assert result.stdout == address + "\n", (order, result)


LOCALHOST = """
        for _, host in ipairs { "localhost", "LOCALHOST.", "db.localhost" } do
          for _, call in ipairs { { tcp.listen, tcp.connect }, { tcp.listen6, tcp.connect6 } } do
            local ok, l = call[1](host, 0)
            if ok or call[1] == tcp.listen then
              assert(ok, l)
              io.write(select(2, assert(call[2](host, l:local_port(), 20))):remote_addr(), " ")
            end
          end
        end
        print(context.errname(select(2, tcp.connect("localhostess", 9, 20))))
        """


def test_localhost(h):
    """tcp.connect.localhost: localhost is the loopback, on a machine without any table too, and nobody is asked for it"""
    wrong = {name: (["192.0.2.1"], ["2001:db8::1"], 0) for name in ("localhost", "db.localhost")}
    server, asking = serve(h, wrong, hosts="192.0.2.1 localhost db.localhost\n2001:db8::1 localhost db.localhost\n")
    (h.tmp / "etc").rename(h.tmp / "wrong")
    asking[-1] = str(h.tmp / "wrong")
    for wrap in (with_tables(h), asking):
        result = h.run(LOCALHOST, wrap=wrap)
        assert result.stdout.replace("::1 ", "") == "127.0.0.1 " * 3 + "EHOST\n", result
    assert not {n for n in server.asked if n.rstrip(".").endswith("localhost")}, server.asked


# ---- Attempts ---------------------------------------------------------------------------------------------------------


def silent(h, host, port=0):
    """An address that does not answer: a listener whose backlog is full."""
    listener = socket.socket()
    listener.bind((host, port))
    listener.listen(0)
    fill(h, listener, socket.AF_INET)
    return listener, listener.getsockname()[1]


def fill(h, listener, family):
    """Connects to it until it takes no more."""
    h.defer(listener.close)
    for _ in range(2):
        sock = socket.socket(family)
        h.defer(sock.close)
        sock.setblocking(False)
        sock.connect_ex(listener.getsockname())


def sockets_of(process):
    links = []
    for fd in os.listdir(f"/proc/{process.pid}/fd"):
        try:
            links.append(os.readlink(f"/proc/{process.pid}/fd/{fd}"))
        except OSError:
            pass
    return sum(link.startswith("socket:") for link in links)


def test_silent_first(h):
    """tcp.connect.silent-first: an address that does not answer does not use up the time; the attempt that lost is closed"""
    listener, port = silent(h, "127.0.0.1")
    good = socket.socket()
    h.defer(good.close)
    good.bind(("127.0.0.3", port))
    good.listen()
    wrap = with_names(h, {"name.test": (["127.0.0.1", "127.0.0.2", "127.0.0.3"], [], 0)})
    process = h.start("""
        local port = tonumber((...))
        io.write("ready\\n") io.flush()
        local _, s = assert(tcp.connect("name.test", port, 30))
        print(s:remote_addr()) io.flush()
        tcp.read(s)
        """, port, wrap=wrap)
    process.expect("ready")
    process.expect("127.0.0.3")
    assert sockets_of(process) == 1
    good.accept()[0].close()
    process.finish()


def test_all_silent(h):
    """tcp.connect.silent-all: the time-out covers all attempts, and closes them"""
    listener, port = silent(h, "127.0.0.1")
    silent(h, "127.0.0.2", port)
    wrap = with_names(h, {"name.test": (["127.0.0.1", "127.0.0.2"], [], 0)})
    process = h.start("""
        local port, start = tonumber((...)), timer.now()
        print(context.errname(select(2, tcp.connect("name.test", port, 0.6))), timer.now() - start >= 0.6)
        tcp.connect("name.test", port, 0.6, function(ok, err) print(ok, context.errname(err)) io.flush() timer.sleep(30) end)
        """, port, wrap=wrap)
    process.expect("ETIMEOUT\ttrue")
    process.expect("false\tETIMEOUT")
    assert sockets_of(process) == 0
    process.kill()


def test_full_unix(h):
    """tcp.connects.full: a server whose backlog is full is waited for, until the time-out or for ever"""
    h.needs_posix("named pipes in the place of Unix sockets")
    path = str(h.tmp / "full.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(0)
    fill(h, listener, socket.AF_UNIX)
    process = h.start("""
        local path, start = ..., timer.now()
        print(context.errname(select(2, tcp.connects(path, 0.2))), timer.now() - start >= 0.2)
        tcp.connects(path, 0.1, function(ok, err, name) print(ok, context.errname(err), name == path) end)
        timer.sleep(0.2)
        tcp.connects(path, nil, function(ok, s) print("callback", ok) end)
        print("waiting") io.flush()
        print("blocking", (tcp.connects(path)))
        """, path)
    process.expect("ETIMEOUT\ttrue")
    process.expect("false\tETIMEOUT\ttrue")
    process.expect("waiting")
    peers = [listener.accept()[0] for _ in range(3)]
    assert sorted((process.line(), process.line())) == ["blocking\ttrue", "callback\ttrue"]
    process.finish()
    for peer in peers:
        peer.close()


def test_full_unix_gone(h):
    """tcp.connects.full-gone: who waits for a server with a full backlog hears that it has gone"""
    h.needs_posix("named pipes in the place of Unix sockets")
    path = str(h.tmp / "full.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(0)
    fill(h, listener, socket.AF_UNIX)
    process = h.start("""
        tcp.connects(..., nil, function(ok, err) print(ok, context.errname(err)) end)
        print("waiting") io.flush()
        """, path)
    process.expect("waiting")
    listener.close()
    process.expect("false\tECONNREFUSED")
    process.finish()

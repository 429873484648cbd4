"""Host names: the resolver asks a name server of the test's own, in a mount namespace with its own resolv.conf."""

import shutil
import subprocess
import sys

from dns import NameServer

INSIDE = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"']


def with_names(h, names):
    """Starts a name server that knows these; returns the words that make nl-jit ask it.  Skips where that cannot be had."""
    if sys.platform != "linux" or not shutil.which("unshare") or len(h.settings.command) > 1:
        h.skip("needs a mount namespace")
    try:
        server = NameServer(names)
    except OSError as error:
        h.skip(f"no name server can be had here: {error}")
    h.defer(server.close)
    wrap = [*INSIDE, str(h.file("resolv.conf", f"nameserver {server.address}\noptions timeout:5 attempts:1\n"))]
    if subprocess.run([*wrap, "true"], capture_output=True).returncode:
        h.skip("needs the right to make a mount namespace")
    return wrap


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

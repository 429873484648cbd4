"""remote_addr and its kin: who the other end was stays known when it has gone."""

import socket


def peer_of(sock):
    """The line that the scripts here print of a connection with this socket."""
    address = sock.getsockname()
    return f"{address} 0" if isinstance(address, str) else f"{address[0]} {address[1]}"


WHO = """
        local function who(s)
          io.write(tostring(s:remote_addr()), " ", tostring(s:remote_port()), "\\n") io.flush()
        end
        """


def test_gone_before_accept(h):
    """tcp.addr.reset-before-accept: accept tells the address of a peer that has reset meanwhile"""
    h.needs_posix("wine drops a connection that is reset before it is accepted")
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        process = h.start(WHO + """
            local host = ...
            local listen = host == "::1" and tcp.listen6 or tcp.listen
            local ok, l = listen(host, 0)
            if not ok then print("none") return end
            local go = assert(select(2, listen(host, 0)))
            print(l:local_port(), go:local_port()) io.flush()
            tcp.accept(go)
            tcp.accept(l, function(ok, s)
              who(s)
              tcp.accept(l, nil)
              print(s:local_addr(), s:local_port() == l:local_port())
            end)
            """, host)
        first = process.line()
        if first == "none":
            continue
        port, go = map(int, first.split())
        peer = h.connect(port, host)
        address = peer_of(peer.sock)
        peer.reset()
        h.connect(go, host)
        process.expect(address)
        process.expect(f"{host}\ttrue")
        process.finish()


def test_gone_after_accept(h):
    """tcp.addr.gone: the address of a peer that has closed or reset is what it was"""
    for host in ("127.0.0.1", "::1"):
        for leave in ("close", "reset"):
            process = h.start(WHO + """
                local host = ...
                local ok, l = (host == "::1" and tcp.listen6 or tcp.listen)(host, 0)
                if not ok then print("none") return end
                print(l:local_port()) io.flush()
                local s = assert(select(2, l:accept()))
                who(s)
                print(context.errname(select(2, s:read()))) io.flush()
                who(s)
                print(s:local_addr(), s:local_port() == l:local_port())
                """, host)
            first = process.line()
            if first == "none":
                continue
            peer = h.connect(int(first), host)
            address = peer_of(peer.sock)
            process.expect(address)
            getattr(peer, leave)()
            process.expect("EEOF" if leave == "close" else "ECONNRESET")
            process.expect(address)
            process.expect(f"{host}\ttrue")
            process.finish()


def test_server_gone(h):
    """tcp.addr.server-gone: a connecting socket knows where it went when the server has gone"""
    listener, port = h.listen()
    process = h.start(WHO + """
        local s = assert(select(2, tcp.connect("0.0.0.0", tonumber((...)))))
        who(s)
        print(s:local_port()) io.flush()
        print(context.errname(select(2, s:read()))) io.flush()
        who(s)
        print(s:local_addr(), s:local_port())
        """, port)
    peer = h.accept(listener)
    local = peer.sock.getpeername()[1]
    process.expect(f"127.0.0.1 {port}")
    process.expect(str(local))
    peer.reset()
    process.expect("ECONNRESET")
    process.expect(f"127.0.0.1 {port}")
    process.expect(f"127.0.0.1\t{local}")
    process.finish()


def test_unix_gone(h):
    """tcp.addr.unix-gone: the name of a Unix peer stays known, also a long one, and that it has none"""
    h.needs_posix("named pipes in the place of Unix sockets")
    for name in (None, str(h.tmp / ("c" * 40))):
        path = str(h.tmp / f"{name is None}.sock")
        process = h.start(WHO + """
            local l = assert(select(2, tcp.listens((...))))
            print("on") io.flush()
            local s = assert(select(2, l:accept()))
            who(s)
            print(context.errname(select(2, s:read()))) io.flush()
            who(s)
            print(s:local_addr())
            """, path)
        process.expect("on")
        sock = socket.socket(socket.AF_UNIX)
        if name:
            sock.bind(name)
        sock.connect(path)
        process.expect(f"{name or ''} 0")
        sock.close()
        process.expect("EEOF")
        process.expect(f"{name or ''} 0")
        process.expect(path)
        process.finish()

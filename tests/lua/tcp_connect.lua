-- tcp.connect, connect6, connects.
local t = require "t"
local errno = context.errno

t.test("tcp.connect.value: true and a socket", function()
  local l, port = t.listen()
  local s = t.good(tcp.connect("127.0.0.1", port))
  t.eq(tcp.remote_port(s), port)
  t.eq(tcp.is_closed(s), false)
  tcp.close(s)
end)

t.test("tcp.connect.optional: the time-out may be nil, left out, or given", function()
  local l, port = t.listen()
  tcp.close(t.good(tcp.connect("127.0.0.1", port, nil)))
  tcp.close(t.good(tcp.connect("127.0.0.1", port, 20)))
  tcp.close(t.good(tcp.connect("127.0.0.1", port, 20, nil)))
end)

t.test("tcp.connect.refused: nobody listens there", function()
  t.fails("ECONNREFUSED", tcp.connect("127.0.0.1", t.closed_port()))
  t.fails("ECONNREFUSED", tcp.connect("127.0.0.1", t.closed_port(), 20))
end)

t.test("tcp.connect.name: a host name", function()
  local l, port = t.listen()
  local s = t.good(tcp.connect("localhost", port, 20))
  t.eq(tcp.remote_addr(s), "127.0.0.1")
  tcp.close(s)
  t.fails("ECONNREFUSED", tcp.connect("localhost", t.closed_port(), 20))
end)

t.test("tcp.connect6.name: localhost in the other family", function()
  local ok, l = tcp.listen6("::1", 0)
  if not ok then t.skip("no IPv6 here: " .. context.strerror(l)) end
  t.defer(tcp.close, l)
  local connected, s = tcp.connect6("localhost", tcp.local_port(l), 20)
  -- Where localhost has no IPv6 address in the machine's own tables, it is a name that is not known.
  if not connected and s == errno.EHOST then t.skip "localhost has no IPv6 address here" end
  t.eq(connected, true)
  t.eq(tcp.remote_addr(s), "::1")
  tcp.close(s)
end)

t.test("tcp.connect.unknown: an unknown host name is EHOST", function()
  t.fails("EHOST", tcp.connect("no-such-host.invalid", 80, 20))
  t.fails("EHOST", tcp.connect6("no-such-host.invalid", 80, 20))
  local calls, record = t.recorder()
  t.returns({ true }, tcp.connect("no-such-host.invalid", 80, nil, record))
  t.returns({ false, errno.EHOST, "no-such-host.invalid", 80 }, unpack(calls:wait(), 1, 4))
end)

t.test("tcp.connect.names-at-once: many names are resolved at once, each with its own answer", function()
  local l, port = t.listen()
  tcp.accept(l, function() end)
  local calls = {}
  for i = 1, 40 do
    calls[i] = t.async(tcp.connect, i % 2 == 0 and "localhost" or "no-such-host-" .. i .. ".invalid", port, 20)
  end
  for i = 1, 40 do
    local got = calls[i].wait()
    if i % 2 == 0 then
      t.eq(got[1], true)
      tcp.close(got[2])
    else
      t.same({ got[1], got[2] }, { false, errno.EHOST })
    end
  end
  tcp.accept(l, nil)
end)

t.test("tcp.connects.missing: no such file; nobody behind it", function()
  t.fails("ENOENT", tcp.connects(t.local_name "nothing"))
  t.needs_posix("a file in the place of a socket")
  t.fails("ECONNREFUSED", tcp.connects(t.file("no socket", "plain.txt")))
end)

t.test("tcp.connects.optional: time-out and callback", function()
  local path = t.local_name "c"
  local l = t.good(tcp.listens(path))
  tcp.close(t.good(tcp.connects(path, 20)))
  local calls, record = t.recorder()
  t.returns({ true }, tcp.connects(path, 20, record))
  local got = calls:wait()
  t.same({ got[1], got[3], got[4] }, { true, path, 20 })
  tcp.close(got[2])
  tcp.close(l)
end)

t.test("tcp.connect.same-socket: the object in a callback is the one in use, and serves as a table key", function()
  local l, port = t.listen()
  local server
  tcp.accept(l, function(_, s)
    server = s
    tcp.read(s, function(ok, data, same)
      t.ok(rawequal(same, s), "another object")
      if ok then tcp.write(s, data) end
    end)
  end)
  local s = t.good(tcp.connect("127.0.0.1", port))
  t.await(function() return server end)
  local by_socket = { [s] = "client", [server] = "server" }
  tcp.write(s, "x")
  t.eq(t.read_all(s, 1), "x")
  t.eq(by_socket[s], "client")
  t.eq(by_socket[server], "server")
  tcp.close(s)
  tcp.accept(l, nil)
end)

t.test("tcp.connect.many: many connections at once from one context", function()
  local n = t.scale(300)
  local l, port = t.listen { backlog = 1024 }
  local accepted, connected = {}, {}
  tcp.accept(l, function(ok, s) accepted[#accepted + 1] = t.good(ok, s) end)
  for i = 1, n do
    tcp.connect("127.0.0.1", port, 60, function(ok, s) connected[#connected + 1] = t.good(ok, s) end)
  end
  t.await(function() return #accepted == n and #connected == n end)
  for i = 1, n do tcp.write(connected[i], tostring(tcp.local_port(connected[i]))) end
  for i = 1, n do
    local want = tostring(tcp.remote_port(accepted[i]))
    t.eq(t.read_all(accepted[i], #want), want)
  end
  for i = 1, n do
    tcp.close(connected[i])
    tcp.close(accepted[i])
  end
  tcp.accept(l, nil)
end)

t.done()

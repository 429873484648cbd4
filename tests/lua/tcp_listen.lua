-- tcp.listen, listen6, listens and accept.
local t = require "t"
local errno = context.errno

local function connect(port) return t.good(tcp.connect("127.0.0.1", port, 20)) end

---- listen ------------------------------------------------------------------------------------------------------------------

t.test("tcp.listen.port0: port 0 takes any free one; local_port tells which", function()
  local a, b = t.good(tcp.listen("127.0.0.1", 0)), t.good(tcp.listen("127.0.0.1", 0))
  local pa, pb = tcp.local_port(a), tcp.local_port(b)
  t.ok(pa > 0 and pa < 65536 and pb > 0 and pa ~= pb)
  t.eq(tcp.local_addr(a), "127.0.0.1")
  tcp.close(connect(pa))
  tcp.close(a)
  tcp.close(b)
end)

t.test("tcp.listen.given-port: the port that was asked for", function()
  local port = t.closed_port()
  local l = t.good(tcp.listen("127.0.0.1", port))
  t.eq(tcp.local_port(l), port)
  tcp.close(l)
end)

t.test("tcp.listen.any: 0.0.0.0 listens on every address", function()
  local l = t.good(tcp.listen("0.0.0.0", 0))
  t.eq(tcp.local_addr(l), "0.0.0.0")
  local s = connect(tcp.local_port(l))
  t.eq(tcp.local_addr(t.good(tcp.accept(l, 20))), "127.0.0.1")
  tcp.close(s)
  tcp.close(l)
end)

t.test("tcp.listen.in-use: a port in use is false, EADDRINUSE", function()
  local _, port = t.listen()
  t.fails("EADDRINUSE", tcp.listen("127.0.0.1", port))
end)

t.test("tcp.listen.not-here: an address of another machine is false, EADDRNOTAVAIL", function()
  t.fails("EADDRNOTAVAIL", tcp.listen("203.0.113.7", 0))
end)

t.test("tcp.listen.again: a port whose connections were just closed can be listened on again", function()
  local l, port = t.listen()
  local s = connect(port)
  local a = t.good(tcp.accept(l, 20))
  tcp.close(a) -- this end closes first and keeps the address busy in TIME_WAIT
  t.fails("EEOF", tcp.read(s, 20))
  tcp.close(s)
  tcp.close(l)
  t.settle()
  tcp.close(t.good(tcp.listen("127.0.0.1", port)))
end)

t.test("tcp.listen.options: backlog as a number or in a table of options", function()
  for _, options in ipairs { 1, 128, { backlog = 5 }, {}, { backlog = 5, reuseport = false } } do
    local l = t.good(tcp.listen("127.0.0.1", 0, options))
    local s = connect(tcp.local_port(l))
    tcp.close(t.good(tcp.accept(l, 20)))
    tcp.close(s)
    tcp.close(l)
  end
end)

t.test("tcp.listen.reuseport: several listeners share a port if all ask for it", function()
  t.needs_posix("SO_REUSEPORT")
  local a = t.good(tcp.listen("127.0.0.1", 0, { reuseport = true }))
  local port = tcp.local_port(a)
  local b = t.good(tcp.listen("127.0.0.1", port, { reuseport = true }))
  t.fails("EADDRINUSE", tcp.listen("127.0.0.1", port))
  local got = 0
  for _, l in ipairs { a, b } do tcp.accept(l, function(ok, s) if ok then got = got + 1 end end) end
  for _ = 1, 8 do tcp.close(connect(port)) end
  t.await(function() return got == 8 end, "8 connections on two listeners")
  tcp.close(a)
  tcp.accept(b, nil)
  tcp.close(b)
end)

t.test("tcp.listen6: the same for IPv6", function()
  local ok, l = tcp.listen6("::1", 0)
  if not ok then t.skip("no IPv6 here: " .. context.strerror(l)) end
  local port = tcp.local_port(l)
  t.eq(tcp.local_addr(l), "::1")
  t.fails("EADDRINUSE", tcp.listen6("::1", port))
  local s = t.good(tcp.connect6("::1", port))
  local a = t.good(tcp.accept(l, 20))
  t.eq(tcp.remote_addr(s), "::1")
  t.eq(tcp.remote_port(s), port)
  t.eq(tcp.remote_port(a), tcp.local_port(s))
  t.eq(tcp.write(s, "six"), true)
  t.eq(t.read_all(a, 3), "six")
  local calls, record = t.recorder()
  t.returns({ true }, tcp.listen6("::1", 0, 9, record))
  local got = calls:wait()
  t.same({ got[1], got[3], got[4], got[5] }, { true, "::1", 0, 9 })
  for _, x in ipairs { l, s, a, got[2] } do tcp.close(x) end
end)

---- Unix domain sockets, named pipes -----------------------------------------------------------------------------------------------------

t.test("tcp.listens: Unix domain sockets, named pipes", function()
  local path = t.local_name "both"
  local l = t.good(tcp.listens(path))
  local s = t.good(tcp.connects(path))
  local a = t.good(tcp.accept(l, 20))
  tcp.write(s, "there")
  tcp.write(a, "back")
  t.eq(t.read_all(a, 5), "there")
  t.eq(t.read_all(s, 4), "back")
  tcp.close(s)
  t.fails("EEOF", tcp.read(a, 20))
  tcp.close(a)
  tcp.close(l)
end)

t.test("tcp.listens.in-use: somebody listens there already", function()
  local path = t.local_name "busy"
  local l = t.good(tcp.listens(path))
  t.fails("EADDRINUSE", tcp.listens(path))
  -- The attempt has done the first listener no harm.
  local s = t.good(tcp.connects(path))
  tcp.close(t.good(tcp.accept(l, 20)))
  tcp.close(s)
  tcp.close(l)
end)

t.test("tcp.listens.stale: a stale file nobody listens on is replaced", function()
  local path = t.local_name "stale"
  -- A context that is destroyed leaves the file, if it does; one that the test makes itself is there in any case.
  local h = t.spawn("local _, l = tcp.listens((...)) context.send(context.parent, 1) tcp.accept(l)", path)
  t.good(context.recv(h, 20))
  context.destroy(h)
  t.good(context.wait(h, 20))
  local l = t.good(tcp.listens(path))
  local s = t.good(tcp.connects(path))
  tcp.close(t.good(tcp.accept(l, 20)))
  tcp.close(s)
  tcp.close(l)
end)

t.test("tcp.listens.no-socket: a file that is no socket is not replaced", function()
  local path = t.file("precious", "precious.txt")
  local ok, err = tcp.listens(path)
  t.eq(ok, false)
  t.eq(type(context.errname(err)), "string")
  t.eq(io.open(path):read "*a", "precious")
end)

---- Addresses ---------------------------------------------------------------------------------------------------------------

t.test("tcp.addr.listener: on a listener the local two answer, the remote two raise", function()
  local l, port = t.listen()
  t.eq(tcp.local_addr(l), "127.0.0.1")
  t.eq(l:local_port(), port)
  t.raises("", tcp.remote_addr, l)
  t.raises("", tcp.remote_port, l)
end)

t.test("tcp.addr.connection: on a connection both ends agree", function()
  local a, b = t.pair()
  t.eq(tcp.local_addr(a), "127.0.0.1")
  t.eq(tcp.remote_addr(a), "127.0.0.1")
  t.eq(a:local_port(), b:remote_port())
  t.eq(a:remote_port(), b:local_port())
end)

---- accept ------------------------------------------------------------------------------------------------------------------

t.test("tcp.accept.blocking: waits for a connection; those in the backlog come in order", function()
  local l, port = t.listen()
  local waiting = t.async(tcp.accept, l)
  t.settle()
  t.eq(waiting.done(), false)
  local first = connect(port)
  local got = waiting.wait()
  t.eq(got[1], true)
  t.eq(tcp.remote_port(got[2]), tcp.local_port(first))
  local later = {}
  for i = 1, 5 do later[i] = connect(port) end
  for i = 1, 5 do t.eq(tcp.remote_port(t.good(tcp.accept(l, 20))), tcp.local_port(later[i])) end
end)

t.test("tcp.accept.timeout: ETIMEOUT, never early; nothing is lost by it", function()
  local l, port = t.listen()
  local start = timer.now()
  t.fails("ETIMEOUT", tcp.accept(l, 0.02))
  t.not_early(start, 0.02)
  t.fails("ETIMEOUT", tcp.accept(l, 0))
  t.fails("ETIMEOUT", tcp.accept(l, -1))
  local s = connect(port)
  tcp.close(t.good(tcp.accept(l, 20)))
  tcp.close(s)
end)

t.test("tcp.accept.callback: every connection, with result, socket, listener", function()
  local l, port = t.listen()
  local calls, record = t.recorder()
  t.returns({ true }, tcp.accept(l, record))
  local mine = {}
  for i = 1, 10 do
    local s = connect(port)
    mine[tcp.local_port(s)] = s
  end
  calls:wait(10)
  for i = 1, 10 do
    t.eq(calls[i].n, 3)
    t.eq(calls[i][1], true)
    t.eq(calls[i][3], l)
    local remote = tcp.remote_port(calls[i][2])
    t.ok(mine[remote], "accepted a stranger or one twice")
    mine[remote] = nil
  end
  tcp.accept(l, nil)
end)

t.test("tcp.accept.callback-removed: then connections wait in the backlog for the next accept", function()
  local l, port = t.listen()
  local calls, record = t.recorder()
  tcp.accept(l, record)
  connect(port)
  calls:wait(1)
  t.returns({ true }, tcp.accept(l, nil))
  local s = connect(port)
  t.settle()
  t.eq(#calls, 1)
  t.eq(tcp.remote_port(t.good(tcp.accept(l, 20))), tcp.local_port(s))
end)

t.test("tcp.accept.callback-replaced: another function takes its place for what comes next", function()
  local l, port = t.listen()
  local first, record_first = t.recorder()
  local second, record_second = t.recorder()
  tcp.accept(l, record_first)
  connect(port)
  first:wait(1)
  t.returns({ true }, tcp.accept(l, record_second))
  local s = connect(port)
  t.eq(tcp.remote_port(second:wait(1)[2]), tcp.local_port(s))
  t.eq(#first, 1)
  tcp.accept(l, nil)
end)

t.test("tcp.accept.order: several waiting coroutines are served first come, first served, before any callback", function()
  local l, port = t.listen()
  local calls, record = t.recorder()
  tcp.accept(l, record)
  local waiting = {}
  for i = 1, 3 do
    waiting[i] = t.async(tcp.accept, l)
    t.settle(0.003)
  end
  for i = 1, 3 do
    local s = connect(port)
    t.eq(tcp.remote_port(waiting[i].wait()[2]), tcp.local_port(s))
  end
  t.eq(#calls, 0)
  connect(port)
  calls:wait(1)
  tcp.accept(l, nil)
end)

t.test("tcp.accept.closed: pending accepts end with ETCPLCLOSED, later ones too", function()
  local l = t.listen()
  local waiting = { t.async(tcp.accept, l), t.async(tcp.accept, l, 20) }
  t.settle()
  t.eq(tcp.close(l), true)
  for i = 1, 2 do t.fails("ETCPLCLOSED", unpack(waiting[i].wait())) end
  t.fails("ETCPLCLOSED", tcp.accept(l))
  t.fails("ETCPLCLOSED", l:accept(1))
end)

t.test("tcp.accept.callback-closed: a callback hears once of a close by somebody else, of its own not at all", function()
  local l = t.listen()
  local calls, record = t.recorder()
  tcp.accept(l, record)
  tcp.close(l)
  t.returns({ false, errno.ETCPLCLOSED, l }, unpack(calls:wait(1)))
  local own, port = t.listen()
  local heard, note = t.recorder()
  tcp.accept(own, function(...)
    note(...)
    tcp.close(own)
  end)
  connect(port)
  t.eq(heard:wait(1)[1], true)
  t.settle()
  t.eq(#heard, 1)
  t.eq(#calls, 1)
end)

t.test("tcp.accept.close-refuses: a closed listener refuses new connections", function()
  local l, port = t.listen()
  tcp.close(l)
  t.fails("ECONNREFUSED", tcp.connect("127.0.0.1", port))
end)

t.test("tcp.accept.defaults: accepted sockets start from the default options", function()
  local l, port = t.listen()
  local s = connect(port)
  local options = tcp.get_rwopt(t.good(tcp.accept(l, 20)))
  t.eq(options.read_head_bytes, 0)
  t.eq(options.write_head_bytes, 0)
  tcp.close(s)
end)

t.test("tcp.accept.many: a thousand connections, all accepted, by several contexts", function()
  local n, clients = t.scale(1000), 4
  local l, port = t.listen { backlog = 1024 }
  local accepted = 0
  tcp.accept(l, function(ok, s)
    t.good(ok, s)
    accepted = accepted + 1
    tcp.write(s, "x")
    tcp.close(s)
  end)
  local all = {}
  for i = 1, clients do
    all[i] = t.spawn([[
      local port, n = ...
      for _ = 1, n do
        local ok, s = tcp.connect("127.0.0.1", port, 60)
        assert(ok, s)
        assert(tcp.read(s, 60))
        assert(select(2, tcp.read(s, 60)) == context.errno.EEOF)
        tcp.close(s)
      end
    ]], port, n / clients)
  end
  for i = 1, clients do t.returns({ true, 0, "exit" }, context.wait(all[i], 60)) end
  t.eq(accepted, math.floor(n / clients) * clients)
  tcp.accept(l, nil)
end)

t.done()

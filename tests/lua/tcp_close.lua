-- tcp.close: what it ends, what it still sends, and operations on a closed socket.
local t = require "t"
local errno = context.errno

t.test("tcp.close.result: true; closing twice is harmless", function()
  local a = t.pair()
  local l = t.listen()
  for _, s in ipairs { a, l } do
    t.eq(tcp.is_closed(s), false)
    t.returns({ true }, tcp.close(s))
    t.eq(tcp.is_closed(s), true)
    t.eq(type((tcp.close(s))), "boolean")
    t.eq(s:is_closed(), true)
  end
end)

t.test("tcp.methods: every function is also a method of the socket", function()
  local a = t.pair()
  local l = t.listen()
  for _, name in ipairs {
    "accept", "read", "write", "set_rwopt", "get_rwopt", "set_nodelay", "set_wshared", "local_addr", "remote_addr",
    "local_port", "remote_port", "close", "is_closed", "fd",
  } do
    t.eq(type(tcp[name]), "function", "tcp." .. name)
    t.eq(a[name], tcp[name], "method " .. name)
    t.eq(l[name], tcp[name], "method of a listener " .. name)
  end
end)

t.test("tcp.close.operations: an operation on a closed socket is false, ETCPSCLOSED, and does not raise", function()
  local a = t.pair()
  tcp.close(a)
  t.fails("ETCPSCLOSED", tcp.read(a))
  t.fails("ETCPSCLOSED", tcp.read(a, 1))
  t.fails("ETCPSCLOSED", tcp.write(a, "x"))
  t.fails("ETCPSCLOSED", tcp.write(a, "x", true))
  t.fails("ETCPSCLOSED", tcp.write(a, ""))
  t.fails("ETCPSCLOSED", tcp.set_rwopt(a, { read_head_bytes = 2 }))
  t.fails("ETCPSCLOSED", tcp.set_nodelay(a, true))
  t.fails("ETCPSCLOSED", tcp.set_wshared(a, true))
end)

t.test("tcp.close.pending-reads: pending calls end with ETCPSCLOSED", function()
  local a = t.pair()
  local waiting = { t.async(tcp.read, a), t.async(tcp.read, a, 20), t.async(tcp.read, a) }
  t.settle()
  tcp.close(a)
  for i = 1, 3 do t.fails("ETCPSCLOSED", unpack(waiting[i].wait())) end
end)

t.test("tcp.close.pending-writes: so do writes the kernel has not taken; their bytes are sent all the same", function()
  local a, b = t.pair()
  local size = 32 * 1024 * 1024
  local b32 = buffer.new(("w"):rep(size))
  local calls, record = t.recorder()
  local writing = t.async(tcp.write, a, b32, true)
  t.settle(0.05)
  tcp.write(a, "callback", record)
  t.settle()
  t.eq(writing.done(), false)
  tcp.close(a)
  t.fails("ETCPSCLOSED", unpack(writing.wait()))
  t.returns({ false, errno.ETCPSCLOSED, a, "callback" }, unpack(calls:wait()))
  local got = 0
  while true do
    local ok, data = tcp.read(b, 20)
    if not ok then
      t.eq(data, errno.EEOF)
      break
    end
    got = got + #data
  end
  t.eq(got, size + 8)
  t.settle()
  t.eq(#calls, 1)
end)

t.test("tcp.close.sends-first: what was written before is still sent, then the stream ends", function()
  local a, b = t.pair()
  tcp.write(a, "the last ")
  tcp.write(a, buffer.new "words")
  tcp.close(a)
  t.eq(t.read_all(b), "the last words")
  local c, d = t.pair()
  local size = t.scale(8000000)
  tcp.write(c, ("z"):rep(size))
  tcp.close(c)
  t.settle(0.02) -- a slow reader
  t.eq(#t.read_all(d), size)
end)

t.test("tcp.close.callback: a read callback hears once of a close by somebody else, of its own not at all", function()
  local a = t.pair()
  local calls, record = t.recorder()
  tcp.read(a, record)
  tcp.close(a)
  t.returns({ false, errno.ETCPSCLOSED, a }, unpack(calls:wait(1)))
  local c, d = t.pair()
  local own, note = t.recorder()
  tcp.read(c, function(...)
    note(...)
    tcp.close(c)
  end)
  tcp.write(d, "x")
  t.eq(own:wait(1)[1], true)
  t.fails("EEOF", tcp.read(d, 20))
  t.settle()
  t.eq(#own, 1)
  t.eq(#calls, 1)
end)

t.test("tcp.close.keeps-nothing: the callbacks of a closed socket keep no context alive", function()
  local h = t.spawn [[
    local _, l = tcp.listen("127.0.0.1", 0)
    local _, s = tcp.connect("127.0.0.1", tcp.local_port(l))
    tcp.read(s, function() end)
    tcp.accept(l, function() end)
    timer.timeout(0.005, function() tcp.close(s) tcp.close(l) end)
  ]]
  t.returns({ true, 0, "exit" }, context.wait(h, 20))
end)

t.test("tcp.close.other-end: the peer reads the end of the stream", function()
  local a, b = t.pair()
  local waiting = t.async(tcp.read, b)
  t.settle()
  tcp.close(a)
  t.fails("EEOF", unpack(waiting.wait()))
end)

t.test("tcp.close.unread: bytes that arrived and were not read are gone with the close", function()
  local a, b = t.pair()
  tcp.write(b, "never read")
  t.settle()
  tcp.close(a)
  t.fails("ETCPSCLOSED", tcp.read(a))
  local calls, record = t.recorder()
  tcp.read(a, record)
  t.returns({ false, errno.ETCPSCLOSED, a }, unpack(calls:wait()))
end)

t.test("tcp.close.race: sockets closed while both ends write and read, over and over", function()
  for i = 1, t.scale(200) do
    local a, b = t.pair()
    tcp.read(a, function() end)
    tcp.read(b, function() end)
    for _ = 1, 5 do
      tcp.write(a, ("a"):rep(3000))
      tcp.write(b, ("b"):rep(3000))
    end
    if i % 3 == 0 then timer.sleep(0) end
    tcp.close(i % 2 == 0 and a or b)
    if i % 5 == 0 then timer.sleep(0) end
    tcp.close(i % 2 == 0 and b or a)
  end
end)

t.done()

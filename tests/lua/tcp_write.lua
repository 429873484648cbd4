-- tcp.write: plain, safety and callback form; the write queue; and writes to the fd of a shared socket.
local t = require "t"
local errno = context.errno

-- More than any kernel takes from a writer whose peer does not read.
local HUGE = 32 * 1024 * 1024
local huge -- one buffer for all tests
local function huge_buffer()
  huge = huge or buffer.new(("h"):rep(HUGE))
  return huge
end

local function drain(s, n)
  local got = 0
  while got < n do got = got + #t.good(tcp.read(s, 60)) end
  return got
end

---- Plain -------------------------------------------------------------------------------------------------------------------

t.test("tcp.write.plain: true at once, for strings and buffers; the bytes leave in the order written", function()
  local a, b = t.pair()
  t.returns({ true }, tcp.write(a, "one "))
  t.returns({ true }, a:write(buffer.new "two "))
  t.returns({ true }, a:write("three ", nil))
  t.returns({ true }, a:write("four", false))
  t.eq(t.read_all(b, 18), "one two three four")
end)

t.test("tcp.write.order: thousands of small writes, buffers and strings mixed, over many turns", function()
  local a, b = t.pair()
  local n, parts = t.scale(20000), {}
  for i = 1, n do
    parts[i] = i % 500 == 0 and (i .. ","):rep(500) or i .. ","
    tcp.write(a, i % 3 == 0 and buffer.new(parts[i]) or parts[i])
    if i % 1000 == 0 then timer.sleep(0) end
  end
  local want = table.concat(parts)
  t.ok(t.read_all(b, #want) == want, "the bytes differ")
end)

t.test("tcp.write.empty: an empty write succeeds in every form and sends nothing", function()
  local a, b = t.pair()
  t.returns({ true }, tcp.write(a, ""))
  t.returns({ true }, tcp.write(a, buffer.new()))
  t.eq((tcp.write(a, "", true)), true)
  local calls, record = t.recorder()
  t.returns({ true }, tcp.write(a, "", record))
  t.returns({ true, 0, a, "" }, unpack(calls:wait()))
  tcp.write(a, "x")
  t.eq(t.read_all(b, 1), "x")
end)

t.test("tcp.write.finalizer: a socket that a finalizer closes while a number is made a string is a closed one", function()
  for _, name in ipairs { "socket", "fd" } do
    local a, b = t.pair()
    local target = name == "fd" and tcp.fd(a) or a
    local closed = false
    collectgarbage()
    local p = newproxy(true)
    getmetatable(p).__gc = function()
      tcp.close(a)
      closed = true
    end
    p = nil
    local i, ok, err = 0.5, nil, nil
    repeat -- only the strings take memory here
      i = i + 1
      ok, err = tcp.write(target, i)
    until closed
    t.eq(ok, false)
    t.eq(err, errno.ETCPSCLOSED)
    b:close()
  end
end)

t.test("tcp.write.released: a released buffer is an empty one", function()
  local a, b = t.pair()
  local gone = buffer.new "gone"
  gone:release()
  t.eq(tcp.write(a, gone), true)
  tcp.write(a, "x")
  t.eq(t.read_all(b, 1), "x")
end)

---- Safety and callback -----------------------------------------------------------------------------------------------------

t.test("tcp.write.safety: suspends until the kernel has taken all of it", function()
  local a, b = t.pair()
  t.eq((tcp.write(a, "small", true)), true)
  t.eq(t.read_all(b, 5), "small")
  local read_when_done
  local read = 0
  local writing = t.async(function()
    local ok = tcp.write(a, huge_buffer(), true)
    read_when_done = read
    return ok
  end)
  t.settle(0.05)
  t.eq(writing.done(), false, "done, with nobody reading")
  while read < HUGE do read = read + #t.good(tcp.read(b, 60)) end
  t.eq(writing.wait()[1], true)
  t.ok(read_when_done > 0, "the write was done before anything was read")
end)

t.test("tcp.write.callback: once, when the kernel has taken all, with result, error 0, socket and data as given", function()
  local a, b = t.pair()
  local calls, record = t.recorder()
  t.returns({ true }, tcp.write(a, "text", record))
  t.eq(#calls, 0)
  t.returns({ true, 0, a, "text" }, unpack(calls:wait(1)))
  t.eq(t.read_all(b, 4), "text")
  t.returns({ true }, tcp.write(a, huge_buffer(), record))
  t.settle(0.05)
  t.eq(#calls, 1)
  drain(b, HUGE)
  t.returns({ true, 0, a, huge_buffer() }, unpack(calls:wait(2)))
end)

t.test("tcp.write.callback-order: write callbacks of one socket fire in the order written", function()
  local a, b = t.pair()
  local calls, record = t.recorder()
  for i = 1, 100 do tcp.write(a, i % 10 == 0 and ("x"):rep(200000) or tostring(i), function() record(i) end) end
  local reader = t.async(function() while #calls < 100 do tcp.read(b, 0.01) end end)
  calls:wait(100)
  reader.wait()
  for i = 1, 100 do t.eq(calls[i][1], i) end
end)

t.test("tcp.write.callback-order-refused: a refused write is told in its turn, too", function()
  local a, b = t.pair()
  tcp.set_rwopt(a, { write_queue_max = 1000, write_head_max = 100 })
  local calls, record = t.recorder()
  local function write(to, data)
    local n = #calls.wrote + 1
    calls.wrote[n] = true
    t.returns({ true }, tcp.write(to, data, function(ok, err) record(n, ok, err) end))
  end
  calls.wrote = {}
  write(a, huge_buffer())
  t.settle(0.05) -- now the kernel has taken what it takes
  write(a, "the queue is full")
  tcp.set_rwopt(a, { write_head_bytes = 2, write_queue_max = 2 * HUGE })
  write(tcp.fd(a), ("long"):rep(30))
  tcp.set_rwopt(a, { write_head_bytes = 0 })
  write(tcp.fd(a), "by number")
  write(a, "not by number")
  t.settle(0.05)
  t.eq(#calls, 0)
  drain(b, HUGE + 22)
  calls:wait(5)
  for i, err in ipairs { 0, errno.EWQUEUEFULL, errno.ETCPWRITELONG, 0, 0 } do t.same(calls[i], { n = 3, i, err == 0, err }) end
end)

t.test("tcp.write.callback-order-closed: so are those that a close ends and those that come after it", function()
  local a, b = t.pair()
  local calls, record = t.recorder()
  local fd = tcp.fd(a)
  tcp.write(a, huge_buffer(), function(...) record(1, ...) end)
  t.settle(0.05)
  tcp.write(fd, "by number", function(...) record(2, ...) end)
  tcp.write(a, "not by number", function(...) record(3, ...) end)
  tcp.close(a)
  tcp.write(fd, "closed", function(...) record(4, ...) end)
  tcp.write(a, "closed", function(...) record(5, ...) end)
  calls:wait(5)
  for i = 1, 5 do t.same({ unpack(calls[i], 1, 3) }, { i, false, errno.ETCPSCLOSED }) end
  t.eq(#t.read_all(b), HUGE + 22)
end)

t.test("tcp.write.callback-may-write: a write callback may write on", function()
  local a, b = t.pair()
  local n = 0
  local function next_one(ok, err, s)
    n = n + 1
    if n < 50 then tcp.write(s, "x", next_one) end
  end
  tcp.write(a, "x", next_one)
  t.eq(t.read_all(b, 50), ("x"):rep(50))
  t.await(function() return n == 50 end)
end)

---- The write queue ---------------------------------------------------------------------------------------------------------

t.test("tcp.write.queue-full: refused with EWQUEUEFULL when the queue is full before it, whatever its form", function()
  local a, b = t.pair()
  tcp.set_rwopt(a, { write_queue_max = 1000 })
  t.eq(tcp.write(a, huge_buffer()), true) -- the queue is empty before it
  t.settle(0.05) -- now the kernel has taken what it takes
  t.fails("EWQUEUEFULL", tcp.write(a, "more"))
  t.fails("EWQUEUEFULL", tcp.write(a, "more", true))
  local calls, record = t.recorder()
  t.returns({ true }, tcp.write(a, "more", record))
  t.returns({ false, errno.EWQUEUEFULL, a, "more" }, unpack(calls:wait()))
  drain(b, HUGE)
  t.await(function() return tcp.write(a, "again") == true end, "room in the drained queue")
  t.eq(t.read_all(b, 5), "again") -- and nothing of what was refused came between
end)

t.test("tcp.write.queue-not-full: below the maximum nothing is refused", function()
  local a, b = t.pair()
  tcp.set_rwopt(a, { write_queue_max = 2 * HUGE })
  for _ = 1, 2 do t.eq(tcp.write(a, huge_buffer()), true) end
  t.settle()
  t.eq(tcp.write(a, "x"), true) -- the kernel has some of the first two
  drain(b, 2 * HUGE + 1)
end)

---- fd and shared writing ---------------------------------------------------------------------------------------------------

t.test("tcp.fd.number: a number that names the socket, never reused for another one", function()
  local seen, numbers = {}, 0
  for _ = 1, 50 do
    local a, b = t.pair()
    for _, s in ipairs { a, b } do
      local fd = tcp.fd(s)
      t.eq(type(fd), "number")
      t.eq(s:fd(), fd)
      t.eq(seen[fd], nil)
      seen[fd] = true
      tcp.close(s)
    end
  end
end)

t.test("tcp.fd.owner-writes: the owner may write by the fd, shared or not", function()
  local a, b = t.pair()
  t.eq(tcp.write(tcp.fd(a), "by number"), true)
  t.eq(t.read_all(b, 9), "by number")
  local calls, record = t.recorder()
  local fd = tcp.fd(a)
  t.returns({ true }, tcp.write(fd, "x", record))
  t.returns({ true, 0, fd, "x" }, unpack(calls:wait()))
end)

t.test("tcp.fd_src: the owner's handle, from any context; nil for a stale fd", function()
  local a = t.pair()
  local fd = tcp.fd(a)
  t.eq(tcp.fd_src(fd), context.self)
  local h = t.spawn("context.send(context.parent, tcp.fd_src((...)))", fd)
  t.eq(t.good(context.recv(h, 20)), context.self)
  tcp.close(a)
  t.eq(tcp.fd_src(fd), nil)
end)

-- Writes its second argument to the fd given and reports the two results.
local WRITER = [[
  local fd, data, safety = ...
  context.send(context.parent, { tcp.write(fd, data, safety) })
]]
local function write_elsewhere(...) return unpack((t.good(context.recv(t.spawn(WRITER, ...), 20)))) end

t.test("tcp.wshared.not: writing to the fd of a socket that is not write-shared is ETCPNOWSHARED", function()
  local a, b = t.pair()
  t.fails("ETCPNOWSHARED", write_elsewhere(tcp.fd(a), "x"))
  tcp.write(a, "own")
  t.eq(t.read_all(b, 3), "own")
end)

t.test("tcp.wshared.write: after set_wshared any context may write, with the socket's framing, in every form", function()
  local a, b = t.pair()
  tcp.set_rwopt(a, { write_head_bytes = 2, write_head_max = 100 })
  tcp.set_rwopt(b, { read_head_bytes = 2 })
  t.returns({ true }, tcp.set_wshared(a, true))
  local fd = tcp.fd(a)
  t.returns({ true }, write_elsewhere(fd, "text"))
  t.returns({ true }, write_elsewhere(fd, buffer.new "buffer"))
  t.eq((write_elsewhere(fd, "safe", true)), true)
  t.fails("ETCPWRITELONG", write_elsewhere(fd, ("x"):rep(101)))
  for _, want in ipairs { "text", "buffer", "safe" } do t.eq(t.good(tcp.read(b, 20)):tostring(), want) end
end)

t.test("tcp.wshared.options: then write options can no longer change (raises); read options can", function()
  local a = t.pair()
  tcp.set_rwopt(a, { write_head_bytes = 2 })
  tcp.set_wshared(a, true)
  t.raises("", tcp.set_rwopt, a, { write_head_bytes = 4 })
  t.raises("", tcp.set_rwopt, a, { read_head_bytes = 4, write_head_endian = "B" })
  t.eq(tcp.get_rwopt(a).write_head_bytes, 2)
  t.eq(tcp.get_rwopt(a).read_head_bytes, 0)
  t.returns({ true }, tcp.set_rwopt(a, { read_head_bytes = 4 }))
end)

t.test("tcp.wshared.many: frames of many contexts and the owner arrive whole, and in order per writer", function()
  local a, b = t.pair()
  local n, writers = t.scale(300), 6
  tcp.set_rwopt(a, { write_head_bytes = 2 })
  tcp.set_rwopt(b, { read_head_bytes = 2 })
  tcp.set_wshared(a, true)
  local source = [[
    local fd, me, n = ...
    for i = 1, n do
      local text = ("%d:%d:"):format(me, i)
      assert(tcp.write(fd, text .. ("x"):rep(i % 10 == 0 and 5000 or i % 30)))
      if i % 50 == 0 then timer.sleep(0) end
    end
  ]]
  for i = 1, writers do t.spawn(source, tcp.fd(a), i, n) end
  for i = 1, n do
    tcp.write(a, "0:" .. i .. ":")
    if i % 50 == 0 then timer.sleep(0) end
  end
  local last = {}
  for _ = 1, (writers + 1) * n do
    local me, i, rest = t.good(tcp.read(b, 60)):tostring():match "^(%d+):(%d+):(x*)$"
    t.eq(tonumber(i), (last[me] or 0) + 1)
    last[me] = tonumber(i)
  end
end)

t.test("tcp.wshared.queue: the write queue's maximum binds all writers together", function()
  local a, b = t.pair()
  tcp.set_rwopt(a, { write_queue_max = 1000 })
  tcp.set_wshared(a, true)
  tcp.write(a, huge_buffer())
  t.settle(0.05)
  t.fails("EWQUEUEFULL", write_elsewhere(tcp.fd(a), "more"))
  drain(b, HUGE)
end)

t.test("tcp.wshared.stale: writing to the fd of a closed socket is ETCPSCLOSED, from anywhere", function()
  local a, b = t.pair()
  tcp.set_wshared(a, true)
  local fd = tcp.fd(a)
  tcp.close(a)
  t.fails("ETCPSCLOSED", tcp.write(fd, "x"))
  t.fails("ETCPSCLOSED", tcp.write(fd, "x", true))
  t.fails("ETCPSCLOSED", write_elsewhere(fd, "x"))
  local calls, record = t.recorder()
  t.returns({ true }, tcp.write(fd, "x", record))
  t.returns({ false, errno.ETCPSCLOSED, fd, "x" }, unpack(calls:wait()))
end)

t.test("tcp.wshared.close-race: writers of other contexts race with the close; each hears of it, frames stay whole", function()
  for round = 1, t.scale(20) do
    local a, b = t.pair()
    tcp.set_rwopt(a, { write_head_bytes = 2, write_queue_max = 100000 })
    tcp.set_rwopt(b, { read_head_bytes = 2 })
    tcp.set_wshared(a, true)
    local writers = {}
    for i = 1, 3 do
      writers[i] = t.spawn([[
        local fd, n = ..., 0
        while true do
          local ok, err = tcp.write(fd, ("frame"):rep(100))
          if err == context.errno.ETCPSCLOSED then break end
          assert(ok or err == context.errno.EWQUEUEFULL, err)
          n = n + 1
          if not ok or n % 20 == 0 then timer.sleep(0) end
        end
      ]], tcp.fd(a))
    end
    local frames = 0
    local reading = t.async(function()
      while true do
        local ok, data = tcp.read(b, 20)
        if not ok then return context.errname(data) end
        t.eq(#data, 500)
        frames = frames + 1
      end
    end)
    t.await(function() return frames > round end)
    tcp.close(a)
    for i = 1, 3 do t.returns({ true, 0, "exit" }, context.wait(writers[i], 20)) end
    t.eq(reading.wait()[1], "EEOF")
  end
end)

t.test("tcp.wshared.owner-ends: the fd is stale once its owner has ended", function()
  local h = t.spawn [[
    local _, l = tcp.listen("127.0.0.1", 0)
    local _, s = tcp.connect("127.0.0.1", tcp.local_port(l))
    tcp.set_wshared(s, true)
    local _, peer = tcp.accept(l)
    tcp.read(peer, function() end)
    context.send(context.parent, tcp.fd(s))
    context.recv(0)
    tcp.read(peer, nil)
  ]]
  local fd = t.good(context.recv(h, 20))
  t.eq(tcp.fd_src(fd), h)
  t.eq(tcp.write(fd, "x"), true)
  context.send(h, "end")
  t.good(context.wait(h, 20))
  t.fails("ETCPSCLOSED", tcp.write(fd, "x"))
  t.eq(tcp.fd_src(fd), nil)
end)

t.test("tcp.nodelay: true or false", function()
  local a, b = t.pair()
  t.returns({ true }, tcp.set_nodelay(a, true))
  t.returns({ true }, a:set_nodelay(false))
  tcp.write(a, "x")
  t.eq(t.read_all(b, 1), "x")
end)

t.done()

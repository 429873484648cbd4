-- tcp.read without framing: what has arrived; time-outs; the end of a stream; who reads.
local t = require "t"
local errno = context.errno

t.test("tcp.read.buffer: gives a buffer with what has arrived, at least one byte", function()
  local a, b = t.pair()
  tcp.write(b, "hello")
  local got = t.good(tcp.read(a))
  t.eq(buffer.valid(got), true)
  t.ok(#got >= 1 and ("hello"):sub(1, #got) == got:tostring(), got:tostring())
  local rest = 5 - #got
  t.eq(got:tostring() .. (rest > 0 and t.read_all(a, rest) or ""), "hello")
end)

t.test("tcp.read.bytes: every byte value, in the order written", function()
  local a, b = t.pair()
  local all = {}
  for i = 0, 255 do all[#all + 1] = string.char(i) end
  all = table.concat(all):rep(t.scale(2000))
  tcp.write(b, all)
  t.ok(t.read_all(a, #all) == all, "the bytes differ")
end)

t.test("tcp.read.both-ways: both directions at once do not disturb each other", function()
  local a, b = t.pair()
  local size = t.scale(3000000)
  local one, two = ("1"):rep(size), ("2"):rep(size)
  tcp.write(a, one)
  tcp.write(b, two)
  local back = t.async(t.read_all, a, size)
  t.ok(t.read_all(b, size) == one)
  t.ok(back.wait()[1] == two)
end)

t.test("tcp.read.timeout: ETIMEOUT, never early; 0 and less only look", function()
  local a, b = t.pair()
  local start = timer.now()
  t.fails("ETIMEOUT", tcp.read(a, 0.02))
  t.not_early(start, 0.02)
  t.fails("ETIMEOUT", a:read(0))
  t.fails("ETIMEOUT", a:read(-1))
  tcp.write(b, "x")
  t.eq(t.good(a:read(20)):tostring(), "x")
end)

t.test("tcp.read.timeout-loses-nothing: what came before the time-out is there for the next", function()
  local a, b = t.pair()
  tcp.set_rwopt(a, { read_head_bytes = 2 })
  local pieces = { "\10", "\0", "hel", "lo fr", "ie\3\0y", "es" } -- two frames, in pieces that end nowhere in particular
  for i, piece in ipairs(pieces) do
    tcp.write(b, piece)
    t.settle(0.005)
    if i < 5 then t.fails("ETIMEOUT", tcp.read(a, 0.002)) end
  end
  t.eq(t.good(tcp.read(a, 20)):tostring(), "hello frie")
  t.eq(t.good(tcp.read(a, 20)):tostring(), "yes")
end)

t.test("tcp.read.eof-after-data: data that arrived before the end is delivered first, then EEOF for good", function()
  local a, b = t.pair()
  tcp.write(b, "last words")
  tcp.close(b)
  t.settle()
  t.eq(t.read_all(a, 10), "last words")
  for _ = 1, 3 do t.fails("EEOF", tcp.read(a)) end
  t.fails("EEOF", tcp.read(a, 0))
  local calls, record = t.recorder()
  t.returns({ true }, tcp.read(a, record))
  t.returns({ false, errno.EEOF, a }, unpack(calls:wait()))
end)

t.test("tcp.read.eof-waiting: a waiting read ends with EEOF", function()
  local a, b = t.pair()
  local waiting = { t.async(tcp.read, a), t.async(tcp.read, a, 20) }
  t.settle()
  tcp.close(b)
  for i = 1, 2 do t.fails("EEOF", unpack(waiting[i].wait())) end
end)

t.test("tcp.read.eof-in-frame: a stream that ends inside a frame ends with EEOF, and the piece is no frame", function()
  local a, b = t.pair()
  tcp.set_rwopt(a, { read_head_bytes = 2, read_head_endian = "B" })
  tcp.write(b, "\0\3abc\0\5de")
  tcp.close(b)
  t.eq(t.good(tcp.read(a, 20)):tostring(), "abc")
  t.fails("EEOF", tcp.read(a, 20))
end)

t.test("tcp.read.callback: every piece, with result, buffer, socket", function()
  local a, b = t.pair()
  local calls, record = t.recorder()
  t.returns({ true }, tcp.read(a, record))
  for i = 1, 5 do
    tcp.write(b, tostring(i))
    t.returns({ true, calls:wait(i)[2], a }, unpack(calls[i]))
    t.eq(calls[i][2]:tostring(), tostring(i))
  end
  tcp.read(a, nil)
end)

t.test("tcp.read.callback-removed: then the bytes wait for the next reader", function()
  local a, b = t.pair()
  local calls, record = t.recorder()
  tcp.read(a, record)
  tcp.write(b, "1")
  calls:wait(1)
  t.returns({ true }, tcp.read(a, nil))
  tcp.write(b, "two")
  t.settle()
  t.eq(#calls, 1)
  t.eq(t.read_all(a, 3), "two")
end)

t.test("tcp.read.callback-replaced: another function takes its place for what comes next", function()
  local a, b = t.pair()
  local first, record_first = t.recorder()
  local second, record_second = t.recorder()
  tcp.read(a, record_first)
  tcp.write(b, "1")
  first:wait(1)
  t.returns({ true }, tcp.read(a, record_second))
  tcp.write(b, "2")
  t.eq(second:wait(1)[2]:tostring(), "2")
  t.eq(#first, 1)
  tcp.read(a, nil)
end)

t.test("tcp.read.callback-waiting: bytes that wait already reach a callback, after the call has returned", function()
  local a, b = t.pair()
  tcp.write(b, "e")
  t.settle()
  local calls, record = t.recorder()
  tcp.read(a, record)
  t.eq(#calls, 0)
  t.eq(calls:wait(1)[2]:tostring(), "e")
  tcp.read(a, nil)
end)

t.test("tcp.read.order: coroutines are served first come, first served, before any callback", function()
  local a, b = t.pair()
  tcp.set_rwopt(a, { read_head_bytes = 1 })
  tcp.set_rwopt(b, { write_head_bytes = 1 })
  local calls, record = t.recorder()
  tcp.read(a, record)
  local waiting = {}
  for i = 1, 4 do
    waiting[i] = t.async(tcp.read, a)
    t.settle(0.003)
  end
  for i = 1, 5 do tcp.write(b, tostring(i)) end
  for i = 1, 4 do t.eq(waiting[i].wait()[2]:tostring(), tostring(i)) end
  t.eq(calls:wait(1)[2]:tostring(), "5")
  tcp.read(a, nil)
end)

t.test("tcp.read.given-up: a reader that timed out takes nothing from the others", function()
  local a, b = t.pair()
  local early, patient = t.async(tcp.read, a, 0.003), t.async(tcp.read, a, 20)
  t.fails("ETIMEOUT", unpack(early.wait()))
  tcp.write(b, "x")
  t.eq(patient.wait()[2]:tostring(), "x")
end)

t.test("tcp.read.callback-blocks: a read callback may block and read from its own socket", function()
  local a, b = t.pair()
  tcp.set_rwopt(a, { read_head_bytes = 1 })
  tcp.set_rwopt(b, { write_head_bytes = 1 })
  local calls, record = t.recorder()
  tcp.read(a, function(ok, command)
    if command:tostring() == "pair" then
      local _, first = tcp.read(a, 20)
      local _, second = tcp.read(a, 20)
      record(first:tostring() .. second:tostring())
    else
      record("single " .. command:tostring())
    end
  end)
  tcp.write(b, "pair")
  t.settle() -- the callback waits in its read by now
  for _, frame in ipairs { "a", "b" } do
    tcp.write(b, frame)
    t.settle()
  end
  tcp.write(b, "c")
  calls:wait(2)
  t.eq(calls[1][1], "ab")
  t.eq(calls[2][1], "single c")
  tcp.read(a, nil)
end)

t.test("tcp.read.finalizers: what finalizers do while a frame becomes a buffer loses none, and takes none apart", function()
  local a, b = t.pair()
  for _, s in ipairs { a, b } do s:set_rwopt { read_head_bytes = 2, write_head_bytes = 2 } end
  local n, got, finalized, ended, closing = t.scale(4000), 0, 0, 0, false
  local hear
  local function litter()
    local u = newproxy(true)
    getmetatable(u).__gc = function()
      finalized = finalized + 1
      if closing then
        a:close()
      else
        a:read(function(...) hear(...) end) -- another callback, perhaps just when the old one is about to be called
      end
    end
  end
  function hear(ok, data)
    if not ok then ended = ended + 1 return end
    for _ = 1, 5 do litter() end
    if closing then return end
    got = got + 1
    t.eq(data:tostring(), got .. ("x"):rep(got % 300))
  end
  local pause = collectgarbage("setpause", 20) -- finalizers run all the time
  t.defer(function() collectgarbage("setpause", pause) end)
  collectgarbage() -- the new pause begins
  a:read(hear)
  for i = 1, n do
    b:write(i .. ("x"):rep(i % 300))
    if i % 100 == 0 then timer.sleep(0) end
  end
  while got < n do t.settle() end
  t.eq(got, n)
  t.ok(finalized > 100, finalized .. " finalizers have run")
  closing = true
  t.eventually(function()
    for _ = 1, 200 do b:write "more" end
    timer.sleep(0.001)
    t.eq(tcp.is_closed(a), true)
  end)
  t.settle()
  t.ok(ended <= 1, "the end is told once at most")
end)

t.test("tcp.read.contexts: streams of several contexts at once stay apart", function()
  local n, rounds = 8, t.scale(200)
  local l, port = t.listen { backlog = 64 }
  tcp.accept(l, function(ok, s)
    tcp.set_rwopt(s, { read_head_bytes = 2, write_head_bytes = 2 })
    tcp.read(s, function(got, data, same)
      if got then tcp.write(same, data) else tcp.close(same) end
    end)
  end)
  local all = {}
  for i = 1, n do
    all[i] = t.spawn([[
      local port, rounds, me = ...
      local ok, s = tcp.connect("127.0.0.1", port, 60)
      assert(ok, s)
      s:set_rwopt { read_head_bytes = 2, write_head_bytes = 2 }
      for i = 1, rounds do
        local text = (me .. "/" .. i .. " "):rep(i % 50 + 1)
        assert(s:write(text))
        local ok, got = s:read(60)
        assert(ok and got:tostring() == text)
      end
      s:close()
    ]], port, rounds, i)
  end
  for i = 1, n do t.returns({ true, 0, "exit" }, context.wait(all[i], 60)) end
  tcp.accept(l, nil)
end)

t.done()

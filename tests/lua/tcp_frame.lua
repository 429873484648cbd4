-- Framing: heads added and stripped by the runtime.
local t = require "t"
local errno = context.errno

-- The head of the contract, made by hand.
local function head(length, bytes, endian)
  local out = {}
  for i = 1, bytes do
    out[i] = string.char(length % 256)
    length = math.floor(length / 256)
  end
  local text = table.concat(out)
  return endian == "B" and text:reverse() or text
end

local combinations = {}
for _, bytes in ipairs { 1, 2, 4 } do
  for _, endian in ipairs { "L", "B" } do combinations[#combinations + 1] = { bytes, endian } end
end

---- Options -----------------------------------------------------------------------------------------------------------------

t.test("tcp.rwopt.defaults: heads of 0 bytes, endian L, maxima what a head can express, up to 16 MiB; queue 64 MiB", function()
  local a = t.pair()
  local o = tcp.get_rwopt(a)
  t.eq(o.read_head_bytes, 0)
  t.eq(o.write_head_bytes, 0)
  t.eq(o.read_head_endian, "L")
  t.eq(o.write_head_endian, "L")
  t.eq(o.write_queue_max, 64 * 1024 * 1024)
  for bytes, max in pairs { [1] = 255, [2] = 65535, [4] = 16 * 1024 * 1024 } do
    local s = t.pair()
    t.returns({ true }, tcp.set_rwopt(s, { read_head_bytes = bytes, write_head_bytes = bytes }))
    o = tcp.get_rwopt(s)
    t.eq(o.read_head_max, max, bytes .. " bytes")
    t.eq(o.write_head_max, max, bytes .. " bytes")
  end
end)

t.test("tcp.rwopt.set: set_rwopt changes only the keys given", function()
  local a = t.pair()
  local want = {
    read_head_bytes = 2, read_head_endian = "B", read_head_max = 1000,
    write_head_bytes = 4, write_head_endian = "B", write_head_max = 2000, write_queue_max = 5000,
  }
  local function check()
    local got = a:get_rwopt()
    for key, value in pairs(want) do t.eq(got[key], value, key) end
  end
  t.returns({ true }, a:set_rwopt(want))
  check()
  t.returns({ true }, a:set_rwopt {})
  check()
  for key, value in pairs { read_head_endian = "L", write_head_max = 7, write_queue_max = 1, read_head_bytes = 4 } do
    want[key] = value
    t.returns({ true }, a:set_rwopt { [key] = value })
    check()
  end
end)

---- Both ends framed, and each against hand-made bytes ----------------------------------------------------------------------

for _, combination in ipairs(combinations) do
  local bytes, endian = unpack(combination)
  local most = bytes == 1 and 255 or 65535

  t.test(("tcp.frame.write-%d%s: the head is the payload's length in so many bytes of that endian"):format(bytes, endian), function()
    local a, b = t.pair()
    tcp.set_rwopt(a, { write_head_bytes = bytes, write_head_endian = endian })
    for _, n in ipairs { 0, 1, 2, 127, 128, 200, 255, 256, 1000, 65535 } do
      if n <= most then
        local payload = ("p"):rep(n)
        t.eq(tcp.write(a, n % 2 == 0 and payload or buffer.new(payload)), true)
        t.ok(t.read_all(b, bytes + n) == head(n, bytes, endian) .. payload, n .. " bytes")
      end
    end
  end)

  t.test(("tcp.frame.read-%d%s: many frames in one segment come out one by one"):format(bytes, endian), function()
    local a, b = t.pair()
    tcp.set_rwopt(a, { read_head_bytes = bytes, read_head_endian = endian })
    local stream, frames = {}, {}
    for i, n in ipairs { 3, 0, 0, 1, 255, 17, 0, most, 2, 100 } do
      frames[i] = string.char(64 + i):rep(n)
      stream[i] = head(n, bytes, endian) .. frames[i]
    end
    tcp.write(b, table.concat(stream))
    for i, want in ipairs(frames) do t.ok(t.good(tcp.read(a, 20)):tostring() == want, "frame " .. i) end
    t.fails("ETIMEOUT", tcp.read(a, 0))
  end)

  t.test(("tcp.frame.dribble-%d%s: frames that arrive byte by byte"):format(bytes, endian), function()
    local a, b = t.pair()
    tcp.set_rwopt(a, { read_head_bytes = bytes, read_head_endian = endian })
    local calls, record = t.recorder()
    tcp.read(a, function(ok, data) record(t.good(ok, data):tostring()) end)
    local stream = head(5, bytes, endian) .. "hello" .. head(0, bytes, endian) .. head(1, bytes, endian) .. "!"
    for i = 1, #stream do
      t.eq(tcp.write(b, stream:sub(i, i), true), true)
      timer.sleep(0.0005)
    end
    calls:wait(3)
    t.same({ calls[1][1], calls[2][1], calls[3][1] }, { "hello", "", "!" })
    tcp.read(a, nil)
  end)
end

t.test("tcp.frame.round-trip: frames of every size, random, both ways", function()
  local a, b = t.pair()
  for _, s in ipairs { a, b } do tcp.set_rwopt(s, { read_head_bytes = 4, write_head_bytes = 4 }) end
  tcp.read(b, function(ok, data, s)
    if ok then tcp.write(s, data) end
  end)
  math.randomseed(7)
  local sent = {}
  for i = 1, t.scale(200) do
    local n = math.random() < 0.1 and math.random(0, 300000) or math.random(0, 300)
    sent[i] = string.char(i % 256):rep(n)
    tcp.write(a, sent[i])
  end
  for i, want in ipairs(sent) do t.ok(t.good(tcp.read(a, 20)):tostring() == want, "frame " .. i) end
  tcp.read(b, nil)
end)

t.test("tcp.frame.asymmetric: the two directions have options of their own", function()
  local a, b = t.pair()
  tcp.set_rwopt(a, { write_head_bytes = 1, read_head_bytes = 4, read_head_endian = "B" })
  tcp.set_rwopt(b, { read_head_bytes = 1, write_head_bytes = 4, write_head_endian = "B" })
  tcp.write(a, "there")
  tcp.write(b, "back")
  t.eq(t.good(tcp.read(b, 20)):tostring(), "there")
  t.eq(t.good(tcp.read(a, 20)):tostring(), "back")
end)

t.test("tcp.frame.zero: zero-length frames are frames", function()
  local a, b = t.pair()
  for _, s in ipairs { a, b } do tcp.set_rwopt(s, { read_head_bytes = 2, write_head_bytes = 2 }) end
  for _ = 1, 3 do t.eq(tcp.write(a, ""), true) end
  tcp.write(a, buffer.new())
  for _ = 1, 4 do
    local got = t.good(tcp.read(b, 20))
    t.eq(#got, 0)
    t.eq(got:valid(), true)
  end
  t.fails("ETIMEOUT", tcp.read(b, 0))
end)

---- Maxima ------------------------------------------------------------------------------------------------------------------

t.test("tcp.frame.write-long: beyond what the head can express is ETCPWRITELONG; nothing of it is sent", function()
  for bytes, most in pairs { [1] = 255, [2] = 65535, [4] = 16 * 1024 * 1024 } do
    local a, b = t.pair()
    for _, s in ipairs { a, b } do tcp.set_rwopt(s, { read_head_bytes = bytes, write_head_bytes = bytes }) end
    local long = ("x"):rep(most + 1)
    t.fails("ETCPWRITELONG", tcp.write(a, long))
    t.fails("ETCPWRITELONG", tcp.write(a, buffer.new(long)))
    t.fails("ETCPWRITELONG", tcp.write(a, long, true))
    local calls, record = t.recorder()
    t.returns({ true }, tcp.write(a, long, record))
    t.returns({ false, errno.ETCPWRITELONG, a, long }, unpack(calls:wait()))
    t.eq(tcp.write(a, long:sub(2)), true)
    t.eq(tcp.write(a, "next"), true)
    t.eq(#t.good(tcp.read(b, 20)), most)
    t.eq(t.good(tcp.read(b, 20)):tostring(), "next")
  end
end)

t.test("tcp.frame.write-max: longer than write_head_max is ETCPWRITELONG; it binds framed writes only", function()
  local a, b = t.pair()
  tcp.set_rwopt(a, { write_head_bytes = 2, write_head_max = 10 })
  t.fails("ETCPWRITELONG", tcp.write(a, "12345678901"))
  t.eq(tcp.write(a, "1234567890"), true)
  t.eq(t.read_all(b, 12), "\10\0001234567890")
  tcp.set_rwopt(a, { write_head_bytes = 0 })
  t.eq(tcp.write(a, "12345678901"), true)
  t.eq(t.read_all(b, 11), "12345678901")
end)

t.test("tcp.frame.read-max: a frame as long as read_head_max passes, a longer one ends reading with ETCPREADOVERFLOW", function()
  local a, b = t.pair()
  tcp.set_rwopt(a, { read_head_bytes = 2, read_head_max = 10 })
  tcp.write(b, head(10, 2, "L") .. "1234567890" .. head(11, 2, "L") .. "12345678901" .. head(1, 2, "L") .. "x")
  t.eq(t.good(tcp.read(a, 20)):tostring(), "1234567890")
  t.fails("ETCPREADOVERFLOW", tcp.read(a, 20))
  t.eq((tcp.read(a, 20)), false) -- nothing more is read
  -- The socket still writes until it is closed.
  t.eq(tcp.is_closed(a), false)
  t.eq(tcp.write(a, "still here"), true)
  t.eq(t.read_all(b, 10), "still here")
end)

t.test("tcp.frame.read-overflow-callback: a callback receives it once", function()
  local a, b = t.pair()
  local calls, record = t.recorder()
  tcp.set_rwopt(a, { read_head_bytes = 1, read_head_max = 3 })
  tcp.read(a, record)
  tcp.write(b, "\3abc\4abcd\1x")
  calls:wait(2)
  t.eq(calls[1][2]:tostring(), "abc")
  t.returns({ false, errno.ETCPREADOVERFLOW, a }, unpack(calls[2]))
  tcp.write(b, "\1x")
  t.settle()
  t.eq(#calls, 2)
end)

t.test("tcp.frame.read-overflow-memory: before any memory is set aside for the frame", function()
  local a, b = t.pair()
  tcp.set_rwopt(a, { read_head_bytes = 4, read_head_max = 1000000 })
  local before = context.stats().c_bytes
  tcp.write(b, "\255\255\255\255")
  t.fails("ETCPREADOVERFLOW", tcp.read(a, 20))
  t.ok(context.stats().c_bytes < before + 1000000)
end)

t.test("tcp.frame.default-max: without a maximum of one's own a 4-byte head may announce 16 MiB and no more", function()
  local a, b = t.pair()
  tcp.set_rwopt(a, { read_head_bytes = 4 })
  tcp.write(b, head(16 * 1024 * 1024 + 1, 4, "L"))
  t.fails("ETCPREADOVERFLOW", tcp.read(a, 20))
end)

---- Options that change between reads ---------------------------------------------------------------------------------------

t.test("tcp.frame.change-head: a change holds for all bytes not yet delivered", function()
  local a, b = t.pair()
  tcp.set_rwopt(a, { read_head_bytes = 1 })
  tcp.write(b, "\3one" .. head(3, 2, "B") .. "two" .. head(5, 4, "L") .. "three" .. "raw")
  t.eq(t.good(tcp.read(a, 20)):tostring(), "one")
  tcp.set_rwopt(a, { read_head_bytes = 2, read_head_endian = "B" })
  t.eq(t.good(tcp.read(a, 20)):tostring(), "two")
  tcp.set_rwopt(a, { read_head_bytes = 4, read_head_endian = "L" })
  t.eq(t.good(tcp.read(a, 20)):tostring(), "three")
  tcp.set_rwopt(a, { read_head_bytes = 0 })
  t.eq(t.read_all(a, 3), "raw")
end)

t.test("tcp.frame.change-in-callback: also when the callback for one frame makes it, for the rest of the segment", function()
  local a, b = t.pair()
  local calls, record = t.recorder()
  tcp.set_rwopt(a, { read_head_bytes = 1 })
  tcp.read(a, function(ok, data, s)
    if data:tostring() == "switch" then tcp.set_rwopt(s, { read_head_bytes = 2, read_head_endian = "B" }) end
    record(data:tostring())
  end)
  tcp.write(b, "\5hello\6switch\0\3two\0\0\0\4last")
  calls:wait(5)
  local got = {}
  for i = 1, 5 do got[i] = calls[i][1] end
  t.same(got, { "hello", "switch", "two", "", "last" })
  tcp.read(a, nil)
end)

t.test("tcp.frame.change-incomplete: bytes of a frame that was not complete are raw bytes again", function()
  local a, b = t.pair()
  tcp.set_rwopt(a, { read_head_bytes = 4, read_head_endian = "B" })
  tcp.write(b, "\0\0\0\9half")
  t.settle()
  t.fails("ETIMEOUT", tcp.read(a, 0.002))
  tcp.set_rwopt(a, { read_head_bytes = 0 })
  t.eq(t.read_all(a, 8), "\0\0\0\9half")
end)

t.test("tcp.frame.change-completes: a change may turn waiting bytes into a frame for a reader that waits", function()
  local a, b = t.pair()
  tcp.set_rwopt(a, { read_head_bytes = 4, read_head_endian = "B" })
  tcp.write(b, "\0\0\2xy") -- the head of a frame of 632 bytes, and one of them
  local waiting = t.async(tcp.read, a, 20)
  t.settle()
  t.eq(waiting.done(), false)
  tcp.set_rwopt(a, { read_head_bytes = 1 })
  t.eq(waiting.wait()[2]:tostring(), "")
  t.eq(t.good(tcp.read(a, 20)):tostring(), "")
  t.eq(t.good(tcp.read(a, 20)):tostring(), "xy")
end)

t.test("tcp.frame.change-unframed: a line first, then frames, on a stream that waits in between", function()
  local a, b = t.pair()
  tcp.write(b, "LOGIN me\n")
  t.eq(t.read_all(a, 9), "LOGIN me\n")
  tcp.set_rwopt(a, { read_head_bytes = 2, write_head_bytes = 2 })
  tcp.set_rwopt(b, { read_head_bytes = 2, write_head_bytes = 2 })
  tcp.write(a, "welcome")
  t.eq(t.good(tcp.read(b, 20)):tostring(), "welcome")
  tcp.write(b, "first frame")
  t.eq(t.good(tcp.read(a, 20)):tostring(), "first frame")
end)

t.test("tcp.frame.change-write: write options hold from the next write on, for what was queued before they do not", function()
  local a, b = t.pair()
  tcp.write(a, "raw")
  tcp.set_rwopt(a, { write_head_bytes = 1 })
  tcp.write(a, "one")
  tcp.set_rwopt(a, { write_head_bytes = 2, write_head_endian = "B" })
  tcp.write(a, "two")
  tcp.set_rwopt(a, { write_head_bytes = 0 })
  tcp.write(a, "end")
  t.eq(t.read_all(b, 15), "raw\3one\0\3twoend")
end)

t.done()

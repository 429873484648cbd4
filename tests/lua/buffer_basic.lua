-- buffer: every function, as function and as method; sharing never shows.
local t = require "t"

local ALL = {}
for i = 0, 255 do ALL[#ALL + 1] = string.char(i) end
ALL = table.concat(ALL)

t.test("buffer.new: empty, from a string, with a capacity, with both, from a buffer", function()
  t.eq(buffer.new():tostring(), "")
  t.eq(buffer.new("abc"):tostring(), "abc")
  t.eq(buffer.new(100):length(), 0)
  t.eq(buffer.new(100, "abc"):tostring(), "abc")
  t.eq(buffer.new(2, "longer"):tostring(), "longer")
  t.eq(buffer.new(0):tostring(), "")
  t.eq(buffer.new(buffer.new "abc"):tostring(), "abc")
  t.eq(buffer.new("5"):tostring(), "5") -- a string, not a capacity
  t.eq(buffer.new(ALL):tostring(), ALL)
end)

t.test("buffer.methods: every function is a method as well", function()
  local b = buffer.new()
  for name, f in pairs(buffer) do
    if name ~= "new" and type(f) == "function" then t.eq(b[name], f, name) end
  end
  for _, name in ipairs { "append", "split", "clear", "length", "unfill", "find", "tostring", "valid", "release" } do
    t.eq(type(buffer[name]), "function", name)
  end
end)

t.test("buffer.length: the number of bytes, also as #", function()
  local b = buffer.new "12345"
  t.eq(b:length(), 5)
  t.eq(#b, 5)
  b:append("678")
  t.eq(#b, 8)
  t.eq(buffer.length(buffer.new "\0\0"), 2)
end)

t.test("buffer.tostring: the bytes, also by tostring()", function()
  local b = buffer.new(ALL)
  t.eq(b:tostring(), ALL)
  t.eq(tostring(b), ALL)
  t.eq(buffer.tostring(b), ALL)
  t.eq(#b, 256) -- and they stay
end)

t.test("buffer.append: strings and buffers, true", function()
  local b = buffer.new()
  t.returns({ true }, b:append "ab")
  t.returns({ true }, buffer.append(b, buffer.new "cd"))
  t.returns({ true }, b:append "")
  t.returns({ true }, b:append "\0\255")
  t.eq(b:tostring(), "abcd\0\255")
end)

t.test("buffer.append.itself: a buffer appended to itself doubles", function()
  local b = buffer.new "abc"
  b:append(b)
  t.eq(b:tostring(), "abcabc")
  for _ = 1, 12 do b:append(b) end
  t.eq(b:tostring(), ("abcabc"):rep(4096))
end)

t.test("buffer.append.many: many small appends and a few large ones", function()
  local b, parts = buffer.new(), {}
  for i = 1, 20000 do
    local piece = i % 1000 == 0 and ("x"):rep(i) or tostring(i)
    parts[i] = piece
    b:append(piece)
  end
  t.ok(b:tostring() == table.concat(parts), "the bytes differ")
end)

t.test("buffer.split: the first bytes leave the buffer, by default all", function()
  local b = buffer.new "abcdefgh"
  local first = b:split(3)
  t.eq(first:tostring(), "abc")
  t.eq(b:tostring(), "defgh")
  t.eq(b:split(0):tostring(), "")
  t.eq(b:tostring(), "defgh")
  local second = buffer.split(b, 1)
  t.eq(second:tostring(), "d")
  local rest = b:split()
  t.eq(rest:tostring(), "efgh")
  t.eq(#b, 0)
  t.ok(b:valid())
  t.eq(b:split():tostring(), "")
  b:append "again"
  t.eq(b:tostring(), "again")
  t.eq(b:split(5):tostring(), "again")
end)

t.test("buffer.split.independent: what was split off and what stayed do not touch each other", function()
  local b = buffer.new "abcdef"
  local first = b:split(3)
  first:append "XYZ"
  t.eq(b:tostring(), "def")
  b:append "ghi"
  t.eq(first:tostring(), "abcXYZ")
  b:clear()
  t.eq(first:tostring(), "abcXYZ")
  local large = buffer.new(("0123456789"):rep(10000))
  local pieces = {}
  while #large > 0 do pieces[#pieces + 1] = large:split(math.min(777, #large)) end
  for i = 1, #pieces, 2 do pieces[i]:append "!" end
  for i = 2, #pieces, 2 do t.eq(pieces[i]:tostring(), ("0123456789"):rep(10000):sub((i - 1) * 777 + 1, i * 777)) end
end)

t.test("buffer.new.independent: a buffer made from another shares its bytes, not its changes", function()
  for _, change in ipairs {
    function(b) b:append "x" end, function(b) b:clear() end, function(b) b:split(2) end, function(b) b:release() end,
  } do
    for _, size in ipairs { 5, 100, 10000 } do
      local content = ("a"):rep(size)
      local one = buffer.new(content)
      local two, three = buffer.new(one), buffer.new(one)
      change(two)
      t.eq(one:tostring(), content)
      t.eq(three:tostring(), content)
      change(one)
      t.eq(three:tostring(), content)
      three:append "end"
      t.eq(three:tostring(), content .. "end")
    end
  end
end)

t.test("buffer.clear: empties, and the buffer serves on", function()
  local b = buffer.new "abc"
  b:clear()
  t.eq(#b, 0)
  t.eq(b:tostring(), "")
  t.eq(b:valid(), true)
  b:append "de"
  t.eq(b:tostring(), "de")
end)

t.test("buffer.unfill: the free capacity", function()
  t.ok(buffer.new(100):unfill() >= 100)
  local b = buffer.new(100, "abc")
  t.ok(b:unfill() >= 97)
  local before = b:unfill()
  b:append "0123456789"
  t.eq(b:unfill(), before - 10)
  t.ok(buffer.new():unfill() >= 0)
end)

t.test("buffer.find: plain, from 1, from init on, nil if it is not there", function()
  local b = buffer.new "one two one %d\0.*end"
  t.returns({ 1 }, b:find "one")
  t.returns({ 9 }, b:find("one", 2))
  t.returns({ 9 }, b:find("one", 9))
  t.returns({ nil, n = 1 }, b:find("one", 10))
  t.returns({ 13 }, b:find "%d")
  t.returns({ 15 }, b:find "\0")
  t.returns({ 16 }, b:find ".*")
  t.returns({ nil, n = 1 }, b:find "two two")
  t.returns({ 1 }, buffer.find(b, "o", 1))
  t.returns({ nil, n = 1 }, b:find("one", 1000))
  t.returns({ nil, n = 1 }, buffer.new():find "x")
  t.returns({ #"one two one %d\0.*end" }, b:find("d", 17))
end)

t.test("buffer.find.everywhere: agrees with string.find on random bytes", function()
  math.randomseed(1)
  for _ = 1, 300 do
    local parts = {}
    for i = 1, math.random(0, 60) do parts[i] = string.char(math.random(97, 99)) end
    local text = table.concat(parts)
    local start = math.random(1, 60)
    local needle = text:sub(start, start + math.random(0, 4))
    if #needle > 0 then
      local init = math.random(1, 60)
      t.eq(buffer.new(text):find(needle, init), (text:find(needle, init, true)), text .. " " .. needle .. " " .. init)
    end
  end
end)

t.test("buffer.find.after-split: positions count from what is left", function()
  local b = buffer.new "line one\nline two\n"
  local lines = {}
  while true do
    local at = b:find "\n"
    if not at then break end
    lines[#lines + 1] = b:split(at):tostring()
  end
  t.same(lines, { "line one\n", "line two\n" })
end)

t.test("buffer.valid: true until released", function()
  local b = buffer.new()
  t.eq(b:valid(), true)
  b:release()
  t.eq(b:valid(), false)
end)

t.test("buffer.release: a released buffer is harmless and answers as an empty, invalid one", function()
  local b = buffer.new "abc"
  b:release()
  t.eq(b:length(), 0)
  t.eq(#b, 0)
  t.eq(b:tostring(), "")
  t.eq(tostring(b), "")
  t.eq(b:find "a", nil)
  b:release()
  b:clear()
  b:append "x"
  b:unfill()
  t.eq(buffer.length(b:split()), 0)
  t.eq(buffer.new(b):tostring(), "")
  t.eq(b:valid(), false)
end)

t.test("buffer.release.frees: the bytes are given up at once", function()
  collectgarbage()
  local before = context.stats().c_bytes
  local b = buffer.new(("x"):rep(2000000))
  t.ok(context.stats().c_bytes >= before + 2000000)
  b:release()
  t.ok(context.stats().c_bytes < before + 1000000)
end)

t.test("buffer.collected: a buffer nobody holds gives its bytes up when it is collected", function()
  collectgarbage()
  local before = context.stats().c_bytes
  for _ = 1, 20 do buffer.new(("x"):rep(1000000)) end
  collectgarbage()
  collectgarbage()
  t.ok(context.stats().c_bytes < before + 2000000, "20 MB of garbage buffers: " .. context.stats().c_bytes - before)
end)

t.test("buffer.sent-unchanged: bytes handed to tcp.write are those of that moment", function()
  local a, c = t.pair()
  for _, size in ipairs { 10, 5000 } do
    local content = ("s"):rep(size)
    local b = buffer.new(content)
    tcp.write(a, b)
    b:append "not sent"
    tcp.write(a, b)
    b:clear()
    b:release()
    t.eq(t.read_all(c, 2 * size + 8), content .. content .. "not sent")
  end
end)

t.test("buffer.tostring.finalizers: a finalizer that changes a buffer while something is made of it does no harm", function()
  for _, size in ipairs { 40, 900, 5000 } do
    local b, finalized = nil, 0
    local function litter()
      local u = newproxy(true)
      getmetatable(u).__gc = function()
        finalized = finalized + 1
        if finalized % 2 == 0 then b:release() else b:append(("y"):rep(size)) end
      end
    end
    local function all_y(s) t.eq(tostring(s):gsub("y", ""), "") end
    for i = 1, t.scale(3000) do
      b = buffer.new(("y"):rep(size))
      litter()
      all_y(b:tostring())
      all_y(buffer.new(b))
      all_y(b:split(size - 1))
      all_y("" .. b)
    end
    t.ok(finalized > 10, finalized .. " finalizers have run")
  end
end)

t.test("buffer.broadcast: one buffer to many sockets costs its bytes once", function()
  local n, size = 20, 3000000
  local pairs_, b = {}, buffer.new(("b"):rep(size))
  for i = 1, n do pairs_[i] = { t.pair() } end
  local before = context.stats().c_bytes
  for i = 1, n do t.eq(tcp.write(pairs_[i][1], b), true) end
  timer.sleep(0.01) -- what the kernels take is taken; the rest waits in the queues
  local grown = context.stats().c_bytes - before
  t.ok(grown < n * size / 4, n .. " queued writes of one buffer cost " .. grown .. " bytes")
  for i = 1, n do t.eq(#t.read_all(pairs_[i][2], size), size) end
end)

t.test("buffer.read-own: what tcp.read gives is the reader's to change", function()
  local a, c = t.pair()
  tcp.set_rwopt(a, { write_head_bytes = 2 })
  tcp.set_rwopt(c, { read_head_bytes = 2 })
  for i = 1, 5 do tcp.write(a, ("frame %d"):format(i)) end
  local got = {}
  for i = 1, 5 do got[i] = t.good(tcp.read(c, 20)) end
  got[2]:append " changed"
  got[3]:clear()
  got[4]:split(2)
  got[1]:release()
  t.eq(got[2]:tostring(), "frame 2 changed")
  t.eq(got[4]:tostring(), "ame 4")
  t.eq(got[5]:tostring(), "frame 5")
end)

t.done()

-- What a message carries, and what it refuses.
local t = require "t"
local ffi = require "ffi"

local ECHO = "context.recv(0, function(ok, data, from, session, _, ...) context.reply(from, session, data, ...) end)"

-- The value after a journey to another context and back.
local function echoer()
  local h = t.spawn(ECHO)
  return function(...) return t.good(context.timed_query(h, 60, ...)) end
end

---- Scalars -----------------------------------------------------------------------------------------------------------------

t.test("message.scalars: nil, booleans and numbers arrive as they are", function()
  local echo = echoer()
  t.returns({ nil, true, false, nil, n = 4 }, echo(nil, true, false, nil))
  for _, v in ipairs {
    0, 1, -1, 0.1, 1e308, 5e-324, 2 ^ 31, -2 ^ 31, 2 ^ 32, 2 ^ 53, -2 ^ 53, 2 ^ 63, 1 / 3, math.huge, -math.huge, math.pi,
  } do
    t.eq(echo(v), v)
  end
  local nan = echo(0 / 0)
  t.ok(nan ~= nan, "NaN arrives as " .. tostring(nan))
  t.eq(1 / echo(-1 / math.huge), -math.huge, "the sign of -0")
end)

t.test("message.int64: 64-bit integers keep value and type", function()
  local echo = echoer()
  for _, v in ipairs { 0LL, 1LL, -1LL, 9223372036854775807LL, -9223372036854775807LL - 1LL } do
    local got = echo(v)
    t.ok(ffi.istype("int64_t", got), tostring(v) .. " arrives as " .. type(got))
    t.eq(tostring(got), tostring(v))
  end
  for _, v in ipairs { 0ULL, 1ULL, 18446744073709551615ULL } do
    local got = echo(v)
    t.ok(ffi.istype("uint64_t", got), tostring(v) .. " arrives as " .. type(got))
    t.eq(tostring(got), tostring(v))
  end
  t.eq(tostring(echo({ { 7LL } })[1][1]), "7LL")
end)

t.test("message.strings: any bytes, any length", function()
  local echo = echoer()
  local all = {}
  for i = 0, 255 do all[#all + 1] = string.char(i) end
  all = table.concat(all)
  t.eq(echo(""), "")
  t.eq(echo("\0"), "\0")
  t.eq(echo(all), all)
  for _, n in ipairs { 1, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 1000, 65535, 65536, 1000000 } do
    local s = all:rep(math.ceil(n / 256)):sub(1, n)
    t.ok(echo(s) == s, n .. " bytes differ")
  end
  local big = all:rep(t.scale(60000))
  t.ok(echo(big) == big, "a large string differs")
end)

t.test("message.many-values: a message of many values", function()
  local echo = echoer()
  local many = { n = 200 }
  for i = 1, 200 do many[i] = i % 3 == 0 and nil or i % 3 == 1 and i or "s" .. i end
  t.returns(many, echo(unpack(many, 1, 200)))
end)

---- Tables ------------------------------------------------------------------------------------------------------------------

t.test("message.tables: arrays, hashes, holes, nested, with every kind of key", function()
  local echo = echoer()
  local values = {
    {}, { 1, 2, 3 }, { a = 1, b = "two" }, { 1, 2, x = 3, [10] = 4 }, { nil, 2, nil, 4 }, { {}, { {} } },
    { [true] = 1, [false] = 2 }, { [0] = "zero", [-1] = "minus", [1.5] = "half", [2 ^ 40] = "big" },
    { [""] = "empty", ["a\0b"] = "zero byte" }, { list = { { id = 1 }, { id = 2, tags = { "x", "y" } } } },
    { [math.huge] = 1, [-math.huge] = 2 },
  }
  for _, v in ipairs(values) do t.same(echo(v), v) end
  t.same({ echo(unpack(values)) }, values)
end)

t.test("message.tables-big: a large array and a large hash", function()
  local echo = echoer()
  local array, hash = {}, {}
  for i = 1, t.scale(100000) do
    array[i] = i
    hash["key " .. i] = { i }
  end
  t.same(echo(array), array)
  t.same(echo(hash), hash)
end)

t.test("message.copy: a table is copied; the receiver's changes are its own", function()
  local original = { 1, { 2 } }
  context.send(context.self, original)
  local got = t.good(context.recv(0, 5))
  t.ok(got ~= original and got[2] ~= original[2])
  got[2][1] = "changed"
  t.same(original, { 1, { 2 } })
  -- What the sender changes afterwards does not arrive.
  context.send(context.self, original)
  original[1] = "changed later"
  t.same(t.good(context.recv(0, 5)), { 1, { 2 } })
end)

t.test("message.metatables: metatables are dropped and not consulted", function()
  local echo = echoer()
  local proxy = setmetatable({ real = 1 }, {
    __index = function() error("__index was asked") end,
    __pairs = function() error("__pairs was asked") end,
    __len = function() return 99 end,
  })
  local got = echo(proxy)
  t.same(got, { real = 1 })
  t.eq(getmetatable(got), nil)
end)

t.test("message.shared: shared references stay shared", function()
  local echo = echoer()
  local s = { "shared" }
  local got = echo({ s, s, deep = { s } })
  t.same(got, { s, s, deep = { s } })
  t.ok(rawequal(got[1], got[2]) and rawequal(got[1], got.deep[1]), "the copies are separate")
  -- A table shared on many levels stays small: 2^60 paths lead to the innermost one.
  local level = {}
  for _ = 1, 60 do level = { level, level } end
  got = echo(level)
  for _ = 1, 60 do
    t.ok(rawequal(got[1], got[2]), "the copies are separate")
    got = got[1]
  end
  t.same(got, {})
end)

t.test("message.depth: a hundred levels are carried, more are refused", function()
  local echo = echoer()
  local function nested(depth)
    local v = {}
    for _ = 2, depth do v = { v } end
    return v
  end
  t.same(echo(nested(100)), nested(100))
  t.raises("%[2%]", context.send, context.self, nested(101))
  t.raises("%[2%]", context.send, context.self, nested(100000))
  t.fails("ETIMEOUT", context.recv(0, 0))
end)

t.test("message.cycles: cycles are refused", function()
  local loop = { 1 }
  loop.me = loop
  t.raises("%[2%]%.me", context.send, context.self, loop)
  local a, b = {}, {}
  a.b, b.a = b, a
  t.raises("%[2%]%[1%]%.b%.a", context.send, context.self, { a })
  t.fails("ETIMEOUT", context.recv(0, 0))
end)

---- Buffers -----------------------------------------------------------------------------------------------------------------

t.test("message.buffers: buffers travel at the top and inside tables", function()
  local echo = echoer()
  local top, inside = echo(buffer.new "top", { buffer.new "in", x = { buffer.new "" } })
  t.eq(buffer.tostring(top), "top")
  t.eq(buffer.tostring(inside[1]), "in")
  t.eq(buffer.length(inside.x[1]), 0)
  t.ok(buffer.valid(inside.x[1]))
end)

t.test("message.buffers-shared: they are shared, not copied, however many receive them", function()
  local size, n = 4000000, 20
  local b = buffer.new(("x"):rep(size))
  local all = {}
  for i = 1, n do
    all[i] = t.spawn [[
      local _, b, from, session = context.recv(0)
      context.reply(from, session, #b)
      context.recv(0)
      assert(b:length() > 0)
    ]]
  end
  local function resident() return tonumber(io.open("/proc/self/statm"):read("*a"):match("%d+ (%d+)")) * 4096 end
  local linux = io.open("/proc/self/statm")
  local before = linux and resident()
  for i = 1, n do t.eq(t.good(context.query(all[i], b, 20)), size) end
  if linux and t.slow == 1 then
    local grown = resident() - before
    t.ok(grown < n * size / 2, n .. " receivers of one buffer of " .. size .. " bytes cost " .. grown)
  end
end)

t.test("message.buffers-unchanged: a shared buffer is never changed under its other holders", function()
  local h = t.spawn [[
    local _, b, from, session = context.recv(0)
    context.reply(from, session, true)
    local _, _, from2, session2 = context.recv(0)
    local seen = b:tostring()
    b:append(" and mine")
    context.reply(from2, session2, seen, b:tostring())
  ]]
  local b = buffer.new "original"
  t.good(context.query(h, b, 20))
  b:append(" changed")
  t.eq(b:tostring(), "original changed")
  t.returns({ true, "original", "original and mine" }, context.timed_query(h, 20, "what do you see?"))
  t.eq(b:tostring(), "original changed")
end)

t.test("message.buffers-released: releasing or clearing one's own does not touch the receiver's", function()
  for _, way in ipairs { "release", "clear", "split" } do
    local b = buffer.new "bytes"
    context.send(context.self, b)
    b[way](b)
    local got = t.good(context.recv(0, 5))
    t.eq(buffer.tostring(got), "bytes", way)
  end
end)

---- Refusals ----------------------------------------------------------------------------------------------------------------

t.test("message.cdata: a cdata that is one number keeps value and type", function()
  local echo = echoer()
  for ctype, values in pairs {
    int8_t = { -128, 127 }, uint8_t = { 0, 255 }, int16_t = { -32768, 32767 }, uint16_t = { 65535 },
    int32_t = { -2 ^ 31, 2 ^ 31 - 1 }, uint32_t = { 2 ^ 32 - 1 }, int64_t = { -2 ^ 63, -1 }, uint64_t = { 2 ^ 63 },
    float = { 0.5, -1e30, 1 / 0 }, double = { 0.1, -1e300 }, bool = { true, false }, int = { 7 }, ["unsigned char"] = { 7 },
  } do
    for _, v in ipairs(values) do
      local sent = ffi.new(ctype, v)
      local a, b = echo(sent), echo({ sent })
      t.eq(type(a), "cdata")
      t.ok(ffi.istype(ctype, a) and ffi.istype(ctype, b[1]), ctype .. " arrives as " .. tostring(ffi.typeof(a)))
      t.ok(a == sent and b[1] == sent, ctype .. " " .. tostring(v) .. " arrives as " .. tostring(a))
    end
  end
end)

t.test("message.refused.types: functions, coroutines, userdata, other cdata raise; the text names path and type", function()
  local s = t.pair()
  for _, case in ipairs {
    { print, "%[2%] is a function" },
    { function() end, "%[2%] is a function" },
    { coroutine.create(print), "%[2%] is a thread" },
    { io.stdout, "%[2%] is a userdata" },
    { newproxy(), "%[2%] is a userdata" },
    { s, "%[2%] is a" },
    { ffi.new("int[4]"), "%[2%] is a" },
    { ffi.new("struct { int n; }"), "%[2%] is a" },
    { ffi.new("complex", 1), "%[2%] is a" },
    { ffi.new("void *"), "%[2%] is a" },
    { { on_hit = print }, "%[2%]%.on_hit is a function" },
    { { 1, { 2, print } }, "%[2%]%[2%]%[2%] is a function" },
    { { a = { b = { { c = print } } } }, "%[2%]%.a%.b%[1%]%.c is a function" },
    { { [print] = 1 }, "%[2%]" },
    { { [{}] = 1 }, "%[2%]" },
    { { [1LL] = 1 }, "%[2%]" },
  } do
    t.raises(case[2], context.send, context.self, case[1])
  end
  t.fails("ETIMEOUT", context.recv(0, 0))
end)

t.test("message.refused.argument: the path begins with the argument's number", function()
  local h = t.spawn "context.recv(0)"
  t.raises("%[4%]%.x is a function", context.send, h, 1, 2, { x = print })
  t.raises("%[2%]%.x is a function", context.query, h, { x = print })
  t.raises("%[3%]%.x is a function", context.timed_query, h, 1, { x = print })
  t.raises("%[4%] is a function", context.timed_query, h, 1, 1, print, 2)
  t.raises("%[3%]%.x is a function", context.reply, h, 1, { x = print })
end)

t.test("message.refused.nothing-sent: and nothing is sent", function()
  local h = t.spawn [[
    local n = 0
    context.recv(0, function(_, _, from, session)
      n = n + 1
      if session >= 0 then context.reply(from, session, n) end
    end)
  ]]
  pcall(context.send, h, 1, print)
  pcall(context.query, h, { print })
  pcall(context.timed_query, h, 1, ("x"):rep(100000), { { print } })
  t.eq(t.good(context.query(h, "count", 20)), 1)
end)

t.test("message.refused.callback-form: a refusal raises in the callback form as well", function()
  local calls, record = t.recorder()
  t.raises("%[2%] is a function", context.query, context.self, print, record)
  t.raises("%[3%]%[1%] is a function", context.timed_query, context.self, 1, { print }, record)
  t.settle()
  t.eq(#calls, 0)
end)

t.test("message.refused.no-leak: a refusal halfway gives up what was packed before", function()
  collectgarbage()
  local before = context.stats().c_bytes
  local big = buffer.new(("x"):rep(1000000))
  for _ = 1, 50 do pcall(context.send, context.self, big, ("y"):rep(100000), print) end
  big:release()
  collectgarbage()
  t.ok(context.stats().c_bytes < before + 1000000, "C memory grew by " .. context.stats().c_bytes - before)
end)

t.done()

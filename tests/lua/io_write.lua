-- print and write: what stock LuaJIT writes, whatever the value.
local t = require "t"

local function written(write)
  local name = t.tmp .. "/written"
  local f = assert(io.open(name, "w"))
  write(f)
  f:close()
  f = assert(io.open(name))
  local text = f:read("*a")
  f:close()
  return text
end

t.test("io.write.numbers: numbers are written as tostring makes them", function()
  local numbers = { 0, -0, 1 / 0, -1 / 0, 0 / 0, 1e9, 1e9 - 1, 999999999.99999, 0.1, 0.01, 0.3, 1 / 3, 0.001, 0.00099999999,
    0.09999999999999999, 9.99999999999995, 12.0000000000001, 12.00000000000001, 5e-324, 1.7e308, 2 ^ 53, 1e13, 1e14, 1e15,
    99999999999999, 99999999999999.5, 0.5, 2.38531494140625, 98.3497314453125 }
  for i = 1, t.scale(20000) do
    local n = math.random()
    local k = i % 8
    if k == 1 then n = n * 1e9
    elseif k == 2 then n = math.random(0, 1e6) / 1000
    elseif k == 3 then n = n * 10 ^ math.random(-20, 20)
    elseif k == 4 then n = math.random(0, 2 ^ 20) / 2 ^ math.random(0, 30)
    elseif k == 5 then n = math.random(0, 2 ^ 40) + math.random(0, 2 ^ 10) / 2 ^ math.random(0, 30)
    elseif k == 6 then n = math.random(-2 ^ 31, 2 ^ 31)
    elseif k == 7 then n = math.random(1, 1e5) / math.random(1, 1e5) end
    numbers[#numbers + 1] = i % 2 == 0 and n or -n
  end
  local texts = {}
  for i, n in ipairs(numbers) do texts[i] = tostring(n) end
  t.eq(written(function(f) for _, n in ipairs(numbers) do f:write(n, "\n") end end), table.concat(texts, "\n") .. "\n")
end)

t.test("io.write.results: true, or nil with the system's error", function()
  local f = assert(io.open(t.tmp .. "/results", "w"))
  t.returns({ true }, f:write("a", 1, 2.5))
  t.returns({ true }, f:write())
  t.returns({ true }, f:flush())
  f:close()
  local full = io.open("/dev/full", "w")
  if full then
    full:setvbuf("no")
    t.returns({ nil, "No space left on device", 28, n = 3 }, full:write("x"))
    t.returns({ nil, "No space left on device", 28, n = 3 }, full:write(("x"):rep(100000)))
    full:close()
  end
end)

t.test("io.write.errors: as in stock LuaJIT; what stands before a bad argument is written", function()
  local f = assert(io.open(t.tmp .. "/errors", "w"))
  t.raises("bad argument #1 to 'write' %(string expected, got table%)", function() f:write({}) end)
  t.raises("bad argument #2 to 'write' %(string expected, got nil%)", function() f:write("before", nil, "after") end)
  t.raises("bad argument #1 to 'write' %(FILE%* expected, got string%)", function() f.write("x") end)
  f:close()
  t.raises("attempt to use a closed file", function() f:write("x") end)
  t.raises("attempt to use a closed file", function() f:flush() end)
  f = assert(io.open(t.tmp .. "/errors"))
  t.eq(f:read("*a"), "before")
  f:close()
end)

t.test("io.output.default: io.write and io.flush go to the default output, and to no closed one", function()
  local name, old = t.tmp .. "/default", io.output()
  local f = io.output(name)
  t.returns({ true }, io.write("a", 1))
  t.returns({ true }, io.flush())
  t.eq(io.output(), f)
  io.close()
  local ok, err = pcall(io.write, "x")
  io.output(old)
  t.eq(ok, false)
  assert(err:find("standard file is closed"), err)
  f = assert(io.open(name))
  t.eq(f:read("*a"), "a1")
  f:close()
end)

t.test("io.print.tostring: print calls the global tostring, and wants a string of it", function()
  local stock, seen, n = tostring, {}, 0
  tostring = function(v)
    n = n + 1
    seen[n] = v
    return "# " .. stock(v)
  end
  local ok, err = pcall(print, 1, nil, "x")
  tostring = stock
  assert(ok, err)
  t.eq(seen[1], 1)
  t.eq(seen[3], "x")
  t.raises("'tostring' must return a string to 'print'", print, setmetatable({}, { __tostring = function() return {} end }))
end)

t.done()

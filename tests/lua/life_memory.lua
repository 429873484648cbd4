-- workers: 2,8
-- Memory of contexts that have ended does not wait for a context that gives no way.
local t = require "t"

local function resident() -- MB, or nil
  for line in io.lines("/proc/self/status") do
    local kb = line:match("^VmRSS:%s*(%d+) kB")
    if kb then return kb / 1024 end
  end
end

local measurable = t.slow == 1 and io.open("/proc/self/status") and true -- a sanitizer keeps freed memory

-- While a context runs `code` until the file `sign` is there, 4000 others come and go.
local function churn_beside(code)
  local sign = t.tmp .. "/sign"
  os.remove(sign)
  local h = t.spawn("local sign, wait = ... context.send(context.parent, 'begun') " .. code, sign, t.waits_for(sign))
  t.defer(function() assert(io.open(sign, "w")):close() t.good(context.wait(h)) end)
  t.returns({ true, "begun", h, -1 }, context.recv(h, 20))
  local nothing = t.file("return", "nothing.lua")
  local function churn(n)
    for _ = 1, n do t.good(context.wait(assert(context.create(nothing)))) end
  end
  churn(100)
  local before = measurable and resident()
  churn(t.scale(4000))
  if measurable then
    local grown = resident() - before
    t.ok(grown < 40, ("4000 contexts one after the other have left %.0f MB"):format(grown))
  end
end

t.test("life.memory.sleep: it does not wait for one that sleeps in os.execute", function()
  churn_beside("os.execute(wait)")
end)

t.test("life.memory.compute: it does not wait for one that computes", function()
  churn_beside("local x = 0 repeat for i = 1, 1e5 do x = x + i end until os.rename(sign, sign)")
end)

t.test("life.memory.call: a C function that sleeps for long holds up next to nothing", function()
  t.needs_ffi("system")
  churn_beside([[local ffi = require "ffi" ffi.cdef "int system(const char *);" timer.sleep(0.1)
    ffi.C.system(wait)]])
end)

t.done()

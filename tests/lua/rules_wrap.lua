-- A wrap function fails after its coroutine was parked: the error comes out of the call, wherever that stands.
local t = require "t"

local function failing(message)
  return coroutine.wrap(function()
    timer.sleep(0.001)
    error(message, 0)
  end)
end

-- f is called and has to raise an error that ends with message.
local function fails(message, f, ...)
  local ok, e = pcall(f, ...)
  t.eq(ok, false)
  t.ok(type(e) == "string" and e:sub(-#message) == message, "the error is " .. t.show(e))
  return e
end

t.test("rules.coroutine.wrap-error: a call from Lua raises, with its position in front", function()
  local e = fails("boom", function()
    local w = failing "boom"
    local x = w()
    return x
  end)
  t.ok(e:find("rules_wrap.lua:%d+: boom$"), e)
  fails("tail", function() return failing "tail"() end)
  fails("for", function() for _ in failing "for" do end end)
  fails("index", function() return setmetatable({}, { __index = failing "index" }).x end)
  fails("inner", function()
    coroutine.wrap(function() failing "inner"() end)()
  end)
end)

t.test("rules.coroutine.wrap-error-pcall: a protected call of the wrap function itself fails", function()
  t.same(t.pack(pcall(failing "boom")), { n = 2, false, "boom" })
  t.same({ pcall(failing "boom") }, { false, "boom" })
  if pcall(failing "x") then t.ok(false, "pcall has returned true") end
  pcall(failing "x")
  local function tail() return pcall(failing "tail") end
  t.returns({ false, "tail" }, tail())
  t.returns({ true, false, "twice" }, pcall(pcall, failing "twice"))
  t.returns({ false, "handled!" }, xpcall(failing "handled", function(m) return m .. "!" end))
  t.returns({ true, 1, 2 }, pcall(coroutine.wrap(function()
    timer.sleep(0.001)
    return 1, 2
  end)))
end)

t.test("rules.coroutine.wrap-error-body: a wrap function, or pcall of one, as the whole body of a coroutine", function()
  local co = coroutine.create(failing "body")
  local ok, e = coroutine.resume(co)
  t.eq(ok, false)
  t.ok(e:find "body$", e)
  t.eq(coroutine.status(co), "dead")
  t.returns({ false, "cannot resume dead coroutine" }, coroutine.resume(co))
  co = coroutine.create(pcall)
  t.returns({ true, false, "caught" }, coroutine.resume(co, failing "caught"))
  t.eq(coroutine.status(co), "dead")
end)

t.test("rules.coroutine.wrap-error-objects: error values that are no strings arrive as they are", function()
  for _, value in ipairs { {}, 42, true } do
    local function raise()
      timer.sleep(0.001)
      error(value, 0)
    end
    t.returns({ false, value }, pcall(coroutine.wrap(raise)))
    t.returns({ false, value }, pcall(function()
      local w = coroutine.wrap(raise)
      w()
    end))
  end
  t.same(t.pack(pcall(coroutine.wrap(function()
    timer.sleep(0.001)
    error()
  end))), { n = 2, false })
end)

t.test("rules.coroutine.wrap-error-hook: a hook of the script's is still there afterwards", function()
  local hits = 0
  debug.sethook(function() hits = hits + 1 end, "", 10)
  t.eq(pcall(failing "x"), false)
  hits = 0
  for _ = 1, 1000 do end
  debug.sethook()
  t.ok(hits > 5, hits .. " calls of the hook")
end)

t.test("rules.coroutine.deep: long chains of coroutines", function()
  local function wraps(depth, f)
    if depth == 0 then return f() end
    return coroutine.wrap(wraps)(depth - 1, f)
  end
  t.eq(wraps(50, function()
    timer.sleep(0.001)
    return 7
  end), 7)
  fails("deep", wraps, 50, function()
    timer.sleep(0.001)
    error("deep", 0)
  end)
  local function resumes(depth, f)
    if depth == 0 then return f() end
    return coroutine.resume(coroutine.create(resumes), depth - 1, f)
  end
  local results = t.pack(resumes(20, function()
    timer.sleep(0.001)
    coroutine.yield(5)
    return 8
  end))
  t.eq(results.n, 21)
  t.eq(results[21], 5)
end)

t.done()

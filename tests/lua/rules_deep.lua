-- Recursion through C functions and through coroutines: as deep as in the stock program, then an error of Lua.
local t = require "t"

-- For each kind: f(n) recurses n levels deep and returns the number of those reached.
local kinds = [[
  local level = {}
  function level.gsub(f) return ("x"):gsub(".", f) end
  function level.sort(f) table.sort({ 1, 2 }, function(a, b) f() return a < b end) end
  function level.foreach(f) table.foreach({ 1 }, f) end
  function level.load(f)
    local over
    local _, err = load(function() if not over then over = true f() end end)
    if err then error(err, 0) end
  end
  function level.tostring(f) return tostring(setmetatable({}, { __tostring = function() f() return "" end })) end
  function level.format(f) return ("%s"):format(setmetatable({}, { __tostring = function() f() return "" end })) end
  function level.less(f)
    local mt = { __lt = function() f() return false end }
    table.sort({ setmetatable({}, mt), setmetatable({}, mt) })
  end
  function level.index(f) return setmetatable({}, { __index = function() f() return 1 end }).x + 1 end
  function level.wrap(f) coroutine.wrap(f)() end
  function level.resume(f)
    local ok, err = coroutine.resume(coroutine.create(f))
    if not ok then error(err, 0) end
  end
  function level.gsub_in_wrap(f) return ("x"):gsub(".", coroutine.wrap(f)) end
  function level.sort_in_resume(f)
    local ok, err = coroutine.resume(coroutine.create(function() level.sort(f) end))
    if not ok then error(err, 0) end
  end
  local depth = {
    gsub = 900, gsub_in_wrap = 900, sort = 2000, foreach = 2000, load = 2000, tostring = 3000, format = 2500,
    less = 2000, index = 3000, wrap = 30000, resume = 30000, sort_in_resume = 5000,
  }
  local function recurse(kind, n)
    local reached = 0
    local function f()
      reached = reached + 1
      if reached < n then level[kind](f) end
    end
    local ok, err = pcall(f)
    return ok, ok and reached or tostring(err)
  end
]]

t.test("rules.deep.stock: what the stock program survives, every worker survives", function()
  local all = {}
  for i = 1, 2 * t.workers do
    all[i] = t.spawn(kinds .. [[
      local slow = ...
      for kind, n in pairs(depth) do
        n = math.ceil(n / slow)
        local ok, reached = recurse(kind, n)
        context.send(context.parent, kind, ok, reached == n or reached)
      end
      context.send(context.parent, "done")
      context.destroy()]], t.slow)
  end
  for i = 1, #all do
    repeat
      local _, kind, _, _, ok, reached = context.recv(all[i], 60 * t.slow)
      if kind ~= "done" then t.same({ kind, ok, reached }, { kind, true, true }) end
    until kind == "done"
  end
end)

t.test("rules.deep.endless: endless recursion is an error of Lua, and the context goes on", function()
  local h = t.spawn(kinds .. [[
    for kind in pairs(depth) do
      local ok, err = recurse(kind, math.huge)
      context.send(context.parent, kind, ok, err)
    end
    context.send(context.parent, "done")
    context.destroy()]])
  repeat
    local _, kind, _, _, ok, err = context.recv(h, 60 * t.slow)
    if kind ~= "done" then
      t.eq(ok, false, kind)
      t.ok(err:find("stack overflow"), kind .. " ends in: " .. err:sub(1, 200))
    end
  until kind == "done"
end)

t.test("rules.deep.block: a coroutine blocks at any depth", function()
  local n = t.scale(30000)
  local function f(i)
    if i == n then
      timer.sleep(0.001)
      return i
    end
    return coroutine.wrap(f)(i + 1)
  end
  t.eq(f(1), n)
  local function fail(i)
    if i == n then
      timer.sleep(0.001)
      error("at the bottom", 0)
    end
    return coroutine.wrap(fail)(i + 1)
  end
  local ok, err = pcall(fail, 1)
  t.eq(ok, false)
  t.ok(err:find("at the bottom$"), err:sub(-200))
end)

t.test("rules.deep.text: text nested too deeply is refused by the parser", function()
  for _, brackets in ipairs { { "(", ")" }, { "{", "}" }, { "function() return ", " end" } } do
    local text = "return " .. brackets[1]:rep(100000) .. "1" .. brackets[2]:rep(100000)
    local f, err = loadstring(text, "=nested")
    t.eq(f, nil)
    t.ok(err:find("levels") or err:find("overflow"), err)
  end
end)

t.done()

-- expect-stderr: .*
-- Debug hooks that raise errors, wherever they come; memory that runs out; what is to end ends in hooks and finalizers, too.
local t = require "t"

local version = os.getenv "NLT_VERSION"
local bundled = version:find("bundled") and not version:find("inside not used")

if bundled then t.test("rules.hooks.load: an error in a hook of load's reader leaves nothing behind", function()
  local h = t.spawn [[
    local ok, err = load(function()
      debug.sethook(function() error("time is up") end, "", 100)
      while true do end
    end)
    debug.sethook()
    for i = 1, 3 do timer.sleep(0.001) end
    local co = coroutine.wrap(function() timer.sleep(0.001) return coroutine.yield(1) end)
    context.send(context.parent, ok, err, co(), co(2))
    context.destroy()]]
  local _, ok, _, _, err, one, two = context.recv(h, 20)
  t.eq(ok, nil)
  t.ok(err:find("time is up"), err)
  t.same({ one, two }, { 1, 2 })
end) end

t.test("rules.hooks.delivery: a hook's error does not meet the runtime where it unpacks a message", function()
  local h = t.spawn [[
    local n, raised = 0, 0
    context.recv(0, function(_, v, from, session)
      n = n + 1
      if session >= 0 then context.reply(from, session, v + 1) end
    end)
    debug.sethook(function()
      if n < 5 or raised == 50 then return end
      raised = raised + 1
      error("time is up")
    end, "c")
    for i = 1, 100 do context.send(context.self, 1LL, { i }) end]]
  repeat
    local ok, v = context.query(h, 5LL, 0.2) -- the first ones may meet the hook
  until ok and t.eq(v, 6LL) == nil
end)

t.test("rules.hooks.error: an error in a callback's hook is the callback's, and the context goes on", function()
  local h = t.spawn [[
    local n = 0
    context.recv(0, function(_, v) n = v end)
    debug.sethook(function() if n == 5 then n = 6 error("time is up") end end, "", 1)
    for i = 1, 10 do context.send(context.self, i) end
    timer.sleep(0.01)
    debug.sethook()
    context.send(context.parent, n)
    context.destroy()]]
  t.returns({ true, 10, h, -1 }, context.recv(h, 20))
end)

-- What runs for ever, and where.
local endless = [[
  local where = ...
  local function loop() while true do end end
  local function stubborn() while true do pcall(loop) end end
  local function finalized(f)
    local p = newproxy(true)
    getmetatable(p).__gc = f
  end
  local places = {
    tostring = function() error(setmetatable({}, { __tostring = stubborn })) end,
    callback_tostring = function()
      context.run(function() error(setmetatable({}, { __tostring = stubborn })) end)
      timer.sleep(1000)
    end,
    hook = function() debug.sethook(stubborn, "", 10) loop() end,
    hook_of_coroutine = function() coroutine.wrap(function() debug.sethook(stubborn, "", 10) loop() end)() end,
    coroutine_in_hook = function() debug.sethook(function() coroutine.wrap(stubborn)() end, "", 10) loop() end,
    after_hook_error = function()
      load(function() debug.sethook(function() error("x") end, "", 100) while true do end end)
      stubborn()
    end,
    finalizer = function() for _ = 1, 3 do finalized(stubborn) end collectgarbage() stubborn() end,
    handler = function() xpcall(error, stubborn) stubborn() end,
    gsub = function() return ("x"):gsub(".", stubborn) end,
    comparator = function() table.sort({ 1, 2, 3 }, stubborn) end,
    metamethod = function() return setmetatable({}, { __index = stubborn }).x end,
    reader = function() load(stubborn) stubborn() end,
  }
  context.send(context.parent, "begins")
  places[where]()]]
-- Only the inside of LuaJIT tells how to reach what runs where it calls no hook.  With a single worker nobody else gets
-- to run, who could destroy it.
for _, where in ipairs { "tostring", "callback_tostring", "hook", "hook_of_coroutine", "coroutine_in_hook", "after_hook_error",
  "finalizer", "handler", "gsub", "comparator", "metamethod", "reader" } do
  if bundled and t.workers > 1 then t.test("rules.hooks.endless." .. where .. ": one that runs for ever there is destroyed", function()
    local h = t.spawn(endless, where)
    t.returns({ true, "begins", h, -1 }, context.recv(h, 20))
    timer.sleep(0.02)
    t.good(context.destroy(h, "enough"))
    t.returns({ true, 0, "enough" }, context.wait(h))
  end) end
end

if bundled then t.test("rules.hooks.endless.end: a finalizer that runs for ever at the end is cut off", function()
  local h = t.spawn [[
    local function loop() while true do end end
    for _ = 1, 3 do getmetatable(newproxy(true)).__gc = loop end
    timer.sleep(0)]]
  t.returns({ true, 0, "exit" }, context.wait(h)) -- the runner waits for the process
end) end

-- Random calls of everything, while hooks raise at random places.
local storm = [[
  local seed = ...
  math.randomseed(seed)
  local R, ops, conns, depth = math.random, nil, {}, 0
  local function op()
    depth = depth + 1
    if depth < 6 then pcall(ops[R(#ops)]) end
    depth = depth - 1
  end
  local function hook()
    local left = R(300)
    debug.sethook(function()
      left = left - 1
      if left > 0 then return end
      left = R(300)
      if R(3) == 1 then debug.sethook() end
      error("hook")
    end, ({ "c", "r", "l", "cr", "crl", "" })[R(6)], R(200))
  end
  local _, listener = tcp.listen("127.0.0.1", 0)
  tcp.accept(listener, function(ok, s)
    return ok and s:read(function(ok, b) if ok then hook() s:write(b) else s:close() end end)
  end)
  ops = {
    function() context.send(context.self, 1LL, { a = 1, b = { 1, 2, "x" .. R(100) } }) end,
    function() context.send(context.self, ("x"):rep(R(3000)), buffer.new("abc")) end,
    function() timer.timeout(R() / 200, 1, "x", op) end,
    function() timer.sleep(R() / 500) end,
    function() local id = timer.loop(0.001, 0.001, op) timer.timeout(0.01, function() timer.close(id) end) end,
    function() context.run(function() op() op() end) end,
    function() context.query(context.self, { 1LL, 2 }, 0.01) end,
    function() context.timed_query(context.self, 0.01, 5, "x", op) end,
    hook,
    function()
      getmetatable(newproxy(true)).__gc = function() local x = { {}, {} } if R(3) == 1 then error("gc") end op() end
      collectgarbage("step", 10)
    end,
    function() coroutine.wrap(function() op() coroutine.yield(1) op() end)() end,
    function() coroutine.resume(coroutine.create(function() timer.sleep(0.001) op() error("e") end)) end,
    function() load(op) end,
    function() load(function() hook() for i = 1, 3000 do local x = i + 1 end end) end,
    function()
      local ok, s = tcp.connect("127.0.0.1", listener:local_port(), 1)
      if ok then conns[#conns + 1] = s s:write("hello", op) s:read(op) end
    end,
    function() local s = table.remove(conns) return s and s:close() end,
    function() for i = 1, #conns do conns[i]:write(("y"):rep(R(100)), true) end end,
    function() error(setmetatable({}, { __tostring = function() op() return "obj" end })) end,
    function() xpcall(function() op() error("x") end, function(e) op() return e end) end,
    function() return ("xyz"):gsub(".", function() op() return "a" end) end,
    function() table.sort({ 3, 1, 2 }, function(a, b) op() return a < b end) end,
    function() return setmetatable({}, { __index = function() op() return 1 end }).x end,
    function() context.recv(0, function(_, a, from, s) if s and s >= 0 then context.reply(from, s, 1LL, a) end op() end) end,
    function() context.recv(0, false) end,
    function() context.recv(0, 0.001) end,
    function() pcall(coroutine.wrap(coroutine.wrap(function() timer.sleep(0.001) error("deep") end))) end,
    function() collectgarbage() end,
  }
  for _ = 1, 8 do timer.loop(0.001, 0.001, function() for _ = 1, 4 do op() end end) end
  timer.loop(0.1, 0.1, function() debug.sethook() end)]]

if bundled then t.test("rules.hooks.storm: random calls with hooks that raise crash nothing", function()
  local all = {}
  for i = 1, 4 do all[i] = t.spawn(storm, os.time() + i) end
  for _ = 1, 8 do
    timer.sleep(0.3)
    local k = math.random(4)
    t.good(context.destroy(all[k], "next"))
    t.returns({ true, 0, "next" }, context.wait(all[k]))
    all[k] = t.spawn(storm, os.time() + 10 * k)
  end
end) end

t.done()

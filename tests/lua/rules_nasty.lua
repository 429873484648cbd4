-- expect-stderr: traceback
-- Script code that runs where nobody expects any: in __tostring of an error, in finalizers; messages too large for a stack.
local t = require "t"

-- Runs source in a context of its own with many references held; it answers "alive" after what it does.
local function survives(source)
  local h = t.spawn("for i = 1, 30 do timer.timeout(3600, i, i, print) end\n" .. source .. [[

    timer.sleep(0.05)
    context.send(context.parent, "alive")
    context.destroy()
  ]])
  t.returns({ true, "alive", h, -1 }, context.recv(h, 20))
end

t.test("rules.errors.tostring-calls: an error's __tostring may use the API", function()
  survives [[
    context.run(function()
      error(setmetatable({}, { __tostring = function()
        for i = 1, 5 do timer.timeout(3600, "a", print) end
        return "expected"
      end }))
    end)]]
end)

t.test("rules.errors.tostring-blocks: a coroutine in it that would block is refused", function()
  survives [[
    context.run(function()
      error(setmetatable({}, { __tostring = function()
        return tostring(pcall(coroutine.wrap(function() timer.sleep(0.01) end)))
      end }))
    end)]]
end)

t.test("rules.errors.stack: recursion through C functions goes as deep on every worker as in the stock program", function()
  local deep = [[
    local function f(n) return n == 0 and "" or (("x"):gsub(".", function() return f(n - 1) end)) end
    context.send(context.parent, pcall(f, 850))
    context.destroy()]]
  local all = {}
  for i = 1, 4 * t.workers do all[i] = t.spawn(deep) end
  for i = 1, #all do t.returns({ true, true, all[i], -1, "" }, context.recv(all[i], 20)) end
end)

t.test("rules.finalizers.root: a coroutine of the runtime that a finalizer saw is no other's to resume", function()
  local h = t.spawn [[
    local seen, resumed, got = {}, 0, 0
    local function rubbish(n)
      local p = newproxy(true)
      getmetatable(p).__gc = function() seen[coroutine.running() or 0] = true end
      for _ = 2, n do newproxy(p) end
    end
    context.recv(0, function(_, data)
      if data.i % 2 == 0 then timer.sleep(0.01) end
      got = got + 1
    end)
    collectgarbage("setpause", 0) -- messages find the collector at work
    for i = 1, 100 do
      rubbish(20)
      context.send(context.self, { i = i, tostring(i) })
      timer.sleep(0)
      for co in pairs(seen) do
        if co ~= 0 and coroutine.resume(co, "nonsense") then resumed = resumed + 1 end
      end
    end
    while got < 100 do timer.sleep(0.01) end
    context.send(context.parent, resumed)
    context.destroy()
  ]]
  t.returns({ true, 0, h, -1 }, context.recv(h, 20))
end)

t.test("rules.finalizers.callback: one that takes a callback away while its message is unpacked leaves it its arguments", function()
  local h = t.spawn([[
    context.register "the receiver"
    local n = ...
    local got, wrong, removed = 0, 0, 0
    local arm
    local function rubbish()
      local p = newproxy(true)
      getmetatable(p).__gc = function()
        removed = removed + 1
        context.recv("the receiver", false)
        context.run(arm)
      end
    end
    local function receive(ok, data, from, session, handle)
      got = got + 1
      if handle ~= "the receiver" then wrong = wrong + 1 end
      rubbish()
      arm()
    end
    function arm() context.recv("the receiver", receive) end
    collectgarbage("setpause", 0)
    arm()
    for i = 1, n do
      context.send(context.self, { i, tostring(i), { {}, {}, {} } })
      if i % 10 == 0 then timer.sleep(0) end
    end
    while got < n do timer.sleep(0.01) end
    context.send(context.parent, wrong, removed > 0)
    context.destroy()
  ]], t.scale(2000))
  t.returns({ true, 0, h, -1, true }, context.recv(h, 20))
end)

t.test("rules.finalizers.end: the end of a context runs all, also those that the collector had in line", function()
  -- With so small steps it sweeps for a while between finding what has to be finalized and beginning with it.
  local source = [[
    local parent, enough = context.parent, ...
    local count = 0
    local function rubbish()
      local p = newproxy(true)
      getmetatable(p).__gc = function() count = count + 1 context.send(parent, count) end
      for _ = 2, 10 do newproxy(p) end
    end
    local function wipe() local a, b, c, d, e, f, g, h, i, j return a, b, c, d, e, f, g, h, i, j end -- nothing hangs on old registers
    collectgarbage() collectgarbage "stop"
    rubbish() wipe()
    collectgarbage("setstepmul", 1)
    local n = 0
    while count == 0 and n ~= enough do collectgarbage "step" n = n + 1 end
    context.send(parent, "steps", n)
  ]]
  local function steps_of(...)
    local h, steps = t.spawn(source, ...), nil
    local finalized = 0
    while true do
      local ok, what, _, _, n = context.recv(h, 20)
      if not ok then break end
      if what == "steps" then steps = n else finalized = what end
    end
    t.eq(finalized, 10, "finalizers run, after " .. steps .. " steps")
    return steps
  end
  local n = steps_of()
  for early = 1, 20 do steps_of(n - early) end
end)

t.test("message.int64-hook: no hook sees what the runtime calls while an integer is packed or unpacked", function()
  local h = t.spawn [[
    local got, calls, seen = {}, 0, nil
    context.recv(0, function(_, data) got[#got + 1] = tostring(data) end)
    debug.sethook(function()
      calls = calls + 1
      local info = debug.getinfo(2, "S")
      if info.source == "=pack" then seen = info.short_src end
    end, "c", 1)
    for i = 1, 5 do context.send(context.self, 5LL + i) end
    while #got < 5 do timer.sleep(0.001) end
    debug.sethook()
    context.send(context.parent, table.concat(got, " "), calls > 5, seen)
    context.destroy()
  ]]
  t.returns({ n = 6, true, "6LL 7LL 8LL 9LL 10LL", h, -1, true, nil }, context.recv(h, 20))
end)

t.test("context.send.crowded: those who hear of an end together, and then flood somebody, go on to their ends", function()
  local busy = t.spawn "local till = timer.now() + 0.2 while timer.now() < till do end while context.recv(0) do end"
  local ends = t.spawn "context.recv(0)"
  local ended, inside, crossed = 0, false, false
  for _ = 1, 20 do
    context.run(function()
      context.wait(ends)
      crossed = crossed or inside
      inside = true
      for i = 1, 300 do context.send(busy, i) end
      inside = false
      ended = ended + 1
    end)
  end
  timer.sleep(0.01)
  context.send(ends, "end")
  t.await(function() return ended == 20 end)
  t.eq(crossed, false, "a send lets others of its context run")
  context.destroy(busy)
end)

t.test("rules.errors.many-values: more values than a stack takes are refused at the sender", function()
  local h = t.spawn "context.recv(0, function(_, _, from, session) context.reply(from, session, 'alive') end)"
  local function build(n, ...) if n == 0 then return pcall(context.send, h, ...) end return build(n - 1, n, ...) end
  local ok, err = build(7950)
  t.eq(ok, false)
  t.ok(tostring(err):find "too many values", err)
  t.returns({ true, "alive" }, context.query(h, 1, 20))
end)

t.test("context.wait.reason-error: an error is told whole, before the end, after it, and after another has come and gone", function()
  local want = "error: kaput\0" .. ("y"):rep(5000) .. "."
  local h = t.spawn "context.recv(0) error('kaput\\0' .. ('y'):rep(5000) .. '.', 0)"
  local early = t.async(context.wait, h, 20)
  context.send(h, "now")
  t.returns({ true, 0, want }, unpack(early.wait(), 1, 3))
  t.returns({ true, 0, want }, context.wait(h))
  t.returns({ true, 0, "exit" }, context.wait((t.spawn "return"), 20))
  t.returns({ true, 0, want }, context.wait(h))
end)

t.done()

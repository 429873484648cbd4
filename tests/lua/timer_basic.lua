-- timer: sleep, timeout, loop, close, now.
local t = require "t"

local function nothing() end

t.test("timer.now: monotonic seconds with fractions", function()
  local last = timer.now()
  local fraction = false
  for _ = 1, 10000 do
    local now = timer.now()
    t.ok(now >= last, "the clock went back")
    fraction = fraction or now % 1 ~= 0
    last = now
  end
  t.ok(fraction, "no fractions")
end)

t.test("timer.now-shared: every context reads the same clock", function()
  local before = timer.now()
  local h = t.spawn "context.send(context.parent, timer.now())"
  local there = t.good(context.recv(h, 20))
  t.ok(before <= there and there <= timer.now(), "the clocks differ")
end)

t.test("timer.sleep: returns true, never early", function()
  for _, seconds in ipairs { 0, 0.0005, 0.001, 0.01, 0.0333 } do
    local start = timer.now()
    t.returns({ true }, timer.sleep(seconds))
    t.not_early(start, seconds)
  end
end)

t.test("timer.sleep.precise: on an idle machine late by less than a millisecond", function()
  t.eventually(function()
    local late = {}
    for i = 1, 5 do
      local start = timer.now()
      timer.sleep(0.0037)
      late[i] = timer.now() - start - 0.0037
    end
    table.sort(late)
    t.ok(late[3] < 0.001, "half of the sleeps end more than " .. late[3] .. " s late")
  end)
end)

t.test("timer.sleep.zero: lets others run first", function()
  local ran = false
  context.run(function() ran = true end)
  timer.sleep(0)
  t.eq(ran, true)
end)

t.test("timer.negative: negative seconds count as 0", function()
  t.returns({ true }, timer.sleep(-1))
  t.returns({ true }, timer.sleep(-1e300))
  local calls, record = t.recorder()
  timer.timeout(-5, record)
  calls:wait(1)
  local id
  id = timer.loop(-1, 3600, function(...)
    record(...)
    timer.close(id)
  end)
  calls:wait(2)
end)

t.test("timer.timeout.arguments: the callback gets the arguments, nils too", function()
  local calls, record = t.recorder()
  local object = {}
  timer.timeout(0, record)
  t.eq(calls:wait(1).n, 0)
  timer.timeout(0, 1, nil, object, nil, record)
  t.returns({ 1, nil, object, nil, n = 4 }, unpack(calls:wait(2), 1, calls[2].n))
end)

t.test("timer.timeout.function-argument: only the last function is the callback", function()
  local calls, record = t.recorder()
  timer.timeout(0, nothing, record)
  t.returns({ nothing }, unpack(calls:wait(1)))
end)

t.test("timer.timeout.not-early: fires once, never early, not before the call has returned", function()
  local calls, record = t.recorder()
  for i = 0, 20 do
    local start, seconds = timer.now(), i * 0.002
    timer.timeout(seconds, function() record(timer.now() - start - seconds) end)
  end
  t.eq(#calls, 0)
  calls:wait(21)
  for i = 1, 21 do t.ok(calls[i][1] >= -1e-6, "early by " .. -calls[i][1] .. " s") end
  t.settle()
  t.eq(#calls, 21)
end)

t.test("timer.order.due: timers fire in the order they are due", function()
  local calls, record = t.recorder()
  local due = {} -- each timer's due time lies between the two
  for i, ms in ipairs { 30, 10, 20, 5, 25, 15, 0 } do
    local before = timer.now()
    timer.timeout(ms / 1000, i, record)
    due[i] = { before + ms / 1000, timer.now() + ms / 1000 }
  end
  calls:wait(7)
  for k = 2, 7 do
    local first, second = due[calls[k - 1][1]], due[calls[k][1]]
    t.ok(second[2] >= first[1] - 1e-6, "a timer came before one that was due earlier")
  end
end)

t.test("timer.order.armed: those due at the same time fire in the order armed", function()
  local calls, record = t.recorder()
  for i = 1, 100 do timer.timeout(0, i, record) end
  for i = 101, 200 do timer.timeout(-i, i, record) end
  calls:wait(200)
  for i = 1, 200 do t.eq(calls[i][1], i) end
end)

t.test("timer.close: tells whether the timer was still armed; a closed one does not fire", function()
  local calls, record = t.recorder()
  local id = timer.timeout(0.01, record)
  t.returns({ true }, timer.close(id))
  t.returns({ false }, timer.close(id))
  local fired = timer.timeout(0, record)
  calls:wait(1)
  t.returns({ false }, timer.close(fired))
  t.settle(0.03)
  t.eq(#calls, 1)
end)

t.test("timer.close.due: also when it is due already and its callback waits its turn", function()
  local calls, record = t.recorder()
  local first, second
  first = timer.timeout(0, function() t.eq(timer.close(second), true) end)
  second = timer.timeout(0, record)
  local start = timer.now()
  while timer.now() - start < 0.005 do end
  t.settle()
  t.eq(#calls, 0)
  t.eq(timer.close(first), false)
end)

t.test("timer.close.in-itself: a timeout that closes itself in its callback is not armed any more", function()
  local calls, record = t.recorder()
  local id
  id = timer.timeout(0, function() record(timer.close(id)) end)
  t.returns({ false }, unpack(calls:wait()))
end)

t.test("timer.ids: a used id does not close another's timer", function()
  local old = timer.timeout(0, nothing)
  t.settle()
  local calls, record = t.recorder()
  local new = timer.timeout(0.01, record)
  t.ok(old ~= new)
  t.eq(timer.close(old), false)
  calls:wait(1)
end)

t.test("timer.far: a timer centuries away is armed and can be closed", function()
  for _, seconds in ipairs { 1e6, 1e9, 1e12 } do t.eq(timer.close(timer.timeout(seconds, nothing)), true) end
end)

t.test("timer.blocking: a callback may block, and others fire meanwhile", function()
  local order = {}
  timer.timeout(0, function()
    order[#order + 1] = "a"
    timer.sleep(0.02)
    order[#order + 1] = "c"
  end)
  timer.timeout(0.001, function() order[#order + 1] = "b" end)
  t.await(function() return #order == 3 end)
  t.eq(table.concat(order), "abc")
end)

---- Loops -------------------------------------------------------------------------------------------------------------------

t.test("timer.loop.beats: first after the interval, then every repeat time, never early", function()
  local calls, record = t.recorder()
  local start = timer.now()
  local id = timer.loop(0.01, 0.003, "arg", nil, function(...) record(timer.now() - start, ...) end)
  calls:wait(5)
  t.eq(timer.close(id), true)
  for i = 1, 5 do
    local due = 0.01 + 0.003 * (i - 1)
    t.ok(calls[i][1] >= due - 1e-6, "beat " .. i .. " came after " .. calls[i][1] .. " s, due after " .. due)
    t.returns({ "arg", nil, n = 2 }, unpack(calls[i], 2, calls[i].n))
  end
end)

t.test("timer.loop.close: a closed loop fires no more, also when closed in its own callback", function()
  local calls, record = t.recorder()
  local id
  id = timer.loop(0, 0.001, function()
    record()
    if #calls == 3 then record(timer.close(id)) end
  end)
  calls:wait(4)
  t.returns({ true }, unpack(calls[4]))
  t.settle()
  t.eq(#calls, 4)
  t.returns({ false }, timer.close(id))
end)

t.test("timer.loop.skips: a loop that falls behind skips the beats it missed", function()
  t.eventually(function()
    local times = {}
    local start = timer.now()
    local id = timer.loop(0.02, 0.02, function() times[#times + 1] = timer.now() - start end)
    while timer.now() - start < 0.105 do end -- the beats at 0.02 to 0.10 are missed; the next is due at 0.12
    t.await(function() return #times >= 3 end)
    timer.close(id)
    -- One late beat, then the old rhythm: in each period there is one beat, never two.
    local slots = {}
    for _, at in ipairs(times) do
      local slot = math.floor(at / 0.02 + 1e-6)
      t.eq(slots[slot], nil, "two beats in one period; the second at " .. at)
      slots[slot] = true
    end
  end)
end)

t.test("timer.loop.no-drift: lateness of one beat does not move the next", function()
  -- The first beat is held up by half a period.  Without drift the second comes half a period later, with drift a whole one.
  t.eventually(function()
    local times = {}
    local start = timer.now()
    local id = timer.loop(0.04, 0.04, function() times[#times + 1] = timer.now() - start end)
    while timer.now() - start < 0.06 do end
    t.await(function() return #times >= 2 end)
    timer.close(id)
    t.ok(times[2] >= 0.08 - 1e-6, "the second beat is early: " .. times[2])
    t.ok(times[2] < 0.095, "the second beat was late: " .. times[2])
  end)
end)

---- Many --------------------------------------------------------------------------------------------------------------------

t.test("timer.many: a hundred thousand timers, each fires once and none early", function()
  local n, fired, early = t.scale(100000), 0, 0
  local now = timer.now
  for i = 1, n do
    local due = now() + (i * 7919 % 1000) / 5000
    timer.timeout(due - now(), function()
      fired = fired + 1
      if now() < due - 1e-6 then early = early + 1 end
    end)
  end
  t.await(function() return fired >= n end)
  t.eq(early, 0)
  t.settle()
  t.eq(fired, n)
end)

t.test("timer.many-closed: a hundred thousand armed and closed in any order leave nothing", function()
  local n, ids = t.scale(100000), {}
  local before = context.stats().timers
  for i = 1, n do ids[i] = timer.timeout(3600 + i % 100, nothing) end
  t.eq(context.stats().timers, before + n)
  for k = 0, 6 do
    for i = n - k, 1, -7 do t.ok(timer.close(ids[i]), "timer " .. i .. " was gone") end
  end
  t.eq(context.stats().timers, before)
end)

t.test("timer.many-contexts: timers of many contexts at once", function()
  local n, all = t.scale(100), {}
  for i = 1, n do
    all[i] = t.spawn [[
      for i = 1, 20 do
        local start = timer.now()
        timer.sleep(i % 4 / 1000)
        assert(timer.now() - start >= i % 4 / 1000 - 1e-6)
      end
    ]]
  end
  for i = 1, n do t.returns({ true, 0, "exit" }, context.wait(all[i], 60)) end
end)

t.done()

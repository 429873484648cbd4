-- context.send, recv and the mailbox: what is delivered, to whom, and in which order.
local t = require "t"
local errno = context.errno

-- A context that sends its parent what it is told to: tell(h, a, b…) makes it send a, b….
local PARROT = [[
  context.recv(context.parent, function(ok, data, from, session, handle, ...)
    if not ok then context.recv(context.parent, nil) return end
    assert(context.send(context.parent, data, ...))
    if session >= 0 then context.reply(from, session, true) end
  end)
]]
-- Returns when the message is on its way: the mailbox of this context has it.
local function tell(h, ...) t.eq(t.good(context.timed_query(h, 20, ...)), true) end

---- send and recv -----------------------------------------------------------------------------------------------------------

t.test("context.send.results: true; to oneself, too", function()
  t.returns({ true }, context.send(context.self, "self"))
  t.returns({ true, "self", context.self, -1 }, context.recv(0))
end)

t.test("context.recv.values: data, sender, session -1 for a plain send, then the other values", function()
  local h = t.spawn "context.send(context.parent, 1, 'two', nil, { 4 }, nil)"
  t.returns({ true, 1, h, -1, "two", nil, { 4 }, nil, n = 8 }, context.recv(0, 20))
end)

t.test("context.recv.session: a query comes with a session from 0 up, each with its own", function()
  local h = t.spawn "for i = 1, 3 do context.query(context.parent, i, function() end) end"
  local seen = {}
  for i = 1, 3 do
    local data, from, session = t.good(context.recv(h, 20))
    t.eq(data, i)
    t.eq(from, h)
    t.ok(session >= 0 and session == math.floor(session), "session " .. tostring(session))
    t.eq(seen[session], nil)
    seen[session] = true
    t.good(context.reply(from, session, true))
  end
end)

t.test("context.recv.callback: gets result, data, sender, session, the handle as given, the other values", function()
  local h = t.spawn(PARROT)
  local calls, record = t.recorder()
  context.recv(0, record)
  tell(h, "a", nil, "c")
  t.returns({ true, "a", h, -1, 0, nil, "c", n = 7 }, unpack(calls:wait(1), 1, 7))
  t.eq(calls[1].n, 7)
  context.recv(0, nil)
  context.recv(h, record)
  tell(h, "b")
  t.returns({ true, "b", h, -1, h }, unpack(calls:wait(2), 1, 5))
  context.recv(h, nil)
end)

t.test("context.recv.timeout: ETIMEOUT, never early; 0 and less only look", function()
  local start = timer.now()
  t.fails("ETIMEOUT", context.recv(0, 0.03))
  t.not_early(start, 0.03)
  t.fails("ETIMEOUT", context.recv(context.self, 0))
  t.fails("ETIMEOUT", context.recv(0, -5))
  context.send(context.self, "there")
  t.settle()
  t.eq(t.good(context.recv(0, 0)), "there")
end)

t.test("context.recv.timeout-loses-nothing: what comes after a time-out is there for the next", function()
  local h = t.spawn(PARROT)
  t.fails("ETIMEOUT", context.recv(h, 0.001))
  tell(h, "later")
  t.eq(t.good(context.recv(h, 20)), "later")
end)

t.test("context.recv.mailbox: a message that nobody receives yet waits", function()
  local h = t.spawn(PARROT)
  for i = 1, 10 do tell(h, i) end
  for i = 1, 10 do
    t.eq(t.good(context.recv(h, 0)), i)
    timer.sleep(0)
  end
  t.fails("ETIMEOUT", context.recv(h, 0))
end)

t.test("context.recv.busy: nothing is dropped while the receiver is busy between two recv", function()
  local n = t.scale(2000)
  local h = t.spawn("for i = 1, (...) do context.send(context.parent, i) end", n)
  for i = 1, n do
    t.eq(t.good(context.recv(h, 20)), i)
    if i % 100 == 0 then timer.sleep(0) end
  end
end)

t.test("context.recv.selective: recv(h) takes the oldest of that sender and leaves the others", function()
  local a, b = t.spawn(PARROT), t.spawn(PARROT)
  tell(a, "a1")
  tell(b, "b1")
  tell(a, "a2")
  tell(b, "b2")
  t.eq(t.good(context.recv(b, 20)), "b1")
  t.eq(t.good(context.recv(b, 20)), "b2")
  t.eq(t.good(context.recv(0, 20)), "a1")
  t.eq(t.good(context.recv(a, 20)), "a2")
end)

t.test("context.recv.ended: recv(h) ends with ENOCONTEXT once h has ended and its messages are used up", function()
  local h = t.spawn "context.send(context.parent, 1) context.send(context.parent, 2)"
  t.good(context.wait(h, 20))
  t.eq(t.good(context.recv(h)), 1)
  t.eq(t.good(context.recv(h)), 2)
  t.fails("ENOCONTEXT", context.recv(h))
  h = t.spawn "timer.sleep(0.02)"
  t.fails("ENOCONTEXT", context.recv(h)) -- while it waits already
  h = t.spawn "context.recv(0)"
  local waiting = t.async(context.recv, h)
  t.settle()
  context.destroy(h)
  t.fails("ENOCONTEXT", unpack(waiting.wait()))
end)

t.test("context.recv.ended-others: the end of one sender does not touch recv(0) or other senders", function()
  local calls, record = t.recorder()
  local a, b = t.spawn "return", t.spawn(PARROT)
  local any, from_b = t.async(context.recv, 0, 20), t.async(context.recv, b, 20)
  t.good(context.wait(a, 20))
  t.settle()
  t.eq(any.done() or from_b.done(), false)
  tell(b, "one")
  t.eq(from_b.wait()[2], "one")
  tell(b, "two")
  t.eq(any.wait()[2], "two")
end)

---- Who gets it: coroutine in recv(from), callback of recv(from), coroutine in recv(0), callback of recv(0) -----------------

t.test("context.recv.priority: delivery tries the four kinds of receivers in the order of the contract", function()
  local h = t.spawn(PARROT)
  local from_callback, record_from = t.recorder()
  local any_callback, record_any = t.recorder()
  -- Armed in the opposite order, so that age does not decide.
  context.recv(0, record_any)
  local any = t.async(context.recv, 0, 20)
  t.settle()
  context.recv(h, record_from)
  local from = t.async(context.recv, h, 20)
  t.settle()
  tell(h, "first")
  t.eq(from.wait()[2], "first")
  tell(h, "second")
  t.eq(from_callback:wait(1)[2], "second")
  context.recv(h, nil)
  tell(h, "third")
  t.eq(any.wait()[2], "third")
  tell(h, "fourth")
  t.eq(any_callback:wait(1)[2], "fourth")
  t.eq(#from_callback, 1)
  context.recv(0, nil)
end)

t.test("context.recv.priority-others: receivers of another sender are never served", function()
  local h, other = t.spawn(PARROT), t.spawn(PARROT)
  local wrong, record_wrong = t.recorder()
  context.recv(other, record_wrong)
  local parked = t.async(context.recv, other, 20)
  tell(h, "for anyone")
  t.eq(t.good(context.recv(0, 20)), "for anyone")
  t.eq(#wrong, 0)
  t.eq(parked.done(), false)
  tell(other, "at last")
  t.eq(parked.wait()[2], "at last")
  context.recv(other, nil)
end)

t.test("context.recv.oldest-first: of several coroutines that wait for the same, the first to come is served first", function()
  local h = t.spawn(PARROT)
  for _, handle in ipairs { 0, h } do
    local waiting = {}
    for i = 1, 5 do
      waiting[i] = t.async(context.recv, handle, 20)
      t.settle(0.002)
    end
    for i = 1, 5 do tell(h, i) end
    for i = 1, 5 do t.eq(waiting[i].wait()[2], i) end
  end
end)

t.test("context.recv.waiting-messages: a callback gets the messages that wait already, in order, not before it is armed", function()
  local h = t.spawn(PARROT)
  for i = 1, 3 do tell(h, i) end
  local calls, record = t.recorder()
  t.returns({ true }, context.recv(0, record))
  t.eq(#calls, 0)
  calls:wait(3)
  for i = 1, 3 do t.eq(calls[i][2], i) end
  context.recv(0, nil)
end)

t.test("context.recv.backlog: who receives from one context pays nothing for the messages of others that wait", function()
  local n = t.scale(150000) -- minutes, where each recv looks through all that wait
  local source = [[
    context.recv(context.parent)
    for i = 1, (...) do context.send(context.parent, i) end
    context.recv(context.parent)
  ]]
  local few = {}
  local a, b = t.spawn(source, n), t.spawn(source, n)
  for i = 1, 200 do few[i] = t.spawn(source, 1) end
  for i, h in ipairs { a, b, unpack(few) } do
    context.send(h, "go")
    if i < 3 then t.await(function() return context.stats().mailbox == i * n end, "the messages") end
  end
  t.await(function() return context.stats().mailbox == 2 * n + 200 end, "the messages of all")
  for i = 200, 1, -1 do t.eq(t.good(context.recv(few[i], 0)), 1) end
  for i = 1, n do t.eq(t.good(context.recv(b, 0)), i) end
  for i = 1, n do t.eq(t.good(context.recv(0, 0)), i) end
  t.await(function() return context.stats().mailbox == 0 end, "an empty mailbox")
end)

t.test("context.recv.model: recv(0), recv(h) and callbacks take from what waits as a list of all would", function()
  local rng, parrots, model = 1, {}, {}
  local function random(n)
    rng = rng * 16807 % 2147483647
    return rng % n + 1
  end
  local function take(from)
    for i, m in ipairs(model) do
      if not from or m[2] == from then return table.remove(model, i) end
    end
  end
  for i = 1, 6 do parrots[i] = t.spawn(PARROT) end
  for round = 1, t.scale(40) do
    for i = 1, random(round % 10 == 0 and 300 or 20) do
      local h = parrots[random(random(6))]
      tell(h, round * 1000 + i)
      model[#model + 1] = { round * 1000 + i, h }
    end
    t.await(function() return context.stats().mailbox == #model end, "the messages") -- for a moment the runtime's own count too
    for _ = 1, random(#model + 10) do
      local h = parrots[random(6)]
      local from = random(3) == 1 and h or nil
      local want = take(from)
      if not want then
        t.fails("ETIMEOUT", context.recv(from or 0, 0))
      else
        t.returns({ true, want[1], want[2], -1 }, context.recv(from or 0, 0))
      end
    end
    if round % 4 == 0 then
      local h, got, want = parrots[random(6)], {}, {}
      repeat
        local m = take(h)
        want[#want + 1] = m and m[1]
      until not m
      context.recv(h, function(_, value) got[#got + 1] = value end)
      t.await(function() return #got == #want end, "the callback")
      context.recv(h, nil)
      t.same(got, want)
    end
  end
  for _, m in ipairs(model) do t.eq(t.good(context.recv(0, 0)), m[1]) end
end)

t.test("context.recv.given-up: a coroutine whose recv timed out takes nothing any more", function()
  local h = t.spawn(PARROT)
  local early = t.async(context.recv, 0, 0.005)
  local patient = t.async(context.recv, 0, 20)
  t.fails("ETIMEOUT", unpack(early.wait()))
  tell(h, "for the patient")
  t.eq(patient.wait()[2], "for the patient")
end)

---- Order -------------------------------------------------------------------------------------------------------------------

t.test("context.order.per-sender: messages from one context to another arrive in the order sent", function()
  local n, senders = t.scale(3000), {}
  for i = 1, 4 do
    senders[i] = t.spawn([[
      for i = 1, (...) do
        if i % 10 == 0 then context.query(context.parent, i, function() end) else context.send(context.parent, i) end
        if i % 97 == 0 then timer.sleep(0) end
      end
    ]], n)
  end
  local last = {}
  for _ = 1, 4 * n do
    local value, from, session = t.good(context.recv(0, 60))
    t.eq(value, (last[from] or 0) + 1)
    last[from] = value
    if session >= 0 then context.reply(from, session, true) end
  end
  for i = 1, 4 do t.eq(last[senders[i]], n) end
end)

t.test("context.order.callbacks: callbacks are begun in the order of the messages", function()
  local n, calls, record = t.scale(1000), t.recorder()
  local h = t.spawn("for i = 1, (...) do context.send(context.parent, i) end", n)
  context.recv(h, record)
  calls:wait(n)
  for i = 1, n do t.eq(calls[i][2], i) end
  calls:wait(n + 1) -- ENOCONTEXT
end)

t.test("context.order.waiting: a new callback gets what waits already before what comes in meanwhile, and before the end", function()
  local n = 300
  for _, handle in ipairs { "the sender", 0 } do
    local h = t.spawn([[
      for i = 1, 100 do context.send(context.parent, i) end
      context.recv(context.parent)
      for i = 101, (...) do context.send(context.parent, i) end
    ]], n)
    t.await(function() return context.stats().mailbox == 100 end)
    local calls, record = t.recorder()
    context.recv(handle == 0 and 0 or h, record)
    context.send(h, "go on")
    local ended = t.async(context.wait, h, 20)
    repeat until context.stats().mailbox >= n or t.workers == 1 -- all of it, while no callback can run
    calls:wait(n)
    for i = 1, n do t.eq(calls[i][2], i) end
    t.eq(ended.wait()[1], true)
    if handle == 0 then context.recv(0, nil) else t.eq(calls:wait(n + 1)[2], errno.ENOCONTEXT) end
  end
end)

t.test("context.recv.reserved: of many coroutines that find messages waiting each gets its own, first come, first served", function()
  local n, got = t.scale(20000), {}
  for i = 1, n do context.send(context.self, i) end
  t.await(function() return context.stats().mailbox == n end)
  timer.sleep(0) -- they are out of the mailbox
  for i = 1, n do
    context.run(function()
      local value = t.good(context.recv(0, 20))
      got[i] = value
    end)
  end
  t.await(function() return #got == n end)
  for i = 1, n do t.eq(got[i], i) end
end)

t.test("context.order.send-then-end: what was sent before the end arrives before the end is seen", function()
  for _ = 1, 50 do
    local h = t.spawn "for i = 1, 3 do context.send(context.parent, i) end"
    t.good(context.wait(h, 20))
    for i = 1, 3 do t.eq(t.good(context.recv(h, 0)), i) end
  end
end)

---- A sender that is faster than its receiver ---------------------------------------------------------------------------------

-- Calls `flood` in the way HOW says; a callback is due all the time.
local FLOOD = [[
  local n = ...
  local to, timers = context.parent, 0
  timer.loop(0, 0.001, function() timers = timers + 1 end)
  local before = timers
  local function flood() for i = 1, n do assert(context.send(to, i) == true) end end
  HOW
  assert(timers == before, "a callback ran in between")
  context.destroy()
]]
local function flood(how)
  local n = t.scale(20000)
  local h = t.spawn((FLOOD:gsub("HOW", how)), n)
  for i = 1, n do t.eq(t.good(context.recv(h, 60)), i) end
end

t.test("context.flood.order: it gives way, and nothing else of its context runs meanwhile", function() flood "flood()" end)

t.test("context.flood.pcall: the same inside of pcall", function() flood "assert(pcall(flood))" end)

t.test("context.flood.nested: and where it cannot give way: in a coroutine of the script, in a comparator", function()
  flood "coroutine.wrap(flood)()"
  flood "local _ = ('x'):gsub('x', flood)"
end)

t.test("context.flood.destroy: one that floods for ever can be destroyed", function()
  local sink = t.spawn "context.recv(0, function() end)"
  local h = t.spawn("local to = ... while true do context.send(to, 1) end", sink)
  timer.sleep(0.05)
  t.good(context.destroy(h))
  t.good(context.wait(h, 60))
  t.good(context.destroy(sink))
  t.good(context.wait(sink, 60))
end)

---- Crowds ------------------------------------------------------------------------------------------------------------------

t.test("context.crowd.ring: a token goes round a ring of contexts", function()
  local n, all = 100, {}
  local source = [[
    local _, next = context.recv(context.parent)
    context.recv(0, function(_, hops, _, session)
      if hops == "end" then context.recv(0, nil)
      elseif hops == 0 then context.send(context.parent, "done")
      else context.send(next, hops - 1) end
    end)
  ]]
  source = source:gsub("context%.parent", "PARENT")
  for i = 1, n do all[i] = t.spawn("local PARENT = ... " .. source, context.self) end
  for i = 1, n do context.send(all[i], all[i % n + 1]) end
  context.send(all[1], t.scale(5000))
  t.eq(t.good(context.recv(0, 60)), "done")
  for i = 1, n do context.send(all[i], "end") end
  for i = 1, n do t.good(context.wait(all[i], 20)) end
end)

t.test("context.crowd.fan: many to one and one to many at once, nothing lost and nothing twice", function()
  local contexts, rounds = 40, t.scale(50)
  local source = [[
    local rounds = ...
    for i = 1, rounds do
      local ok, v = context.query(context.parent, i)
      assert(ok and v == -i)
      local _, pushed = context.recv(context.parent)
      assert(pushed == i)
    end
  ]]
  local all = {}
  for i = 1, contexts do all[i] = t.spawn(source, rounds) end
  for _ = 1, contexts * rounds do
    local v, from, session = t.good(context.recv(0, 60))
    t.good(context.reply(from, session, -v))
    t.good(context.send(from, v))
  end
  for i = 1, contexts do t.returns({ true, 0, "exit" }, context.wait(all[i], 60)) end
end)

t.done()

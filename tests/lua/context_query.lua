-- context.query, timed_query and reply.
local t = require "t"
local errno = context.errno

local ECHO = "context.recv(0, function(ok, data, from, session, _, ...) context.reply(from, session, data, ...) end)"

-- Answers the n-th query it gets with n, after as many seconds as the query says.
local LATE = [[
  local n = 0
  context.recv(0, function(ok, seconds, from, session)
    n = n + 1
    local mine = n
    timer.sleep(seconds)
    context.reply(from, session, mine)
  end)
]]

t.test("context.query.value: true and the reply's value", function()
  local h = t.spawn(ECHO)
  for _, v in ipairs { 1, "text", false, { a = { 1, 2 } } } do t.same(t.good(context.query(h, v)), v) end
  local ok, v = context.query(h, nil)
  t.eq(ok, true)
  t.eq(v, nil)
end)

t.test("context.query.one-value: of a reply's several values query gives the first; timed_query gives all", function()
  local h = t.spawn "context.recv(0, function(_, _, from, session) context.reply(from, session, 'first', 'second') end)"
  t.returns({ true, "first" }, context.query(h, "q", 20))
  t.returns({ true, "first", "second" }, context.timed_query(h, 20, "q"))
  local calls, record = t.recorder()
  context.query(h, "q", 20, record)
  t.returns({ true, "first", h, "q", 20 }, unpack(calls:wait(), 1, calls[1].n))
end)

t.test("context.query.optional: the time-out may be nil, left out, or given", function()
  local h = t.spawn(ECHO)
  t.eq(t.good(context.query(h, 1, nil)), 1)
  t.eq(t.good(context.query(h, 2, 20)), 2)
  t.eq(t.good(context.query(h, 3, 20, nil)), 3)
  t.eq(t.good(context.timed_query(h, nil, 4)), 4)
  t.eq(t.good(context.timed_query(h, 20, 5)), 5)
end)

t.test("context.timed_query.values: carries several values there and back, nils included", function()
  local h = t.spawn(ECHO)
  t.returns({ true, 1, nil, "three", n = 4 }, context.timed_query(h, 20, 1, nil, "three"))
  t.returns({ true, nil, nil, n = 3 }, context.timed_query(h, nil, nil, nil))
end)

t.test("context.timed_query.callback: the callback gets the result and all values", function()
  local h = t.spawn(ECHO)
  local calls, record = t.recorder()
  t.returns({ true }, context.timed_query(h, nil, "a", nil, "c", record))
  t.returns({ true, "a", nil, "c", n = 4 }, unpack(calls:wait(), 1, calls[1].n))
end)

t.test("context.query.oneself: one may query oneself", function()
  context.recv(context.self, function(_, data, from, session) context.reply(from, session, data .. "!") end)
  t.returns({ true, "echo!" }, context.query(context.self, "echo", 20))
  context.recv(context.self, nil)
end)

t.test("context.query.timeout: ETIMEOUT, never early", function()
  local h = t.spawn "context.recv(0, function() end)"
  local start = timer.now()
  t.fails("ETIMEOUT", context.query(h, 1, 0.03))
  t.not_early(start, 0.03)
  start = timer.now()
  t.fails("ETIMEOUT", context.timed_query(h, 0.03, 1, 2))
  t.not_early(start, 0.03)
  t.fails("ETIMEOUT", context.query(h, 1, -1))
end)

t.test("context.query.late-reply: a reply after the time-out is dropped, never given to another query", function()
  local h = t.spawn(LATE)
  t.fails("ETIMEOUT", context.query(h, 0.04, 0.001))
  -- The second query is pending when the answer to the first comes.
  t.returns({ true, 2 }, context.query(h, 0.08, 20))
  t.returns({ true, 3 }, context.timed_query(h, nil, 0))
  t.fails("ETIMEOUT", context.recv(0, 0)) -- nor is it a message
end)

t.test("context.query.many: many at once, each gets its own answer, in whatever order they come", function()
  local h = t.spawn "context.recv(0, function(_, d, from, s) timer.sleep(d) context.reply(from, s, d) end)"
  local calls = {}
  for i = 1, 30 do calls[i] = t.async(context.query, h, (31 - i) / 1000, 20) end
  for i = 1, 30 do t.returns({ true, (31 - i) / 1000 }, unpack(calls[i].wait())) end
end)

t.test("context.reply.later: any coroutine may reply, later too, and in any order", function()
  local h = t.spawn [[
    local open = {}
    for i = 1, 3 do
      local _, data, from, session = context.recv(0)
      open[i] = function() assert(context.reply(from, session, data * 10) == true) end
    end
    for i = 3, 1, -1 do timer.timeout(0.001 * i, function() coroutine.wrap(open[i])() end) end
  ]]
  local calls = {}
  for i = 1, 3 do calls[i] = t.async(context.query, h, i, 20) end
  for i = 1, 3 do t.returns({ true, i * 10 }, unpack(calls[i].wait())) end
end)

t.test("context.reply.twice: a second reply to the same session reaches nobody", function()
  local h = t.spawn [[
    local _, _, from, session = context.recv(0)
    context.reply(from, session, "first")
    context.reply(from, session, "second")
    local _, _, from2, session2 = context.recv(0)
    context.reply(from, session, "third")
    context.reply(from2, session2, "own")
  ]]
  t.returns({ true, "first" }, context.query(h, 1, 20))
  t.returns({ true, "own" }, context.query(h, 2, 20))
  t.fails("ETIMEOUT", context.recv(0, 0))
end)

t.test("context.reply.gone: to an asker that has ended is false, ENOCONTEXT", function()
  local asker = t.spawn("context.query((...), 'q', function() end) context.destroy()", context.self)
  local _, from, session = t.good(context.recv(0, 20))
  t.eq(from, asker)
  t.good(context.wait(asker, 20))
  t.fails("ENOCONTEXT", context.reply(from, session, 1))
end)

t.test("context.query.buffer: query and reply may carry buffers", function()
  local h = t.spawn(ECHO)
  local got = t.good(context.query(h, buffer.new "payload"))
  t.eq(buffer.tostring(got), "payload")
end)

t.test("context.query.fails-later: a receiver that fails in its callback does not answer, and lives on", function()
  local h = t.spawn [[
    context.recv(0, function(_, data, from, session)
      if data == "skip" then return end
      context.reply(from, session, "answer")
    end)
  ]]
  t.fails("ETIMEOUT", context.query(h, "skip", 0.01))
  t.returns({ true, "answer" }, context.query(h, "again", 20))
end)

t.test("context.query.mutual: two contexts that query each other do not stand in each other's way", function()
  local h = t.spawn [[
    context.recv(0, function(_, n, from, session)
      if n == 0 then context.reply(from, session, 0) return end
      local _, below = context.query(from, n - 1)
      context.reply(from, session, below + n)
    end)
  ]]
  context.recv(h, function(_, n, from, session)
    if n == 0 then context.reply(from, session, 0) return end
    context.reply(from, session, n + t.good(context.query(from, n - 1)))
  end)
  t.returns({ true, 50 * 51 / 2 }, context.query(h, 50, 20))
  context.recv(h, nil)
end)

t.test("context.query.race: replies race with time-outs; each query has exactly one result", function()
  local h = t.spawn(LATE)
  local n, answered, late = t.scale(300), 0, 0
  for i = 1, n do
    context.query(h, 0.0005 * (i % 7), 0.0005 * (i % 5), function(ok, v)
      if ok then answered = answered + 1
      else
        t.eq(v, errno.ETIMEOUT)
        late = late + 1
      end
    end)
  end
  t.await(function() return answered + late >= n end)
  t.settle()
  t.eq(answered + late, n)
end)

t.done()

-- The callback form: once and continuous callbacks, their arguments, and that no call is answered before it has returned.
local t = require "t"
local errno = context.errno

local ECHO = "context.recv(0, function(ok, data, from, session) context.reply(from, session, data) end)"

-- Every once operation with the arguments its callback has to be given.  `start(callback)` calls it.
local function once_operations()
  local listener, port = t.listen()
  local echo, brief = t.spawn(ECHO), t.spawn "timer.sleep(0.005)"
  local a = t.pair()
  local data, request = buffer.new "data", { "request" }
  local any = {} -- stands for a result that only has to be there
  local path, other = t.local_name "once", t.local_name "other"
  t.defer(tcp.close, t.good(tcp.listens(other)))
  return {
    { "tcp.listen", function(cb) return tcp.listen("127.0.0.1", 0, cb) end, { true, any, "127.0.0.1", 0 } },
    { "tcp.listen-backlog", function(cb) return tcp.listen("127.0.0.1", 0, 7, cb) end, { true, any, "127.0.0.1", 0, 7 } },
    { "tcp.listens", function(cb) return tcp.listens(path, cb) end, { true, any, path } },
    { "tcp.connect", function(cb) return tcp.connect("127.0.0.1", port, cb) end, { true, any, "127.0.0.1", port } },
    { "tcp.connect-nil", function(cb) return tcp.connect("127.0.0.1", port, nil, cb) end, { true, any, "127.0.0.1", port } },
    { "tcp.connect-time", function(cb) return tcp.connect("localhost", port, 9, cb) end, { true, any, "localhost", port, 9 } },
    { "tcp.connects", function(cb) return tcp.connects(other, cb) end, { true, any, other } },
    { "tcp.write", function(cb) return tcp.write(a, data, cb) end, { true, 0, a, data } },
    { "context.query", function(cb) return context.query(echo, request, cb) end, { true, any, echo, request } },
    { "context.query-nil", function(cb) return context.query(echo, 5, nil, cb) end, { true, 5, echo, 5 } },
    { "context.query-time", function(cb) return context.query(echo, 5, 9, cb) end, { true, 5, echo, 5, 9 } },
    { "context.timed_query", function(cb) return context.timed_query(echo, nil, 5, 6, cb) end, { true, 5 } },
    { "context.wait", function(cb) return context.wait(brief, cb) end, { true, 0, brief } },
    { "context.wait-time", function(cb) return context.wait(brief, 9, cb) end, { true, 0, brief, 9 } },
  }, any
end

t.test("rules.callback.once: returns true at once, calls later, once, with the call's arguments as given", function()
  local operations, any = once_operations()
  local records = {}
  for i, operation in ipairs(operations) do
    local name, start = unpack(operation)
    local calls, record = t.recorder()
    local returned = false
    records[i] = calls
    t.returns({ true }, start(function(...)
      t.ok(returned, name .. " called back before it returned")
      record(...)
    end))
    t.eq(#calls, 0, name)
    returned = true
  end
  for i, operation in ipairs(operations) do
    local name, _, want = unpack(operation)
    local got = records[i]:wait()
    for k = 1, math.max(#want, got.n) do
      if want[k] ~= any then t.ok(got[k] == want[k], name .. " argument " .. k .. " is " .. t.show(got[k])) end
    end
  end
  t.settle()
  for i, operation in ipairs(operations) do t.eq(#records[i], 1, operation[1] .. " calls") end
end)

t.test("rules.callback.failure: an immediate failure, too, reaches the callback only", function()
  local _, port = t.listen()
  local dead, closed_port = t.dead_handle(), t.closed_port()
  local s = t.pair()
  local l = t.listen()
  tcp.close(s)
  tcp.close(l)
  local missing = t.local_name "missing"
  for name, case in pairs {
    listen = {
      function(cb) return tcp.listen("127.0.0.1", port, cb) end, { false, errno.EADDRINUSE, "127.0.0.1", port },
    },
    connect = {
      function(cb) return tcp.connect("127.0.0.1", closed_port, 5, cb) end,
      { false, errno.ECONNREFUSED, "127.0.0.1", closed_port, 5 },
    },
    connects = { function(cb) return tcp.connects(missing, cb) end, { false, errno.ENOENT, missing } },
    write = { function(cb) return tcp.write(s, "x", cb) end, { false, errno.ETCPSCLOSED, s, "x" } },
    read = { function(cb) return tcp.read(s, cb) end, { false, errno.ETCPSCLOSED, s } },
    accept = { function(cb) return tcp.accept(l, cb) end, { false, errno.ETCPLCLOSED, l } },
    query = { function(cb) return context.query(dead, "q", 3, cb) end, { false, errno.ENOCONTEXT, dead, "q", 3 } },
    name = { function(cb) return context.query("nobody", "q", cb) end, { false, errno.ENOCONTEXT, "nobody", "q" } },
    timed_query = { function(cb) return context.timed_query(dead, 1, "q", cb) end, { false, errno.ENOCONTEXT } },
    wait = { function(cb) return context.wait("nobody", cb) end, { false, errno.ENOCONTEXT, "nobody" } },
    recv = { function(cb) return context.recv(dead, cb) end, { false, errno.ENOCONTEXT, nil, nil, dead } },
  } do
    local start, want = unpack(case)
    local calls, record = t.recorder()
    t.returns({ true }, start(record))
    t.eq(#calls, 0, name .. " called back before it returned")
    local got = calls:wait()
    for k = 1, name == "recv" and 5 or #want do
      -- recv: the message's own places (3, 4) stay open on failure.
      if not (name == "recv" and (k == 3 or k == 4)) then t.ok(got[k] == want[k], name .. " gives " .. t.show(got)) end
    end
    t.settle(0.005)
    t.eq(#calls, 1, name .. " calls")
  end
end)

t.test("rules.callback.timeout: so does a time-out", function()
  local silent = t.spawn "context.recv(0, function() end)"
  local calls, record = t.recorder()
  t.returns({ true }, context.query(silent, "q", 0.01, record))
  t.returns({ false, errno.ETIMEOUT, silent, "q", 0.01 }, unpack(calls:wait(1)))
  t.returns({ true }, context.wait(silent, 0.01, record))
  t.returns({ false, errno.ETIMEOUT, silent, 0.01 }, unpack(calls:wait(2)))
  t.returns({ true }, context.timed_query(silent, 0.01, "q", record))
  local got = calls:wait(3)
  t.same({ got[1], got[2] }, { false, errno.ETIMEOUT })
end)

t.test("rules.callback.not-before-yield: no callback runs while something of its context runs", function()
  local fired = 0
  local function count() fired = fired + 1 end
  local a, b = t.pair()
  tcp.write(b, "x")
  t.settle()
  timer.timeout(0, count)
  context.run(count)
  tcp.read(a, count)
  context.recv(0, count)
  context.send(context.self, "x")
  local start = timer.now()
  while timer.now() - start < 0.02 do end
  t.eq(fired, 0)
  t.await(function() return fired == 4 end)
  context.recv(0, nil)
  tcp.read(a, nil)
end)

---- Continuous callbacks --------------------------------------------------------------------------------------------------

t.test("rules.callback.continuous: fires for every event", function()
  local calls, record = t.recorder()
  t.returns({ true }, context.recv(0, record))
  for i = 1, 50 do context.send(context.self, i) end
  calls:wait(50)
  for i = 1, 50 do t.eq(calls[i][2], i) end
  t.returns({ true }, context.recv(0, nil))
end)

t.test("rules.callback.replace: another function takes its place", function()
  local first, record_first = t.recorder()
  local second, record_second = t.recorder()
  context.recv(0, record_first)
  context.send(context.self, 1)
  first:wait(1)
  context.recv(0, record_second)
  context.send(context.self, 2)
  t.eq(second:wait(1)[2], 2)
  t.eq(#first, 1)
  context.recv(0, nil)
end)

t.test("rules.callback.replace-inside: also from inside the callback, for the events that already wait", function()
  local second, record_second = t.recorder()
  local first = 0
  for i = 1, 3 do context.send(context.self, i) end
  context.recv(0, function()
    first = first + 1
    context.recv(0, record_second)
  end)
  second:wait(2)
  t.eq(first, 1)
  t.eq(second[1][2], 2)
  t.eq(second[2][2], 3)
  context.recv(0, nil)
end)

t.test("rules.callback.remove: nil in its place removes it; what comes then waits for the next receiver", function()
  local calls, record = t.recorder()
  context.recv(0, function(...)
    record(...)
    context.recv(0, nil)
  end)
  for i = 1, 3 do context.send(context.self, i) end
  calls:wait(1)
  t.settle()
  t.eq(#calls, 1)
  t.eq(t.good(context.recv(0, 5)), 2)
  t.eq(t.good(context.recv(0, 5)), 3)
end)

t.test("rules.callback.remove-none: false removes, and is harmless where there is none", function()
  local a = t.pair()
  local listener = t.listen()
  for _ = 1, 2 do
    t.returns({ true }, context.recv(0, false))
    t.returns({ true }, context.recv(context.self, false))
    t.returns({ true }, tcp.read(a, false))
    t.returns({ true }, tcp.accept(listener, false))
    local function never() error("it was removed") end
    context.recv(0, never)
    context.recv(context.self, never)
    tcp.read(a, never)
    tcp.accept(listener, never)
  end
  context.recv(0, false) context.recv(context.self, false) tcp.read(a, false) tcp.accept(listener, false)
  for _, f in ipairs { function() context.recv(0, true) end, function() tcp.read(a, true) end, function() tcp.accept(listener, true) end } do
    t.ok(not pcall(f), "true is no callback")
  end
end)

t.test("rules.callback.nil-blocks: an explicit nil where no callback is armed counts as left out", function()
  local a, b = t.pair()
  local listener = t.listen()
  local options = {}
  context.run(function()
    context.send(context.self, "one")
    tcp.write(b, "2")
    tcp.connect("127.0.0.1", tcp.local_port(listener), function(_, s) tcp.close(s) end)
  end)
  local _, word = context.recv(context.self, options.timeout)
  t.eq(word, "one")
  local _, bytes = tcp.read(a, options.timeout)
  t.eq(tostring(bytes), "2")
  local ok, s = tcp.accept(listener, options.timeout)
  t.ok(ok)
  tcp.close(s)
  t.returns({ false, context.errno.ENOCONTEXT }, context.recv("nobody of that name", nil))
end)

t.test("rules.callback.terminal-once: a terminal error comes once and ends it", function()
  local a, b = t.pair()
  local reads, record_read = t.recorder()
  tcp.read(a, record_read)
  tcp.write(b, "!")
  tcp.close(b)
  local first = reads:wait(1)
  t.eq(first[1], true)
  t.eq(tostring(first[2]), "!")
  t.returns({ false, errno.EEOF, a }, unpack(reads:wait(2)))
  local recvs, record_recv = t.recorder()
  local h = t.spawn "context.send(context.parent, 'bye')"
  context.recv(h, record_recv)
  recvs:wait(2)
  t.returns({ true, "bye", h, -1, h }, unpack(recvs[1]))
  t.same({ recvs[2][1], recvs[2][2], recvs[2][5] }, { false, errno.ENOCONTEXT, h })
  t.settle()
  t.eq(#reads, 2)
  t.eq(#recvs, 2)
end)

t.test("rules.callback.coroutine: each call has a coroutine of its own and may block", function()
  -- The first call waits inside itself for what only the second brings.
  local order, second_came = {}, false
  context.recv(0, function(_, n)
    order[#order + 1] = "start " .. n
    if n == 1 then t.await(function() return second_came end) end
    second_came = true
    order[#order + 1] = "end " .. n
  end)
  context.send(context.self, 1)
  context.send(context.self, 2)
  t.await(function() return #order == 4 end)
  t.same(order, { "start 1", "start 2", "end 2", "end 1" })
  context.recv(0, nil)
end)

t.test("rules.callback.alone: callbacks never overlap with anything else of their context", function()
  -- One context, touched from callbacks of every kind: a counter that is read, spun upon, and written never loses a step.
  local steps, inside = 0, false
  local function step()
    t.eq(inside, false)
    inside = true
    local before = steps
    for _ = 1, 200 do end
    steps = before + 1
    inside = false
  end
  local a, b = t.pair()
  local n = t.scale(200)
  context.recv(0, step)
  tcp.set_rwopt(a, { read_head_bytes = 1 })
  tcp.set_rwopt(b, { write_head_bytes = 1 })
  tcp.read(a, step)
  for i = 1, n do
    context.send(context.self, i)
    tcp.write(b, "x")
    timer.timeout(0.0001 * i, step)
    context.run(step)
  end
  t.await(function() return steps >= 4 * n end)
  t.settle()
  t.eq(steps, 4 * n)
  context.recv(0, nil)
  tcp.read(a, nil)
end)

t.done()

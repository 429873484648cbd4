-- How contexts end by themselves, how one waits for it, and what is released.
local t = require "t"
local errno = context.errno

local function report(h) return (t.good(context.recv(h, 20))) end

---- Ending by itself --------------------------------------------------------------------------------------------------------

t.test("life.end.nothing: a context with nothing running, suspended or armed ends by itself", function()
  t.returns({ true, 0, "exit" }, context.wait(t.spawn "return", 20))
  t.returns({ true, 0, "exit" }, context.wait(t.spawn "timer.sleep(0.005)", 20))
  t.returns({ true, 0, "exit" }, context.wait(t.spawn "context.run(function() timer.sleep(0.005) end)", 20))
end)

t.test("life.end.socket-alone: an open socket with nobody waiting on it keeps nothing alive", function()
  local h = t.spawn [[
    local ok, listener = tcp.listen("127.0.0.1", 0)
    keep = { listener, select(2, tcp.connect("127.0.0.1", tcp.local_port(listener))), select(2, tcp.accept(listener)) }
    assert(#keep == 3)
  ]]
  t.returns({ true, 0, "exit" }, context.wait(h, 20))
end)

t.test("life.end.armed: an armed callback or timer keeps a context alive, and its end ends it", function()
  -- Each tells a port if it listens, and ends what it armed at the first event.
  for name, source in pairs {
    recv = "context.send(context.parent, 0) context.recv(0, function() context.recv(0, nil) end)",
    accept = [[
      local _, l = tcp.listen("127.0.0.1", 0)
      context.send(context.parent, tcp.local_port(l))
      tcp.accept(l, function() tcp.accept(l, nil) end)
    ]],
    read = [[
      local _, l = tcp.listen("127.0.0.1", 0)
      context.send(context.parent, tcp.local_port(l))
      local _, s = tcp.accept(l)
      tcp.read(s, function() end) -- until the end of the stream
    ]],
  } do
    local h = t.spawn(source)
    local port = report(h)
    local s = name == "read" and t.good(tcp.connect("127.0.0.1", port))
    local ok, err = context.wait(h, 0.03)
    t.ok(not ok and err == errno.ETIMEOUT, name .. " did not keep its context alive")
    if name == "recv" then
      context.send(h, "event")
    else
      tcp.close(s or t.good(tcp.connect("127.0.0.1", port)))
    end
    t.returns({ true, 0, "exit" }, context.wait(h, 20))
  end
end)

t.test("life.end.last-wait: a context ends with what it waited for last, and not before", function()
  for name, source in pairs {
    timeout = "timer.timeout(0.03, function() end)",
    loop = "local n, id = 0 id = timer.loop(0.03, 0.001, function() n = n + 1 if n == 3 then timer.close(id) end end)",
    sleeping = "timer.timeout(0, function() timer.sleep(0.03) end)",
    coroutine = "coroutine.wrap(function() timer.sleep(0.03) end)()",
    query = "context.query(context.self, 1, 0.03, function() end)",
    wait = "context.wait(context.parent, 0.03, function() end)",
  } do
    local start = timer.now()
    t.returns({ true, 0, "exit" }, context.wait(t.spawn(source), 20))
    local ok = pcall(t.not_early, start, 0.03)
    t.ok(ok, name .. " did not keep its context alive")
  end
end)

t.test("life.end.closed-timer: a timer that was closed keeps nothing alive", function()
  t.returns({ true, 0, "exit" }, context.wait(t.spawn "timer.close(timer.timeout(3600, print))", 20))
end)

t.test("life.end.replaced: nor does a callback that was replaced, once the one in its place is removed", function()
  t.returns({ true, 0, "exit" }, context.wait(t.spawn [[
    local _, l = tcp.listen("127.0.0.1", 0)
    local _, s = tcp.connect("127.0.0.1", tcp.local_port(l))
    for i = 1, 3 do
      tcp.accept(l, function() return i end)
      tcp.read(s, function() return i end)
      context.recv(0, function() return i end)
      context.recv(context.parent, function() return i end)
    end
    tcp.accept(l, nil)
    tcp.read(s, nil)
    context.recv(0, nil)
    context.recv(context.parent, nil)
  ]], 20))
end)

t.test("life.end.suspended: a suspended coroutine of the script's own keeps nothing alive", function()
  t.returns({ true, 0, "exit" }, context.wait(t.spawn [[
    co = coroutine.create(function() coroutine.yield() end)
    coroutine.resume(co)
  ]], 20))
end)

---- wait --------------------------------------------------------------------------------------------------------------------

t.test("context.wait.gone: true at once if the context is gone already", function()
  local h = t.dead_handle()
  local ok, zero = context.wait(h)
  t.eq(ok, true)
  t.eq(zero, 0)
  local calls, record = t.recorder()
  t.returns({ true }, context.wait(h, record))
  t.returns({ true, 0, h }, unpack(calls:wait(), 1, 3))
end)

t.test("context.wait.reason: the same whole text before the end, after it, and after others have come and gone", function()
  local long = "no longer needed\0" .. ("x"):rep(5000) .. "\n."
  local h = t.spawn "context.recv(0) timer.sleep(1e6)"
  local early = t.async(context.wait, h, 20)
  context.send(h, "now")
  context.destroy(h, long)
  t.returns({ true, 0, long }, unpack(early.wait(), 1, 3))
  t.returns({ true, 0, long }, context.wait(h))
  for _ = 1, 50 do
    local other = t.spawn "return"
    t.returns({ true, 0, "exit" }, context.wait(other, 20))
    local failed = t.spawn "context.destroy(context.self, 'another')"
    t.returns({ true, 0, "another" }, context.wait(failed, 20))
  end
  t.returns({ true, 0, long }, context.wait(h))
end)

t.test("context.wait.timeout: ETIMEOUT, never early; the context is not touched", function()
  local h = t.spawn "context.recv(0)"
  local start = timer.now()
  t.fails("ETIMEOUT", context.wait(h, 0.03))
  t.not_early(start, 0.03)
  t.fails("ETIMEOUT", context.wait(h, 0))
  t.fails("ETIMEOUT", context.wait(h, -1))
  context.send(h, "end")
  t.returns({ true, 0, "exit" }, context.wait(h, 20))
end)

t.test("context.wait.oneself: waiting for oneself raises", function()
  t.raises("", context.wait, context.self)
  t.raises("", context.wait, context.self, 1)
  t.raises("", context.wait, context.self, function() end)
  context.register "waits-for-itself"
  t.raises("", context.wait, "waits-for-itself")
end)

t.test("context.wait.many: any number may wait for one, from several contexts", function()
  local h = t.spawn "context.recv(0)"
  local waits = {}
  for i = 1, 5 do waits[i] = t.async(context.wait, h) end
  local other = t.spawn("context.send(context.parent, select(3, context.wait((...))))", h)
  t.settle()
  context.send(h, "end")
  for i = 1, 5 do t.returns({ true, 0, "exit" }, unpack(waits[i].wait())) end
  t.eq(report(other), "exit")
end)

t.test("context.wait.mutual: two may wait for each other until one is destroyed", function()
  local a = t.spawn "local h = select(2, context.recv(0)) context.wait(h)"
  local b = t.spawn("context.wait((...))", a)
  context.send(a, b)
  t.settle()
  context.destroy(a, "broken")
  t.returns({ true, 0, "broken" }, context.wait(a, 20))
  t.returns({ true, 0, "exit" }, context.wait(b, 20))
end)

---- destroy -----------------------------------------------------------------------------------------------------------------

t.test("context.destroy.other: true; the reason is the message given", function()
  local h = t.spawn "context.recv(0)"
  t.returns({ true }, context.destroy(h, "no longer needed"))
  t.returns({ true, 0, "no longer needed" }, context.wait(h, 20))
  h = t.spawn "context.recv(0)"
  t.returns({ true }, context.destroy(h))
  local ok, zero, reason = context.wait(h, 20)
  t.same({ ok, zero, type(reason) }, { true, 0, "string" })
end)

t.test("context.destroy.gone: false, ENOCONTEXT", function() t.fails("ENOCONTEXT", context.destroy(t.dead_handle(), "again")) end)

t.test("context.destroy.self: does not return, from wherever it is called", function()
  for name, source in pairs {
    main = "context.destroy()",
    handle = "context.destroy(context.self, 'bye')",
    callback = "timer.timeout(0, function() context.destroy() context.send(h, 'returned') end) timer.sleep(3600)",
    pcall = "pcall(context.destroy)",
    coroutine = "coroutine.wrap(function() pcall(function() context.destroy() end) context.send(h, 'returned') end)()",
    comparator = "table.sort({ 2, 1 }, function(a, b) context.destroy() context.send(h, 'returned') return a < b end)",
    handler = "xpcall(error, function() context.destroy() context.send(h, 'returned') end)",
    parked = "local f = coroutine.wrap(function() timer.sleep(0.001) error 'x' end)"
      .. " xpcall(f, function() context.destroy() context.send(h, 'returned') end)",
  } do
    local h = t.spawn("h = ... " .. source .. " context.send(h, 'returned')", context.self)
    local ok, zero, reason = context.wait(h, 20)
    t.same({ ok, zero }, { true, 0 }, name)
    if name == "handle" then t.eq(reason, "bye") end
    t.fails("ETIMEOUT", context.recv(0, 0))
  end
end)

t.test("context.destroy.no-more-lua: a destroyed context runs no further Lua", function()
  local marks, late = t.tmp .. "/marks", t.tmp .. "/late"
  local h = t.spawn([[
    local marks, late, parent = ...
    local function mark(file) local f = io.open(file, "a") f:write("x") f:close() end
    timer.timeout(0.05, marks, mark)
    context.recv(0, function() mark(late) end)
    context.run(function() timer.sleep(0.05) mark(marks) end)
    context.send(parent, "armed")
    pcall(timer.sleep, 0.05)
    mark(marks)
  ]], marks, late, context.self)
  report(h)
  context.destroy(h)
  context.send(h, "too late")
  t.good(context.wait(h, 20))
  os.remove(marks) -- on a busy machine the timers may have been due before the destroy
  timer.sleep(0.08)
  t.eq(io.open(marks), nil, "the file that the dead context would have made")
  t.eq(io.open(late), nil, "the file that a message behind the destroy would have made")
end)

t.test("context.destroy.blocked: however its coroutines wait, a context can be destroyed", function()
  for _, source in ipairs {
    "timer.sleep(3600)", "context.recv(0)", "context.query(context.parent, 1)", "coroutine.wrap(function() timer.sleep(9e9) end)()",
    "tcp.accept(select(2, tcp.listen('127.0.0.1', 0)))", "context.wait(context.parent)", "timer.loop(1, 1, print)",
    [[
      local _, l = tcp.listen("127.0.0.1", 0)
      local _, s = tcp.connect("127.0.0.1", tcp.local_port(l))
      tcp.read(s, print)
      tcp.write(s, ("x"):rep(50000000), true)
    ]],
  } do
    local h = t.spawn(source)
    t.settle(0.005)
    t.eq(context.destroy(h, "ended"), true)
    t.returns({ true, 0, "ended" }, context.wait(h, 20))
  end
  while context.recv(0, 0) do end -- the query of the third, whose asker is gone
end)

t.test("context.destroy.early: also one that has not begun to run", function()
  for _ = 1, 50 do
    local h = t.spawn "context.send(context.parent, 'ran')"
    context.destroy(h, "early")
    t.good(context.wait(h, 20))
  end
  while context.recv(0, 0) do end
end)

---- Released ----------------------------------------------------------------------------------------------------------------

local OWNER = [[
  local _, listener = tcp.listen("127.0.0.1", 0)
  assert(context.register "owner")
  context.send(context.parent, tcp.local_port(listener))
  local _, s = tcp.accept(listener)
  context.send(context.parent, "accepted")
  tcp.read(s, function() end)
  context.recv(0, function(_, how)
    if how == "end" then
      context.recv(0, nil)
      tcp.read(s, nil)
    elseif how == "destroy" then
      context.destroy()
    end
  end)
]]

t.test("life.released.sockets: sockets, listeners and names of a context go with it, however it ends", function()
  for _, way in ipairs { "end", "destroy", "other" } do
    local h = t.spawn(OWNER)
    local port = report(h)
    local s = t.good(tcp.connect("127.0.0.1", port))
    t.eq(report(h), "accepted")
    if way == "other" then context.destroy(h) else context.send(h, way) end
    t.good(context.wait(h, 20))
    local ok, err = tcp.read(s, 20)
    t.eq(ok, false, way)
    t.ok(err == errno.EEOF or err == errno.ECONNRESET, way .. " ends with " .. tostring(context.errname(err)))
    t.fails("ECONNREFUSED", tcp.connect("127.0.0.1", port))
    t.fails("ENOCONTEXT", context.lookup "owner")
    tcp.close(s)
  end
end)

t.test("life.released.written: bytes written before a context ends by itself are still sent", function()
  local listener, port = t.listen()
  local size = t.scale(4000000)
  local h = t.spawn([[
    local port, size = ...
    local _, s = tcp.connect("127.0.0.1", port)
    tcp.write(s, ("a"):rep(size))
    tcp.write(s, "end")
  ]], port, size)
  local s = t.good(tcp.accept(listener, 20))
  t.settle(0.05)
  local all = t.read_all(s)
  t.eq(#all, size + 3)
  t.eq(all:sub(-4), "aend")
  t.returns({ true, 0, "exit" }, context.wait(h, 20))
  tcp.close(s)
end)

---- Queries on the dead -----------------------------------------------------------------------------------------------------

t.test("life.noreply: a query whose receiver ends without a reply ends with ENOREPLY, however it ends", function()
  for name, source in pairs {
    returns = "context.recv(0)",
    destroys = "context.recv(0, function() context.destroy() end)",
    unread = "timer.sleep(0.02)",
    late = "context.recv(0) timer.sleep(0.01)",
    callback = "context.recv(0, function() context.recv(0, nil) end)",
  } do
    t.fails("ENOREPLY", context.query(t.spawn(source), 1, 20))
    t.fails("ENOREPLY", context.timed_query(t.spawn(source), 20, 1, 2))
    local calls, record = t.recorder()
    local h = t.spawn(source)
    context.query(h, "data", record)
    t.returns({ false, errno.ENOREPLY, h, "data" }, unpack(calls:wait(), 1, 4))
  end
end)

t.test("life.noreply.destroyed: so does one pending on a context that another destroys", function()
  local h = t.spawn "context.recv(0) timer.sleep(3600)"
  local taken = t.async(context.query, h, "taken")
  t.settle()
  local waiting = t.async(context.query, h, "in the mailbox")
  t.settle()
  context.destroy(h)
  t.fails("ENOREPLY", unpack(taken.wait()))
  t.fails("ENOREPLY", unpack(waiting.wait()))
end)

t.test("life.noreply.passed-on: the session may be answered by the context it was sent to only; its end counts", function()
  -- The receiver tells a friend of the session and ends; the asker must hear of it all the same.
  local friend = t.spawn "timer.sleep(3600)"
  local h = t.spawn("local f = ... local _, _, _, session = context.recv(0) context.send(f, session)", friend)
  t.fails("ENOREPLY", context.query(h, 1, 20))
end)

t.test("life.noreply.race: queries that race with the receiver's end have exactly one result each", function()
  for round = 1, t.scale(30) do
    local h = t.spawn [[
      local n = 0
      context.recv(0, function(_, v, from, session)
        n = n + 1
        if n % 2 == 0 then context.reply(from, session, v) end
        if n == 10 then context.destroy() end
      end)
    ]]
    local results = 0
    for i = 1, 20 do
      context.query(h, i, function(ok, v)
        results = results + 1
        t.ok(ok and v == i or not ok and (v == errno.ENOREPLY or v == errno.ENOCONTEXT), t.show { ok, v })
      end)
      if i == 5 + round % 10 then timer.sleep(0) end
    end
    t.await(function() return results >= 20 end, "20 results")
    t.settle(0)
    t.eq(results, 20)
  end
end)

t.test("life.nocontext: operations on a stale handle are false, ENOCONTEXT", function()
  local h = t.dead_handle()
  t.fails("ENOCONTEXT", context.send(h, 1))
  t.fails("ENOCONTEXT", context.query(h, 1))
  t.fails("ENOCONTEXT", context.timed_query(h, nil, 1))
  t.fails("ENOCONTEXT", context.reply(h, 1, 1))
  t.fails("ENOCONTEXT", context.recv(h))
  t.fails("ENOCONTEXT", context.recv(h, 5))
  t.fails("ENOCONTEXT", context.stats(h))
end)

---- Many --------------------------------------------------------------------------------------------------------------------

t.test("life.ten-thousand: ten thousand contexts are created, answer a query each, and end", function()
  local n = t.scale(10000)
  local source, all = "context.recv(0, function(ok, v, from, session) context.reply(from, session, v + 1) context.recv(0, nil) end)", {}
  for i = 1, n do all[i] = t.spawn(source) end
  for i = 1, n do t.returns({ true, i + 1 }, context.query(all[i], i)) end
  for i = 1, n do t.returns({ true, 0 }, (function(a, b) return a, b end)(context.wait(all[i], 20))) end
end)

t.test("life.churn: contexts created and destroyed by several others at once", function()
  local source = [[
    local n, child = ...
    for i = 1, n do
      local h = assert(context.create(child))
      if i % 2 == 0 then context.destroy(h) else assert(context.query(h, i)) end
      assert(context.wait(h))
    end
    context.send(context.parent, n)
  ]]
  local child = t.file "local _, v, from, session = context.recv(0) context.reply(from, session, v)"
  local all = {}
  for i = 1, 4 do all[i] = t.spawn(source, t.scale(200), child) end
  for i = 1, 4 do t.eq(report(all[i]), t.scale(200)) end
end)

t.done()

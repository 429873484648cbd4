-- context.create, the fields of context, context.run, log, thread, stats.
local t = require "t"
local errno = context.errno

-- What a child sends its parent.
local function report(h) return select(2, t.good(true, context.recv(h, 20))) end

t.test("context.fields.first: self, parent, name, ncpu and winos of the first context", function()
  t.eq(type(context.self), "number")
  t.ok(context.self >= 1 and context.self == math.floor(context.self) and context.self < 2 ^ 53)
  t.eq(context.parent, 0)
  t.ok(context.name:find("context_create.lua", 1, true), context.name)
  t.ok(context.ncpu >= 1 and context.ncpu == math.floor(context.ncpu))
  t.eq(context.winos, jit.os == "Windows")
end)

t.test("context.fields.child: a child's handle, its parent's, and a name of file and arguments", function()
  local path = t.file([[
    context.send(context.parent, { self = context.self, parent = context.parent, name = context.name, ncpu = context.ncpu })
  ]], "fields.lua")
  local h = context.create(path, "alpha", 42)
  local got = report(h)
  t.eq(got.self, h)
  t.eq(got.parent, context.self)
  t.ok(got.name:find("fields%.lua.*alpha.*42"), got.name)
  t.eq(got.ncpu, context.ncpu)
end)

t.test("context.create.arguments: the main chunk gets its arguments as ..., with type and number", function()
  local shared = buffer.new "bytes"
  local h = t.spawn([[
    local n, b, list, s, none, buf, int = select("#", ...), ...
    context.send(context.parent, { n, b, list[2], s, none == nil, buf:tostring(), tostring(int), select(7, ...) == nil })
  ]], true, { 1, 2 }, "a\0b", nil, shared, 5LL, nil)
  t.same(report(h), { 7, true, 2, "a\0b", true, "bytes", "5LL", true })
end)

t.test("context.create.returns: at once, before the new context need have run", function()
  local h = t.spawn "while true do timer.sleep(1) end"
  t.eq(type(h), "number")
  t.ok(h ~= context.self)
end)

t.test("context.create.cwd: a file is looked for as given, from the working directory", function()
  t.file("context.send(context.parent, 'cwd')", "in_cwd.lua") -- t.tmp is the working directory of the test
  t.eq(report(context.create "in_cwd.lua"), "cwd")
end)

t.test("context.create.beside: then beside the creator's own file", function()
  t.mkdir(t.tmp .. "/deep")
  t.file("context.send(context.parent, 'deep/' .. (...))", "deep/leaf.lua")
  t.file("context.create('leaf.lua', 'x') context.create('both.lua') for i = 1, 2 do " ..
    "context.send(context.parent, (select(2, context.recv(0)))) end", "deep/branch.lua")
  t.file("context.send(context.parent, 'deep')", "deep/both.lua")
  t.file("context.send(context.parent, 'cwd')", "both.lua")
  local h = context.create(context.winos and "deep\\branch.lua" or "deep/branch.lua")
  local got = { [report(h)] = true, [report(h)] = true }
  t.same(got, { ["deep/x"] = true, cwd = true })
end)

t.test("context.create.missing: a missing file is false, ENOENT here and now", function()
  t.fails("ENOENT", context.create("no_such_file.lua"))
  t.fails("ENOENT", context.create(t.tmp .. "/no/such/dir/file.lua", 1, 2))
end)

t.test("context.create.unreadable: what is no Lua text is false, err", function()
  local ok, err = context.create(t.tmp)
  t.eq(ok, false)
  t.eq(type(err), "number")
  t.fails("ESYNTAX", context.create(t.file("\27LJ\127 is no bytecode", "no_code.lua")))
end)

t.test("context.create.bytecode: a file of bytecode is a file like any other, with all libraries", function()
  local body = "local name, to = ... to = to or context.parent\n"
    .. "context.send(to, (table.concat { 'a', math.floor(1.5), os.time() > 0 and #string.rep('x', 3) }))\n"
    .. "return require('ffi').sizeof('int')"
  for _, strip in ipairs { false, true } do
    local code = string.dump(assert(loadstring(body)), strip)
    t.eq(t.good(context.recv(t.spawn(code), 20)), "a13")
    local name = "compiled_" .. tostring(strip)
    package.path = t.tmp .. "/?.lua;" .. package.path
    local path = t.file(code, name .. ".lua")
    t.eq(assert(loadfile(path))("", context.self), 4)
    t.eq(t.good(context.recv(context.self, 20)), "a13")
  end
  local code = string.dump(assert(loadstring "return 'by require', ..."))
  t.file(code, "compiled_module.lua")
  t.eq(require "compiled_module", "by require")
  t.returns({ "by require", n = 1 }, dofile(t.tmp .. "/compiled_module.lua"))
end)

t.test("context.create.refused-argument: an argument no message can carry raises and names the path", function()
  local path = t.file "return"
  t.raises("%[3%]%.f is a function", context.create, path, 1, { f = print })
  t.raises("%[2%] is a thread", context.create, path, coroutine.create(print))
end)

t.test("context.create.shebang: a #! line is skipped", function()
  t.eq(report(t.spawn "#!/usr/bin/env nl-jit\ncontext.send(context.parent, 'past the line')"), "past the line")
end)

t.test("context.create.separate: contexts share no globals and no loaded modules", function()
  x_global = 1
  package.loaded.x_module = {}
  t.eq(report(t.spawn "context.send(context.parent, x_global == nil and package.loaded.x_module == nil)"), true)
  x_global = nil
end)

t.test("context.handle.unique: handles are never reused while the process lives", function()
  local seen, n = { [context.self] = true }, t.scale(1000)
  for _ = 1, n do
    local h = t.spawn "return"
    t.eq(seen[h], nil)
    seen[h] = true
    t.good(context.wait(h))
  end
end)

---- run -------------------------------------------------------------------------------------------------------------------

t.test("context.run.order: runs its functions after what is running now, in the order of the calls", function()
  local order = {}
  for i = 1, 5 do
    t.returns({ true }, context.run(function(...) order[#order + 1] = table.concat({ i, ... }, "-") end, "a", i))
  end
  t.eq(#order, 0)
  t.await(function() return #order == 5 end)
  t.same(order, { "1-a-1", "2-a-2", "3-a-3", "4-a-4", "5-a-5" })
end)

t.test("context.run.arguments: passes any value as it is, nils too", function()
  local calls, record = t.recorder()
  local object = setmetatable({}, {})
  context.run(record, object, nil, print, nil)
  t.returns({ object, nil, print, nil, n = 4 }, unpack(calls:wait(), 1, 4))
  t.eq(calls[1].n, 4)
  context.run(record)
  t.eq(calls:wait(2).n, 0)
end)

t.test("context.run.coroutine: each in a coroutine of its own, which may block", function()
  local order = {}
  context.run(function()
    order[#order + 1] = "first starts"
    timer.sleep(0.01)
    order[#order + 1] = "first ends"
  end)
  context.run(function() order[#order + 1] = "second" end)
  t.await(function() return #order == 3 end)
  t.same(order, { "first starts", "second", "first ends" })
end)

t.test("context.run.nested: what is run from inside comes after what waits already", function()
  local order = {}
  context.run(function()
    order[#order + 1] = 1
    context.run(function() order[#order + 1] = 3 end)
  end)
  context.run(function() order[#order + 1] = 2 end)
  t.await(function() return #order == 3 end)
  t.same(order, { 1, 2, 3 })
end)

---- thread ----------------------------------------------------------------------------------------------------------------

t.test("context.thread: the index of the worker is a small integer", function()
  local seen = {}
  for _ = 1, 20 do
    local h = t.spawn "context.send(context.parent, context.thread())"
    seen[#seen + 1] = report(h)
  end
  seen[#seen + 1] = context.thread()
  for _, n in ipairs(seen) do t.ok(n >= 0 and n <= t.workers and n == math.floor(n), "thread " .. tostring(n)) end
end)

---- stats -----------------------------------------------------------------------------------------------------------------

local KEYS = { "mailbox", "handled", "lua_bytes", "c_bytes", "cpu", "coroutines", "sockets", "timers" }

t.test("context.stats.keys: every figure is there, for oneself, by handle and by name", function()
  local h = t.spawn "context.register 'stats-of' context.send(context.parent, 1) context.recv(0)"
  report(h)
  for _, stats in ipairs { context.stats(), context.stats(context.self), context.stats(h), context.stats "stats-of" } do
    for _, key in ipairs(KEYS) do
      t.ok(type(stats[key]) == "number" and stats[key] >= 0, key .. " is " .. tostring(stats[key]))
    end
  end
end)

t.test("context.stats.gone: of a context that is not there", function()
  t.fails("ENOCONTEXT", context.stats(t.dead_handle()))
  t.fails("ENOCONTEXT", context.stats "nobody")
end)

t.test("context.stats.mailbox: counts the messages that wait, and those handled", function()
  -- Awaited, because for a moment the runtime's own news (of a socket, of a context that has ended) may wait there as well.
  local function holds(n) t.await(function() return context.stats().mailbox == n end, n .. " messages in the mailbox") end
  holds(0)
  local before = context.stats().handled
  for i = 1, 5 do context.send(context.self, i) end
  holds(5)
  for _ = 1, 5 do context.recv(0) end
  holds(0)
  t.ok(context.stats().handled >= before + 5, context.stats().handled .. " handled, " .. before .. " before")
end)

t.test("context.stats.mailbox-other: also those of a context that receives nothing", function()
  local h = t.spawn "timer.sleep(3600)"
  for i = 1, 7 do context.send(h, i) end
  t.await(function() return context.stats(h).mailbox == 7 end, "7 messages in the mailbox")
end)

t.test("context.stats.memory: Lua memory and C memory", function()
  collectgarbage()
  local before = context.stats()
  local big = ("x"):rep(4000000)
  local bytes = buffer.new(big)
  local after = context.stats()
  t.ok(after.lua_bytes >= before.lua_bytes + #big, "Lua memory " .. before.lua_bytes .. " to " .. after.lua_bytes)
  t.ok(after.c_bytes >= before.c_bytes + #big, "C memory " .. before.c_bytes .. " to " .. after.c_bytes)
  bytes:release()
  t.ok(context.stats().c_bytes <= after.c_bytes - #big, "C memory after release")
end)

t.test("context.stats.cpu: seconds of processor time, growing with work and not with sleep", function()
  local before = context.stats().cpu
  local clock = os.clock()
  while os.clock() - clock < 0.05 do end
  timer.sleep(0)
  local worked = context.stats().cpu
  t.ok(worked > before, "cpu did not grow: " .. before .. ", " .. worked)
  timer.sleep(0.2)
  t.ok(context.stats().cpu - worked < 0.2, "cpu counts sleep")
end)

t.test("context.stats.counts: coroutines, sockets and timers", function()
  local before = context.stats()
  local a = t.pair()
  t.eq(context.stats().sockets, before.sockets + 2)
  local ids = {}
  for i = 1, 4 do ids[i] = timer.timeout(3600, function() end) end
  t.eq(context.stats().timers, before.timers + 4)
  local parked = t.async(tcp.read, a)
  t.settle()
  t.ok(context.stats().coroutines > before.coroutines, "a parked coroutine is not counted")
  for _, id in ipairs(ids) do timer.close(id) end
  tcp.close(a)
  parked.wait()
  t.settle()
  local after = context.stats()
  t.eq(after.timers, before.timers)
  t.eq(after.sockets, before.sockets + 1)
end)

t.done()

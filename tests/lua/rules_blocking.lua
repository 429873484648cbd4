-- The blocking form suspends the coroutine, never the thread, wherever it is called.
local t = require "t"

-- A context that answers a query with its argument, a little later: a query to it always has to wait.
local SLOW_ECHO = [[
  context.recv(0, function(ok, data, from, session)
    timer.sleep(0.001)
    context.reply(from, session, data)
  end)
]]

-- ask(v) returns v after having been parked.
local function asker()
  local echo = t.spawn(SLOW_ECHO)
  return function(v) return (t.good(context.query(echo, v))) end
end

-- Calls f through n nested coroutines, each inside a pcall of its own.
local function nested(n, f, ...)
  if n == 0 then return f(...) end
  local results = t.pack(coroutine.wrap(function(...) return pcall(nested, n - 1, f, ...) end)(...))
  t.eq(results[1], true, tostring(results[2]))
  return unpack(results, 2, results.n)
end

---- Every blocking call, in the main chunk and far below it ---------------------------------------------------------------

local calls = {
  { "timer.sleep", function() return timer.sleep(0.002) end, { true } },
  { "context.query", function() return context.query(t.spawn(SLOW_ECHO), "q") end, { true, "q" } },
  { "context.timed_query", function() return context.timed_query(t.spawn(SLOW_ECHO), nil, "tq") end, { true, "tq" } },
  { "context.wait", function() return context.wait(t.spawn "timer.sleep(0.002)") end, { true, 0, "exit" } },
  {
    "context.recv", function()
      local h = t.spawn "timer.sleep(0.002) context.send(context.parent, 'r', 's')"
      local ok, data, from, session, more = context.recv(h)
      return ok, data, from == h, session, more
    end, { true, "r", true, -1, "s" },
  },
  { "tcp.listen", function() return (tcp.listen("127.0.0.1", 0)) end, { true } },
  { "tcp.connect", function() return (tcp.connect("127.0.0.1", (select(2, t.listen())))) end, { true } },
  {
    "tcp.accept", function()
      local listener, port = t.listen()
      timer.timeout(0.002, function() tcp.close(t.good(tcp.connect("127.0.0.1", port))) end)
      return (tcp.accept(listener))
    end, { true },
  },
  {
    "tcp.read", function()
      local a, b = t.pair()
      timer.timeout(0.002, function() tcp.write(b, "b") end)
      local ok, data = tcp.read(a)
      return ok, tostring(data)
    end, { true, "b" },
  },
  { "tcp.write", function() return tcp.write(t.pair(), "x", true) end, { true } },
}

for _, call in ipairs(calls) do
  local name, f, want = unpack(call)
  t.test(("rules.block.%s: blocks in the main chunk, in a callback, and ten coroutines deep"):format(name), function()
    t.returns(want, f())
    t.returns(want, nested(10, f))
    local seen, record = t.recorder()
    timer.timeout(0, function() record(f()) end)
    timer.timeout(0, function() record(nested(3, f)) end)
    t.returns(want, unpack(seen:wait(1)))
    t.returns(want, unpack(seen:wait(2)))
  end)
end

t.test("rules.block.not-the-thread: other coroutines of the context run meanwhile", function()
  local order = {}
  for i = 1, 3 do
    context.run(function()
      for round = 1, 3 do
        order[#order + 1] = round
        timer.sleep(0.005)
      end
    end)
  end
  t.await(function() return #order == 9 end)
  t.eq(table.concat(order):sub(1, 3), "111")
end)

---- Places ----------------------------------------------------------------------------------------------------------------

t.test("rules.block.pcall: inside pcall and xpcall, which still catch what comes after", function()
  local ask = asker()
  t.returns({ true, 1, n = 2 }, pcall(ask, 1))
  t.returns({ true, 2, n = 2 }, xpcall(ask, debug.traceback, 2))
  t.returns({ true, true, n = 2 }, pcall(timer.sleep, 0.001))
  local object = {}
  t.returns({ false, object }, pcall(function()
    ask(1)
    error(object)
  end))
  t.returns({ false, "handled" }, xpcall(function()
    pcall(function() ask(1) error("inner") end)
    ask(2)
    error("outer")
  end, function() return "handled" end))
end)

t.test("rules.block.metamethods: inside metamethods", function()
  local ask = asker()
  local mt = {}
  for _, event in ipairs { "add", "sub", "mul", "div", "mod", "pow", "concat" } do
    mt["__" .. event] = function(a, b) return ask(event) end
  end
  mt.__unm = function() return ask("unm") end
  mt.__index = function(_, key) return ask(key) end
  mt.__newindex = function(o, key, value) rawset(o, key, ask(value)) end
  mt.__call = function(_, a, b) return ask(a), ask(b) end
  mt.__eq = function() return ask(true) end
  mt.__lt = function() return ask(true) end
  mt.__le = function() return ask(false) end
  local o, p = setmetatable({}, mt), setmetatable({}, mt)
  t.eq(o + 1, "add")
  t.eq(1 - o, "sub")
  t.eq(o * p, "mul")
  t.eq(o / 2, "div")
  t.eq(o % 2, "mod")
  t.eq(o ^ 2, "pow")
  t.eq(o .. "x", "concat")
  t.eq(-o, "unm")
  t.eq(o.key, "key")
  t.returns({ 1, 2 }, o(1, 2))
  t.eq(o == p, true)
  t.eq(o < p, true)
  t.eq(o <= p, false)
  o.stored = 5
  t.eq(rawget(o, "stored"), 5)
end)

t.test("rules.block.iterators: inside for-in iterators", function()
  local ask = asker()
  local seen = {}
  for v in function(_, last) return last < 3 and ask(last + 1) or nil end, nil, 0 do seen[#seen + 1] = v end
  for v in coroutine.wrap(function() for i = 4, 6 do coroutine.yield(ask(i)) end end) do seen[#seen + 1] = v end
  t.same(seen, { 1, 2, 3, 4, 5, 6 })
end)

t.test("rules.block.chunks: in functions made by load, loadstring, loadfile, and in dofile", function()
  local ask = asker()
  local source = "local ask, v = ... return ask(v)"
  t.eq(loadstring(source)(ask, 1), 1)
  t.eq(load(function() local s = source source = nil return s end)(ask, 2), 2)
  t.eq(loadfile(t.file "local ask, v = ... return ask(v)")(ask, 3), 3)
  t.returns({ true, 4, 5 }, dofile(t.file "return timer.sleep(0.001), 4, 5"))
  t.returns({ true, true, 6 }, pcall(dofile, t.file "return timer.sleep(0.001), 6"))
end)

t.test("rules.block.as-body: a blocking function is itself the body of a coroutine", function()
  t.returns({ true, true }, coroutine.resume(coroutine.create(timer.sleep), 0.001))
  t.returns({ true }, coroutine.wrap(timer.sleep)(0.001))
  local h = t.spawn "context.recv(0)"
  t.returns({ true, false, context.errno.ETIMEOUT }, coroutine.resume(coroutine.create(context.wait), h, 0.001))
end)

t.test("rules.block.tail-call: as a tail call and with the results passed on in number", function()
  local s = t.pair()
  local function tail() return tcp.read(s, 0.001) end
  t.fails("ETIMEOUT", tail())
  t.fails("ETIMEOUT", coroutine.wrap(tail)())
  t.eq(select("#", nested(4, function() timer.sleep(0.001) end)), 0)
  t.eq(select("#", nested(4, function() timer.sleep(0.001) return nil, nil end)), 2)
end)

t.test("rules.block.depth: a hundred coroutines deep, beside many others", function()
  local ask = asker()
  local left = 0
  for i = 1, 20 do
    left = left + 1
    context.run(function()
      t.eq(nested(100, ask, i), i)
      left = left - 1
    end)
  end
  t.await(function() return left == 0 end, "the end of 20 deep calls")
end)

---- The meaning of coroutine.* --------------------------------------------------------------------------------------------

t.test("rules.coroutine.values: yields and blocking calls mix; each value goes where it should", function()
  local ask = asker()
  local co = coroutine.create(function(a, b)
    t.returns({ "a", "b" }, a, b)
    t.eq(ask(1), 1)
    t.returns({ "second", nil, n = 2 }, coroutine.yield("first", nil))
    t.eq(ask(2), 2)
    t.eq(coroutine.yield(), nil)
    t.eq(ask(3), 3)
    return "end", ask(4)
  end)
  t.returns({ true, "first", nil, n = 3 }, coroutine.resume(co, "a", "b"))
  t.returns({ true, n = 1 }, coroutine.resume(co, "second", nil))
  t.returns({ true, "end", 4 }, coroutine.resume(co))
  t.returns({ false, "cannot resume dead coroutine" }, coroutine.resume(co))
end)

t.test("rules.coroutine.arity: zero results stay zero, trailing nils are kept", function()
  local function count(...) return select("#", ...) end
  for _, parks in ipairs { false, true } do
    local function body(...)
      if parks then timer.sleep(0) end
      return ...
    end
    local function resume(...) return coroutine.resume(coroutine.create(body), ...) end
    t.eq(count(resume()), 1)
    t.eq(count(resume(nil)), 2)
    t.eq(count(resume(1, nil, nil)), 4)
    t.eq(count(coroutine.wrap(body)()), 0)
    t.eq(count(coroutine.wrap(body)(nil)), 1)
    local w = coroutine.wrap(function(...)
      t.eq(count(...), 0)
      body()
      t.eq(count(coroutine.yield()), 0)
      body()
      t.eq(count(coroutine.yield(nil)), 1)
      body()
      return nil, nil
    end)
    t.eq(count(w()), 0)
    t.eq(count(w()), 1)
    t.eq(count(w(nil)), 2)
    local many = {}
    for i = 1, 200 do many[i] = i end
    t.eq(count(resume(unpack(many))), 201)
  end
end)

t.test("rules.coroutine.status: suspended, running, normal, dead, across a blocking call", function()
  local co
  co = coroutine.create(function()
    t.eq(coroutine.status(co), "running")
    coroutine.wrap(function() t.eq(coroutine.status(co), "normal") end)()
    timer.sleep(0.001)
    t.eq(coroutine.status(co), "running")
    coroutine.yield()
  end)
  t.eq(coroutine.status(co), "suspended")
  coroutine.resume(co)
  t.eq(coroutine.status(co), "suspended")
  coroutine.resume(co)
  t.eq(coroutine.status(co), "dead")
end)

t.test("rules.coroutine.parked: a parked coroutine is normal and refuses a resume from elsewhere", function()
  local release, outer, inner = false, nil, nil
  inner = coroutine.create(function(...)
    t.await(function() return release end)
    return "inner", ...
  end)
  outer = coroutine.create(function() return coroutine.resume(inner, "arg") end)
  local call = t.async(coroutine.resume, outer)
  t.settle()
  for _, co in ipairs { inner, outer } do
    t.eq(coroutine.status(co), "normal")
    local ok, e = coroutine.resume(co, "intruder")
    t.eq(ok, false)
    t.ok(tostring(e):find("cannot resume", 1, true), tostring(e))
  end
  release = true
  t.returns({ true, true, "inner", "arg" }, unpack(call.wait()))
  t.eq(coroutine.status(inner), "dead")
end)

t.test("rules.coroutine.parked-wrap: so does one made by wrap", function()
  local release = false
  local w = coroutine.wrap(function()
    t.await(function() return release end)
    return "result"
  end)
  local call = t.async(w)
  t.settle()
  t.raises("cannot resume", w)
  release = true
  t.returns({ "result" }, unpack(call.wait()))
end)

t.test("rules.coroutine.running: running and isyieldable tell the script's own coroutine, before and after", function()
  local co
  co = coroutine.create(function()
    t.eq(coroutine.running(), co)
    t.eq(coroutine.isyieldable(), true)
    timer.sleep(0.001)
    t.eq(coroutine.running(), co)
    t.eq(coroutine.isyieldable(), true)
    table.sort({ 2, 1 }, function(a, b)
      t.eq(coroutine.isyieldable(), false)
      return a < b
    end)
    return "done"
  end)
  t.returns({ true, "done" }, coroutine.resume(co))
  local calls, record = t.recorder()
  timer.timeout(0, function()
    local me = coroutine.running()
    timer.sleep(0.001)
    record(type(me), me == coroutine.running())
  end)
  t.returns({ "thread", true }, unpack(calls:wait()))
end)

t.test("rules.coroutine.errors: an error after a blocking call is the same error", function()
  local object = setmetatable({}, { __tostring = function() return "object" end })
  local function thrower(e)
    timer.sleep(0.001)
    error(e, 0)
  end
  t.returns({ false, object }, coroutine.resume(coroutine.create(thrower), object))
  t.returns({ false, "text" }, coroutine.resume(coroutine.create(thrower), "text"))
  t.returns({ false, nil, n = 2 }, coroutine.resume(coroutine.create(thrower), nil))
  t.returns({ false, object }, pcall(coroutine.wrap(thrower), object))
  local co = coroutine.create(thrower)
  coroutine.resume(co, "x")
  t.eq(coroutine.status(co), "dead")
end)

t.test("rules.coroutine.messages: error texts do not name the wrapper", function()
  local here = "rules_blocking.lua:"
  local w = coroutine.wrap(function() error("boom") end)
  local _, e = pcall(function() w() end)
  t.ok(e:find("^%S*" .. here .. "%d+: ") and e:find("boom$"), e)
  for text in e:gmatch("(%S+:%d+):") do t.ok(text:find(here, 1, true), "names " .. text) end
  _, e = pcall(function() w() end)
  t.ok(e:find("cannot resume dead coroutine$") and e:find("^%S*" .. here .. "%d+: "), e)
  t.raises("bad argument #1", coroutine.resume, 1)
  t.raises("bad argument #1", coroutine.wrap, 1)
  t.raises("bad argument #1", coroutine.create)
  t.raises("bad argument #1", coroutine.status, {})
end)

t.test("rules.coroutine.traceback: a traceback shows the script's functions and nothing of the runtime", function()
  local function clean(text, ...)
    for line in text:gmatch("[^\n]+") do
      t.ok(line:find("^stack traceback:") or line:find "%[C%]" or line:find "%[builtin#" or line:find "rules_blocking.lua:%d+" or
        line:find("lib/t.lua:%d+") or line:find("%.%.%.$"), "a foreign line in the traceback: " .. line .. "\n" .. text)
    end
    for _, name in ipairs { ... } do t.ok(text:find(name, 1, true), name .. " is missing in\n" .. text) end
  end
  local release = false
  local function waits_here() while not release do timer.sleep(0.005) end end
  local co = coroutine.create(function() waits_here() return 1 end)
  local call = t.async(coroutine.resume, co)
  t.settle()
  clean(debug.traceback(co), "waits_here", "stack traceback:")
  release = true
  call.wait()
  local function fails_here()
    timer.sleep(0.001)
    error("thrown", 0)
  end
  local _, text = nested(2, function() return xpcall(function() fails_here() end, debug.traceback) end)
  clean(text:gsub("^thrown\n", ""), "fails_here")
  clean(coroutine.wrap(function() return (debug.traceback()) end)())
end)

t.test("rules.coroutine.yield-through: plain yields cross pcall, metamethods and iterators as before", function()
  local o = setmetatable({}, { __index = function(_, k) return coroutine.yield(k) end })
  local w = coroutine.wrap(function()
    local ok, v = pcall(coroutine.yield, 1)
    t.eq(ok, true)
    return v, o.key
  end)
  t.eq(w(), 1)
  t.eq(w("v"), "key")
  t.returns({ "v", "value" }, w("value"))
end)

t.test("rules.coroutine.generators: generators that block, driven from several coroutines in turn", function()
  local ask = asker()
  local function numbers() return coroutine.wrap(function() for i = 1, 20 do coroutine.yield(ask(i)) end end) end
  local sums, left = 0, 5
  for _ = 1, 5 do
    context.run(function()
      for v in numbers() do sums = sums + v end
      left = left - 1
    end)
  end
  t.await(function() return left == 0 end)
  t.eq(sums, 5 * 210)
end)

t.test("rules.coroutine.hot: in loops that are hot enough to be compiled", function()
  local n, sum = t.scale(20000), 0
  local w = coroutine.wrap(function()
    for i = 1, n do
      if i % 100 == 0 then timer.sleep(0) end
      coroutine.yield(i)
    end
    return "end"
  end)
  for i = 1, n do sum = sum + w() end
  t.eq(sum, n * (n + 1) / 2)
  t.eq(w(), "end")
  local co = coroutine.create(function(a)
    while true do a = coroutine.yield(a + 1) end
  end)
  for i = 1, n do
    local _, v = coroutine.resume(co, i)
    if v ~= i + 1 then t.eq(v, i + 1) end
    if i % 1000 == 0 then timer.sleep(0) end
  end
end)

t.test("rules.block.plain-yield: a yield at the top of a chunk or a callback parks it for good and keeps nothing alive", function()
  t.returns({ true, 0, "exit" }, context.wait(t.spawn "coroutine.yield('nobody')", 20))
  t.returns({ true, 0, "exit" }, context.wait(t.spawn "timer.timeout(0, function() coroutine.yield() end)", 20))
  local went_on = false
  context.run(function()
    coroutine.yield()
    went_on = true
  end)
  t.settle()
  t.eq(went_on, false)
end)

t.done()

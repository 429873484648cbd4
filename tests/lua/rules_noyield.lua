-- Where the VM cannot yield, a blocking call raises an error that says so, and changes nothing.
local t = require "t"

-- Runs f once inside a table.sort comparator; returns what pcall(f) gave there.  The comparator itself is not disturbed.
local function in_comparator(f)
  local results
  table.sort({ 1, 2 }, function(a, b)
    results = results or t.pack(pcall(f))
    return a < b
  end)
  return unpack(results, 1, results.n)
end

local function in_gsub(f)
  local results
  string.gsub("x", "x", function() results = t.pack(pcall(f)) end)
  return unpack(results, 1, results.n)
end

local function in_reader(f)
  local results
  load(function()
    if results then return nil end
    results = t.pack(pcall(f))
    return "return 1"
  end)
  return unpack(results, 1, results.n)
end

-- A coroutine resumed inside a comparator cannot block either.
local function in_resumed(f)
  return in_comparator(function()
    local results = t.pack(coroutine.resume(coroutine.create(f)))
    if not results[1] then error(results[2], 0) end
    return unpack(results, 2, results.n)
  end)
end

local places = { sort = in_comparator, gsub = in_gsub, ["load-reader"] = in_reader, ["resumed-in-sort"] = in_resumed }

-- The error says what is the matter.
local function refused(place, f)
  local ok, e = place(f)
  t.eq(ok, false, "a blocking call went through; it returned " .. t.show(e))
  t.ok(type(e) == "string" and (e:find "yield" or e:find "block" or e:find "suspend"), "unclear message: " .. tostring(e))
end

for name, place in pairs(places) do
  t.test(("rules.noyield.%s: every blocking call raises there"):format(name), function()
    local s = t.pair()
    local listener, port = t.listen()
    local h = t.spawn "context.recv(0)"
    refused(place, function() timer.sleep(0) end)
    refused(place, function() timer.sleep(0.001) end)
    refused(place, function() context.recv(0) end)
    refused(place, function() context.recv(h, 0.001) end)
    refused(place, function() context.query(h, 1) end)
    refused(place, function() context.timed_query(h, 1, 1) end)
    refused(place, function() context.wait(h) end)
    refused(place, function() tcp.connect("127.0.0.1", port) end)
    refused(place, function() tcp.connect("localhost", port, 1) end)
    refused(place, function() tcp.accept(listener) end)
    refused(place, function() tcp.read(s) end)
    refused(place, function() tcp.read(s, 0.001) end)
    refused(place, function() tcp.write(s, "x", true) end)
  end)
end

t.test("rules.noyield.finalizer: nor in a coroutine that a finalizer resumes, on whatever stack it happens to run", function()
  local finalized, refusals, through = 0, 0, {}
  local function blocks()
    local ok, e = pcall(timer.sleep, 0)
    if ok then through[#through + 1] = "went through" elseif tostring(e):find "block" then refusals = refusals + 1 end
  end
  local function litter()
    for _ = 1, 50 do
      local u = newproxy(true)
      getmetatable(u).__gc = function()
        finalized = finalized + 1
        coroutine.wrap(blocks)()
      end
    end
  end
  for i = 1, 200 do
    litter()
    context.run(function() return { i } end) -- makes coroutines of the runtime, and a collection anywhere
    timer.timeout(0, function() return tostring(i) .. "x" end)
    if i % 20 == 0 then timer.sleep(0) end
  end
  collectgarbage()
  t.ok(finalized > 1000, finalized .. " finalizers have run")
  t.eq(#through, 0, "a coroutine of a finalizer has blocked")
  t.eq(refusals, finalized)
end)

t.test("rules.noyield.uncaught: without a pcall the error leaves the sort", function()
  t.raises("", table.sort, { 3, 1, 2 }, function(a, b)
    timer.sleep(0)
    return a < b
  end)
  t.raises("", string.gsub, "abc", ".", function() timer.sleep(0) end)
  t.eq(timer.sleep(0), true)
end)

t.test("rules.noyield.coroutine-survives: the coroutine that was refused goes on and blocks elsewhere", function()
  local co = coroutine.create(function()
    refused(in_comparator, function() timer.sleep(0) end)
    local slept = timer.sleep(0.001)
    return slept, coroutine.yield("yielded")
  end)
  t.returns({ true, "yielded" }, coroutine.resume(co))
  t.returns({ true, true, "again" }, coroutine.resume(co, "again"))
end)

---- Nothing has changed ---------------------------------------------------------------------------------------------------

t.test("rules.noyield.recv: a refused recv leaves its message in the mailbox", function()
  t.good(context.send(context.self, "kept"))
  t.settle()
  refused(in_comparator, function() context.recv(0) end)
  refused(in_comparator, function() context.recv(context.self, 5) end)
  t.eq(t.good(context.recv(0, 5)), "kept")
  t.fails("ETIMEOUT", context.recv(0, 0))
end)

t.test("rules.noyield.read: a refused read leaves its bytes, even those already there", function()
  local a, b = t.pair()
  tcp.write(b, "kept")
  t.settle()
  refused(in_comparator, function() tcp.read(a) end)
  t.eq(t.read_all(a, 4), "kept")
  tcp.close(b)
  t.settle()
  refused(in_comparator, function() tcp.read(a) end)
  t.fails("EEOF", tcp.read(a))
  refused(in_comparator, function() tcp.read(a) end)
end)

t.test("rules.noyield.accept: a refused accept leaves the connection in the backlog", function()
  local listener, port = t.listen()
  local a = t.good(tcp.connect("127.0.0.1", port))
  t.settle()
  refused(in_comparator, function() tcp.accept(listener) end)
  local b = t.good(tcp.accept(listener, 5))
  t.eq(tcp.remote_port(b), tcp.local_port(a))
  tcp.close(a)
  tcp.close(b)
end)

t.test("rules.noyield.connect: a refused connect opens no connection", function()
  local listener, port = t.listen()
  local accepted, record = t.recorder()
  tcp.accept(listener, record)
  refused(in_comparator, function() tcp.connect("127.0.0.1", port) end)
  t.settle()
  t.eq(#accepted, 0)
end)

t.test("rules.noyield.write: a refused safety write sends nothing", function()
  local a, b = t.pair()
  refused(in_comparator, function() tcp.write(a, "never", true) end)
  t.eq(tcp.write(a, "sent"), true)
  t.eq(t.read_all(b, 4), "sent")
end)

t.test("rules.noyield.query: a refused query sends nothing", function()
  local h = t.spawn [[
    local n = 0
    context.recv(0, function(ok, what, from, session)
      n = n + 1
      context.reply(from, session, n)
    end)
  ]]
  refused(in_comparator, function() context.query(h, "never") end)
  refused(in_comparator, function() context.timed_query(h, 1, "never") end)
  t.eq(t.good(context.query(h, "count")), 1)
end)

t.test("rules.noyield.not-blocking: what does not block works there", function()
  local calls, record = t.recorder()
  local s, other = t.pair()
  t.returns({ true, true }, in_comparator(function() return context.send(context.self, "sent") end))
  t.returns({ true, true }, in_comparator(function() return context.run(record, "run") end))
  t.returns({ true, true }, in_comparator(function() return tcp.write(s, "w") end))
  t.returns({ true, true }, in_comparator(function() return tcp.read(other, record) end))
  in_comparator(function() timer.timeout(0.001, "timer", record) end)
  t.eq(t.good(context.recv(0, 5)), "sent")
  calls:wait(3)
  tcp.read(other, nil)
end)

t.test("rules.noyield.yield: a plain yield raises there as before", function()
  t.raises("yield", coroutine.wrap(function()
    table.sort({ 2, 1 }, function() coroutine.yield() end)
  end))
end)

t.done()

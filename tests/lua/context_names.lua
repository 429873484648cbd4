-- context.register and lookup: process-wide unique names that stand wherever a handle may.
local t = require "t"

local SERVER = [[
  local name = ...
  assert(context.register(name))
  context.send(context.parent, "ready")
  context.recv(0, function(ok, data, from, session)
    if data == "stop" then context.destroy() end
    if session >= 0 then context.reply(from, session, data) end
  end)
]]

local function server(name)
  local h = t.spawn(SERVER, name)
  t.eq(t.good(context.recv(h, 20)), "ready")
  return h
end

t.test("context.register.lookup: register gives true, lookup the handle", function()
  t.returns({ true }, context.register "the-first")
  t.returns({ context.self }, context.lookup "the-first")
  local h = server "names-server"
  t.returns({ h }, context.lookup "names-server")
end)

t.test("context.register.taken: a name that is taken is false, err and stays its bearer's", function()
  local h = server "taken"
  local ok, err = context.register "taken"
  t.eq(ok, false)
  t.eq(type(context.errname(err)), "string")
  t.eq(context.lookup "taken", h)
end)

t.test("context.lookup.unknown: a name nobody bears is false, ENOCONTEXT", function()
  t.fails("ENOCONTEXT", context.lookup "no-such-name")
end)

t.test("context.register.bytes: names are any bytes, told apart exactly", function()
  t.eq(context.register "a\0b", true)
  t.fails("ENOCONTEXT", context.lookup "a\0c")
  t.fails("ENOCONTEXT", context.lookup "a")
  t.eq(context.lookup "a\0b", context.self)
end)

t.test("context.register.several: a context may bear several names", function()
  t.eq(context.register "one-name", true)
  t.eq(context.register "another-name", true)
  t.eq(context.lookup "one-name", context.lookup "another-name")
end)

t.test("context.register.freed: the name is free again when its context has ended", function()
  for round, way in ipairs { "stop", "destroy" } do
    local h = server "freed"
    if way == "stop" then context.send(h, "stop") else context.destroy(h) end
    t.good(context.wait(h, 20))
    t.fails("ENOCONTEXT", context.lookup "freed")
  end
  server "freed"
end)

t.test("context.name.everywhere: a name stands wherever a handle may", function()
  local h = server "everywhere"
  t.returns({ true, "q" }, context.query("everywhere", "q"))
  t.returns({ true, "tq" }, context.timed_query("everywhere", 20, "tq"))
  t.eq(context.send("everywhere", "ignored"), true)
  t.eq(type(context.stats("everywhere")), "table")
  t.fails("ETIMEOUT", context.recv("everywhere", 0))
  t.fails("ETIMEOUT", context.wait("everywhere", 0))
  local calls, record = t.recorder()
  context.query("everywhere", "cb", record)
  t.returns({ true, "cb", "everywhere", "cb" }, unpack(calls:wait(), 1, 4))
  t.eq(context.destroy("everywhere", "by name"), true)
  t.returns({ true, 0, "by name" }, context.wait(h, 20))
end)

t.test("context.name.reply: a reply, too, may go to a name", function()
  context.register "asker"
  local h = t.spawn [[
    local ok, data, from, session = context.recv("asker")
    assert(context.reply("asker", session, data .. from))
  ]]
  t.returns({ true, "q" .. context.self }, context.query(h, "q", 20))
end)

t.test("context.name.nobody: operations on a name nobody bears are false, ENOCONTEXT", function()
  t.fails("ENOCONTEXT", context.send("nobody", 1))
  t.fails("ENOCONTEXT", context.query("nobody", 1))
  t.fails("ENOCONTEXT", context.timed_query("nobody", 1, 1))
  t.fails("ENOCONTEXT", context.reply("nobody", 1, 1))
  t.fails("ENOCONTEXT", context.recv("nobody"))
  t.fails("ENOCONTEXT", context.wait("nobody"))
  t.fails("ENOCONTEXT", context.destroy("nobody"))
end)

t.test("context.register.race: of many who want one name at once, exactly one gets it", function()
  local source = [[
    context.recv(context.parent)
    context.send(context.parent, (context.register "wanted"))
    context.recv(context.parent)
  ]]
  for _ = 1, 5 do
    local all, winners = {}, 0
    for i = 1, 16 do all[i] = t.spawn(source) end
    for i = 1, 16 do context.send(all[i], "go") end
    for i = 1, 16 do
      if t.good(context.recv(all[i], 20)) then winners = winners + 1 end
    end
    t.eq(winners, 1)
    for i = 1, 16 do
      context.send(all[i], "end")
      t.good(context.wait(all[i], 20))
    end
    t.fails("ENOCONTEXT", context.lookup "wanted")
  end
end)

t.done()

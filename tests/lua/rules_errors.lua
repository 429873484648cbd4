-- Modules, results and errors: what every operation has in common.
local t = require "t"
local errno = context.errno

t.test("rules.modules.global: the modules are globals and answer require", function()
  for _, name in ipairs { "context", "tcp", "timer", "buffer" } do
    t.eq(type(_G[name]), "table", name)
    t.ok(rawequal(require(name), _G[name]), "require '" .. name .. "' gives another table")
  end
end)

t.test("rules.modules.every-context: and so in every context", function()
  local h = t.spawn [[
    for _, name in ipairs { "context", "tcp", "timer", "buffer" } do assert(require(name) == _G[name]) end
    context.send(context.parent, "all there")
  ]]
  t.eq((select(2, t.good(true, context.recv(h, 20)))), "all there")
end)

---- Error numbers -------------------------------------------------------------------------------------------------------

local runtime_codes = {
  "ETIMEOUT", "ENOCONTEXT", "ENOREPLY", "ETRANSTYPE", "EEOF", "ETCPSCLOSED", "ETCPLCLOSED", "ETCPNOWSHARED", "ETCPWRITELONG",
  "ETCPREADOVERFLOW", "EWQUEUEFULL", "EMAILBOXFULL", "ESYNTAX", "EHOST",
}

t.test("rules.err.runtime-codes: the codes of the runtime are distinct integers from 200 up", function()
  local seen = {}
  for _, name in ipairs(runtime_codes) do
    local code = errno[name]
    t.eq(type(code), "number", name)
    t.ok(code >= 200 and code == math.floor(code), name .. " is " .. tostring(code))
    t.eq(seen[code], nil, name .. " shares its number with")
    seen[code] = name
  end
end)

t.test("rules.err.system-codes: system errors have their Linux numbers on every platform", function()
  local linux = {
    EPERM = 1, ENOENT = 2, EACCES = 13, EEXIST = 17, EINVAL = 22, EMFILE = 24, EPIPE = 32, EADDRINUSE = 98,
    EADDRNOTAVAIL = 99, ENETUNREACH = 101, ECONNRESET = 104, ETIMEDOUT = 110, ECONNREFUSED = 111, EHOSTUNREACH = 113,
  }
  for name, number in pairs(linux) do t.eq(errno[name], number, name) end
end)

t.test("rules.err.names: errname and errno are inverse, strerror has a text for every code", function()
  for name, code in pairs(errno) do
    t.eq(errno[context.errname(code)], code, name)
    local text = context.strerror(code)
    t.ok(type(text) == "string" and #text > 0, "no text for " .. name)
  end
  t.eq(context.errname(errno.ETIMEOUT), "ETIMEOUT")
  t.eq(context.errname(2), "ENOENT")
  t.ok(context.strerror(errno.ETIMEOUT) ~= context.strerror(errno.EEOF))
end)

t.test("rules.err.unknown: an unknown code still has a text", function()
  t.eq(type(context.strerror(199999)), "string")
end)

---- Raising -------------------------------------------------------------------------------------------------------------

-- The call raises a Lua error that names the argument, as the standard library does.  (The function's name LuaJIT takes from
-- the calling code; called by pcall it has none.)
local function refuses(position, f, ...) t.raises("bad argument #" .. position .. " to '", f, ...) end

t.test("rules.raise.context: a wrong type raises and names the argument: context", function()
  refuses(1, context.create)
  refuses(1, context.create, {})
  refuses(1, context.destroy, {})
  refuses(1, context.send)
  refuses(1, context.send, {}, 1)
  refuses(1, context.query, true, 1)
  refuses(3, context.query, context.self, 1, {})
  refuses(1, context.timed_query, {}, 1, 1)
  refuses(2, context.timed_query, context.self, {}, 1)
  refuses(1, context.reply, {}, 1, 1)
  refuses(2, context.reply, context.self, {}, 1)
  refuses(1, context.recv, {})
  refuses(2, context.recv, 0, {})
  refuses(1, context.wait, {})
  refuses(1, context.register, {})
  refuses(1, context.lookup, {})
  refuses(1, context.run, 1)
  refuses(1, context.run)
  refuses(1, context.strerror, {})
  refuses(1, context.errname, {})
end)

t.test("rules.raise.tcp: a wrong type or an impossible argument raises: tcp", function()
  local s = t.pair()
  refuses(1, tcp.listen, {}, 0)
  refuses(2, tcp.listen, "127.0.0.1", {})
  refuses(2, tcp.listen, "127.0.0.1", 65536)
  refuses(2, tcp.listen, "127.0.0.1", -1)
  refuses(3, tcp.listen, "127.0.0.1", 0, true)
  refuses(1, tcp.listen6, {}, 0)
  refuses(1, tcp.listens, {})
  refuses(1, tcp.connect)
  refuses(2, tcp.connect, "127.0.0.1", "no number")
  refuses(2, tcp.connect, "127.0.0.1", 70000)
  refuses(3, tcp.connect, "127.0.0.1", 1, {})
  refuses(1, tcp.connect6, {}, 1)
  refuses(1, tcp.connects, {})
  refuses(1, tcp.accept, 1)
  refuses(1, tcp.read, {})
  refuses(2, tcp.read, s, {})
  refuses(1, tcp.write, {}, "x")
  refuses(2, tcp.write, s)
  refuses(2, tcp.write, s, {})
  refuses(1, tcp.set_rwopt, 1, {})
  refuses(2, tcp.set_rwopt, s, 1)
  refuses(1, tcp.set_nodelay, {}, true)
  refuses(1, tcp.close, {})
  refuses(1, tcp.is_closed, 5)
  refuses(1, tcp.fd, "x")
end)

t.test("rules.raise.tcp-options: options that cannot be raise and change nothing", function()
  local s = t.pair()
  local before = tcp.get_rwopt(s)
  t.raises("read_head_bytes", tcp.set_rwopt, s, { write_head_bytes = 4, read_head_bytes = 3 })
  t.raises("write_head_endian", tcp.set_rwopt, s, { read_head_bytes = 2, write_head_endian = "X" })
  t.raises("read_head_max", tcp.set_rwopt, s, { read_head_max = "many" })
  t.raises("write_queue_max", tcp.set_rwopt, s, { write_queue_max = {} })
  t.same(tcp.get_rwopt(s), before)
end)

t.test("rules.raise.timer: a wrong type raises: timer", function()
  refuses(1, timer.sleep)
  refuses(1, timer.sleep, {})
  refuses(1, timer.timeout, {}, print)
  t.raises("function", timer.timeout, 1)
  t.raises("function", timer.timeout, 1, "no function")
  refuses(1, timer.loop, "x", 1, print)
  refuses(2, timer.loop, 1, "x", print)
  t.raises("function", timer.loop, 1, 1)
  refuses(1, timer.close, {})
end)

t.test("rules.raise.buffer: a wrong type or an impossible argument raises: buffer", function()
  local b = buffer.new("abc")
  refuses(1, buffer.new, true)
  refuses(1, buffer.new, -1)
  refuses(2, buffer.new, 10, {})
  refuses(1, buffer.append, "abc", "d")
  refuses(2, buffer.append, b)
  refuses(2, buffer.append, b, {})
  refuses(2, buffer.split, b, {})
  refuses(2, buffer.split, b, -1)
  refuses(1, buffer.length, {})
  refuses(2, buffer.find, b)
  refuses(1, buffer.tostring, 12)
  t.eq(b:tostring(), "abc")
end)

t.test("rules.raise.nan: a NaN for a time raises, wherever a time stands", function()
  local nan = 0 / 0
  local s = t.pair()
  local listener = t.listen()
  local h = t.spawn "context.recv(0)"
  local nothing = function() end
  for name, f in pairs {
    sleep = function() timer.sleep(nan) end,
    timeout = function() timer.timeout(nan, nothing) end,
    loop = function() timer.loop(nan, 1, nothing) end,
    repeat_time = function() timer.loop(1, nan, nothing) end,
    recv = function() context.recv(0, nan) end,
    query = function() context.query(h, 1, nan) end,
    timed_query = function() context.timed_query(h, nan, 1) end,
    wait = function() context.wait(h, nan) end,
    read = function() tcp.read(s, nan) end,
    accept = function() tcp.accept(listener, nan) end,
    connect = function() tcp.connect("127.0.0.1", tcp.local_port(listener), nan) end,
  } do
    t.ok(not pcall(f), name .. " takes a NaN")
  end
end)

t.test("rules.raise.position: the message begins with the script's own file and line", function()
  local line = debug.getinfo(1, "l").currentline
  local e = t.raises("bad argument", function() local x = timer.sleep({}) return x end)
  t.ok(e:find("rules_errors.lua:" .. line + 1 .. ": ", 1, true), e)
  t.ok(e:find("bad argument #1 to 'sleep'", 1, true), e)
  e = t.raises("bad argument", function() local s = t.pair() local x = s:read({}) return x end)
  t.ok(e:find("rules_errors.lua:", 1, true) and e:find("to 'read'", 1, true), e)
end)

t.test("rules.raise.not-runtime: what can arise at run time is false, err and does not raise", function()
  local dead = t.dead_handle()
  t.fails("ENOCONTEXT", context.send(dead, 1))
  t.fails("ENOENT", context.create("no/such/file.lua"))
  t.fails("ECONNREFUSED", tcp.connect("127.0.0.1", t.closed_port()))
  t.fails("ENOENT", tcp.connects(t.local_name "missing"))
  local s = t.pair()
  tcp.close(s)
  t.fails("ETCPSCLOSED", tcp.write(s, "x"))
end)

t.done()

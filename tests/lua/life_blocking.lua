-- workers: 1,2,8
-- A callback that sleeps in the system does not hold up its neighbours.
local t = require "t"

-- A context that sleeps in a C call the runtime knows nothing of, until the file `sign` is there.
local sleeper = [[
  local sign = ...
  local ffi = require "ffi"
  ffi.cdef "int usleep(unsigned); int access(const char *, int);"
  context.send(context.parent, "begun")
  repeat ffi.C.usleep(20000) until ffi.C.access(sign, 0) == 0
]]

local echo = [[
  local _, l = tcp.listen("127.0.0.1", 0)
  tcp.accept(l, function(ok, s)
    if ok then tcp.read(s, function(ok, b) if ok then tcp.write(s, b) end end) end
  end)
  context.send(context.parent, tcp.local_port(l))
]]

t.test("life.blocking.sleepers: more C calls that sleep than workers, and the neighbours' sockets and timers go on", function()
  t.needs_ffi("usleep", "access")
  local sign = t.tmp .. "/wake"
  os.remove(sign)
  local server = t.spawn(echo)
  local port = t.good(context.recv(server, 20))
  local socket = t.good(tcp.connect("127.0.0.1", port, 20))
  t.defer(tcp.close, socket)
  local sleepers = {}
  for i = 1, t.workers + 3 do
    sleepers[i] = t.spawn(sleeper, sign)
  end
  t.defer(function()
    assert(io.open(sign, "w")):close()
    for _, h in ipairs(sleepers) do t.good(context.wait(h)) end
  end)
  for _, h in ipairs(sleepers) do t.returns({ true, "begun", h, -1 }, context.recv(h)) end
  for i = 1, 20 do
    timer.sleep(0.005)
    local sent, got = "round " .. i, ""
    t.good(tcp.write(socket, sent))
    while #got < #sent do got = got .. tostring(t.good(tcp.read(socket))) end
    t.eq(got, sent)
  end
end)

t.test("life.blocking.execute: while os.execute sleeps, other contexts of its worker go on", function()
  local sign = t.tmp .. "/sign"
  -- Its timers stand in this worker's heap when the shell below begins to wait for what they bring about.
  local h = context.create(t.file([[
    local sign = ...
    context.send(context.parent, "armed")
    for i = 1, 5 do timer.sleep(0.02) end
    assert(io.open(sign, "w")):close()
  ]], "neighbour.lua"), sign)
  t.returns({ true, "armed", h, -1 }, context.recv(h, 20))
  os.execute(t.waits_for(sign))
  os.remove(sign)
end)

t.test("life.blocking.error: an error of such a call is an ordinary one", function()
  t.raises("bad argument", os.execute, {})
end)

t.done()

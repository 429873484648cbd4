-- workers: 2,8
-- A callback that sleeps in the system does not hold up its neighbours.
local t = require "t"

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
  os.execute("while [ ! -e '" .. sign .. "' ]; do sleep 0.02; done")
  os.remove(sign)
end)

t.test("life.blocking.error: an error of such a call is an ordinary one", function()
  t.raises("bad argument", os.execute, {})
end)

t.done()

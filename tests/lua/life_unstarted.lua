-- workers: 1
-- A context that is ended before its first turn.  One worker: the child cannot have begun yet.
local t = require "t"

t.test("context.destroy.unstarted: a context destroyed before its first turn runs no Lua", function()
  local h = context.create(t.file([[ context.send(context.parent, "I ran") ]], "unstarted.lua"))
  t.good(context.destroy(h, "not wanted"))
  t.returns({ true, 0, "not wanted" }, context.wait(h, 20))
  t.fails("ENOCONTEXT", context.recv(h, 20)) -- and has sent nothing
end)

t.done()

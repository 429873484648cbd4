-- expect-stderr: traceback
-- Script code that runs where nobody expects any: in __tostring of an error, in finalizers; messages too large for a stack.
local t = require "t"

-- Runs source in a context of its own with many references held; it answers "alive" after what it does.
local function survives(source)
  local h = t.spawn("for i = 1, 30 do timer.timeout(3600, i, i, print) end\n" .. source .. [[

    timer.sleep(0.05)
    context.send(context.parent, "alive")
    context.destroy()
  ]])
  t.returns({ true, "alive", h, -1 }, context.recv(h, 20))
end

t.test("rules.errors.tostring-calls: an error's __tostring may use the API", function()
  survives [[
    context.run(function()
      error(setmetatable({}, { __tostring = function()
        for i = 1, 5 do timer.timeout(3600, "a", print) end
        return "expected"
      end }))
    end)]]
end)

t.test("rules.errors.tostring-blocks: a coroutine in it that would block is refused", function()
  survives [[
    context.run(function()
      error(setmetatable({}, { __tostring = function()
        return tostring(pcall(coroutine.wrap(function() timer.sleep(0.01) end)))
      end }))
    end)]]
end)

t.test("rules.errors.many-values: more values than a stack takes are refused at the sender", function()
  local h = t.spawn "context.recv(0, function(_, _, from, session) context.reply(from, session, 'alive') end)"
  local function build(n, ...) if n == 0 then return pcall(context.send, h, ...) end return build(n - 1, n, ...) end
  local ok, err = build(7950)
  t.eq(ok, false)
  t.ok(tostring(err):find "too many values", err)
  t.returns({ true, "alive" }, context.query(h, 1, 20))
end)

t.done()

-- Asked for a point in time, calls an echo of its own until then and answers with the number of calls.
local BATCH = 20 -- calls between two looks at the clock
local peer = assert(context.create("echo.lua"))

context.recv(0, function(ok, stop, from, session)
  local calls = 0
  while timer.now() < stop do
    for i = 1, BATCH do
      local answered, value = context.query(peer, i)
      assert(answered and value == i, "wrong answer")
    end
    calls = calls + BATCH
  end
  context.reply(from, session, calls)
end)

-- Asked for N seconds, calls an echo of its own for that long and answers with the number of calls.
local BATCH = 200 -- calls between two looks at the clock
local peer = assert(context.create("echo.lua"))

context.recv(0, function(ok, seconds, from, session)
  local calls, stop = 0, timer.now() + seconds
  while timer.now() < stop do
    for i = 1, BATCH do
      local answered, value = context.query(peer, i)
      assert(answered and value == i, "wrong answer")
    end
    calls = calls + BATCH
  end
  context.reply(from, session, calls)
end)

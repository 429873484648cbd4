-- Asked to count to n, answers when n messages have come.
local want, count = math.huge, 0
local asker, ask

context.recv(0, function(ok, value, from, session)
  if session >= 0 then
    want, asker, ask = value, from, session
  else
    count = count + 1
  end
  if count == want then
    count, want = 0, math.huge
    context.reply(asker, ask, true)
  end
end)

-- Answers every query with what it was asked.
context.recv(0, function(ok, value, from, session)
  if ok then context.reply(from, session, value) end
end)

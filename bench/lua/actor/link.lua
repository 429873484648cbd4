-- A link of a ring. First it is told the next one; then it passes numbers on, one less each time, and tells its parent of 0.
local next_link

context.recv(0, function(ok, value, from, session)
  if session >= 0 then
    next_link = value
    context.reply(from, session, true)
  elseif value > 0 then
    context.send(next_link, value - 1)
  else
    context.send(context.parent, "done")
  end
end)

-- Told n and a handle, sends the numbers from 1 to n there.
context.recv(0, function(ok, n, _, _, _, to)
  for i = 1, n do context.send(to, i) end
end)

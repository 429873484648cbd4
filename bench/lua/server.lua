-- server.lua PORT echo|bcast HEAD [CONTEXTS]: the echo and broadcast server on nl-jit.
--
-- HEAD (0, 1, 2, 4) bytes of length stand in front of each message, most significant first. With CONTEXTS, that many contexts
-- listen on the port side by side, each with connections of its own (a broadcast then reaches only those).
local port, mode, head, contexts, one_of_many = ...
port, head, contexts = tonumber(port), tonumber(head), tonumber(contexts or 1)

for _ = 2, contexts do
  assert(context.create("server.lua", port, mode, head, 1, true))
end

local framing = {
  read_head_bytes = head, read_head_endian = "B",
  write_head_bytes = head, write_head_endian = "B",
}
local sockets, place = {}, {} -- all of them, and where each stands

local function leave(s)
  local at, last = place[s], sockets[#sockets]
  sockets[at], place[last] = last, at
  sockets[#sockets], place[s] = nil, nil
  s:close()
end

local function echo(ok, data, s)
  if not ok then return leave(s) end
  s:write(data)
end

local function broadcast(ok, data, s)
  if not ok then return leave(s) end
  for i = 1, #sockets do sockets[i]:write(data) end -- one buffer, shared by all
end

local ok, listener = tcp.listen("127.0.0.1", port, { backlog = 4096, reuseport = one_of_many or contexts > 1 })
assert(ok, ok or context.strerror(listener))
tcp.accept(listener, function(accepted, s)
  if not accepted then return end
  if head > 0 then s:set_rwopt(framing) end
  s:set_nodelay(true)
  sockets[#sockets + 1] = s
  place[s] = #sockets
  s:read(mode == "bcast" and broadcast or echo)
end)

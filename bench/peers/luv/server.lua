-- luajit server.lua PORT echo|bcast HEAD: the echo and broadcast server on luv (libuv for Lua).
local uv = require("luv")
local bit = require("bit")
local band, rshift = bit.band, bit.rshift
local byte, char, concat, sub = string.byte, string.char, table.concat, string.sub
local port, mode, head = tonumber(arg[1]), arg[2], tonumber(arg[3])

local function size_at(data, at)
  local a, b, c, d = byte(data, at, at + head - 1)
  if head == 1 then return a end
  if head == 2 then return a * 256 + b end
  return ((a * 256 + b) * 256 + c) * 256 + d
end

local function head_of(n)
  if head == 1 then return char(n) end
  if head == 2 then return char(rshift(n, 8), band(n, 255)) end
  return char(rshift(n, 24), band(rshift(n, 16), 255), band(rshift(n, 8), 255), band(n, 255))
end

-- What the kernel takes at once needs no request of its own.
local function send(socket, data)
  local n = socket:try_write(data) or 0
  if n < #data then socket:write(n == 0 and data or sub(data, n + 1)) end
end

-- A write to a connection that has just been closed is an error to be returned, not the end of the process.
uv.new_signal():start("sigpipe", function() end)

local sockets = {}
local server = uv.new_tcp()
assert(server:bind("127.0.0.1", port))
assert(server:listen(4096, function()
  local socket = uv.new_tcp()
  server:accept(socket)
  socket:nodelay(true)
  sockets[socket] = true
  local rest = ""
  socket:read_start(function(_, data)
    if not data then
      sockets[socket] = nil
      if not socket:is_closing() then socket:close() end
      return
    end
    if head == 0 then return send(socket, data) end
    if #rest > 0 then data = rest .. data end
    local at, n, replies, k = 1, #data, {}, 0
    while n - at + 1 >= head do
      local size = size_at(data, at)
      local last = at + head + size - 1
      if last > n then break end
      local message = sub(data, at + head, last)
      at = last + 1
      if mode == "bcast" then
        local frame = head_of(size) .. message
        for s in pairs(sockets) do send(s, frame) end
      else
        replies[k + 1], replies[k + 2] = head_of(size), message
        k = k + 2
      end
    end
    rest = sub(data, at)
    if k > 0 then send(socket, concat(replies)) end
  end)
end))
uv.run()

-- tarantool server.lua PORT echo|bcast HEAD: the echo and broadcast server on Tarantool, a fiber for each connection.
local socket = require("socket")
local errno = require("errno")
local bit = require("bit")
local band, rshift = bit.band, bit.rshift
local byte, char, concat, sub = string.byte, string.char, table.concat, string.sub
local port, mode, head = tonumber(arg[1]), arg[2], tonumber(arg[3])
local FOREVER = 365 * 86400

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

-- socket:read and :write wait for readiness first, a turn of the event loop more; these try at once.
local function send(s, data)
  while true do
    local n = s:syswrite(data)
    if n == #data then return true end
    if n then
      data = sub(data, n + 1)
    elseif errno() ~= errno.EAGAIN or not s:writable(FOREVER) then
      return false
    end
  end
end

local function receive(s)
  while true do
    local data = s:sysread(65536)
    if data then return data ~= "" and data or nil end
    if errno() ~= errno.EAGAIN or not s:readable(FOREVER) then return nil end
  end
end

local sockets = {}

local function serve(s)
  local rest = ""
  while true do
    local data = receive(s)
    if not data then return end
    if head == 0 then
      if not send(s, data) then return end
    else
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
          for other in pairs(sockets) do send(other, frame) end
        else
          replies[k + 1], replies[k + 2] = head_of(size), message
          k = k + 2
        end
      end
      rest = sub(data, at)
      if k > 0 and not send(s, concat(replies)) then return end
    end
  end
end

assert(socket.tcp_server("127.0.0.1", port, {
  name = "bench",
  backlog = 4096,
  handler = function(s)
    s:nonblock(true)
    s:setsockopt("tcp", "TCP_NODELAY", 1)
    sockets[s] = true
    serve(s)
    sockets[s] = nil
  end,
}))

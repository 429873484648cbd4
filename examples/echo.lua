-- echo.lua: a server for framed messages, in callback form.
--
--   nl-jit examples/echo.lua [PORT [HEAD]]
--
-- Each message comes back unchanged. Its length stands in front of it, in HEAD bytes (0, 1, 2 or 4; default 2), the high byte
-- first. The runtime cuts the frames: the script sees whole messages. PORT 0 means any free port (default 9000). To try it:
--
--   nl-jit examples/echo.lua &
--   printf '\0\5hello' | nc -q 1 localhost 9000 | od -c

local port, head = ...
port, head = tonumber(port or 9000), tonumber(head or 2)

local function fail(...)
    io.stderr:write("echo: ", table.concat({...}), "\n")
    os.exit(1)
end

if not port or port % 1 ~= 0 or port < 0 or port > 65535 or not ({ [0] = true, true, true, [4] = true })[head] then
    fail("usage: nl-jit echo.lua [PORT [0|1|2|4]]")
end

local framing = {
    read_head_bytes = head, read_head_endian = "B",
    write_head_bytes = head, write_head_endian = "B",
}

-- Errors that end a connection and are not the fault of this side.
local errno = context.errno
local ordinary = { [errno.EEOF] = true, [errno.ECONNRESET] = true, [errno.EPIPE] = true }

-- The runtime calls it with each message, and once with the error when the stream ends.
local function on_message(ok, message, socket)
    local err = message
    if ok then
        -- The same buffer goes back, without a copy. Replies to messages that came together leave in one system call.
        ok, err = tcp.write(socket, message)
    end
    if not ok then
        if not ordinary[err] then
            context.log("connection lost:", context.strerror(err))
        end
        tcp.close(socket)
    end
end

local ok, listener = tcp.listen("0.0.0.0", port)
if not ok then
    fail("cannot listen on port ", port, ": ", context.strerror(listener))
end

tcp.accept(listener, function(accepted, socket)
    if not accepted then -- for instance, no file descriptor is left; the runtime tries again later
        context.log("cannot accept:", context.strerror(socket))
        return
    end
    tcp.set_rwopt(socket, framing)
    tcp.read(socket, on_message)
end)

print("echo: listening on port " .. tcp.local_port(listener))
io.stdout:flush()

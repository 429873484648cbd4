-- chat.lua: a chat for netcat, in blocking form. Each member has a coroutine that reads line by line.
--
--   nl-jit examples/chat.lua [PORT]        (default 9001; 0: any free port)
--
-- and in other terminals:
--
--   nc localhost 9001
--
-- It shows three things:
--   - A read suspends the coroutine, also inside an iterator.
--   - Without framing, the script cuts the input into lines.
--   - A broadcast shares one buffer: the bytes of a line are in memory once, for any number of members.

local LINE_MAX = 1000             -- bytes; a longer line closes the connection
local QUEUE_MAX = 256 * 1024      -- bytes that wait for a member; more close the connection

local port = tonumber((...) or 9001)

local function fail(...)
    io.stderr:write("chat: ", table.concat({...}), "\n")
    os.exit(1)
end

if not port or port % 1 ~= 0 or port < 0 or port > 65535 then
    fail("usage: nl-jit chat.lua [PORT]")
end

local members = {} -- socket → name

local function broadcast(...)
    local line = buffer.new(table.concat({...}) .. "\n")
    for socket in pairs(members) do
        local ok = tcp.write(socket, line)
        if not ok then
            tcp.close(socket) -- the read of its coroutine fails with ETCPSCLOSED
        end
    end
end

-- Iterates over the lines that arrive, without their line breaks.
local function lines(socket)
    local pending = buffer.new()
    return function()
        while true do
            local at = pending:find("\n")
            if at then
                return (pending:split(at):tostring():gsub("\r?\n$", ""))
            end
            if #pending > LINE_MAX then
                tcp.write(socket, "* this line is too long\n")
                return nil
            end
            local ok, data = tcp.read(socket)
            if not ok then
                return nil
            end
            pending:append(data)
        end
    end
end

local function names()
    local list = {}
    for _, name in pairs(members) do
        list[#list + 1] = name
    end
    table.sort(list)
    return table.concat(list, ", ")
end

local function serve(socket)
    tcp.set_rwopt(socket, { write_queue_max = QUEUE_MAX })
    tcp.write(socket, "* your name? ")
    local name
    for line in lines(socket) do
        line = line:gsub("%c", "")
        if not name then
            name = line:match("^%s*(.-)%s*$")
            if name == "" then
                name = "guest" .. tcp.remote_port(socket)
            end
            tcp.write(socket, "* welcome; here: " .. names() .. "; /who lists them, /quit leaves\n")
            members[socket] = name
            broadcast("* ", name, " has come")
        elseif line == "/quit" then
            break
        elseif line == "/who" then
            tcp.write(socket, "* here: " .. names() .. "\n")
        elseif line ~= "" then
            broadcast(name, ": ", line)
        end
    end
    members[socket] = nil
    tcp.close(socket)
    if name then
        broadcast("* ", name, " has left")
    end
end

local ok, listener = tcp.listen("0.0.0.0", port)
if not ok then
    fail("cannot listen on port ", port, ": ", context.strerror(listener))
end
print("chat: listening on port " .. tcp.local_port(listener))
io.stdout:flush()

while true do
    local accepted, socket = tcp.accept(listener)
    if accepted then
        context.run(serve, socket)
    else -- for instance, no file descriptor is left
        context.log("cannot accept:", context.strerror(socket))
        timer.sleep(0.1)
    end
end

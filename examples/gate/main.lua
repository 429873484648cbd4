-- gate/main.lua: the shape of a game server: one gate, an agent for each player.
--
--   nl-jit examples/gate/main.lua [PORT [PLAYERS [ROUNDS]]]        (default: any free port, 100 players, 20 rounds)
--
-- The gate (this file) owns all sockets. It accepts connections, reads frames, and hands each frame to the agent of the player.
-- An agent is a context of its own (agent.lua). The agents run in parallel on all processors. They write their replies straight
-- to the socket of the player, which is write-shared, by its number `fd`. The replies do not pass through the gate.
--
-- For a demonstration, the gate also starts client.lua, which plays for all players. The gate ends with it. The exit status is
-- 0 if every reply came and was right.

local port, players, rounds = ...
port, players, rounds = tonumber(port or 0), tonumber(players or 100), tonumber(rounds or 20)

local function fail(...)
    io.stderr:write("gate: ", table.concat({...}), "\n")
    os.exit(1)
end

if not (port and players and rounds) or port % 1 ~= 0 or port < 0 or port > 65535 or players < 1 or rounds < 1 then
    fail("usage: nl-jit gate/main.lua [PORT [PLAYERS [ROUNDS]]]")
end

local framing = {
    read_head_bytes = 2, read_head_endian = "B", read_head_max = 1024,
    write_head_bytes = 2, write_head_endian = "B",
}

local come, gone = 0, 0

local function welcome(socket)
    tcp.set_rwopt(socket, framing)  -- the agent's writes use these options, too
    tcp.set_wshared(socket, true)
    local agent, err = context.create("agent.lua", tcp.fd(socket))
    if not agent then
        context.log("no agent for", tcp.remote_addr(socket), context.strerror(err))
        tcp.close(socket)
        return
    end
    come = come + 1
    tcp.read(socket, function(ok, frame)
        if ok then
            context.send(agent, frame) -- shared, not copied
        else
            gone = gone + 1
            context.destroy(agent, "the player has left")
            tcp.close(socket)
        end
    end)
end

local ok, listener = tcp.listen("127.0.0.1", port)
if not ok then
    fail("cannot listen on port ", port, ": ", context.strerror(listener))
end
tcp.accept(listener, function(accepted, socket)
    if accepted then
        welcome(socket)
    elseif socket ~= context.errno.ETCPLCLOSED then
        context.log("cannot accept:", context.strerror(socket))
    end
end)
port = tcp.local_port(listener)
print(("gate: listening on port %d"):format(port))

local client, err = context.create("client.lua", port, players, rounds)
if not client then
    fail("cannot start the players: ", context.strerror(err))
end

-- The client sends its count at the end. ENOCONTEXT: the client has ended without it.
local counted, replies = context.recv(client)
if not counted then
    fail("the players ended without a result: ", context.strerror(replies))
end

-- Waits until the gate has seen the end of each connection.
local deadline = timer.now() + 5
while gone < come and timer.now() < deadline do
    timer.sleep(0.01)
end
tcp.close(listener)
print(("gate: %d players came, %d left, %d of %d replies counted"):format(come, gone, replies, players * rounds))
if replies ~= players * rounds or come ~= players or gone ~= players then
    os.exit(1)
end

-- gate/main.lua: the shape of a game server: one gate, an agent for each player.
--
--   nl-jit examples/gate/main.lua [PORT [PLAYERS [ROUNDS]]]        (default: any free port, 100 players, 20 rounds)
--
-- The gate (this file) owns all sockets: it accepts, cuts the input into frames and hands each to the player's agent, a context
-- of its own (agent.lua). The agents run side by side on all processors and write their replies straight to the player's
-- socket, which is shared for writing and which they know by its number, `fd`: the gate has no part in it.
--
-- So that there is something to see, the gate also starts client.lua, which plays all the players, and ends with it. Its exit
-- status is 0 if every reply came and was right.

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
    tcp.set_rwopt(socket, framing)  -- the write options hold for the agent's writes, too
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

-- The client sends its count when it is through. It fails with ENOCONTEXT if the client has ended without.
local counted, replies = context.recv(client)
if not counted then
    fail("the players ended without a result: ", context.strerror(replies))
end

-- Each closed connection is still to be heard of here.
local deadline = timer.now() + 5
while gone < come and timer.now() < deadline do
    timer.sleep(0.01)
end
tcp.close(listener)
print(("gate: %d players came, %d left, %d of %d replies counted"):format(come, gone, replies, players * rounds))
if replies ~= players * rounds or come ~= players or gone ~= players then
    os.exit(1)
end

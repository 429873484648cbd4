-- gate/client.lua: plays for many players at once, with a coroutine for each, and sends its creator the number of right
-- replies.
--
-- main.lua starts it. By itself it plays against a gate that is already running:
--
--   nl-jit examples/gate/client.lua PORT [PLAYERS [ROUNDS]]

local port, players, rounds = ...
port, players, rounds = tonumber(port), tonumber(players or 100), tonumber(rounds or 20)
if not (port and players and rounds) then
    io.stderr:write("client: usage: nl-jit client.lua PORT [PLAYERS [ROUNDS]]\n")
    os.exit(2)
end

local framing = {
    read_head_bytes = 2, read_head_endian = "B",
    write_head_bytes = 2, write_head_endian = "B",
}

local right, playing, start = 0, players, timer.now()

-- Plays the rounds of one player. Returns nil, or what went wrong.
local function play(socket, name)
    tcp.set_rwopt(socket, framing)
    for round = 1, rounds do
        local ok, err = tcp.write(socket, ("%s plays %d"):format(name, round))
        local reply = err
        if ok then
            ok, reply = tcp.read(socket, 10)
        end
        if not ok then
            return context.strerror(reply)
        end
        local expected = ("move %d: %s PLAYS %d"):format(round, name:upper(), round)
        if reply:tostring() ~= expected then
            return ("got '%s', not '%s'"):format(reply:tostring(), expected)
        end
        right = right + 1
    end
end

local function finish()
    local seconds = timer.now() - start
    print(("client: %d players, %d of %d replies right, %.3f s"):format(players, right, players * rounds, seconds))
    if context.parent ~= 0 then
        context.send(context.parent, right)
    end
end

for i = 1, players do
    context.run(function()
        local name = "player" .. i
        local ok, socket = tcp.connect("127.0.0.1", port, 10)
        local trouble
        if ok then
            trouble = play(socket, name)
            tcp.close(socket)
        else
            trouble = "cannot connect: " .. context.strerror(socket)
        end
        if trouble then
            context.log(name .. ":", trouble)
        end
        playing = playing - 1
        if playing == 0 then
            finish()
        end
    end)
end

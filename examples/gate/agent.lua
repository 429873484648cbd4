-- gate/agent.lua: plays the game for one player. main.lua creates a context with this file for each player.
--
-- It knows only the number of the player's connection. Any context can write to this connection.

local fd = ...
local moves = 0

-- Each frame of the player comes as a message from the gate, the creator of this context.
context.recv(context.parent, function(ok, frame)
    if not ok then
        return -- the gate has ended; so does this context, as nothing is armed
    end
    moves = moves + 1
    local sent, err = tcp.write(fd, ("move %d: %s"):format(moves, frame:tostring():upper()))
    if not sent and err ~= context.errno.ETCPSCLOSED then
        context.log("cannot reply:", context.strerror(err))
    end
end)

-- gate/agent.lua: one player's side of the game; see main.lua, which creates a context of it for each player.
--
-- It knows the player only by the number of the connection, to which any context may write.

local fd = ...
local moves = 0

-- Each frame of the player is a message of the gate; so only its sender, our creator, is listened to.
context.recv(context.parent, function(ok, frame)
    if not ok then
        return -- the gate has ended, and so do we: nothing is armed any more
    end
    moves = moves + 1
    local sent, err = tcp.write(fd, ("move %d: %s"):format(moves, frame:tostring():upper()))
    if not sent and err ~= context.errno.ETCPSCLOSED then
        context.log("cannot reply:", context.strerror(err))
    end
end)

-- hello.lua: the smallest program with contexts and messages.
--
--   nl-jit examples/hello.lua [NAME]
--
-- A context is a Lua state of its own. Contexts share nothing, and talk by messages. This file runs twice: as the first
-- context, and as a second one, which the first creates. The second one can run on another processor.

local name = ...

if context.parent ~= 0 then -- the second one, the greeter
    -- Waits for one message from any context. The thread does not wait: it runs other contexts.
    local _, whom, sender, session = context.recv(0)
    context.reply(sender, session, "Hello, " .. whom .. "!", context.thread())
    return -- nothing is left to do: the context ends by itself
end

local greeter, err = context.create("hello.lua")
if not greeter then
    error("cannot create the greeter: " .. context.strerror(err), 0)
end

-- Sends a message, and waits for the values of the reply, up to a second.
local ok, greeting, thread = context.timed_query(greeter, 1, name or "world")
if not ok then
    error("no greeting: " .. context.strerror(greeting), 0)
end
print(greeting)
print(("said by context %d on thread %d to context %d on thread %d"):format(
    greeter, thread, context.self, context.thread()))

-- nl-jit bench/lua/live.lua [COUNT]: that many contexts alive at once (200,000), all of which answer; their memory
local count = tonumber((...)) or 200000

local function resident_kb()
  local f = assert(io.open("/proc/self/status"))
  local text = f:read("*a")
  f:close()
  return tonumber(text:match("VmRSS:%s*(%d+)"))
end

local before, start, contexts = resident_kb(), timer.now(), {}
for i = 1, count do
  contexts[i] = assert(context.create("actor/echo.lua"))
end
local created = timer.now()
for i = 1, count do
  local ok, answer = context.query(contexts[i], i)
  assert(ok and answer == i, "context " .. i .. " did not answer")
end
local asked = timer.now()
print(("%d contexts: created in %.2f s, all asked in %.2f s, %.1f KB each, %.2f GiB in all"):format(
  count, created - start, asked - created, (resident_kb() - before) / count, resident_kb() / 1048576))
os.exit(0)
